//! The people of an organization: who is added, with which role and which credential.

use std::fmt;
use std::time::Duration;

use creto_crypto::Thumbprint;
use creto_nhi::{PrincipalType, Role};
use creto_types::{Commit, Evidence, LeafIndex, PrincipalName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answers::Answer;
use crate::idempotency::Begun;
use crate::proofs::thumbprint;
use crate::records::{RoleSet, TOKEN_ISSUED, TokenIssued};
use crate::suspension::reason;
use crate::{Call, Caller, GovernError, Governor, IdempotencyKey};

/// A person to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HumanRequest {
    /// Unique in the organization.
    pub name: PrincipalName,
    /// `owner`, `operator`, `auditor` or `approver`.
    pub role: String,
    /// How long the credential is valid; as long as any may be when absent.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// The SHA-256 thumbprint (RFC 7638) of the key that the credential is bound to; whoever
    /// uses it then proves to have that key (RFC 9449), and it begins no session of a
    /// browser. Absent, it is a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<String>,
}

/// Another role for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// `owner`, `operator`, `auditor` or `approver`.
    pub role: String,
    /// Why, for whoever reads the log: 1 to 512 characters, without control
    /// characters but line breaks.
    pub reason: String,
}

/// A new credential for a person, in place of every one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialRequest {
    /// How long it is valid; as long as any may be when absent.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// The thumbprint of the key that it is bound to, as for a person who is added. Absent,
    /// it is a bearer token, whatever the one before was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<String>,
}

/// A person, with the credential that is shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HumanAnswer {
    /// Who.
    pub name: PrincipalName,
    /// `owner`, `operator`, `auditor` or `approver`.
    pub role: String,
    /// The SPIFFE id.
    pub spiffe_id: String,
    /// The token; never stored, and absent from a repeated answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// Until when the token holds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
    /// The thumbprint of the key that the token is bound to; absent for a bearer token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub jkt: Option<String>,
    /// Where it lies in the log that the person was added, or that the credentials
    /// before ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl fmt::Debug for HumanAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HumanAnswer")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Answer for HumanAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

/// A person has another role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoleAnswer {
    /// Who.
    pub principal: PrincipalName,
    /// Which.
    pub role: String,
    /// From when that holds.
    pub at: Timestamp,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl Answer for RoleAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

impl Governor {
    /// Adds a person with a role, and issues a credential that is shown once. For
    /// owners.
    ///
    /// The person is there before the credential: who got none, since the server
    /// stopped in between, is given one by [`Governor::renew_human_credential`].
    ///
    /// # Errors
    ///
    /// `forbidden`, `invalid_request` for the role or the life of the credential,
    /// `principal_exists`.
    pub async fn add_human(
        &self,
        caller: &Caller,
        request: HumanRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<HumanAnswer, GovernError> {
        caller.may(Call::AddHuman, self.now())?;
        caller.require_person("add people")?;
        let role = role(&request.role)?;
        let ttl = self.credential_ttl(request.ttl_seconds)?;
        let bound_to = thumbprint("jkt", request.jkt.as_deref())?;
        let ticket = match self.begin(caller, key, "human.add", &request).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        let draft = nhi.draft_principal(org, request.name.clone(), PrincipalType::Human)?;
        let answer = HumanAnswer {
            name: request.name.clone(),
            role: role.to_string(),
            spiffe_id: draft.principal().spiffe_id.clone(),
            token: None,
            expires_at: None,
            jkt: None,
            leaf: None,
        };
        let created = self
            .record(
                org,
                caller.name(),
                "principal.created",
                None,
                draft.principal(),
            )
            .await?;
        let given = self
            .role_record(caller, &request.name, role, "added")
            .await?;
        let at = given.at;
        let mut commit = Commit::of(created).with_idempotency(ticket.record(&answer)?);
        commit.evidence.push(given);
        let committed = nhi.commit_human(draft, role, at, commit).await;
        let answer = ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )?;
        self.with_credential(caller, answer, ttl, bound_to).await
    }

