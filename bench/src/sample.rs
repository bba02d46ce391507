//! Many timings of one call.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::ticks::{self, Summary};

/// Nanoseconds of a timed call.
#[derive(Debug)]
pub(crate) struct Sample {
    histogram: Histogram<u64>,
}

impl Sample {
    pub(crate) fn new() -> Self {
        Self {
            histogram: ticks::histogram(),
        }
    }

    /// Times `call` for about `budget`, after a warm-up of a tenth of it. Each
    /// timing covers `batch` calls, so that reading the clock does not count.
    pub(crate) fn time(budget: Duration, batch: u32, mut call: impl FnMut()) -> Self {
        let warm_until = Instant::now() + budget / 10;
        while Instant::now() < warm_until {
            call();
        }
        let mut sample = Self::new();
        let until = Instant::now() + budget;
        while Instant::now() < until {
            let start = Instant::now();
            for _ in 0..batch {
                call();
            }
            sample.add(start.elapsed() / batch);
        }
        sample
    }

    pub(crate) fn add(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(nanos);
    }

    pub(crate) fn micros(&self) -> Summary {
        Summary::of(&self.histogram, 1_000.0)
    }

    pub(crate) fn nanos(&self) -> Summary {
        Summary::of(&self.histogram, 1.0)
    }
}
