//! The oracle of one process.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use creto_types::{Clock, HybridTimestamp, StoreError, Timestamp};
use parking_lot::Mutex;

use crate::{OracleError, TimestampOracle, TimestampRange, WindowStore};

/// How the oracle is run.
#[derive(Clone, Debug)]
pub struct OracleConfig {
    /// How far ahead of the clock the bound is made durable: one write per
    /// window. After a restart timestamps are ahead of the clock by at most
    /// what was left of it, until the clock has caught up.
    pub window: Duration,
    /// How far the wall clock may be behind the last timestamp. At least the
    /// window, which a restart can leave it behind by itself.
    pub max_backward_step: Duration,
    /// How far the wall clock may step ahead of where the time that passed should have
    /// brought it. At most `max_backward_step`: so a step that was followed can be taken
    /// back, if not more than the difference was counted ahead besides.
    pub max_forward_step: Duration,
    /// How far the wall clock may be ahead of the bound at the start: for how long, at
    /// most, nothing can have run. [`keep_time`] keeps the bound from falling behind while
    /// something runs.
    pub max_downtime: Duration,
}

impl OracleConfig {
    /// Whether a process that starts and finds this bound may believe a clock that says
    /// `now`. It has no steady clock from before, so this is all that can be known.
    ///
    /// Without a bound there is nothing that the clock could be ahead of.
    pub fn believes(&self, bound_ms: Option<u64>, now: Timestamp) -> Result<(), OracleError> {
        let Some(bound_ms) = bound_ms else {
            return Ok(());
        };
        let newest = i64::try_from(bound_ms)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .ok_or_else(|| unreadable(bound_ms))?;
        // Behind it is another matter, and judged by how far.
        let ahead = Duration::try_from(now.duration_since(newest)).unwrap_or(Duration::ZERO);
        if ahead <= self.max_downtime {
            return Ok(());
        }
        Err(OracleError::ClockAhead {
            newest,
            clock: now,
            limit: self.max_downtime,
        })
    }
}

impl Default for OracleConfig {
    /// One second of window, a minute of steps in either direction, a month of rest.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(1),
            max_backward_step: Duration::from_secs(60),
            max_forward_step: Duration::from_secs(60),
            max_downtime: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }
}

/// Timestamps from this process's clock and a durable bound.
pub struct LocalOracle {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn WindowStore>,
    clock: Arc<dyn Clock>,
    window_ms: u64,
    max_backward: Duration,
    max_forward: Duration,
    state: Mutex<State>,
    /// The highest bound that was tried, durable or not. One caller raises it;
    /// the others wait for it.
    raising: tokio::sync::Mutex<u64>,
}

struct State {
    /// The number of the next timestamp, at least.
    next: u64,
    /// No timestamp of this millisecond or later is handed out.
    bound_ms: u64,
    /// The wall clock at the process's steady clock's zero, by the furthest reading that
    /// was followed. It is constant but for steps, so a step ahead shows in it however
    /// long nobody asked.
    origin_ms: i128,
}

/// One look at both clocks, in milliseconds.
#[derive(Clone, Copy)]
struct Look {
    wall: u64,
    steady: u64,
}

impl Look {
    fn origin(self) -> i128 {
        i128::from(self.wall) - i128::from(self.steady)
    }
}

impl std::fmt::Debug for LocalOracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalOracle").finish_non_exhaustive()
    }
}

enum Attempt {
    Done(TimestampRange),
    /// The bound has to be above this millisecond first.
    Raise {
        above_ms: u64,
    },
}

impl LocalOracle {
    /// Starts above everything that was ever handed out below the store's
    /// bound.
    ///
    /// Refuses when the clock is further behind that bound than
    /// `max_backward_step`, or further ahead of it than `max_downtime`.
    pub async fn open(
        store: Arc<dyn WindowStore>,
        clock: Arc<dyn Clock>,
        config: OracleConfig,
    ) -> Result<Self, OracleError> {
        let window_ms =
            u64::try_from(config.window.as_millis()).map_err(|_| OracleError::Config {
                field: "window",
                problem: "is too long",
            })?;
        if window_ms == 0 {
            return Err(OracleError::Config {
                field: "window",
                problem: "must be at least a millisecond",
            });
        }
        if config.max_backward_step < config.window {
            return Err(OracleError::Config {
                field: "max_backward_step",
                problem: "must be at least the window",
            });
        }
        if config.max_forward_step > config.max_backward_step {
            return Err(OracleError::Config {
                field: "max_forward_step",
                problem: "must be at most max_backward_step",
            });
        }
        let bound_ms = store.upper_bound().await?;
        config.believes(bound_ms, clock.now())?;
        let bound_ms = bound_ms.unwrap_or(0);
        let next = HybridTimestamp::from_parts(bound_ms, 0)
            .ok_or_else(|| unreadable(bound_ms))?
            .as_u64();
        let mut inner = Inner {
            store,
            clock,
            window_ms,
            max_backward: config.max_backward_step,
            max_forward: config.max_forward_step,
            state: Mutex::new(State {
                next,
                bound_ms,
                origin_ms: 0,
            }),
            raising: tokio::sync::Mutex::new(bound_ms),
        };
        // For how long nothing ran nobody can tell, so within that the clock is taken at
        // its word.
        let look = inner.look()?;
        inner.state.get_mut().origin_ms = look.origin();
        inner.start_for(next, look)?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }
}

