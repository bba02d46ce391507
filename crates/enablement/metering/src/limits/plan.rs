//! What counts for one chain, and the reservation over it.
//!
//! A plan never changes: when a limit or a rate is set, accounts make a new one
//! before they decide anything else. It lists every cell and pacer that a call of
//! this chain touches, so that reserving is: take the locks, look at all, then take
//! from all.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use creto_authz::{Account, Action, ActionKey, Exceeded, Hold, HoldData, Holder, Refusal, Spend};
use creto_types::Money;

use super::cell::{Answer, Cell, Group, Held, Measure};
use super::chain::Chain;
use super::pacer::Pacer;
use super::registry::Org;
use super::window::instant;
use crate::amount::Amount;
use crate::prices::PriceTable;

/// The version of an organization's limits and rates, on a line of its own: every
/// decision reads it and almost nothing writes it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Version(AtomicU64);

impl Version {
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn next(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A cell of a plan.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) cell: Arc<Cell>,
    event: Option<ActionKey>,
    money: bool,
}

impl Counted {
    pub(crate) fn new(cell: Arc<Cell>) -> Self {
        Self {
            event: key_of(cell.rule().event.as_ref().map(Action::name)),
            money: cell.rule().is_money(),
            cell,
        }
    }

    #[inline]
    const fn share(&self, amount: i128, units: i128) -> i128 {
        if self.money { amount } else { units }
    }
}

/// A pacer of a plan.
#[derive(Debug)]
pub(crate) struct Paced {
    pacer: Arc<Pacer>,
    event: Option<(ActionKey, Box<str>)>,
}

impl Paced {
    pub(crate) fn new(pacer: Arc<Pacer>, event: Option<&str>) -> Self {
        Self {
            pacer,
            event: event.map(|name| (Action::named(name).key(), name.into())),
        }
    }
}

fn key_of(event: Option<&str>) -> Option<ActionKey> {
    event.map(|name| Action::named(name).key())
}

/// Whether a call of this action is of that event type. Numbers decide; names do
/// when one of the two has none.
#[inline]
fn is_of(event: Option<ActionKey>, name: impl FnOnce() -> bool, action: &Action) -> bool {
    match event {
        None => true,
        Some(ActionKey::UNKNOWN) => name(),
        Some(_) if action.key() == ActionKey::UNKNOWN => name(),
        Some(key) => key == action.key(),
    }
}

/// A budget of the chain that nothing can be counted in.
#[derive(Clone, Debug)]
pub(crate) struct Foreign(pub(crate) String);

/// What is locked for one reservation: always in this order.
struct Locks<'a> {
    _tree: Option<Held<'a>>,
    agent: Held<'a>,
    _whole: Option<Held<'a>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) version: u64,
    pub(crate) chain: Arc<Chain>,
    pub(crate) org: Arc<Org>,
    pub(crate) prices: Arc<PriceTable>,
    pub(crate) tree: Option<Arc<Group>>,
    pub(crate) agent: Arc<Group>,
    /// Only when a limit or a rate of the organization counts.
    pub(crate) whole: Option<Arc<Group>>,
    /// Nearest to the agent first.
    pub(crate) cells: Box<[Counted]>,
    pub(crate) pacers: Box<[Paced]>,
    pub(crate) foreign: Option<Box<Foreign>>,
    /// Whether an event type has no number yet: its calls are known by name.
    unnamed: bool,
}

/// The parts of a plan that the registry looks up.
pub(crate) struct Parts {
    pub(crate) version: u64,
    pub(crate) tree: Option<Arc<Group>>,
    pub(crate) agent: Arc<Group>,
    pub(crate) whole: Option<Arc<Group>>,
    pub(crate) cells: Vec<Counted>,
    pub(crate) pacers: Vec<Paced>,
    pub(crate) foreign: Option<Foreign>,
}

impl Plan {
    pub(crate) fn new(
        chain: Arc<Chain>,
        org: Arc<Org>,
        prices: Arc<PriceTable>,
        parts: Parts,
    ) -> Self {
        let unnamed = parts
            .cells
            .iter()
            .any(|counted| counted.event == Some(ActionKey::UNKNOWN));
        Self {
            version: parts.version,
            chain,
            org,
            prices,
            tree: parts.tree,
            agent: parts.agent,
            whole: parts.whole,
            cells: parts.cells.into(),
            pacers: parts.pacers.into(),
            foreign: parts.foreign.map(Box::new),
            unnamed,
        }
    }

    /// Whether both count in the same cells.
    pub(crate) fn counts_as(&self, other: &Self) -> bool {
        self.cells.len() == other.cells.len()
            && self
                .cells
                .iter()
                .zip(&other.cells)
                .all(|(one, other)| Arc::ptr_eq(&one.cell, &other.cell))
    }

