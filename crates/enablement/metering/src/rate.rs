//! How often an agent may call: GCRA, the generic cell rate algorithm.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Calls that may be made: so many in a period in the long run, and a burst at once.
///
/// As JSON, `{"per_second": 5, "burst": 10}`, or `per_minute` or `per_hour` in place of
/// `per_second`. A burst beyond [`RateLimit::MOST_BURST`] is read as that.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct RateLimit {
    calls: NonZeroU32,
    /// The burst above the two bits of the period: eight bytes in all, so that the rates
    /// of an agent lie in one cache line.
    burst_and_period: u32,
}

/// What calls are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatePeriod {
    /// So many a second.
    Second,
    /// So many a minute.
    Minute,
    /// So many an hour.
    Hour,
}

impl RatePeriod {
    /// The one number of calls that is given, of those a second, a minute and an hour;
    /// `None` when there is none or more than one.
    #[must_use]
    pub fn only(calls: [Option<NonZeroU32>; 3]) -> Option<(NonZeroU32, Self)> {
        let periods = [Self::Second, Self::Minute, Self::Hour];
        let mut given = calls
            .into_iter()
            .zip(periods)
            .filter_map(|(calls, period)| Some((calls?, period)));
        let first = given.next()?;
        given.next().is_none().then_some(first)
    }
}

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;

/// One agent's state: when the next call is expected, in ticks.
///
/// A tick is a nanosecond divided by the calls of a period, so that the time between two
/// calls is a whole number of ticks (the period's nanoseconds) at every rate.
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
    /// The largest burst.
    pub const MOST_BURST: u32 = (1 << 30) - 1;

    /// So many calls in each such period, and at most this burst, of which
    /// [`Self::MOST_BURST`] is the most.
    #[must_use]
    pub const fn new(calls: NonZeroU32, period: RatePeriod, burst: NonZeroU32) -> Self {
        let burst = if burst.get() > Self::MOST_BURST {
            Self::MOST_BURST
        } else {
            burst.get()
        };
        let period = match period {
            RatePeriod::Second => 0,
            RatePeriod::Minute => 1,
            RatePeriod::Hour => 2,
        };
        Self {
            calls,
            burst_and_period: burst << 2 | period,
        }
    }

    /// So many calls a second.
    #[must_use]
    pub const fn per_second(calls: NonZeroU32, burst: NonZeroU32) -> Self {
        Self::new(calls, RatePeriod::Second, burst)
    }

    /// Calls in each period in the long run.
    #[must_use]
    pub const fn calls(&self) -> NonZeroU32 {
        self.calls
    }

    /// The period.
    #[must_use]
    pub const fn period(&self) -> RatePeriod {
        match self.burst_and_period & 3 {
            0 => RatePeriod::Second,
            1 => RatePeriod::Minute,
            _ => RatePeriod::Hour,
        }
    }

    /// Calls that may come at once after a pause.
    #[must_use]
    pub const fn burst(&self) -> NonZeroU32 {
        match NonZeroU32::new(self.burst_and_period >> 2) {
            Some(burst) => burst,
            None => NonZeroU32::MIN,
        }
    }

    /// So many times as often.
    pub(crate) const fn times(self, factor: NonZeroU32) -> Self {
        Self::new(
            self.calls.saturating_mul(factor),
            self.period(),
            self.burst().saturating_mul(factor),
        )
    }

    /// How often whoever may act so often may ask: so many times as often, and a second
    /// is the longest that a rate by the minute or by the hour makes a question wait.
    pub(crate) const fn asking(self, factor: NonZeroU32) -> Self {
        match self.period() {
            RatePeriod::Second => self.times(factor),
            RatePeriod::Minute | RatePeriod::Hour => {
                Self::per_second(NonZeroU32::MIN, self.burst()).times(factor)
            }
        }
    }

    /// The time between two calls, in ticks: the nanoseconds of the period.
    const fn interval(&self) -> u128 {
        match self.period() {
            RatePeriod::Second => SECOND,
            RatePeriod::Minute => 60 * SECOND,
            RatePeriod::Hour => 3_600 * SECOND,
        }
    }

    /// An instant in ticks: less than 2^96.
    const fn ticks(&self, now: u64) -> u128 {
        now as u128 * self.calls.get() as u128
    }

    /// How far ahead of the pace a call may come, in ticks: less than 2^72.
    const fn tolerance(&self) -> u128 {
        ((self.burst_and_period >> 2) - 1) as u128 * self.interval()
    }

    /// Whether a call at this nanosecond is in time.
    #[inline]
    pub(crate) const fn in_time(&self, pace: Pace, now: u64) -> bool {
        pace.expected() <= self.ticks(now) + self.tolerance()
    }

    /// The state after a call at this nanosecond.
    #[inline]
    pub(crate) fn after(&self, pace: Pace, now: u64) -> Pace {
        Pace::new(pace.expected().max(self.ticks(now)) + self.interval())
    }

    /// The state after a call now, or how long to wait before one.
    pub(crate) fn call(&self, pace: Pace, now: Duration) -> Result<Pace, Duration> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        if self.in_time(pace, now) {
            return Ok(self.after(pace, now));
        }
        let early = pace.expected() - self.ticks(now) - self.tolerance();
        let nanos = early.div_ceil(u128::from(self.calls.get()));
        Err(Duration::from_nanos(
            u64::try_from(nanos).unwrap_or(u64::MAX),
        ))
    }

    /// What a pace under another rate is under this one: as far ahead in time, and
    /// at most as far as this rate lets calls run ahead.
    pub(crate) fn taken_over(&self, pace: Pace, from: &Self, now: u64) -> Pace {
        let nanos = pace.expected().div_ceil(u128::from(from.calls.get()));
        let same_instant = nanos * u128::from(self.calls.get());
        let most = self.ticks(now) + self.tolerance() + self.interval();
        Pace::new(same_instant.min(most))
    }
}

