//! What can be wrong with a request before or besides what the governor says.

use creto_errors::{Class, Classify};
use creto_governor::GovernError;
use creto_ingress::CredentialError;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("a sandbox is its own credential and may not bring another one")]
    CredentialInSandbox,
    #[error("the pages are for people; a sandbox uses the API")]
    PageInSandbox,
    #[error("the pages are for people; {name} is an agent")]
    PageForPeople { name: String },
    #[error("the request names a host that is not this server's")]
    Misdirected,
    #[error("there is no such path")]
    RouteNotFound,
    #[error("this path has no such method; the `Allow` header names those it has")]
    MethodNotAllowed,
    #[error("a body has at most {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("the body could not be read")]
    BodyUnreadable,
    #[error("`Content-Type: {expected}` is expected")]
    MediaType { expected: &'static str },
    #[error("{message}")]
    InvalidBody { field: String, message: String },
    #[error("{message}")]
    InvalidQuery { message: String },
    #[error("`{field}`: {message}")]
    InvalidValue {
        field: &'static str,
        message: String,
    },
    #[error("no client authenticates here: the subject's token is the credential")]
    ClientUnknown,
    #[error("`{0}` is expected as `grant_type`", crate::oauth::TOKEN_EXCHANGE)]
    GrantUnsupported,
    #[error("tokens are for Creto alone; `audience` is `creto` or absent, `resource` absent")]
    TargetUnknown,
    #[error("a token has the rights of its delegation; delegate less to narrow them")]
    ScopeUnsupported,
    #[error("the form is stale or was not made by this server; load the page again")]
    Forgery,
    #[error("the request is not the one that the page showed; load the page again")]
    ApprovalMismatch,
    #[error("the denial is not bound to this request; evaluate again")]
    DenialUnbound,
    #[error("the denial is too old; evaluate again")]
    DenialExpired,
    #[error("no such access request")]
    UnknownTask,
    #[error("this Idempotency-Key was used for a different access request")]
    DuplicateRequest,
    #[error("the request took too long; a change it asked for may still happen")]
    TimedOut,
    #[error("an internal error; the server's log has it under this request's id")]
    Internal,
    #[error(transparent)]
    Govern(#[from] GovernError),
}

impl ApiError {
    pub(crate) fn value(field: &'static str, message: impl Into<String>) -> Self {
        Self::InvalidValue {
            field,
            message: message.into(),
        }
    }
}

impl Classify for ApiError {
    fn class(&self) -> Class {
        match self {
            Self::CredentialInSandbox
            | Self::PageInSandbox
            | Self::PageForPeople { .. }
            | Self::Misdirected
            | Self::ClientUnknown
            | Self::TargetUnknown
            | Self::ScopeUnsupported
            | Self::Forgery
            | Self::DenialUnbound
            | Self::ApprovalMismatch => Class::Security,
            Self::RouteNotFound
            | Self::MethodNotAllowed
            | Self::BodyTooLarge { .. }
            | Self::BodyUnreadable
            | Self::MediaType { .. }
            | Self::InvalidBody { .. }
            | Self::InvalidQuery { .. }
            | Self::InvalidValue { .. }
            | Self::GrantUnsupported
            | Self::DenialExpired
            | Self::UnknownTask
            | Self::DuplicateRequest
            | Self::Internal => Class::Permanent,
            Self::TimedOut => Class::Transient,
            Self::Credential(error) => error.class(),
            Self::Govern(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::CredentialInSandbox => "credential_in_sandbox",
            Self::PageInSandbox => "page_in_sandbox",
            Self::PageForPeople { .. } => "page_for_people",
            Self::Misdirected => "misdirected_request",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyUnreadable => "body_unreadable",
            Self::MediaType { .. } => "unsupported_media_type",
            Self::InvalidBody { .. } => "invalid_body",
            Self::InvalidQuery { .. } => "invalid_query",
            Self::InvalidValue { .. } => "invalid_request",
            Self::ClientUnknown => "invalid_client",
            Self::GrantUnsupported => "unsupported_grant_type",
            Self::TargetUnknown => "invalid_target",
            Self::ScopeUnsupported => "invalid_scope",
            Self::Forgery => "form_refused",
            Self::ApprovalMismatch => "approval_mismatch",
            Self::DenialUnbound => "denial_unbound",
            Self::DenialExpired => "denial_expired",
            Self::UnknownTask => "not_found",
            Self::DuplicateRequest => "idempotency_key_reused",
            Self::TimedOut => "request_timeout",
            Self::Internal => "internal_error",
            Self::Credential(error) => error.code(),
            Self::Govern(error) => error.code(),
        }
    }
}
