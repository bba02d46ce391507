//! Timings of single calls by the processor's ticks. Shared with the peers' program,
//! so that both are measured alike.

use hdrhistogram::Histogram;

/// What a number of timings come to, in the unit it was asked in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Of a histogram of nanoseconds, in units of this many.
    pub(crate) fn of(histogram: &Histogram<u64>, unit: f64) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / unit;
        Self {
            median: at(0.5),
            p99: at(0.99),
            max: histogram.max() as f64 / unit,
        }
    }
}

#[allow(
    dead_code,
    reason = "the peers' program, which shares this, does not batch"
)]
impl Summary {
    /// Of single steps, when so many were timed together.
    pub(crate) fn over(self, steps: f64) -> Self {
        Self {
            median: self.median / steps,
            p99: self.p99 / steps,
            max: self.max / steps,
        }
    }
}

/// A histogram of nanoseconds up to a minute, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).expect("the bounds are constants that fit")
}

/// Timings of single calls, less what reading the clock costs.
pub(crate) struct Ticks {
    clock: quanta::Clock,
    empty: u64,
    pub(crate) histogram: Histogram<u64>,
}

impl Ticks {
    pub(crate) fn new() -> Self {
        let clock = quanta::Clock::new();
        let mut histogram = histogram();
        for _ in 0..1_000_000 {
            let start = clock.raw();
            let took = clock.delta_as_nanos(start, clock.raw());
            histogram.saturating_record(took);
        }
        let empty = histogram.value_at_quantile(0.5);
        histogram.reset();
        Self {
            clock,
            empty,
            histogram,
        }
    }

    pub(crate) fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = self.clock.raw();
        let value = call();
        let took = self.clock.delta_as_nanos(start, self.clock.raw());
        self.histogram
            .saturating_record(took.saturating_sub(self.empty));
        value
    }

    /// In nanoseconds.
    pub(crate) fn summary(&self) -> Summary {
        Summary::of(&self.histogram, 1.0)
    }
}