impl std::fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimit")
            .field("calls", &self.calls)
            .field("period", &self.period())
            .field("burst", &self.burst())
            .finish()
    }
}

/// A rate as it is written; one of the first three is there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    per_second: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    per_minute: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    per_hour: Option<NonZeroU32>,
    burst: NonZeroU32,
}

impl From<RateLimit> for Written {
    fn from(rate: RateLimit) -> Self {
        let of = |period| (rate.period() == period).then_some(rate.calls());
        Self {
            per_second: of(RatePeriod::Second),
            per_minute: of(RatePeriod::Minute),
            per_hour: of(RatePeriod::Hour),
            burst: rate.burst(),
        }
    }
}

impl TryFrom<Written> for RateLimit {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let calls = [written.per_second, written.per_minute, written.per_hour];
        let Some((calls, period)) = RatePeriod::only(calls) else {
            return Err("one of per_second, per_minute and per_hour is expected".to_owned());
        };
        Ok(Self::new(calls, period, written.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(calls: u32, period: RatePeriod, burst: u32) -> RateLimit {
        let [calls, burst] = [calls, burst].map(|n| NonZeroU32::new(n).unwrap());
        RateLimit::new(calls, period, burst)
    }

    fn limit(per_second: u32, burst: u32) -> RateLimit {
        of(per_second, RatePeriod::Second, burst)
    }

    fn period() -> impl Strategy<Value = RatePeriod> {
        prop_oneof![
            Just(RatePeriod::Second),
            Just(RatePeriod::Minute),
            Just(RatePeriod::Hour),
        ]
    }

    #[test]
    fn few_calls_an_hour_are_counted_by_the_hour() {
        let limit = of(4, RatePeriod::Hour, 2);
        let at = Duration::from_secs(1_000_000);
        let once = limit.call(Pace::default(), at).unwrap();
        let twice = limit.call(once, at).unwrap();
        let wait = limit.call(twice, at).unwrap_err();
        assert_eq!(wait, Duration::from_secs(15 * 60));
        assert!(limit.call(twice, at + wait).is_ok());
        // One a minute, and then one an hour: the time it is ahead is kept.
        let minute = of(1, RatePeriod::Minute, 1);
        let hour = of(1, RatePeriod::Hour, 9);
        let pace = minute.call(Pace::default(), at).unwrap();
        let now = u64::try_from(at.as_nanos()).unwrap();
        let taken = hour.taken_over(pace, &minute, now);
        let ahead = taken.expected() - hour.ticks(now);
        assert_eq!(ahead, 60 * 1_000_000_000);
    }

    #[test]
    fn the_largest_rates_are_exact() {
        let most = NonZeroU32::MAX;
        for period in [RatePeriod::Second, RatePeriod::Minute, RatePeriod::Hour] {
            let rate = RateLimit::new(most, period, most);
            assert_eq!(rate.burst().get(), RateLimit::MOST_BURST);
            let late = Duration::from_nanos(u64::MAX);
            assert!(rate.call(Pace::default(), late).is_ok());
            assert_eq!(rate.times(most), rate);
        }
    }

    #[test]
    fn a_rate_is_written_with_its_period() {
        for (rate, text) in [
            (limit(5, 10), r#"{"per_second":5,"burst":10}"#),
            (
                of(5, RatePeriod::Minute, 1),
                r#"{"per_minute":5,"burst":1}"#,
            ),
            (of(1, RatePeriod::Hour, 3), r#"{"per_hour":1,"burst":3}"#),
        ] {
            assert_eq!(serde_json::to_string(&rate).unwrap(), text);
            assert_eq!(serde_json::from_str::<RateLimit>(text).unwrap(), rate);
        }
        for text in [
            r#"{"burst":1}"#,
            r#"{"per_second":1}"#,
            r#"{"per_second":0,"burst":1}"#,
            r#"{"per_second":1,"per_hour":1,"burst":1}"#,
            r#"{"per_day":1,"burst":1}"#,
        ] {
            assert!(serde_json::from_str::<RateLimit>(text).is_err(), "{text}");
        }
        // Once there was no bound on it.
        let old: RateLimit =
            serde_json::from_str(r#"{"per_second":1,"burst":4294967295}"#).unwrap();
        assert_eq!(old.burst().get(), RateLimit::MOST_BURST);
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
        fn the_wait_is_exact(calls in 1_u32..10_000, period in period(), burst in 1_u32..20,
            gaps in proptest::collection::vec(0_u64..2_000_000, 1..80)) {
            let limit = of(calls, period, burst);
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
        fn a_new_rate_takes_over(before in (1_u32..1_000, period(), 1_u32..50),
            after in (1_u32..1_000, period(), 1_u32..50), calls in 0_u32..60) {
            let old = of(before.0, before.1, before.2);
            let new = of(after.0, after.1, after.2);
            let now = 9_000_000_000_000_000;
            let mut pace = Pace::default();
            for _ in 0..calls {
                if let Ok(next) = old.call(pace, Duration::from_nanos(now)) {
                    pace = next;
                }
            }
            let mut taken = new.taken_over(pace, &old, now);
            if let Err(wait) = new.call(taken, Duration::from_nanos(now)) {
                let one = new.interval().div_ceil(u128::from(new.calls.get()));
                prop_assert!(wait.as_nanos() <= one, "one call's time at most");
            }
            let mut passed = 0;
            while let Ok(next) = new.call(taken, Duration::from_nanos(now)) {
                taken = next;
                passed += 1;
            }
            prop_assert!(passed <= after.2);
            if calls == 0 {
                prop_assert_eq!(passed, after.2);
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
