//! Errors on the wire: problem documents (RFC 9457), and the one place that maps
//! an error to its status. Every match is exhaustive, so a new error does not
//! compile until somebody decided what callers see.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use creto_audit::AuditError;
use creto_consensus::OracleError;
use creto_errors::{Class, Classify};
use creto_governor::{FindingAnswer, GovernError};
use creto_metering::MeteringError;
use creto_nhi::NhiError;
use creto_oversight::{GrantError, OversightError};
use creto_runtime::RuntimeError;
use creto_types::StoreError;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ApiError;

/// The media type of a problem document.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// The same for everybody, whatever was wrong with the credential.
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
        let headers = response.headers_mut();
        if problem.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        if self.class() == Class::Transient {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        let extensions = response.extensions_mut();
        extensions.insert(problem);
        extensions.insert(std::sync::Arc::new(self));
        response
    }
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
        // Whatever is wrong with a credential: the caller is not known. When it
        // could not be checked, that is said instead.
        ApiError::Credential(error) => match error.class() {
            Class::Security | Class::Permanent => StatusCode::UNAUTHORIZED,
            Class::Transient | Class::Degraded => StatusCode::SERVICE_UNAVAILABLE,
        },
        ApiError::Unauthenticated => StatusCode::UNAUTHORIZED,
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
        ApiError::DenialUnbound => StatusCode::BAD_REQUEST,
        ApiError::DenialExpired => StatusCode::GONE,
        ApiError::UnknownTask => StatusCode::NOT_FOUND,
        ApiError::ApprovalMismatch | ApiError::DuplicateRequest => StatusCode::CONFLICT,
        ApiError::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
        ApiError::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ApiError::Govern(error) => govern(error),
    }
}

fn govern(error: &GovernError) -> StatusCode {
    match error {
        GovernError::Invalid { .. }
        | GovernError::DelegationAmbiguous { .. }
        | GovernError::NotRequestable { .. }
        | GovernError::Canonical(_) => StatusCode::BAD_REQUEST,
        GovernError::Forbidden { .. } | GovernError::Identity(_) => StatusCode::FORBIDDEN,
        GovernError::NotFound { .. } => StatusCode::NOT_FOUND,
        GovernError::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
        GovernError::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
        GovernError::IdempotencyKeyReused | GovernError::Policies(_) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        GovernError::PolicyVersion { .. } | GovernError::PolicyDirectory { .. } => {
            StatusCode::CONFLICT
        }
        GovernError::Encoding(_) => StatusCode::INTERNAL_SERVER_ERROR,
        GovernError::Nhi(error) => nhi(error),
        GovernError::Metering(error) => metering(error),
        GovernError::Oversight(error) => oversight(error),
        GovernError::Grant(error) => grant(error),
        GovernError::Audit(error) => audit(error),
        GovernError::Oracle(error) => oracle(error),
        GovernError::Runtime(error) => runtime(error),
        GovernError::Store(error) => store(error),
    }
}

