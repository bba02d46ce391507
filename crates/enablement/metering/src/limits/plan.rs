//! What counts for one chain, and the reservation over it.
//!
//! A plan never changes: when a limit or a rate is set, accounts make a new one
//! before they decide anything else. It lists every cell and pacer that a call of
//! this chain touches, so that reserving is: take the locks, look at all, then take
//! from all. What it shares with the other chains below the same link is kept once
//! ([`Above`]): the account of an agent is one line of memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use creto_authz::{
    Action, ActionKey, Exceeded, HoldData, LimitScope, Line, Lines, Refusal, Spend, TooFast,
};
use creto_nhi::AgentIdentity;
use smallvec::SmallVec;

use super::cell::{Answer, Cell, Group, Held};
use super::pacer::is_of;
use super::registry::Org;
use super::rule::Measure;
use super::tree::{Advances, Parts, Tree, Whole};
use super::window::instant;
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
    pub(super) event: ActionKey,
    pub(super) every: bool,
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
    pub(super) const fn share(&self, amount: i128, units: i128) -> i128 {
        if self.money { amount } else { units }
    }

    #[inline]
    pub(super) fn counts(&self, action: &Action) -> bool {
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

/// What is locked for one reservation beside the tree, or a part of it: always in this order.
pub(super) struct Locks<'a> {
    pub(super) agent: Held<'a>,
    whole: Option<Held<'a>>,
}

impl Locks<'_> {
    #[inline]
    pub(super) fn in_time(&self, action: &Action, now: u64) -> bool {
        let whole = self.whole.as_ref();
        self.agent.in_time(action, now) && whole.is_none_or(|whole| whole.in_time(action, now))
    }

    #[inline]
    pub(super) fn count_call(&mut self, action: &Action, now: u64) {
        self.agent.count(action, now);
        if let Some(whole) = &mut self.whole {
            whole.count(action, now);
        }
    }
}

/// What counts for every chain that goes on below one link: for all agents of a lead.
///
/// In this order, of which every call reads the beginning.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Above {
    pub(crate) version: u64,
    pub(crate) org: Arc<Org>,
    pub(crate) prices: Arc<PriceTable>,
    pub(crate) tree: Option<Arc<Tree>>,
    /// Only when a limit or a rate of the organization counts.
    pub(crate) whole: Option<Arc<Group>>,
    /// Whether every event type of the cells has a number.
    pub(crate) numbered: bool,
    pub(crate) foreign: Option<Foreign>,
    /// Of the links, the lowest first, and of the organization.
    pub(crate) cells: Cells,
    /// Once the tree has parts.
    pub(crate) split: OnceLock<Split>,
}

