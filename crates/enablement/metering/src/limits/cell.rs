//! One counter.
//!
//! What a decision reads and writes of it is one cache line: the window it stands
//! in, what is taken of it, and by which rule, which tells where the quiet range ends.
//! Everything else is looked at only when a call leaves that range.
//!
//! The line is written under the lock of the cell's [`Group`] alone, and read for
//! decisions under it too; the atomics make that safe to say without a lock of its
//! own in every cell. One decision takes at most three groups, always in the order
//! tree, agent, organization.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use creto_authz::{LimitScope, Near, prefetch};
use creto_types::{OrgId, PrincipalName};
use parking_lot::{Mutex, MutexGuard};

use super::model::{Crossing, Limit, LimitRef, OnExceed, Scope, is_part_reached};
use super::pacer::Pacers;
use super::rule::{Rule, Subject};
use super::window::{Span, instant};

/// What is locked together: all cells of one tree of delegations, of one agent, or
/// of the organization itself. The latter two have rates.
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

impl Near for Group {
    fn prefetch(&self) {
        prefetch(self);
    }
}

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
    group: Arc<Group>,
    tally: Tally,
    /// Where it stood before, when something was taken there: that may still become
    /// durable, and a clock that was ahead comes back to it.
    beside: Mutex<Option<Box<Other>>>,
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) span: Span,
    pub(crate) taken: i128,
    pub(crate) used: i128,
}

impl Cell {
    /// A cell that stands in this window.
    pub(crate) fn new(subject: Subject, group: Arc<Group>, span: Span, used: i128) -> Self {
        Self {
            start: AtomicI64::new(span.start),
            end: AtomicI64::new(span.end),
            taken: Wide::new(used),
            subject,
            group,
            tally: Tally::settled(used),
            beside: Mutex::default(),
        }
    }

    pub(crate) fn rule(&self) -> &Rule {
        match &self.subject {
            Subject::Budget { rule, .. } => rule,
            Subject::Set(set) => &set.0,
        }
    }

    /// The limit that was set; `None` when it counts a link's budget.
    pub(crate) fn limit(&self) -> Option<&Arc<Limit>> {
        match &self.subject {
            Subject::Budget { .. } => None,
            Subject::Set(set) => Some(&set.1),
        }
    }

    /// Whose use it counts.
    pub(crate) fn scope(&self) -> LimitScope {
        let (link, holder) = match &self.subject {
            Subject::Budget { link, .. } => (link.id, &link.delegatee),
            Subject::Set(set) => match &set.1.scope {
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
            Subject::Set(set) => match &set.1.scope {
                Scope::Delegation { .. } => 0,
                Scope::Agent(_) => 1,
                Scope::Organization => 2,
            },
        }
    }

    fn reference(&self) -> LimitRef {
        match &self.subject {
            Subject::Budget { link, .. } => LimitRef::Budget(link.id),
            Subject::Set(set) => LimitRef::Set(set.1.id),
        }
    }

    pub(crate) const fn group(&self) -> &Arc<Group> {
        &self.group
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
        let beside = self.beside.lock();
        let other = beside.as_deref().filter(|other| other.span.contains(at))?;
        Some(show(other.span, &other.taken, &other.tally))
    }

    fn knows(&self, at: i64) -> bool {
        self.window(at, |_, _, _| ()).is_some()
    }

    /// Whether the amount is granted without a second look.
    #[inline]
    pub(crate) fn quiet(&self, _: &Held<'_>, now: i64, amount: i128) -> bool {
        self.present().contains(now)
            && self
                .taken
                .get()
                .checked_add(amount)
                .is_some_and(|sum| sum <= self.rule().quiet)
    }

    /// Counts an amount that was found to fit.
    #[inline]
    pub(crate) fn take(&self, _: &Held<'_>, amount: i128) {
        self.taken.add(amount);
    }

    /// The instant that a call of this one counts at: itself, or the start of the present
    /// window where the clock stepped back before it, to where nothing is known of.
    pub(crate) fn counts_at(&self, _: &Held<'_>, at: i64) -> i64 {
        let start = self.start.load(Ordering::Relaxed);
        if at >= start || self.knows(at) {
            return at;
        }
        start
    }

    /// Goes to the window of `at`: to a later one, or back to the one it stood in before.
    pub(crate) fn roll(&self, _: &Held<'_>, at: i64) {
        let present = self.present();
        if present.contains(at) {
            return;
        }
        let mut beside = self.beside.lock();
        let next = match beside.take() {
            Some(other) if other.span.contains(at) => *other,
            other if at < present.start => return *beside = other,
            other => {
                // What lies ahead was counted by a clock that was ahead.
                *beside = other.filter(|other| other.span.start > at);
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
            *beside = Some(Box::new(left));
        }
    }

    /// What becomes of an amount in the present window.
    pub(crate) fn judge(&self, _: &Held<'_>, amount: i128) -> Answer {
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
    pub(crate) fn stands_at(&self, _: &Held<'_>, at: i64) -> bool {
        self.present().contains(at)
    }

    /// Counts what was reserved at an instant, unless nothing is known of its window any
    /// more: `kept` of it for good, and `used` of that is settled.
    pub(crate) fn count(&self, held: &Held<'_>, at: i64, taken: i128, kept: i128, used: i128) {
        self.reach(held, at);
        self.window(at, |_, sum, tally| {
            sum.add(taken);
            tally.kept.add(kept);
            tally.used.add(used);
        });
    }

    /// Makes the window of an instant known, when that is a later one.
    fn reach(&self, held: &Held<'_>, at: i64) {
        if !self.knows(at) {
            self.roll(held, at);
        }
    }

    /// What was taken at an instant is reserved for good.
    pub(crate) fn keep(&self, _: &Held<'_>, at: i64, amount: i128) {
        self.window(at, |_, _, tally| tally.kept.add(amount));
    }

    /// Ends a reservation of an instant: what it took is given back, `kept` of it was
    /// for good, and what was used of it counts.
    pub(crate) fn close(&self, held: &Held<'_>, at: i64, taken: i128, kept: i128, used: i128) {
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
    pub(crate) fn give_back(&self, _: &Held<'_>, at: i64, amount: i128) {
        self.window(at, |_, sum, _| {
            sum.set(sum.get().saturating_sub(amount).max(0));
        });
    }

    /// What it holds at an instant: of the window of then, or of the present one where
    /// that is later and nothing is known of the other.
    pub(crate) fn read(&self, _: &Held<'_>, now: i64) -> Count {
        let count = |span, sum: &Wide, tally: &Tally| Count {
            span,
            taken: sum.get(),
            used: tally.used.get(),
        };
        if let Some(known) = self.window(now, count) {
            return known;
        }
        let present = self.present();
        if now < present.start {
            return count(present, &self.taken, &self.tally);
        }
        count(self.rule().span(now), &Wide::default(), &Tally::default())
    }

    /// The thresholds that what is kept of the window of an instant reached since this
    /// was asked last.
    pub(crate) fn crossings(
        &self,
        _: &Held<'_>,
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
    pub(crate) fn present_crossings(&self, held: &Held<'_>, org: OrgId, found: &mut Vec<Crossing>) {
        self.crossings(held, self.present().start, org, None, found);
    }
}

impl Near for Cell {
    fn prefetch(&self) {
        prefetch(&self.start);
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
        assert_eq!(offset_of!(Cell, group) + counts, 64);
    }
}
