//! What is refused, and how gRPC says so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use creto_errors::{Class, Classify};
use creto_governor::GovernError;
use creto_ingress::{CredentialError, Kind};
use creto_telemetry::RequestId;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The largest message.
pub(crate) const MESSAGE_LIMIT: usize = 1024 * 1024;

/// `google.rpc.ErrorInfo.domain`.
const DOMAIN: &str = "creto";

/// When to try again after what passes by itself, when nothing better is known.
const SOON: Duration = Duration::from_secs(1);

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("the call names a host that is not this server's")]
    Misdirected,
    #[error("there is no such method")]
    MethodNotFound,
    #[error("a message has at most {MESSAGE_LIMIT} bytes")]
    MessageTooLarge,
    #[error("compressed messages are not read here; send them without `grpc-encoding`")]
    Compressed,
    #[error("{message}")]
    InvalidMessage { message: String },
    #[error("the call took too long; a change it asked for may still happen")]
    TimedOut,
    #[error("an internal error; the server's log has it under this call's id")]
    Internal,
    #[error(transparent)]
    Govern(GovernError),
}

impl Refusal {
    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Govern(GovernError::Invalid {
            field,
            message: message.into(),
        })
    }

    /// Of what became of a call inside tonic: it made the status itself, because the
    /// message could not be read.
    pub(crate) fn of_framing(status: &Status) -> Self {
        match status.code() {
            Code::OutOfRange => Self::MessageTooLarge,
            // The method is known by then, so it is the encoding that is not.
            Code::Unimplemented => Self::Compressed,
            Code::InvalidArgument | Code::Internal | Code::Unknown => Self::InvalidMessage {
                message: status.message().to_owned(),
            },
            _ => Self::Internal,
        }
    }

    /// In the words of `SubmitRequest`, which has no message of its own for the resource.
    pub(crate) fn of_submit(self) -> Self {
        match self {
            Self::Govern(GovernError::Invalid {
                field: "resource.type",
                message,
            }) => Self::invalid("resource_type", message),
            other => other,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Credential(error) => Kind::from(error),
            Self::Misdirected => Kind::Forbidden,
            Self::MethodNotFound | Self::Compressed => Kind::Unsupported,
            Self::MessageTooLarge => Kind::TooLarge,
            Self::InvalidMessage { .. } => Kind::Invalid,
            Self::TimedOut => Kind::TimedOut,
            Self::Internal => Kind::Internal,
            Self::Govern(error) => Kind::from(error),
        }
    }

    pub(crate) fn status(&self) -> Code {
        said(self.class(), self.kind())
    }

    pub(crate) fn field(&self) -> Option<&'static str> {
        match self {
            Self::Govern(GovernError::Invalid { field, .. }) => Some(field),
            _ => None,
        }
    }

    /// When to try again; only for what passes by itself.
    fn retry_after(&self) -> Option<Duration> {
        let told = match self {
            Self::Govern(GovernError::TooManyRequests { retry_after }) => Some(*retry_after),
            Self::Credential(error) => error.retry_after(),
            _ => None,
        };
        told.or((self.class() == Class::Transient).then_some(SOON))
    }

    /// As the caller of this call sees it.
    pub(crate) fn to_status(&self, id: &RequestId) -> Status {
        let message = self.to_string();
        let code = self.code();
        let mut metadata = HashMap::from([
            ("code".to_owned(), code.to_owned()),
            ("class".to_owned(), self.class().as_str().to_owned()),
        ]);
        let mut details = ErrorDetails::new();
        details.set_request_info(id.to_string(), "");
        if let Some(field) = self.field() {
            metadata.insert("field".to_owned(), field.to_owned());
            details.add_bad_request_violation(field, &message);
        }
        if let Some(delay) = self.retry_after() {
            details.set_retry_info(Some(delay));
        }
        // AIP-193: a reason is in capitals.
        details.set_error_info(code.to_ascii_uppercase(), DOMAIN, metadata);
        let mut status = Status::with_error_details(self.status(), message, details);
        if matches!(self, Self::Compressed) {
            // What would be read, so that the client can send it again ("gRPC
            // Compression").
            let plain = MetadataValue::from_static("identity");
            status.metadata_mut().insert("grpc-accept-encoding", plain);
        }
        status
    }
}

/// An error in the words of the messages here, where the governor has its own.
impl From<GovernError> for Refusal {
    fn from(error: GovernError) -> Self {
        let GovernError::Invalid { field, message } = error else {
            return Self::Govern(error);
        };
        let field = match field {
            "action.name" => "action",
            "args" => "args_json",
            "subject.properties.delegation" => "subject.delegation",
            "Idempotency-Key" => "idempotency_key",
            field => field,
        };
        Self::invalid(field, message)
    }
}

