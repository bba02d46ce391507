//! What counts for one chain, and the reservation over it.
//!
//! A plan never changes: when a limit or a rate is set, accounts make a new one
//! before they decide anything else. It lists every cell and pacer that a call of
//! this chain touches, so that reserving is: take the locks, look at all, then take
//! from all.

use std::any::Any;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use creto_authz::{
    Account, Action, ActionKey, Exceeded, Hold, HoldData, Holder, LimitScope, Near, Refusal, Spend,
};
use creto_nhi::AgentIdentity;
use creto_types::Money;
use smallvec::SmallVec;

use super::cell::{Answer, Cell, Group, Held};
use super::pacer::is_of;
use super::registry::Org;
use super::rule::Measure;
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
    /// The action that counts, unless every one does.
    event: ActionKey,
    every: bool,
    money: bool,
}

impl Counted {
    pub(crate) fn new(cell: Arc<Cell>) -> Self {
        let event = cell.rule().event.as_ref();
        Self {
            event: event.map_or(ActionKey::UNKNOWN, |event| {
                Action::named(event.name()).key()
            }),
            every: event.is_none(),
            money: cell.rule().is_money(),
            cell,
        }
    }

    #[inline]
    const fn share(&self, amount: i128, units: i128) -> i128 {
        if self.money { amount } else { units }
    }

    #[inline]
    fn counts(&self, action: &Action) -> bool {
        let name = || {
            let event = self.cell.rule().event.as_ref();
            event.is_some_and(|event| event.name() == action.name())
        };
        self.every || is_of(self.event, name, action)
    }
}

/// As many as most chains have: then all of a plan lies together.
pub(crate) type Cells = SmallVec<[Counted; 4]>;

/// A budget of the chain that nothing can be counted in.
#[derive(Clone, Debug)]
pub(crate) struct Foreign(pub(crate) String);

/// What is locked for one reservation: always in this order.
struct Locks<'a> {
    _tree: Option<Held<'a>>,
    agent: Held<'a>,
    whole: Option<Held<'a>>,
}

impl Locks<'_> {
    #[inline]
    fn in_time(&self, action: &Action, now: u64) -> bool {
        let whole = self.whole.as_ref();
        self.agent.in_time(action, now) && whole.is_none_or(|whole| whole.in_time(action, now))
    }

    #[inline]
    fn count_call(&mut self, action: &Action, now: u64) {
        self.agent.count(action, now);
        if let Some(whole) = &mut self.whole {
            whole.count(action, now);
        }
    }
}

/// See the module's documentation. Its fields lie in this order, so that what a decision
/// reads of it is known by its lines of memory: see [`Plan::glance`].
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Plan {
    pub(crate) version: u64,
    pub(crate) org: Arc<Org>,
    pub(crate) prices: Arc<PriceTable>,
    pub(crate) tree: Option<Arc<Group>>,
    pub(crate) agent: Arc<Group>,
    /// Only when a limit or a rate of the organization counts.
    pub(crate) whole: Option<Arc<Group>>,
    /// Nearest to the agent first.
    pub(crate) cells: Cells,
    pub(crate) foreign: Option<Box<Foreign>>,
    /// Whether an event type has no number yet: its calls are known by name.
    unnamed: bool,
    pub(crate) identity: Arc<AgentIdentity>,
}

/// The parts of a plan that the registry looks up.
pub(crate) struct Parts {
    pub(crate) version: u64,
    pub(crate) tree: Option<Arc<Group>>,
    pub(crate) agent: Arc<Group>,
    pub(crate) whole: Option<Arc<Group>>,
    pub(crate) cells: Cells,
    pub(crate) foreign: Option<Foreign>,
}

impl Plan {
    pub(crate) fn new(
        identity: Arc<AgentIdentity>,
        org: Arc<Org>,
        prices: Arc<PriceTable>,
        parts: Parts,
    ) -> Self {
        let unnamed = parts
            .cells
            .iter()
            .any(|counted| !counted.every && counted.event == ActionKey::UNKNOWN);
        Self {
            version: parts.version,
            identity,
            org,
            prices,
            tree: parts.tree,
            agent: parts.agent,
            whole: parts.whole,
            cells: parts.cells,
            foreign: parts.foreign.map(Box::new),
            unnamed,
        }
    }

