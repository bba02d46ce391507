//! Accepts what a sandbox opens and finds out where each connection may go.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::connect::connect;
use super::http;
use super::names::{normal_name, quoted};
use super::session::Session;
use super::sniff::{Replayed, Spoken, Watched, sniff};
use crate::{EgressProtocol, EgressRequest, INTERNAL_HOST};

/// A `ClientHello` is one or a few TLS records of at most 16 KiB; post-quantum
/// key shares make it a few KiB.
const MAX_CLIENT_HELLO: usize = 32 * 1024;

/// A fatal `access_denied` alert in the clear (RFC 8446, section 6.2), so that
/// the program's TLS library can say why.
const ACCESS_DENIED: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x31];

/// The connections of a sandbox, each with the address that the program dialled.
#[async_trait]
pub trait Incoming: Send + 'static {
    /// The next connection and its original destination.
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)>;
}

/// A transparent listener: the local address of what it accepts is the address
/// that was dialled.
#[async_trait]
impl Incoming for TcpListener {
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, _) = TcpListener::accept(self).await?;
        let destination = stream.local_addr()?;
        Ok((stream, destination))
    }
}

/// Accepts until the session ends; ends every connection with it.
pub(super) async fn serve(session: Arc<Session>, mut incoming: impl Incoming) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&session.connections).acquire_owned().await else {
            return;
        };
        match incoming.accept().await {
            Ok((stream, destination)) => {
                let session = Arc::clone(&session);
                connections.spawn(async move {
                    if let Err(error) = connection(&session, stream, destination).await {
                        tracing::debug!(
                            sandbox = %session.sandbox, %destination, %error, "connection ended"
                        );
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(sandbox = %session.sandbox, %error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(
    session: &Arc<Session>,
    stream: TcpStream,
    destination: SocketAddr,
) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let name = session.name_of(destination.ip());
    let port = destination.port();
    match name.as_deref() {
        Some(INTERNAL_HOST) if port == 80 => {
            http::serve_internal(session, Replayed::new(Vec::new(), stream)).await
        }
        Some(INTERNAL_HOST) => {
            session
                .refuse(
                    EgressProtocol::Tcp,
                    INTERNAL_HOST,
                    port,
                    "egress_not_allowed",
                    "creto.internal answers plain HTTP on port 80 only",
                )
                .await;
            reset(&stream);
            Ok(())
        }
        Some(name) => named(session, stream, name, port).await,
        None => literal(session, stream, destination).await,
    }
}

/// A connection to a name that the sandbox's resolver has answered.
async fn named(session: &Arc<Session>, stream: TcpStream, name: &str, port: u16) -> io::Result<()> {
    let config = session.config();
    // On port 80 the HTTP parser says what is wrong with anything else.
    let patience = match port {
        80 => config.sniff_timeout,
        _ => config.head_timeout,
    };
    let (spoken, stream) = sniff(stream, config.sniff_timeout, patience).await?;
    let request = |protocol| EgressRequest {
        host: name.to_owned(),
        port,
        protocol,
    };
    match spoken {
        Spoken::Tls => tls(session, stream, request(EgressProtocol::Tls)).await,
        _ if port == 80 => http::proxy(session, stream, request(EgressProtocol::Http)).await,
        Spoken::Http => http::proxy(session, stream, request(EgressProtocol::Http)).await,
        Spoken::Other => {
            let request = request(EgressProtocol::Tcp);
            let (first, mut stream) = stream.into_parts();
            if !session.decide(&request).await.is_allow() {
                reset(&stream);
                return Ok(());
            }
            let end = splice(session, &first, &mut stream, &request).await?;
            finish(end, &stream);
            Ok(())
        }
        Spoken::Silent => {
            silent(session, stream.into_parts().1, request(EgressProtocol::Tcp)).await
        }
        Spoken::Unclear => {
            unclear(
                session,
                &stream.into_parts().1,
                &request(EgressProtocol::Tcp),
            )
            .await;
            Ok(())
        }
    }
}

/// The server may be the one that speaks first. When it is the program after
/// all, HTTP and TLS begin anew, on a connection that is checked as theirs.
async fn silent(
    session: &Arc<Session>,
    stream: TcpStream,
    request: EgressRequest,
) -> io::Result<()> {
    if !session.decide(&request).await.is_allow() {
        reset(&stream);
        return Ok(());
    }
    let mut watched = Watched::new(stream, session.config().head_timeout);
    let end = splice(session, &[], &mut watched, &request).await;
    let (found, first, stream) = watched.into_parts();
    let spoken_as = |protocol| EgressRequest {
        protocol,
        ..request.clone()
    };
    match found {
        Some(Spoken::Http) => {
            let stream = Replayed::new(first, stream);
            http::proxy(session, stream, spoken_as(EgressProtocol::Http)).await
        }
        Some(Spoken::Tls) => {
            let stream = Replayed::new(first, stream);
            tls(session, stream, spoken_as(EgressProtocol::Tls)).await
        }
        Some(_) => {
            unclear(session, &stream, &request).await;
            Ok(())
        }
        None => {
            finish(end?, &stream);
            Ok(())
        }
    }
}

async fn unclear(session: &Session, stream: &TcpStream, request: &EgressRequest) {
    session
        .refuse(
            request.protocol,
            &request.host,
            request.port,
            "egress_protocol_unclear",
            "what was sent first could become an HTTP request, or hide one, and cannot be told",
        )
        .await;
    reset(stream);
}

/// A connection to an address that no resolver of ours has given out.
async fn literal(
    session: &Arc<Session>,
    stream: TcpStream,
    destination: SocketAddr,
) -> io::Result<()> {
    let wait = session.config().sniff_timeout;
    let (spoken, stream) = sniff(stream, wait, wait).await?;
    let protocol = match spoken {
        Spoken::Http => EgressProtocol::Http,
        Spoken::Tls => EgressProtocol::Tls,
        Spoken::Other | Spoken::Silent | Spoken::Unclear => EgressProtocol::Tcp,
    };
    let verdict = session
        .refuse(
            protocol,
            &destination.ip().to_string(),
            destination.port(),
            "egress_address_literal",
            "connections are made by name; an address given directly goes nowhere",
        )
        .await;
    match spoken {
        Spoken::Http => http::refuse(session, stream, verdict).await,
        Spoken::Tls => deny_tls(stream.into_parts().1).await,
        Spoken::Other | Spoken::Silent | Spoken::Unclear => {
            reset(&stream.into_parts().1);
            Ok(())
        }
    }
}

/// Reads the `ClientHello`, checks its server name, and passes on everything
/// unread.
async fn tls(session: &Arc<Session>, stream: Replayed, request: EgressRequest) -> io::Result<()> {
    let (mut first, mut stream) = stream.into_parts();
    let named = timeout(
        session.config().head_timeout,
        server_name(&mut first, &mut stream),
    )
    .await;
    let refusal = match named {
        Ok(Ok(Some(name))) if normal_name(&name) == request.host => None,
        Ok(Ok(Some(name))) => Some((
            "egress_name_mismatch",
            format!(
                "the TLS server name is {}, but the connection was made for {}",
                quoted(&name),
                request.host
            ),
        )),
        Ok(Ok(None)) => Some((
            "egress_tls_unnamed",
            "the TLS ClientHello carries no server name".to_owned(),
        )),
        Ok(Err(error)) => Some((
            "egress_tls_invalid",
            format!("the TLS ClientHello cannot be read: {error}"),
        )),
        Err(_) => Some((
            "egress_tls_invalid",
            "the TLS ClientHello did not arrive in time".to_owned(),
        )),
    };
    if let Some((code, message)) = refusal {
        session
            .refuse(request.protocol, &request.host, request.port, code, message)
            .await;
        return deny_tls(stream).await;
    }
    if !session.decide(&request).await.is_allow() {
        return deny_tls(stream).await;
    }
    let end = splice(session, &first, &mut stream, &request).await?;
    finish(end, &stream);
    Ok(())
}

/// Reads on until the `ClientHello` is whole and returns its server name.
async fn server_name(first: &mut Vec<u8>, stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut acceptor = Acceptor::default();
    let mut fed = 0_usize;
    loop {
        while let Some(mut rest) = first.get(fed..).filter(|rest| !rest.is_empty()) {
            let taken = acceptor.read_tls(&mut rest)?;
            if taken == 0 {
                break;
            }
            fed = fed.saturating_add(taken);
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Ok(accepted.client_hello().server_name().map(str::to_owned));
            }
            Ok(None) => {}
            Err((error, _)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        if first.len() >= MAX_CLIENT_HELLO {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
        }
        let mut chunk = [0_u8; 4096];
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first.extend_from_slice(chunk.get(..length).unwrap_or_default());
    }
}

/// How a spliced connection ended.
enum End {
    /// By one of its sides.
    Closed,
    /// Policy, the guard or the network does not let it be.
    Cut,
}

/// Connects both sides and asks policy again from time to time, so that a
/// revocation also ends what is already open.
async fn splice(
    session: &Arc<Session>,
    first: &[u8],
    inside: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &EgressRequest,
) -> io::Result<End> {
    let Ok(mut outside) = connect(session, request).await else {
        return Ok(End::Cut);
    };
    let mut recheck = rechecks(session);
    recheck.tick().await;
    let copying = async {
        outside.write_all(first).await?;
        copy_bidirectional(inside, &mut outside).await
    };
    let changing = async {
        loop {
            recheck.tick().await;
            if let Some(verdict) = session.no_longer(request).await {
                return verdict;
            }
        }
    };
    let verdict = tokio::select! {
        result = copying => {
            result?;
            return Ok(End::Closed);
        }
        verdict = changing => verdict,
    };
    // The server is let go of first: the record may have to wait.
    reset(&outside);
    drop(outside);
    session.changed(request, verdict).await;
    Ok(End::Cut)
}

/// When policy is asked again; the first tick comes at once.
pub(super) fn rechecks(session: &Session) -> Interval {
    let mut recheck = interval(session.config().recheck_interval);
    recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
    recheck
}

fn finish(end: End, inside: &TcpStream) {
    match end {
        End::Closed => {}
        End::Cut => reset(inside),
    }
}

async fn deny_tls(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(&ACCESS_DENIED).await?;
    stream.shutdown().await
}

/// Makes closing the connection a reset, so that the program sees a refusal and
/// not an orderly end.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "cannot reset a connection");
    }
}