/// On its way through tonic; `front.rs` takes it out again.
impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = Self::new(refusal.status(), refusal.to_string());
        status.set_source(Arc::new(refusal));
        status
    }
}

impl Classify for Refusal {
    fn class(&self) -> Class {
        match self {
            Self::Misdirected => Class::Security,
            Self::MethodNotFound
            | Self::MessageTooLarge
            | Self::Compressed
            | Self::InvalidMessage { .. }
            | Self::Internal => Class::Permanent,
            Self::TimedOut => Class::Transient,
            Self::Credential(error) => error.class(),
            Self::Govern(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Misdirected => "misdirected_request",
            Self::MethodNotFound => "route_not_found",
            Self::MessageTooLarge => "body_too_large",
            Self::Compressed => "encoding_unsupported",
            Self::InvalidMessage { .. } => "invalid_body",
            Self::TimedOut => "request_timeout",
            Self::Internal => "internal_error",
            Self::Credential(error) => error.code(),
            Self::Govern(error) => error.code(),
        }
    }
}

/// A kind in gRPC's words (`google/rpc/code.proto`). Clients try some of them again by
/// themselves, so those are for what passes by itself, and never for security.
const fn said(class: Class, kind: Kind) -> Code {
    let passes = matches!(class, Class::Transient | Class::Degraded);
    let secure = matches!(class, Class::Security);
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::Unsupported => Code::Unimplemented,
        Kind::TooLarge => Code::OutOfRange,
        Kind::Internal => Code::Internal,
        Kind::Conflict if passes => Code::Aborted,
        Kind::Unavailable if passes => Code::Unavailable,
        Kind::TooMany if !secure => Code::ResourceExhausted,
        Kind::TimedOut if !secure => Code::DeadlineExceeded,
        Kind::Conflict
        | Kind::Gone
        | Kind::Unprocessable
        | Kind::Unavailable
        | Kind::TooMany
        | Kind::TimedOut => {
            if secure {
                Code::PermissionDenied
            } else {
                Code::FailedPrecondition
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use creto_types::StoreError;

    use super::*;

    const CLASSES: [Class; 4] = [
        Class::Transient,
        Class::Permanent,
        Class::Degraded,
        Class::Security,
    ];

    fn id() -> RequestId {
        "req_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e".parse().unwrap()
    }

    /// What clients and proxies commonly try again.
    fn asks_again(code: Code) -> bool {
        matches!(
            code,
            Code::Unavailable | Code::Aborted | Code::ResourceExhausted | Code::DeadlineExceeded
        )
    }

    #[test]
    fn only_what_passes_by_itself_asks_to_be_tried_again() {
        for kind in Kind::ALL {
            let secure = said(Class::Security, kind);
            assert!(!asks_again(secure), "{kind:?} is {secure:?}");
            let permanent = said(Class::Permanent, kind);
            assert!(
                !matches!(permanent, Code::Unavailable | Code::Aborted),
                "{kind:?} is {permanent:?}"
            );
            for class in CLASSES {
                assert_ne!(said(class, kind), Code::Ok);
                assert_ne!(said(class, kind), Code::Unknown, "{class:?} {kind:?}");
            }
        }
        assert_eq!(said(Class::Transient, Kind::Unavailable), Code::Unavailable);
        assert_eq!(
            said(Class::Permanent, Kind::Conflict),
            Code::FailedPrecondition
        );
    }

    #[test]
    fn a_status_says_code_class_field_and_call() {
        let id = id();
        let refusal = Refusal::from(GovernError::Invalid {
            field: "action.name",
            message: "too long".to_owned(),
        });
        let status = refusal.to_status(&id);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "`action`: too long");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.domain.as_str(), info.reason.as_str()),
            ("creto", "INVALID_REQUEST")
        );
        assert_eq!(info.metadata["code"], "invalid_request");
        assert_eq!(info.metadata["class"], "permanent");
        assert_eq!(info.metadata["field"], "action");
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "action");
        assert_eq!(details.request_info().unwrap().request_id, id.to_string());
        assert!(details.retry_info().is_none());
    }

    #[test]
    fn when_to_try_again_is_said_for_what_passes() {
        let id = id();
        let delay = |refusal: Refusal| {
            let details = refusal.to_status(&id).get_error_details();
            details.retry_info().and_then(|info| info.retry_delay)
        };
        let wait = Duration::from_millis(40);
        let too_many = GovernError::TooManyRequests { retry_after: wait };
        assert_eq!(delay(too_many.into()), Some(wait));
        let busy = GovernError::Store(StoreError::InUse { what: "database" });
        assert_eq!(delay(busy.into()), Some(SOON));
        assert_eq!(delay(CredentialError::Missing.into()), None);
        assert_eq!(delay(Refusal::Misdirected), None);
    }
}