    /// Reads each of its own lines without need. All of them are asked of memory at once
    /// this way, where a decision would wait for one after the other.
    #[inline]
    fn glance(&self) {
        black_box((self.version, self.cells.len(), self.unnamed));
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
            whole,
        }
    }

    /// The cells that count a call of this action.
    #[inline]
    fn counting<'a>(&'a self, action: &'a Action) -> impl Iterator<Item = &'a Counted> {
        self.cells
            .iter()
            .filter(move |counted| counted.counts(action))
    }

    /// Reserves for every cell or for none.
    /// What is reserved is held by `holder`, who has this plan. A call that is not
    /// `PACED` was counted by the rates before.
    fn reserve<const PACED: bool>(
        &self,
        spend: &Spend<'_>,
        holder: impl FnOnce() -> Arc<dyn Holder>,
    ) -> Result<Hold, Refusal> {
        let action = spend.action;
        let units = i128::from(spend.units);
        let mut data = self.priced(spend)?;
        let mut locks = self.lock();
        self.look::<PACED>(&locks, spend, &mut data)?;
        // Every question is answered; from here on nothing fails.
        for counted in self.counting(action) {
            let share = counted.share(data.amount, units);
            if share != 0 {
                counted.cell.take(&locks.agent, share);
            }
        }
        if PACED {
            locks.count_call(action, spend.now.mono_ns);
        }
        drop(locks);
        let mut holder = holder();
        if self.unnamed || action.key() == ActionKey::UNKNOWN {
            let action = action.clone();
            holder = Arc::new(Named { holder, action });
        }
        Ok(Hold::new(holder, data))
    }

    /// Whether a call would be reserved now, or why not. Takes nothing.
    fn fits(&self, spend: &Spend<'_>) -> Result<(), Refusal> {
        let mut data = self.priced(spend)?;
        self.look::<true>(&self.lock(), spend, &mut data)
    }

    #[inline]
    fn priced(&self, spend: &Spend<'_>) -> Result<HoldData, Refusal> {
        let Some(amount) = self.prices.cost(spend.action, spend.units) else {
            return Err(too_many(spend.units));
        };
        if amount > 0
            && let Some(foreign) = &self.foreign
        {
            return Err(Refusal::Refused {
                code: creto_authz::deny::BUDGET_CURRENCY,
                text: foreign.0.clone(),
            });
        }
        Ok(HoldData {
            at: spend.now.wall_ns,
            units: spend.units,
            action: spend.action.key(),
            amount,
            over: false,
        })
    }

    /// Asks every rate and every cell.
    #[inline]
    fn look<const PACED: bool>(
        &self,
        locks: &Locks<'_>,
        spend: &Spend<'_>,
        data: &mut HoldData,
    ) -> Result<(), Refusal> {
        let action = spend.action;
        if PACED && !locks.in_time(action, spend.now.mono_ns) {
            return Err(self.too_fast(locks, spend, data));
        }
        let held = &locks.agent;
        let units = i128::from(spend.units);
        let mut quiet = true;
        for counted in self.counting(action) {
            let share = counted.share(data.amount, units);
            quiet &= share == 0 || counted.cell.quiet(held, data.at, share);
        }
        if quiet {
            return Ok(());
        }
        self.second_look(held, action, data)
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

    /// Which of the rate and the limits is waited for longest: the call fits after that.
    #[cold]
    fn too_fast(&self, locks: &Locks<'_>, spend: &Spend<'_>, data: &mut HoldData) -> Refusal {
        let rate = self.pace(locks, spend);
        match (self.second_look(&locks.agent, spend.action, data), &rate) {
            (Err(Refusal::Exceeded(limit)), Refusal::RateLimited { retry_after, .. })
                if limit.retry_after.is_none_or(|wait| wait > *retry_after) =>
            {
                Refusal::Exceeded(limit)
            }
            (Err(refused @ Refusal::Refused { .. }), _) => refused,
            _ => rate,
        }
    }

    fn pace(&self, locks: &Locks<'_>, spend: &Spend<'_>) -> Refusal {
        let now = spend.now.mono_ns;
        let agent = locks.agent.wait(spend.action, now);
        let whole = locks
            .whole
            .as_ref()
            .and_then(|whole| whole.wait(spend.action, now));
        // The call is in time once it is for both.
        let (retry_after, scope) = match (agent, whole) {
            (Some(agent), whole) if whole.is_none_or(|whole| whole <= agent) => {
                (agent, LimitScope::Agent(self.identity.name.clone()))
            }
            (_, Some(whole)) => (whole, LimitScope::Organization),
            // It was not in time a moment ago, under the same locks.
            _ => return full(),
        };
        Refusal::RateLimited { scope, retry_after }
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
                .filter(|counted| counted.every || counted.event == data.action)
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
        scope: cell.scope(),
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
struct Named {
    holder: Arc<dyn Holder>,
    action: Action,
}

impl Holder for Named {
    fn give_back(&self, data: &HoldData) {
        if let Some(plan) = plan_of(&*self.holder) {
            plan.take_back(Some(&self.action), data);
        }
    }

    fn cost(&self, data: &HoldData) -> Option<Money> {
        self.holder.cost(data)
    }
}

/// The plan that a hold was made by, if a meter made it.
pub(crate) fn plan_of(holder: &dyn Holder) -> Option<&Plan> {
    let any: &dyn Any = holder;
    if let Some(account) = any.downcast_ref::<ChainAccount>() {
        return Some(&account.plan);
    }
    match any.downcast_ref::<Named>() {
        Some(named) => plan_of(&*named.holder),
        None => any.downcast_ref::<Plan>(),
    }
}

/// The counters of one chain.
#[derive(Debug)]
pub(crate) struct ChainAccount {
    /// The plan that was in force when the chain was bound: it lies in the account,
    /// so that a check finds it without another step.
    plan: Plan,
    /// The one in force, once that is another.
    later: ArcSwapOption<Plan>,
}

impl ChainAccount {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            later: ArcSwapOption::empty(),
        }
    }

    /// Whether limits and rates are what they were when it was made.
    pub(crate) fn is_current(&self) -> bool {
        self.plan.version == self.plan.org.version().now()
    }

    /// The plan in force, when it may be another than the account's own.
    fn in_force(&self, version: u64, spend: &Spend<'_>) -> Arc<Plan> {
        let later = self.later.load_full();
        later
            .filter(|plan| plan.version == version)
            .unwrap_or_else(|| self.renewed(spend.now.wall_ns))
    }

    #[cold]
    fn renewed(&self, now: i64) -> Arc<Plan> {
        let plan = &self.plan;
        let plan = Arc::new(plan.org.resolve(&plan.identity, &plan.prices, now));
        self.later.store(Some(Arc::clone(&plan)));
        plan
    }
}

