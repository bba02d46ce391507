//! Who acts, and by which links: what the counters of a chain are found by.

use std::sync::Arc;

use creto_nhi::{AgentIdentity, DelegationLink, LinkId};
use creto_types::{OrgId, PrincipalName};

/// One chain of delegations, or one principal without any.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) org: OrgId,
    pub(crate) agent: PrincipalName,
    /// Root first.
    pub(crate) links: Box<[Arc<DelegationLink>]>,
}

/// What a chain is known by: its last link, or the name of who acts without one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChainKey {
    Link(LinkId),
    Person(PrincipalName),
}

impl Chain {
    pub(crate) fn of(identity: &AgentIdentity) -> Self {
        Self {
            org: identity.org,
            agent: identity.name.clone(),
            links: identity
                .hops
                .iter()
                .map(|hop| Arc::clone(&hop.link))
                .collect(),
        }
    }

    pub(crate) fn key_of(identity: &AgentIdentity) -> ChainKey {
        match identity.hops.last() {
            Some(hop) => ChainKey::Link(hop.link.id),
            None => ChainKey::Person(identity.name.clone()),
        }
    }

    pub(crate) fn root(&self) -> Option<LinkId> {
        self.links.first().map(|link| link.id)
    }

    /// Who pays: whoever gave the first link, or the principal itself.
    pub(crate) fn customer(&self) -> PrincipalName {
        self.links
            .first()
            .map_or(&self.agent, |link| &link.delegator)
            .clone()
    }

    pub(crate) fn hops(&self) -> Vec<LinkId> {
        self.links.iter().map(|link| link.id).collect()
    }
}
