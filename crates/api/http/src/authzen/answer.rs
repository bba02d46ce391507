//! What is answered.

use creto_governor::{GovernError, OutcomeKind, QuestionAnswer};
use schemars::JsonSchema;
use serde::Serialize;

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
    /// How it could be permitted, when an approval would let it through.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_request: Option<AccessRequest>,
    /// Why it could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<EvaluationError>,
}

/// One sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct InWords {
    en: String,
}

/// `access_request` of the AuthZEN Access Request and Approval Profile (draft).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct AccessRequest {
    /// Always `false`: the profile's own endpoint is not served, so this denial is
    /// not to be submitted there.
    requestable: bool,
    /// The kind of approval: the value of the policy's `@oversight`.
    template: String,
    /// Why an approval is asked for.
    reason: &'static str,
    /// What the approval will be bound to: the policy, or several joined by `+`.
    policy_id: String,
    /// How to ask a human here.
    submit: Submit,
}

/// The request that opens a request for a human.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Submit {
    method: &'static str,
    endpoint: &'static str,
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

impl From<QuestionAnswer> for Decided {
    fn from(answer: QuestionAnswer) -> Self {
        let decision = answer.permitted();
        Self {
            decision,
            context: DecisionContext {
                outcome: Some(answer.outcome),
                reason: answer.reason.code,
                reason_user: InWords {
                    en: answer.reason.message,
                },
                policy_ids: answer.policy_ids,
                access_request: answer.approval.map(|approval| AccessRequest {
                    requestable: false,
                    template: approval.kind,
                    reason: "human_approval_required",
                    policy_id: approval.policy_id,
                    submit: Submit {
                        method: "POST",
                        endpoint: "/v1/actions",
                    },
                }),
                error: None,
            },
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
        Ok(Self {
            decision: false,
            context: DecisionContext {
                outcome: None,
                reason: problem.code.clone(),
                reason_user: InWords {
                    en: problem.detail.clone(),
                },
                policy_ids: Vec::new(),
                access_request: None,
                error: Some(EvaluationError {
                    status: problem.status,
                    code: problem.code,
                    message: problem.detail,
                    field: problem.field,
                }),
            },
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
}

impl Metadata {
    /// Of the server that is known by this host.
    pub(crate) fn of(host: &str) -> Self {
        let base = format!("http://{host}");
        Self {
            access_evaluation_endpoint: format!("{base}{EVALUATION}"),
            access_evaluations_endpoint: format!("{base}{EVALUATIONS}"),
            policy_decision_point: base,
        }
    }
}

pub(crate) const EVALUATION: &str = "/access/v1/evaluation";
pub(crate) const EVALUATIONS: &str = "/access/v1/evaluations";
pub(crate) const METADATA: &str = "/.well-known/authzen-configuration";