fn nhi(error: &NhiError) -> StatusCode {
    match error {
        NhiError::Invalid { .. } | NhiError::Canonical(_) => StatusCode::BAD_REQUEST,
        NhiError::UnknownOrganization { .. }
        | NhiError::UnknownPrincipal { .. }
        | NhiError::UnknownDelegation { .. } => StatusCode::NOT_FOUND,
        NhiError::PrincipalExists { .. }
        | NhiError::AlreadyRevoked { .. }
        | NhiError::AlreadySuspended { .. }
        | NhiError::NotSuspended { .. }
        | NhiError::OwnerNotSuspended { .. } => StatusCode::CONFLICT,
        NhiError::NotHuman { .. }
        | NhiError::DelegateeNotAgent { .. }
        | NhiError::ParentNotHeld { .. }
        | NhiError::DelegationLoops { .. }
        | NhiError::Escalation(_)
        | NhiError::Identity(_) => StatusCode::FORBIDDEN,
        NhiError::InvalidToken { .. }
        | NhiError::TokenForged(_)
        | NhiError::TokenExpired { .. }
        | NhiError::TokenSuperseded { .. } => StatusCode::UNAUTHORIZED,
        NhiError::Chain(_) | NhiError::TrustDomainChanged { .. } | NhiError::Crypto { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        NhiError::Store(error) => store(error),
    }
}

fn metering(error: &MeteringError) -> StatusCode {
    match error {
        MeteringError::ReservationNotFound { .. } => StatusCode::NOT_FOUND,
        MeteringError::ReservationClosed { .. } | MeteringError::NothingToInvoice { .. } => {
            StatusCode::CONFLICT
        }
        MeteringError::LimitInvalid { .. } => StatusCode::BAD_REQUEST,
        MeteringError::LimitsChanged => StatusCode::SERVICE_UNAVAILABLE,
        MeteringError::TooManyLimits { .. }
        | MeteringError::SettleExceedsReservation { .. }
        | MeteringError::PeriodNotOver { .. }
        | MeteringError::Money(_) => StatusCode::UNPROCESSABLE_ENTITY,
        MeteringError::EvidenceRequired
        | MeteringError::LedgerCurrency { .. }
        | MeteringError::Interrupted(_) => StatusCode::INTERNAL_SERVER_ERROR,
        MeteringError::Store(error) => store(error),
    }
}

fn oversight(error: &OversightError) -> StatusCode {
    match error {
        OversightError::NotFound { .. } => StatusCode::NOT_FOUND,
        OversightError::AlreadyDecided { .. } | OversightError::NotDue { .. } => {
            StatusCode::CONFLICT
        }
        OversightError::Expired { .. } => StatusCode::GONE,
        OversightError::SelfDecision { .. } => StatusCode::FORBIDDEN,
        OversightError::TooManyPending { .. } => StatusCode::TOO_MANY_REQUESTS,
        OversightError::NoDecision { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        OversightError::ReasonTooLong { .. }
        | OversightError::InexactNumber { .. }
        | OversightError::Canonical(_) => StatusCode::BAD_REQUEST,
        OversightError::Store(error) => store(error),
    }
}

fn grant(error: &GrantError) -> StatusCode {
    match error {
        GrantError::Unknown
        | GrantError::NotYours
        | GrantError::OtherDelegation
        | GrantError::ActionMismatch { .. }
        | GrantError::Expired { .. }
        | GrantError::Used => StatusCode::FORBIDDEN,
        GrantError::Action(error) => oversight(error),
        GrantError::Store(error) => store(error),
    }
}

fn audit(error: &AuditError) -> StatusCode {
    match error {
        AuditError::UnknownLeaf { .. } => StatusCode::NOT_FOUND,
        AuditError::Leaf(_) | AuditError::AttachmentName { .. } => StatusCode::BAD_REQUEST,
        AuditError::Keys { .. }
        | AuditError::WrongKey { .. }
        | AuditError::Crypto(_)
        | AuditError::Corrupt { .. }
        | AuditError::Origin { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        AuditError::TraceFailing(_) | AuditError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        AuditError::Store(error) => store(error),
    }
}

fn oracle(error: &OracleError) -> StatusCode {
    match error {
        OracleError::ClockStepped { .. } | OracleError::Interrupted(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        OracleError::ClockOutOfRange | OracleError::Config { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        OracleError::Store(error) => store(error),
    }
}

fn runtime(error: &RuntimeError) -> StatusCode {
    match error {
        RuntimeError::Spec(_) => StatusCode::BAD_REQUEST,
        RuntimeError::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
        RuntimeError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
        RuntimeError::Start { .. } | RuntimeError::Control { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

fn store(error: &StoreError) -> StatusCode {
    match error {
        StoreError::Replayed(_) | StoreError::Conflict { .. } => StatusCode::CONFLICT,
        StoreError::AlreadyClaimed { .. } => StatusCode::FORBIDDEN,
        StoreError::NotFound { .. } => StatusCode::NOT_FOUND,
        StoreError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        StoreError::Corrupt { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        StoreError::Unavailable(_) | StoreError::NotDone(_) | StoreError::InUse { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}
