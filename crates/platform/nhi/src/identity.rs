//! Who acts, and by which chain of delegations.

use creto_errors::{Class, Classify};
use creto_types::{Id, IdKind, OrgId, PrincipalName, Timestamp};

use crate::{Hop, LinkId, PrincipalType};

/// The kind of [`TokenId`].
#[derive(Debug)]
pub enum TokenKind {}

impl IdKind for TokenKind {
    const PREFIX: &'static str = "tok";
}

/// One issued token: its `jti`.
pub type TokenId = Id<TokenKind>;

/// An authenticated principal together with the authority it acts by.
#[derive(Clone, Debug)]
pub struct AgentIdentity {
    /// Its organization.
    pub org: OrgId,
    /// Its name.
    pub name: PrincipalName,
    /// Person or program.
    pub kind: PrincipalType,
    /// Its SPIFFE id.
    pub spiffe_id: String,
    /// The chain it acts by, root first. Empty for a human, who acts in person.
    pub hops: Vec<Hop>,
    /// The token it came with, when it came with one.
    pub token_id: Option<TokenId>,
    /// When the token, or the first link of the chain to do so, expires.
    pub expires_at: Timestamp,
}

/// An identity has no authority now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A link of the chain was revoked.
    #[error("the delegation {link} was revoked")]
    Revoked {
        /// Which.
        link: LinkId,
    },
    /// A link of the chain, or the identity itself, has expired.
    #[error("{} has expired", match link {
        Some(link) => format!("the delegation {link}"),
        None => "the identity".to_owned(),
    })]
    Expired {
        /// Which link; `None` for the identity itself.
        link: Option<LinkId>,
    },
    /// A link of the chain is not valid yet.
    #[error("the delegation {link} is not valid yet")]
    NotYetValid {
        /// Which.
        link: LinkId,
    },
    /// The links do not join up, or are of another organization or principal.
    #[error("the delegation chain does not join up")]
    Broken,
}

impl Classify for IdentityError {
    fn class(&self) -> Class {
        Class::Security
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Revoked { .. } => "delegation_revoked",
            Self::Expired { .. } => "delegation_expired",
            Self::NotYetValid { .. } => "delegation_not_yet_valid",
            Self::Broken => "chain_broken",
        }
    }
}

impl AgentIdentity {
    /// Whether the whole chain holds at this instant: it joins up, and no link is
    /// revoked, expired or not valid yet. Allocates nothing.
    pub fn live(&self, now: Timestamp) -> Result<(), IdentityError> {
        self.joined()?;
        for hop in &self.hops {
            let link = hop.link.id;
            if hop.status.is_revoked() {
                return Err(IdentityError::Revoked { link });
            }
            if now >= hop.link.expires_at {
                return Err(IdentityError::Expired { link: Some(link) });
            }
            if now < hop.link.not_before {
                return Err(IdentityError::NotYetValid { link });
            }
        }
        if now >= self.expires_at {
            return Err(IdentityError::Expired { link: None });
        }
        Ok(())
    }

    /// The link it holds its authority by: the last one.
    #[must_use]
    pub fn link(&self) -> Option<&Hop> {
        self.hops.last()
    }

    /// The human the chain starts from; the principal itself without a chain.
    #[must_use]
    pub fn root(&self) -> &PrincipalName {
        self.hops
            .first()
            .map_or(&self.name, |hop| &hop.link.delegator)
    }

    fn joined(&self) -> Result<(), IdentityError> {
        let mut above: Option<&Hop> = None;
        for hop in &self.hops {
            let link = &hop.link;
            let joins = match above {
                None => link.parent.is_none(),
                Some(above) => {
                    link.parent == Some(above.link.id) && link.delegator == above.link.delegatee
                }
            };
            if !joins || link.org != self.org {
                return Err(IdentityError::Broken);
            }
            above = Some(hop);
        }
        match above {
            Some(last) if last.link.delegatee != self.name => Err(IdentityError::Broken),
            _ => Ok(()),
        }
    }
}
