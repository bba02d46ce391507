//! What is reserved: neither settled nor given back.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use creto_authz::LimitScope;
use creto_nhi::LinkId;
use creto_types::{ActionId, PrincipalName, Timestamp};

use super::rule::Rule;
use super::window::nanos;
use crate::error::MeteringError;
use crate::model::Reservation;

/// How many reservations may be open at a time: each is memory, and a record of the log
/// once it is given back.
#[derive(Clone, Copy, Debug)]
pub struct OpenBounds {
    /// Of one agent.
    pub per_agent: usize,
    /// Of one organization.
    pub per_organization: usize,
}

impl Default for OpenBounds {
    fn default() -> Self {
        Self {
            per_agent: 10_000,
            per_organization: 100_000,
        }
    }
}

/// A reservation that is neither settled nor given back.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) reservation: Reservation,
    /// What it holds, in billionths.
    pub(crate) cost: i128,
    /// What it holds, in units.
    pub(crate) units: u64,
    /// Whether its commit is over: it is in the ledger, or possibly so when the
    /// store could not say.
    pub(crate) kept: bool,
    /// Whether it may be closed in the ledger: the store could not say.
    pub(crate) doubtful: bool,
}

impl Open {
    /// Its commit is under way.
    pub(crate) fn new(reservation: Reservation, cost: i128) -> Self {
        Self {
            units: reservation.units,
            reservation,
            cost,
            kept: false,
            doubtful: false,
        }
    }

    /// It is in the ledger.
    pub(crate) fn kept(reservation: Reservation, cost: i128) -> Self {
        Self {
            kept: true,
            ..Self::new(reservation, cost)
        }
    }

    pub(super) fn share(&self, rule: &Rule) -> i128 {
        rule.share(self.cost, self.units)
    }

    /// What of it is reserved for good.
    pub(super) fn kept_share(&self, rule: &Rule) -> i128 {
        if self.kept { self.share(rule) } else { 0 }
    }
}

/// What was used, decided at one instant by one agent.
pub(crate) struct Use<'a> {
    pub(crate) agent: &'a PrincipalName,
    pub(crate) hops: &'a [LinkId],
    pub(crate) action: &'a str,
    pub(crate) at: i64,
}

impl<'a> Use<'a> {
    pub(crate) fn of(reservation: &'a Reservation) -> Self {
        Self {
            agent: &reservation.agent,
            hops: &reservation.hops,
            action: &reservation.action,
            at: nanos(reservation.reserved_at),
        }
    }
}

/// When a reservation ends by itself, and which it is.
type Due = (Timestamp, ActionId);

/// Every open reservation of an organization.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    by_action: HashMap<ActionId, Open>,
    due: BTreeSet<Due>,
    of_agents: HashMap<PrincipalName, BTreeSet<Due>>,
}

impl Reservations {
    pub(crate) fn len(&self) -> usize {
        self.by_action.len()
    }

    pub(crate) fn get(&self, action: ActionId) -> Option<&Open> {
        self.by_action.get(&action)
    }

    pub(crate) fn get_mut(&mut self, action: ActionId) -> Option<&mut Open> {
        self.by_action.get_mut(&action)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Open> {
        self.by_action.values()
    }

    /// The action has none yet.
    pub(crate) fn add(&mut self, open: Open) {
        let reservation = &open.reservation;
        let due = (reservation.expires_at, reservation.action_id);
        self.due.insert(due);
        let of_agent = self.of_agents.entry(reservation.agent.clone());
        of_agent.or_default().insert(due);
        self.by_action.insert(due.1, open);
    }

    pub(crate) fn remove(&mut self, action: ActionId) -> Option<Open> {
        let open = self.by_action.remove(&action)?;
        let reservation = &open.reservation;
        let due = (reservation.expires_at, action);
        self.due.remove(&due);
        if let Some(of_agent) = self.of_agents.get_mut(&reservation.agent) {
            of_agent.remove(&due);
            if of_agent.is_empty() {
                self.of_agents.remove(&reservation.agent);
            }
        }
        Some(open)
    }

    /// Refuses one more of this agent when there are as many as may be. Those whose time
    /// is over count no more, so that the wait is true before they are closed.
    pub(crate) fn room(
        &self,
        agent: &PrincipalName,
        bounds: &OpenBounds,
        now: Timestamp,
    ) -> Result<(), MeteringError> {
        let of_agent = self.of_agents.get(agent);
        // There is room once so many have expired that fewer than the most are left.
        let first_due = |open: &BTreeSet<Due>, most: usize| {
            let (due, _) = open.iter().nth(open.len().checked_sub(most)?)?;
            (*due > now).then_some(*due)
        };
        let whole = (LimitScope::Organization, bounds.per_organization);
        let own = (LimitScope::Agent(agent.clone()), bounds.per_agent);
        let full = of_agent
            .and_then(|open| Some((own, first_due(open, bounds.per_agent)?)))
            .or_else(|| Some((whole, first_due(&self.due, bounds.per_organization)?)));
        let Some(((scope, most), first)) = full else {
            return Ok(());
        };
        Err(MeteringError::TooManyOpen {
            scope,
            most,
            retry_after: Duration::try_from(first.duration_since(now)).unwrap_or_default(),
        })
    }

    /// The durable ones whose time is over, the oldest first.
    pub(crate) fn expired(&self, now: Timestamp) -> impl Iterator<Item = &Open> {
        self.due
            .iter()
            .take_while(move |(expires_at, _)| *expires_at <= now)
            .filter_map(|(_, action)| self.by_action.get(action))
            .filter(|open| open.kept)
    }
}
