//! One counter.
//!
//! What a decision reads and writes of it is one cache line: the window it stands
//! in, what is taken of it, and by which rule, which tells where the quiet range ends.
//! Everything else is looked at only when a call leaves that range.
//!
//! It is read and written only while what it belongs to is locked: its [`Tree`] or its
//! [`Group`]. The atomics make that safe to say without a lock of its own in every cell.
//! One decision takes at most three locks, always in the order tree, agent, organization.
//!
//! A tree may have parts. Then what several agents share is counted by what is set aside
//! of it for each part; and what counts below the last link of a chain alone, in itself,
//! under one part and the lock of the agent to whom that link is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use creto_authz::LimitScope;
use creto_types::{OrgId, PrincipalName};
use parking_lot::{Mutex, MutexGuard};

use super::model::{Crossing, Limit, LimitRef, OnExceed, Scope, is_part_reached};
use super::pacer::Pacers;
use super::rule::{Rule, Subject};
use super::tree::{Advance, Advances, Tree, Whole};
use super::window::{Span, instant};

/// What is locked together of one agent, or of the organization itself: their rates, and
/// the limits on them.
#[derive(Debug, Default)]
pub(crate) struct Group {
    lock: Mutex<Pacers>,
}

/// A lock of a group is held.
pub(crate) type Held<'a> = MutexGuard<'a, Pacers>;

impl Group {
    pub(crate) fn lock(&self) -> Held<'_> {
        self.lock.lock()
    }
}

/// What is held while a counter is read or written.
pub(crate) trait Locked {}

impl Locked for Held<'_> {}

/// What a cell belongs to is locked: its tree as a whole, or its group.
pub(crate) struct Home<'a> {
    _tree: Option<Whole<'a>>,
    _group: Option<Held<'a>>,
}

impl Locked for Home<'_> {}

/// A number of 128 bits in two halves: whole because its group is locked.
#[derive(Debug, Default)]
pub(crate) struct Wide {
    low: AtomicU64,
    high: AtomicU64,
}

const HALF: u32 = u64::BITS;

impl Wide {
    pub(crate) fn new(value: i128) -> Self {
        let wide = Self::default();
        wide.set(value);
        wide
    }

    pub(crate) fn get(&self) -> i128 {
        let low = u128::from(self.low.load(Ordering::Relaxed));
        let high = u128::from(self.high.load(Ordering::Relaxed));
        (high << HALF | low).cast_signed()
    }

    pub(crate) fn set(&self, value: i128) {
        let bits = value.cast_unsigned();
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
        self.low.store(half(bits), Ordering::Relaxed);
        self.high.store(half(bits >> HALF), Ordering::Relaxed);
    }

    fn add(&self, amount: i128) {
        self.set(self.get().saturating_add(amount));
    }
}

/// One counter. See the module's documentation. Its fields lie in this order, of which the
/// first four are one line with the two counts that an `Arc` keeps before them, where the
/// allocator gives out whole lines, as the program's does.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Cell {
    start: AtomicI64,
    end: AtomicI64,
    /// Settled and reserved.
    taken: Wide,
    subject: Subject,
    /// The tree of delegations that it belongs to, unless it is of an agent or of the
    /// organization: then its subject has the group.
    tree: Option<Arc<Tree>>,
    tally: Tally,
    rare: Mutex<Option<Box<Rare>>>,
}

/// What few cells have.
#[derive(Debug, Default)]
struct Rare {
    /// Where it stood before, when something was taken there: that may still become
    /// durable, and a clock that was ahead comes back to it.
    beside: Option<Other>,
    /// What is set aside for each part of its tree: part of what is taken in the present
    /// window.
    advances: Option<Advances>,
}

/// A window that is not the present one.
#[derive(Debug)]
struct Other {
    span: Span,
    taken: Wide,
    tally: Tally,
}

/// What is known of a window beside what is taken of it. Whole because the cell's group
/// is locked.
#[derive(Debug, Default)]
struct Tally {
    /// Settled.
    used: Wide,
    /// Settled, or reserved for good: what thresholds are about.
    kept: Wide,
    /// A bit for each threshold that was reached.
    reached: AtomicU8,
}

impl Tally {
    /// So much is settled.
    fn settled(used: i128) -> Self {
        Self {
            used: Wide::new(used),
            kept: Wide::new(used),
            reached: AtomicU8::new(0),
        }
    }

