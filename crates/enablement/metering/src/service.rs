//! The meter: quota in memory, the ledger behind it.
//!
//! One lock an organization guards its counters, its open reservations and its
//! rates, so a reservation looks at every hop and then takes from every hop
//! without anyone in between. The lock is never held over an await: a change of
//! the ledger runs as a task of its own, which takes the lock again once the
//! store has answered, and which a caller that goes away does not stop.

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use creto_authz::{Account, Exceeded, Hold, HoldData, Holder, LimitScope, Quota, Refusal, Spend};
use creto_nhi::BudgetPeriod::{Day as Daily, Hour, Month, Total};
use creto_nhi::{AgentIdentity, Hop, LinkId};
use creto_types::{
    ActionId, Clock, Commit, IdSource, Money, OrgId, PrincipalName, Quantity, Receipt, StoreError,
    Timestamp,
};
use parking_lot::{Mutex, RwLock};

use crate::amount::Amount;
use crate::counters::{Counters, Day};
use crate::error::MeteringError;
use crate::model::{Balance, EventId, Reservation, Settlement};
use crate::ports::{Entry, LedgerStore};
use crate::prices::PriceBook;
use crate::rate::{Pace, RateLimit};

/// Events read at once while the counters are rebuilt.
const PAGE: usize = 4_096;

/// Closed actions an organization remembers, to tell a second settlement from
/// one of an action that never was.
const REMEMBERED: usize = 16_384;

/// How the meter behaves.
#[derive(Clone, Copy, Debug)]
pub struct MeterConfig {
    /// How long a reservation may stay open.
    pub reservation_ttl: Duration,
    /// How often an agent may do something.
    pub rate: RateLimit,
}

/// How many times its rate an agent may ask, whatever the answers are. What is
/// refused costs a record too, so asking has a bound of its own.
const QUESTIONS_PER_ACTION: NonZeroU32 = NonZeroU32::new(4).expect("not zero");

/// Quota, ledger, usage and invoices. See the crate's documentation.
pub struct Meter {
    core: Arc<Core>,
}

pub(crate) struct Core {
    pub(crate) store: Arc<dyn LedgerStore>,
    pub(crate) prices: PriceBook,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) clock: Arc<dyn Clock>,
    config: MeterConfig,
    orgs: RwLock<HashMap<OrgId, Arc<Mutex<Org>>>>,
}

#[derive(Default)]
struct Org {
    counters: Counters,
    held: HashMap<ActionId, Held>,
    paces: HashMap<PrincipalName, Pace>,
    questions: HashMap<PrincipalName, Pace>,
    closed: Recent,
}

struct Held {
    reservation: Reservation,
    cost: Amount,
    stage: Stage,
}

/// How far a reservation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In memory alone.
    New,
    /// Its commit is under way.
    Committing,
    /// In the ledger, or possibly so when the store could not say.
    Kept,
}

/// The last few actions that were closed.
#[derive(Default)]
struct Recent {
    order: VecDeque<ActionId>,
    known: HashSet<ActionId>,
}