    fn lock(&self) -> Locks<'_> {
        let tree = self.tree.as_ref().map(|group| group.lock());
        let agent = self.agent.lock();
        let whole = self.whole.as_ref().map(|group| group.lock());
        Locks {
            _tree: tree,
            agent,
            _whole: whole,
        }
    }

    /// The cells that count a call of this action.
    #[inline]
    fn counting<'a>(&'a self, action: &'a Action) -> impl Iterator<Item = &'a Counted> {
        self.cells.iter().filter(move |counted| {
            let name = || {
                let event = counted.cell.rule().event.as_ref();
                event.is_some_and(|event| event.name() == action.name())
            };
            is_of(counted.event, name, action)
        })
    }

    #[inline]
    fn pacing<'a>(&'a self, action: &'a Action) -> impl Iterator<Item = &'a Pacer> {
        self.pacers
            .iter()
            .filter(move |paced| match &paced.event {
                None => true,
                Some((key, event)) => is_of(Some(*key), || **event == *action.name(), action),
            })
            .map(|paced| paced.pacer.as_ref())
    }

    /// Reserves for every cell or for none.
    pub(crate) fn reserve(self: &Arc<Self>, spend: &Spend<'_>) -> Result<Hold, Refusal> {
        let action = spend.action;
        let units = i128::from(spend.units);
        let Some(amount) = self.prices.cost(action, spend.units) else {
            return Err(too_many(spend.units));
        };
        if amount > 0
            && let Some(foreign) = &self.foreign
        {
            return Err(Refusal::Refused {
                code: "budget_currency",
                text: foreign.0.clone(),
            });
        }
        let mut data = HoldData {
            at: spend.now.wall_ns,
            units: spend.units,
            action: action.key(),
            amount,
            over: false,
        };

        let locks = self.lock();
        let held = &locks.agent;
        let mut in_time = true;
        for pacer in self.pacing(action) {
            in_time &= pacer.in_time(held, spend.now.mono_ns);
        }
        if !in_time {
            return Err(self.too_fast(held, spend));
        }
        let mut quiet = true;
        for counted in self.counting(action) {
            let share = counted.share(amount, units);
            quiet &= share == 0 || counted.cell.quiet(held, data.at, share);
        }
        if !quiet {
            self.second_look(held, action, &mut data)?;
        }
        // Every question is answered; from here on nothing fails.
        for pacer in self.pacing(action) {
            pacer.count(held, spend.now.mono_ns);
        }
        for counted in self.counting(action) {
            let share = counted.share(amount, units);
            if share != 0 {
                counted.cell.take(held, share);
            }
        }
        drop(locks);
        let holder: Arc<dyn Holder> = if self.unnamed || action.key() == ActionKey::UNKNOWN {
            Arc::new(Named {
                plan: Arc::clone(self),
                action: action.clone(),
            })
        } else {
            Arc::<Self>::clone(self)
        };
        Ok(Hold::new(holder, data))
    }

    /// Windows that are over, clocks that stepped back, limits that are reached.
    #[cold]
    fn second_look(
        &self,
        held: &Held<'_>,
        action: &Action,
        data: &mut HoldData,
    ) -> Result<(), Refusal> {
        let shares = || {
            self.counting(action)
                .map(|counted| (counted, counted.share(data.amount, i128::from(data.units))))
                .filter(|(_, share)| *share != 0)
        };
        // Where the clock stepped back, the later window counts: what is reserved
        // there may be too much for it, and never too little.
        let at = shares()
            .map(|(counted, _)| counted.cell.start(held))
            .fold(data.at, i64::max);
        let mut over = false;
        let mut refused: Option<&Cell> = None;
        let mut wait = Some(0_i64);
        for (counted, share) in shares() {
            let cell = counted.cell.as_ref();
            cell.roll(held, at);
            match cell.judge(held, share) {
                Answer::Fits => {}
                Answer::Over => over = true,
                Answer::Full => return Err(full()),
                Answer::Refused => {
                    let end = cell.read(held, at).span.end;
                    let helps = end != i64::MAX && cell.ever_fits(share);
                    // The call fits once the last of them has started anew.
                    wait = wait.filter(|_| helps).map(|wait| wait.max(end));
                    refused = refused.or(Some(cell));
                }
            }
        }
        let Some(cell) = refused else {
            (data.at, data.over) = (at, over);
            return Ok(());
        };
        let retry_after = wait
            .and_then(|until| u64::try_from(until.saturating_sub(data.at)).ok())
            .map(Duration::from_nanos);
        let share = if cell.rule().is_money() {
            data.amount
        } else {
            i128::from(data.units)
        };
        Err(exceeded(cell, held, at, share, retry_after))
    }

    #[cold]
    fn too_fast(&self, held: &Held<'_>, spend: &Spend<'_>) -> Refusal {
        let slowest = self
            .pacing(spend.action)
            .filter_map(|pacer| Some((pacer.wait(held, spend.now.mono_ns)?, pacer)))
            .max_by_key(|(wait, _)| *wait);
        match slowest {
            Some((retry_after, pacer)) => Refusal::RateLimited {
                scope: pacer.scope().clone(),
                retry_after,
            },
            // It was not in time a moment ago, under the same lock.
            None => full(),
        }
    }

    fn take_back(&self, action: Option<&Action>, data: &HoldData) {
        let locks = self.lock();
        let give = |counted: &Counted| {
            let share = counted.share(data.amount, i128::from(data.units));
            counted.cell.give_back(&locks.agent, data.at, share);
        };
        match action {
            Some(action) => self.counting(action).for_each(give),
            None => self
                .cells
                .iter()
                .filter(|counted| counted.event.is_none_or(|event| event == data.action))
                .for_each(give),
        }
    }
}

