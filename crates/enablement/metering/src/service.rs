//! The meter: quota in memory, the ledger behind it.
//!
//! What decisions count in is `limits/`; this file is the life of a reservation
//! after the decision. A change of the ledger runs as a task of its own, which a
//! caller that goes away does not stop, and holds its organization's gate shared
//! until memory followed the store. No lock is held over an await but the gate.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use creto_authz::{Account, Action, Hold, HoldData, Holder, Quota};
use creto_nhi::{AgentIdentity, Hop};
use creto_types::{
    ActionId, Clock, Commit, IdSource, Money, MoneyError, OrgId, PrincipalName, Receipt,
    StoreError, Timestamp, Turn,
};
use parking_lot::RwLock;

use crate::amount::Amount;
use crate::error::MeteringError;
use crate::limits::{
    Open, OpenBounds, Org, Plan, Registry, Rule, Use, balance, instant, nanos, plan_of,
};
use crate::model::{Balance, EventId, Reservation, Settlement};
use crate::ports::LedgerStore;
use crate::prices::{PriceBook, PriceTable};
use crate::rate::RateLimit;

/// Events read at once while the counters are rebuilt.
const PAGE: usize = 4_096;

/// How the meter behaves.
#[derive(Clone, Copy, Debug)]
pub struct MeterConfig {
    /// How long a reservation may stay open.
    pub reservation_ttl: Duration,
    /// How often an agent may do something, unless a rate is set.
    pub rate: RateLimit,
    /// How many reservations may be open at a time.
    pub open: OpenBounds,
    /// What becomes of a reservation that nobody closes in time.
    pub expired: Expired,
}

impl Default for MeterConfig {
    fn default() -> Self {
        Self {
            reservation_ttl: Duration::from_secs(300),
            rate: RateLimit::per_second(
                NonZeroU32::new(50).expect("not zero"),
                NonZeroU32::new(100).expect("not zero"),
            ),
            open: OpenBounds::default(),
            expired: Expired::default(),
        }
    }
}

/// What becomes of a reservation that nobody closes in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expired {
    /// It is given back: nobody said that anything was used.
    #[default]
    Released,
    /// All of it counts as used: nobody said that it was not.
    Settled,
}

/// How many times its rate an agent may ask, whatever the answers are. What is
/// refused costs a record too, so asking has a bound of its own.
const QUESTIONS_PER_ACTION: NonZeroU32 = NonZeroU32::new(4).expect("not zero");

/// How often an agent may change limits: each change stops its organization's
/// reservations while the ledger is added up.
const CHANGES: RateLimit =
    RateLimit::per_second(NonZeroU32::MIN, NonZeroU32::new(10).expect("not zero"));

/// Quota, ledger, usage and invoices. See the crate's documentation.
pub struct Meter {
    core: Arc<Core>,
}

pub(crate) struct Core {
    pub(crate) store: Arc<dyn LedgerStore>,
    pub(crate) prices: Arc<PriceTable>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) clock: Arc<dyn Clock>,
    config: MeterConfig,
    orgs: RwLock<HashMap<OrgId, Arc<Org>>>,
}

