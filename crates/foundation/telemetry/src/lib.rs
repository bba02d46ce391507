//! What an operator sees of a running Creto: log lines and metrics.
//!
//! Logs go to standard error, so that standard output stays what a command
//! prints. On a terminal they are made for reading, elsewhere they are one JSON
//! object a line. Every request runs in a span that carries `request_id`, and
//! everything that belongs to a governed action runs in a span that carries
//! `action_id`; see [`request_span`] and [`action_span`].
//!
//! [`Metrics`] is a typed facade: a label takes the values of an enum, or of
//! text that the program itself contains. Nothing that a caller can choose (an
//! agent, a host name, a path) becomes a label, so the number of series is
//! bounded and no name leaks into a metric.
//!
//! Secrets are kept out of logs by their own types (`creto_config::Secret`
//! shows `[redacted]`); this crate never formats headers, bodies or arguments.

mod error;
mod labels;
mod logging;
mod metrics;
mod spans;

pub use error::TelemetryError;
pub use labels::{
    AlgorithmReload, DecisionOutcome, EgressVerdict, Label, LeafClass, LimitNotice, OversightState,
    PolicyReload, PolicyShadow, ReservationEvent, SandboxExit,
};
pub use logging::{LogConfig, LogFormat, LogFormatError, init, subscriber};
pub use metrics::{CheckTotals, CounterFamily, GaugeValue, METRICS_CONTENT_TYPE, Metrics};
pub use spans::{RequestId, RequestKind, action_span, record_action, request_span};
