//! HTTP/1.1 at the gateway: the internal service, and the proxy for everything
//! else.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connect::{ConnectError, connect};
use super::names::{normal_name, quoted};
use super::session::Session;
use super::sniff::Replayed;
use super::tcp::rechecks;
use crate::{EgressRequest, EgressVerdict, INTERNAL_HOST, REFUSALS_PATH};

/// The most bytes of a request's or answer's head.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;

/// The query parameter of requests that wait for something to happen.
const WAIT_PARAMETER: &str = "wait_seconds";

type Body = BoxBody<Bytes, hyper::Error>;
type Reply = Response<Body>;

/// Headers that concern one connection only and are not passed on (RFC 9110,
/// section 7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Serves `http://creto.internal/`.
pub(super) async fn serve_internal(session: &Arc<Session>, stream: Replayed) -> io::Result<()> {
    // A program that hangs up waits no longer.
    run(session, stream, false, |request| async {
        Ok(internal(session, request).await)
    })
    .await
}

/// Passes requests on to the one name that the connection was made for.
pub(super) async fn proxy(
    session: &Arc<Session>,
    stream: Replayed,
    request: EgressRequest,
) -> io::Result<()> {
    let proxy = Proxy {
        session,
        destination: request,
        upstream: Mutex::new(None),
        open: parking_lot::Mutex::new(JoinSet::new()),
        cut: parking_lot::Mutex::new(None),
    };
    let ended = Notify::new();
    let serving = async {
        let result = run(session, stream, true, |request| async {
            Ok(proxy.forward(request).await)
        })
        .await;
        ended.notify_one();
        result
    };
    // Neither may stand still for the other: each can be next in line for the
    // pace or the log, and whoever is next in line and is not polled holds up
    // everybody behind it.
    let (result, ()) = tokio::join!(serving, proxy.watch(&ended));
    result
}

/// Answers every request on the connection with the refusal.
pub(super) async fn refuse(
    session: &Arc<Session>,
    stream: Replayed,
    verdict: EgressVerdict,
) -> io::Result<()> {
    run(session, stream, true, |_| async { Ok(refusal(&verdict)) }).await
}

/// Serves one connection. With `half_close` a program that only ends its sending
/// side still gets its answer; without, its end of sending is a hang-up and drops
/// what is being served.
async fn run<S, F>(
    session: &Arc<Session>,
    stream: Replayed,
    half_close: bool,
    serve: S,
) -> io::Result<()>
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Reply, Infallible>>,
{
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(session.config().head_timeout)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .half_close(half_close)
        .serve_connection(TokioIo::new(stream), service_fn(serve))
        .await
        .map_err(io::Error::other)
}

// --- the internal service ---------------------------------------------------

async fn internal(session: &Session, request: Request<Incoming>) -> Reply {
    if let Err(problem) = check_host(&request, INTERNAL_HOST, 80) {
        return problem_reply(
            StatusCode::MISDIRECTED_REQUEST,
            "egress_name_mismatch",
            &problem,
        );
    }
    if request.uri().path() == REFUSALS_PATH {
        return refusals(session, request.method());
    }
    let waits = waits(request.uri());
    let slots = if waits {
        &session.waiting
    } else {
        &session.internal
    };
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("it is never closed");
    let Some(services) = session.services() else {
        return problem_reply(
            StatusCode::SERVICE_UNAVAILABLE,
            "egress_not_ready",
            "Creto is still starting",
        );
    };
    let limit = session.config().max_internal_body;
    let (mut head, body) = request.into_parts();
    let collected = timeout(
        session.config().head_timeout,
        Limited::new(body, limit).collect(),
    )
    .await;
    let body = match collected {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return problem_reply(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                &format!("a request to creto.internal carries at most {limit} bytes"),
            );
        }
        Ok(Err(_)) => {
            return problem_reply(
                StatusCode::BAD_REQUEST,
                "body_unreadable",
                "the request's body ended early",
            );
        }
        Err(_) => {
            return problem_reply(
                StatusCode::REQUEST_TIMEOUT,
                "body_too_slow",
                "the request's body did not arrive in time",
            );
        }
    };
    strip_hop_by_hop(&mut head.headers);
    let (sandbox, service) = (session.sandbox, Arc::clone(&services.internal));
    let serving = async move {
        let answer = service
            .serve(sandbox, Request::from_parts(head, body))
            .await;
        answer.map(|bytes| full(Bytes::from_owner(Held { bytes, _slot: slot })))
    };
    let mut answer = if waits {
        serving.await
    } else {
        // It keeps its place until it is done, whether somebody still listens or
        // not: a service may carry a change through after a hang-up.
        match tokio::spawn(serving).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%sandbox, %error, "a request to creto.internal failed");
                return problem_reply(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal_error",
                    "the request could not be served",
                );
            }
        }
    };
    strip_hop_by_hop(answer.headers_mut());
    answer
}

