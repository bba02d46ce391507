//! What callers get back. These are the documents of the API: `creto-http`
//! serves them as they stand, and the reply kept for an idempotency key is one
//! of them. `leaf` is filled in once the commit has its place in the log.

use std::collections::BTreeMap;

use creto_authz::{Exceeded, TooFast};
use creto_nhi::{AgentIdentity, IssuedToken};
use creto_types::{ActionId, LeafIndex, Money, OrgId, PrincipalName, Quantity, Timestamp};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Codes of answers that refuse without a denial. They are part of the public
/// interface: agents and tests read them.
pub mod refusal {
    /// The budget of a delegation does not cover it.
    pub const BUDGET_EXCEEDED: &str = "budget_exceeded";
    /// A limit on an agent or on the organization does not cover it.
    pub const LIMIT_EXCEEDED: &str = "limit_exceeded";
    /// Too many actions.
    pub const RATE_LIMITED: &str = "rate_limited";
    /// Too many reservations that nobody settled or released.
    pub const TOO_MANY_OPEN: &str = "too_many_open_reservations";
    /// Too many questions, whatever the answers.
    pub const TOO_MANY_QUESTIONS: &str = "too_many_questions";
    /// A human has to approve it.
    pub const NEEDS_APPROVAL: &str = "needs_approval";
    /// A question is about nobody of the organization.
    pub const UNKNOWN_SUBJECT: &str = "unknown_subject";
}

/// A document that is stored as the reply of a mutation.
pub trait Answer: Serialize + DeserializeOwned {
    /// Records where in the log the mutation's evidence lies.
    fn set_leaf(&mut self, leaf: LeafIndex);
}

macro_rules! answers_with_leaf {
    ($($name:ident),+ $(,)?) => {
        $(impl Answer for $name {
            fn set_leaf(&mut self, leaf: LeafIndex) {
                self.leaf = Some(leaf);
            }
        })+
    };
}

answers_with_leaf!(
    ActionAnswer,
    LimitAnswer,
    RateAnswer,
    RemovalAnswer,
    DelegationAnswer,
    InvoiceAnswer,
    OversightAnswer,
    PrincipalAnswer,
    RevocationAnswer,
    SandboxAnswer,
    SettlementAnswer,
    SuspensionAnswer,
    TokenAnswer,
);

use crate::hidden::GrantText;
use crate::limits::{LimitAnswer, RateAnswer, RemovalAnswer};

/// The five outcomes of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// Go ahead; usage is reserved.
    Allow,
    /// Not permitted.
    Deny,
    /// A human has to look first.
    RequiresOversight,
    /// A budget in the chain does not cover it.
    QuotaExceeded,
    /// Too fast.
    RateLimited,
}

impl OutcomeKind {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::RequiresOversight => "requires_oversight",
            Self::QuotaExceeded => "quota_exceeded",
            Self::RateLimited => "rate_limited",
        }
    }
}

/// Why an outcome is what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReasonAnswer {
    /// Stable, `snake_case`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// The decision on one action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActionAnswer {
    /// Ties decision, effect, usage, invoice line and leaf together.
    pub action_id: ActionId,
    /// One of five.
    pub outcome: OutcomeKind,
    /// Why.
    pub reason: ReasonAnswer,
    /// The policies that decided.
    pub policy_ids: Vec<String>,
    /// What was reserved in money, when allowed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cost: Option<Money>,
    /// When an unsettled reservation is given back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reserved_until: Option<Timestamp>,
    /// The request a human has to decide.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oversight: Option<OversightNeeded>,
    /// Whether it was allowed beyond a limit that lets more pass.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub overage: bool,
    /// The limit that does not cover it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quota: Option<QuotaAnswer>,
    /// Whose calls are too many.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<RateExceededAnswer>,
    /// When to try again, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_ms: Option<u64>,
    /// Where the decision lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// Where the human decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OversightNeeded {
    /// Poll `/v1/oversight/requests/{id}`.
    pub request_id: String,
    /// The page for the approver.
    pub url: String,
    /// SHA-256 of the canonical action, in hexadecimal.
    pub digest: String,
    /// When it is too late to decide.
    pub expires_at: Timestamp,
}

/// What a limit or a rate is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubjectAnswer {
    /// `delegation`, `agent` or `organization`.
    pub scope: String,
    /// The delegation, when it is one's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delegation: Option<String>,
    /// The principal: the agent, or who holds the delegation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub principal: Option<PrincipalName>,
}

/// A limit that does not cover what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuotaAnswer {
    /// Whose limit it is.
    #[serde(flatten)]
    pub subject: SubjectAnswer,
    /// The one action it counts; absent when it counts all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event: Option<String>,
    /// The most in the period.
    pub limit: Quantity,
    /// What is used or reserved of it.
    pub used: Quantity,
    /// What of that is only reserved: some of it may be given back.
    pub reserved: Quantity,
    /// What this would have added.
    pub requested: Quantity,
    /// When the period ends; absent for a total that never resets.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resets_at: Option<Timestamp>,
}

