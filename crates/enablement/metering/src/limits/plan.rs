//! What counts for one chain, and the reservation over it.
//!
//! A plan never changes: when a limit or a rate is set, accounts make a new one
//! before they decide anything else. It lists every cell and pacer that a call of
//! this chain touches, so that reserving is: take the locks, look at all, then take
//! from all. What it shares with the other chains below the same link is kept once
//! ([`Above`]): the account of an agent is one line of memory.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use creto_authz::{
    Account, Action, ActionKey, Exceeded, Hold, HoldData, Holder, LimitScope, Near, Refusal, Spend,
    prefetch,
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
#[derive(Clone, Debug)]
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

    /// Whether its event type is known by a number.
    #[inline]
    pub(crate) fn is_numbered(&self) -> bool {
        self.every || self.event != ActionKey::UNKNOWN
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

/// As many as most chains have: then all of them lie together.
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

/// What counts for every chain that goes on below one link: for all agents of a lead.
#[derive(Clone, Debug)]
pub(crate) struct Above {
    pub(crate) version: u64,
    pub(crate) org: Arc<Org>,
    pub(crate) prices: Arc<PriceTable>,
    pub(crate) tree: Option<Arc<Group>>,
    /// Only when a limit or a rate of the organization counts.
    pub(crate) whole: Option<Arc<Group>>,
    /// Of the links, the lowest first, and of the organization.
    pub(crate) cells: Cells,
    pub(crate) foreign: Option<Foreign>,
    /// Whether every event type of the cells has a number.
    pub(crate) numbered: bool,
}

/// The cells of the last link and of the agent: mostly one.
#[derive(Debug)]
enum Own {
    One(Counted),
    Many(Box<Cells>),
}

impl Own {
    fn as_slice(&self) -> &[Counted] {
        match self {
            Self::One(cell) => std::slice::from_ref(cell),
            Self::Many(cells) => cells,
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) above: Arc<Above>,
    own: Own,
    agent: Arc<Group>,
    pub(crate) identity: Arc<AgentIdentity>,
}

impl Plan {
    pub(crate) fn new(
        identity: Arc<AgentIdentity>,
        agent: Arc<Group>,
        mut own: Cells,
        above: Arc<Above>,
    ) -> Self {
        let own = match (own.pop(), own.is_empty()) {
            (Some(only), true) => Own::One(only),
            (last, _) => Own::Many(Box::new(own.into_iter().chain(last).collect())),
        };
        Self {
            above,
            own,
            agent,
            identity,
        }
    }

    pub(crate) fn org(&self) -> &Arc<Org> {
        &self.above.org
    }

    /// Whether limits and rates are what they were when it was made.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.above.version == self.above.org.version().now()
    }

    /// Every cell: of a link before one of a link above it.
    #[inline]
    pub(crate) fn cells(&self) -> impl Iterator<Item = &Counted> {
        self.own.as_slice().iter().chain(&self.above.cells)
    }

    /// Whether both count in the same cells.
    pub(crate) fn counts_as(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.cells(), other.cells());
        mine.map(|counted| Arc::as_ptr(&counted.cell))
            .eq(theirs.map(|counted| Arc::as_ptr(&counted.cell)))
    }

    fn lock(&self) -> Locks<'_> {
        let tree = self.above.tree.as_ref().map(|group| group.lock());
        let agent = self.agent.lock();
        let whole = self.above.whole.as_ref().map(|group| group.lock());
        Locks {
            _tree: tree,
            agent,
            whole,
        }
    }

    /// The cells that count a call of this action.
    #[inline]
    fn counting<'a>(&'a self, action: &'a Action) -> impl Iterator<Item = &'a Counted> {
        self.cells().filter(move |counted| counted.counts(action))
    }

    /// Reserves for every cell or for none. A call that is not `PACED` was counted by the
    /// rates before.
    fn reserve<const PACED: bool>(&self, spend: &Spend<'_>) -> Result<HoldData, Refusal> {
        let action = spend.action;
        let units = i128::from(spend.units);
        let mut data = self.priced(spend)?;
        let mut locks = self.lock();
        self.look::<PACED>(&locks, spend, &mut data)?;
        // Every question is answered; from here on nothing fails.
        self.counting(action).for_each(|counted| {
            let share = counted.share(data.amount, units);
            if share != 0 {
                counted.cell.take(&locks.agent, share);
            }
        });
        if PACED {
            locks.count_call(action, spend.now.mono_ns);
        }
        Ok(data)
    }

    /// Whether what an action took is found again by the action's number.
    #[inline]
    fn is_numbered(&self, action: &Action) -> bool {
        action.key() != ActionKey::UNKNOWN
            && self.above.numbered
            && self.own.as_slice().iter().all(Counted::is_numbered)
    }

    /// Whether a call would be reserved now, or why not. Takes nothing.
    fn fits(&self, spend: &Spend<'_>) -> Result<(), Refusal> {
        let mut data = self.priced(spend)?;
        self.look::<true>(&self.lock(), spend, &mut data)
    }

    #[inline]
    fn priced(&self, spend: &Spend<'_>) -> Result<HoldData, Refusal> {
        let Some(amount) = self.above.prices.cost(spend.action, spend.units) else {
            return Err(too_many(spend.units));
        };
        if amount > 0
            && let Some(foreign) = &self.above.foreign
        {
            return Err(Refusal::Refused {
                code: creto_authz::deny::BUDGET_CURRENCY,
                text: foreign.0.clone(),
            });
        }
        Ok(HoldData {
            asked_at: spend.now.wall_ns,
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
        let quiet = self.counting(action).fold(true, |quiet, counted| {
            let share = counted.share(data.amount, units);
            quiet & (share == 0 || counted.cell.quiet(held, data.at, share))
        });
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
        // Where the clock stepped back to a window of which nothing is known, the later one
        // counts: what is reserved there may be too much for it, and never too little.
        let at = shares()
            .map(|(counted, _)| counted.cell.counts_at(held, data.at))
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
                    let before = |known: &&Cell| known.rank() <= cell.rank();
                    refused = refused.filter(before).or(Some(cell));
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
                .cells()
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
    let reserved = count.taken.saturating_sub(count.used).max(0);
    let (Some(used), Some(reserved), Some(requested)) =
        (quantity(count.taken), quantity(reserved), quantity(share))
    else {
        return full();
    };
    Refusal::Exceeded(Box::new(Exceeded {
        scope: cell.scope(),
        is_budget: cell.limit().is_none(),
        event: rule.event.as_ref().map(|event| event.name().to_owned()),
        limit: rule.most,
        used,
        reserved,
        requested,
        resets_at: (count.span.end != i64::MAX).then(|| instant(count.span.end)),
        retry_after,
    }))
}

fn too_many(units: u64) -> Refusal {
    Refusal::Refused {
        code: creto_authz::deny::AMOUNT_OUT_OF_RANGE,
        text: format!("{units} units cost more than can be counted; ask for fewer"),
    }
}

fn full() -> Refusal {
    Refusal::Refused {
        code: creto_authz::deny::AMOUNT_OUT_OF_RANGE,
        text: "a counter of the chain is full; nothing more can be counted in it".to_owned(),
    }
}

impl Holder for Plan {
    fn give_back(&self, data: &HoldData) {
        self.take_back(None, data);
    }

    fn cost(&self, data: &HoldData) -> Option<Money> {
        Amount::of_billionths(data.amount)
            .money(self.above.prices.currency())
            .ok()
    }
}

/// A hold whose action, or an event type of whose plan, has no number.
struct Named {
    holder: Arc<dyn Holder>,
    action: Action,
}

/// What was reserved of a plan, held by `holder`, who has that plan.
fn hold(holder: Arc<dyn Holder>, numbered: bool, action: &Action, data: HoldData) -> Hold {
    if numbered {
        return Hold::new(holder, data);
    }
    let action = action.clone();
    Hold::new(Arc::new(Named { holder, action }), data)
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
        self.plan.is_current()
    }

    /// The plan in force, when it may be another than the account's own.
    fn in_force(&self, spend: &Spend<'_>) -> Arc<Plan> {
        let later = self.later.load_full();
        later
            .filter(|plan| plan.is_current())
            .unwrap_or_else(|| self.renewed(spend.now.wall_ns))
    }

    #[cold]
    fn renewed(&self, now: i64) -> Arc<Plan> {
        let plan = &self.plan;
        let plan = Arc::new(plan.org().resolve(&plan.identity, &plan.above.prices, now));
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
    fn prefetch(&self) {
        prefetch(self);
    }

    fn near(&self) -> [Option<Arc<dyn Near>>; 2] {
        let nearest = self.plan.own.as_slice().first();
        let cell = nearest.map(|counted| Arc::<Cell>::clone(&counted.cell) as Arc<dyn Near>);
        [cell, Some(Arc::<Group>::clone(&self.plan.agent))]
    }

    fn reserve(self: Arc<Self>, spend: &Spend<'_>) -> Result<Hold, Refusal> {
        if self.plan.is_current() {
            let data = self.plan.reserve::<true>(spend)?;
            let numbered = self.plan.is_numbered(spend.action);
            return Ok(hold(self, numbered, spend.action, data));
        }
        let plan = self.in_force(spend);
        let data = plan.reserve::<true>(spend)?;
        let numbered = plan.is_numbered(spend.action);
        Ok(hold(plan, numbered, spend.action, data))
    }

    fn fits(&self, spend: &Spend<'_>) -> Result<(), Refusal> {
        if self.plan.is_current() {
            return self.plan.fits(spend);
        }
        self.in_force(spend).fits(spend)
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
        let plan = self.0.in_force(spend);
        let data = plan.reserve::<false>(spend)?;
        let numbered = plan.is_numbered(spend.action);
        Ok(hold(plan, numbered, spend.action, data))
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::num::NonZeroU32;

    use creto_nhi::Hop;
    use creto_nhi::test_util::{agent, hop, rights};
    use creto_types::{Currency, OrgId};

    use super::*;
    use crate::prices::PriceBook;
    use crate::rate::RateLimit;

    /// With the two counts that an `Arc` keeps before it.
    #[test]
    fn an_account_takes_one_cache_line() {
        let counts = 2 * size_of::<usize>();
        assert_eq!(size_of::<ChainAccount>() + counts, 64);
    }

    #[test]
    fn chains_below_one_link_share_what_is_above() {
        let id: OrgId = format!("org_{:032x}", 1).parse().unwrap();
        let below = |parent: Option<&Hop>, number: u8, name: &str| {
            let link = format!("lnk_{number:032x}").parse().unwrap();
            let delegator = parent.map_or("owner", |hop| hop.link.delegatee.as_str());
            let all = rights(&[("*", "*")]);
            hop(id, link, parent, delegator, name, all, None)
        };
        let rate = RateLimit::per_second(NonZeroU32::MAX, NonZeroU32::MAX);
        let org = Arc::new(Org::new(id, rate));
        let book = PriceBook::new(Currency::USD, []).unwrap();
        let prices = Arc::new(PriceTable::new(book));
        let account = |hops| org.account(&agent(hops), &prices, 0);
        let lead = below(None, 1, "lead");
        let one = account(vec![lead.clone(), below(Some(&lead), 2, "one")]);
        let two = account(vec![lead.clone(), below(Some(&lead), 3, "two")]);
        assert!(Arc::ptr_eq(&one.plan.above, &two.plan.above));
        let other = below(None, 4, "other");
        let three = account(vec![other.clone(), below(Some(&other), 5, "three")]);
        assert!(!Arc::ptr_eq(&one.plan.above, &three.plan.above));
        // The lead's own calls are not counted as from below it.
        let leads = account(vec![lead]);
        assert!(!Arc::ptr_eq(&one.plan.above, &leads.plan.above));
    }
}