impl Recent {
    fn add(&mut self, action: ActionId) {
        if self.known.insert(action) {
            self.order.push_back(action);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Org {
    /// Takes the reservation out and gives back what it holds.
    fn give_back(&mut self, action: ActionId) -> Option<Held> {
        let held = self.held.remove(&action)?;
        let day = Day::of(held.reservation.reserved_at);
        self.counters
            .give_back(&held.reservation.hops, day, held.cost);
        Some(held)
    }

    /// Turns the reservation into spending.
    fn spend(&mut self, action: ActionId, cost: Amount) {
        if let Some(held) = self.give_back(action) {
            let day = Day::of(held.reservation.reserved_at);
            self.counters.spend(&held.reservation.hops, day, cost);
        }
    }
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
            prices,
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

    /// The price book in force.
    #[must_use]
    pub fn prices(&self) -> &PriceBook {
        &self.core.prices
    }

    /// Gives back what was reserved in memory and never committed. Does nothing
    /// once [`Meter::commit_reservation`] was called.
    pub fn abandon(&self, org: OrgId, action: ActionId) {
        let org = self.core.org(org);
        let mut org = org.lock();
        if org.held.get(&action).is_some_and(|h| h.stage == Stage::New) {
            org.give_back(action);
        }
    }

    /// Makes the action's reservation durable, together with the commit.
    ///
    /// On an error what was reserved has been given back, with one exception: when
    /// the store cannot say whether the change happened ([`StoreError::Unavailable`])
    /// it is held until it expires. Either way the action must not start.
    pub async fn commit_reservation(
        &self,
        org: OrgId,
        action: ActionId,
        commit: Commit,
    ) -> Result<Receipt, MeteringError> {
        let reservation = self.core.begin_commit(org, action)?;
        let core = Arc::clone(&self.core);
        detached(async move {
            let result = core.store.reserve(reservation, commit).await;
            let state = core.org(org);
            let mut state = state.lock();
            match &result {
                Ok(_) | Err(StoreError::Unavailable(_)) => {
                    if let Some(held) = state.held.get_mut(&action) {
                        held.stage = Stage::Kept;
                    }
                }
                Err(_) => {
                    state.give_back(action);
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
        let org = org.lock();
        org.held.get(&action).map(|held| held.reservation.clone())
    }

    /// What the settlement of the action's reservation would be. Changes nothing.
    pub fn draft_settlement(
        &self,
        org: OrgId,
        action: ActionId,
        units: u64,
    ) -> Result<Settlement, MeteringError> {
        let reservation = self.core.kept(org, action)?;
        if units > reservation.units {
            return Err(MeteringError::SettleExceedsReservation {
                action,
                reserved: reservation.units,
                asked: units,
            });
        }
        let cost = Amount::exact(&reservation.unit_price)
            .and_then(|price| price.times(units))
            .ok_or(creto_types::MoneyError::Overflow)?
            .money(reservation.unit_price.currency())?;
        Ok(Settlement {
            org,
            event_id: self.core.ids.next(),
            action_id: action,
            agent: reservation.agent,
            customer: reservation.customer,
            action: reservation.action,
            units,
            unit_price: reservation.unit_price,
            cost,
            hops: reservation.hops,
            reserved_at: reservation.reserved_at,
            settled_at: self.core.clock.now(),
        })
    }

    /// Closes the reservation with what was used; the rest is given back.
    pub async fn settle(
        &self,
        settlement: Settlement,
        commit: Commit,
    ) -> Result<Receipt, MeteringError> {
        let (org, action) = (settlement.org, settlement.action_id);
        if !commit.evidence.iter().any(|record| record.org == org) {
            return Err(MeteringError::EvidenceRequired);
        }
        let cost = Amount::exact(&settlement.cost).ok_or(creto_types::MoneyError::Overflow)?;
        let core = Arc::clone(&self.core);
        detached(async move {
            match core.store.settle(settlement, commit).await {
                Ok(receipt) => {
                    let state = core.org(org);
                    let mut state = state.lock();
                    state.spend(action, cost);
                    state.closed.add(action);
                    Ok(receipt)
                }
                Err(error) => Err(core.not_closed(org, action, error).await),
            }
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
        detached(async move {
            match core.store.release(org, action, commit).await {
                Ok(receipt) => {
                    let state = core.org(org);
                    let mut state = state.lock();
                    state.give_back(action);
                    state.closed.add(action);
                    Ok(receipt)
                }
                Err(error) => Err(core.not_closed(org, action, error).await),
            }
        })
        .await
    }

    /// Durable reservations whose time is over, the oldest first. Whoever asks
    /// releases them, with evidence. Those that never became durable are given
    /// back here.
    #[must_use]
    pub fn expired(&self, now: Timestamp, limit: usize) -> Vec<Reservation> {
        let orgs: Vec<_> = self.core.orgs.read().values().cloned().collect();
        let mut due = Vec::new();
        for org in orgs {
            let mut org = org.lock();
            let mut never_kept = Vec::new();
            for (action, held) in &org.held {
                match held.stage {
                    _ if held.reservation.expires_at > now => {}
                    Stage::New => never_kept.push(*action),
                    Stage::Committing => {}
                    Stage::Kept => due.push(held.reservation.clone()),
                }
            }
            for action in never_kept {
                org.give_back(action);
            }
        }
        due.sort_by_key(|reservation| (reservation.expires_at, reservation.action_id));
        due.truncate(limit);
        due
    }

    /// How many reservations are neither settled nor given back.
    #[must_use]
    pub fn open_reservations(&self) -> u64 {
        let orgs: Vec<_> = self.core.orgs.read().values().cloned().collect();
        let open = orgs.iter().map(|org| org.lock().held.len()).sum::<usize>();
        u64::try_from(open).unwrap_or(u64::MAX)
    }

    /// Counts one question of an agent, or says how long to wait before the next.
    /// The bound is a multiple of the configured rate.
    pub fn admit(&self, org: OrgId, agent: &PrincipalName) -> Result<(), Duration> {
        let limit = self.core.config.rate.times(QUESTIONS_PER_ACTION);
        let org = self.core.org(org);
        let mut org = org.lock();
        let pace = org.questions.get(agent).copied().unwrap_or_default();
        let pace = limit.call(pace, self.core.clock.monotonic())?;
        org.questions.insert(agent.clone(), pace);
        Ok(())
    }

    /// What is left of the hop's budget; `None` when it has none.
    #[must_use]
    pub fn balance(&self, hop: &Hop, now: Timestamp) -> Option<Balance> {
        let budget = hop.link.budget?;
        let most = budget.limit.money()?;
        let currency = most.currency();
        let window = budget.period.window(now);
        let org = self.core.org(hop.link.org);
        let tally = org.lock().counters.tally(hop.link.id, window);
        let limit = Amount::floor(&most)?;
        Some(Balance {
            limit: most,
            used: tally.used.money(currency).ok()?,
            reserved: tally.reserved.money(currency).ok()?,
            remaining: limit.minus_to_zero(tally.both()).money(currency).ok()?,
            resets_at: window.map(|window| window.end()),
        })
    }
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

impl Meter {
    /// Reserves for every hop, or says why not.
    #[must_use]
    pub fn reserve(&self, request: &QuotaRequest<'_>) -> QuotaDecision {
        self.core.reserve(request)
    }

    /// Gives what a check reserved the id of its action. From here on it is given
    /// back by [`Meter::abandon`].
    pub fn adopt(&self, org: OrgId, action: ActionId, hold: Hold) -> Result<(), MeteringError> {
        let (holder, _) = hold.into_parts();
        let any: Arc<dyn Any + Send + Sync> = holder;
        let unknown = || MeteringError::ReservationNotFound { action };
        let held = any.downcast::<HeldFor>().map_err(|_| unknown())?;
        let org = self.core.org(org);
        let mut org = org.lock();
        let mut moved = org.held.remove(&held.action).ok_or_else(unknown)?;
        moved.reservation.action_id = action;
        org.held.insert(action, moved);
        Ok(())
    }
}

/// The chain whose budgets are counted.
struct Chain {
    core: Arc<Core>,
    org: OrgId,
    agent: PrincipalName,
    hops: Vec<Hop>,
}

/// One reservation before its action has an id.
struct HeldFor {
    core: Arc<Core>,
    org: OrgId,
    action: ActionId,
    cost: Money,
}

impl Holder for HeldFor {
    fn give_back(&self, _: &HoldData) {
        self.core.org(self.org).lock().give_back(self.action);
    }

    fn cost(&self, _: &HoldData) -> Option<Money> {
        Some(self.cost)
    }
}

impl Account for Chain {
    fn reserve(&self, spend: &Spend<'_>) -> Result<Hold, Refusal> {
        let action = self.core.ids.next();
        let decision = self.core.reserve(&QuotaRequest {
            action_id: action,
            org: self.org,
            agent: &self.agent,
            hops: &self.hops,
            action: spend.action.name(),
            units: spend.units,
        });
        match decision {
            QuotaDecision::Granted { cost } => Ok(Hold::new(
                Arc::new(HeldFor {
                    core: Arc::clone(&self.core),
                    org: self.org,
                    action,
                    cost,
                }),
                HoldData {
                    at: spend.now.wall_ns,
                    units: spend.units,
                    action: spend.action.key(),
                    amount: Amount::exact(&cost).map_or(0, Amount::billionths),
                    over: false,
                },
            )),
            QuotaDecision::Exceeded(exceeded) => Err(Refusal::Exceeded(Box::new(exceeded))),
            QuotaDecision::RateLimited { retry_after } => Err(Refusal::RateLimited {
                scope: LimitScope::Agent(self.agent.clone()),
                retry_after,
            }),
            QuotaDecision::Refused { code, text } => Err(Refusal::Refused { code, text }),
        }
    }
}

impl Quota for Meter {
    fn account(&self, identity: &AgentIdentity) -> Arc<dyn Account> {
        Arc::new(Chain {
            core: Arc::clone(&self.core),
            org: identity.org,
            agent: identity.name.clone(),
            hops: identity.hops.clone(),
        })
    }
}

/// Runs a change to its end, also when the caller goes away.
async fn detached<T: Send + 'static>(
    change: impl Future<Output = Result<T, MeteringError>> + Send + 'static,
) -> Result<T, MeteringError> {
    tokio::spawn(change)
        .await
        .map_err(MeteringError::Interrupted)?
}

impl Core {
    async fn rebuild(&self) -> Result<(), MeteringError> {
        let mut after: Option<EventId> = None;
        loop {
            let page = self.store.spends(after, PAGE).await?;
            for spend in &page {
                let cost = self.own(&spend.cost)?;
                let org = self.org(spend.org);
                let day = Day::of(spend.reserved_at);
                org.lock().counters.spend(&spend.hops, day, cost);
                after = Some(spend.event_id);
            }
            if page.len() < PAGE {
                break;
            }
        }
        for reservation in self.store.open_reservations().await? {
            let cost = self.own(&reservation.cost)?;
            let org = self.org(reservation.org);
            let mut org = org.lock();
            let day = Day::of(reservation.reserved_at);
            org.counters.hold(&reservation.hops, day, cost);
            org.held.insert(
                reservation.action_id,
                Held {
                    reservation,
                    cost,
                    stage: Stage::Kept,
                },
            );
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

    fn org(&self, id: OrgId) -> Arc<Mutex<Org>> {
        if let Some(org) = self.orgs.read().get(&id) {
            return Arc::clone(org);
        }
        Arc::clone(self.orgs.write().entry(id).or_default())
    }

    fn reserve(&self, request: &QuotaRequest<'_>) -> QuotaDecision {
        let unit_price = self.prices.price(request.action);
        let amount = self.prices.amount(request.action).times(request.units);
        let money = amount.and_then(|amount| amount.money(self.prices.currency()).ok());
        // The store counts units in 63 bits.
        let (Some(cost), Some(money), Ok(_)) = (amount, money, i64::try_from(request.units)) else {
            return QuotaDecision::Refused {
                code: "amount_out_of_range",
                text: format!(
                    "{} units at {unit_price} each are more than can be counted; ask for fewer",
                    request.units
                ),
            };
        };
        let now = self.clock.now();
        let Ok(expires_at) = now.checked_add(self.config.reservation_ttl) else {
            return QuotaDecision::Refused {
                code: "clock_out_of_range",
                text: "the server's clock is out of range; ask its operator".to_owned(),
            };
        };
        let hops: Vec<LinkId> = request.hops.iter().map(|hop| hop.link.id).collect();

        let org = self.org(request.org);
        let mut org = org.lock();
        if org.held.contains_key(&request.action_id) {
            return QuotaDecision::Refused {
                code: "already_reserved",
                text: format!("action {} has a reservation already", request.action_id),
            };
        }
        let pace = org.paces.get(request.agent).copied().unwrap_or_default();
        let pace = match self.config.rate.call(pace, self.clock.monotonic()) {
            Ok(pace) => pace,
            Err(retry_after) => return QuotaDecision::RateLimited { retry_after },
        };
        if cost > Amount::ZERO {
            // The budget nearest to the agent is named first.
            for hop in request.hops.iter().rev() {
                if let Some(refusal) = self.judge(&org.counters, hop, cost, money, now) {
                    return refusal;
                }
            }
            if !org.counters.has_room(&hops, cost) {
                return QuotaDecision::Refused {
                    code: "amount_out_of_range",
                    text: "the delegation's counters are full; ask for a new one".to_owned(),
                };
            }
        }

        // Every question is answered; from here on nothing fails.
        org.paces.insert(request.agent.clone(), pace);
        org.counters.hold(&hops, Day::of(now), cost);
        let customer = request
            .hops
            .first()
            .map_or(request.agent, |hop| &hop.link.delegator)
            .clone();
        org.held.insert(
            request.action_id,
            Held {
                reservation: Reservation {
                    org: request.org,
                    action_id: request.action_id,
                    agent: request.agent.clone(),
                    customer,
                    action: request.action.to_owned(),
                    units: request.units,
                    unit_price,
                    cost: money,
                    hops,
                    reserved_at: now,
                    expires_at,
                },
                cost,
                stage: Stage::New,
            },
        );
        QuotaDecision::Granted { cost: money }
    }

    /// Why the hop's budget refuses the cost, if it does.
    fn judge(
        &self,
        counters: &Counters,
        hop: &Hop,
        cost: Amount,
        requested: Money,
        now: Timestamp,
    ) -> Option<QuotaDecision> {
        let budget = hop.link.budget?;
        let most = match (budget.limit, budget.period) {
            (Quantity::Money(most), Total | Month | Daily) => most,
            // Counted here are money and whole days.
            (Quantity::Units(_), _) | (_, Hour) => {
                return Some(QuotaDecision::Refused {
                    code: "unsupported",
                    text: format!(
                        "the budget {budget} of delegation {} cannot be counted; ask {} for a \
                         delegation with a budget in money by day, month or in all",
                        hop.link.id, hop.link.delegator,
                    ),
                });
            }
        };
        if most.currency() != self.prices.currency() {
            return Some(QuotaDecision::Refused {
                code: "budget_currency",
                text: format!(
                    "the budget of delegation {} is in {}, prices are in {}; ask {} for a \
                     delegation with a budget in {}",
                    hop.link.id,
                    most.currency(),
                    self.prices.currency(),
                    hop.link.delegator,
                    self.prices.currency(),
                ),
            });
        }
        let window = budget.period.window(now);
        let spent = counters.tally(hop.link.id, window).both();
        let limit = Amount::floor(&most);
        let fits = limit.is_some_and(|limit| spent.plus(cost).is_some_and(|sum| sum <= limit));
        if fits {
            return None;
        }
        let Ok(used) = spent.money(most.currency()) else {
            return Some(QuotaDecision::Refused {
                code: "amount_out_of_range",
                text: "the delegation's counters are full; ask for a new one".to_owned(),
            });
        };
        let resets_at = window.map(|window| window.end());
        let ever_fits = limit.is_some_and(|limit| cost <= limit);
        let retry_after = resets_at
            .filter(|_| ever_fits)
            .and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        Some(QuotaDecision::Exceeded(Exceeded {
            scope: LimitScope::Delegation {
                link: hop.link.id,
                holder: hop.link.delegatee.clone(),
            },
            event: None,
            limit: most.into(),
            used: used.into(),
            requested: requested.into(),
            resets_at,
            retry_after,
        }))
    }

    /// Marks a reservation as being committed and returns it.
    fn begin_commit(&self, org: OrgId, action: ActionId) -> Result<Reservation, MeteringError> {
        let org = self.org(org);
        let mut org = org.lock();
        match org.held.get_mut(&action) {
            Some(held) if held.stage == Stage::New => {
                held.stage = Stage::Committing;
                Ok(held.reservation.clone())
            }
            Some(_) => Err(MeteringError::Store(StoreError::Conflict {
                what: "the reservation",
            })),
            None => Err(MeteringError::ReservationNotFound { action }),
        }
    }

    /// A reservation that can be closed.
    fn kept(&self, org: OrgId, action: ActionId) -> Result<Reservation, MeteringError> {
        let org = self.org(org);
        let org = org.lock();
        match org.held.get(&action) {
            Some(held) if held.stage == Stage::Kept => Ok(held.reservation.clone()),
            None if org.closed.known.contains(&action) => {
                Err(MeteringError::ReservationClosed { action })
            }
            _ => Err(MeteringError::ReservationNotFound { action }),
        }
    }

    /// The ledger did not close the reservation. When that is because it is not
    /// open there, memory follows the ledger.
    async fn not_closed(&self, org: OrgId, action: ActionId, error: StoreError) -> MeteringError {
        if !matches!(
            error,
            StoreError::Conflict { .. } | StoreError::NotFound { .. }
        ) {
            return error.into();
        }
        let entry = match self.store.entry(org, action).await {
            Ok(entry) => entry,
            Err(error) => return error.into(),
        };
        let settled = match &entry {
            Some(Entry::Settled { cost }) => match self.own(cost) {
                Ok(cost) => Some(cost),
                Err(error) => return error,
            },
            _ => None,
        };
        let state = self.org(org);
        let mut state = state.lock();
        match entry {
            Some(Entry::Open) => return error.into(),
            // It was never durable, and no commit of it is under way: only kept
            // reservations are closed.
            None => {
                state.give_back(action);
                return MeteringError::ReservationNotFound { action };
            }
            Some(Entry::Released) => {
                state.give_back(action);
            }
            Some(Entry::Settled { .. }) => {
                if let Some(cost) = settled {
                    state.spend(action, cost);
                }
            }
        }
        state.closed.add(action);
        MeteringError::ReservationClosed { action }
    }
}
