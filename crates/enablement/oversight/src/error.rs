//! What can go wrong around an oversight request and around a grant.

use creto_errors::{Class, Classify};
use creto_types::{CanonicalError, PrincipalName, StoreError, Timestamp};

use crate::{RequestId, StateName};

/// A request could not be made or decided; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OversightError {
    /// The organization has no such request.
    #[error("no oversight request {id} in this organization")]
    NotFound {
        /// The id that was asked for.
        id: RequestId,
    },
    /// It was decided before.
    #[error("oversight request {id} is already {state}")]
    AlreadyDecided {
        /// The request.
        id: RequestId,
        /// Its state.
        state: StateName,
    },
    /// It was not decided in time.
    #[error("oversight request {id} expired at {at}")]
    Expired {
        /// The request.
        id: RequestId,
        /// Since when.
        at: Timestamp,
    },
    /// The agent whose action is held may not decide on it.
    #[error("{agent} cannot decide on its own oversight request {id}")]
    SelfDecision {
        /// The request.
        id: RequestId,
        /// The agent.
        agent: PrincipalName,
    },
    /// The request has not reached its expiry.
    #[error("oversight request {id} does not expire before {expires_at}")]
    NotDue {
        /// The request.
        id: RequestId,
        /// When it does.
        expires_at: Timestamp,
    },
    /// A pending request is not a decision.
    #[error("oversight request {id} carries no decision")]
    NoDecision {
        /// The request.
        id: RequestId,
    },
    /// The approver's reason is too long.
    #[error("a reason has at most {limit} characters, this one has {length}")]
    ReasonTooLong {
        /// The most.
        limit: usize,
        /// What was given.
        length: usize,
    },
    /// As many requests of the agent wait for a human as may.
    #[error(
        "{limit} requests of {agent} wait for a decision, and no more may; \
         wait until one is decided or expires"
    )]
    TooManyPending {
        /// The agent.
        agent: PrincipalName,
        /// The most.
        limit: usize,
    },
    /// An integer is too large to be written exactly in the canonical form.
    #[error("`{place}` is an integer beyond 2^53 - 1; send it as a string")]
    InexactNumber {
        /// Where it stands.
        place: String,
    },
    /// The action has no canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The store said no, or could not say anything.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for OversightError {
    fn class(&self) -> Class {
        match self {
            Self::NotFound { .. }
            | Self::AlreadyDecided { .. }
            | Self::Expired { .. }
            | Self::NotDue { .. }
            | Self::NoDecision { .. }
            | Self::ReasonTooLong { .. }
            | Self::InexactNumber { .. } => Class::Permanent,
            Self::TooManyPending { .. } => Class::Transient,
            Self::SelfDecision { .. } => Class::Security,
            Self::Canonical(error) => error.class(),
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "oversight_not_found",
            Self::AlreadyDecided { .. } => "oversight_already_decided",
            Self::Expired { .. } => "oversight_expired",
            Self::SelfDecision { .. } => "oversight_self_decision",
            Self::NotDue { .. } => "oversight_not_due",
            Self::NoDecision { .. } => "oversight_no_decision",
            Self::ReasonTooLong { .. } => "oversight_reason_too_long",
            Self::TooManyPending { .. } => "oversight_too_many_pending",
            Self::InexactNumber { .. } => "number_not_exact",
            Self::Canonical(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}

/// A grant does not open this action. Never retried with the same grant, except
/// when the store was unavailable.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// No approval in this organization carries it.
    #[error("this grant is not known")]
    Unknown,
    /// It was given to another agent.
    #[error("this grant was given to another agent")]
    NotYours,
    /// It was given for another delegation of the agent.
    #[error("this grant was given for another delegation than the one acted under")]
    OtherDelegation,
    /// The action differs from the approved one.
    #[error("this grant approves another action than the one asked for")]
    ActionMismatch {
        /// The approved digest and the digest of what was asked, in this order.
        digests: Box<(crate::ActionDigest, crate::ActionDigest)>,
    },
    /// Its time is over.
    #[error("this grant expired at {at}")]
    Expired {
        /// Since when.
        at: Timestamp,
    },
    /// It was used before.
    #[error("this grant was already used")]
    Used,
    /// The action asked for has no digest.
    #[error(transparent)]
    Action(#[from] OversightError),
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for GrantError {
    fn class(&self) -> Class {
        match self {
            Self::Unknown
            | Self::NotYours
            | Self::OtherDelegation
            | Self::ActionMismatch { .. }
            | Self::Expired { .. }
            | Self::Used => Class::Security,
            Self::Action(error) => error.class(),
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "grant_unknown",
            Self::NotYours => "grant_not_yours",
            Self::OtherDelegation => "grant_other_delegation",
            Self::ActionMismatch { .. } => "grant_action_mismatch",
            Self::Expired { .. } => "grant_expired",
            Self::Used => "grant_used",
            Self::Action(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}