/// The parts of a tree, as the chains below one link find them.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    pub(crate) parts: Parts,
    /// What is set aside of each cell; nothing of those that are not of the tree.
    pub(crate) advances: SmallVec<[Option<Advances>; 4]>,
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
    pub(super) agent: Arc<Group>,
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

    /// Where in memory lies what reserving reads, of an account that lies there.
    pub(super) fn lines(&self, account: Line) -> Lines {
        let cell = |counted: &Counted| Line::of(&*counted.cell);
        let mut cells = self.above.cells.iter().map(cell);
        let above = Line::of(&*self.above);
        Lines {
            own: [
                account,
                self.own().first().map_or(Line::NONE, cell),
                Line::of(&*self.agent),
            ],
            shared: [
                above,
                above.further(1),
                above.further(2),
                self.above
                    .tree
                    .as_ref()
                    .map_or(Line::NONE, |tree| Line::of(&**tree)),
                cells.next().unwrap_or_default(),
                cells.next().unwrap_or_default(),
            ],
        }
    }

    /// The cells of the last link and of the agent.
    pub(super) fn own(&self) -> &[Counted] {
        self.own.as_slice()
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
        self.own().iter().chain(&self.above.cells)
    }

    /// Whether both count in the same cells.
    pub(crate) fn counts_as(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.cells(), other.cells());
        mine.map(|counted| Arc::as_ptr(&counted.cell))
            .eq(theirs.map(|counted| Arc::as_ptr(&counted.cell)))
    }

    fn lock_tree(&self) -> Option<Whole<'_>> {
        self.above.tree.as_ref().map(|tree| tree.lock())
    }

    /// The tree, or a part of it, is locked before.
    #[inline]
    pub(super) fn lock(&self) -> Locks<'_> {
        Locks {
            agent: self.agent.lock(),
            whole: self.above.whole.as_ref().map(|group| group.lock()),
        }
    }

    /// The cells that count a call of this action.
    #[inline]
    fn counting<'a>(&'a self, action: &'a Action) -> impl Iterator<Item = &'a Counted> {
        self.cells().filter(move |counted| counted.counts(action))
    }

    /// Reserves for every cell or for none, if what was decided before holds while they are
    /// locked. A call that is not `PACED` was counted by the rates before.
    pub(super) fn reserve<const PACED: bool>(
        &self,
        spend: &Spend<'_>,
        holds: &dyn Fn() -> bool,
    ) -> Result<HoldData, Refusal> {
        let mut data = self.priced(spend)?;
        let holds = || self.is_current() && holds();
        if self.reserve_in_part::<PACED>(spend, &data, holds) == Some(true) {
            return Ok(data);
        }
        let tree = self.lock_tree();
        let mut locks = self.lock();
        let fits = self.look::<PACED>(&locks, spend, &mut data);
        if !holds() {
            return Err(Refusal::Outdated);
        }
        fits?;
        self.take::<PACED>(&mut locks, spend, &data);
        drop(locks);
        self.share_out(tree, data.at);
        Ok(data)
    }

    /// Reserves what is within the quiet range of every cell, and in time, if the answer to
    /// the last question is yes. `None` tells nothing else.
    #[inline]
    pub(super) fn reserve_if(
        &self,
        spend: &Spend<'_>,
        last: &mut dyn FnMut() -> bool,
    ) -> Option<HoldData> {
        let data = self.priced(spend).ok()?;
        let mut last = || self.is_current() && last();
        if let Some(reserved) = self.reserve_in_part::<true>(spend, &data, &mut last) {
            return reserved.then_some(data);
        }
        let tree = self.lock_tree();
        let mut locks = self.lock();
        let in_time = locks.in_time(spend.action, spend.now.mono_ns);
        let reserved = in_time && self.is_quiet(&locks.agent, spend.action, &data) && last();
        if reserved {
            self.take::<true>(&mut locks, spend, &data);
        }
        drop(locks);
        self.share_out(tree, data.at);
        reserved.then_some(data)
    }

    /// Every question is answered; here nothing fails.
    #[inline]
    fn take<const PACED: bool>(&self, locks: &mut Locks<'_>, spend: &Spend<'_>, data: &HoldData) {
        for counted in self.counting(spend.action) {
            let share = counted.share(data.amount, i128::from(data.units));
            if share != 0 {
                counted.cell.take(&locks.agent, share);
            }
        }
        if PACED {
            locks.count_call(spend.action, spend.now.mono_ns);
        }
    }

    /// Whether what an action took is found again by the action's number.
    #[inline]
    pub(super) fn is_numbered(&self, action: &Action) -> bool {
        action.key() != ActionKey::UNKNOWN
            && self.above.numbered
            && self.own().iter().all(Counted::is_numbered)
    }

    /// Whether a call would be reserved now, or why not. Takes nothing.
    pub(super) fn fits<const PACED: bool>(
        &self,
        spend: &Spend<'_>,
        holds: &dyn Fn() -> bool,
    ) -> Result<(), Refusal> {
        let mut data = self.priced(spend)?;
        let _tree = self.lock_tree();
        let locks = self.lock();
        let fits = self.look::<PACED>(&locks, spend, &mut data);
        if !(self.is_current() && holds()) {
            return Err(Refusal::Outdated);
        }
        fits
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
        if self.is_quiet(&locks.agent, action, data) {
            return Ok(());
        }
        self.second_look(&locks.agent, action, data)
    }

    #[inline]
    fn is_quiet(&self, held: &Held<'_>, action: &Action, data: &HoldData) -> bool {
        let units = i128::from(data.units);
        self.counting(action).fold(true, |quiet, counted| {
            let share = counted.share(data.amount, units);
            quiet & (share == 0 || counted.cell.quiet(held, data.at, share))
        })
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
            (Err(Refusal::Exceeded(limit)), Refusal::RateLimited(rate))
                if limit.retry_after.is_none_or(|wait| wait > rate.retry_after) =>
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
        let (wait, scope) = match (agent, whole) {
            (Some(agent), whole) if whole.is_none_or(|whole| whole.least <= agent.least) => {
                (agent, LimitScope::Agent(self.identity.name.clone()))
            }
            (_, Some(whole)) => (whole, LimitScope::Organization),
            // It was not in time a moment ago, under the same locks.
            _ => return full(),
        };
        Refusal::RateLimited(Box::new(TooFast {
            scope,
            event: wait.event.map(str::to_owned),
            retry_after: wait.least,
        }))
    }

    /// Gives back what was reserved: of this action, or of the one that its number tells.
    pub(super) fn take_back(&self, action: Option<&Action>, data: &HoldData) {
        let counts = |counted: &Counted| match action {
            Some(action) => counted.counts(action),
            None => counted.every || counted.event == data.action,
        };
        if self.take_back_in_part(counts, data) {
            return;
        }
        let tree = self.lock_tree();
        let locks = self.lock();
        for counted in self.cells().filter(|counted| counts(counted)) {
            let share = counted.share(data.amount, i128::from(data.units));
            counted.cell.give_back(&locks.agent, data.at, share);
        }
        drop(locks);
        self.share_out(tree, data.at);
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

/// Whether the price book can count in this measure.
pub(crate) fn is_counted(measure: Measure, prices: &PriceTable) -> bool {
    match measure {
        Measure::Money(currency) => currency == prices.currency(),
        Measure::Units => true,
    }
}