fn exceeded(
    cell: &Cell,
    held: &Held<'_>,
    at: i64,
    share: i128,
    retry_after: Option<Duration>,
) -> Refusal {
    let rule = cell.rule();
    let count = cell.read(held, at);
    let quantity = |count| rule.measure.quantity(count);
    let (Some(used), Some(requested)) = (quantity(count.taken), quantity(share)) else {
        return full();
    };
    Refusal::Exceeded(Box::new(Exceeded {
        scope: rule.scope(),
        event: rule.event.as_ref().map(|event| event.name().to_owned()),
        limit: rule.most,
        used,
        requested,
        resets_at: (count.span.end != i64::MAX).then(|| instant(count.span.end)),
        retry_after,
    }))
}

fn too_many(units: u64) -> Refusal {
    Refusal::Refused {
        code: "amount_out_of_range",
        text: format!("{units} units cost more than can be counted; ask for fewer"),
    }
}

fn full() -> Refusal {
    Refusal::Refused {
        code: "amount_out_of_range",
        text: "a counter of the chain is full; nothing more can be counted in it".to_owned(),
    }
}

impl Holder for Plan {
    fn give_back(&self, data: &HoldData) {
        self.take_back(None, data);
    }

    fn cost(&self, data: &HoldData) -> Option<Money> {
        Amount::of_billionths(data.amount)
            .money(self.prices.currency())
            .ok()
    }
}

/// A hold whose action, or an event type of whose plan, has no number.
pub(crate) struct Named {
    plan: Arc<Plan>,
    action: Action,
}

impl Holder for Named {
    fn give_back(&self, data: &HoldData) {
        self.plan.take_back(Some(&self.action), data);
    }

    fn cost(&self, data: &HoldData) -> Option<Money> {
        self.plan.cost(data)
    }
}

/// The plan that a hold was made by, if a meter made it.
pub(crate) fn plan_of(holder: &dyn Holder) -> Option<&Plan> {
    let any: &dyn Any = holder;
    any.downcast_ref::<Plan>()
        .or_else(|| Some(any.downcast_ref::<Named>()?.plan.as_ref()))
}

/// The counters of one chain, with the plan in force.
pub(crate) struct ChainAccount {
    org: Arc<Org>,
    chain: Arc<Chain>,
    prices: Arc<PriceTable>,
    plan: ArcSwap<Plan>,
}

impl ChainAccount {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            org: Arc::clone(&plan.org),
            chain: Arc::clone(&plan.chain),
            prices: Arc::clone(&plan.prices),
            plan: ArcSwap::from_pointee(plan),
        }
    }

    #[cold]
    fn renewed(&self, now: i64) -> Arc<Plan> {
        let plan = self.org.resolve(&self.chain, &self.prices, now);
        let plan = Arc::new(plan);
        self.plan.store(Arc::clone(&plan));
        plan
    }
}

impl Account for ChainAccount {
    fn reserve(&self, spend: &Spend<'_>) -> Result<Hold, Refusal> {
        let plan = self.plan.load();
        if plan.version == self.org.version().now() {
            return plan.reserve(spend);
        }
        self.renewed(spend.now.wall_ns).reserve(spend)
    }
}

/// Whether the price book can count in this measure.
pub(crate) fn is_counted(measure: Measure, prices: &PriceTable) -> bool {
    match measure {
        Measure::Money(currency) => currency == prices.currency(),
        Measure::Units => true,
    }
}
