//! What a caller may be told instead of an answer.

use creto_audit::AuditError;
use creto_consensus::OracleError;
use creto_errors::{Class, Classify};
use creto_metering::MeteringError;
use creto_nhi::{IdentityError, NhiError};
use creto_oversight::{GrantError, OversightError};
use creto_runtime::RuntimeError;
use creto_types::{CanonicalError, PrincipalName, StoreError};

use crate::policies::BundleError;

/// Nothing was changed, and this is why.
#[derive(Debug, thiserror::Error)]
pub enum GovernError {
    /// A field of the request cannot be used.
    #[error("`{field}`: {message}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is expected.
        message: String,
    },
    /// The caller is known but may not do this.
    #[error("{message}")]
    Forbidden {
        /// Who may.
        message: String,
    },
    /// No such thing, or not one that the caller may see.
    #[error("no such {what}")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
    },
    /// This server was started without what the request needs.
    #[error("{message}")]
    Unsupported {
        /// What is missing and how to get it.
        message: String,
    },
    /// The caller asks too often.
    #[error("too many requests; try again in {retry_after:?}")]
    TooManyRequests {
        /// When the next one is heard.
        retry_after: std::time::Duration,
    },
    /// As many evidence bundles are made as may be at once.
    #[error("other exports are under way; try again when one of them is done")]
    TooManyExports,
    /// The question is about an agent that acts by several delegations, and does
    /// not say which.
    #[error("{holder} holds several delegations; name the one that is meant")]
    DelegationAmbiguous {
        /// Who holds them.
        holder: PrincipalName,
    },
    /// No human is to be asked for this.
    #[error("{message}")]
    NotRequestable {
        /// Why not.
        message: String,
    },
    /// The agent whose prekey was asked for is suspended.
    #[error("`{owner}`, whose prekeys these are, is suspended")]
    PrekeyOwnerSuspended {
        /// Who.
        owner: PrincipalName,
    },
    /// The agent whose prekey was asked for was revoked.
    #[error("`{owner}`, whose prekeys these are, was revoked")]
    PrekeyOwnerRevoked {
        /// Who.
        owner: PrincipalName,
    },
    /// The idempotency key already stands for another request.
    #[error("this Idempotency-Key was used for a different request")]
    IdempotencyKeyReused,
    /// The caller's identity or delegation gives no authority now.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Principals, delegations, tokens.
    #[error(transparent)]
    Nhi(#[from] NhiError),
    /// Reservations, the ledger, invoices.
    #[error(transparent)]
    Metering(#[from] MeteringError),
    /// Requests for a human.
    #[error(transparent)]
    Oversight(#[from] OversightError),
    /// A grant that does not cover the action.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The timestamp oracle.
    #[error(transparent)]
    Oracle(#[from] OracleError),
    /// Sandboxes.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Policies that were not accepted.
    #[error(transparent)]
    Policies(#[from] BundleError),
    /// Another version was published than the author knew of.
    #[error("version {newest} is the newest, not {expected}: somebody else published meanwhile")]
    PolicyVersion {
        /// The newest that the author knew.
        expected: u64,
        /// The newest there is.
        newest: u64,
    },
    /// What is in the configured directory cannot be put in force.
    #[error("the policy directory cannot be followed: {message}")]
    PolicyDirectory {
        /// Why not.
        message: String,
    },
    /// The state store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value without canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// A document that cannot be stored or read back.
    #[error("a document cannot be encoded")]
    Encoding(#[source] serde_json::Error),
}

impl GovernError {
    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            message: message.into(),
        }
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::Forbidden {
            message: message.into(),
        }
    }

    /// The reply of an earlier call with the same key, when that is why this one
    /// did not go through.
    pub(crate) fn into_replay(self) -> Result<creto_types::StoredReply, Self> {
        match self {
            Self::Store(StoreError::Replayed(reply))
            | Self::Nhi(NhiError::Store(StoreError::Replayed(reply)))
            | Self::Metering(MeteringError::Store(StoreError::Replayed(reply)))
            | Self::Oversight(OversightError::Store(StoreError::Replayed(reply))) => Ok(*reply),
            other => Err(other),
        }
    }
}

impl Classify for GovernError {
    fn class(&self) -> Class {
        match self {
            Self::Invalid { .. }
            | Self::NotFound { .. }
            | Self::Unsupported { .. }
            | Self::DelegationAmbiguous { .. }
            | Self::NotRequestable { .. }
            | Self::PrekeyOwnerSuspended { .. }
            | Self::PrekeyOwnerRevoked { .. }
            | Self::IdempotencyKeyReused => Class::Permanent,
            Self::PolicyVersion { .. } | Self::PolicyDirectory { .. } => Class::Permanent,
            Self::Policies(error) => error.class(),
            Self::Forbidden { .. } => Class::Security,
            Self::TooManyRequests { .. } | Self::TooManyExports => Class::Transient,
            Self::Identity(error) => error.class(),
            Self::Nhi(error) => error.class(),
            Self::Metering(error) => error.class(),
            Self::Oversight(error) => error.class(),
            Self::Grant(error) => error.class(),
            Self::Audit(error) => error.class(),
            Self::Oracle(error) => error.class(),
            Self::Runtime(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Canonical(error) => error.class(),
            Self::Encoding(_) => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid_request",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound { .. } => "not_found",
            Self::Unsupported { .. } => "unsupported",
            Self::TooManyRequests { .. } => "too_many_requests",
            Self::TooManyExports => "too_many_exports",
            Self::DelegationAmbiguous { .. } => "delegation_ambiguous",
            Self::NotRequestable { .. } => "access_not_requestable",
            Self::PrekeyOwnerSuspended { .. } => "prekey_owner_suspended",
            Self::PrekeyOwnerRevoked { .. } => "prekey_owner_revoked",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::PolicyVersion { .. } => "policy_version_conflict",
            Self::PolicyDirectory { .. } => "policy_directory_refused",
            Self::Policies(error) => error.code(),
            Self::Identity(error) => error.code(),
            Self::Nhi(error) => error.code(),
            Self::Metering(error) => error.code(),
            Self::Oversight(error) => error.code(),
            Self::Grant(error) => error.code(),
            Self::Audit(error) => error.code(),
            Self::Oracle(error) => error.code(),
            Self::Runtime(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Canonical(error) => error.code(),
            Self::Encoding(_) => "encoding_failed",
        }
    }
}
