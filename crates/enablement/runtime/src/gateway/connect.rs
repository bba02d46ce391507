//! From an allowed name to an open connection.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::session::Session;
use crate::{EgressRequest, EgressVerdict};

/// Why there is no connection.
pub(super) enum ConnectError {
    /// The name leads to addresses that the guard does not permit. In the record.
    Refused(EgressVerdict),
    /// The name has no address or cannot be resolved.
    Unresolved(String),
    /// Nobody answers there.
    Unreachable(String),
}

/// Resolves the name, checks every address and connects to one that passed. The
/// address that was checked is the one that is dialled: a second lookup could
/// answer differently.
pub(super) async fn connect(
    session: &Session,
    request: &EgressRequest,
) -> Result<TcpStream, ConnectError> {
    let limit = session.config().connect_timeout;
    let host = request.host.as_str();
    let addresses = match timeout(limit, session.gateway.resolver.resolve(host)).await {
        Err(_) => {
            return Err(ConnectError::Unresolved(format!(
                "resolving {host} took too long"
            )));
        }
        Ok(Err(error)) => {
            tracing::debug!(sandbox = %session.sandbox, host, %error, "cannot resolve");
            return Err(ConnectError::Unresolved(format!(
                "{host} could not be resolved"
            )));
        }
        Ok(Ok(addresses)) if addresses.is_empty() => {
            return Err(ConnectError::Unresolved(format!("{host} has no address")));
        }
        Ok(Ok(addresses)) => addresses,
    };
    let permitted: Vec<IpAddr> = addresses
        .iter()
        .copied()
        .filter(|address| session.config().guard.permits(*address))
        .collect();
    if permitted.is_empty() {
        let verdict = session
            .refuse(
                request.protocol,
                host,
                request.port,
                "egress_address_refused",
                format!("{host} leads to an address that is not public and not listed"),
            )
            .await;
        return Err(ConnectError::Refused(verdict));
    }
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in permitted {
        let address = SocketAddr::new(address, request.port);
        match timeout(limit, session.gateway.dialer.dial(address)).await {
            Ok(Ok(stream)) => {
                // A failure to set it costs latency and nothing else.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(ConnectError::Unreachable(format!(
        "{host} port {} does not answer: {last}",
        request.port
    )))
}
