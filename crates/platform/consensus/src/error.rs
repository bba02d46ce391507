//! Why there is no timestamp.

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
            Self::ClockStepped { .. } => Class::Security,
            Self::Interrupted(_) => Class::Transient,
            Self::ClockOutOfRange | Self::Config { .. } => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::ClockStepped { .. } => "clock_stepped_back",
            Self::Interrupted(_) => "oracle_interrupted",
            Self::ClockOutOfRange => "clock_out_of_range",
            Self::Config { .. } => "oracle_config_invalid",
        }
    }
}