/// Whether the request asks to be answered later, when something has happened.
fn waits(uri: &Uri) -> bool {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .any(|pair| pair.split('=').next() == Some(WAIT_PARAMETER))
}

/// The bytes of an answer. Its place is free again when they are sent and gone,
/// so a program that does not read cannot make answers pile up.
struct Held {
    bytes: Bytes,
    _slot: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn refusals(session: &Session, method: &Method) -> Reply {
    if method != Method::GET && method != Method::HEAD {
        return problem_reply(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "the refusals can only be read",
        );
    }
    let json = session.refusals.lock().to_json();
    let mut reply = Response::new(full(json.into()));
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

// --- the proxy --------------------------------------------------------------

struct Proxy<'a> {
    session: &'a Arc<Session>,
    destination: EgressRequest,
    /// Requests of one connection come one after the other, so the lock is never
    /// contended.
    upstream: Mutex<Option<SendRequest<Incoming>>>,
    /// The tasks that move the bytes to and from the real server. Dropping them
    /// closes its connection, in the midst of a request or an answer too.
    open: parking_lot::Mutex<JoinSet<()>>,
    /// Why the exchange under way was ended.
    cut: parking_lot::Mutex<Option<EgressVerdict>>,
}

impl Proxy<'_> {
    /// Asks policy again from time to time until the program's connection has
    /// ended. A change of mind that was found is recorded even then.
    async fn watch(&self, ended: &Notify) {
        let mut recheck = rechecks(self.session);
        recheck.tick().await;
        loop {
            tokio::select! {
                () = ended.notified() => return,
                _ = recheck.tick() => {}
            }
            self.recheck().await;
        }
    }

    /// Asks policy again while a connection is open, and closes it when the
    /// answer has changed.
    async fn recheck(&self) {
        {
            let mut open = self.open.lock();
            while open.try_join_next().is_some() {}
            if open.is_empty() {
                return;
            }
        }
        if let Some(verdict) = self.session.no_longer(&self.destination).await {
            // The exchange under way learns why it ends as soon as it does.
            *self.cut.lock() = Some(verdict.clone());
            self.open.lock().abort_all();
            self.session.changed(&self.destination, verdict).await;
        }
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Reply {
        let EgressRequest {
            host,
            port,
            protocol,
        } = &self.destination;
        if request.method() == Method::CONNECT {
            let verdict = self
                .session
                .refuse(
                    *protocol,
                    host,
                    *port,
                    "egress_tunnel_refused",
                    "CONNECT opens a tunnel past the gateway; connect to the name itself",
                )
                .await;
            return refusal(&verdict);
        }
        if let Err(problem) = check_host(&request, host, *port) {
            let verdict = self
                .session
                .refuse(*protocol, host, *port, "egress_name_mismatch", problem)
                .await;
            return refusal(&verdict);
        }
        let verdict = self.session.decide(&self.destination).await;
        if !verdict.is_allow() {
            return refusal(&verdict);
        }
        if let Err(problem) = prepare(&mut request, host, *port) {
            return problem_reply(StatusCode::BAD_REQUEST, "request_target_invalid", &problem);
        }
        *self.cut.lock() = None;
        let mut upstream = self.upstream.lock().await;
        let mut sender = match upstream.take() {
            Some(sender) if sender.is_ready() => sender,
            _ => match self.open().await {
                Ok(sender) => sender,
                Err(reply) => return reply,
            },
        };
        let limit = self.session.config().response_timeout;
        match timeout(limit, sender.send_request(request)).await {
            Ok(Ok(answer)) => {
                *upstream = Some(sender);
                let mut answer = answer.map(BodyExt::boxed);
                strip_hop_by_hop(answer.headers_mut());
                answer
            }
            Ok(Err(error)) => match self.cut.lock().take() {
                Some(verdict) => refusal(&verdict),
                None => problem_reply(
                    StatusCode::BAD_GATEWAY,
                    "upstream_failed",
                    &format!("{host} broke off: {}", chain(&error)),
                ),
            },
            Err(_) => problem_reply(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_timeout",
                &format!("{host} did not answer within {} seconds", limit.as_secs()),
            ),
        }
    }

    /// Opens the connection to the real server.
    async fn open(&self) -> Result<SendRequest<Incoming>, Reply> {
        let bad_gateway = |code, detail: &str| problem_reply(StatusCode::BAD_GATEWAY, code, detail);
        let stream =
            connect(self.session, &self.destination)
                .await
                .map_err(|error| match error {
                    ConnectError::Refused(verdict) => refusal(&verdict),
                    ConnectError::Unresolved(detail) => bad_gateway("upstream_unresolved", &detail),
                    ConnectError::Unreachable(detail) => {
                        bad_gateway("upstream_unreachable", &detail)
                    }
                })?;
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| bad_gateway("upstream_failed", &chain(&error)))?;
        // Ends with the sender: hyper closes an idle connection nobody can use.
        self.open.lock().spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(sender)
    }
}

