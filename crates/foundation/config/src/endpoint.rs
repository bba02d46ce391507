//! Where a system runs: in this process, or behind gRPC.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use creto_errors::{Class, Classify};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `embedded`, or `grpc://host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// In this process.
    #[default]
    Embedded,
    /// In another process, reached over gRPC.
    Grpc {
        /// A DNS name, an IPv4 address, or an IPv6 address without brackets.
        host: String,
        /// The TCP port; never zero.
        port: u16,
    },
}

/// A text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `embedded` or `grpc://host:port`")]
pub struct EndpointError;

impl Classify for EndpointError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "invalid_endpoint"
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        let (host, port) = text
            .strip_prefix("grpc://")
            .and_then(|authority| authority.rsplit_once(':'))
            .ok_or(EndpointError)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(address) => address
                .parse::<Ipv6Addr>()
                .map_err(|_| EndpointError)?
                .to_string(),
            None if is_host_name(host) => host.to_ascii_lowercase(),
            None => return Err(EndpointError),
        };
        let port = Some(port)
            .filter(|port| port.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or(EndpointError)?;
        Ok(Self::Grpc { host, port })
    }
}

/// RFC 1123, section 2.1, with underscores, which orchestrators' names carry.
fn is_host_name(host: &str) -> bool {
    (1..=253).contains(&host.len())
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Grpc { host, port } if host.contains(':') => {
                write!(f, "grpc://[{host}]:{port}")
            }
            Self::Grpc { host, port } => write!(f, "grpc://{host}:{port}"),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_survive_their_text() {
        for text in [
            "embedded",
            "grpc://nhi.creto-platform.svc:50051",
            "grpc://127.0.0.1:1",
            "grpc://[::1]:65535",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "Embedded",
            "grpc://",
            "grpc://host",
            "grpc://host:",
            "grpc://host:0",
            "grpc://host:+1",
            "grpc://host:65536",
            "grpc://host:1/",
            "grpc://user@host:1",
            "grpc://::1:1",
            "grpc://-a:1",
            "grpc://a..b:1",
            "grpcs://host:1",
            "http://host:1",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(grpc://)?.{0,40}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }
    }
}
