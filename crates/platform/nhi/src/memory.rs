//! A store in memory that keeps the port's whole contract but durability. For
//! tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use creto_crypto::{WrappedKey, WrappingKey};
use creto_types::memory::MemoryCommits;
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use parking_lot::Mutex;

use crate::ports::{
    FormerIssuer, FormerLogKey, KeyHolder, Part, Rewrapped, Snapshot, StoredEpoch, StoredExpulsion,
    StoredFormerKey, StoredKeyChange, StoredKeyRevocation, StoredLink, StoredLogRotation,
    StoredOrganization, StoredPrincipal, StoredRole, StoredRotation, StoredSuspension,
};
use crate::{
    DelegationLink, KeyPurpose, KeyVersion, LeaseId, LinkId, NhiStore, PrekeyId, PrekeyStore,
    PrincipalType, SecretName, SecretStore, SignedLink, StoredLease, StoredSecret,
};

/// Identities in memory. Opening a second `Nhi` on the same store is a restart.
#[derive(Debug, Default)]
pub struct MemoryNhiStore {
    commits: Arc<MemoryCommits>,
    rows: Mutex<Rows>,
}

mod prekeys;
mod secrets;

#[derive(Debug, Default)]
struct Rows {
    organizations: BTreeMap<OrgId, StoredOrganization>,
    principals: BTreeMap<(OrgId, PrincipalName), StoredPrincipal>,
    links: Vec<StoredLink>,
    epochs: Vec<StoredEpoch>,
    suspensions: BTreeMap<(OrgId, PrincipalName), StoredSuspension>,
    roles: BTreeMap<(OrgId, PrincipalName), StoredRole>,
    expulsions: BTreeMap<(OrgId, PrincipalName), StoredExpulsion>,
    former_keys: BTreeMap<(OrgId, PrincipalName, KeyVersion), StoredFormerKey>,
    key_revocations: BTreeMap<(OrgId, PrincipalName, KeyVersion), StoredKeyRevocation>,
    secrets: BTreeMap<(OrgId, SecretName, u32), StoredSecret>,
    leases: BTreeMap<(OrgId, LeaseId), StoredLease>,
    prekeys: BTreeMap<(OrgId, PrekeyId), prekeys::Row>,
}

