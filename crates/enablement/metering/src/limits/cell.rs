//! One counter.
//!
//! What a decision reads and writes of it is one cache line: the window it stands
//! in, what is taken of it, and where the quiet range ends. Everything else is
//! looked at only when a call leaves that range.
//!
//! The line is written under the lock of the cell's [`Group`] alone, and read for
//! decisions under it too; the atomics make that safe to say without a lock of its
//! own in every cell. One decision takes at most three groups, always in the order
//! tree, agent, organization.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use creto_authz::{Action, LimitScope};
use creto_nhi::DelegationLink;
use creto_types::{Currency, OrgId, PrincipalName, Quantity};
use parking_lot::{Mutex, MutexGuard};

use super::model::{DEFAULT_THRESHOLDS, Limit, LimitRef, OnExceed, Scope, is_money};
use super::pacer::Pacers;
use super::window::{Calendar, Span, instant};
use crate::amount::Amount;
use crate::error::MeteringError;
use crate::limits::model::{Crossing, invalid, is_part_reached};

/// What is locked together: all cells of one tree of delegations, of one agent, or
/// of the organization itself. The latter two have rates.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Group {
    lock: Mutex<Pacers>,
}

/// A lock of a group is held.
pub(crate) type Held<'a> = MutexGuard<'a, Pacers>;

impl Group {
    pub(crate) fn lock(&self) -> Held<'_> {
        self.lock.lock()
    }

    /// Reads its line without need.
    #[inline]
    pub(crate) fn glance(&self) -> bool {
        self.lock.is_locked()
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
}

/// What a cell counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Billionths of this currency's unit.
    Money(Currency),
    Units,
}

impl Measure {
    /// As much of this measure as a limit allows.
    pub(crate) fn of(quantity: &Quantity) -> Option<(Self, i128)> {
        match quantity {
            Quantity::Money(money) => {
                let most = Amount::floor(money)?.billionths();
                Some((Self::Money(money.currency()), most))
            }
            Quantity::Units(units) => Some((Self::Units, i128::from(*units))),
        }
    }

    /// For people and the wire. `None` beyond what money can express.
    pub(crate) fn quantity(self, count: i128) -> Option<Quantity> {
        match self {
            Self::Money(currency) => {
                let money = Amount::of_billionths(count).money(currency).ok()?;
                Some(Quantity::Money(money))
            }
            Self::Units => {
                let units = u64::try_from(count.max(0)).unwrap_or(u64::MAX);
                Some(Quantity::Units(units.min(Quantity::MAX_UNITS)))
            }
        }
    }
}

/// What does not change while the cell lives. Setting a limit anew makes a new cell.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) measure: Measure,
    /// Only this action counts.
    pub(crate) event: Option<Action>,
    pub(crate) most: Quantity,
    pub(crate) on_exceed: OnExceed,
    /// The limit and the grace; calls above it are refused by a blocking limit.
    ceiling: i128,
    calendar: Calendar,
    thresholds: Box<[u8]>,
    pub(crate) subject: Subject,
}

/// Which limit it is.
#[derive(Debug)]
pub(crate) enum Subject {
    /// The budget signed into a link.
    Budget(Arc<DelegationLink>),
    /// One that was set.
    Set(Arc<Limit>),
}

impl Rule {
    pub(crate) fn budget(link: &Arc<DelegationLink>) -> Option<Self> {
        let budget = link.budget.as_ref()?;
        let (measure, ceiling) = Measure::of(&budget.limit)?;
        Some(Self {
            measure,
            event: None,
            most: budget.limit,
            on_exceed: OnExceed::Block,
            ceiling,
            calendar: Calendar::of(budget.period),
            thresholds: DEFAULT_THRESHOLDS.into(),
            subject: Subject::Budget(Arc::clone(link)),
        })
    }

    pub(crate) fn set(limit: Arc<Limit>) -> Result<Self, MeteringError> {
        let calendar = Calendar::new(limit.window, &limit.time_zone)
            .map_err(|_| invalid("time_zone", "is not a time zone this build knows"))?;
        let out_of_range = || MeteringError::Money(creto_types::MoneyError::Overflow);
        let (measure, most) = Measure::of(&limit.limit).ok_or_else(out_of_range)?;
        let grace = match &limit.grace {
            Some(grace) => Measure::of(grace).ok_or_else(out_of_range)?.1,
            None => 0,
        };
        Ok(Self {
            measure,
            event: limit.event.as_deref().map(Action::named),
            most: limit.limit,
            on_exceed: limit.on_exceed,
            ceiling: most.saturating_add(grace),
            calendar,
            thresholds: limit.thresholds.clone().into(),
            subject: Subject::Set(limit),
        })
    }

