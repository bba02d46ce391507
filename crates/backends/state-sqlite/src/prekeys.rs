//! Prekeys.

use async_trait::async_trait;
use creto_nhi::{AvailablePrekey, MAX_ONE_TIME_PREKEYS, Prekey, PrekeyId, PrekeyKind, PrekeyStore};
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::SqliteNhi;
use crate::database::{apply_commit, sql};
use crate::nhi::{exists, field, found, from_json, json, one};
use crate::oversight::nanoseconds;
use crate::principal_keys;

#[async_trait]
impl PrekeyStore for SqliteNhi {
    async fn publish_prekeys(
        &self,
        org: OrgId,
        owner: &PrincipalName,
        prekeys: Vec<Prekey>,
        withdrawn: Vec<PrekeyId>,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let owner = owner.clone();
        self.database()
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let (org, owner) = (org.to_string(), owner.as_str());
                let known = exists(
                    tx,
                    "SELECT 1 FROM principals WHERE org = ?1 AND name = ?2",
                    params![org, owner],
                )?;
                found(known, "principal")?;
                in_good_standing(tx, &org, owner)?;
                let at = prekeys.first().map(|prekey| prekey.published_at);
                let at = at.ok_or(StoreError::Conflict { what: "prekeys" })?;
                for id in &withdrawn {
                    withdraw(tx, &org, owner, id, at)?;
                }
                for prekey in &prekeys {
                    principal_keys::in_force(tx, &org, owner, &prekey.kid)?;
                    if prekey.kind == PrekeyKind::LastResort {
                        tx.prepare_cached(
                            "UPDATE prekeys SET prekey = NULL, ended_at = ?3
                             WHERE org = ?1 AND owner = ?2 AND kind = 'last_resort'
                               AND ended_at IS NULL",
                        )
                        .map_err(sql)?
                        .execute(params![org, owner, prekey.published_at.to_string()])
                        .map_err(sql)?;
                    }
                    let added = tx
                        .prepare_cached(
                            "INSERT INTO prekeys
                                 (org, id, owner, kind, algorithm, kid, published_ns, prekey)
                             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                             ON CONFLICT (org, id) DO NOTHING",
                        )
                        .map_err(sql)?
                        .execute(params![
                            org,
                            prekey.id.as_str(),
                            owner,
                            prekey.kind.as_str(),
                            prekey.key.algorithm().as_str(),
                            prekey.kid,
                            nanoseconds(prekey.published_at),
                            json(prekey)?,
                        ])
                        .map_err(sql)?;
                    one(added, "prekey")?;
                }
                // Those that a revoked key signed are given to nobody, and take no place.
                let waiting: u32 = tx
                    .prepare_cached(
                        "SELECT count(*) FROM prekeys
                         WHERE org = ?1 AND owner = ?2 AND kind = 'one_time'
                           AND ended_at IS NULL
                           AND kid NOT IN (
                               SELECT kid FROM key_revocations
                               WHERE org = ?1 AND principal = ?2
                           )",
                    )
                    .and_then(|mut s| s.query_row(params![org, owner], |row| row.get(0)))
                    .map_err(sql)?;
                if usize::try_from(waiting).map_or(true, |waiting| waiting > MAX_ONE_TIME_PREKEYS) {
                    return Err(StoreError::Conflict { what: "prekeys" });
                }
                Ok(receipt)
            })
            .await
    }

    async fn any_published(&self, org: OrgId, ids: Vec<PrekeyId>) -> Result<bool, StoreError> {
        self.database()
            .read(move |connection| {
                let org = org.to_string();
                let mut statement = connection
                    .prepare_cached("SELECT 1 FROM prekeys WHERE org = ?1 AND id = ?2")
                    .map_err(sql)?;
                for id in &ids {
                    if statement.exists(params![org, id.as_str()]).map_err(sql)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            })
            .await
    }

    async fn available_prekeys(
        &self,
        org: OrgId,
        owner: &PrincipalName,
    ) -> Result<Vec<AvailablePrekey>, StoreError> {
        let owner = owner.clone();
        self.database()
            .read(move |connection| {
                // `one_time` is greater than `last_resort`.
                let mut statement = connection
                    .prepare_cached(
                        "SELECT id, kind, algorithm, kid FROM prekeys
                         WHERE org = ?1 AND owner = ?2 AND ended_at IS NULL
                         ORDER BY kind DESC, published_ns, id",
                    )
                    .map_err(sql)?;
                let mut rows = statement
                    .query(params![org.to_string(), owner.as_str()])
                    .map_err(sql)?;
                let mut available = Vec::new();
                while let Some(row) = rows.next().map_err(sql)? {
                    available.push(AvailablePrekey {
                        id: field(row, 0, "prekey")?,
                        kind: field(row, 1, "prekey")?,
                        algorithm: field(row, 2, "prekey")?,
                        kid: row.get(3).map_err(sql)?,
                    });
                }
                Ok(available)
            })
            .await
    }

    async fn prekey(&self, org: OrgId, id: &PrekeyId) -> Result<Option<Prekey>, StoreError> {
        let id = id.clone();
        self.database()
            .read(move |connection| {
                let stored: Option<String> = connection
                    .prepare_cached(
                        "SELECT prekey FROM prekeys
                         WHERE org = ?1 AND id = ?2 AND ended_at IS NULL",
                    )
                    .and_then(|mut s| {
                        let named = params![org.to_string(), id.as_str()];
                        s.query_row(named, |row| row.get(0)).optional()
                    })
                    .map_err(sql)?;
                stored.map(|text| from_json("prekey", &text)).transpose()
            })
            .await
    }

    async fn take_prekey(
        &self,
        org: OrgId,
        id: &PrekeyId,
        by: &PrincipalName,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let (id, by) = (id.clone(), by.clone());
        self.database()
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let org = org.to_string();
                let row: Option<(String, String, String)> = tx
                    .prepare_cached(
                        "SELECT owner, kind, kid FROM prekeys
                         WHERE org = ?1 AND id = ?2 AND ended_at IS NULL",
                    )
                    .and_then(|mut s| {
                        let named = params![org, id.as_str()];
                        s.query_row(named, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                            .optional()
                    })
                    .map_err(sql)?;
                let (owner, kind, kid) = row.ok_or(StoreError::Conflict { what: "prekey" })?;
                in_good_standing(tx, &org, &owner)?;
                principal_keys::in_force(tx, &org, &owner, &kid)?;
                if kind == PrekeyKind::LastResort.as_str() {
                    return Ok(receipt);
                }
                let ended = tx
                    .prepare_cached(
                        "UPDATE prekeys SET prekey = NULL, ended_at = ?3, taken_by = ?4
                         WHERE org = ?1 AND id = ?2 AND ended_at IS NULL",
                    )
                    .map_err(sql)?
                    .execute(params![org, id.as_str(), at.to_string(), by.as_str()])
                    .map_err(sql)?;
                one(ended, "prekey")?;
                Ok(receipt)
            })
            .await
    }
}

fn withdraw(
    tx: &Transaction<'_>,
    org: &str,
    owner: &str,
    id: &PrekeyId,
    at: Timestamp,
) -> Result<(), StoreError> {
    let ended = tx
        .prepare_cached(
            "UPDATE prekeys SET prekey = NULL, ended_at = ?4
             WHERE org = ?1 AND owner = ?2 AND id = ?3 AND kind = 'one_time'
               AND ended_at IS NULL",
        )
        .and_then(|mut s| s.execute(params![org, owner, id.as_str(), at.to_string()]))
        .map_err(sql)?;
    one(ended, "withdrawn prekey")
}

fn in_good_standing(tx: &Transaction<'_>, org: &str, name: &str) -> Result<(), StoreError> {
    let ended = exists(
        tx,
        "SELECT 1 FROM suspensions WHERE org = ?1 AND principal = ?2
         UNION ALL SELECT 1 FROM expulsions WHERE org = ?1 AND principal = ?2",
        params![org, name],
    )?;
    if ended {
        return Err(StoreError::Conflict { what: "principal" });
    }
    Ok(())
}
