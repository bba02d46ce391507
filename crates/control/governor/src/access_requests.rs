//! Asking for what a question was denied because a human has to approve it: the
//! AuthZEN Access Request and Approval Profile, in this crate's terms.
//!
//! An access request is the action itself, submitted: it is decided, held, recorded
//! and priced as any other. So is the use of the approval: it is no question any
//! more, because an approval is good for one action, once.

use std::time::Duration;

use creto_authz::ResourceRef;
use creto_oversight::RequestId;
use serde_json::Value;

use crate::answers::refusal;
use crate::questions::Question;
use crate::{
    ActionAnswer, ActionRequest, Call, Caller, GovernError, Governor, GrantText, IdempotencyKey,
    OutcomeKind, OversightAnswer, ReasonAnswer,
};

/// A question, asked again as a request for a human.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessRequest {
    /// What was denied.
    pub question: Question,
    /// What else the human is to see: justifications and the like. The approval
    /// covers exactly this.
    pub shown: Value,
}

/// Names an approval and opens what it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalReference {
    /// The request that was approved.
    pub request: String,
    /// Its single-use grant.
    pub grant: GrantText,
}

impl Governor {
    /// Asks a human for what the question was denied for the want of. Gives the
    /// request that waits: a new one, or the one that already waits for the same.
    ///
    /// [`GovernError::NotRequestable`] when no human would help: nothing is held then,
    /// and nothing reserved. Only the subject itself asks.
    pub async fn request_access(
        &self,
        caller: &Caller,
        request: AccessRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<OversightAnswer, GovernError> {
        let action = own_action(caller, &request.question, request.shown, None)?;
        let decided = heard(self.submit(caller, action, key).await?)?;
        let Some(held) = &decided.oversight else {
            return Err(self.not_held(caller, &decided).await);
        };
        let id: RequestId = held.request_id.parse().map_err(|_| missing())?;
        self.oversight_request(caller, id, None).await
    }

    /// Where a request stands. With `wait` the answer comes once it is decided,
    /// expired, or that time has passed.
    pub async fn access_request(
        &self,
        caller: &Caller,
        id: &str,
        wait: Option<Duration>,
    ) -> Result<OversightAnswer, GovernError> {
        let id: RequestId = id.parse().map_err(|_| missing())?;
        self.oversight_request(caller, id, wait).await
    }

    /// Decides the approved action itself, and uses the approval up when it is
    /// allowed: it is reserved and recorded. What the approval does not cover is
    /// denied, as a second use is. [`GovernError::TooManyRequests`] when the caller asks
    /// too often: nothing is decided then, and nothing used up.
    pub async fn use_approval(
        &self,
        caller: &Caller,
        question: &Question,
        approval: ApprovalReference,
        key: Option<IdempotencyKey>,
    ) -> Result<ActionAnswer, GovernError> {
        caller.may(Call::SubmitAction, self.now())?;
        // The arguments are those that the human saw; whether the rest is what was
        // approved is for the grant to say.
        let shown = match approval.request.parse::<RequestId>() {
            Ok(id) => self.parts.oversight.get(caller.org(), id).await?,
            Err(_) => None,
        };
        let shown = shown
            .filter(|request| request.held.agent == *caller.name())
            .map_or(Value::Null, |request| request.held.args);
        let action = own_action(caller, question, shown, Some(approval.grant))?;
        heard(self.submit(caller, action, key).await?)
    }

    /// Why nothing waits for a human. What is allowed meanwhile was not asked for
    /// here, so it is given back.
    async fn not_held(&self, caller: &Caller, decided: &ActionAnswer) -> GovernError {
        if decided.outcome == OutcomeKind::Allow {
            // Given back before, when this is the answer of an earlier call; and what
            // cannot be given back now is when its time is over.
            let given_back = self.release(caller, decided.action_id, None).await;
            if let Err(error) = given_back {
                tracing::debug!(%error, "the reservation ends by itself");
            }
        }
        let ReasonAnswer { code, message } = &decided.reason;
        GovernError::NotRequestable {
            message: format!("no human is to be asked ({code}): {message}; evaluate again"),
        }
    }
}

/// Nothing was decided for a caller that asks too often: it is told so as for every
/// other question, and not that this was denied.
fn heard(decided: ActionAnswer) -> Result<ActionAnswer, GovernError> {
    match (decided.reason.code.as_str(), decided.retry_after_ms) {
        (refusal::TOO_MANY_QUESTIONS, Some(wait)) => Err(GovernError::TooManyRequests {
            retry_after: Duration::from_millis(wait),
        }),
        _ => Ok(decided),
    }
}

/// The action that a question is about, if it is the caller's own.
fn own_action(
    caller: &Caller,
    question: &Question,
    args: Value,
    grant: Option<GrantText>,
) -> Result<ActionRequest, GovernError> {
    question.validate()?;
    let own = match &question.subject {
        Some(subject) => caller.is(subject)?,
        None => true,
    };
    if !own {
        return Err(GovernError::forbidden(format!(
            "{} may ask a human for itself alone, acting by its own delegation",
            caller.name()
        )));
    }
    Ok(ActionRequest {
        action: question.action.clone(),
        resource: (&ResourceRef::new(question.entity_type(), &question.resource_id)).into(),
        context: question.context.iter().cloned().collect(),
        args,
        units: question.units,
        grant,
    })
}

const fn missing() -> GovernError {
    GovernError::NotFound {
        what: "access request",
    }
}
