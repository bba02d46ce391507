//! The extension that quota and rate limits plug into.

use std::time::Duration;

use creto_nhi::{Hop, LinkId};
use creto_types::{ActionId, Money, OrgId, PrincipalName, Timestamp};

/// Reserves what an action is expected to use.
///
/// Called last in a check, with every other question already answered by yes.
/// Implementations are synchronous, take no time worth mentioning and reserve
/// for every hop of the chain or for none. What they cannot answer they refuse.
pub trait Quota: Send + Sync + 'static {
    /// Reserves, or says why not.
    fn reserve(&self, request: &QuotaRequest<'_>) -> QuotaDecision;
}

/// What is to be reserved.
#[derive(Clone, Copy, Debug)]
pub struct QuotaRequest<'a> {
    /// The reservation's key.
    pub action_id: ActionId,
    /// Whose budgets.
    pub org: OrgId,
    /// Who acts.
    pub agent: &'a PrincipalName,
    /// The links from the root to the agent; each may carry a budget.
    pub hops: &'a [Hop],
    /// What is done, which decides the price.
    pub action: &'a str,
    /// How many units.
    pub units: u64,
}

/// What the quota answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaDecision {
    /// Reserved for every hop.
    Granted {
        /// What the reserved units cost.
        cost: Money,
    },
    /// A budget does not suffice; nothing was reserved.
    Exceeded(Exceeded),
    /// Too many calls; nothing was reserved.
    RateLimited {
        /// The same call fits after this time, if nothing else is asked meanwhile.
        retry_after: Duration,
    },
    /// It cannot be answered; nothing was reserved. A denial with this code.
    Refused {
        /// A stable code.
        code: &'static str,
        /// One sentence for whoever asked.
        text: String,
    },
}

/// The budget that does not suffice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The link whose budget it is.
    pub link: LinkId,
    /// Who was given that budget.
    pub holder: PrincipalName,
    /// The budget's limit.
    pub limit: Money,
    /// What is spent or reserved of it.
    pub used: Money,
    /// What the refused action would have cost.
    pub requested: Money,
    /// When the budget starts anew; `None` when it never does.
    pub resets_at: Option<Timestamp>,
    /// How long until then. `None` when waiting does not help: the budget never
    /// starts anew, or the action costs more than all of it.
    pub retry_after: Option<Duration>,
}
