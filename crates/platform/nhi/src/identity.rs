//! Who acts, and by which chain of delegations.

use std::sync::Arc;

use creto_crypto::Thumbprint;
use creto_errors::{Class, Classify};
use creto_types::{Id, IdKind, OrgId, PrincipalName, Timestamp};

use crate::principal::principal_id;
use crate::{
    Authority, EpochId, Hop, InstanceName, KeyVersion, LinkId, PrincipalType, Role, Standing,
    TokenEnds,
};

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
    /// The chain it acts by, root first. Empty for a human, who acts in person.
    pub hops: Vec<Hop>,
    /// Whether anyone along the chain is suspended or revoked: the human it starts from, then
    /// the delegatee of every hop.
    pub standing: Arc<[Arc<Standing>]>,
    /// Tells when what was found live has to be looked at again.
    pub authority: Arc<Authority>,
    /// What its token says beyond that, where it says something: whoever leaves it out
    /// makes more of a token than it is.
    pub narrowed: Option<Box<Narrowed>>,
    /// The token it came with, when it came with one.
    pub token_id: Option<TokenId>,
    /// What else ends that token.
    pub ends: TokenEnds,
    /// When the token, or the first link of the chain to do so, expires.
    pub expires_at: Timestamp,
}

/// What a token is of beyond its principal. Most say none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowed {
    /// Which of the agent's instances acts, where that was named.
    pub instance: Option<InstanceName>,
    /// The epoch of the person's credentials that the token is of, after the first.
    pub epoch: Option<EpochId>,
    /// The key that the token is bound to: whoever presents it proves to have that.
    pub confirmation: Option<Thumbprint>,
}

impl Narrowed {
    /// As an identity keeps it: nothing where it says nothing.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// An identity has no authority now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A link of the chain was revoked.
    #[error("the delegation {link} was revoked")]
    Revoked {
        /// Which.
        link: LinkId,
    },
    /// The key that signed a link of the chain was revoked.
    #[error(
        "the delegation {link} is signed by the key {version} of `{delegator}`, which was revoked"
    )]
    KeyRevoked {
        /// Which link.
        link: LinkId,
        /// Whose key.
        delegator: PrincipalName,
        /// Which of its keys.
        version: KeyVersion,
    },
    /// A principal of the chain was revoked.
    #[error("`{principal}` was revoked")]
    PrincipalRevoked {
        /// Who.
        principal: PrincipalName,
    },
    /// A principal of the chain is suspended.
    #[error("`{principal}` is suspended")]
    Suspended {
        /// Who.
        principal: PrincipalName,
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
    /// The credentials of the person were superseded since it was authenticated.
    #[error("the credential was superseded by a newer one")]
    Superseded,
    /// The issuer of its token was retired since it was authenticated.
    #[error("the key that signed the token was retired")]
    IssuerRetired,
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
            Self::KeyRevoked { .. } => "delegation_key_revoked",
            Self::PrincipalRevoked { .. } => "principal_revoked",
            Self::Suspended { .. } => "principal_suspended",
            Self::Expired { .. } => "delegation_expired",
            Self::NotYetValid { .. } => "delegation_not_yet_valid",
            Self::Superseded => "token_superseded",
            Self::IssuerRetired => "invalid_token",
            Self::Broken => "chain_broken",
        }
    }
}

impl AgentIdentity {
    /// Its SPIFFE id, without an instance.
    #[must_use]
    pub fn spiffe_id(&self) -> String {
        principal_id(self.authority.organization_id(), self.kind, &self.name)
    }

    /// Whether it is an agent without any delegation.
    #[must_use]
    pub fn is_powerless(&self) -> bool {
        self.hops.is_empty() && self.kind == PrincipalType::Agent
    }

    /// Which of its instances acts, where that was named.
    #[must_use]
    pub fn instance(&self) -> Option<&InstanceName> {
        self.narrowed.as_ref()?.instance.as_ref()
    }

    /// The epoch of the person's credentials that its token is of, after the first.
    #[must_use]
    pub fn epoch(&self) -> Option<EpochId> {
        self.narrowed.as_ref()?.epoch
    }

    /// The key that its token is bound to: whoever presents it proves to have that.
    #[must_use]
    pub fn confirmation(&self) -> Option<Thumbprint> {
        self.narrowed.as_ref()?.confirmation
    }

    /// The same with this in place of what its token says.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Narrowed)) -> Self {
        let mut narrowed = self.narrowed.as_deref().cloned().unwrap_or_default();
        change(&mut narrowed);
        Self {
            narrowed: narrowed.boxed(),
            ..self.clone()
        }
    }

    /// Whether the whole chain holds at this instant: it joins up, nobody in it is
    /// revoked or suspended, no link is revoked, expired or not valid yet, and the token
    /// it came with has not ended. Allocates nothing when it does.
    pub fn live(&self, now: Timestamp) -> Result<(), IdentityError> {
        self.joined()?;
        // Before any date: that a link above is not valid yet must not hide that
        // one below it is dead.
        if let Some(hop) = self.hops.iter().find(|hop| hop.status.is_revoked()) {
            let link = hop.link.id;
            return Err(match hop.status.is_itself_revoked() {
                true => IdentityError::Revoked { link },
                false => IdentityError::KeyRevoked {
                    link,
                    delegator: hop.link.delegator.clone(),
                    version: hop.link.key_version,
                },
            });
        }
        // What is for ever before what may be taken back.
        if let Some(standing) = self.standing.iter().find(|who| who.is_revoked()) {
            return Err(IdentityError::PrincipalRevoked {
                principal: standing.principal().clone(),
            });
        }
        if let Some(standing) = self.standing.iter().find(|who| who.is_suspended()) {
            return Err(IdentityError::Suspended {
                principal: standing.principal().clone(),
            });
        }
        self.ends.holds(self.standing.first())?;
        for hop in &self.hops {
            let link = hop.link.id;
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

    /// The role of a human who acts in person, always current. `None` for an agent,
    /// whoever its chain starts from.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        match self.kind {
            PrincipalType::Human => self.standing.first()?.role(),
            PrincipalType::Agent => None,
        }
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
        let principals =
            std::iter::once(self.root()).chain(self.hops.iter().map(|hop| &hop.link.delegatee));
        if !principals.eq(self.standing.iter().map(|who| who.principal())) {
            return Err(IdentityError::Broken);
        }
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
