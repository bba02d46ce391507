//! Published policies.

use std::collections::BTreeMap;

use async_trait::async_trait;
use creto_governor::{PolicyFiles, PolicyStore, PolicyVersion, ServedPolicies};
use creto_types::{Commit, LeafIndex, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::SqliteGovernor;
use crate::database::{apply_commit, corrupt, sql};

const COLUMNS: &str = "version, digest, author, reason, published_at, restores, leaf";

#[async_trait]
impl PolicyStore for SqliteGovernor {
    async fn publish(
        &self,
        version: PolicyVersion,
        files: PolicyFiles,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.database()
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                insert(tx, &version, receipt.leaf(), &files)?;
                serve(tx, version.org, Some(version.version), None)?;
                Ok(receipt)
            })
            .await
    }

    async fn follow_directory(
        &self,
        org: OrgId,
        digest: String,
        files: PolicyFiles,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.database()
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                keep(tx, org, &digest, &files)?;
                serve(tx, org, None, Some(&digest))?;
                Ok(receipt)
            })
            .await
    }

    async fn bundle(
        &self,
        org: OrgId,
        after: Option<&str>,
    ) -> Result<Option<(String, PolicyFiles)>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.database()
            .read(move |connection| {
                let digest: Option<String> = connection
                    .prepare_cached(
                        "SELECT min(digest) FROM policy_bundles WHERE org = ?1 AND digest > ?2",
                    )
                    .and_then(|mut statement| {
                        statement.query_row(params![org.to_string(), after], |row| row.get(0))
                    })
                    .map_err(sql)?;
                digest
                    .map(|digest| Ok((digest.clone(), files(connection, org, &digest)?)))
                    .transpose()
            })
            .await
    }

    async fn kept(&self, org: OrgId, digest: &str) -> Result<Option<PolicyFiles>, StoreError> {
        let digest = digest.to_owned();
        self.database()
            .read(move |connection| {
                let known: bool = connection
                    .prepare_cached(
                        "SELECT EXISTS (SELECT 1 FROM policy_bundles WHERE org = ?1 AND digest = ?2)",
                    )
                    .and_then(|mut statement| {
                        statement.query_row(params![org.to_string(), digest], |row| row.get(0))
                    })
                    .map_err(sql)?;
                known.then(|| files(connection, org, &digest)).transpose()
            })
            .await
    }

    async fn served(&self, org: OrgId) -> Result<Option<ServedPolicies>, StoreError> {
        let row: Option<(Option<i64>, Option<String>)> = self
            .database()
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT version, digest FROM policies_served WHERE org = ?1")
                    .and_then(|mut statement| {
                        statement
                            .query_row([org.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
                            .optional()
                    })
                    .map_err(sql)
            })
            .await?;
        row.map(|row| match row {
            (Some(version), None) => Ok(ServedPolicies::Published {
                version: number(version)?,
            }),
            (None, Some(digest)) => Ok(ServedPolicies::Directory { digest }),
            _ => Err(corrupt("served policies", "neither a version nor a digest")),
        })
        .transpose()
    }

    async fn get(
        &self,
        org: OrgId,
        version: u64,
    ) -> Result<Option<(PolicyVersion, PolicyFiles)>, StoreError> {
        // No version is beyond what SQLite counts to.
        let Ok(wanted) = i64::try_from(version) else {
            return Ok(None);
        };
        self.database()
            .read(move |connection| {
                let head = connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM policy_versions WHERE org = ?1 AND version = ?2"
                    ))
                    .and_then(|mut statement| {
                        statement
                            .query_row(params![org.to_string(), wanted], columns)
                            .optional()
                    })
                    .map_err(sql)?;
                let Some(head) = head else {
                    return Ok(None);
                };
                let head = decode(org, head)?;
                let files = files(connection, org, &head.digest)?;
                Ok(Some((head, files)))
            })
            .await
    }

    async fn list(
        &self,
        org: OrgId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<PolicyVersion>, StoreError> {
        let below = before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database()
            .read(move |connection| {
                let mut statement = connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM policy_versions
                         WHERE org = ?1 AND version < ?2 ORDER BY version DESC LIMIT ?3"
                    ))
                    .map_err(sql)?;
                let rows = statement
                    .query_map(params![org.to_string(), below, limit], columns)
                    .map_err(sql)?;
                rows.map(|row| decode(org, row.map_err(sql)?)).collect()
            })
            .await
    }
}