impl Meter {
    /// A meter over this ledger, with every counter rebuilt from it.
    pub async fn open(
        store: Arc<dyn LedgerStore>,
        prices: PriceBook,
        config: MeterConfig,
        ids: Arc<dyn IdSource>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, MeteringError> {
        let core = Core {
            store,
            prices: Arc::new(PriceTable::new(prices)),
            ids,
            clock,
            config,
            orgs: RwLock::default(),
        };
        core.rebuild().await?;
        Ok(Arc::new(Self {
            core: Arc::new(core),
        }))
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    pub(crate) fn shared_core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// The price book in force.
    #[must_use]
    pub fn prices(&self) -> &PriceBook {
        self.core.prices.book()
    }

    /// What is to become of the reservations that [`Meter::expired`] lists.
    #[must_use]
    pub fn expired_are(&self) -> Expired {
        self.core.config.expired
    }

    /// Until when a reservation stays open once it is durable.
    #[must_use]
    pub fn reserved_until(&self, hold: &Hold) -> Timestamp {
        self.core.expiry(hold.data())
    }

    /// Whether one more reservation of this principal may be open now, or
    /// [`MeteringError::TooManyOpen`].
    pub fn room(&self, org: OrgId, agent: &PrincipalName) -> Result<(), MeteringError> {
        let now = self.core.clock.now();
        let org = self.core.org(org);
        let registry = org.registry();
        registry.held.room(agent, &self.core.config.open, now)
    }

    /// Makes what a check reserved durable as the reservation of this action,
    /// together with the commit.
    ///
    /// When a limit was set since the check that counts this action,
    /// [`MeteringError::LimitsChanged`] says so: the action is to be decided anew.
    /// [`MeteringError::Outdated`] says the same when `still` does: it is asked last,
    /// once nothing is waited for but the store. When as many reservations are open as
    /// may be, [`MeteringError::TooManyOpen`] says so.
    ///
    /// On an error what was reserved has been given back, with one exception: when
    /// the store cannot say whether the change happened ([`StoreError::Unavailable`],
    /// not [`StoreError::NotDone`]) it is held until it expires. Either way the action
    /// must not start.
    pub async fn commit_reservation(
        &self,
        id: ActionId,
        action: &Action,
        hold: Hold,
        commit: Commit,
        still: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<Receipt, MeteringError> {
        let core = Arc::clone(&self.core);
        let action = action.name().to_owned();
        detached(commit.turn(), async move {
            let pending = Pending::new(hold, id)?;
            let org = Arc::clone(pending.plan().org());
            let _shared = Arc::clone(&org.gate).read_owned().await;
            if !still() {
                return Err(MeteringError::Outdated);
            }
            let reservation = core.adopt(pending, id, action)?;
            let unknown = OnUnwind::new(|| {
                let mut registry = org.registry();
                registry.keep(id);
                registry.doubt(id);
                org.note(&registry, &Use::of(&reservation));
            });
            let result = core.store.reserve(reservation.clone(), commit).await;
            unknown.defuse();
            let mut registry = org.registry();
            match &result {
                Ok(_) | Err(StoreError::Unavailable(_)) => {
                    registry.keep(id);
                    org.note(&registry, &Use::of(&reservation));
                }
                Err(_) => {
                    registry.close(id, None);
                }
            }
            Ok(result?)
        })
        .await
    }

    /// The action's open reservation.
    #[must_use]
    pub fn reservation(&self, org: OrgId, action: ActionId) -> Option<Reservation> {
        let org = self.core.org(org);
        let registry = org.registry();
        registry
            .held
            .get(action)
            .map(|open| open.reservation.clone())
    }

    /// What the settlement of the action's reservation would be. Changes nothing.
    ///
    /// More than was reserved may be settled when the rest fits every limit that
    /// counts it, or those it does not fit let it pass; and, where one blocks, as long
    /// as the window lasts in which it was reserved.
    pub fn draft_settlement(
        &self,
        org: OrgId,
        action: ActionId,
        units: u64,
    ) -> Result<Settlement, MeteringError> {
        let reservation = self.core.kept(org, action)?;
        let priced = self.core.settled_cost(&reservation, units)?;
        let counters = self.core.org(org);
        let now = nanos(self.core.clock.now());
        let overage = {
            let registry = counters.registry();
            match registry.held.get(action) {
                Some(open) => registry.settled_over(open, (units, priced), now, |_| false),
                None => Ok(false),
            }
        };
        let overage = overage.map_err(|why| refused(&reservation, units, why))?;
        Ok(Settlement {
            org,
            event_id: self.core.ids.next(),
            action_id: action,
            agent: reservation.agent,
            customer: reservation.customer,
            action: reservation.action,
            units,
            unit_price: reservation.unit_price,
            cost: priced.money(reservation.unit_price.currency())?,
            hops: reservation.hops,
            reserved_at: reservation.reserved_at,
            settled_at: self.core.clock.now(),
            overage,
        })
    }

    /// Closes the reservation with what was used; the rest is given back. What is
    /// used beyond the reservation is counted before the ledger is asked, so it never
    /// exceeds a limit that blocks; when that became impossible since the draft, or
    /// the draft's `overage` is no longer right, nothing is changed.
    pub async fn settle(
        &self,
        settlement: Settlement,
        commit: Commit,
    ) -> Result<Receipt, MeteringError> {
        let (id, action, units) = (settlement.org, settlement.action_id, settlement.units);
        if !commit.evidence.iter().any(|record| record.org == id) {
            return Err(MeteringError::EvidenceRequired);
        }
        let cost = Amount::exact(&settlement.cost).ok_or(MoneyError::Overflow)?;
        let core = Arc::clone(&self.core);
        detached(commit.turn(), async move {
            let org = core.org(id);
            let _shared = Arc::clone(&org.gate).read_owned().await;
            let surplus = core.take_surplus(&org, &settlement, cost)?;
            let reserved_at = nanos(settlement.reserved_at);
            let by_whom = (
                settlement.agent.clone(),
                settlement.hops.clone(),
                settlement.action.clone(),
            );
            let (agent, hops, name) = &by_whom;
            let by = Use {
                agent,
                hops,
                action: name,
                at: reserved_at,
            };
            // In the ledger, or possibly so: what was taken is the reservation's from
            // there on and leaves the counters with it, in one step, so that nobody gets
            // it in between.
            let placed = |registry: &mut Registry, possibly: bool| {
                if let Some(Surplus { cost, units }) = surplus
                    && !(possibly && registry.extend(action, cost, units))
                {
                    registry.give_back(&by, cost, units);
                }
            };
            let unknown = OnUnwind::new(|| {
                let mut registry = org.registry();
                placed(&mut registry, true);
                registry.doubt(action);
                org.note(&registry, &by);
            });
            let result = core.store.settle(settlement, commit).await;
            unknown.defuse();
            let error = {
                let mut registry = org.registry();
                let possibly = matches!(result, Ok(_) | Err(StoreError::Unavailable(_)));
                placed(&mut registry, possibly);
                match result {
                    Ok(receipt) => {
                        registry.close(action, Some((cost.billionths(), units)));
                        registry.closed.add(action);
                        org.note(&registry, &by);
                        return Ok(receipt);
                    }
                    Err(error) => {
                        org.note(&registry, &by);
                        error
                    }
                }
            };
            Err(core.not_closed(&org, action, error).await)
        })
        .await
    }

    /// Closes the reservation without an event; all of it is given back.
    pub async fn release(
        &self,
        org: OrgId,
        action: ActionId,
        commit: Commit,
    ) -> Result<Receipt, MeteringError> {
        self.core.kept(org, action)?;
        let core = Arc::clone(&self.core);
        detached(commit.turn(), async move {
            let org = core.org(org);
            let _shared = Arc::clone(&org.gate).read_owned().await;
            let unknown = OnUnwind::new(|| org.registry().doubt(action));
            let result = core.store.release(org.id, action, commit).await;
            unknown.defuse();
            match result {
                Ok(receipt) => {
                    let mut registry = org.registry();
                    registry.close(action, None);
                    registry.closed.add(action);
                    Ok(receipt)
                }
                Err(error) => Err(core.not_closed(&org, action, error).await),
            }
        })
        .await
    }

    /// Durable reservations whose time is over: the oldest of each organization, then
    /// the next of each, so that none waits for another. Whoever asks closes them, with
    /// evidence.
    #[must_use]
    pub fn expired(&self, now: Timestamp, limit: usize) -> Vec<Reservation> {
        let mut due = Vec::new();
        for org in self.core.orgs() {
            let registry = org.registry();
            let oldest = registry.held.expired(now).take(limit);
            due.extend(oldest.map(|open| open.reservation.clone()).enumerate());
        }
        due.sort_by_key(|(place, of)| (*place, of.expires_at, of.action_id));
        due.truncate(limit);
        due.into_iter()
            .map(|(_, reservation)| reservation)
            .collect()
    }

    /// How many reservations are neither settled nor given back.
    #[must_use]
    pub fn open_reservations(&self) -> u64 {
        let orgs = self.core.orgs();
        let open = orgs
            .iter()
            .map(|org| org.registry().held.len())
            .sum::<usize>();
        u64::try_from(open).unwrap_or(u64::MAX)
    }

    /// Counts one question of an agent, or says how long to wait before the next.
    /// The bound is a multiple of the agent's rate.
    pub fn admit(&self, org: OrgId, agent: &PrincipalName) -> Result<(), Duration> {
        let org = self.core.org(org);
        let rate = org.registry().rates().of_all_calls(agent);
        let limit = rate.asking(QUESTIONS_PER_ACTION);
        let mut questions = org.questions.lock();
        let (pace, paced_by) = questions
            .get(agent)
            .copied()
            .unwrap_or_else(|| (Default::default(), limit));
        let now = self.core.mono();
        let pace = if paced_by == limit {
            pace
        } else {
            limit.taken_over(pace, &paced_by, now)
        };
        // Taken over once, whatever becomes of this question: the time from then on counts.
        let asked = limit.call(pace, Duration::from_nanos(now));
        let next = asked.unwrap_or(pace);
        questions.insert(agent.clone(), (next, limit));
        asked.map(|_| ())
    }

    /// Counts one change of limits by an agent, or says how long to wait before the next.
    pub fn admit_change(&self, org: OrgId, agent: &PrincipalName) -> Result<(), Duration> {
        let org = self.core.org(org);
        let mut changes = org.changes.lock();
        let pace = changes.get(agent).copied().unwrap_or_default();
        let pace = CHANGES.call(pace, Duration::from_nanos(self.core.mono()))?;
        changes.insert(agent.clone(), pace);
        Ok(())
    }

    /// What is left of the hop's budget; `None` when it has none.
    #[must_use]
    pub fn balance(&self, hop: &Hop, now: Timestamp) -> Option<Balance> {
        let budget = hop.link.budget?;
        let org = self.core.org(hop.link.org);
        let (measure, count) = org.registry().budget_count(&hop.link, nanos(now))?;
        balance(budget.limit, measure, count)
    }
}

impl Quota for Meter {
    fn account(&self, identity: &Arc<AgentIdentity>) -> Arc<dyn Account> {
        let org = self.core.org(identity.org);
        let now = nanos(self.core.clock.now());
        org.account(identity, &self.core.prices, now)
    }
}

/// Runs a change to its end, also when the caller goes away. Who repeats the call
/// waits for the turn that is held until then.
pub(crate) async fn detached<T: Send + 'static>(
    turn: Turn,
    change: impl Future<Output = Result<T, MeteringError>> + Send + 'static,
) -> Result<T, MeteringError> {
    let change = async move {
        let outcome = change.await;
        drop(turn);
        outcome
    };
    tokio::spawn(change)
        .await
        .map_err(MeteringError::Interrupted)?
}

/// Does what is left to do when the store panics, or its task is given up: nobody knows
/// then whether the change happened.
struct OnUnwind<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnUnwind<F> {
    const fn new(then: F) -> Self {
        Self(Some(then))
    }

    /// The store answered.
    fn defuse(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for OnUnwind<F> {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then();
        }
    }
}

/// A hold that one of this crate's plans made.
struct Pending {
    holder: Arc<dyn Holder>,
    hold: Hold,
}

impl Pending {
    /// A hold of anybody else is given back to them.
    fn new(hold: Hold, action: ActionId) -> Result<Self, MeteringError> {
        let (holder, data) = hold.into_parts();
        let hold = Hold::new(Arc::clone(&holder), data);
        match plan_of(holder.as_ref()) {
            Some(_) => Ok(Self { holder, hold }),
            None => Err(MeteringError::ReservationNotFound { action }),
        }
    }

    fn plan(&self) -> &Plan {
        plan_of(self.holder.as_ref()).expect("looked at when it was made")
    }
}

/// What is settled beyond a reservation.
#[derive(Clone, Copy)]
struct Surplus {
    cost: i128,
    units: u64,
}

impl Surplus {
    /// `None` when the open reservation covers it.
    fn of(open: &Open, units: u64, cost: Amount) -> Option<Self> {
        let more = units.checked_sub(open.units).filter(|more| *more > 0)?;
        Some(Self {
            cost: cost.billionths().saturating_sub(open.cost).max(0),
            units: more,
        })
    }
}

fn refused(reservation: &Reservation, asked: u64, why: String) -> MeteringError {
    MeteringError::SettleExceedsReservation {
        action: reservation.action_id,
        reserved: reservation.units,
        asked,
        why,
    }
}

impl Registry {
    /// Whether settling this much of an open reservation goes beyond a limit, or why it
    /// cannot be settled. When `take` says so to that answer, what goes beyond the
    /// reservation is counted, in the same step.
    fn settled_over(
        &self,
        open: &Open,
        (units, cost): (u64, Amount),
        now: i64,
        take: impl FnOnce(bool) -> bool,
    ) -> Result<bool, String> {
        let overage = open.reservation.overage;
        match Surplus::of(open, units, cost) {
            Some(more) => {
                let by = Use::of(&open.reservation);
                let take = |over| take(over || overage);
                let over = self.surplus(&by, more.cost, more.units, now, take)?;
                Ok(over || overage)
            }
            None => Ok(overage),
        }
    }
}

impl Core {
    async fn rebuild(&self) -> Result<(), MeteringError> {
        let now = nanos(self.clock.now());
        for limit in self.store.limits().await? {
            let limit = Arc::new(limit);
            let rule = Rule::set(&limit)?;
            let org = self.org(limit.org);
            let mut registry = org.registry();
            let span = rule.span(now);
            registry.install(&limit, rule, span, Default::default());
        }
        for rule in self.store.rates().await? {
            self.org(rule.org).registry().set_rate(rule, self.mono());
        }
        let mut after: Option<EventId> = None;
        loop {
            let page = self.store.spends(after, PAGE).await?;
            for spend in &page {
                let cost = self.own(&spend.cost)?.billionths();
                let by = Use {
                    agent: &spend.agent,
                    hops: &spend.hops,
                    action: &spend.action,
                    at: nanos(spend.reserved_at),
                };
                let org = self.org(spend.org);
                org.registry().recall(&by, cost, spend.units, true);
                after = Some(spend.event_id);
            }
            if page.len() < PAGE {
                break;
            }
        }
        for reservation in self.store.open_reservations().await? {
            let cost = self.own(&reservation.cost)?.billionths();
            let org = self.org(reservation.org);
            let mut registry = org.registry();
            let by = Use::of(&reservation);
            registry.recall(&by, cost, reservation.units, false);
            let open = Open::kept(reservation, cost);
            registry.held.add(open);
        }
        for org in self.orgs() {
            org.note_all();
        }
        Ok(())
    }

    /// An amount of the ledger, in the currency of the price book.
    pub(crate) fn own(&self, money: &Money) -> Result<Amount, MeteringError> {
        if money.currency() != self.prices.currency() {
            return Err(MeteringError::LedgerCurrency {
                ledger: money.currency(),
                prices: self.prices.currency(),
            });
        }
        Amount::exact(money).ok_or_else(|| {
            MeteringError::Store(StoreError::Corrupt {
                what: "ledger amount",
                source: "more decimal places than a price may have".into(),
            })
        })
    }

    pub(crate) fn org(&self, id: OrgId) -> Arc<Org> {
        if let Some(org) = self.orgs.read().get(&id) {
            return Arc::clone(org);
        }
        let mut orgs = self.orgs.write();
        let org = orgs
            .entry(id)
            .or_insert_with(|| Arc::new(Org::new(id, self.config.rate)));
        Arc::clone(org)
    }

    pub(crate) fn orgs(&self) -> Vec<Arc<Org>> {
        self.orgs.read().values().cloned().collect()
    }

    /// The clock that paces go by.
    pub(crate) fn mono(&self) -> u64 {
        self.clock.reading().mono_ns
    }

    fn expiry(&self, of: &HoldData) -> Timestamp {
        instant(of.asked_at)
            .checked_add(self.config.reservation_ttl)
            .unwrap_or(Timestamp::MAX)
    }

    /// Turns a hold into an open reservation that is being committed. The gate is
    /// held shared.
    fn adopt(
        &self,
        pending: Pending,
        id: ActionId,
        action: String,
    ) -> Result<Reservation, MeteringError> {
        let plan = pending.plan();
        let org = Arc::clone(plan.org());
        let data = *pending.hold.data();
        let identity = &plan.identity;
        let currency = self.prices.currency();
        let reservation = Reservation {
            org: identity.org,
            action_id: id,
            agent: identity.name.clone(),
            customer: identity.root().clone(),
            units: data.units,
            unit_price: self.prices.book().price(&action),
            action,
            cost: Amount::of_billionths(data.amount).money(currency)?,
            hops: identity.hops.iter().map(|hop| hop.link.id).collect(),
            reserved_at: instant(data.at),
            expires_at: self.expiry(&data),
            overage: data.over,
        };
        let mut registry = org.registry();
        if !plan.is_current() {
            let anew = org.plan(&mut registry, identity, &self.prices, data.at);
            if !anew.counts_as(plan) {
                drop(registry);
                return Err(MeteringError::LimitsChanged);
            }
        }
        if registry.held.get(id).is_some() || registry.closed.contains(id) {
            drop(registry);
            return Err(MeteringError::Store(StoreError::Conflict {
                what: "the reservation",
            }));
        }
        let (agent, now) = (&reservation.agent, self.clock.now());
        if let Err(error) = registry.held.room(agent, &self.config.open, now) {
            drop(registry);
            return Err(error);
        }
        registry
            .held
            .add(Open::new(reservation.clone(), data.amount));
        drop(registry);
        // What it holds is the reservation's from here on.
        let _ = pending.hold.into_parts();
        Ok(reservation)
    }

    fn settled_cost(&self, of: &Reservation, units: u64) -> Result<Amount, MeteringError> {
        let price = self.own(&of.unit_price)?;
        // The store counts units in 63 bits.
        let cost = i64::try_from(units).ok().and_then(|_| price.times(units));
        Ok(cost.ok_or(MoneyError::Overflow)?)
    }

    /// Counts what is settled beyond the reservation, in every limit or in none.
    fn take_surplus(
        &self,
        org: &Org,
        settlement: &Settlement,
        cost: Amount,
    ) -> Result<Option<Surplus>, MeteringError> {
        let now = nanos(self.clock.now());
        let registry = org.registry();
        // Whether it is open at all is for the ledger to say.
        let Some(open) = registry.held.get(settlement.action_id) else {
            return Ok(None);
        };
        // One look: between two, a call may take what the first one found.
        let used = (settlement.units, cost);
        let over = registry
            .settled_over(open, used, now, |over| over == settlement.overage)
            .map_err(|why| refused(&open.reservation, settlement.units, why))?;
        if over != settlement.overage {
            return Err(MeteringError::LimitsChanged);
        }
        Ok(Surplus::of(open, settlement.units, cost))
    }

    /// A reservation that can be closed.
    fn kept(&self, org: OrgId, action: ActionId) -> Result<Reservation, MeteringError> {
        let org = self.org(org);
        let registry = org.registry();
        match registry.held.get(action) {
            Some(open) if open.kept => Ok(open.reservation.clone()),
            None if registry.closed.contains(action) => {
                Err(MeteringError::ReservationClosed { action })
            }
            _ => Err(MeteringError::ReservationNotFound { action }),
        }
    }
}
