//! How often an agent may call: GCRA, the generic cell rate algorithm.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Calls that may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Calls a second in the long run.
    pub per_second: NonZeroU32,
    /// Calls that may come at once after a pause.
    pub burst: NonZeroU32,
}

/// Nanoseconds in a second: the time between two calls, in ticks.
const SECOND: u128 = 1_000_000_000;

/// One agent's state: when the next call is expected, in ticks.
///
/// A tick is a nanosecond divided by `per_second`, so that the time between two
/// calls is a whole number of ticks ([`SECOND`]) at every rate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Its low and its high half: a number of 128 bits would have to lie on every
    /// sixteenth byte.
    expected: [u64; 2],
}

impl Pace {
    const fn new(expected: u128) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
        let low = expected as u64;
        Self {
            expected: [low, (expected >> u64::BITS) as u64],
        }
    }

    const fn expected(self) -> u128 {
        let [low, high] = self.expected;
        (high as u128) << u64::BITS | low as u128
    }
}

impl RateLimit {
    /// So many times as often.
    pub(crate) const fn times(self, factor: NonZeroU32) -> Self {
        Self {
            per_second: self.per_second.saturating_mul(factor),
            burst: self.burst.saturating_mul(factor),
        }
    }

    /// An instant in ticks: less than 2^96.
    const fn ticks(&self, now: u64) -> u128 {
        now as u128 * self.per_second.get() as u128
    }

    /// How far ahead of the pace a call may come, in ticks.
    const fn tolerance(&self) -> u128 {
        (self.burst.get() - 1) as u128 * SECOND
    }

    /// Whether a call at this nanosecond is in time.
    #[inline]
    pub(crate) const fn in_time(&self, pace: Pace, now: u64) -> bool {
        pace.expected() <= self.ticks(now) + self.tolerance()
    }

    /// The state after a call at this nanosecond.
    #[inline]
    pub(crate) fn after(&self, pace: Pace, now: u64) -> Pace {
        Pace::new(pace.expected().max(self.ticks(now)) + SECOND)
    }

    /// The state after a call now, or how long to wait before one.
    pub(crate) fn call(&self, pace: Pace, now: Duration) -> Result<Pace, Duration> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        if self.in_time(pace, now) {
            return Ok(self.after(pace, now));
        }
        let early = pace.expected() - self.ticks(now) - self.tolerance();
        let nanos = early.div_ceil(u128::from(self.per_second.get()));
        Err(Duration::from_nanos(
            u64::try_from(nanos).unwrap_or(u64::MAX),
        ))
    }

    /// What a pace under another rate is under this one: as far ahead in time, and
    /// at most as far as this rate lets calls run ahead.
    pub(crate) fn taken_over(&self, pace: Pace, from: &Self, now: u64) -> Pace {
        let nanos = pace.expected().div_ceil(u128::from(from.per_second.get()));
        let same_instant = nanos * u128::from(self.per_second.get());
        let most = self.ticks(now) + self.tolerance() + SECOND;
        Pace::new(same_instant.min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(per_second: u32, burst: u32) -> RateLimit {
        RateLimit {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    #[test]
    fn a_burst_then_the_pace() {
        let limit = limit(2, 3);
        let mut pace = Pace::default();
        for _ in 0..3 {
            pace = limit.call(pace, Duration::from_secs(7)).unwrap();
        }
        assert_eq!(
            limit.call(pace, Duration::from_secs(7)).unwrap_err(),
            Duration::from_millis(500)
        );
        assert!(limit.call(pace, Duration::from_millis(7_500)).is_ok());
    }

    proptest! {
        #[test]
        fn the_wait_is_exact(per_second in 1_u32..10_000, burst in 1_u32..20,
            gaps in proptest::collection::vec(0_u64..2_000_000, 1..80)) {
            let limit = limit(per_second, burst);
            let mut pace = Pace::default();
            let mut now = Duration::ZERO;
            for gap in gaps {
                now += Duration::from_nanos(gap);
                match limit.call(pace, now) {
                    Ok(next) => pace = next,
                    Err(wait) => {
                        prop_assert!(limit.call(pace, now + wait).is_ok());
                        prop_assert!(limit.call(pace, now + wait - Duration::from_nanos(1)).is_err());
                    }
                }
            }
        }

        /// A rate that is set anew is at most used up, and never forgets a call that
        /// still counts.
        #[test]
        fn a_new_rate_takes_over(before in (1_u32..1_000, 1_u32..50),
            after in (1_u32..1_000, 1_u32..50), calls in 0_u32..60) {
            let (old, new) = (limit(before.0, before.1), limit(after.0, after.1));
            let now = 9_000_000_000;
            let mut pace = Pace::default();
            for _ in 0..calls {
                if let Ok(next) = old.call(pace, Duration::from_nanos(now)) {
                    pace = next;
                }
            }
            let mut taken = new.taken_over(pace, &old, now);
            if let Err(wait) = new.call(taken, Duration::from_nanos(now)) {
                prop_assert!(wait <= Duration::from_secs(1), "one call's time at most");
            }
            let mut passed = 0;
            while let Ok(next) = new.call(taken, Duration::from_nanos(now)) {
                taken = next;
                passed += 1;
            }
            prop_assert!(passed <= after.1);
            if calls == 0 {
                prop_assert_eq!(passed, after.1);
            }
        }

        #[test]
        fn no_more_than_burst_and_pace(per_second in 1_u32..1_000, burst in 1_u32..20) {
            let limit = limit(per_second, burst);
            let mut pace = Pace::default();
            let mut passed = 0_u64;
            // One second of a call every 100 microseconds.
            for step in 0..10_000_u64 {
                if let Ok(next) = limit.call(pace, Duration::from_micros(step * 100)) {
                    pace = next;
                    passed += 1;
                }
            }
            prop_assert!(passed <= u64::from(burst) + u64::from(per_second));
            // Each call comes at most one step later than it might.
            let slowest = 1_000_000_000 / u64::from(per_second) + 100_001;
            prop_assert!((passed + 1) * slowest >= 1_000_000_000);
        }
    }
}