impl Holder for ChainAccount {
    fn give_back(&self, data: &HoldData) {
        self.plan.give_back(data);
    }

    fn cost(&self, data: &HoldData) -> Option<Money> {
        self.plan.cost(data)
    }
}

impl Account for ChainAccount {
    #[inline]
    fn prepare(&self) {
        self.plan.glance();
    }

    fn near(&self) -> [Option<Arc<dyn Near>>; 2] {
        let nearest = self.plan.cells.first();
        let cell = nearest.map(|counted| Arc::<Cell>::clone(&counted.cell) as Arc<dyn Near>);
        [cell, Some(Arc::<Group>::clone(&self.plan.agent))]
    }

    fn reserve(self: Arc<Self>, spend: &Spend<'_>) -> Result<Hold, Refusal> {
        let version = self.plan.org.version().now();
        if self.plan.version == version {
            return self
                .plan
                .reserve::<true>(spend, || Arc::<Self>::clone(&self));
        }
        let plan = self.in_force(version, spend);
        plan.reserve::<true>(spend, || Arc::<Plan>::clone(&plan))
    }

    fn fits(&self, spend: &Spend<'_>) -> Result<(), Refusal> {
        let version = self.plan.org.version().now();
        if self.plan.version == version {
            return self.plan.fits(spend);
        }
        self.in_force(version, spend).fits(spend)
    }

    fn again(self: Arc<Self>) -> Arc<dyn Account> {
        Arc::new(Again(self))
    }
}

/// An account for a call that the rates counted before.
#[derive(Debug)]
struct Again(Arc<ChainAccount>);

impl Account for Again {
    fn reserve(self: Arc<Self>, spend: &Spend<'_>) -> Result<Hold, Refusal> {
        let version = self.0.plan.org.version().now();
        let plan = self.0.in_force(version, spend);
        plan.reserve::<false>(spend, || Arc::<Plan>::clone(&plan))
    }

    fn fits(&self, spend: &Spend<'_>) -> Result<(), Refusal> {
        self.0.fits(spend)
    }

    fn again(self: Arc<Self>) -> Arc<dyn Account> {
        self
    }
}

/// Whether the price book can count in this measure.
pub(crate) fn is_counted(measure: Measure, prices: &PriceTable) -> bool {
    match measure {
        Measure::Money(currency) => currency == prices.currency(),
        Measure::Units => true,
    }
}
