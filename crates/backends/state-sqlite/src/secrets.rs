//! Secrets and leases.

use async_trait::async_trait;
use creto_nhi::{LeaseId, LinkId, SecretName, SecretStore, StoredLease, StoredSecret};
use creto_types::{Commit, OrgId, Receipt, StoreError, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::SqliteNhi;
use crate::database::{apply_commit, corrupt, sql};
use crate::keys::{known_organization, may_be_stored};
use crate::nhi::{exists, field, found, from_json, is_revoked, json, one};

const SECRET_COLUMNS: &str = "SELECT org, name, version, put_by, put_at, sealed FROM secrets";

const LEASE_COLUMNS: &str = "SELECT org, id, secret, link, agent, given_at, expires_at, ended_at
                             FROM secret_leases";

#[async_trait]
impl SecretStore for SqliteNhi {
    async fn insert_secret(
        &self,
        secret: StoredSecret,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.database()
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let org = secret.org.to_string();
                known_organization(tx, &org)?;
                may_be_stored(tx, &org, &secret.sealed)?;
                let added = tx
                    .prepare_cached(
                        "INSERT INTO secrets (org, name, version, put_by, put_at, sealed)
                         SELECT ?1, ?2, ?3, ?4, ?5, ?6
                         WHERE ?3 = 1 + (
                             SELECT coalesce(max(version), 0) FROM secrets
                             WHERE org = ?1 AND name = ?2
                         ) AND NOT EXISTS (
                             SELECT 1 FROM secrets
                             WHERE org = ?1 AND name = ?2 AND put_by <> ?4
                         )",
                    )
                    .map_err(sql)?
                    .execute(params![
                        org,
                        secret.name.as_str(),
                        secret.version,
                        secret.put_by.as_str(),
                        secret.put_at.to_string(),
                        json(&secret.sealed)?,
                    ])
                    .map_err(sql)?;
                one(added, "secret")?;
                Ok(receipt)
            })
            .await
    }

    async fn secret(
        &self,
        org: OrgId,
        name: &SecretName,
    ) -> Result<Option<StoredSecret>, StoreError> {
        let name = name.clone();
        self.database()
            .read(move |connection| {
                let query = format!(
                    "{SECRET_COLUMNS} WHERE org = ?1 AND name = ?2 ORDER BY version DESC LIMIT 1"
                );
                let named = params![org.to_string(), name.as_str()];
                Ok(rows(connection, &query, named, secret)?.pop())
            })
            .await
    }

    async fn secrets(&self, org: OrgId) -> Result<Vec<StoredSecret>, StoreError> {
        self.database()
            .read(move |connection| {
                let query = format!("{SECRET_COLUMNS} WHERE org = ?1 ORDER BY name, version");
                rows(connection, &query, params![org.to_string()], secret)
            })
            .await
    }

    async fn insert_lease(
        &self,
        lease: StoredLease,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.database()
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let org = lease.org.to_string();
                let named = exists(
                    tx,
                    "SELECT 1 FROM secrets WHERE org = ?1 AND name = ?2",
                    params![org, lease.secret.as_str()],
                )?;
                found(named, "secret")?;
                if is_revoked(tx, &org, lease.link)? {
                    return Err(StoreError::Conflict { what: "delegation" });
                }
                let added = tx
                    .prepare_cached(
                        "INSERT OR IGNORE INTO secret_leases
                             (org, id, secret, link, agent, given_at, expires_at, ended_at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    )
                    .map_err(sql)?
                    .execute(params![
                        org,
                        lease.id.to_string(),
                        lease.secret.as_str(),
                        lease.link.to_string(),
                        lease.agent.as_str(),
                        lease.given_at.to_string(),
                        lease.expires_at.to_string(),
                        lease.ended_at.map(|at| at.to_string()),
                    ])
                    .map_err(sql)?;
                one(added, "lease")?;
                Ok(receipt)
            })
            .await
    }

    async fn lease(&self, org: OrgId, id: LeaseId) -> Result<Option<StoredLease>, StoreError> {
        self.database()
            .read(move |connection| one_lease(connection, org, id))
            .await
    }

    async fn leases(
        &self,
        org: OrgId,
        link: Option<LinkId>,
    ) -> Result<Vec<StoredLease>, StoreError> {
        self.database()
            .read(move |connection| {
                let org = org.to_string();
                match link {
                    None => {
                        let query = format!("{LEASE_COLUMNS} WHERE org = ?1 ORDER BY id");
                        rows(connection, &query, params![org], lease)
                    }
                    Some(link) => {
                        let query =
                            format!("{LEASE_COLUMNS} WHERE org = ?1 AND link = ?2 ORDER BY id");
                        rows(connection, &query, params![org, link.to_string()], lease)
                    }
                }
            })
            .await
    }

    async fn end_lease(
        &self,
        org: OrgId,
        id: LeaseId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.database()
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                found(one_lease(tx, org, id)?.is_some(), "lease")?;
                let ended = tx
                    .prepare_cached(
                        "UPDATE secret_leases SET ended_at = ?3
                         WHERE org = ?1 AND id = ?2 AND ended_at IS NULL",
                    )
                    .map_err(sql)?
                    .execute(params![org.to_string(), id.to_string(), at.to_string()])
                    .map_err(sql)?;
                one(ended, "lease")?;
                Ok(receipt)
            })
            .await
    }

    async fn use_lease(
        &self,
        org: OrgId,
        id: LeaseId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.database()
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                if !one_lease(tx, org, id)?.is_some_and(|lease| lease.holds(at)) {
                    return Err(StoreError::Conflict { what: "lease" });
                }
                Ok(receipt)
            })
            .await
    }
}

fn one_lease(
    connection: &Connection,
    org: OrgId,
    id: LeaseId,
) -> Result<Option<StoredLease>, StoreError> {
    let query = format!("{LEASE_COLUMNS} WHERE org = ?1 AND id = ?2");
    let named = params![org.to_string(), id.to_string()];
    Ok(rows(connection, &query, named, lease)?.pop())
}

fn rows<T>(
    connection: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
    read: fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(query).map_err(sql)?;
    let mut rows = statement.query(parameters).map_err(sql)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        all.push(read(row)?);
    }
    Ok(all)
}

fn secret(row: &Row<'_>) -> Result<StoredSecret, StoreError> {
    let sealed: String = row.get(5).map_err(sql)?;
    Ok(StoredSecret {
        org: field(row, 0, "secret")?,
        name: field(row, 1, "secret")?,
        version: row.get(2).map_err(sql)?,
        put_by: field(row, 3, "secret")?,
        put_at: field(row, 4, "secret")?,
        sealed: from_json("secret", &sealed)?,
    })
}

fn lease(row: &Row<'_>) -> Result<StoredLease, StoreError> {
    let ended: Option<String> = row.get(7).map_err(sql)?;
    Ok(StoredLease {
        org: field(row, 0, "lease")?,
        id: field(row, 1, "lease")?,
        secret: field(row, 2, "lease")?,
        link: field(row, 3, "lease")?,
        agent: field(row, 4, "lease")?,
        given_at: field(row, 5, "lease")?,
        expires_at: field(row, 6, "lease")?,
        ended_at: ended
            .map(|text| text.parse().map_err(|error| corrupt("lease", error)))
            .transpose()?,
    })
}
