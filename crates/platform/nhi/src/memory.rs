//! A store in memory that keeps the port's whole contract but durability. For
//! tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use creto_types::memory::MemoryCommits;
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use parking_lot::Mutex;

use crate::ports::{
    Snapshot, StoredEpoch, StoredLink, StoredOrganization, StoredPrincipal, StoredSuspension,
};
use crate::{DelegationLink, LinkId, NhiStore, PrincipalType, SignedLink};

/// Identities in memory. Opening a second `Nhi` on the same store is a restart.
#[derive(Debug, Default)]
pub struct MemoryNhiStore {
    commits: Arc<MemoryCommits>,
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    organizations: BTreeMap<OrgId, StoredOrganization>,
    principals: BTreeMap<(OrgId, PrincipalName), StoredPrincipal>,
    links: Vec<StoredLink>,
    epochs: Vec<StoredEpoch>,
    suspensions: BTreeMap<(OrgId, PrincipalName), StoredSuspension>,
}

impl Rows {
    fn link(&mut self, org: OrgId, id: LinkId) -> Result<&mut StoredLink, StoreError> {
        self.links
            .iter_mut()
            .find(|row| row.signed.link.org == org && row.signed.link.id == id)
            .ok_or(StoreError::NotFound { what: "delegation" })
    }

    /// Refuses a link below anything that ended meanwhile.
    fn may_hold(&mut self, link: &DelegationLink) -> Result<(), StoreError> {
        let mut names = vec![link.delegatee.clone(), link.delegator.clone()];
        let mut next = link.parent;
        while let Some(parent) = next {
            let row = self.link(link.org, parent)?;
            if row.revoked_at.is_some() {
                return Err(StoreError::Conflict {
                    what: "delegation above",
                });
            }
            next = row.signed.link.parent;
            names.push(row.signed.link.delegator.clone());
        }
        let suspended = |name| self.suspensions.contains_key(&(link.org, name));
        if names.into_iter().any(suspended) {
            return Err(StoreError::Conflict { what: "principal" });
        }
        Ok(())
    }

    fn principal(&self, key: &(OrgId, PrincipalName)) -> Result<&StoredPrincipal, StoreError> {
        self.principals
            .get(key)
            .ok_or(StoreError::NotFound { what: "principal" })
    }
}

impl MemoryNhiStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that shares its evidence with other stores.
    #[must_use]
    pub fn with_commits(commits: Arc<MemoryCommits>) -> Self {
        Self {
            commits,
            rows: Mutex::default(),
        }
    }

    /// The evidence, replies and claims.
    #[must_use]
    pub fn commits(&self) -> &Arc<MemoryCommits> {
        &self.commits
    }
}

#[async_trait]
impl NhiStore for MemoryNhiStore {
    async fn load(&self) -> Result<Snapshot, StoreError> {
        let rows = self.rows.lock();
        Ok(Snapshot {
            organizations: rows.organizations.values().cloned().collect(),
            principals: rows.principals.values().cloned().collect(),
            links: rows.links.clone(),
            epochs: rows.epochs.clone(),
            suspensions: rows.suspensions.values().cloned().collect(),
        })
    }

    async fn insert_organization(
        &self,
        organization: StoredOrganization,
        owner: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let id = organization.organization.id;
        if rows.organizations.contains_key(&id) {
            return Err(StoreError::Conflict {
                what: "organization",
            });
        }
        let receipt = self.commits.apply(&commit)?;
        rows.organizations.insert(id, organization);
        rows.principals
            .insert((id, owner.principal.name.clone()), owner);
        Ok(receipt)
    }

    async fn insert_principal(
        &self,
        principal: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let key = (principal.principal.org, principal.principal.name.clone());
        if !rows.organizations.contains_key(&key.0) {
            return Err(StoreError::NotFound {
                what: "organization",
            });
        }
        if rows.principals.contains_key(&key) {
            return Err(StoreError::Conflict { what: "principal" });
        }
        let receipt = self.commits.apply(&commit)?;
        rows.principals.insert(key, principal);
        Ok(receipt)
    }

    async fn insert_link(&self, signed: SignedLink, commit: Commit) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let link = &signed.link;
        for name in [&link.delegator, &link.delegatee] {
            rows.principal(&(link.org, name.clone()))?;
        }
        if rows.links.iter().any(|row| row.signed.link.id == link.id) {
            return Err(StoreError::Conflict { what: "delegation" });
        }
        rows.may_hold(link)?;
        let receipt = self.commits.apply(&commit)?;
        rows.links.push(StoredLink {
            signed,
            revoked_at: None,
        });
        Ok(receipt)
    }

    async fn revoke_link(
        &self,
        org: OrgId,
        link: LinkId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let row = rows.link(org, link)?;
        if row.revoked_at.is_some() {
            return Err(StoreError::Conflict { what: "delegation" });
        }
        let receipt = self.commits.apply(&commit)?;
        row.revoked_at = Some(at);
        Ok(receipt)
    }

    async fn insert_suspension(
        &self,
        suspension: StoredSuspension,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let key = (suspension.org, suspension.principal.clone());
        rows.principal(&key)?;
        if rows.suspensions.contains_key(&key) {
            return Err(StoreError::Conflict { what: "suspension" });
        }
        let receipt = self.commits.apply(&commit)?;
        rows.suspensions.insert(key, suspension);
        Ok(receipt)
    }

    async fn end_suspension(
        &self,
        org: OrgId,
        principal: PrincipalName,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let key = (org, principal);
        rows.principal(&key)?;
        if !rows.suspensions.contains_key(&key) {
            return Err(StoreError::Conflict { what: "suspension" });
        }
        let receipt = self.commits.apply(&commit)?;
        rows.suspensions.remove(&key);
        Ok(receipt)
    }

    async fn insert_epoch(
        &self,
        epoch: StoredEpoch,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let of_human = rows
            .principals
            .get(&(epoch.org, epoch.human.clone()))
            .is_some_and(|row| row.principal.kind == PrincipalType::Human);
        if !of_human {
            return Err(StoreError::NotFound { what: "human" });
        }
        if rows.epochs.iter().any(|row| row.epoch == epoch.epoch) {
            return Err(StoreError::Conflict { what: "epoch" });
        }
        let receipt = self.commits.apply(&commit)?;
        rows.epochs.push(epoch);
        Ok(receipt)
    }
}
