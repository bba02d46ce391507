//! How often an agent may call: GCRA, the generic cell rate algorithm.

use std::num::NonZeroU32;
use std::time::Duration;

/// Calls an agent may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    expected: u128,
}

impl RateLimit {
    /// So many times as often.
    pub(crate) const fn times(self, factor: NonZeroU32) -> Self {
        Self {
            per_second: self.per_second.saturating_mul(factor),
            burst: self.burst.saturating_mul(factor),
        }
    }

    /// The state after a call now, or how long to wait before one.
    pub(crate) fn call(&self, pace: Pace, now: Duration) -> Result<Pace, Duration> {
        let per_second = u128::from(self.per_second.get());
        let now = now.as_nanos().saturating_mul(per_second);
        let tolerance = u128::from(self.burst.get() - 1) * SECOND;
        let expected = pace.expected.max(now);
        let early = (expected - now).saturating_sub(tolerance);
        if early > 0 {
            let nanos = early.div_ceil(per_second);
            return Err(Duration::from_nanos(
                u64::try_from(nanos).unwrap_or(u64::MAX),
            ));
        }
        Ok(Pace {
            expected: expected + SECOND,
        })
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