fn insert(
    tx: &Transaction<'_>,
    version: &PolicyVersion,
    leaf: Option<LeafIndex>,
    files: &PolicyFiles,
) -> Result<(), StoreError> {
    let org = version.org.to_string();
    let wanted = integer(version.version)?;
    let newest: i64 = tx
        .prepare_cached("SELECT coalesce(max(version), 0) FROM policy_versions WHERE org = ?1")
        .and_then(|mut statement| statement.query_row([&org], |row| row.get(0)))
        .map_err(sql)?;
    if wanted != newest.saturating_add(1) {
        return Err(StoreError::Conflict {
            what: "policy version",
        });
    }
    let restores = version.restores.map(integer).transpose()?;
    let leaf = leaf.map(|leaf| integer(leaf.0)).transpose()?;
    tx.prepare_cached(
        "INSERT INTO policy_versions
             (org, version, digest, author, reason, published_at, restores, leaf)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            org,
            wanted,
            version.digest,
            version.author.as_str(),
            version.reason,
            version.published_at.to_string(),
            restores,
            leaf,
        ])
    })
    .map_err(sql)?;
    keep(tx, version.org, &version.digest, files)
}

/// A bundle is the same wherever its digest is, so it is written once.
fn keep(
    tx: &Transaction<'_>,
    org: OrgId,
    digest: &str,
    files: &PolicyFiles,
) -> Result<(), StoreError> {
    let mut statement = tx
        .prepare_cached(
            "INSERT INTO policy_bundles (org, digest, name, text) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (org, digest, name) DO NOTHING",
        )
        .map_err(sql)?;
    for (name, text) in files.files() {
        statement
            .execute(params![org.to_string(), digest, name, text])
            .map_err(sql)?;
    }
    Ok(())
}

fn serve(
    tx: &Transaction<'_>,
    org: OrgId,
    version: Option<u64>,
    digest: Option<&str>,
) -> Result<(), StoreError> {
    let version = version.map(integer).transpose()?;
    tx.prepare_cached(
        "INSERT INTO policies_served (org, version, digest) VALUES (?1, ?2, ?3)
         ON CONFLICT (org) DO UPDATE SET version = excluded.version, digest = excluded.digest",
    )
    .and_then(|mut statement| statement.execute(params![org.to_string(), version, digest]))
    .map_err(sql)?;
    Ok(())
}

struct Columns {
    version: i64,
    digest: String,
    author: String,
    reason: String,
    published_at: String,
    restores: Option<i64>,
    leaf: Option<i64>,
}

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok(Columns {
        version: row.get(0)?,
        digest: row.get(1)?,
        author: row.get(2)?,
        reason: row.get(3)?,
        published_at: row.get(4)?,
        restores: row.get(5)?,
        leaf: row.get(6)?,
    })
}

fn decode(org: OrgId, row: Columns) -> Result<PolicyVersion, StoreError> {
    let what = "policy version";
    Ok(PolicyVersion {
        org,
        version: number(row.version)?,
        digest: row.digest,
        author: row
            .author
            .parse::<PrincipalName>()
            .map_err(|e| corrupt(what, e))?,
        reason: row.reason,
        published_at: row
            .published_at
            .parse::<Timestamp>()
            .map_err(|e| corrupt(what, e))?,
        restores: row.restores.map(number).transpose()?,
        leaf: row
            .leaf
            .map(|leaf| number(leaf).map(LeafIndex))
            .transpose()?,
    })
}

fn files(connection: &Connection, org: OrgId, digest: &str) -> Result<PolicyFiles, StoreError> {
    let files: BTreeMap<String, String> = connection
        .prepare_cached("SELECT name, text FROM policy_bundles WHERE org = ?1 AND digest = ?2")
        .and_then(|mut statement| {
            statement
                .query_map(params![org.to_string(), digest], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .collect()
        })
        .map_err(sql)?;
    PolicyFiles::new(files).map_err(|error| corrupt("policy files", error))
}

fn integer(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|e| corrupt("policy version", e))
}

fn number(integer: i64) -> Result<u64, StoreError> {
    u64::try_from(integer).map_err(|e| corrupt("policy version", e))
}