    /// Gives a person another role. Once this returns, no call that starts later is
    /// taken by the role before. For owners; who founded the organization stays its
    /// owner.
    ///
    /// # Errors
    ///
    /// `forbidden`, `invalid_request` for role or reason, `unknown_principal`,
    /// `principal_not_human`, `owner_keeps_role`.
    pub async fn set_role(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        request: RoleRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<RoleAnswer, GovernError> {
        caller.may(Call::SetRole, self.now())?;
        caller.require_person("change roles")?;
        let role = role(&request.role)?;
        let reason = reason(&request.reason)?;
        let ticket = match self
            .begin(caller, key, "human.role", &(name, &request))
            .await?
        {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let evidence = self.role_record(caller, name, role, reason).await?;
        let at = evidence.at;
        let answer = RoleAnswer {
            principal: name.clone(),
            role: role.to_string(),
            at,
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let nhi = &self.parts.nhi;
        let committed = nhi.set_role(caller.org(), name, role, at, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(caller.org(), &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Supersedes every credential of a person and issues a new one, which is shown
    /// once. For owners; the founder's is renewed by whoever holds the root key.
    ///
    /// The old ones end first: when this fails, the person has none that works, and the
    /// call may be repeated.
    ///
    /// # Errors
    ///
    /// `forbidden`, `unknown_principal`, `principal_not_human`, `principal_suspended`,
    /// `invalid_request` for the life of the credential.
    pub async fn renew_human_credential(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        request: CredentialRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<HumanAnswer, GovernError> {
        caller.may(Call::RenewHumanCredential, self.now())?;
        caller.require_person("renew the credentials of people")?;
        let ttl = self.credential_ttl(request.ttl_seconds)?;
        let bound_to = thumbprint("jkt", request.jkt.as_deref())?;
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        if nhi.owner(org)? == *name {
            return Err(GovernError::forbidden(format!(
                "{name} founded the organization: whoever holds the root key renews that \
                 credential, with `creto init --renew-credential`"
            )));
        }
        let identity = nhi.identity_for_human(org, name)?;
        identity.live(self.now())?;
        let ticket = match self
            .begin(caller, key, "human.credential", &(name, &request))
            .await?
        {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let role = identity.role();
        let answer = HumanAnswer {
            name: name.clone(),
            role: role.map(|role| role.to_string()).unwrap_or_default(),
            spiffe_id: identity.spiffe_id(),
            token: None,
            expires_at: None,
            jkt: None,
            leaf: None,
        };
        let evidence = self
            .record(
                org,
                caller.name(),
                "credentials.superseded",
                None,
                &json!({ "principal": name }),
            )
            .await?;
        let at = evidence.at;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = nhi.supersede_credentials(org, name, at, commit).await;
        let answer = ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )?;
        self.with_credential(caller, answer, ttl, bound_to).await
    }

    /// The answer with a new credential of the person it is about.
    async fn with_credential(
        &self,
        caller: &Caller,
        answer: HumanAnswer,
        ttl: Duration,
        bound_to: Option<Thumbprint>,
    ) -> Result<HumanAnswer, GovernError> {
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        let identity = nhi.identity_for_human(org, &answer.name)?;
        let identity = identity.confirmed_by(bound_to);
        let issued = nhi.issue_token(&identity, Some(ttl))?;
        let evidence = self
            .record(
                org,
                caller.name(),
                TOKEN_ISSUED,
                None,
                &TokenIssued::of(&identity, &issued, None),
            )
            .await?;
        let receipt = self.commit(Commit::of(evidence)).await?;
        self.committed(org, &receipt);
        Ok(HumanAnswer {
            token: Some(issued.token),
            expires_at: Some(issued.expires_at),
            jkt: bound_to.map(|key| key.to_string()),
            ..answer
        })
    }

    /// Checked before anything changes: nobody is added for want of a credential.
    fn credential_ttl(&self, seconds: Option<u64>) -> Result<Duration, GovernError> {
        let longest = self.parts.nhi.max_token_ttl();
        match seconds.map(Duration::from_secs) {
            None => Ok(longest),
            Some(ttl) if !ttl.is_zero() && ttl <= longest => Ok(ttl),
            Some(_) => Err(GovernError::invalid(
                "ttl_seconds",
                format!("must be 1 to {}", longest.as_secs()),
            )),
        }
    }

    async fn role_record(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        role: Role,
        reason: &str,
    ) -> Result<Evidence, GovernError> {
        let body = RoleSet {
            principal: name.clone(),
            role,
            reason: reason.to_owned(),
        };
        self.record(caller.org(), caller.name(), "role.set", None, &body)
            .await
    }
}

fn role(text: &str) -> Result<Role, GovernError> {
    text.parse()
        .map_err(|error: creto_nhi::UnknownRole| GovernError::invalid("role", error.to_string()))
}
