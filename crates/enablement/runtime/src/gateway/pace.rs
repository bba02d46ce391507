//! How fast one sandbox makes recorded decisions.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// One decision in 20 ms, 50 in a second. A leaf of the log is a few hundred
/// bytes, so a program that does nothing but ask adds some 15 KB a second, 1 GB
/// in a day, and not what its processor can produce. Where connections count it is some
/// three times that.
const INTERVAL: Duration = Duration::from_millis(20);

/// So many at once before the pace is felt: the start of a build or a browser
/// page asks for dozens of names and connections together.
const BURST: u32 = 200;

/// The generic cell rate algorithm, with waiting instead of refusing: whoever is
/// ahead of the pace gets its turn later. Turns come in the order of asking.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the next decision is due at the even pace.
    due: Mutex<Instant>,
    interval: Duration,
    tolerance: Duration,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            due: Mutex::new(Instant::now()),
            interval: INTERVAL,
            // The first of a burst is not ahead of anything.
            tolerance: INTERVAL.saturating_mul(BURST.saturating_sub(1)),
        }
    }

    /// Returns when one more decision may be made. Whoever stops waiting takes no
    /// turn.
    pub(crate) async fn turn(&self) {
        let mut due = self.due.lock().await;
        let at = (*due).max(Instant::now());
        if let Some(earliest) = at.checked_sub(self.tolerance) {
            sleep_until(earliest).await;
        }
        *due = at.checked_add(self.interval).unwrap_or(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_is_free_and_the_rest_comes_evenly() {
        let pace = Pace {
            due: Mutex::new(Instant::now()),
            interval: Duration::from_millis(30),
            tolerance: Duration::from_millis(60),
        };
        let begun = Instant::now();
        for _ in 0..3 {
            pace.turn().await;
        }
        let burst = begun.elapsed();
        for _ in 0..5 {
            pace.turn().await;
        }
        let all = begun.elapsed();
        assert!(burst < Duration::from_millis(30), "{burst:?}");
        // Five intervals; the clock of sleeping counts whole milliseconds.
        assert!(all >= Duration::from_millis(145), "{all:?}");
    }
}
