//! The keys that principals had before, and those that were revoked.

use creto_nhi::{KeyVersion, StoredFormerKey, StoredKeyChange, StoredKeyRevocation};
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError};
use rusqlite::{Connection, Row, Transaction, params};

use crate::database::{apply_commit, corrupt, sql};
use crate::keys::key_may_be_stored;
use crate::load::Which;
use crate::nhi::{exists, field, found, from_json, json, known_principal, one};
use crate::principals::not_expelled;
use crate::subjects::Change;

/// Which of its keys a principal signs with.
fn present(tx: &Transaction<'_>, org: &str, name: &PrincipalName) -> Result<u32, StoreError> {
    tx.prepare_cached(
        "SELECT coalesce(max(version), 0) + 1 FROM former_keys WHERE org = ?1 AND principal = ?2",
    )
    .and_then(|mut s| s.query_row(params![org, name.as_str()], |row| row.get(0)))
    .map_err(sql)
}

pub(crate) fn replace(
    tx: &Change<'_>,
    change: &StoredKeyChange,
    commit: &Commit,
) -> Result<Receipt, StoreError> {
    let receipt = apply_commit(tx, commit)?;
    let StoredKeyChange { key, former } = change;
    let org = former.org.to_string();
    known_principal(tx, &org, &former.principal)?;
    not_expelled(tx, &org, &former.principal)?;
    key_may_be_stored(tx, &org, key)?;
    if present(tx, &org, &former.principal)? != former.version.get() {
        return Err(StoreError::Conflict {
            what: "principal key",
        });
    }
    tx.prepare_cached(
        "INSERT INTO former_keys (org, principal, version, public, replaced_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .map_err(sql)?
    .execute(params![
        org,
        former.principal.as_str(),
        former.version.get(),
        json(&former.public)?,
        former.replaced_at.to_string(),
    ])
    .map_err(sql)?;
    let replaced = tx
        .prepare_cached(
            "UPDATE principals SET public = ?3, private = ?4 WHERE org = ?1 AND name = ?2",
        )
        .map_err(sql)?
        .execute(params![
            org,
            former.principal.as_str(),
            json(&key.public)?,
            json(&key.wrapped)?,
        ])
        .map_err(sql)?;
    one(replaced, "principal key")?;
    Ok(receipt)
}

pub(crate) fn revoke(
    tx: &Change<'_>,
    row: &StoredKeyRevocation,
    commit: &Commit,
) -> Result<Receipt, StoreError> {
    let receipt = apply_commit(tx, commit)?;
    let org = row.org.to_string();
    known_principal(tx, &org, &row.principal)?;
    let known = row.version.get() <= present(tx, &org, &row.principal)?;
    found(known, "key")?;
    let added = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO key_revocations (org, principal, version, kid, at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .map_err(sql)?
        .execute(params![
            org,
            row.principal.as_str(),
            row.version.get(),
            row.kid,
            row.at.to_string(),
        ])
        .map_err(sql)?;
    one(added, "key")?;
    Ok(receipt)
}

pub(crate) fn add_statement(
    tx: &Change<'_>,
    org: OrgId,
    signer: &PrincipalName,
    kid: &str,
    commit: &Commit,
) -> Result<Receipt, StoreError> {
    let receipt = apply_commit(tx, commit)?;
    let org = org.to_string();
    known_principal(tx, &org, signer)?;
    in_force(tx, &org, signer.as_str(), kid)?;
    Ok(receipt)
}

/// Refuses what a revoked key signed.
pub(crate) fn in_force(
    tx: &Transaction<'_>,
    org: &str,
    name: &str,
    kid: &str,
) -> Result<(), StoreError> {
    let revoked = exists(
        tx,
        "SELECT 1 FROM key_revocations WHERE org = ?1 AND principal = ?2 AND kid = ?3",
        params![org, name, kid],
    )?;
    if revoked {
        return Err(StoreError::Conflict { what: "key" });
    }
    Ok(())
}

pub(crate) fn load_former(
    connection: &Connection,
    which: &Which,
) -> Result<Vec<StoredFormerKey>, StoreError> {
    let text = which.of(
        "SELECT org, principal, version, public, replaced_at FROM former_keys",
        "principal",
        "org, principal, version",
    );
    let mut statement = connection.prepare_cached(&text).map_err(sql)?;
    let mut rows = statement.query(which.params()).map_err(sql)?;
    let mut former = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        let public: String = row.get(3).map_err(sql)?;
        former.push(StoredFormerKey {
            org: field(row, 0, "former key")?,
            principal: field(row, 1, "former key")?,
            version: version(row)?,
            public: from_json("public key", &public)?,
            replaced_at: field(row, 4, "former key")?,
        });
    }
    Ok(former)
}

pub(crate) fn load_revocations(
    connection: &Connection,
    which: &Which,
) -> Result<Vec<StoredKeyRevocation>, StoreError> {
    let text = which.of(
        "SELECT org, principal, version, kid, at FROM key_revocations",
        "principal",
        "org, principal, version",
    );
    let mut statement = connection.prepare_cached(&text).map_err(sql)?;
    let mut rows = statement.query(which.params()).map_err(sql)?;
    let mut revocations = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        revocations.push(StoredKeyRevocation {
            org: field(row, 0, "key revocation")?,
            principal: field(row, 1, "key revocation")?,
            version: version(row)?,
            kid: row.get(3).map_err(sql)?,
            at: field(row, 4, "key revocation")?,
        });
    }
    Ok(revocations)
}

fn version(row: &Row<'_>) -> Result<KeyVersion, StoreError> {
    let number: u32 = row.get(2).map_err(sql)?;
    KeyVersion::new(number).ok_or_else(|| corrupt("key version", "there is none of 0"))
}
