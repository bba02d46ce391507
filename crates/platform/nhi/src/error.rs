//! What can go wrong, in three families: a link that asks for more than its
//! parent holds, a chain that does not verify, and a use case that was refused.

use creto_crypto::CryptoError;
use creto_errors::{Class, Classify};
use creto_types::{CanonicalError, OrgId, PrincipalName, StoreError, Timestamp};

use crate::{
    Budget, DpopError, IdentityError, InstanceName, KeyVersion, LinkId, MAX_PRINCIPAL_KEYS, Right,
};

/// A link asks for more than the link above it holds. Each names both values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EscalationError {
    /// A right that no right of the parent covers.
    #[error("the right `{right}` exceeds the parent {parent}, which holds: {held}")]
    Rights {
        /// What was asked.
        right: Right,
        /// The parent.
        parent: LinkId,
        /// What it holds.
        held: String,
    },
    /// It would expire after its parent.
    #[error("it would expire at {expires_at}, after its parent {parent} at {parent_expires_at}")]
    OutlivesParent {
        /// What was asked.
        expires_at: Timestamp,
        /// The parent.
        parent: LinkId,
        /// What it holds.
        parent_expires_at: Timestamp,
    },
    /// It would begin before its parent.
    #[error("it would begin at {not_before}, before its parent {parent} at {parent_not_before}")]
    PrecedesParent {
        /// What was asked.
        not_before: Timestamp,
        /// The parent.
        parent: LinkId,
        /// What it holds.
        parent_not_before: Timestamp,
    },
    /// The parent may not be passed on, or not as far as this link says. What is
    /// allowed is `None` when nothing may follow the parent at all.
    #[error("a depth of {requested} was asked, {} allowed", match allowed {
        Some(allowed) => format!("{allowed} is"),
        None => "but no further delegation is".to_owned(),
    })]
    Depth {
        /// What was asked.
        requested: u8,
        /// The most there is.
        allowed: Option<u8>,
    },
    /// The budget is greater than one of the same measure above it, or in another
    /// currency or period.
    #[error("the budget {requested} exceeds the budget {held} of {holder} above it")]
    Budget {
        /// What was asked.
        requested: Budget,
        /// The nearest link above that has a budget in money, if money was asked,
        /// or in units.
        holder: LinkId,
        /// What it holds.
        held: Budget,
    },
}

impl Classify for EscalationError {
    fn class(&self) -> Class {
        Class::Security
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Rights { .. } => "delegation_rights_exceed_parent",
            Self::OutlivesParent { .. } => "delegation_outlives_parent",
            Self::PrecedesParent { .. } => "delegation_precedes_parent",
            Self::Depth { .. } => "delegation_depth_exceeded",
            Self::Budget { .. } => "delegation_budget_exceeds_parent",
        }
    }
}

/// A chain of links does not verify.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// There is no link.
    #[error("the chain is empty")]
    Empty,
    /// The link is not the child of the one before it, or not a root.
    #[error("the delegation {link} does not continue the chain")]
    NotJoined {
        /// Which.
        link: LinkId,
    },
    /// The link is well signed and still no valid delegation.
    #[error("the delegation {link} is malformed: {why}")]
    Malformed {
        /// Which.
        link: LinkId,
        /// Why.
        why: &'static str,
    },
    /// The link asks for more than its parent holds.
    #[error("the delegation {link} exceeds its parent")]
    Escalation {
        /// Which.
        link: LinkId,
        /// In what.
        #[source]
        source: EscalationError,
    },
    /// Nobody knows the key of the delegator.
    #[error("the delegation {link} is signed by the unknown principal `{delegator}`")]
    UnknownKey {
        /// Which.
        link: LinkId,
        /// Who is said to have signed.
        delegator: PrincipalName,
    },
    /// The signature is not the delegator's over this link.
    #[error("the signature of the delegation {link} does not verify")]
    Forged {
        /// Which.
        link: LinkId,
        /// Why.
        #[source]
        source: CryptoError,
    },
    /// The signature is of an algorithm that is not accepted here.
    #[error("the delegation {link} is signed by an algorithm that is not accepted here")]
    NotAllowed {
        /// Which.
        link: LinkId,
        /// Which algorithm.
        #[source]
        source: CryptoError,
    },
    /// The link has no canonical form.
    #[error("the delegation {link} has no canonical form")]
    NotCanonical {
        /// Which.
        link: LinkId,
        /// Why.
        #[source]
        source: CanonicalError,
    },
}

