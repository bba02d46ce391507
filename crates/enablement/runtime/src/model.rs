//! What a sandbox asks of the network, and what it was told.

use std::fmt;
use std::time::Duration;

use creto_types::Timestamp;
use serde::{Deserialize, Serialize};

/// The name under which Creto itself answers inside a sandbox.
pub const INTERNAL_HOST: &str = "creto.internal";

/// Where the program reads what the gateway refused it:
/// `http://creto.internal/v1/egress/refusals`.
pub const REFUSALS_PATH: &str = "/v1/egress/refusals";

/// How a sandbox tried to reach somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressProtocol {
    /// It asked for a name.
    Dns,
    /// An HTTP/1.1 request.
    Http,
    /// A TLS connection, named by its server name indication.
    Tls,
    /// Any other TCP connection.
    Tcp,
    /// A datagram. Always refused, so [`crate::EgressDecision`] never sees it.
    Udp,
}

impl EgressProtocol {
    /// `dns`, `http`, `tls`, `tcp` or `udp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for EgressProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A question to policy: may this sandbox reach that host?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressRequest {
    /// The name: lower case, without the final dot.
    pub host: String,
    /// The port; 0 when only the name is asked for.
    pub port: u16,
    /// How.
    pub protocol: EgressProtocol,
}

/// Policy's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressVerdict {
    /// Go ahead.
    Allow {
        /// The policies that decided.
        policies: Vec<String>,
        /// Whether that is in the log already, as what counts is.
        on_record: bool,
    },
    /// No.
    Refuse {
        /// A stable code that the program can act on.
        code: String,
        /// Why, for whoever reads the program's output.
        message: String,
        /// The policies that decided.
        policies: Vec<String>,
        /// After this time it may be allowed; `None` when time alone mends nothing.
        retry_after: Option<Duration>,
    },
}

impl EgressVerdict {
    /// Whether it is an `Allow`.
    #[must_use]
    pub const fn is_allow(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    pub(crate) fn refuse(code: &str, message: impl Into<String>) -> Self {
        Self::Refuse {
            code: code.to_owned(),
            message: message.into(),
            policies: Vec::new(),
            retry_after: None,
        }
    }
}

/// One decision of the gateway, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressEvent {
    /// When.
    pub at: Timestamp,
    /// How the sandbox tried.
    pub protocol: EgressProtocol,
    /// The name, or the address when there was no name.
    pub destination: String,
    /// The port; 0 when only the name was asked for.
    pub port: u16,
    /// What it was told.
    pub verdict: EgressVerdict,
}

/// A refusal as the program reads it at [`REFUSALS_PATH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// How the program tried.
    pub protocol: EgressProtocol,
    /// What it tried to reach: `name`, `name:port` or `address:port`.
    pub destination: String,
    /// A stable code.
    pub code: String,
    /// Why.
    pub message: String,
    /// How many times.
    pub count: u64,
}
