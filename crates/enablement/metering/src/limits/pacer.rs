//! One caller's pace, under the lock of its group.

use std::time::Duration;

use creto_authz::LimitScope;

use super::cell::{Held, Wide};
use crate::rate::{Pace, RateLimit};

/// The state of one rate. Setting a rate anew makes a new one, which takes over how
/// far ahead the calls are.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// [`Pace::expected`], which stays far below 2^127.
    expected: Wide,
    rate: RateLimit,
    scope: LimitScope,
}

impl Pacer {
    pub(crate) fn new(rate: RateLimit, scope: LimitScope, pace: Pace) -> Self {
        let expected = i128::try_from(pace.ticks()).unwrap_or(i128::MAX);
        Self {
            expected: Wide::new(expected),
            rate,
            scope,
        }
    }

    pub(crate) const fn rate(&self) -> &RateLimit {
        &self.rate
    }

    pub(crate) const fn scope(&self) -> &LimitScope {
        &self.scope
    }

    pub(crate) fn pace(&self, _: &Held<'_>) -> Pace {
        Pace::from_ticks(self.expected.get().cast_unsigned())
    }

    /// Whether a call now is in time.
    #[inline]
    pub(crate) fn in_time(&self, held: &Held<'_>, now: u64) -> bool {
        self.rate.in_time(self.pace(held), now)
    }

    /// How long until a call is in time.
    pub(crate) fn wait(&self, held: &Held<'_>, now: u64) -> Option<Duration> {
        self.rate
            .call(self.pace(held), Duration::from_nanos(now))
            .err()
    }

    /// Counts a call now that was found to be in time.
    #[inline]
    pub(crate) fn count(&self, held: &Held<'_>, now: u64) {
        let next = self.rate.after(self.pace(held), now);
        self.expected
            .set(i128::try_from(next.ticks()).unwrap_or(i128::MAX));
    }
}
