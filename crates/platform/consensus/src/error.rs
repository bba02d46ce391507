//! Why there is no timestamp.

use std::error::Error;
use std::time::Duration;

use creto_errors::{Class, Classify};
use creto_types::{StoreError, Timestamp};

/// The oracle gives no timestamp; nothing was handed out.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// The bound could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The wall clock is further behind the last timestamp than is allowed.
    #[error(
        "the wall clock is {behind:?} behind the last timestamp, more than the {limit:?} allowed; correct the clock"
    )]
    ClockStepped {
        /// How far.
        behind: Duration,
        /// How far is allowed.
        limit: Duration,
    },
    /// The wall clock stepped further ahead than is allowed.
    #[error(
        "the wall clock stepped {ahead:?} ahead, more than the {limit:?} allowed; correct the clock, or restart this process if the clock is right now"
    )]
    ClockSteppedForward {
        /// How far.
        ahead: Duration,
        /// How far is allowed.
        limit: Duration,
    },
    /// At the start the wall clock is further ahead of everything that was recorded than
    /// nothing can have run.
    #[error(
        "the wall clock says {clock}, and the newest that was recorded is of {newest}, {} days \
         before: more than the {} days that nothing is taken to run; correct the clock, or, if \
         it is right, start the server once with `--accept-clock {}`",
        days(clock.duration_since(*newest).unsigned_abs()),
        days(*limit),
        until(*clock)
    )]
    ClockAhead {
        /// The instant below which every timestamp was handed out.
        newest: Timestamp,
        /// What the clock says.
        clock: Timestamp,
        /// For how long nothing may have run.
        limit: Duration,
    },
    /// The server that hands the timestamps out cannot be reached, or the connection
    /// broke off.
    #[error("the server of timestamps cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The server that hands the timestamps out refused, or answered what makes no sense.
    #[error("the server of timestamps refused: {message}")]
    Refused {
        /// By the class it gave.
        class: Class,
        /// Its code and its account.
        message: String,
    },
    /// The clock is before 1970 or beyond what a timestamp can say.
    #[error("the wall clock is outside the range of timestamps")]
    ClockOutOfRange,
    /// The task that makes the bound durable was stopped, as it is at shutdown.
    #[error("the timestamp oracle was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
    /// The configuration cannot work.
    #[error("`{field}` of the timestamp oracle {problem}")]
    Config {
        /// Which value.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

const DAY: u64 = 24 * 60 * 60;

/// Whole days.
fn days(time: Duration) -> u64 {
    time.as_secs() / DAY
}

/// An hour after what the clock says, in whole seconds: time enough to start.
fn until(clock: Timestamp) -> Timestamp {
    let second = clock.as_second().saturating_add(60 * 60);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

impl Classify for OracleError {
    fn class(&self) -> Class {
        match self {
            Self::Store(error) => error.class(),
            Self::ClockStepped { .. }
            | Self::ClockSteppedForward { .. }
            | Self::ClockAhead { .. } => Class::Security,
            Self::Interrupted(_) | Self::Unreachable(_) => Class::Transient,
            Self::Refused { class, .. } => *class,
            Self::ClockOutOfRange | Self::Config { .. } => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::ClockStepped { .. } => "clock_stepped_back",
            Self::ClockSteppedForward { .. } => "clock_stepped_forward",
            Self::ClockAhead { .. } => "clock_ahead_at_start",
            Self::Unreachable(_) => "oracle_unreachable",
            Self::Refused { .. } => "oracle_refused",
            Self::Interrupted(_) => "oracle_interrupted",
            Self::ClockOutOfRange => "clock_out_of_range",
            Self::Config { .. } => "oracle_config_invalid",
        }
    }
}
