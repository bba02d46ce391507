//! Many timings of one call, as median and 99th percentile.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// In the unit it was asked in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) p99: f64,
}

/// Nanoseconds of a timed call.
#[derive(Debug)]
pub(crate) struct Sample {
    histogram: Histogram<u64>,
}

impl Sample {
    pub(crate) fn new() -> Self {
        // Up to a minute, three digits: the arguments are constants that fit.
        let histogram = Histogram::new_with_max(60_000_000_000, 3).expect("valid bounds");
        Self { histogram }
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
        self.scaled(1_000.0)
    }

    fn scaled(&self, by: f64) -> Summary {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / by;
        Summary {
            median: at(0.5),
            p99: at(0.99),
        }
    }
}
