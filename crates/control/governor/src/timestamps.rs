//! Timestamps for other services of the organization.

use std::num::NonZeroU32;
use std::time::Duration;

use creto_consensus::{HybridTimestamp, TimestampRange};
use parking_lot::Mutex;

use crate::GovernError;
use crate::caller::Caller;
use crate::governor::Governor;
use crate::roles::Call;

/// The most timestamps of one request: what a millisecond has.
pub const MAX_TIMESTAMPS: u32 = 1 << HybridTimestamp::LOGICAL_BITS;

/// What is handed out to others in a millisecond, in the long run: half of what it has.
/// Whoever takes more than the clock gives pushes the oracle ahead of it, for everybody.
const PER_MILLI: u64 = HybridTimestamp::PER_MILLI / 2;

/// What may be taken at once: the timestamps of half a second.
const BURST: u64 = PER_MILLI * 1_000;

/// How much was taken lately.
#[derive(Debug, Default)]
pub(crate) struct Taken(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    /// What time has not given back yet.
    count: u64,
    /// Until when it has, by the steady clock.
    at: Duration,
}

impl Taken {
    /// Takes so many, or says how long to wait for them.
    fn take(&self, count: NonZeroU32, now: Duration) -> Result<(), Duration> {
        let mut lately = self.0.lock();
        let passed = now.saturating_sub(lately.at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        lately.count = lately
            .count
            .saturating_sub(passed.saturating_mul(PER_MILLI));
        // Whole milliseconds alone, so that none is lost to asking often.
        lately.at = lately.at.saturating_add(Duration::from_millis(passed));
        let wanted = lately.count.saturating_add(u64::from(count.get()));
        match wanted.checked_sub(BURST) {
            None | Some(0) => {
                lately.count = wanted;
                Ok(())
            }
            Some(over) => Err(Duration::from_millis(over.div_ceil(PER_MILLI))),
        }
    }
}

impl Governor {
    /// Whether the caller would get timestamps at all.
    pub fn may_reserve_timestamps(&self, caller: &Caller) -> Result<(), GovernError> {
        caller.may(Call::ReserveTimestamps, self.now())?;
        caller.require_person("reserve timestamps")
    }

    /// Consecutive timestamps of the oracle that orders the log, for a service that the
    /// owner runs. An agent gets none: it could push everybody's time ahead.
    pub async fn reserve_timestamps(
        &self,
        caller: &Caller,
        count: u32,
    ) -> Result<TimestampRange, GovernError> {
        self.may_reserve_timestamps(caller)?;
        let count = NonZeroU32::new(count)
            .filter(|count| count.get() <= MAX_TIMESTAMPS)
            .ok_or_else(|| {
                GovernError::invalid(
                    "count",
                    format!("1 to {MAX_TIMESTAMPS} are expected, not {count}"),
                )
            })?;
        self.timestamps
            .take(count, self.parts.clock.monotonic())
            .map_err(|retry_after| GovernError::TooManyRequests { retry_after })?;
        Ok(self.parts.oracle.reserve(count).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_half_of_what_the_clock_gives() {
        let taken = Taken::default();
        let most = NonZeroU32::new(MAX_TIMESTAMPS).unwrap();
        let mut now = Duration::from_secs(5);
        let burst = (0..10_000)
            .take_while(|_| taken.take(most, now).is_ok())
            .count();
        assert_eq!(burst, 500);
        assert_eq!(taken.take(most, now), Err(Duration::from_millis(2)));
        // Asking often changes nothing.
        let mut granted = 0;
        for _ in 0..10_000 {
            now += Duration::from_micros(100);
            granted += u32::from(taken.take(most, now).is_ok());
        }
        assert_eq!(granted, 500, "in a second");
        now += Duration::from_secs(3_600);
        let burst = (0..10_000)
            .take_while(|_| taken.take(most, now).is_ok())
            .count();
        assert_eq!(burst, 500);
    }
}