    pub(crate) fn is_money(&self) -> bool {
        is_money(&self.most)
    }

    /// What an amount and units are to this rule.
    pub(crate) fn share(&self, cost: i128, units: u64) -> i128 {
        if self.is_money() {
            cost
        } else {
            i128::from(units)
        }
    }

    pub(crate) fn scope(&self) -> LimitScope {
        match &self.subject {
            Subject::Budget(link) => LimitScope::Delegation {
                link: link.id,
                holder: link.delegatee.clone(),
            },
            Subject::Set(limit) => match &limit.scope {
                Scope::Organization => LimitScope::Organization,
                Scope::Agent(name) => LimitScope::Agent(name.clone()),
                Scope::Delegation { link, holder, .. } => LimitScope::Delegation {
                    link: *link,
                    holder: holder.clone(),
                },
            },
        }
    }

    fn reference(&self) -> LimitRef {
        match &self.subject {
            Subject::Budget(link) => LimitRef::Budget(link.id),
            Subject::Set(limit) => LimitRef::Set(limit.id),
        }
    }

    pub(crate) fn span(&self, at: i64) -> Span {
        self.calendar.span(at)
    }
}

/// One counter. See the module's documentation.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Cell {
    start: AtomicI64,
    end: AtomicI64,
    /// Settled and reserved.
    taken: Wide,
    /// Up to here a call is granted without a second look.
    quiet: Wide,
    // From here on, not of the hot line.
    group: Arc<Group>,
    rule: Rule,
    side: Mutex<Side>,
}

#[derive(Debug, Default)]
struct Side {
    present: Tally,
    /// The window before the present one, when it ended with something taken that may
    /// still become durable.
    before: Option<Box<(Span, Tally)>>,
}

/// What is known of a window beside what is taken of it.
#[derive(Debug, Default)]
struct Tally {
    /// Settled.
    used: i128,
    /// Settled, or reserved for good: what thresholds are about.
    kept: i128,
    /// A bit for each threshold that was reached.
    reached: u8,
}

