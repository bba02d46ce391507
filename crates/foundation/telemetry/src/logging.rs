//! Log lines: where they go, how they look, which are kept.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::Arc;

use creto_errors::{Class, Classify};
use creto_types::Clock;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::TelemetryError;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// [`LogFormat::Pretty`] when standard error is a terminal, otherwise
    /// [`LogFormat::Json`].
    #[default]
    Auto,
    /// One line for a person.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// A text is not a log format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a log format: `auto`, `pretty` or `json`")]
pub struct LogFormatError;

impl Classify for LogFormatError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "invalid_log_format"
    }
}

impl FromStr for LogFormat {
    type Err = LogFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(LogFormatError),
        }
    }
}

impl TryFrom<String> for LogFormat {
    type Error = LogFormatError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Pretty => "pretty",
            Self::Json => "json",
        })
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Directives of `tracing_subscriber::EnvFilter`: `info,creto_http=debug`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Auto,
        }
    }
}

/// Sends every event of this process to standard error from now on. Lines carry
/// the time of `clock`.
pub fn init(config: &LogConfig, clock: Arc<dyn Clock>) -> Result<(), TelemetryError> {
    let terminal = std::io::stderr().is_terminal();
    let subscriber = subscriber(config, clock, std::io::stderr, terminal)?;
    tracing::subscriber::set_global_default(subscriber).map_err(TelemetryError::AlreadyStarted)
}

/// The subscriber that [`init`] installs, over any writer.
pub fn subscriber<W>(
    config: &LogConfig,
    clock: Arc<dyn Clock>,
    writer: W,
    terminal: bool,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(&config.filter)
        .map_err(|source| TelemetryError::InvalidFilter {
            filter: config.filter.clone(),
            source,
        })?;
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_timer(ClockTime(clock));
    Ok(if json {
        Box::new(registry.with(lines.json().flatten_event(true).with_current_span(false)))
    } else {
        Box::new(registry.with(lines.with_ansi(terminal).with_target(false)))
    })
}

struct ClockTime(Arc<dyn Clock>);

impl FormatTime for ClockTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:.3}", self.0.now())
    }
}
