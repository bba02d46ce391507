//! What the use cases take and give: the configuration, requests, drafts.

use std::time::Duration;

use creto_crypto::InForce;
use creto_types::{PrincipalName, Timestamp};

use crate::ports::{StoredOrganization, StoredPrincipal};
use crate::principal::is_trust_domain;
use crate::registry::OrgState;
use crate::{Budget, LinkId, NhiError, Organization, Principal, Right, TokenId};

/// Limits and names.
#[derive(Clone, Debug)]
pub struct NhiConfig {
    /// The SPIFFE trust domain. It is part of every stored identity and cannot
    /// be changed later.
    pub trust_domain: String,
    /// The life of a token when nobody asks for another.
    pub token_ttl: Duration,
    /// The longest life of a token.
    pub max_token_ttl: Duration,
    /// The longest chain, in links.
    pub max_depth: u8,
    /// By which algorithms keys, links and tokens are made and read.
    pub algorithms: InForce,
    /// Whether a token of an agent has to be bound to a key (RFC 9449).
    pub require_proof: bool,
}

impl NhiConfig {
    /// The default limits: tokens of one hour, at most a day, chains of eight links.
    #[must_use]
    pub fn new(trust_domain: impl Into<String>) -> Self {
        Self {
            trust_domain: trust_domain.into(),
            token_ttl: Duration::from_secs(60 * 60),
            max_token_ttl: Duration::from_secs(24 * 60 * 60),
            max_depth: 8,
            algorithms: InForce::default(),
            require_proof: false,
        }
    }
}

/// What a delegation is asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationRequest {
    /// Who gives: a human, or the holder of `parent`.
    pub delegator: PrincipalName,
    /// The agent who is given.
    pub delegatee: PrincipalName,
    /// The link by which the delegator holds what it gives.
    pub parent: Option<LinkId>,
    /// What is given.
    pub rights: Vec<Right>,
    /// From when on; the earliest possible instant when absent.
    pub not_before: Option<Timestamp>,
    /// Until when, exclusive.
    pub expires_at: Timestamp,
    /// How many links may follow below; the most that is allowed when absent.
    pub max_depth: Option<u8>,
    /// The most it may cost. Without one, the budgets above still hold.
    pub budget: Option<Budget>,
}

/// A token and what its caller needs to know about it.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// The token: a credential.
    pub token: String,
    /// Its `jti`.
    pub id: TokenId,
    /// Its `exp`.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken")
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// An organization that is not founded yet.
pub struct OrganizationDraft {
    pub(crate) stored: StoredOrganization,
    pub(crate) owner: StoredPrincipal,
    pub(crate) state: OrgState,
}

impl OrganizationDraft {
    /// The organization.
    #[must_use]
    pub const fn organization(&self) -> &Organization {
        &self.stored.organization
    }

    /// Its first human.
    #[must_use]
    pub const fn owner(&self) -> &Principal {
        &self.owner.principal
    }
}

impl std::fmt::Debug for OrganizationDraft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OrganizationDraft")
            .field(self.organization())
            .field(self.owner())
            .finish()
    }
}

/// A principal that is not added yet.
#[derive(Debug)]
pub struct PrincipalDraft {
    pub(crate) stored: StoredPrincipal,
}

impl PrincipalDraft {
    /// The principal.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.stored.principal
    }
}

/// Whether the limits make sense.
pub(crate) fn check_config(config: &NhiConfig) -> Result<(), NhiError> {
    let invalid = |field, why: &str| {
        Err(NhiError::Invalid {
            field,
            why: why.to_owned(),
        })
    };
    if !is_trust_domain(&config.trust_domain) {
        return invalid(
            "trust_domain",
            "must be 1 to 255 of a-z, 0-9, `.`, `-` and `_`",
        );
    }
    if config.token_ttl < Duration::from_secs(1) {
        return invalid("token_ttl", "must be at least one second");
    }
    if config.max_token_ttl < config.token_ttl {
        return invalid("max_token_ttl", "must not be less than `token_ttl`");
    }
    if config.max_depth == 0 {
        return invalid("max_depth", "must be at least 1");
    }
    if !config.algorithms.now().signature.for_new().takes_context() {
        return invalid(
            "algorithms",
            "must sign new objects by an algorithm that takes a context",
        );
    }
    Ok(())
}
