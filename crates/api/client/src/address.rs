//! Where the server is: always on this machine.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::ClientError;

/// The address of a server on this machine's loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAddress(SocketAddr);

impl ServerAddress {
    /// This socket address, if it is on the loopback.
    pub fn new(address: SocketAddr) -> Result<Self, ClientError> {
        if address.ip().is_loopback() {
            Ok(Self(address))
        } else {
            Err(refused(
                &address.to_string(),
                "it is not on the loopback, and the credential would cross the network in clear \
                 text; use 127.0.0.1 or [::1], through a tunnel if the server is elsewhere",
            ))
        }
    }

    /// The socket address.
    #[must_use]
    pub const fn socket(&self) -> SocketAddr {
        self.0
    }

    /// The absolute address of a path, which starts with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0)
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

impl FromStr for ServerAddress {
    type Err = ClientError;

    /// `http://127.0.0.1:PORT`, or the same without `http://`; `localhost` stands
    /// for 127.0.0.1.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("https://") {
            return Err(refused(
                text,
                "the server speaks plain HTTP on the loopback",
            ));
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let form = "expected http://127.0.0.1:PORT";
        let socket = match rest.strip_prefix("localhost:") {
            Some(port) => {
                let port = port.parse().map_err(|_| refused(text, form))?;
                SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port)
            }
            None => rest.parse().map_err(|_| refused(text, form))?,
        };
        Self::new(socket)
    }
}

fn refused(address: &str, why: &'static str) -> ClientError {
    ClientError::Address {
        address: address.to_owned(),
        why,
    }
}