impl From<Exceeded> for QuotaAnswer {
    fn from(exceeded: Exceeded) -> Self {
        Self {
            subject: SubjectAnswer::from(&exceeded.scope),
            event: exceeded.event,
            limit: exceeded.limit,
            used: exceeded.used,
            reserved: exceeded.reserved,
            requested: exceeded.requested,
            resets_at: exceeded.resets_at,
        }
    }
}

/// A rate that a call is ahead of, or whose open reservations are too many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RateExceededAnswer {
    /// Whose calls, or open reservations, are too many.
    #[serde(flatten)]
    pub subject: SubjectAnswer,
    /// The one action that the rate is of; absent when it is of all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event: Option<String>,
}

impl From<TooFast> for RateExceededAnswer {
    fn from(too_fast: TooFast) -> Self {
        Self {
            subject: SubjectAnswer::from(&too_fast.scope),
            event: too_fast.event,
        }
    }
}

/// What was really used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettlementAnswer {
    /// The action.
    pub action_id: ActionId,
    /// `settled` or `released`.
    pub state: String,
    /// The ledger's event; absent when released.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event_id: Option<String>,
    /// Units used.
    pub units: u64,
    /// Their price.
    pub cost: Money,
    /// Whether some of it lies beyond a limit that lets more pass.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub overage: bool,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// A principal of the organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrincipalAnswer {
    /// The organization.
    pub org: OrgId,
    /// Unique in the organization.
    pub name: PrincipalName,
    /// `human` or `agent`.
    pub kind: String,
    /// The SPIFFE id.
    pub spiffe_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The role of a human: `owner`, `operator`, `auditor` or `approver`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<String>,
    /// Whether it was revoked: nothing is done in its name any more.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub revoked: bool,
    /// When it was revoked, once that is known for certain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at: Option<Timestamp>,
    /// Whether it is suspended: nothing may be done in its name.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub suspended: bool,
    /// Since when it is suspended, once that is known for certain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub suspended_at: Option<Timestamp>,
    /// Where its creation lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// One right: an action pattern on a resource pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RightAnswer {
    /// Exact, or a prefix that ends in `*`.
    pub action: String,
    /// Exact, or a prefix that ends in `*`.
    pub resource: String,
}

/// The most a delegation may spend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetAnswer {
    /// The limit.
    pub limit: Quantity,
    /// `total`, `month`, `day` or `hour`.
    pub period: String,
}

/// Whether a delegation gives authority now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DelegationState {
    /// It does.
    Active,
    /// It, one above it, a principal of its chain or a key that signed it was revoked.
    Revoked,
    /// Somebody in its chain is suspended; it is in force again once they are
    /// resumed.
    Suspended,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
}

/// A delegation: a link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DelegationAnswer {
    /// The link.
    pub id: String,
    /// The link above it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<String>,
    /// Who delegates.
    pub delegator: PrincipalName,
    /// To whom.
    pub delegatee: PrincipalName,
    /// What.
    pub rights: Vec<RightAnswer>,
    /// From when.
    pub not_before: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
    /// How many further delegations may hang below.
    pub max_depth: u8,
    /// The most it may spend.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub budget: Option<BudgetAnswer>,
    /// Whether it gives authority now.
    pub state: DelegationState,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// A delegation was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevocationAnswer {
    /// The link.
    pub id: String,
    /// From when no call is allowed through it.
    pub revoked_at: Timestamp,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// A principal was suspended or resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuspensionAnswer {
    /// Who.
    pub principal: PrincipalName,
    /// Whether it is suspended now.
    pub suspended: bool,
    /// From when that holds.
    pub at: Timestamp,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// A token, shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenAnswer {
    /// The bearer token; never stored, and absent from a repeated answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// Whose.
    pub principal: PrincipalName,
    /// The link it acts under.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delegation: Option<String>,
    /// The instance of the agent that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instance: Option<String>,
    /// The thumbprint of the key that it is bound to: it is used by the scheme `DPoP`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub jkt: Option<String>,
    /// Until when.
    pub expires_at: Timestamp,
    /// Where its issue lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl TokenAnswer {
    /// Without the token, which is not kept.
    pub(crate) fn of(identity: &AgentIdentity, issued: &IssuedToken) -> Self {
        Self {
            token: None,
            principal: identity.name.clone(),
            delegation: identity.link().map(|hop| hop.link.id.to_string()),
            instance: identity.instance().map(ToString::to_string),
            jkt: identity.confirmation().map(String::from),
            expires_at: issued.expires_at,
            leaf: None,
        }
    }
}

impl std::fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenAnswer")
            .field("principal", &self.principal)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// One link of the caller's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HopAnswer {
    /// The link.
    pub delegation: String,
    /// Who delegated.
    pub delegator: PrincipalName,
    /// To whom.
    pub delegatee: PrincipalName,
    /// What is left of its budget.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub balance: Option<BalanceAnswer>,
}