const OUTDATED: StoreError = StoreError::Conflict {
    what: "wrapping key",
};

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
        let mut keys = vec![(link.org, link.delegator.clone(), link.key_version)];
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
            let above = &row.signed.link;
            keys.push((above.org, above.delegator.clone(), above.key_version));
        }
        if keys
            .iter()
            .any(|key| self.key_revocations.contains_key(key))
        {
            return Err(StoreError::Conflict { what: "key" });
        }
        let stopped = |name| {
            let key = (link.org, name);
            self.suspensions.contains_key(&key) || self.expulsions.contains_key(&key)
        };
        if names.into_iter().any(stopped) {
            return Err(StoreError::Conflict { what: "principal" });
        }
        Ok(())
    }

    fn organization(&mut self, org: OrgId) -> Result<&mut StoredOrganization, StoreError> {
        self.organizations
            .get_mut(&org)
            .ok_or(StoreError::NotFound {
                what: "organization",
            })
    }

    /// Every stored private key and secret of an organization.
    fn wrapped(&self, org: OrgId) -> Vec<WrappedKey> {
        let organization = self.organizations.get(&org).into_iter();
        let purposes = organization.flat_map(|row| {
            let former = row.former_log_keys.iter().map(|former| &former.key);
            row.keys.iter().map(|(_, key)| key).chain(former)
        });
        let principals = self.principals.values();
        let principals = principals.filter(|row| row.principal.org == org);
        let secrets = self.secrets.values().filter(|row| row.org == org);
        purposes
            .chain(principals.map(|row| &row.key))
            .map(|key| &key.wrapped)
            .chain(secrets.map(|row| &row.sealed))
            .cloned()
            .collect()
    }

    /// Refuses a key under a wrapping key that is not there.
    fn wrapping_known(&self, org: OrgId, version: Option<u32>) -> Result<(), StoreError> {
        let organization = self.organizations.get(&org);
        let mut versions = organization
            .into_iter()
            .flat_map(|row| row.wrapping.iter().map(|key| key.version));
        match version {
            Some(version) if !versions.any(|known| known == version) => Err(OUTDATED),
            _ => Ok(()),
        }
    }

    fn key(&mut self, org: OrgId, holder: &KeyHolder) -> Option<&mut WrappedKey> {
        match holder {
            KeyHolder::Organization(purpose) => {
                let mut keys = self.organizations.get_mut(&org)?.keys.iter_mut();
                let (_, key) = keys.find(|(known, _)| known == purpose)?;
                Some(&mut key.wrapped)
            }
            KeyHolder::FormerLog(purpose) => {
                let organization = self.organizations.get_mut(&org)?;
                let mut former = organization.former_log_keys.iter_mut();
                let former = former.find(|former| former.purpose == *purpose)?;
                Some(&mut former.key.wrapped)
            }
            KeyHolder::Principal(name) => {
                let row = self.principals.get_mut(&(org, name.clone()))?;
                Some(&mut row.key.wrapped)
            }
            // Payloads lie in no store in memory.
            KeyHolder::Subject(_) => None,
            KeyHolder::Secret(name, version) => {
                let row = self.secrets.get_mut(&(org, name.clone(), *version))?;
                Some(&mut row.sealed)
            }
        }
    }

    /// Refuses a principal that is there, or whose organization or key is not.
    fn may_add(&self, added: &StoredPrincipal) -> Result<(), StoreError> {
        let key = (added.principal.org, added.principal.name.clone());
        if !self.organizations.contains_key(&key.0) {
            return Err(StoreError::NotFound {
                what: "organization",
            });
        }
        if self.principals.contains_key(&key) {
            return Err(StoreError::Conflict { what: "principal" });
        }
        self.wrapping_known(key.0, added.key.wrapped.version())
    }

    /// Which of its keys a principal signs with.
    fn version(&self, org: OrgId, name: &PrincipalName) -> KeyVersion {
        let mut former = self.former_keys.values();
        let last = former.rfind(|row| row.org == org && row.principal == *name);
        last.map_or(KeyVersion::FIRST, |row| row.version.next())
    }

    fn principal(&self, key: &(OrgId, PrincipalName)) -> Result<&StoredPrincipal, StoreError> {
        self.principals
            .get(key)
            .ok_or(StoreError::NotFound { what: "principal" })
    }

    fn not_expelled(&self, key: &(OrgId, PrincipalName)) -> Result<(), StoreError> {
        if self.expulsions.contains_key(key) {
            return Err(StoreError::Conflict { what: "principal" });
        }
        Ok(())
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
    fn prekeys(&self) -> &dyn PrekeyStore {
        self
    }

    fn secrets(&self) -> &dyn SecretStore {
        self
    }

    async fn load(&self) -> Result<Snapshot, StoreError> {
        let rows = self.rows.lock();
        Ok(Snapshot {
            organizations: rows.organizations.values().cloned().collect(),
            principals: rows.principals.values().cloned().collect(),
            links: rows.links.clone(),
            epochs: rows.epochs.clone(),
            suspensions: rows.suspensions.values().cloned().collect(),
            roles: rows.roles.values().cloned().collect(),
            expulsions: rows.expulsions.values().cloned().collect(),
            former_keys: rows.former_keys.values().cloned().collect(),
            key_revocations: rows.key_revocations.values().cloned().collect(),
        })
    }

    async fn load_part(&self, part: Part) -> Result<Snapshot, StoreError> {
        let mut all = self.load().await?;
        let of = |org: OrgId, name: &PrincipalName| matches!(&part, Part::Principal(of, whose) if (of, whose) == (&org, name));
        all.organizations
            .retain(|row| part == Part::Organization(row.organization.id));
        all.principals
            .retain(|row| of(row.principal.org, &row.principal.name));
        all.links.retain(|row| {
            let link = &row.signed.link;
            part == Part::Link(link.org, link.id)
        });
        all.epochs.retain(|row| of(row.org, &row.human));
        all.suspensions.retain(|row| of(row.org, &row.principal));
        all.roles.retain(|row| of(row.org, &row.human));
        all.expulsions.retain(|row| of(row.org, &row.principal));
        all.former_keys.retain(|row| of(row.org, &row.principal));
        all.key_revocations
            .retain(|row| of(row.org, &row.principal));
        Ok(all)
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
        rows.may_add(&principal)?;
        let receipt = self.commits.apply(&commit)?;
        let key = (principal.principal.org, principal.principal.name.clone());
        rows.principals.insert(key, principal);
        Ok(receipt)
    }

    async fn insert_human(
        &self,
        human: StoredPrincipal,
        role: StoredRole,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        rows.may_add(&human)?;
        let receipt = self.commits.apply(&commit)?;
        let key = (human.principal.org, human.principal.name.clone());
        rows.principals.insert(key.clone(), human);
        rows.roles.insert(key, role);
        Ok(receipt)
    }

    async fn set_role(&self, role: StoredRole, commit: Commit) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let key = (role.org, role.human.clone());
        let known = rows.principals.get(&key);
        if known.is_none_or(|row| row.principal.kind != PrincipalType::Human) {
            return Err(StoreError::NotFound { what: "human" });
        }
        let receipt = self.commits.apply(&commit)?;
        rows.roles.insert(key, role);
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
        rows.not_expelled(&key)?;
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
        rows.not_expelled(&key)?;
        if !rows.suspensions.contains_key(&key) {
            return Err(StoreError::Conflict { what: "suspension" });
        }
        let receipt = self.commits.apply(&commit)?;
        rows.suspensions.remove(&key);
        Ok(receipt)
    }

    async fn insert_expulsion(
        &self,
        expulsion: StoredExpulsion,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let key = (expulsion.org, expulsion.principal.clone());
        rows.principal(&key)?;
        if rows.expulsions.contains_key(&key) {
            return Err(StoreError::Conflict { what: "revocation" });
        }
        let receipt = self.commits.apply(&commit)?;
        rows.expulsions.insert(key, expulsion);
        Ok(receipt)
    }

    async fn replace_key(
        &self,
        change: StoredKeyChange,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let StoredKeyChange { key, former } = change;
        let whose = (former.org, former.principal.clone());
        rows.principal(&whose)?;
        rows.not_expelled(&whose)?;
        rows.wrapping_known(former.org, key.wrapped.version())?;
        if rows.version(former.org, &former.principal) != former.version {
            return Err(StoreError::Conflict {
                what: "principal key",
            });
        }
        let receipt = self.commits.apply(&commit)?;
        if let Some(row) = rows.principals.get_mut(&whose) {
            row.principal.verifying_key = key.public.clone();
            row.key = key;
        }
        let place = (former.org, former.principal.clone(), former.version);
        rows.former_keys.insert(place, former);
        Ok(receipt)
    }

    async fn revoke_key(
        &self,
        revocation: StoredKeyRevocation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let (org, name) = (revocation.org, revocation.principal.clone());
        rows.principal(&(org, name.clone()))?;
        let version = revocation.version;
        if !(KeyVersion::FIRST..=rows.version(org, &name)).contains(&version) {
            return Err(StoreError::NotFound { what: "key" });
        }
        let key = (org, name, version);
        if rows.key_revocations.contains_key(&key) {
            return Err(StoreError::Conflict { what: "key" });
        }
        let receipt = self.commits.apply(&commit)?;
        rows.key_revocations.insert(key, revocation);
        Ok(receipt)
    }

    async fn add_statement(
        &self,
        org: OrgId,
        signer: PrincipalName,
        kid: String,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let rows = self.rows.lock();
        rows.principal(&(org, signer.clone()))?;
        let mut revoked = rows.key_revocations.values();
        if revoked.any(|row| row.org == org && row.principal == signer && row.kid == kid) {
            return Err(StoreError::Conflict { what: "key" });
        }
        self.commits.apply(&commit)
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

    async fn rotate_keys(
        &self,
        rotation: StoredRotation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let row = rows.organization(rotation.org)?;
        let version = rotation.wrapping.version;
        if row.wrapping.iter().any(|key| key.version >= version) {
            return Err(OUTDATED);
        }
        let receipt = self.commits.apply(&commit)?;
        row.wrapping.push(rotation.wrapping);
        for (purpose, key) in &mut row.keys {
            if *purpose == KeyPurpose::Issuer {
                let former = std::mem::replace(key, rotation.issuer.clone());
                row.former_issuers.push(FormerIssuer {
                    public: former.public,
                    replaced_at: rotation.at,
                });
            }
        }
        Ok(receipt)
    }

    async fn rotate_log_keys(
        &self,
        rotation: StoredLogRotation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        rows.organization(rotation.org)?;
        for (_, key) in &rotation.keys {
            rows.wrapping_known(rotation.org, key.wrapped.version())?;
        }
        let row = rows.organization(rotation.org)?;
        if !row.former_log_keys.is_empty() {
            return Err(StoreError::Conflict {
                what: "former log key",
            });
        }
        let receipt = self.commits.apply(&commit)?;
        for (purpose, new) in rotation.keys {
            let mut keys = row.keys.iter_mut();
            let Some((_, key)) = keys.find(|(known, _)| *known == purpose) else {
                continue;
            };
            let former = std::mem::replace(key, new);
            if purpose.signs_checkpoints() {
                row.former_log_keys.push(FormerLogKey {
                    purpose,
                    key: former,
                    replaced_at: rotation.at,
                });
            }
        }
        Ok(receipt)
    }

    async fn retire_log_keys(&self, org: OrgId, commit: Commit) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        if rows.organization(org)?.former_log_keys.is_empty() {
            return Err(StoreError::NotFound {
                what: "former log key",
            });
        }
        let receipt = self.commits.apply(&commit)?;
        rows.organization(org)?.former_log_keys.clear();
        Ok(receipt)
    }

    async fn rewrap_keys(&self, org: OrgId, keys: Vec<Rewrapped>) -> Result<(), StoreError> {
        let mut rows = self.rows.lock();
        for Rewrapped { holder, from, to } in &keys {
            rows.wrapping_known(org, to.version())?;
            if rows
                .key(org, holder)
                .is_none_or(|wrapped| *wrapped != *from)
            {
                return Err(StoreError::Conflict {
                    what: "wrapped key",
                });
            }
        }
        for Rewrapped { holder, to, .. } in keys {
            if let Some(wrapped) = rows.key(org, &holder) {
                *wrapped = to;
            }
        }
        Ok(())
    }

    async fn retire_keys(
        &self,
        org: OrgId,
        before_version: u32,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        rows.organization(org)?;
        let old = |wrapped: &WrappedKey| wrapped.version().unwrap_or(0) < before_version;
        if rows.wrapped(org).iter().any(old) {
            return Err(OUTDATED);
        }
        let receipt = self.commits.apply(&commit)?;
        let row = rows.organization(org)?;
        row.wrapping.retain(|key| key.version >= before_version);
        row.former_issuers.clear();
        Ok(receipt)
    }

    async fn replace_wrapping(
        &self,
        keys: Vec<(OrgId, WrappingKey)>,
        commits: Vec<Commit>,
    ) -> Result<(), StoreError> {
        let mut rows = self.rows.lock();
        let organizations: Vec<OrgId> = rows.organizations.keys().copied().collect();
        let mut stored = 0;
        for org in organizations {
            stored += rows.organization(org)?.wrapping.len();
            if rows.wrapped(org).iter().any(|key| key.version().is_none()) {
                return Err(OUTDATED);
            }
        }
        let known = |rows: &Rows, org: &OrgId, key: &WrappingKey| {
            rows.wrapping_known(*org, Some(key.version)).is_ok()
        };
        if stored != keys.len() || !keys.iter().all(|(org, key)| known(&rows, org, key)) {
            return Err(OUTDATED);
        }
        for commit in &commits {
            self.commits.apply(commit)?;
        }
        for (org, key) in keys {
            for stored in &mut rows.organization(org)?.wrapping {
                if stored.version == key.version {
                    *stored = key.clone();
                }
            }
        }
        Ok(())
    }
}
