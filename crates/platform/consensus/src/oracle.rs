//! The oracle of one process.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use creto_errors::{Class, Classify};
use creto_types::{Clock, StoreError, unix_millis};
use parking_lot::Mutex;

use crate::{HybridTimestamp, WindowStore};

/// No timestamp was given out.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// The wall clock stands far behind what was given out before.
    #[error(
        "the wall clock is {behind:?} behind the timestamps already given out, and at most \
         {allowed:?} is tolerated; set the clock right and start again"
    )]
    ClockBehind {
        /// How far.
        behind: Duration,
        /// How far is tolerated.
        allowed: Duration,
    },
    /// The wall clock is past the last timestamp there is.
    #[error("the wall clock is beyond what a timestamp can hold")]
    OutOfRange,
    /// The bound could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for OracleError {
    fn class(&self) -> Class {
        match self {
            Self::ClockBehind { .. } | Self::OutOfRange => Class::Permanent,
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::ClockBehind { .. } => "clock_behind",
            Self::OutOfRange => "clock_out_of_range",
            Self::Store(error) => error.code(),
        }
    }
}

/// Consecutive timestamps that belong to one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampRange {
    first: HybridTimestamp,
    count: NonZeroU32,
}

impl TimestampRange {
    /// The smallest.
    #[must_use]
    pub const fn first(&self) -> HybridTimestamp {
        self.first
    }

    /// The largest.
    #[must_use]
    pub fn last(&self) -> HybridTimestamp {
        let beyond_first = u64::from(self.count.get()).saturating_sub(1);
        HybridTimestamp::from_packed(self.first.packed().saturating_add(beyond_first))
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> NonZeroU32 {
        self.count
    }
}

/// Gives out timestamps that strictly increase, over all callers and over
/// restarts.
#[async_trait]
pub trait TimestampOracle: Send + Sync {
    /// The next `count` timestamps. A call that starts after another one returned
    /// gets larger ones.
    async fn reserve(&self, count: NonZeroU32) -> Result<TimestampRange, OracleError>;
}

/// Conveniences over [`TimestampOracle`].
#[async_trait]
pub trait TimestampOracleExt: TimestampOracle {
    /// The next timestamp.
    async fn next(&self) -> Result<HybridTimestamp, OracleError> {
        Ok(self.reserve(NonZeroU32::MIN).await?.first())
    }
}

impl<T: TimestampOracle + ?Sized> TimestampOracleExt for T {}

/// How the oracle deals with time.
#[derive(Clone, Copy, Debug)]
pub struct OracleConfig {
    /// How far ahead of the wall clock the stored bound is raised: one write per
    /// window, and timestamps jump by at most a window at a restart.
    pub window: Duration,
    /// How far the wall clock may step back. Meanwhile timestamps go on from the
    /// last one, by their counter.
    pub max_backward_step: Duration,
}

impl Default for OracleConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(3),
            max_backward_step: Duration::from_secs(10),
        }
    }
}

/// An oracle in this process. At most one runs over a [`WindowStore`].
pub struct LocalOracle {
    store: Arc<dyn WindowStore>,
    clock: Arc<dyn Clock>,
    config: OracleConfig,
    state: Mutex<State>,
    /// One caller raises the bound, the others wait for it.
    raising: tokio::sync::Mutex<()>,
}

struct State {
    /// The next timestamp is larger than this one.
    last: HybridTimestamp,
    /// Durable: no timestamp of this millisecond or later was given out.
    bound: u64,
}

impl LocalOracle {
    /// Takes over from whoever gave out timestamps before: every timestamp from
    /// here is larger than theirs.
    pub async fn open(
        store: Arc<dyn WindowStore>,
        clock: Arc<dyn Clock>,
        config: OracleConfig,
    ) -> Result<Self, OracleError> {
        let bound = store.upper_bound().await?.unwrap_or(0);
        let first = HybridTimestamp::first_of(bound).ok_or(OracleError::OutOfRange)?;
        let last = HybridTimestamp::from_packed(first.packed().saturating_sub(1));
        let oracle = Self {
            store,
            clock,
            config,
            state: Mutex::new(State { last, bound }),
            raising: tokio::sync::Mutex::new(()),
        };
        oracle.check_clock(last)?;
        Ok(oracle)
    }

    /// Takes the range if the bound allows it, or says which bound it needs.
    fn take(&self, count: NonZeroU32) -> Result<Result<TimestampRange, u64>, OracleError> {
        let mut state = self.state.lock();
        let now = HybridTimestamp::first_of(unix_millis(self.clock.now()))
            .ok_or(OracleError::OutOfRange)?;
        let after_last = HybridTimestamp::from_packed(state.last.packed().saturating_add(1));
        let range = TimestampRange {
            first: now.max(after_last),
            count,
        };
        let last = range.last();
        self.check_clock(last)?;
        if last.millis() < state.bound {
            state.last = last;
            Ok(Ok(range))
        } else {
            Ok(Err(last.millis()))
        }
    }

    /// Refuses to run further ahead of the wall clock than a window (a restart)
    /// and a tolerated step.
    fn check_clock(&self, at: HybridTimestamp) -> Result<(), OracleError> {
        let now = unix_millis(self.clock.now());
        let behind = Duration::from_millis(at.millis().saturating_sub(now));
        let allowed = self
            .config
            .window
            .saturating_add(self.config.max_backward_step);
        if behind > allowed {
            return Err(OracleError::ClockBehind { behind, allowed });
        }
        Ok(())
    }

    async fn raise_past(&self, millis: u64) -> Result<(), OracleError> {
        let _one = self.raising.lock().await;
        if self.state.lock().bound > millis {
            return Ok(());
        }
        let window = u64::try_from(self.config.window.as_millis()).unwrap_or(u64::MAX);
        let bound = millis.saturating_add(window.max(1));
        self.store.raise(bound).await?;
        self.state.lock().bound = bound;
        Ok(())
    }
}

#[async_trait]
impl TimestampOracle for LocalOracle {
    async fn reserve(&self, count: NonZeroU32) -> Result<TimestampRange, OracleError> {
        loop {
            match self.take(count)? {
                Ok(range) => return Ok(range),
                Err(needed) => self.raise_past(needed).await?,
            }
        }
    }
}
