//! Around every call: its id, its span, its metrics, its deadline, who makes it, and
//! the last touch on its response.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use creto_errors::Classify as _;
use creto_governor::Governor;
use creto_ingress::{CredentialError, Hosts, NONCE_HEADER};
use creto_proto::authz::v1::authz_server::AuthzServer;
use creto_proto::consensus::v1::timestamps_server::TimestampsServer;
use creto_telemetry::{RequestId, request_span};
use creto_types::{Clock, IdSource};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::ServiceExt as _;
use tracing::Instrument as _;

use crate::authz::Service;
use crate::refusal::{MESSAGE_LIMIT, Refusal};
use crate::timeout;
use crate::timestamps::Timestamps;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every method, as its path says it.
const METHODS: [&str; 8] = [
    "/creto.authz.v1.Authz/Check",
    "/creto.authz.v1.Authz/CheckBatch",
    "/creto.authz.v1.Authz/Submit",
    "/creto.authz.v1.Authz/Settle",
    "/creto.authz.v1.Authz/Release",
    "/creto.consensus.v1.Timestamps/Reserve",
    "/creto.consensus.v1.Timestamps/ReserveStream",
    "/creto.consensus.v1.Timestamps/Order",
];

/// What the paths of timestamps begin with.
const TIMESTAMPS: &str = "/creto.consensus.v1.";

/// The whole interface; a clone is the same one.
#[derive(Clone)]
pub struct Grpc {
    shared: Arc<Shared>,
    authz: AuthzServer<Service>,
    timestamps: TimestampsServer<Timestamps>,
}

struct Shared {
    governor: Arc<Governor>,
    hosts: Hosts,
    ids: Arc<dyn IdSource>,
    clock: Arc<dyn Clock>,
}

impl Grpc {
    /// For calls that name one of these hosts.
    #[must_use]
    pub fn new(
        governor: Arc<Governor>,
        hosts: Hosts,
        ids: Arc<dyn IdSource>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let authz = AuthzServer::new(Service::new(Arc::clone(&governor)))
            .max_decoding_message_size(MESSAGE_LIMIT);
        let timestamps = TimestampsServer::new(Timestamps::new(Arc::clone(&governor)))
            .max_decoding_message_size(MESSAGE_LIMIT);
        Self {
            shared: Arc::new(Shared {
                governor,
                hosts,
                ids,
                clock,
            }),
            authz,
            timestamps,
        }
    }

    /// Answers one call.
    pub async fn answer<B>(&self, mut request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        if let Some(response) = no_grpc(&request) {
            return response;
        }
        let shared = &self.shared;
        let id: RequestId = shared.ids.next();
        // The path itself is the caller's text and becomes neither a label nor a span.
        let method = METHODS
            .into_iter()
            .find(|method| *method == request.uri().path());
        let speaks_dpop = creto_ingress::speaks_dpop(request.headers());
        let span = request_span(&id, "POST", method.unwrap_or("none"));
        request.extensions_mut().insert(id);
        let began = shared.clock.monotonic();
        let passed = self
            .pass(method.is_some(), request)
            .instrument(span.clone())
            .await;
        let took = shared.clock.monotonic().saturating_sub(began);

        let _entered = span.enter();
        let (mut response, code) = match passed {
            Ok(response) => self.finish(&id, response),
            Err(refusal) => self.refuse(&id, &refusal),
        };
        tracing::debug!(code = ?code, ?took, "answered");
        shared
            .governor
            .metrics()
            .grpc_request(method, name(code), took);
        if speaks_dpop && let Ok(nonce) = HeaderValue::from_str(&shared.governor.proof_nonce()) {
            response.headers_mut().insert(NONCE_HEADER, nonce);
        }
        if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }

    /// Lets a call through to its method, or refuses it before its message is read.
    async fn pass<B>(&self, known: bool, mut request: Request<B>) -> Result<Response<Body>, Refusal>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        let shared = &self.shared;
        if !shared.hosts.are_meant_by(&request) {
            return Err(Refusal::Misdirected);
        }
        if !known {
            return Err(Refusal::MethodNotFound);
        }
        let caller = creto_ingress::identify(&shared.governor, &shared.hosts, &request)?;
        let caller = caller.ok_or(CredentialError::Missing)?;
        request.extensions_mut().insert(caller);
        let limit = timeout::of(request.headers())?;
        if limit.is_zero() {
            return Err(Refusal::TimedOut);
        }
        let answered = async {
            if request.uri().path().starts_with(TIMESTAMPS) {
                self.timestamps.clone().oneshot(request).await
            } else {
                self.authz.clone().oneshot(request).await
            }
        };
        match tokio::time::timeout(limit, answered).await {
            Ok(response) => Ok(response.unwrap_or_else(|never: Infallible| match never {})),
            Err(_elapsed) => Err(Refusal::TimedOut),
        }
    }

    /// What tonic answered: a method's answer, a method's refusal, or what it made of a
    /// message that cannot be read.
    fn finish(&self, id: &RequestId, response: Response<Body>) -> (Response<Body>, Code) {
        let Some(status) = response.extensions().get::<Status>() else {
            return (response, Code::Ok);
        };
        let refusal = status
            .source()
            .and_then(|source| source.downcast_ref::<Refusal>());
        match refusal {
            Some(refusal) => self.refuse(id, refusal),
            None => self.refuse(id, &Refusal::of_framing(status)),
        }
    }

    /// What operators see of an error; callers get its top message only.
    fn refuse(&self, id: &RequestId, refusal: &Refusal) -> (Response<Body>, Code) {
        self.shared.governor.metrics().error(refusal);
        if refusal.kind().is_fault() {
            tracing::error!(
                code = refusal.code(),
                error = creto_errors::chain(refusal),
                "failed"
            );
        } else {
            tracing::debug!(code = refusal.code(), "refused");
        }
        let status = refusal.to_status(id);
        let code = status.code();
        (status.into_http(), code)
    }
}

/// What is not gRPC at all is answered in HTTP's words ("gRPC over HTTP2", Requests).
fn no_grpc<B>(request: &Request<B>) -> Option<Response<Body>> {
    let status = if request.method() != Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("application/grpc"))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([';', '+']))
    {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    Some(response)
}

/// As `google/rpc/code.proto` writes it.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
