//! Secrets and leases in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};

use super::MemoryNhiStore;
use crate::{HandOver, LeaseId, LinkId, SecretName, SecretStore, StoredLease, StoredSecret};

#[async_trait]
impl SecretStore for MemoryNhiStore {
    async fn insert_secret(
        &self,
        mut secret: StoredSecret,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let org = secret.org;
        rows.organization(org)?;
        rows.wrapping_known(org, secret.sealed.version())?;
        let mut before = rows.secrets.values().filter(|row| row.org == org);
        let newest = before.rfind(|row| row.name == secret.name);
        let fits = match newest {
            Some(row) => {
                let follows = row.version + 1 == secret.version && row.owner == secret.put_by;
                let in_chain = row.root.is_none() || row.root == secret.root;
                secret.root.clone_from(&row.root);
                follows && in_chain
            }
            None => secret.version == 1,
        };
        if !fits {
            return Err(StoreError::Conflict { what: "secret" });
        }
        let receipt = self.commits.apply(&commit)?;
        let key = (org, secret.name.clone(), secret.version);
        rows.secrets.insert(key, secret);
        Ok(receipt)
    }

    async fn hand_over(&self, change: HandOver, commit: Commit) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let whose = (change.org, change.to.clone());
        let named = |row: &&mut StoredSecret| row.org == change.org && row.name == change.secret;
        let owner = rows.secrets.values_mut().find(named);
        let owner = owner.map(|row| row.owner.clone());
        let owner = owner.ok_or(StoreError::NotFound { what: "secret" })?;
        if !rows.principals.contains_key(&whose) {
            return Err(StoreError::NotFound { what: "principal" });
        }
        rows.not_expelled(&whose)?;
        if owner != change.from {
            return Err(StoreError::Conflict { what: "secret" });
        }
        let receipt = self.commits.apply(&commit)?;
        for row in rows.secrets.values_mut().filter(named) {
            row.owner = change.to.clone();
            row.root = None;
        }
        Ok(receipt)
    }

    async fn secret(
        &self,
        org: OrgId,
        name: &SecretName,
    ) -> Result<Option<StoredSecret>, StoreError> {
        let rows = self.rows.lock();
        let mut versions = rows
            .secrets
            .range((org, name.clone(), 0)..=(org, name.clone(), u32::MAX));
        Ok(versions.next_back().map(|(_, row)| row.clone()))
    }

    async fn secret_version(
        &self,
        org: OrgId,
        name: &SecretName,
        version: u32,
    ) -> Result<Option<StoredSecret>, StoreError> {
        let rows = self.rows.lock();
        Ok(rows.secrets.get(&(org, name.clone(), version)).cloned())
    }

    async fn secrets(&self, org: OrgId) -> Result<Vec<StoredSecret>, StoreError> {
        let rows = self.rows.lock();
        let all = rows.secrets.values().filter(|row| row.org == org);
        Ok(all.cloned().collect())
    }

    async fn newest_secrets(
        &self,
        org: OrgId,
        after: Option<SecretName>,
        max: usize,
    ) -> Result<Vec<StoredSecret>, StoreError> {
        let mut newest = BTreeMap::new();
        for row in self.secrets(org).await? {
            newest.insert(row.name.clone(), row);
        }
        let after = |row: &StoredSecret| after.as_ref().is_none_or(|after| row.name > *after);
        Ok(newest.into_values().filter(after).take(max).collect())
    }

    async fn insert_lease(
        &self,
        lease: StoredLease,
        by: PrincipalName,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let named = |row: &&StoredSecret| row.org == lease.org && row.name == lease.secret;
        let secret = rows.secrets.values().find(named);
        let secret = secret.ok_or(StoreError::NotFound { what: "secret" })?;
        if secret.owner != by {
            return Err(StoreError::Conflict { what: "secret" });
        }
        if rows.link(lease.org, lease.link)?.revoked_at.is_some() {
            return Err(StoreError::Conflict { what: "delegation" });
        }
        let key = (lease.org, lease.id);
        if rows.leases.contains_key(&key) {
            return Err(StoreError::Conflict { what: "lease" });
        }
        let receipt = self.commits.apply(&commit)?;
        rows.leases.insert(key, lease);
        Ok(receipt)
    }

    async fn lease(&self, org: OrgId, id: LeaseId) -> Result<Option<StoredLease>, StoreError> {
        Ok(self.rows.lock().leases.get(&(org, id)).cloned())
    }

    async fn leases(
        &self,
        org: OrgId,
        link: Option<LinkId>,
        after: Option<LeaseId>,
        max: usize,
    ) -> Result<Vec<StoredLease>, StoreError> {
        let rows = self.rows.lock();
        let all = rows.leases.values().filter(|row| row.org == org);
        let all = all.filter(|row| link.is_none_or(|link| row.link == link));
        let all = all.filter(|row| after.is_none_or(|after| row.id > after));
        Ok(all.take(max).cloned().collect())
    }

    async fn end_lease(
        &self,
        org: OrgId,
        id: LeaseId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let row = rows.leases.get_mut(&(org, id));
        let row = row.ok_or(StoreError::NotFound { what: "lease" })?;
        if row.ended_at.is_some() {
            return Err(StoreError::Conflict { what: "lease" });
        }
        let receipt = self.commits.apply(&commit)?;
        row.ended_at = Some(at);
        Ok(receipt)
    }

    async fn use_lease(
        &self,
        org: OrgId,
        id: LeaseId,
        owner: PrincipalName,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let rows = self.rows.lock();
        let lease = rows.leases.get(&(org, id)).filter(|row| row.holds(at));
        let lease = lease.ok_or(StoreError::Conflict { what: "lease" })?;
        let named = |row: &&StoredSecret| row.org == org && row.name == lease.secret;
        if rows.secrets.values().find(named).map(|row| &row.owner) != Some(&owner) {
            return Err(StoreError::Conflict { what: "secret" });
        }
        self.commits.apply(&commit)
    }
}
