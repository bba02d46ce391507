//! Where an access request stands (AuthZEN Access Request and Approval Profile,
//! "Task Status Endpoint").

use creto_governor::OversightAnswer;
use creto_types::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::REQUESTS;
use super::decode::ApprovalState;

/// An access request as its status resource shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AccessRequestTask")]
pub(crate) struct TaskAnswer {
    pub(crate) task: Task,
    /// How to go on, once approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Completion>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Task {
    /// Opaque.
    id: String,
    /// `pending`, `approved`, `denied` or `expired`.
    status: &'static str,
    /// Where to ask again; `wait_seconds` waits there.
    pub(crate) status_endpoint: String,
    /// When it is too late for a human to decide; absent once one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    display: Display,
    links: Links,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Display {
    title: String,
    /// What the human wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Links {
    /// The page for the approver.
    review: String,
}

/// "Re-evaluation Mode".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Completion {
    /// `reevaluate`.
    mode: &'static str,
    /// To be handed back as `context.approval`.
    approval: Approval,
}

/// An approval of one action, good once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AccessApproval")]
pub(crate) struct Approval {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_at: Option<Timestamp>,
    /// The first instant at which it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<ApprovalState>,
}

impl Approval {
    /// To be shown.
    pub(crate) fn without_state(request: &OversightAnswer) -> Self {
        Self {
            id: request.id.clone(),
            approved_at: request.decided_at,
            approved_until: request.grant_expires_at,
            state: None,
        }
    }

    /// To be used, by whom the grant is shown to.
    fn of(request: &OversightAnswer) -> Self {
        let grant = request.grant.clone();
        Self {
            state: grant.map(|grant| ApprovalState { grant }),
            ..Self::without_state(request)
        }
    }
}

impl TaskAnswer {
    /// The request as it stands now, to whoever knows this server by `base`; `review` is
    /// the approver's page.
    pub(crate) fn of(request: OversightAnswer, base: &str, review: String, now: Timestamp) -> Self {
        let ended = request.grant_expires_at.is_some_and(|until| until <= now);
        let (status, words) = match request.state.as_str() {
            "pending" => ("pending", "a human has to approve"),
            // A terminal status stays ("State Transitions"), and `expired` is for what
            // nobody decided; that an approval ran out is for `approved_until` to say.
            "approved" if ended => ("approved", "approved, and not used in time"),
            "approved" => ("approved", "approved; evaluate again"),
            "used" => ("approved", "approved, and used"),
            "denied" => ("denied", "denied"),
            _ => ("expired", "nobody decided in time"),
        };
        let result = (status == "approved").then(|| Completion {
            mode: "reevaluate",
            approval: Approval::of(&request),
        });
        Self {
            task: Task {
                status_endpoint: format!("{base}{REQUESTS}/{}", request.id),
                expires_at: (status == "pending").then_some(request.expires_at),
                display: Display {
                    title: match &request.resource_type {
                        Some(kind) => format!(
                            "{} on {kind} {} by {}: {words}",
                            request.action, request.resource, request.agent
                        ),
                        None => format!(
                            "{} on {} by {}: {words}",
                            request.action, request.resource, request.agent
                        ),
                    },
                    description: request.decision_reason,
                },
                links: Links { review },
                id: request.id,
                status,
            },
            result,
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.task.status == "pending"
    }
}
