//! Who asks.

use std::fmt;

use creto_authz::Bound;
use creto_nhi::{AgentIdentity, Hop, LinkId, PrincipalType, Role};
use creto_runtime::SandboxId;
use creto_types::{OrgId, PrincipalName, Timestamp};

use crate::{Call, GovernError};

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A verified bearer token.
    Token,
    /// A credential of any kind, when the person's session began.
    Session,
    /// A sandbox that this server runs; it holds no credential.
    Sandbox(SandboxId),
}

/// An authenticated caller: the only way into the governor's methods.
#[derive(Clone)]
pub struct Caller {
    bound: Bound,
    origin: Origin,
}

impl Caller {
    pub(crate) fn new(bound: Bound, origin: Origin) -> Self {
        Self { bound, origin }
    }

    pub(crate) fn bound(&self) -> &Bound {
        &self.bound
    }

    /// The verified identity.
    #[must_use]
    pub fn identity(&self) -> &AgentIdentity {
        self.bound.identity()
    }

    /// The organization it belongs to.
    #[must_use]
    pub fn org(&self) -> OrgId {
        self.identity().org
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &PrincipalName {
        &self.identity().name
    }

    /// How it proved who it is.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether it is a person.
    #[must_use]
    pub fn is_human(&self) -> bool {
        self.identity().kind == PrincipalType::Human
    }

    /// The link it acts under; none for a person.
    #[must_use]
    pub fn link(&self) -> Option<LinkId> {
        self.identity().link().map(|hop| hop.link.id)
    }

    /// The same as text.
    pub(crate) fn link_text(&self) -> Option<String> {
        self.link().map(|link| link.to_string())
    }

    /// From the owner down to the caller, each once.
    #[must_use]
    pub fn chain(&self) -> Vec<PrincipalName> {
        chain_of(&self.identity().hops, self.name())
    }

    /// Refuses a caller whose identity gives no authority any more.
    pub(crate) fn live(&self, now: Timestamp) -> Result<(), GovernError> {
        Ok(self.identity().live(now)?)
    }

    /// The role of a person, as of now.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.identity().role()
    }

    /// Refuses a person whose role does not allow the call. What an agent may do is
    /// for each call to say: authority, not a role, is what an agent has.
    ///
    /// # Errors
    ///
    /// `forbidden`.
    pub fn allowed(&self, call: Call) -> Result<(), GovernError> {
        if !self.is_human() {
            return Ok(());
        }
        match self.role() {
            Some(role) if call.allows(role) => Ok(()),
            Some(role) => Err(GovernError::forbidden(format!(
                "{} has the role `{role}`, which does not allow `{}`",
                self.name(),
                call.name()
            ))),
            None => Err(GovernError::forbidden(format!(
                "{} has no role in the organization",
                self.name()
            ))),
        }
    }

    /// Refuses a caller whose identity gives no authority any more, and a person whose
    /// role does not allow the call.
    pub(crate) fn may(&self, call: Call, now: Timestamp) -> Result<(), GovernError> {
        self.live(now)?;
        self.allowed(call)
    }

    /// What only people of the organization may do, whichever their roles let.
    pub(crate) fn require_person(&self, what: &str) -> Result<(), GovernError> {
        if self.is_human() {
            Ok(())
        } else {
            Err(GovernError::forbidden(format!(
                "only people of the organization may {what}; {} is an agent",
                self.name()
            )))
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("org", &self.org())
            .field("name", self.name())
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// The principals along a chain, from the root to `last`.
pub(crate) fn chain_of(hops: &[Hop], last: &PrincipalName) -> Vec<PrincipalName> {
    let mut names: Vec<_> = hops.iter().map(|hop| hop.link.delegator.clone()).collect();
    names.push(last.clone());
    names
}
