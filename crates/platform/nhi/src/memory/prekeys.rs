//! Prekeys in memory.

use std::collections::BTreeSet;

use async_trait::async_trait;
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};

use super::{MemoryNhiStore, Rows};
use crate::{AvailablePrekey, MAX_ONE_TIME_PREKEYS, Prekey, PrekeyId, PrekeyKind, PrekeyStore};

/// One that was ever published.
#[derive(Debug)]
pub(super) struct Row {
    owner: PrincipalName,
    kind: PrekeyKind,
    /// The key, until it is taken or replaced.
    prekey: Option<Prekey>,
}

#[async_trait]
impl PrekeyStore for MemoryNhiStore {
    async fn publish_prekeys(
        &self,
        org: OrgId,
        owner: &PrincipalName,
        prekeys: Vec<Prekey>,
        withdrawn: Vec<PrekeyId>,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        if !rows.principals.contains_key(&(org, owner.clone())) {
            return Err(StoreError::NotFound { what: "principal" });
        }
        in_good_standing(&rows, &(org, owner.clone()))?;
        for prekey in &prekeys {
            key_in_force(&rows, org, owner, &prekey.kid)?;
        }
        if prekeys
            .iter()
            .any(|prekey| rows.prekeys.contains_key(&(org, prekey.id.clone())))
        {
            return Err(StoreError::Conflict { what: "prekey" });
        }
        let one_time = |kind| kind == PrekeyKind::OneTime;
        let waits = |row: &Row| row.owner == *owner && one_time(row.kind) && row.prekey.is_some();
        let of_owner = rows
            .prekeys
            .iter()
            .filter(|((of, _), row)| *of == org && waits(row));
        let mut waiting: BTreeSet<&PrekeyId> = BTreeSet::new();
        // Those that a revoked key signed are given to nobody, and take no place.
        let mut placed = 0;
        for ((_, id), row) in of_owner {
            waiting.insert(id);
            let kid = row.prekey.as_ref().map(|prekey| prekey.kid.as_str());
            if !withdrawn.contains(id)
                && kid.is_some_and(|kid| key_in_force(&rows, org, owner, kid).is_ok())
            {
                placed += 1;
            }
        }
        if !withdrawn.iter().all(|id| waiting.contains(id)) {
            return Err(StoreError::Conflict {
                what: "withdrawn prekey",
            });
        }
        let added = prekeys.iter().filter(|prekey| one_time(prekey.kind));
        if prekeys.is_empty() || placed + added.count() > MAX_ONE_TIME_PREKEYS {
            return Err(StoreError::Conflict { what: "prekeys" });
        }
        let receipt = self.commits.apply(&commit)?;
        for id in withdrawn {
            if let Some(row) = rows.prekeys.get_mut(&(org, id)) {
                row.prekey = None;
            }
        }
        if prekeys.iter().any(|prekey| !one_time(prekey.kind)) {
            let of_owner = rows
                .prekeys
                .iter_mut()
                .filter(|((of, _), row)| *of == org && row.owner == *owner && !one_time(row.kind));
            of_owner.for_each(|(_, row)| row.prekey = None);
        }
        for prekey in prekeys {
            let row = Row {
                owner: owner.clone(),
                kind: prekey.kind,
                prekey: Some(prekey.clone()),
            };
            rows.prekeys.insert((org, prekey.id), row);
        }
        Ok(receipt)
    }

    async fn any_published(&self, org: OrgId, ids: Vec<PrekeyId>) -> Result<bool, StoreError> {
        let rows = self.rows.lock();
        let mut named = ids.into_iter().map(|id| (org, id));
        Ok(named.any(|named| rows.prekeys.contains_key(&named)))
    }

    async fn available_prekeys(
        &self,
        org: OrgId,
        owner: &PrincipalName,
    ) -> Result<Vec<AvailablePrekey>, StoreError> {
        let rows = self.rows.lock();
        let of_owner = rows
            .prekeys
            .iter()
            .filter(|((of, _), row)| *of == org && row.owner == *owner);
        let mut available: Vec<&Prekey> = of_owner
            .filter_map(|(_, row)| row.prekey.as_ref())
            .collect();
        available.sort_by_key(|prekey| (prekey.kind, prekey.published_at, prekey.id.clone()));
        Ok(available.into_iter().map(AvailablePrekey::from).collect())
    }

    async fn prekey(&self, org: OrgId, id: &PrekeyId) -> Result<Option<Prekey>, StoreError> {
        let rows = self.rows.lock();
        let row = rows.prekeys.get(&(org, id.clone()));
        Ok(row.and_then(|row| row.prekey.clone()))
    }

    async fn take_prekey(
        &self,
        org: OrgId,
        id: &PrekeyId,
        _by: &PrincipalName,
        _at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        let row = rows.prekeys.get(&(org, id.clone()));
        let Some(row) = row.filter(|row| row.prekey.is_some()) else {
            return Err(StoreError::Conflict { what: "prekey" });
        };
        let once = row.kind == PrekeyKind::OneTime;
        let owner = (org, row.owner.clone());
        in_good_standing(&rows, &owner)?;
        let kid = row.prekey.as_ref().map(|prekey| prekey.kid.as_str());
        key_in_force(&rows, org, &owner.1, kid.unwrap_or_default())?;
        let receipt = self.commits.apply(&commit)?;
        if let Some(row) = rows.prekeys.get_mut(&(org, id.clone())).filter(|_| once) {
            row.prekey = None;
        }
        Ok(receipt)
    }
}

fn in_good_standing(rows: &Rows, owner: &(OrgId, PrincipalName)) -> Result<(), StoreError> {
    if rows.suspensions.contains_key(owner) || rows.expulsions.contains_key(owner) {
        return Err(StoreError::Conflict { what: "principal" });
    }
    Ok(())
}

fn key_in_force(
    rows: &Rows,
    org: OrgId,
    owner: &PrincipalName,
    kid: &str,
) -> Result<(), StoreError> {
    let mut revocations = rows.key_revocations.values();
    if revocations.any(|row| row.org == org && row.principal == *owner && row.kid == kid) {
        return Err(StoreError::Conflict { what: "key" });
    }
    Ok(())
}