    /// Puts another in its place, and gives what it held.
    fn replace(&self, other: &Self) -> Self {
        let held = Self {
            used: Wide::new(self.used.get()),
            kept: Wide::new(self.kept.get()),
            reached: AtomicU8::new(self.reached.load(Ordering::Relaxed)),
        };
        self.used.set(other.used.get());
        self.kept.set(other.kept.get());
        let reached = other.reached.load(Ordering::Relaxed);
        self.reached.store(reached, Ordering::Relaxed);
        held
    }
}

/// What a cell says to an amount that is not within the quiet range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Fits,
    /// Granted beyond the limit.
    Over,
    Refused,
    /// It cannot be counted.
    Full,
}

/// What a cell holds, read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) span: Span,
    pub(crate) taken: i128,
    pub(crate) used: i128,
}

impl Cell {
    /// A cell that stands in this window.
    pub(crate) fn new(subject: Subject, tree: Option<Arc<Tree>>, span: Span, used: i128) -> Self {
        Self {
            start: AtomicI64::new(span.start),
            end: AtomicI64::new(span.end),
            taken: Wide::new(used),
            subject,
            tree,
            tally: Tally::settled(used),
            rare: Mutex::default(),
        }
    }

    pub(crate) fn rule(&self) -> &Rule {
        match &self.subject {
            Subject::Budget { rule, .. } => rule,
            Subject::Set(set) => &set.rule,
        }
    }

    /// The limit that was set; `None` when it counts a link's budget.
    pub(crate) fn limit(&self) -> Option<&Arc<Limit>> {
        match &self.subject {
            Subject::Budget { .. } => None,
            Subject::Set(set) => Some(&set.limit),
        }
    }

    /// Whose use it counts.
    pub(crate) fn scope(&self) -> LimitScope {
        let (link, holder) = match &self.subject {
            Subject::Budget { link, .. } => (link.id, &link.delegatee),
            Subject::Set(set) => match &set.limit.scope {
                Scope::Organization => return LimitScope::Organization,
                Scope::Agent(name) => return LimitScope::Agent(name.clone()),
                Scope::Delegation { link, holder, .. } => (*link, holder),
            },
        };
        LimitScope::Delegation {
            link,
            holder: holder.clone(),
        }
    }

    /// Which of those that refuse is named: a delegation before the agent, and both before
    /// the organization.
    pub(crate) fn rank(&self) -> u8 {
        match &self.subject {
            Subject::Budget { .. } => 0,
            Subject::Set(set) => match &set.limit.scope {
                Scope::Delegation { .. } => 0,
                Scope::Agent(_) => 1,
                Scope::Organization => 2,
            },
        }
    }

    fn reference(&self) -> LimitRef {
        match &self.subject {
            Subject::Budget { link, .. } => LimitRef::Budget(link.id),
            Subject::Set(set) => LimitRef::Set(set.limit.id),
        }
    }

