//! Revoking a principal for ever.

use creto_nhi::{NhiError, PrincipalType};
use creto_types::{Commit, LeafIndex, PrincipalName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answers::Answer;
use crate::idempotency::Begun;
use crate::suspension::reason;
use crate::{Call, Caller, GovernError, Governor, IdempotencyKey};

/// Why a principal is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpulsionRequest {
    /// Why, for whoever reads the log: 1 to 512 characters, without control
    /// characters but line breaks.
    pub reason: String,
}

/// A principal was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExpulsionAnswer {
    /// Who.
    pub principal: PrincipalName,
    /// From when on nothing is done in its name.
    pub revoked_at: Timestamp,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl Answer for ExpulsionAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

impl Governor {
    /// Revokes a principal for ever: nothing is done in its name, nor by anyone whose
    /// authority passes through it, and nothing is delegated to it any more. For owners
    /// and operators; a person is revoked by owners alone, and the founder by nobody.
    ///
    /// Durable with its evidence when this returns, and in effect for every call that
    /// starts later.
    ///
    /// # Errors
    ///
    /// `forbidden` to agents, `invalid_request` for a reason that cannot be used,
    /// `unknown_principal`, `principal_already_revoked`, `owner_not_revoked`.
    pub async fn revoke_principal(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        request: ExpulsionRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<ExpulsionAnswer, GovernError> {
        caller.may(Call::RevokePrincipal, self.now())?;
        caller.require_person("revoke principals")?;
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        // Of somebody who is added meanwhile nobody knows yet who may revoke them.
        let target = nhi.principal(org, name);
        let target = target.ok_or_else(|| NhiError::UnknownPrincipal { name: name.clone() })?;
        if target.kind == PrincipalType::Human {
            caller.allowed(Call::RevokeHuman)?;
        }
        let reason = reason(&request.reason)?;
        let ticket = match self
            .begin(caller, key, "principal.revoke", &(name, &request))
            .await?
        {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let body = json!({ "principal": name, "reason": reason });
        let evidence = self
            .record(org, caller.name(), "principal.revoked", None, &body)
            .await?;
        let at = evidence.at;
        let answer = ExpulsionAnswer {
            principal: name.clone(),
            revoked_at: at,
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = nhi.revoke_principal(org, name, at, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )
    }
}