impl Classify for ChainError {
    fn class(&self) -> Class {
        Class::Security
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Empty | Self::NotJoined { .. } => "chain_broken",
            Self::Malformed { .. } | Self::NotCanonical { .. } => "delegation_malformed",
            Self::Escalation { source, .. } => source.code(),
            Self::UnknownKey { .. } => "unknown_principal",
            Self::Forged { .. } => "delegation_forged",
            Self::NotAllowed { source, .. } => source.code(),
        }
    }
}

/// A use case of [`crate::Nhi`] was refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NhiError {
    /// A value is out of its limits.
    #[error("`{field}` {why}")]
    Invalid {
        /// The field of the request or of the configuration.
        field: &'static str,
        /// What it has to be.
        why: String,
    },
    /// A key or a digest that was given cannot be used.
    #[error("`{field}`: {why}")]
    KeyRefused {
        /// The field of the request.
        field: &'static str,
        /// Why not; told in the text, which is all that a caller sees.
        why: CryptoError,
    },
    /// No such organization.
    #[error("there is no organization {org}")]
    UnknownOrganization {
        /// Which.
        org: OrgId,
    },
    /// No such principal in this organization.
    #[error("there is no principal `{name}`")]
    UnknownPrincipal {
        /// Which.
        name: PrincipalName,
    },
    /// The name is taken.
    #[error("the principal `{name}` exists already")]
    PrincipalExists {
        /// Which.
        name: PrincipalName,
    },
    /// Only a human acts without a delegation, and starts a chain.
    #[error("`{name}` is not a human: it has only the authority delegated to it")]
    NotHuman {
        /// Who.
        name: PrincipalName,
    },
    /// A human acts in person and is delegated nothing.
    #[error("`{name}` is a human: delegations are made to agents")]
    DelegateeNotAgent {
        /// Who.
        name: PrincipalName,
    },
    /// No such delegation in this organization.
    #[error("there is no delegation {link}")]
    UnknownDelegation {
        /// Which.
        link: LinkId,
    },
    /// Only the holder of a delegation passes it on.
    #[error("the delegation {parent} is held by `{holder}`, not by `{delegator}`")]
    ParentNotHeld {
        /// Who wants to delegate.
        delegator: PrincipalName,
        /// By which link.
        parent: LinkId,
        /// Whose link it is.
        holder: PrincipalName,
    },
    /// Authority goes to somebody new, never back into the chain it came by.
    #[error("`{delegatee}` is already in the chain; a delegation goes to somebody who is not")]
    DelegationLoops {
        /// Who was to be given what it has.
        delegatee: PrincipalName,
    },
    /// The link asks for more than its parent holds.
    #[error(transparent)]
    Escalation(#[from] EscalationError),
    /// It was revoked before.
    #[error("the delegation {link} is already revoked")]
    AlreadyRevoked {
        /// Which.
        link: LinkId,
    },
    /// It was suspended before.
    #[error("`{name}` is already suspended")]
    AlreadySuspended {
        /// Who.
        name: PrincipalName,
    },
    /// Only a suspended principal is resumed.
    #[error("`{name}` is not suspended")]
    NotSuspended {
        /// Who.
        name: PrincipalName,
    },
    /// Without its owner an organization could resume nobody.
    #[error("`{name}` owns the organization and cannot be suspended")]
    OwnerNotSuspended {
        /// Who.
        name: PrincipalName,
    },
    /// It was revoked before.
    #[error("`{name}` is already revoked")]
    PrincipalAlreadyRevoked {
        /// Who.
        name: PrincipalName,
    },
    /// Without its owner nobody could add anyone to an organization.
    #[error("`{name}` founded the organization and cannot be revoked")]
    OwnerNotRevoked {
        /// Who.
        name: PrincipalName,
    },
    /// No such key of this principal.
    #[error("`{name}` has no key {key}")]
    UnknownKey {
        /// Whose.
        name: PrincipalName,
        /// Which: its version or thumbprint.
        key: String,
    },
    /// What it does anew would go with what is left of it.
    #[error("`{name}` was erased, and something that is to go is still kept")]
    ErasureUnderWay {
        /// Who.
        name: PrincipalName,
    },
    /// It was revoked before.
    #[error("the key {version} of `{name}` is already revoked")]
    KeyAlreadyRevoked {
        /// Whose.
        name: PrincipalName,
        /// Which.
        version: KeyVersion,
    },
    /// What its keys signed is verified by all of them, for ever.
    #[error("`{name}` had {MAX_PRINCIPAL_KEYS} keys; there are no more")]
    TooManyKeys {
        /// Whose.
        name: PrincipalName,
    },
    /// What a revoked key signed, or would sign, holds for nobody.
    #[error("the key {version} of `{name}` was revoked; what it signed holds no more")]
    SigningKeyRevoked {
        /// Whose.
        name: PrincipalName,
        /// Which.
        version: KeyVersion,
    },
    /// An organization always has an owner.
    #[error("`{name}` founded the organization and stays its owner")]
    OwnerKeepsRole {
        /// Who.
        name: PrincipalName,
    },
    /// The chain has no authority now.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A link does not verify.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The token is not one of ours, or was altered.
    #[error("the token is not valid: {why}")]
    InvalidToken {
        /// Why, without quoting the token.
        why: &'static str,
    },
    /// What is bound to one instance of an agent serves no other.
    #[error("the token is bound to the instance `{bound}` and cannot be made one of `{asked}`")]
    InstanceBound {
        /// Whose it is.
        bound: InstanceName,
        /// Whose it was to be.
        asked: InstanceName,
    },
    /// The keys of the log were replaced before, and those of then still sign.
    #[error("the keys of the log that were replaced last still sign its checkpoints")]
    FormerLogKeys,
    /// Tokens of a former issuer key may still be valid.
    #[error("tokens that the former issuer keys signed may be valid until {until}")]
    IssuerInUse {
        /// Until when.
        until: Timestamp,
    },
    /// The token's signature does not verify.
    #[error("the token is not valid: its signature does not verify")]
    TokenForged(#[source] CryptoError),
    /// The token names an algorithm that is not known, or not accepted, here.
    #[error("the token cannot be read: {0}")]
    TokenAlgorithm(CryptoError),
    /// The token has expired.
    #[error("the token expired at {at}")]
    TokenExpired {
        /// When.
        at: Timestamp,
    },
    /// The human's credentials were superseded after this one was issued.
    #[error("the token was superseded at {at}")]
    TokenSuperseded {
        /// When they were superseded last.
        at: Timestamp,
    },
    /// The stored principals belong to another trust domain than the configured
    /// one; their SPIFFE ids would change under issued tokens.
    #[error("`{stored}` is not of the configured trust domain `{configured}`")]
    TrustDomainChanged {
        /// A stored SPIFFE id.
        stored: String,
        /// The configuration's.
        configured: String,
    },
    /// A proof of possession is missing or wrong.
    #[error(transparent)]
    Dpop(#[from] DpopError),
    /// A key cannot be made, used or unwrapped.
    #[error("cannot {operation}")]
    Crypto {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        #[source]
        source: CryptoError,
    },
    /// A value has no canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The store did not take the change.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for NhiError {
    fn class(&self) -> Class {
        match self {
            Self::Invalid { .. }
            | Self::UnknownOrganization { .. }
            | Self::UnknownPrincipal { .. }
            | Self::PrincipalExists { .. }
            | Self::DelegateeNotAgent { .. }
            | Self::UnknownDelegation { .. }
            | Self::AlreadyRevoked { .. }
            | Self::AlreadySuspended { .. }
            | Self::NotSuspended { .. }
            | Self::ErasureUnderWay { .. }
            | Self::OwnerNotSuspended { .. }
            | Self::PrincipalAlreadyRevoked { .. }
            | Self::OwnerNotRevoked { .. }
            | Self::UnknownKey { .. }
            | Self::KeyAlreadyRevoked { .. }
            | Self::TooManyKeys { .. }
            | Self::OwnerKeepsRole { .. }
            | Self::IssuerInUse { .. }
            | Self::FormerLogKeys
            | Self::TrustDomainChanged { .. } => Class::Permanent,
            Self::NotHuman { .. }
            | Self::SigningKeyRevoked { .. }
            | Self::ParentNotHeld { .. }
            | Self::DelegationLoops { .. }
            | Self::InstanceBound { .. }
            | Self::InvalidToken { .. }
            | Self::TokenForged(_)
            | Self::TokenAlgorithm(_)
            | Self::TokenExpired { .. }
            | Self::TokenSuperseded { .. } => Class::Security,
            Self::Escalation(error) => error.class(),
            Self::Identity(error) => error.class(),
            Self::Chain(error) => error.class(),
            Self::KeyRefused { why, .. } => why.class(),
            Self::Dpop(error) => error.class(),
            Self::Crypto { source, .. } => source.class(),
            Self::Canonical(error) => error.class(),
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid_identity_request",
            Self::UnknownOrganization { .. } => "unknown_organization",
            Self::UnknownPrincipal { .. } => "unknown_principal",
            Self::PrincipalExists { .. } => "principal_exists",
            Self::NotHuman { .. } => "principal_not_human",
            Self::DelegateeNotAgent { .. } => "delegatee_not_agent",
            Self::UnknownDelegation { .. } => "unknown_delegation",
            Self::ParentNotHeld { .. } => "delegation_parent_not_held",
            Self::DelegationLoops { .. } => "delegation_loops",
            Self::Escalation(error) => error.code(),
            Self::AlreadyRevoked { .. } => "delegation_already_revoked",
            Self::AlreadySuspended { .. } => "principal_already_suspended",
            Self::ErasureUnderWay { .. } => "erasure_under_way",
            Self::NotSuspended { .. } => "principal_not_suspended",
            Self::OwnerNotSuspended { .. } => "owner_not_suspended",
            Self::PrincipalAlreadyRevoked { .. } => "principal_already_revoked",
            Self::OwnerNotRevoked { .. } => "owner_not_revoked",
            Self::UnknownKey { .. } => "unknown_key",
            Self::KeyAlreadyRevoked { .. } => "key_already_revoked",
            Self::TooManyKeys { .. } => "too_many_keys",
            Self::SigningKeyRevoked { .. } => "signing_key_revoked",
            Self::InstanceBound { .. } => "instance_bound",
            Self::OwnerKeepsRole { .. } => "owner_keeps_role",
            Self::IssuerInUse { .. } => "issuer_in_use",
            Self::FormerLogKeys => "log_keys_not_retired",
            Self::Identity(error) => error.code(),
            Self::Chain(error) => error.code(),
            Self::InvalidToken { .. } | Self::TokenForged(_) => "invalid_token",
            Self::TokenAlgorithm(source) => source.code(),
            Self::TokenExpired { .. } => "token_expired",
            Self::TokenSuperseded { .. } => "token_superseded",
            Self::TrustDomainChanged { .. } => "trust_domain_changed",
            Self::KeyRefused { why, .. } => why.code(),
            Self::Dpop(error) => error.code(),
            Self::Crypto { source, .. } => source.code(),
            Self::Canonical(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}
