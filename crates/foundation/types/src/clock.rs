//! Time as a dependency. Nothing below the composition root reads a global
//! clock, so a test decides what time it is and a simulation can replay.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. It may step backwards; what needs order uses the
    /// timestamp oracle of `creto-consensus`.
    fn now(&self) -> Timestamp;

    /// Time since some fixed point of this process; never goes backwards.
    fn monotonic(&self) -> Duration;

    /// Both clocks at once, for the decision's hot path.
    ///
    /// The wall clock may lag behind [`Clock::now`] by what the implementation
    /// says; it is never ahead of it by more than the machine's own clocks differ.
    fn reading(&self) -> Reading {
        Reading {
            wall_ns: i64::try_from(self.now().as_nanosecond()).unwrap_or(i64::MAX),
            mono_ns: u64::try_from(self.monotonic().as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

/// One reading of both clocks, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Since the Unix epoch; reaches to the year 2262.
    pub wall_ns: i64,
    /// Since some fixed point of this process; never goes backwards.
    pub mono_ns: u64,
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Reads the machine's clocks from now on.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A clock that moves only when told to; for tests and simulations.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self {
            state: Mutex::new((start, Duration::ZERO)),
        }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock();
        state.0 = state.0.saturating_add(by).unwrap_or(Timestamp::MAX);
        state.1 = state.1.saturating_add(by);
    }

    /// Steps the wall clock alone, as an operator or NTP would.
    pub fn step_wall_to(&self, to: Timestamp) {
        self.state.lock().0 = to;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().1
    }
}

/// Whole milliseconds since the Unix epoch; instants before it give zero.
#[must_use]
pub fn unix_millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}