/// The request must name, in `Host` and in an absolute target, the host that the
/// connection was made for; otherwise an allowed name would be a door to every
/// other site on the same server.
fn check_host(request: &Request<Incoming>, host: &str, port: u16) -> Result<(), String> {
    let mut named = request.headers().get_all(HOST).iter();
    let header = named
        .next()
        .ok_or("the request has no Host header")?
        .to_str()
        .map_err(|_| "the Host header is not text")?;
    if named.next().is_some() {
        return Err("the request has more than one Host header".to_owned());
    }
    let authority = request.uri().authority().map(ToString::to_string);
    for given in std::iter::once(header).chain(authority.as_deref()) {
        if !names(given, host, port) {
            return Err(format!(
                "the request names {}, but the connection was made for {host} port {port}",
                quoted(given)
            ));
        }
    }
    Ok(())
}

/// Whether `name` or `name:port` stands for this host and port.
fn names(given: &str, host: &str, port: u16) -> bool {
    let (name, given_port) = match given.rsplit_once(':') {
        Some((name, digits)) => match digits.parse::<u16>() {
            Ok(given_port) => (name, given_port),
            Err(_) => return false,
        },
        None => (given, 80),
    };
    normal_name(name) == host && given_port == port
}

/// Puts the request into the form in which an origin server gets it.
fn prepare(request: &mut Request<Incoming>, host: &str, port: u16) -> Result<(), String> {
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let target: Uri = target
        .parse()
        .map_err(|error| format!("the request target cannot be passed on: {error}"))?;
    *request.uri_mut() = target;
    *request.version_mut() = hyper::Version::HTTP_11;
    strip_hop_by_hop(request.headers_mut());
    let authority = if port == 80 {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    let authority = HeaderValue::from_str(&authority)
        .map_err(|_| "the host name cannot stand in a header".to_owned())?;
    request.headers_mut().insert(HOST, authority);
    Ok(())
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A request without a Host would be another request.
        .filter(|name| name != HOST)
        .collect();
    for name in listed {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

// --- answers of the gateway itself -------------------------------------------

fn refusal(verdict: &EgressVerdict) -> Reply {
    match verdict {
        EgressVerdict::Refuse {
            code,
            message,
            retry_after: None,
            ..
        } => problem_reply(StatusCode::FORBIDDEN, code, message),
        EgressVerdict::Refuse {
            code,
            message,
            retry_after: Some(wait),
            ..
        } => {
            let mut reply = problem_reply(StatusCode::TOO_MANY_REQUESTS, code, message);
            // Rounded up: waiting that long is enough.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let headers = reply.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            reply
        }
        // Nothing answers an allowed request with a refusal; if it happened, the
        // program must not take it for success.
        EgressVerdict::Allow { .. } => problem_reply(
            StatusCode::BAD_GATEWAY,
            "upstream_failed",
            "the request was allowed but not passed on",
        ),
    }
}

/// Problem details (RFC 9457).
fn problem_reply(status: StatusCode, code: &str, detail: &str) -> Reply {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Refused"),
        "status": status.as_u16(),
        "detail": detail,
        "code": code,
    });
    let mut reply = Response::new(full(body.to_string().into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    reply
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn chain(error: &(dyn Error + 'static)) -> String {
    creto_errors::chain(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_header_stands_for_one_host_and_port() {
        assert!(names("a.test", "a.test", 80));
        assert!(names("A.test.", "a.test", 80));
        assert!(names("a.test:8080", "a.test", 8080));
        assert!(!names("a.test", "a.test", 8080));
        assert!(!names("a.test:80", "a.test", 8080));
        assert!(!names("b.test", "a.test", 80));
        assert!(!names("a.test:", "a.test", 80));
        assert!(!names("x@a.test", "a.test", 80));
        assert!(!names("[::1]", "a.test", 80));
    }

    #[test]
    fn requests_that_wait_are_told_from_others() {
        let waits = |target: &'static str| super::waits(&Uri::from_static(target));
        assert!(waits("/v1/x?wait_seconds=20"));
        assert!(waits("/v1/x?a=b&wait_seconds"));
        assert!(!waits("/v1/wait_seconds"));
        assert!(!waits("/v1/x?no_wait_seconds=1&a=wait_seconds"));
    }

    #[test]
    fn connection_headers_stay_on_their_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, x-private, host"),
            ("x-private", "1"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic eA=="),
            ("host", "a.test"),
            ("accept", "*/*"),
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        strip_hop_by_hop(&mut headers);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["host", "accept"]);
    }
}
