//! Of which kind a refusal is: the one place that judges every error. Every match is
//! exhaustive, so a new error does not compile until somebody decided what callers
//! see.

use creto_audit::AuditError;
use creto_consensus::OracleError;
use creto_errors::{Class, Classify as _};
use creto_governor::GovernError;
use creto_metering::MeteringError;
use creto_nhi::{DpopError, IdentityError, NhiError};
use creto_oversight::{GrantError, OversightError};
use creto_runtime::RuntimeError;
use creto_types::StoreError;

use crate::CredentialError;

/// What a refusal means to a caller. Each interface has one word for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request cannot be used as it is.
    Invalid,
    /// Who asks is not known.
    Unauthenticated,
    /// Who asks is known and may not.
    Forbidden,
    /// No such thing, or not one that the caller may see.
    NotFound,
    /// What is there does not allow it.
    Conflict,
    /// It is too late.
    Gone,
    /// It is larger than allowed.
    TooLarge,
    /// It is well formed and makes no sense here.
    Unprocessable,
    /// Too often, or too much at once.
    TooMany,
    /// This server cannot do it.
    Unsupported,
    /// The server cannot do it now.
    Unavailable,
    /// It was not done in time.
    TimedOut,
    /// The server is at fault.
    Internal,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::Gone,
        Self::TooLarge,
        Self::Unprocessable,
        Self::TooMany,
        Self::Unsupported,
        Self::Unavailable,
        Self::TimedOut,
        Self::Internal,
    ];

    /// Whether the server is to blame, and not the request.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        match self {
            Self::Unsupported | Self::Unavailable | Self::TimedOut | Self::Internal => true,
            Self::Invalid
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::NotFound
            | Self::Conflict
            | Self::Gone
            | Self::TooLarge
            | Self::Unprocessable
            | Self::TooMany => false,
        }
    }
}

impl From<&CredentialError> for Kind {
    /// Whatever is wrong with a credential: the caller is not known. When it could
    /// not be checked, or its proof not be remembered, that is said instead.
    fn from(error: &CredentialError) -> Self {
        if let Some(DpopError::TooManyProofs { .. }) = error.dpop() {
            return Self::TooMany;
        }
        match error.class() {
            Class::Security | Class::Permanent => Self::Unauthenticated,
            Class::Transient | Class::Degraded => Self::Unavailable,
        }
    }
}

impl From<&GovernError> for Kind {
    fn from(error: &GovernError) -> Self {
        govern(error)
    }
}