    /// Locks what it belongs to.
    pub(crate) fn lock(&self) -> Home<'_> {
        let group = match &self.subject {
            Subject::Budget { .. } => None,
            Subject::Set(set) => set.group.as_ref(),
        };
        Home {
            _tree: self.tree.as_ref().map(|tree| tree.lock()),
            _group: group.map(|group| group.lock()),
        }
    }

    /// Whether it belongs to this tree.
    pub(super) fn is_of(&self, tree: &Arc<Tree>) -> bool {
        self.tree.as_ref().is_some_and(|own| Arc::ptr_eq(own, tree))
    }

    /// What is set aside of it for each part of its tree.
    pub(super) fn advances(&self, tree: &Whole<'_>) -> Advances {
        let mut rare = self.rare.lock();
        let rare = rare.get_or_insert_default();
        rare.advances
            .get_or_insert_with(|| Advances::of(tree))
            .clone()
    }

    /// Sets more of the present window aside for one of so many parts, as long as there is
    /// much: half of what is left is shared out, so that the other half answers for
    /// what the parts do not have.
    pub(super) fn set_aside(&self, tree: &Whole<'_>, advance: &Advance, at: i64) {
        let span = self.present();
        if !span.contains(at) {
            return;
        }
        let taken = self.taken.get();
        let free = match self.rule().on_exceed {
            OnExceed::NotifyOnly => i128::MAX.saturating_sub(taken),
            OnExceed::AllowWithOverage | OnExceed::Block => self.rule().quiet.saturating_sub(taken),
        };
        let parts = i128::try_from(tree.len()).unwrap_or(i128::MAX);
        let amount = free.checked_div(parts.saturating_mul(2)).unwrap_or(0);
        let most = i64::MAX / 4 - advance.left();
        let amount = i64::try_from(amount).unwrap_or(i64::MAX).min(most);
        if amount > 0 {
            self.taken.add(i128::from(amount));
            advance.add(tree, span, amount);
        }
    }

    /// So much of what is taken in the present window is only set aside.
    pub(super) fn aside(&self) -> i128 {
        let rare = self.rare.lock();
        let advances = rare.as_ref().and_then(|rare| rare.advances.as_ref());
        advances.map_or(0, Advances::sum)
    }

    /// Takes back what is set aside, so that what is taken was given to somebody.
    fn call_in(&self) {
        let rare = self.rare.lock();
        if let Some(advances) = rare.as_ref().and_then(|rare| rare.advances.as_ref()) {
            let aside = advances.call_in();
            self.taken.set(self.taken.get().saturating_sub(aside));
        }
    }

    fn present(&self) -> Span {
        Span {
            start: self.start.load(Ordering::Relaxed),
            end: self.end.load(Ordering::Relaxed),
        }
    }

    /// Shows what is taken and known of the window of an instant.
    fn window<T>(&self, at: i64, show: impl FnOnce(Span, &Wide, &Tally) -> T) -> Option<T> {
        if self.present().contains(at) {
            return Some(show(self.present(), &self.taken, &self.tally));
        }
        let rare = self.rare.lock();
        let beside = rare.as_deref().and_then(|rare| rare.beside.as_ref());
        let other = beside.filter(|other| other.span.contains(at))?;
        Some(show(other.span, &other.taken, &other.tally))
    }

    fn knows(&self, at: i64) -> bool {
        self.window(at, |_, _, _| ()).is_some()
    }

    /// Whether the amount is granted without a second look.
    #[inline]
    pub(crate) fn quiet(&self, _: &impl Locked, now: i64, amount: i128) -> bool {
        self.present().contains(now)
            && self
                .taken
                .get()
                .checked_add(amount)
                .is_some_and(|sum| sum <= self.rule().quiet)
    }

    /// Counts an amount that was found to fit.
    #[inline]
    pub(crate) fn take(&self, _: &impl Locked, amount: i128) {
        self.taken.add(amount);
    }

    /// The instant that a call of this one counts at: itself, or the start of the present
    /// window where the clock stepped back before it, to where nothing is known of.
    pub(crate) fn counts_at(&self, _: &impl Locked, at: i64) -> i64 {
        let start = self.start.load(Ordering::Relaxed);
        if at >= start || self.knows(at) {
            return at;
        }
        start
    }

    /// Goes to the window of `at`: to a later one, or back to the one it stood in before.
    pub(crate) fn roll(&self, _: &impl Locked, at: i64) {
        let present = self.present();
        if present.contains(at) {
            return;
        }
        self.call_in();
        let mut rare = self.rare.lock();
        let mut beside = rare.as_mut().and_then(|rare| rare.beside.take());
        let next = match beside.take() {
            Some(other) if other.span.contains(at) => other,
            other if at < present.start => {
                if let Some(rare) = rare.as_mut() {
                    rare.beside = other;
                }
                return;
            }
            other => {
                // What lies ahead was counted by a clock that was ahead.
                beside = other.filter(|other| other.span.start > at);
                Other {
                    span: self.rule().span(at),
                    taken: Wide::default(),
                    tally: Tally::default(),
                }
            }
        };
        let left = Other {
            span: present,
            taken: Wide::new(self.taken.get()),
            tally: self.tally.replace(&next.tally),
        };
        self.start.store(next.span.start, Ordering::Relaxed);
        self.end.store(next.span.end, Ordering::Relaxed);
        self.taken.set(next.taken.get());
        if beside.is_none() && left.taken.get() > 0 {
            beside = Some(left);
        }
        if beside.is_some() {
            rare.get_or_insert_default().beside = beside;
        }
    }

    /// What becomes of an amount in the present window.
    pub(crate) fn judge(&self, held: &impl Locked, amount: i128) -> Answer {
        // What fits with all that is set aside needs none of it back: whoever is refused
        // elsewhere takes nothing from the parts of others.
        if self.quiet(held, self.present().start, amount) {
            return Answer::Fits;
        }
        self.call_in();
        let Some(sum) = self.taken.get().checked_add(amount) else {
            return Answer::Full;
        };
        if sum <= self.rule().quiet {
            return Answer::Fits;
        }
        match self.rule().on_exceed {
            OnExceed::NotifyOnly => Answer::Fits,
            OnExceed::AllowWithOverage => Answer::Over,
            OnExceed::Block if sum <= self.rule().ceiling => Answer::Over,
            OnExceed::Block => Answer::Refused,
        }
    }

    /// Whether the amount would fit an empty window.
    pub(crate) fn ever_fits(&self, amount: i128) -> bool {
        amount <= self.rule().ceiling
    }

    /// Whether the instant lies in the present window.
    pub(crate) fn stands_at(&self, _: &impl Locked, at: i64) -> bool {
        self.present().contains(at)
    }

    /// Counts what was reserved at an instant, unless nothing is known of its window any
    /// more: `kept` of it for good, and `used` of that is settled.
    pub(crate) fn count(&self, held: &impl Locked, at: i64, taken: i128, kept: i128, used: i128) {
        self.reach(held, at);
        self.window(at, |_, sum, tally| {
            sum.add(taken);
            tally.kept.add(kept);
            tally.used.add(used);
        });
    }

    /// Makes the window of an instant known, when that is a later one.
    fn reach(&self, held: &impl Locked, at: i64) {
        if !self.knows(at) {
            self.roll(held, at);
        }
    }

    /// What was taken at an instant is reserved for good.
    pub(crate) fn keep(&self, _: &impl Locked, at: i64, amount: i128) {
        self.window(at, |_, _, tally| tally.kept.add(amount));
    }

    /// Ends a reservation of an instant: what it took is given back, `kept` of it was
    /// for good, and what was used of it counts.
    pub(crate) fn close(&self, held: &impl Locked, at: i64, taken: i128, kept: i128, used: i128) {
        self.reach(held, at);
        self.give_back(held, at, taken);
        self.window(at, |_, sum, tally| {
            sum.add(used);
            let left = tally.kept.get().saturating_sub(kept);
            tally.kept.set(left.saturating_add(used));
            tally.used.add(used);
        });
    }

    /// Gives back what was reserved at an instant, when its window is still known.
    pub(crate) fn give_back(&self, _: &impl Locked, at: i64, amount: i128) {
        self.window(at, |_, sum, _| {
            sum.set(sum.get().saturating_sub(amount).max(0));
        });
    }

    /// What it holds at an instant: of the window of then, or of the present one where
    /// that is later and nothing is known of the other.
    pub(crate) fn read(&self, _: &impl Locked, now: i64) -> Count {
        let present = self.present();
        let count = |span, sum: &Wide, tally: &Tally| Count {
            span,
            taken: sum.get(),
            used: tally.used.get(),
        };
        let given = |count: Count| Count {
            taken: count.taken.saturating_sub(self.aside()),
            ..count
        };
        if let Some(known) = self.window(now, count) {
            return if known.span == present {
                given(known)
            } else {
                known
            };
        }
        if now < present.start {
            return given(count(present, &self.taken, &self.tally));
        }
        count(self.rule().span(now), &Wide::default(), &Tally::default())
    }

    /// The thresholds that what is kept of the window of an instant reached since this
    /// was asked last.
    pub(crate) fn crossings(
        &self,
        _: &impl Locked,
        at: i64,
        org: OrgId,
        agent: Option<&PrincipalName>,
        found: &mut Vec<Crossing>,
    ) {
        let rule = self.rule();
        self.window(at, |span, _, tally| {
            let kept = tally.kept.get();
            if kept <= 0 {
                return;
            }
            for (index, threshold) in rule.thresholds.iter().enumerate() {
                let bit = 1_u8.rotate_left(u32::try_from(index).unwrap_or(0));
                let reached = is_part_reached(kept, *threshold, rule.quiet);
                if !reached || tally.reached.load(Ordering::Relaxed) & bit != 0 {
                    continue;
                }
                tally.reached.fetch_or(bit, Ordering::Relaxed);
                found.push(Crossing {
                    org,
                    limit: self.reference(),
                    scope: self.scope(),
                    event: rule.event.as_ref().map(|event| event.name().to_owned()),
                    threshold: *threshold,
                    window_start: (span.start != i64::MIN).then(|| instant(span.start)),
                    most: rule.most,
                    taken: rule.measure.quantity(kept).unwrap_or(rule.most),
                    agent: agent.cloned(),
                });
            }
        });
    }

    /// The same of the present window.
    pub(crate) fn present_crossings(
        &self,
        held: &impl Locked,
        org: OrgId,
        found: &mut Vec<Crossing>,
    ) {
        self.crossings(held, self.present().start, org, None, found);
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// With the two counts that an `Arc` keeps before it.
    #[test]
    fn a_counter_takes_two_cache_lines_and_the_first_is_what_decides() {
        let counts = 2 * size_of::<usize>();
        assert_eq!(size_of::<Cell>() + counts, 128);
        assert_eq!(offset_of!(Cell, tree) + counts, 64);
    }
}