impl Side {
    /// The window of an instant.
    fn window(&mut self, present: Span, at: i64) -> Option<(Span, &mut Tally)> {
        if present.contains(at) {
            return Some((present, &mut self.present));
        }
        let (span, tally) = self.before.as_deref_mut()?;
        span.contains(at).then_some((*span, tally))
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
    pub(crate) fn new(rule: Rule, group: Arc<Group>, span: Span, used: i128) -> Self {
        let most = Measure::of(&rule.most).map_or(0, |(_, most)| most);
        Self {
            start: AtomicI64::new(span.start),
            end: AtomicI64::new(span.end),
            taken: Wide::new(used),
            quiet: Wide::new(most),
            group,
            rule,
            side: Mutex::new(Side {
                present: Tally {
                    used,
                    kept: used,
                    reached: 0,
                },
                before: None,
            }),
        }
    }

    pub(crate) const fn rule(&self) -> &Rule {
        &self.rule
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

    /// Reads its line without need.
    #[inline]
    pub(crate) fn glance(&self) -> i64 {
        self.start.load(Ordering::Relaxed)
    }

    /// Whether the amount is granted without a second look.
    #[inline]
    pub(crate) fn quiet(&self, _: &Held<'_>, now: i64, amount: i128) -> bool {
        self.present().contains(now)
            && self
                .taken
                .get()
                .checked_add(amount)
                .is_some_and(|sum| sum <= self.quiet.get())
    }

    /// Counts an amount that was found to fit.
    #[inline]
    pub(crate) fn take(&self, _: &Held<'_>, amount: i128) {
        self.taken.set(self.taken.get().saturating_add(amount));
    }

    /// The start of the window it stands in; a clock that stepped back before it
    /// counts there all the same.
    pub(crate) fn start(&self, _: &Held<'_>) -> i64 {
        self.start.load(Ordering::Relaxed)
    }

    /// Goes on to the window of `at`, when that is a later one.
    pub(crate) fn roll(&self, _: &Held<'_>, at: i64) {
        if at < self.end.load(Ordering::Relaxed) {
            return;
        }
        let (over, taken) = (self.present(), self.taken.get());
        let span = self.rule.calendar.span(at);
        self.start.store(span.start, Ordering::Relaxed);
        self.end.store(span.end, Ordering::Relaxed);
        self.taken.set(0);
        let mut side = self.side.lock();
        let tally = std::mem::take(&mut side.present);
        side.before = (taken > tally.kept).then(|| Box::new((over, tally)));
    }

    /// What becomes of an amount in the present window.
    pub(crate) fn judge(&self, _: &Held<'_>, amount: i128) -> Answer {
        let Some(sum) = self.taken.get().checked_add(amount) else {
            return Answer::Full;
        };
        if sum <= self.quiet.get() {
            return Answer::Fits;
        }
        match self.rule.on_exceed {
            OnExceed::AllowWithOverage | OnExceed::NotifyOnly => Answer::Over,
            OnExceed::Block if sum <= self.rule.ceiling => Answer::Over,
            OnExceed::Block => Answer::Refused,
        }
    }

    /// Whether the amount would fit an empty window.
    pub(crate) fn ever_fits(&self, amount: i128) -> bool {
        amount <= self.rule.ceiling
    }

    /// Whether the instant lies in the present window.
    pub(crate) fn stands_at(&self, _: &Held<'_>, at: i64) -> bool {
        self.present().contains(at)
    }

    /// Counts what was reserved at an instant, when that is in the present window or a
    /// later one: `kept` of it for good, and `used` of that is settled.
    pub(crate) fn count(&self, held: &Held<'_>, at: i64, taken: i128, kept: i128, used: i128) {
        self.roll(held, at);
        if !self.present().contains(at) {
            return;
        }
        self.take(held, taken);
        let mut side = self.side.lock();
        side.present.kept = side.present.kept.saturating_add(kept);
        side.present.used = side.present.used.saturating_add(used);
    }

    /// What was taken at an instant is reserved for good.
    pub(crate) fn keep(&self, _: &Held<'_>, at: i64, amount: i128) {
        if let Some((_, tally)) = self.side.lock().window(self.present(), at) {
            tally.kept = tally.kept.saturating_add(amount);
        }
    }

    /// Ends a reservation of an instant: what it took is given back, `kept` of it was
    /// for good, and what was used of it counts.
    pub(crate) fn close(&self, held: &Held<'_>, at: i64, taken: i128, kept: i128, used: i128) {
        self.roll(held, at);
        self.give_back(held, at, taken);
        if self.present().contains(at) {
            self.take(held, used);
        }
        if let Some((_, tally)) = self.side.lock().window(self.present(), at) {
            tally.kept = tally.kept.saturating_sub(kept).saturating_add(used);
            tally.used = tally.used.saturating_add(used);
        }
    }

    /// Gives back what was reserved at an instant, when its window is still the
    /// present one.
    pub(crate) fn give_back(&self, _: &Held<'_>, at: i64, amount: i128) {
        if self.present().contains(at) {
            let left = self.taken.get().saturating_sub(amount);
            self.taken.set(left.max(0));
        }
    }

    /// What it holds at an instant: of the window of then, when that is later.
    pub(crate) fn read(&self, _: &Held<'_>, now: i64) -> Count {
        let span = self.present();
        if now >= span.end {
            return Count {
                span: self.rule.calendar.span(now),
                taken: 0,
                used: 0,
            };
        }
        Count {
            span,
            taken: self.taken.get(),
            used: self.side.lock().present.used,
        }
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
        let rule = &self.rule;
        let Some((_, most)) = Measure::of(&rule.most) else {
            return;
        };
        let mut side = self.side.lock();
        let Some((span, tally)) = side.window(self.present(), at) else {
            return;
        };
        if tally.kept <= 0 {
            return;
        }
        for (index, threshold) in rule.thresholds.iter().enumerate() {
            let bit = 1_u8.rotate_left(u32::try_from(index).unwrap_or(0));
            let reached = is_part_reached(tally.kept, *threshold, most);
            if !reached || tally.reached & bit != 0 {
                continue;
            }
            tally.reached |= bit;
            found.push(Crossing {
                org,
                limit: rule.reference(),
                scope: rule.scope(),
                event: rule.event.as_ref().map(|event| event.name().to_owned()),
                threshold: *threshold,
                window_start: (span.start != i64::MIN).then(|| instant(span.start)),
                most: rule.most,
                taken: rule.measure.quantity(tally.kept).unwrap_or(rule.most),
                agent: agent.cloned(),
            });
        }
    }

    /// The same of the present window.
    pub(crate) fn present_crossings(&self, held: &Held<'_>, org: OrgId, found: &mut Vec<Crossing>) {
        self.crossings(held, self.start(held), org, None, found);
    }
}