fn govern(error: &GovernError) -> Kind {
    match error {
        GovernError::Invalid { .. }
        | GovernError::DelegationAmbiguous { .. }
        | GovernError::NotRequestable { .. }
        | GovernError::Canonical(_) => Kind::Invalid,
        GovernError::Forbidden { .. } => Kind::Forbidden,
        GovernError::Identity(error) => identity(error),
        GovernError::NotFound { .. } => Kind::NotFound,
        GovernError::TooManyRequests { .. } | GovernError::TooManyExports => Kind::TooMany,
        GovernError::Unsupported { .. } => Kind::Unsupported,
        GovernError::IdempotencyKeyReused | GovernError::Policies(_) => Kind::Unprocessable,
        GovernError::PolicyVersion { .. } | GovernError::PolicyDirectory { .. } => Kind::Conflict,
        GovernError::PrekeyOwnerSuspended { .. } | GovernError::PrekeyOwnerRevoked { .. } => {
            Kind::Conflict
        }
        GovernError::Encoding(_) => Kind::Internal,
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

fn nhi(error: &NhiError) -> Kind {
    match error {
        NhiError::Invalid { .. } | NhiError::KeyRefused { .. } | NhiError::Canonical(_) => {
            Kind::Invalid
        }
        NhiError::UnknownOrganization { .. }
        | NhiError::UnknownPrincipal { .. }
        | NhiError::UnknownDelegation { .. }
        | NhiError::UnknownKey { .. } => Kind::NotFound,
        NhiError::PrincipalExists { .. }
        | NhiError::AlreadyRevoked { .. }
        | NhiError::AlreadySuspended { .. }
        | NhiError::NotSuspended { .. }
        | NhiError::ErasureUnderWay { .. }
        | NhiError::OwnerNotSuspended { .. }
        | NhiError::PrincipalAlreadyRevoked { .. }
        | NhiError::OwnerNotRevoked { .. }
        | NhiError::KeyAlreadyRevoked { .. }
        | NhiError::TooManyKeys { .. }
        | NhiError::OwnerKeepsRole { .. }
        | NhiError::FormerLogKeys
        | NhiError::IssuerInUse { .. } => Kind::Conflict,
        NhiError::NotHuman { .. }
        | NhiError::SigningKeyRevoked { .. }
        | NhiError::DelegateeNotAgent { .. }
        | NhiError::ParentNotHeld { .. }
        | NhiError::DelegationLoops { .. }
        | NhiError::InstanceBound { .. }
        | NhiError::Escalation(_) => Kind::Forbidden,
        NhiError::Identity(error) => identity(error),
        NhiError::InvalidToken { .. }
        | NhiError::TokenForged(_)
        | NhiError::TokenAlgorithm(_)
        | NhiError::TokenExpired { .. }
        | NhiError::TokenSuperseded { .. } => Kind::Unauthenticated,
        NhiError::Crypto { source, .. } if source.class() == Class::Transient => Kind::Unavailable,
        NhiError::Chain(_) | NhiError::TrustDomainChanged { .. } | NhiError::Crypto { .. } => {
            Kind::Internal
        }
        NhiError::Dpop(error) => dpop(error),
        NhiError::Store(error) => store(error),
    }
}

/// Whose token ended has to bring another one; whose authority did is who it was.
fn identity(error: &IdentityError) -> Kind {
    match error {
        IdentityError::Superseded | IdentityError::IssuerRetired => Kind::Unauthenticated,
        IdentityError::Revoked { .. }
        | IdentityError::PrincipalRevoked { .. }
        | IdentityError::KeyRevoked { .. }
        | IdentityError::Suspended { .. }
        | IdentityError::Expired { .. }
        | IdentityError::NotYetValid { .. }
        | IdentityError::Broken => Kind::Forbidden,
    }
}

/// Of a token that is asked for; [`CredentialError`] judges one that is presented.
fn dpop(error: &DpopError) -> Kind {
    match error {
        DpopError::Invalid { .. }
        | DpopError::Algorithm(_)
        | DpopError::Replayed
        | DpopError::UseNonce
        | DpopError::ProofRequired
        | DpopError::NotBound
        | DpopError::KeyMismatch => Kind::Unauthenticated,
        DpopError::BindingRequired => Kind::Forbidden,
        DpopError::TooManyProofs { .. } => Kind::TooMany,
    }
}

fn metering(error: &MeteringError) -> Kind {
    match error {
        MeteringError::ReservationNotFound { .. } => Kind::NotFound,
        MeteringError::ReservationClosed { .. } | MeteringError::NothingToInvoice { .. } => {
            Kind::Conflict
        }
        MeteringError::LimitInvalid { .. } => Kind::Invalid,
        MeteringError::LimitsChanged | MeteringError::Outdated => Kind::Unavailable,
        MeteringError::TooManyOpen { .. } => Kind::TooMany,
        MeteringError::TooManyLimits { .. }
        | MeteringError::SettleExceedsReservation { .. }
        | MeteringError::PeriodNotOver { .. }
        | MeteringError::Money(_) => Kind::Unprocessable,
        MeteringError::EvidenceRequired
        | MeteringError::LedgerCurrency { .. }
        | MeteringError::Interrupted(_) => Kind::Internal,
        MeteringError::Store(error) => store(error),
    }
}

fn oversight(error: &OversightError) -> Kind {
    match error {
        OversightError::NotFound { .. } => Kind::NotFound,
        OversightError::AlreadyDecided { .. } | OversightError::NotDue { .. } => Kind::Conflict,
        OversightError::Expired { .. } => Kind::Gone,
        OversightError::SelfDecision { .. } => Kind::Forbidden,
        OversightError::TooManyPending { .. } => Kind::TooMany,
        OversightError::NoDecision { .. } => Kind::Internal,
        OversightError::ReasonTooLong { .. }
        | OversightError::InexactNumber { .. }
        | OversightError::Canonical(_) => Kind::Invalid,
        OversightError::Store(error) => store(error),
    }
}

fn grant(error: &GrantError) -> Kind {
    match error {
        GrantError::Unknown
        | GrantError::NotYours
        | GrantError::OtherDelegation
        | GrantError::ActionMismatch { .. }
        | GrantError::Expired { .. }
        | GrantError::Used => Kind::Forbidden,
        GrantError::Action(error) => oversight(error),
        GrantError::Store(error) => store(error),
    }
}

fn audit(error: &AuditError) -> Kind {
    match error {
        AuditError::UnknownLeaf { .. } | AuditError::UnknownSize { .. } => Kind::NotFound,
        AuditError::Leaf(_) | AuditError::AttachmentName { .. } => Kind::Invalid,
        AuditError::Keys { .. }
        | AuditError::WrongKey { .. }
        | AuditError::Crypto(_)
        | AuditError::Corrupt { .. }
        | AuditError::NotIndexed
        | AuditError::Origin { .. } => Kind::Internal,
        AuditError::TraceFailing(_) | AuditError::IndexBehind { .. } | AuditError::Stopped => {
            Kind::Unavailable
        }
        AuditError::Store(error) => store(error),
    }
}

fn oracle(error: &OracleError) -> Kind {
    match error {
        OracleError::ClockStepped { .. }
        | OracleError::ClockSteppedForward { .. }
        | OracleError::ClockAhead { .. }
        | OracleError::Unreachable(_)
        | OracleError::Refused { .. }
        | OracleError::Interrupted(_) => Kind::Unavailable,
        OracleError::ClockOutOfRange | OracleError::Config { .. } => Kind::Internal,
        OracleError::Store(error) => store(error),
    }
}

fn runtime(error: &RuntimeError) -> Kind {
    match error {
        RuntimeError::Spec(_) => Kind::Invalid,
        RuntimeError::Unsupported { .. } => Kind::Unsupported,
        RuntimeError::Busy { .. } => Kind::Unavailable,
        RuntimeError::Start { .. } | RuntimeError::Control { .. } => Kind::Internal,
    }
}

fn store(error: &StoreError) -> Kind {
    match error {
        StoreError::Replayed(_) | StoreError::Conflict { .. } => Kind::Conflict,
        StoreError::AlreadyClaimed { .. } => Kind::Forbidden,
        StoreError::NotFound { .. } => Kind::NotFound,
        StoreError::TooLarge { .. } => Kind::TooLarge,
        StoreError::Keystore { class, .. } if *class == Class::Transient => Kind::Unavailable,
        StoreError::Corrupt { .. } | StoreError::Algorithm { .. } | StoreError::Keystore { .. } => {
            Kind::Internal
        }
        StoreError::Unavailable(_)
        | StoreError::NotDone(_)
        | StoreError::Full(_)
        | StoreError::InUse { .. }
        | StoreError::Fenced { .. } => Kind::Unavailable,
    }
}
