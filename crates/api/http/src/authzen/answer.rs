//! What is answered.

use creto_governor::{
    ActionAnswer, GovernError, OutcomeKind, QuestionAnswer, QuotaAnswer, RateExceededAnswer,
};
use creto_types::{ActionId, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::denial::Proof;
use super::task::Approval;
use crate::error::ApiError;
use crate::problem::Problem;

/// A decision (section 5.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "EvaluationDecision")]
pub(crate) struct Decided {
    /// Whether it is permitted as it was asked.
    pub(crate) decision: bool,
    /// Why.
    pub(crate) context: DecisionContext,
}

/// Why a decision is what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct DecisionContext {
    /// One of the five outcomes; absent when the question could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeKind>,
    /// Stable, `snake_case`.
    reason: String,
    /// The same for people, by language.
    reason_user: InWords,
    /// The policies that decided.
    policy_ids: Vec<String>,
    /// The limit that does not cover it.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaAnswer>,
    /// Whose calls are too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<RateExceededAnswer>,
    /// When to evaluate again, in milliseconds from now; absent when there is no
    /// such time.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// Names a denial that access may be requested for.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluation_id: Option<String>,
    /// When that was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluated_at: Option<Timestamp>,
    /// How whoever asked may request access: the subject itself, for an action without
    /// context beside its units, when an approval would let it through.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_request: Option<AccessRequest>,
    /// The approval that this used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<Approval>,
    /// The action that this was, when it used an approval up: settle or release it.
    #[serde(skip_serializing_if = "Option::is_none")]
    action_id: Option<ActionId>,
    /// When what is reserved for it is given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved_until: Option<Timestamp>,
    /// Why it could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<EvaluationError>,
}

/// One sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct InWords {
    en: String,
}

/// `access_request` of the AuthZEN Access Request and Approval Profile (draft),
/// "Requestable Denial Context".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct AccessRequest {
    /// Where to request access.
    endpoint: String,
    /// The kind of approval: the value of the policy's `@oversight`.
    template: String,
    /// Why an approval is asked for.
    reason: &'static str,
    /// The first instant at which it is too late; evaluate again then.
    expires_at: Timestamp,
    /// To be handed back unread.
    request_context: String,
}

/// What is wrong with one evaluation of a batch (section 7.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct EvaluationError {
    /// What a single evaluation would have been answered with.
    status: u16,
    /// The name of a page in `docs/errors/`.
    code: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

impl DecisionContext {
    fn new(outcome: Option<OutcomeKind>, reason: String, message: String) -> Self {
        Self {
            outcome,
            reason,
            reason_user: InWords { en: message },
            policy_ids: Vec::new(),
            quota: None,
            rate: None,
            retry_after_ms: None,
            evaluation_id: None,
            evaluated_at: None,
            access_request: None,
            approval: None,
            action_id: None,
            reserved_until: None,
            error: None,
        }
    }
}

impl Decided {
    /// The answer to a question; with the proof of a denial that access may be
    /// requested for, to whoever knows this server by `base`.
    pub(crate) fn of(answer: QuestionAnswer, proof: Option<Proof>, base: &str) -> Self {
        let decision = answer.permitted();
        let mut context = DecisionContext::new(
            Some(answer.outcome),
            answer.reason.code,
            answer.reason.message,
        );
        context.policy_ids = answer.policy_ids;
        context.quota = answer.quota;
        context.rate = answer.rate;
        context.retry_after_ms = answer.retry_after_ms;
        if let (Some(approval), Some(proof)) = (answer.approval, proof) {
            context.evaluation_id = Some(proof.evaluation_id);
            context.evaluated_at = Some(proof.evaluated_at);
            context.access_request = Some(AccessRequest {
                endpoint: format!("{base}{REQUESTS}"),
                template: approval.kind,
                reason: "human_approval_required",
                expires_at: proof.expires_at,
                request_context: proof.request_context,
            });
        }
        Self { decision, context }
    }

    /// The answer to an evaluation that was the action itself, because it came with an
    /// approval.
    pub(crate) fn of_action(answer: ActionAnswer, approval: Option<Approval>) -> Self {
        let allowed = answer.outcome == OutcomeKind::Allow;
        let mut context = DecisionContext::new(
            Some(answer.outcome),
            answer.reason.code,
            answer.reason.message,
        );
        context.policy_ids = answer.policy_ids;
        context.quota = answer.quota;
        context.rate = answer.rate;
        context.retry_after_ms = answer.retry_after_ms;
        context.approval = approval.filter(|_| allowed);
        context.action_id = allowed.then_some(answer.action_id);
        context.reserved_until = answer.reserved_until;
        Self {
            decision: allowed,
            context,
        }
    }
}

impl Decided {
    /// The closed answer to an evaluation of a batch that could not be judged.
    /// What is the server's fault is nobody's answer.
    pub(crate) fn failed(error: GovernError) -> Result<Self, ApiError> {
        let error = ApiError::from(error);
        let problem = Problem::of(&error);
        if problem.status().is_server_error() {
            return Err(error);
        }
        let mut context = DecisionContext::new(None, problem.code.clone(), problem.detail.clone());
        context.error = Some(EvaluationError {
            status: problem.status,
            code: problem.code,
            message: problem.detail,
            field: problem.field,
        });
        Ok(Self {
            decision: false,
            context,
        })
    }
}

/// One decision, or those of a batch in its order, as far as it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum EvaluationsAnswer {
    /// There was no batch.
    One(Box<Decided>),
    /// There was.
    Many {
        /// The decisions.
        evaluations: Vec<Decided>,
    },
}

/// The decision point's metadata (section 9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "PolicyDecisionPointMetadata")]
pub(crate) struct Metadata {
    /// Under the name that the request used.
    policy_decision_point: String,
    access_evaluation_endpoint: String,
    access_evaluations_endpoint: String,
    /// Of the Access Request and Approval Profile (draft), "Discovery".
    access_request_endpoint: String,
    capabilities: [&'static str; 1],
}

impl Metadata {
    /// Of the server that is known by this address.
    pub(crate) fn of(base: String) -> Self {
        Self {
            access_evaluation_endpoint: format!("{base}{EVALUATION}"),
            access_evaluations_endpoint: format!("{base}{EVALUATIONS}"),
            access_request_endpoint: format!("{base}{REQUESTS}"),
            capabilities: ["urn:openid:authzen:capability:access-request"],
            policy_decision_point: base,
        }
    }
}

/// The address of the server that is known by this host.
pub(crate) fn base(host: &str) -> String {
    format!("http://{host}")
}

pub(crate) const EVALUATION: &str = "/access/v1/evaluation";
pub(crate) const EVALUATIONS: &str = "/access/v1/evaluations";
pub(crate) const METADATA: &str = "/.well-known/authzen-configuration";
pub(crate) const REQUESTS: &str = "/access/v1/requests";
pub(crate) const REQUEST: &str = "/access/v1/requests/{id}";
