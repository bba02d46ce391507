//! Why there is no timestamp.

use std::error::Error;
use std::time::Duration;

use creto_errors::{Class, Classify};
use creto_types::StoreError;

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

impl Classify for OracleError {
    fn class(&self) -> Class {
        match self {
            Self::Store(error) => error.class(),
            Self::ClockStepped { .. } | Self::ClockSteppedForward { .. } => Class::Security,
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
            Self::Unreachable(_) => "oracle_unreachable",
            Self::Refused { .. } => "oracle_refused",
            Self::Interrupted(_) => "oracle_interrupted",
            Self::ClockOutOfRange => "clock_out_of_range",
            Self::Config { .. } => "oracle_config_invalid",
        }
    }
}
