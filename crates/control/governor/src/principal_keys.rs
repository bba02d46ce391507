//! The signing keys of a principal: another one, and the end of one.

use creto_nhi::{NhiError, PrincipalType};
use creto_types::{Commit, LeafIndex, PrincipalName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answers::Answer;
use crate::idempotency::Begun;
use crate::records::{PrincipalKeyRevoked, PrincipalKeyRotated};
use crate::suspension::reason;
use crate::{Call, Caller, GovernError, Governor, IdempotencyKey};

/// Why a principal gets another key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalKeyRequest {
    /// Why, for whoever reads the log: 1 to 512 characters, without control
    /// characters but line breaks.
    pub reason: String,
}

/// Which key of a principal is revoked, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRevocationRequest {
    /// The thumbprint of the key (RFC 7638).
    pub kid: String,
    /// Why, as for another key.
    pub reason: String,
}

/// The key that a principal signs with from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrincipalKeyAnswer {
    /// Whose.
    pub principal: PrincipalName,
    /// Its version; the delegations that it signs name it.
    pub version: u32,
    /// The JOSE name of its algorithm.
    pub alg: String,
    /// Its thumbprint (RFC 7638).
    pub kid: String,
    /// From when that holds.
    pub at: Timestamp,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// A key of a principal was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRevocationAnswer {
    /// Whose.
    pub principal: PrincipalName,
    /// Which.
    pub version: u32,
    /// Its thumbprint.
    pub kid: String,
    /// From when on nothing that it signed holds.
    pub revoked_at: Timestamp,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl Answer for PrincipalKeyAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

impl Answer for KeyRevocationAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

impl Governor {
    /// Gives a principal another signing key, of the algorithm for new keys. What the
    /// keys before signed stays valid until they are revoked. For owners and operators;
    /// a person's is for owners alone.
    ///
    /// # Errors
    ///
    /// `forbidden`, `invalid_request` for a reason that cannot be used,
    /// `unknown_principal`, `principal_revoked`, `too_many_keys`, `conflict` when another
    /// rotation came first.
    pub async fn rotate_principal_key(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        request: PrincipalKeyRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<PrincipalKeyAnswer, GovernError> {
        self.may_change_keys(caller, name, Call::RotatePrincipalKey)?;
        let reason = reason(&request.reason)?;
        self.admit(caller)?;
        let begun = self
            .begin(caller, key, "principal.rotate_key", &(name, &request))
            .await?;
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        // A reply is repeated once what it says is in effect, and not before.
        nhi.settle_keys(org, name).await?;
        let ticket = match begun {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let mut evidence = self
            .record(org, caller.name(), "principal.key_rotated", None, &())
            .await?;
        let draft = nhi.draft_principal_key(org, name, evidence.at)?;
        let body = PrincipalKeyRotated {
            principal: name.clone(),
            version: draft.version(),
            key: draft.key().clone(),
            reason: reason.to_owned(),
        };
        evidence.body = serde_json::to_value(&body).map_err(GovernError::Encoding)?;
        let answer = PrincipalKeyAnswer {
            principal: name.clone(),
            version: draft.version().get(),
            alg: draft.key().algorithm().to_string(),
            kid: draft.kid().to_owned(),
            at: evidence.at,
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = nhi.commit_principal_key(draft, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Revokes a key of a principal for ever, and with it everything that it signed: the
    /// delegations and what hangs below them, prekeys, statements. Once this returns, no
    /// call that starts later is allowed through any of them. For whoever may give the
    /// principal another key.
    ///
    /// # Errors
    ///
    /// As for another key; `unknown_key`, `key_already_revoked`.
    pub async fn revoke_principal_key(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        request: KeyRevocationRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<KeyRevocationAnswer, GovernError> {
        self.may_change_keys(caller, name, Call::RevokePrincipalKey)?;
        let reason = reason(&request.reason)?;
        self.admit(caller)?;
        let begun = self
            .begin(caller, key, "principal.revoke_key", &(name, &request))
            .await?;
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        nhi.settle_keys(org, name).await?;
        let ticket = match begun {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let version = nhi.principal_key(org, name, &request.kid)?.version;
        let body = PrincipalKeyRevoked {
            principal: name.clone(),
            version,
            kid: request.kid.clone(),
            reason: reason.to_owned(),
        };
        let evidence = self
            .record(org, caller.name(), "principal.key_revoked", None, &body)
            .await?;
        let at = evidence.at;
        let answer = KeyRevocationAnswer {
            principal: name.clone(),
            version: version.get(),
            kid: request.kid,
            revoked_at: at,
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = nhi.revoke_key(org, name, version, at, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )
    }

    fn may_change_keys(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        call: Call,
    ) -> Result<(), GovernError> {
        caller.may(call, self.now())?;
        caller.require_person("change keys of principals")?;
        // Of somebody who is added meanwhile nobody knows yet who may change their keys.
        let target = self.parts.nhi.principal(caller.org(), name);
        let target = target.ok_or_else(|| NhiError::UnknownPrincipal { name: name.clone() })?;
        if target.kind == PrincipalType::Human {
            caller.allowed(Call::ChangeHumanKeys)?;
        }
        Ok(())
    }
}