impl Inner {
    fn look(&self) -> Result<Look, OracleError> {
        // The wall clock first: a thread that is stopped in between finds more time
        // passed than the wall clock shows, never a step that was none.
        let wall = u64::try_from(self.clock.now().as_millisecond())
            .ok()
            .filter(|ms| *ms <= HybridTimestamp::MAX_MILLIS)
            .ok_or(OracleError::ClockOutOfRange)?;
        let steady = u64::try_from(self.clock.monotonic().as_millis())
            .map_err(|_| OracleError::ClockOutOfRange)?;
        Ok(Look { wall, steady })
    }

    /// Looks at the clocks, and refuses a wall clock that stepped too far ahead: nothing
    /// is handed out by it and no bound raised to it, so once it is put right it is as if
    /// it had never been wrong.
    fn follow(&self, state: &mut State) -> Result<Look, OracleError> {
        let look = self.look()?;
        let ahead = u64::try_from(look.origin().saturating_sub(state.origin_ms)).unwrap_or(0);
        let ahead = Duration::from_millis(ahead);
        if ahead > self.max_forward {
            return Err(OracleError::ClockSteppedForward {
                ahead,
                limit: self.max_forward,
            });
        }
        state.origin_ms = state.origin_ms.max(look.origin());
        Ok(look)
    }

    /// The number to hand out next at this wall time: the clock's, or the one
    /// after the last when the clock is not past it.
    fn start_for(&self, next: u64, look: Look) -> Result<u64, OracleError> {
        let wall = HybridTimestamp::from_parts(look.wall, 0)
            .ok_or(OracleError::ClockOutOfRange)?
            .as_u64();
        let next_ms = HybridTimestamp::from_u64(next).millis();
        let behind = Duration::from_millis(next_ms.saturating_sub(look.wall));
        if behind > self.max_backward {
            return Err(OracleError::ClockStepped {
                behind,
                limit: self.max_backward,
            });
        }
        Ok(wall.max(next))
    }

    /// Takes the range from what is below the bound; no I/O.
    fn try_take(&self, count: NonZeroU32) -> Result<Attempt, OracleError> {
        // The clock is read under the lock, so that no caller brings an older
        // reading than one before it.
        let mut state = self.state.lock();
        let look = self.follow(&mut state)?;
        let first = self.start_for(state.next, look)?;
        let range = TimestampRange::new(HybridTimestamp::from_u64(first), count)
            .ok_or(OracleError::ClockOutOfRange)?;
        let last = range.last();
        if last.millis() >= state.bound_ms {
            return Ok(Attempt::Raise {
                above_ms: last.millis(),
            });
        }
        state.next = last
            .as_u64()
            .checked_add(1)
            .ok_or(OracleError::ClockOutOfRange)?;
        Ok(Attempt::Done(range))
    }

    /// Makes a bound above this millisecond durable, unless another caller did.
    async fn raise_above(&self, above_ms: u64) -> Result<(), OracleError> {
        let mut tried = self.raising.lock().await;
        if self.state.lock().bound_ms > above_ms {
            return Ok(());
        }
        // A window from the clock, not from the last timestamp: restarts in
        // quick succession do not run away from the clock.
        let look = self.follow(&mut self.state.lock())?;
        let from_clock = look.wall.saturating_add(self.window_ms);
        let to_ms = from_clock.max(above_ms.saturating_add(1)).max(*tried);
        if to_ms > HybridTimestamp::MAX_MILLIS {
            return Err(OracleError::ClockOutOfRange);
        }
        *tried = to_ms;
        match self.store.raise(to_ms).await {
            Ok(()) => {}
            // An earlier attempt failed, but was applied.
            Err(StoreError::Conflict { .. }) if self.store.upper_bound().await? == Some(to_ms) => {}
            Err(error) => return Err(error.into()),
        }
        self.state.lock().bound_ms = to_ms;
        Ok(())
    }
}

#[async_trait]
impl TimestampOracle for LocalOracle {
    async fn reserve(&self, count: NonZeroU32) -> Result<TimestampRange, OracleError> {
        loop {
            match self.inner.try_take(count)? {
                Attempt::Done(range) => return Ok(range),
                Attempt::Raise { above_ms } => {
                    // In a task of its own: a caller that stops polling must not
                    // hold up everybody who waits for the same bound.
                    let inner = Arc::clone(&self.inner);
                    tokio::spawn(async move { inner.raise_above(above_ms).await })
                        .await
                        .map_err(OracleError::Interrupted)??;
                }
            }
        }
    }
}

/// Takes a timestamp now and then, for ever, so that the durable bound tells when something
/// ran last even if nobody asked for the time.
///
/// What fails is told to `failed` and tried again at the next turn.
pub async fn keep_time(
    oracle: &dyn TimestampOracle,
    every: Duration,
    failed: impl Fn(OracleError) + Send,
) {
    loop {
        // First of all it waits: a clock that is found to be wrong soon after the start has
        // not been followed for this.
        tokio::time::sleep(every).await;
        if let Err(error) = oracle.reserve(NonZeroU32::MIN).await {
            failed(error);
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the bound {0} ms is beyond the last timestamp")]
struct BoundTooHigh(u64);

fn unreadable(bound_ms: u64) -> OracleError {
    OracleError::Store(StoreError::Corrupt {
        what: "timestamp bound",
        source: Box::new(BoundTooHigh(bound_ms)),
    })
}