/// Who the caller is to Creto.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelfAnswer {
    /// The organization.
    pub org: OrgId,
    /// The caller.
    pub name: PrincipalName,
    /// `human` or `agent`.
    pub kind: String,
    /// The SPIFFE id, with the instance where the token names one.
    pub spiffe_id: String,
    /// The role of a human: `owner`, `operator`, `auditor` or `approver`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<String>,
    /// `token` or `sandbox`.
    pub origin: String,
    /// The thumbprint of the key that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub jkt: Option<String>,
    /// From the owner down to the caller.
    pub chain: Vec<HopAnswer>,
}

/// What is left of a budget or another limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BalanceAnswer {
    /// The most in the period.
    pub limit: Quantity,
    /// Settled.
    pub used: Quantity,
    /// Held for actions that are not settled yet.
    pub reserved: Quantity,
    /// What may still be reserved.
    pub remaining: Quantity,
    /// When the period ends; absent for a total that never resets.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resets_at: Option<Timestamp>,
}

/// Usage of one agent for one action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageLine {
    /// Who.
    pub agent: PrincipalName,
    /// What.
    pub action: String,
    /// How often.
    pub events: u64,
    /// Units in all.
    pub units: u64,
    /// The exact price.
    pub cost: Money,
}

/// Usage in a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageAnswer {
    /// First instant inside.
    pub from: Timestamp,
    /// First instant after.
    pub to: Timestamp,
    /// By agent and action.
    pub lines: Vec<UsageLine>,
    /// The exact sum.
    pub total: Money,
}

/// One event behind an invoice line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvoicedEvent {
    /// The ledger's event.
    pub event_id: String,
    /// The action it settles.
    pub action_id: ActionId,
    /// Units used.
    pub units: u64,
    /// Where the settlement lies in the log.
    pub leaf: LeafIndex,
}

/// One line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvoiceLineAnswer {
    /// Who.
    pub agent: PrincipalName,
    /// What.
    pub action: String,
    /// Units.
    pub quantity: u64,
    /// Price of one.
    pub unit_price: Money,
    /// Quantity times price, rounded once to the minor unit.
    pub amount: Money,
    /// What it is made of.
    pub events: Vec<InvoicedEvent>,
}

/// An issued invoice; it never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvoiceAnswer {
    /// The invoice.
    pub id: String,
    /// Counts up in the organization.
    pub number: String,
    /// Who pays: the principal whose delegations were spent.
    pub customer: PrincipalName,
    /// First instant inside.
    pub from: Timestamp,
    /// First instant after.
    pub to: Timestamp,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// By agent and action.
    pub lines: Vec<InvoiceLineAnswer>,
    /// The sum of the lines' amounts.
    pub total: Money,
    /// Where its issue lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// An oversight request as the approver and the agent see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OversightAnswer {
    /// The request.
    pub id: String,
    /// `pending`, `approved`, `denied`, `expired` or `used`.
    pub state: String,
    /// The action that was held.
    pub action_id: ActionId,
    /// Who asks.
    pub agent: PrincipalName,
    /// From the owner down to the agent.
    pub chain: Vec<PrincipalName>,
    /// What it wants to do.
    pub action: String,
    /// To what.
    pub resource: String,
    /// Of this entity type; a `Creto::Resource` when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource_type: Option<String>,
    /// In this context.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty", default)]
    pub context: serde_json::Map<String, serde_json::Value>,
    /// With exactly these arguments.
    pub args: serde_json::Value,
    /// How much of it.
    pub units: u64,
    /// SHA-256 of the canonical action, in hexadecimal.
    pub digest: String,
    /// What it would cost.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cost: Option<Money>,
    /// What the agent spent so far under its delegation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub spent: Option<Money>,
    /// The policy that asks for a human, or several joined by `+`.
    pub policy_id: String,
    /// What each of them said when this was asked: the SHA-256, in hexadecimal, of the
    /// policy in Cedar's JSON format. The grant opens nothing once one says otherwise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub policy_digests: BTreeMap<String, String>,
    /// When it was asked.
    pub created_at: Timestamp,
    /// When it is too late to decide.
    pub expires_at: Timestamp,
    /// Who decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decided_by: Option<PrincipalName>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decided_at: Option<Timestamp>,
    /// What the approver wrote.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decision_reason: Option<String>,
    /// The first instant at which the grant is refused, once approved.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grant_expires_at: Option<Timestamp>,
    /// The single-use grant; shown to the agent alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grant: Option<GrantText>,
    /// Where the newest change lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// Where a sandbox is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// It runs.
    Running,
    /// It ended; `exit` says how.
    Exited,
    /// The server stopped while it ran; it was removed.
    Lost,
}

/// A sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxAnswer {
    /// The sandbox.
    pub id: String,
    /// The agent it is bound to.
    pub agent: PrincipalName,
    /// The link it acts under.
    pub delegation: String,
    /// What runs.
    pub argv: Vec<String>,
    /// Where it is in its life.
    pub state: SandboxState,
    /// `exited`, `signaled`, `out_of_memory`, `timed_out`, `killed`, `lost` or
    /// `failed_to_start`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit: Option<String>,
    /// The program's exit code, when it exited by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<i32>,
    /// Standard output, once it ended; cut at the limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stdout: Option<String>,
    /// Standard error, once it ended; cut at the limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stderr: Option<String>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
    /// Where its newest record lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}
