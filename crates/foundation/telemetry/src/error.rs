//! Why telemetry cannot start.

use creto_errors::{Class, Classify};

/// Telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one that `tracing` understands.
    #[error("`{filter}` is not a log filter; write for example `info,creto_http=debug`")]
    InvalidFilter {
        /// The text.
        filter: String,
        /// What the parser says.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was started before in this process.
    #[error("logging was already started in this process")]
    AlreadyStarted(#[source] tracing::subscriber::SetGlobalDefaultError),
}

impl Classify for TelemetryError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        match self {
            Self::InvalidFilter { .. } => "invalid_log_filter",
            Self::AlreadyStarted(_) => "logging_already_started",
        }
    }
}
