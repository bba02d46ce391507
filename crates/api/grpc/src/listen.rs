//! Connections: accepted, served, and let go.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Cursor};
use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::Grpc;

/// The most calls of one connection at once.
const CALLS: u32 = 64;

/// The most bytes of a call's headers; a token is the greatest of them.
const HEADERS: u32 = 32 * 1024;

/// What every connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection may take to say that.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// How often a silent peer is asked whether it is there, and how long it may take to
/// say so.
const ARE_YOU_THERE: Duration = Duration::from_secs(60);
const I_AM: Duration = Duration::from_secs(20);

/// How long nothing is accepted after the system refused to: it is out of descriptors
/// or memory, and trying at once would keep it so.
const BREATH: Duration = Duration::from_secs(1);

/// With a call that may last: ends when the server was told to stop.
#[derive(Clone)]
pub(crate) struct Stopping(watch::Receiver<()>);

impl Stopping {
    pub(crate) async fn told(&mut self) {
        // The channel closes, nothing is ever sent.
        let _ = self.0.changed().await;
    }
}

impl Grpc {
    /// Serves until `stop`, and then until every call that began is answered.
    /// Dropped before that, it cuts them off.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let (told, stopping) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let serving = connection(self.clone(), stream, stopping.clone());
                        connections.spawn(serving.in_current_span());
                    }
                    Err(error) if is_the_callers(&error) => {}
                    Err(error) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "no connection can be accepted"
                        );
                        tokio::time::sleep(BREATH).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        drop(told);
        while connections.join_next().await.is_some() {}
    }
}

/// A connection that ended before it was accepted.
fn is_the_callers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

async fn connection(grpc: Grpc, mut stream: TcpStream, mut stopping: watch::Receiver<()>) {
    // Read here, because the library waits for it without end, the server's own
    // included.
    let mut preface = [0; PREFACE.len()];
    let spoke = tokio::select! {
        spoke = tokio::time::timeout(FIRST_WORD, stream.read_exact(&mut preface)) => {
            matches!(spoke, Ok(Ok(_))) && preface == *PREFACE
        }
        // The channel closes, nothing is ever sent.
        _ = stopping.changed() => false,
    };
    // Answers are small and waited for.
    if !spoke || stream.set_nodelay(true).is_err() {
        return;
    }
    let (reading, writing) = stream.into_split();
    let stream = tokio::io::join(Cursor::new(preface).chain(reading), writing);
    let told = Stopping(stopping.clone());
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let grpc = grpc.clone();
        request.extensions_mut().insert(told.clone());
        async move { Ok::<_, Infallible>(grpc.answer(request).await) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(CALLS)
        .max_header_list_size(HEADERS)
        .keep_alive_interval(ARE_YOU_THERE)
        .keep_alive_timeout(I_AM)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        _ = stopping.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection ended early"
        );
    }
}
