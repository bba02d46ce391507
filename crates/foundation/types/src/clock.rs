//! Time as a dependency. Nothing below the composition root reads a global
//! clock, so a test decides what time it is and a simulation can replay.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
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
    /// Its wall clock may lag behind [`Clock::now`] by what the implementation says,
    /// and its monotonic clock has an origin of its own.
    fn reading(&self) -> Reading {
        Reading::of(self)
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

impl Reading {
    /// One call of each clock.
    fn of(clock: &(impl Clock + ?Sized)) -> Self {
        Self {
            wall_ns: wall_nanos(clock.now()),
            mono_ns: nanos(clock.monotonic()),
        }
    }
}

/// How long [`SystemClock::reading`] relies on one look at the kernel's clocks.
const TRUSTED: u64 = 5_000_000;

/// How far apart the ticks before and after a look may be for it to be relied on. A
/// thread that was stopped in between looked too slowly.
const CLOSE: u64 = TRUSTED / 100;

/// How often a look that was too slow is repeated before the next reading tries again.
const LOOKS: usize = 4;

/// The machine's clocks.
///
/// [`Clock::reading`] counts the processor's ticks, which costs a fraction of a
/// call of the kernel, and looks at the kernel's clocks every five milliseconds:
/// for that long its wall clock may miss a step. Otherwise it lags behind the
/// kernel's by a twentieth of a millisecond at most, and is ahead by no more than ticks
/// drift in that time. Once ticks and kernel disagree
/// about the age of this value by more than a thousandth and a tenth of a second (a
/// suspended machine, a moved guest), ticks are not used again.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
    ticks: quanta::Clock,
    first_tick: u64,
    /// The wall clock less the ticks' nanoseconds.
    wall: AtomicI64,
    looked_at: AtomicU64,
    looking: Mutex<()>,
    distrusted: AtomicBool,
}

impl SystemClock {
    /// Reads the machine's clocks from now on.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    pub fn new() -> Self {
        let ticks = quanta::Clock::new();
        let clock = Self {
            origin: Instant::now(),
            first_tick: ticks.raw(),
            ticks,
            wall: AtomicI64::new(0),
            looked_at: AtomicU64::new(0),
            looking: Mutex::default(),
            distrusted: AtomicBool::new(false),
        };
        clock.look();
        clock
    }

    fn ticked(&self) -> u64 {
        self.ticks.delta_as_nanos(self.first_tick, self.ticks.raw())
    }

    /// Compares ticks with the kernel's clocks, which lead.
    fn look(&self) -> Reading {
        self.look_at(|| (wall_nanos(self.now()), nanos(self.monotonic())))
    }

    /// The same with the kernel's clocks, wall and monotonic, as an argument. The ticks
    /// of the reading are those after it, so that its wall clock is never ahead.
    fn look_at(&self, mut kernel: impl FnMut() -> (i64, u64)) -> Reading {
        // Alone, so that a look that is older replaces none.
        let alone = self.looking.try_lock();
        let mut looks = 0..LOOKS;
        loop {
            let before = self.ticked();
            let (wall, elapsed) = kernel();
            let ticks = self.ticked();
            let reading = Reading {
                wall_ns: wall,
                mono_ns: ticks,
            };
            if alone.is_none() {
                return reading;
            }
            // Ticks that went back are as far apart as can be.
            if ticks.wrapping_sub(before) <= CLOSE {
                if ticks.abs_diff(elapsed) > elapsed / 1_000 + 20 * TRUSTED {
                    self.distrusted.store(true, Ordering::Relaxed);
                }
                let offset = wall.saturating_sub(i64::try_from(ticks).unwrap_or(i64::MAX));
                self.wall.store(offset, Ordering::Relaxed);
                // Whoever finds this look recent uses its offset or a later one.
                self.looked_at.store(ticks, Ordering::Release);
                return reading;
            }
            // What was read is right all the same; it is not relied on later.
            if looks.next().is_none() {
                return reading;
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn wall_nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
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

    fn reading(&self) -> Reading {
        let ticks = self.ticked();
        // Ticks that went back are as far away as can be.
        let since = ticks.wrapping_sub(self.looked_at.load(Ordering::Acquire));
        let looked = (since > TRUSTED).then(|| self.look());
        if self.distrusted.load(Ordering::Relaxed) {
            return Reading::of(self);
        }
        if let Some(reading) = looked {
            return reading;
        }
        let wall = self.wall.load(Ordering::Relaxed);
        Reading {
            wall_ns: wall.saturating_add(i64::try_from(ticks).unwrap_or(i64::MAX)),
            mono_ns: ticks,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_follows_the_kernel() {
        let clock = SystemClock::new();
        let mut last = clock.reading();
        let until = clock.monotonic() + Duration::from_millis(40);
        while clock.monotonic() < until {
            let before = wall_nanos(clock.now());
            let reading = clock.reading();
            let after = wall_nanos(clock.now());
            let slack = i64::try_from(TRUSTED).unwrap();
            assert!((before - slack..=after + slack).contains(&reading.wall_ns));
            assert!(reading.mono_ns >= last.mono_ns);
            last = reading;
        }
    }

    /// As when the machine has other work.
    fn stopped(clock: &SystemClock) {
        let until = clock.monotonic() + Duration::from_millis(2);
        while clock.monotonic() < until {}
    }

    /// Whatever a thread was stopped between, its look puts no reading ahead.
    #[test]
    fn a_look_of_a_thread_that_was_stopped_is_not_relied_on() {
        let clock = SystemClock::new();
        let kernel = || (wall_nanos(clock.now()), nanos(clock.monotonic()));
        let known = clock.wall.load(Ordering::Relaxed);
        let before_the_wall = clock.look_at(|| {
            stopped(&clock);
            kernel()
        });
        assert!(before_the_wall.wall_ns <= kernel().0);
        let after_the_wall = clock.look_at(|| {
            let read = kernel();
            stopped(&clock);
            read
        });
        assert!(after_the_wall.mono_ns > before_the_wall.mono_ns);
        assert_eq!(clock.wall.load(Ordering::Relaxed), known, "as it was");

        let mut first = true;
        let looked = clock.look_at(|| {
            if std::mem::take(&mut first) {
                stopped(&clock);
            }
            kernel()
        });
        let offset = clock.wall.load(Ordering::Relaxed);
        let ticks = i64::try_from(looked.mono_ns).unwrap();
        assert_eq!(offset, looked.wall_ns - ticks, "the second one counts");
        let reading = clock.reading();
        assert!(reading.wall_ns <= kernel().0, "never ahead");
    }

    /// As after a suspension: the ticks start anew.
    #[test]
    fn ticks_that_disagree_are_not_used_again() {
        let mut clock = SystemClock::new();
        clock.origin = clock.origin.checked_sub(Duration::from_secs(10)).unwrap();
        clock.looked_at = AtomicU64::new(10_000_000_000);
        let reading = clock.reading();
        assert!(clock.distrusted.load(Ordering::Relaxed));
        assert!(wall_nanos(clock.now()) - reading.wall_ns < 1_000_000_000);
        let again = clock.reading();
        assert!(again.mono_ns >= reading.mono_ns);
    }
}
