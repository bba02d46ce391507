//! The extension that quota and rate limits plug into.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use creto_nhi::{AgentIdentity, LinkId};
use creto_types::{Line, Money, PrincipalName, Quantity, Reading, Timestamp};

use crate::action::{Action, ActionKey};

/// Keeps what may be used.
pub trait Quota: Send + Sync + 'static {
    /// The counters of one chain, looked up once when an identity is bound.
    fn account(&self, identity: &Arc<AgentIdentity>) -> Arc<dyn Account>;
}

/// What one chain of delegations may use.
///
/// Reserving is the last step of a check, with every other question already
/// answered by yes. Implementations are synchronous, take no time worth
/// mentioning, allocate nothing for what they grant, and reserve for every hop of
/// the chain or for none. What they cannot answer they refuse.
pub trait Account: Send + Sync + 'static {
    /// Where in memory lies what [`Account::reserve`] reads, to be asked for before the rest
    /// is decided. What no longer counts is asked for in vain.
    fn lines(&self) -> Lines {
        Lines::default()
    }

    /// Whether a handle that is bound anew would be as this one. One that is not is as right,
    /// and slower: what it counts in is another by now.
    fn is_current(&self) -> bool {
        true
    }

    /// Reserves, or says why not. What it holds may be held by the account itself.
    ///
    /// Either is of one moment, at which nobody else reserves: then it asks whether
    /// what was decided before it `holds` still. If not it takes nothing, no rate counts
    /// the call, and it answers [`Refusal::Outdated`].
    fn reserve(
        self: Arc<Self>,
        spend: &Spend<'_>,
        holds: &dyn Fn() -> bool,
    ) -> Result<Hold, Refusal>;

    /// Reserves what fits beyond doubt, if the policies turn out to permit it: they are
    /// asked after the rest, as [`Account::reserve`] asks what it is given, and because
    /// what they said before may still be on its way from memory. `None` tells nothing:
    /// [`Account::reserve`] does.
    fn reserve_if(
        self: Arc<Self>,
        spend: &Spend<'_>,
        permitted: &mut dyn FnMut() -> bool,
    ) -> Option<Hold> {
        let _ = (spend, permitted);
        None
    }

    /// Whether [`Account::reserve`] would grant this now, by limits and by rates, or why
    /// not. Takes nothing and counts nothing.
    fn fits(&self, spend: &Spend<'_>, holds: &dyn Fn() -> bool) -> Result<(), Refusal>;

    /// The same counters for a call that rates counted already: what it reserved became
    /// void through no doing of its own, and it is decided anew.
    fn again(self: Arc<Self>) -> Arc<dyn Account>;
}

/// Where in memory lies what a reservation reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    /// What is this agent's alone, and will be written.
    pub own: [Line; 3],
    /// What it shares with other agents.
    pub shared: [Line; 6],
}

/// What is to be reserved.
#[derive(Clone, Copy, Debug)]
pub struct Spend<'a> {
    /// What is done, which decides the price.
    pub action: &'a Action,
    /// How many units.
    pub units: u64,
    /// When.
    pub now: Reading,
}

/// What was reserved, in memory alone. Dropped, it gives everything back: what is
/// to last is made durable by the quota's owner, which takes it apart with
/// [`Hold::into_parts`].
#[must_use = "what is reserved is given back when this is dropped"]
pub struct Hold {
    /// `None` once it was taken apart.
    holder: Option<Arc<dyn Holder>>,
    data: HoldData,
}

/// The facts of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldData {
    /// When it was asked for, in nanoseconds since the Unix epoch.
    pub asked_at: i64,
    /// The instant whose windows it counts in: that, or a later one where the clock
    /// stepped back.
    pub at: i64,
    /// How many units.
    pub units: u64,
    /// What is done.
    pub action: ActionKey,
    /// What it costs, in billionths of the currency unit.
    pub amount: i128,
    /// Whether a limit that lets more pass was exceeded.
    pub over: bool,
}

/// Whoever can take a reservation back.
pub trait Holder: Any + Send + Sync {
    /// Gives back all of it.
    fn give_back(&self, data: &HoldData);
    /// What it costs; `None` when that is more than money can express.
    fn cost(&self, data: &HoldData) -> Option<Money>;
}

impl Hold {
    /// A reservation that `holder` takes back when it is dropped.
    pub fn new(holder: Arc<dyn Holder>, data: HoldData) -> Self {
        Self {
            holder: Some(holder),
            data,
        }
    }

    /// The facts.
    #[must_use]
    pub const fn data(&self) -> &HoldData {
        &self.data
    }

    /// What it costs.
    #[must_use]
    pub fn cost(&self) -> Option<Money> {
        self.holder.as_ref()?.cost(&self.data)
    }

    /// The reservation, with the duty to give it back.
    #[must_use]
    pub fn into_parts(mut self) -> (Arc<dyn Holder>, HoldData) {
        let holder = self.holder.take().expect("only this method takes it");
        (holder, self.data)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(holder) = self.holder.take() {
            holder.give_back(&self.data);
        }
    }
}

/// Of the facts: whoever holds it.
impl PartialEq for Hold {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.data.fmt(f)
    }
}

/// Why nothing was reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A limit does not suffice.
    Exceeded(Box<Exceeded>),
    /// Too many calls.
    RateLimited(Box<TooFast>),
    /// It cannot be answered. A denial with this code.
    Refused {
        /// A stable code.
        code: &'static str,
        /// One sentence for whoever asked.
        text: String,
    },
    /// What was decided before holds no longer: it is to be decided anew.
    Outdated,
}

/// What a limit is a limit of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitScope {
    /// One delegation link and all below it.
    Delegation {
        /// The link.
        link: LinkId,
        /// Who was given it.
        holder: PrincipalName,
    },
    /// One agent, whatever delegations it holds.
    Agent(PrincipalName),
    /// The whole organization.
    Organization,
}

/// The rate that a call is ahead of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooFast {
    /// Whose calls are too many.
    pub scope: LimitScope,
    /// The one action that the rate is of; `None` when it is of all.
    pub event: Option<String>,
    /// The same call fits after this time, if nothing else is asked meanwhile.
    pub retry_after: Duration,
}

/// The limit that does not suffice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose limit it is.
    pub scope: LimitScope,
    /// Whether it is the budget that the delegation came with, and not a limit that was
    /// set on it.
    pub is_budget: bool,
    /// The one action it counts; `None` when it counts all.
    pub event: Option<String>,
    /// The most.
    pub limit: Quantity,
    /// What is spent or reserved of it.
    pub used: Quantity,
    /// What of that is only reserved: some may be given back before it starts anew.
    pub reserved: Quantity,
    /// What the refused action would have added.
    pub requested: Quantity,
    /// When it starts anew; `None` when it never does.
    pub resets_at: Option<Timestamp>,
    /// How long until then. `None` when there is no such time: it never starts
    /// anew, or the action costs more than all of it.
    pub retry_after: Option<Duration>,
}
