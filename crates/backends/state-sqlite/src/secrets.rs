//! Secrets and leases.

use async_trait::async_trait;
use creto_nhi::{HandOver, LeaseId, LinkId, SecretName, SecretStore, StoredLease, StoredSecret};
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::SqliteNhi;
use crate::database::{apply_commit, corrupt, sql};
use crate::keys::{known_organization, may_be_stored};
use crate::nhi::{field, found, from_json, is_revoked, json, known_principal, one};
use crate::principals::not_expelled;

const SECRET_COLUMNS: &str = "
    SELECT s.org, s.name, s.version, s.put_by, s.put_at, s.sealed, coalesce(o.owner, s.put_by),
           CASE WHEN o.owner IS NULL THEN s.root END
    FROM secrets AS s LEFT JOIN secret_owners AS o ON o.org = s.org AND o.name = s.name";

/// Whose a secret is, and in the chains from whom; it has to be there.
const OWNER: &str = "
    SELECT coalesce(o.owner, s.put_by), CASE WHEN o.owner IS NULL THEN s.root END
    FROM secrets AS s LEFT JOIN secret_owners AS o ON o.org = s.org AND o.name = s.name
    WHERE s.org = ?1 AND s.name = ?2 AND s.version = 1";

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
                let put_in = secret.root.as_ref().map(ToString::to_string);
                let root = match secret.version {
                    1 => put_in,
                    _ => {
                        let before = owner(tx, &org, &secret.name)?;
                        let before = before.filter(|(owner, root)| {
                            *owner == secret.put_by.as_str() && (root.is_none() || *root == put_in)
                        });
                        before.ok_or(StoreError::Conflict { what: "secret" })?.1
                    }
                };
                let added = tx
                    .prepare_cached(
                        "INSERT INTO secrets (org, name, version, put_by, put_at, sealed, root)
                         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
                         WHERE ?3 = 1 + (
                             SELECT coalesce(max(version), 0) FROM secrets
                             WHERE org = ?1 AND name = ?2
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
                        root,
                    ])
                    .map_err(sql)?;
                one(added, "secret")?;
                Ok(receipt)
            })
            .await
    }

    async fn hand_over(&self, change: HandOver, commit: Commit) -> Result<Receipt, StoreError> {
        self.database()
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let org = change.org.to_string();
                let owner = owner(tx, &org, &change.secret)?;
                found(owner.is_some(), "secret")?;
                known_principal(tx, &org, &change.to)?;
                not_expelled(tx, &org, &change.to)?;
                is_owner(owner.as_ref(), &change.from)?;
                tx.prepare_cached(
                    "INSERT INTO secret_owners (org, name, owner) VALUES (?1, ?2, ?3)
                     ON CONFLICT (org, name) DO UPDATE SET owner = excluded.owner",
                )
                .and_then(|mut s| {
                    s.execute(params![org, change.secret.as_str(), change.to.as_str()])
                })
                .map_err(sql)?;
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
                    "{SECRET_COLUMNS} WHERE s.org = ?1 AND s.name = ?2
                     ORDER BY s.version DESC LIMIT 1"
                );
                let named = params![org.to_string(), name.as_str()];
                Ok(rows(connection, &query, named, secret)?.pop())
            })
            .await
    }

    async fn secret_version(
        &self,
        org: OrgId,
        name: &SecretName,
        version: u32,
    ) -> Result<Option<StoredSecret>, StoreError> {
        let name = name.clone();
        self.database()
            .read(move |connection| {
                let query =
                    format!("{SECRET_COLUMNS} WHERE s.org = ?1 AND s.name = ?2 AND s.version = ?3");
                let one = params![org.to_string(), name.as_str(), version];
                Ok(rows(connection, &query, one, secret)?.pop())
            })
            .await
    }

    async fn newest_secrets(
        &self,
        org: OrgId,
        after: Option<SecretName>,
        max: usize,
    ) -> Result<Vec<StoredSecret>, StoreError> {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        self.database()
            .read(move |connection| {
                let query = format!(
                    "{SECRET_COLUMNS} WHERE s.org = ?1 AND s.name > ?2 AND s.version = (
                         SELECT max(version) FROM secrets WHERE org = s.org AND name = s.name
                     ) ORDER BY s.name LIMIT ?3"
                );
                // No name is empty.
                let after = after.as_ref().map_or("", SecretName::as_str);
                rows(
                    connection,
                    &query,
                    params![org.to_string(), after, max],
                    secret,
                )
            })
            .await
    }

    async fn secrets(&self, org: OrgId) -> Result<Vec<StoredSecret>, StoreError> {
        self.database()
            .read(move |connection| {
                let query = format!("{SECRET_COLUMNS} WHERE s.org = ?1 ORDER BY s.name, s.version");
                rows(connection, &query, params![org.to_string()], secret)
            })
            .await
    }

    async fn insert_lease(
        &self,
        lease: StoredLease,
        by: PrincipalName,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.database()
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let org = lease.org.to_string();
                let owner = owner(tx, &org, &lease.secret)?;
                found(owner.is_some(), "secret")?;
                is_owner(owner.as_ref(), &by)?;
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
        after: Option<LeaseId>,
        max: usize,
    ) -> Result<Vec<StoredLease>, StoreError> {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        self.database()
            .read(move |connection| {
                let org = org.to_string();
                let after = after.map(|after| after.to_string()).unwrap_or_default();
                let page = "AND id > ?2 ORDER BY id LIMIT ?3";
                match link {
                    None => {
                        let query = format!("{LEASE_COLUMNS} WHERE org = ?1 {page}");
                        rows(connection, &query, params![org, after, max], lease)
                    }
                    Some(link) => {
                        let query = format!("{LEASE_COLUMNS} WHERE org = ?1 AND link = ?4 {page}");
                        let link = link.to_string();
                        rows(connection, &query, params![org, after, max, link], lease)
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
        by: PrincipalName,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.database()
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let lease = one_lease(tx, org, id)?.filter(|lease| lease.holds(at));
                let lease = lease.ok_or(StoreError::Conflict { what: "lease" })?;
                is_owner(owner(tx, &org.to_string(), &lease.secret)?.as_ref(), &by)?;
                Ok(receipt)
            })
            .await
    }
}

/// An owner and the root of the chains in which it is theirs.
type Owner = (String, Option<String>);

fn owner(
    connection: &Connection,
    org: &str,
    name: &SecretName,
) -> Result<Option<Owner>, StoreError> {
    connection
        .prepare_cached(OWNER)
        .and_then(|mut s| {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            s.query_row(params![org, name.as_str()], read).optional()
        })
        .map_err(sql)
}

fn is_owner(owner: Option<&Owner>, who: &PrincipalName) -> Result<(), StoreError> {
    match owner {
        Some((owner, _)) if owner == who.as_str() => Ok(()),
        _ => Err(StoreError::Conflict { what: "secret" }),
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
    let root: Option<String> = row.get(7).map_err(sql)?;
    Ok(StoredSecret {
        org: field(row, 0, "secret")?,
        name: field(row, 1, "secret")?,
        version: row.get(2).map_err(sql)?,
        put_by: field(row, 3, "secret")?,
        put_at: field(row, 4, "secret")?,
        owner: field(row, 6, "secret")?,
        root: root
            .map(|name| name.parse().map_err(|error| corrupt("secret", error)))
            .transpose()?,
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
