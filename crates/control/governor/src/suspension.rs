//! Suspending a principal, and resuming it.

use creto_nhi::{NhiError, PrincipalType};
use creto_types::{Commit, Evidence, PrincipalName, Receipt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::idempotency::{Begun, Ticket};
use crate::{Call, Caller, GovernError, Governor, IdempotencyKey, SuspensionAnswer};

/// The longest reason, in characters.
const MAX_REASON: usize = 512;

/// Why a principal is suspended or resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuspensionRequest {
    /// Why, for whoever reads the log: 1 to 512 characters, without control
    /// characters but line breaks.
    pub reason: String,
}

impl Governor {
    /// Suspends a principal: nothing is done in its name, nor by anyone whose
    /// authority passes through it, until it is resumed. For owners and
    /// operators; a person is suspended by owners alone, and the founder by nobody.
    ///
    /// Durable with its evidence when this returns, and in effect for every call
    /// that starts later. Its delegations and tokens stay what they are.
    ///
    /// # Errors
    ///
    /// `forbidden` to agents, `invalid_request` for a reason that cannot be used,
    /// `unknown_principal`, `principal_already_suspended`, `owner_not_suspended`.
    pub async fn suspend_principal(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        request: SuspensionRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<SuspensionAnswer, GovernError> {
        self.change_standing(caller, name, &request, key, Change::Suspend)
            .await
    }

    /// Ends a suspension: whatever the principal held is in force again, as far as
    /// it was not revoked and has not expired. For whoever
    /// may suspend it.
    ///
    /// # Errors
    ///
    /// As for suspending; `principal_not_suspended` for one that is not.
    pub async fn resume_principal(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        request: SuspensionRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<SuspensionAnswer, GovernError> {
        self.change_standing(caller, name, &request, key, Change::Resume)
            .await
    }

    async fn change_standing(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        request: &SuspensionRequest,
        key: Option<IdempotencyKey>,
        change: Change,
    ) -> Result<SuspensionAnswer, GovernError> {
        caller.may(change.call(), self.now())?;
        caller.require_person(change.what())?;
        // Of somebody who is added meanwhile nobody knows yet who may suspend them.
        let target = self.parts.nhi.principal(caller.org(), name);
        let target = target.ok_or_else(|| NhiError::UnknownPrincipal { name: name.clone() })?;
        if target.kind == PrincipalType::Human {
            caller.allowed(Call::SuspendHuman)?;
        }
        let reason = reason(&request.reason)?;
        let operation = change.operation();
        let ticket = match self.begin(caller, key, operation, &(name, request)).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let evidence = self
            .record(
                caller.org(),
                caller.name(),
                change.kind(),
                None,
                &json!({ "principal": name, "reason": reason }),
            )
            .await?;
        let answer = SuspensionAnswer {
            principal: name.clone(),
            suspended: change == Change::Suspend,
            at: evidence.at,
            leaf: None,
        };
        let committed = self
            .commit_standing(caller, name, change, evidence, &ticket, &answer)
            .await?;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(caller.org(), &receipt))
                .map_err(GovernError::from),
        )
    }

    async fn commit_standing(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        change: Change,
        evidence: Evidence,
        ticket: &Ticket,
        answer: &SuspensionAnswer,
    ) -> Result<Result<Receipt, NhiError>, GovernError> {
        let nhi = &self.parts.nhi;
        let at = evidence.at;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(answer)?);
        Ok(match change {
            Change::Suspend => nhi.suspend(caller.org(), name, at, commit).await,
            Change::Resume => nhi.resume(caller.org(), name, commit).await,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Suspend,
    Resume,
}

impl Change {
    const fn what(self) -> &'static str {
        match self {
            Self::Suspend => "suspend principals",
            Self::Resume => "resume principals",
        }
    }

    const fn call(self) -> Call {
        match self {
            Self::Suspend => Call::SuspendPrincipal,
            Self::Resume => Call::ResumePrincipal,
        }
    }

    const fn operation(self) -> &'static str {
        match self {
            Self::Suspend => "principal.suspend",
            Self::Resume => "principal.resume",
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Suspend => "principal.suspended",
            Self::Resume => "principal.resumed",
        }
    }
}

pub(crate) fn reason(text: &str) -> Result<&str, GovernError> {
    let text = text.trim();
    let printable = text.chars().all(|c| !c.is_control() || c == '\n');
    if text.is_empty() || text.chars().count() > MAX_REASON || !printable {
        return Err(GovernError::invalid(
            "reason",
            format!("1 to {MAX_REASON} characters of text are expected"),
        ));
    }
    Ok(text)
}
