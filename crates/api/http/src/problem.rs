//! Errors on the wire: problem documents (RFC 9457), and the statuses of what is
//! refused. Which kind of refusal an error is stands in `creto-ingress`.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use creto_errors::{Class, Classify};
use creto_governor::{FindingAnswer, GovernError};
use creto_ingress::Kind;
use creto_metering::MeteringError;
use creto_nhi::{DpopError, NhiError};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ApiError;

/// The media type of a problem document.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// When to ask again for an export that has to wait for others.
const EXPORTS_TAKE: Duration = Duration::from_secs(30);

/// The same for everybody, whatever was wrong with a bearer token.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"creto\"");

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// `urn:creto:error:` and the code; a URN of the AuthZEN Access Request and
    /// Approval Profile where that has one.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The status of the response.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// Stable; the name of a page in `docs/errors/`.
    pub code: String,
    /// `transient`, `permanent`, `degraded` or `security`: whether to try again.
    pub class: String,
    /// The field of the request that is to blame, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Every place that is to blame, when it is files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FindingAnswer>,
    /// Names this request in the server's log.
    pub request_id: String,
    /// What is wrong with a proof, as RFC 9449 names it; for the token endpoint.
    #[serde(skip)]
    pub(crate) oauth: Option<&'static str>,
}

impl Problem {
    pub(crate) fn of(error: &ApiError) -> Self {
        let code = error.code();
        Self {
            kind: kind(error, code),
            title: title(code),
            status: status(error).as_u16(),
            detail: error.to_string(),
            code: code.to_owned(),
            class: error.class().as_str().to_owned(),
            field: field(error),
            findings: findings(error),
            request_id: String::new(),
            oauth: dpop(error).and_then(DpopError::oauth_code),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The profile's "Error Responses" have types of their own.
fn kind(error: &ApiError, code: &str) -> String {
    let name = match error {
        ApiError::Govern(GovernError::NotRequestable { .. }) => "not_requestable",
        ApiError::DenialUnbound => "invalid_denial_binding",
        ApiError::DenialExpired => "expired_denial",
        ApiError::UnknownTask => "unknown_task",
        ApiError::DuplicateRequest => "duplicate_request",
        _ => return format!("urn:creto:error:{code}"),
    };
    format!("urn:openid:authzen:access-request:error:{name}")
}

/// The code with spaces, and a capital.
fn title(code: &str) -> String {
    let mut words = code.replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

/// Becomes the body once the request's id is known: see `observe.rs`.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem::of(&self);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = problem.status();
        if problem.status() == StatusCode::UNAUTHORIZED {
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
            let challenge = DpopChallenge(oauth_code(&self));
            response.extensions_mut().insert(challenge);
        }
        if self.class() == Class::Transient {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after(&self)));
        }
        let extensions = response.extensions_mut();
        extensions.insert(problem);
        extensions.insert(std::sync::Arc::new(self));
        response
    }
}

/// Whole seconds (RFC 9110, section 10.2.3), none too few.
fn retry_after(error: &ApiError) -> u64 {
    let wait = match error {
        ApiError::Govern(GovernError::TooManyExports) => Some(EXPORTS_TAKE),
        _ => dpop(error).and_then(DpopError::retry_after),
    };
    wait.map_or(1, |wait| {
        (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
    })
}

/// What is wrong with a proof, in a header or of an exchange, when it is that.
fn dpop(error: &ApiError) -> Option<&DpopError> {
    match error {
        ApiError::Credential(error) => error.dpop(),
        ApiError::Govern(GovernError::Nhi(NhiError::Dpop(error))) => Some(error),
        _ => None,
    }
}

/// What is wrong with a proof, or that one is missing, as RFC 9449 names it.
fn oauth_code(error: &ApiError) -> Option<&'static str> {
    match error {
        ApiError::Credential(error) => error.dpop().and_then(DpopError::oauth_code),
        _ => None,
    }
}

/// A refusal that tells how a proof is made, once the algorithms are known: see
/// `observe.rs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DpopChallenge(Option<&'static str>);

/// RFC 9449, section 7.1: the algorithms of proofs, and what is wrong with the one there
/// is or that is missing.
pub(crate) fn dpop_challenge(
    DpopChallenge(named): DpopChallenge,
    algorithms: &[&str],
) -> HeaderValue {
    let algorithms = algorithms.join(" ");
    let text = match named {
        Some(name) => format!("DPoP realm=\"creto\", error=\"{name}\", algs=\"{algorithms}\""),
        None => format!("DPoP realm=\"creto\", algs=\"{algorithms}\""),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("DPoP"))
}

fn field(error: &ApiError) -> Option<String> {
    match error {
        ApiError::InvalidBody { field, .. } if !field.is_empty() && field != "." => {
            Some(field.clone())
        }
        ApiError::InvalidValue { field, .. }
        | ApiError::Govern(
            GovernError::Invalid { field, .. }
            | GovernError::Nhi(NhiError::Invalid { field, .. })
            | GovernError::Metering(MeteringError::LimitInvalid { field, .. }),
        ) => Some((*field).to_owned()),
        _ => None,
    }
}

fn findings(error: &ApiError) -> Vec<FindingAnswer> {
    match error {
        ApiError::Govern(GovernError::Policies(error)) => {
            error.findings().iter().map(FindingAnswer::from).collect()
        }
        _ => Vec::new(),
    }
}

fn status(error: &ApiError) -> StatusCode {
    match error {
        ApiError::Credential(error) => said(Kind::from(error)),
        ApiError::CredentialInSandbox
        | ApiError::PageInSandbox
        | ApiError::PageForPeople { .. }
        | ApiError::Forgery => StatusCode::FORBIDDEN,
        ApiError::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        ApiError::RouteNotFound => StatusCode::NOT_FOUND,
        ApiError::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ApiError::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        ApiError::MediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ApiError::BodyUnreadable
        | ApiError::InvalidBody { .. }
        | ApiError::InvalidQuery { .. }
        | ApiError::InvalidValue { .. } => StatusCode::BAD_REQUEST,
        ApiError::ClientUnknown => StatusCode::UNAUTHORIZED,
        ApiError::DenialUnbound
        | ApiError::GrantUnsupported
        | ApiError::TargetUnknown
        | ApiError::ScopeUnsupported => StatusCode::BAD_REQUEST,
        ApiError::DenialExpired => StatusCode::GONE,
        ApiError::UnknownTask => StatusCode::NOT_FOUND,
        ApiError::ApprovalMismatch | ApiError::DuplicateRequest => StatusCode::CONFLICT,
        ApiError::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
        ApiError::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ApiError::Govern(error) => said(Kind::from(error)),
    }
}

/// A kind in HTTP's words (RFC 9110, section 15, and RFC 6585, section 4).
const fn said(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Gone => StatusCode::GONE,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Unavailable | Kind::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
