//! Rotation of an organization's keys, and what its private keys are wrapped under.

use creto_audit::AllowedAlgorithms;
use creto_nhi::{
    FormerIssuer, FormerLogKey, KeyHolder, KeyPurpose, Rewrapped, StoredKey, StoredLogRotation,
    StoredRotation, WrappedKey, WrappingKey,
};
use creto_types::{Commit, OrgId, Receipt, StoreError, SubjectId};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::database::{apply_commit, corrupt, sql};
use crate::nhi::{exists, field, found, from_json, json, one};
use crate::subjects::Change;

const CONFLICT: StoreError = StoreError::Conflict {
    what: "wrapping key",
};

pub(crate) fn add_wrapping_key(
    tx: &Change<'_>,
    org: &str,
    key: &WrappingKey,
) -> Result<(), StoreError> {
    accepted(tx, |lists| lists.check_wrapped(&key.wrapped))?;
    let added = tx
        .prepare_cached(
            "INSERT INTO wrapping_keys (org, version, wrapped)
             SELECT ?1, ?2, ?3 WHERE NOT EXISTS (
                 SELECT 1 FROM wrapping_keys WHERE org = ?1 AND version >= ?2
             )",
        )
        .map_err(sql)?
        .execute(params![org, key.version, json(&key.wrapped)?])
        .map_err(sql)?;
    one(added, "wrapping key")
}

/// Refuses what is wrapped under a wrapping key that is not there, or by an algorithm that
/// is accepted no more.
pub(crate) fn may_be_stored(
    tx: &Change<'_>,
    org: &str,
    wrapped: &WrappedKey,
) -> Result<(), StoreError> {
    accepted(tx, |lists| lists.check_wrapped(wrapped))?;
    let Some(version) = wrapped.version() else {
        return Ok(());
    };
    let known = exists(
        tx,
        "SELECT 1 FROM wrapping_keys WHERE org = ?1 AND version = ?2",
        params![org, version],
    )?;
    known.then_some(()).ok_or(CONFLICT)
}

/// The same of a key with its public half.
pub(crate) fn key_may_be_stored(
    tx: &Change<'_>,
    org: &str,
    key: &StoredKey,
) -> Result<(), StoreError> {
    accepted(tx, |lists| lists.signature.check(key.public.algorithm()))?;
    may_be_stored(tx, org, &key.wrapped)
}

/// Other lists are put in force in between two changes, and what is stored then was looked
/// at: nothing may follow that they do not have.
fn accepted<A, E>(
    tx: &Change<'_>,
    check: impl FnOnce(&AllowedAlgorithms) -> Result<A, E>,
) -> Result<(), StoreError> {
    match check(&tx.algorithms().now()) {
        Ok(_) => Ok(()),
        Err(_) => Err(StoreError::Conflict {
            what: "list of algorithms",
        }),
    }
}

pub(crate) fn load_wrapping_keys(
    connection: &Connection,
    org: &str,
) -> Result<Vec<WrappingKey>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT version, wrapped FROM wrapping_keys WHERE org = ?1 ORDER BY version",
        )
        .map_err(sql)?;
    let rows = statement
        .query_map([org], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(sql)?;
    rows.map(|row| {
        let (version, wrapped): (u32, String) = row.map_err(sql)?;
        Ok(WrappingKey {
            version,
            wrapped: from_json("wrapping key", &wrapped)?,
        })
    })
    .collect()
}

/// Those of every organization.
pub(crate) fn all_wrapping_keys(
    connection: &Connection,
) -> Result<Vec<(OrgId, WrappingKey)>, StoreError> {
    let mut statement = connection
        .prepare("SELECT DISTINCT org FROM wrapping_keys")
        .map_err(sql)?;
    let rows = statement.query_map([], |row| row.get(0)).map_err(sql)?;
    let mut all = Vec::new();
    for row in rows {
        let name: String = row.map_err(sql)?;
        let org = name.parse().map_err(|e| corrupt("organization", e))?;
        let keys = load_wrapping_keys(connection, &name)?;
        all.extend(keys.into_iter().map(|key| (org, key)));
    }
    Ok(all)
}

pub(crate) fn load_former_issuers(
    connection: &Connection,
    org: &str,
) -> Result<Vec<FormerIssuer>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT public, replaced_at FROM former_issuers WHERE org = ?1 ORDER BY position",
        )
        .map_err(sql)?;
    let mut rows = statement.query([org]).map_err(sql)?;
    let mut issuers = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        let public: String = row.get(0).map_err(sql)?;
        issuers.push(FormerIssuer {
            public: from_json("public key", &public)?,
            replaced_at: field(row, 1, "former issuer")?,
        });
    }
    Ok(issuers)
}

pub(crate) fn load_former_log_keys(
    connection: &Connection,
    org: &str,
) -> Result<Vec<FormerLogKey>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT purpose, public, private, replaced_at FROM former_log_keys
             WHERE org = ?1 ORDER BY purpose",
        )
        .map_err(sql)?;
    let mut rows = statement.query([org]).map_err(sql)?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        let public: String = row.get(1).map_err(sql)?;
        let private: String = row.get(2).map_err(sql)?;
        keys.push(FormerLogKey {
            purpose: field(row, 0, "purpose of a key")?,
            key: StoredKey {
                public: from_json("public key", &public)?,
                wrapped: from_json("wrapped key", &private)?,
            },
            replaced_at: field(row, 3, "former log key")?,
        });
    }
    Ok(keys)
}

pub(crate) fn rotate(
    tx: &Change<'_>,
    rotation: &StoredRotation,
    commit: &Commit,
) -> Result<Receipt, StoreError> {
    let receipt = apply_commit(tx, commit)?;
    let org = rotation.org.to_string();
    known_organization(tx, &org)?;
    add_wrapping_key(tx, &org, &rotation.wrapping)?;
    key_may_be_stored(tx, &org, &rotation.issuer)?;
    let purpose = KeyPurpose::Issuer.as_str();
    tx.prepare_cached(
        "INSERT INTO former_issuers (org, public, replaced_at)
         SELECT org, public, ?3 FROM organization_keys WHERE org = ?1 AND purpose = ?2",
    )
    .and_then(|mut s| s.execute(params![org, purpose, rotation.at.to_string()]))
    .map_err(sql)?;
    replace_key(tx, &org, KeyPurpose::Issuer, &rotation.issuer)?;
    Ok(receipt)
}

pub(crate) fn rotate_log(
    tx: &Change<'_>,
    rotation: &StoredLogRotation,
    commit: &Commit,
) -> Result<Receipt, StoreError> {
    let receipt = apply_commit(tx, commit)?;
    let org = rotation.org.to_string();
    known_organization(tx, &org)?;
    for (purpose, key) in &rotation.keys {
        if purpose.signs_checkpoints() {
            keep_log_key(tx, &org, *purpose, rotation)?;
        }
        key_may_be_stored(tx, &org, key)?;
        replace_key(tx, &org, *purpose, key)?;
    }
    Ok(receipt)
}

fn keep_log_key(
    tx: &Change<'_>,
    org: &str,
    purpose: KeyPurpose,
    rotation: &StoredLogRotation,
) -> Result<(), StoreError> {
    let kept = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO former_log_keys (org, purpose, public, private, replaced_at)
             SELECT org, purpose, public, private, ?3 FROM organization_keys
             WHERE org = ?1 AND purpose = ?2",
        )
        .and_then(|mut s| s.execute(params![org, purpose.as_str(), rotation.at.to_string()]))
        .map_err(sql)?;
    one(kept, "former log key")
}

pub(crate) fn retire_log(
    tx: &Change<'_>,
    org: OrgId,
    commit: &Commit,
) -> Result<Receipt, StoreError> {
    let receipt = apply_commit(tx, commit)?;
    let org = org.to_string();
    known_organization(tx, &org)?;
    let ended = tx
        .prepare_cached("DELETE FROM former_log_keys WHERE org = ?1")
        .and_then(|mut s| s.execute([&org]))
        .map_err(sql)?;
    found(ended > 0, "former log key")?;
    Ok(receipt)
}

fn replace_key(
    tx: &Change<'_>,
    org: &str,
    purpose: KeyPurpose,
    key: &StoredKey,
) -> Result<(), StoreError> {
    let replaced = tx
        .prepare_cached(
            "UPDATE organization_keys SET public = ?3, private = ?4
             WHERE org = ?1 AND purpose = ?2",
        )
        .map_err(sql)?
        .execute(params![
            org,
            purpose.as_str(),
            json(&key.public)?,
            json(&key.wrapped)?,
        ])
        .map_err(sql)?;
    one(replaced, "organization key")
}

pub(crate) fn rewrap(tx: &Change<'_>, org: OrgId, keys: &[Rewrapped]) -> Result<(), StoreError> {
    let org = org.to_string();
    for Rewrapped { holder, from, to } in keys {
        may_be_stored(tx, &org, to)?;
        let (statement, name, version) = match holder {
            KeyHolder::Organization(purpose) => (
                "UPDATE organization_keys SET private = ?4
                 WHERE org = ?1 AND purpose = ?2 AND private = ?3 AND ?5 IS NULL",
                purpose.as_str(),
                None,
            ),
            KeyHolder::FormerLog(purpose) => (
                "UPDATE former_log_keys SET private = ?4
                 WHERE org = ?1 AND purpose = ?2 AND private = ?3 AND ?5 IS NULL",
                purpose.as_str(),
                None,
            ),
            KeyHolder::Principal(name) => (
                "UPDATE principals SET private = ?4
                 WHERE org = ?1 AND name = ?2 AND private = ?3 AND ?5 IS NULL",
                name.as_str(),
                None,
            ),
            KeyHolder::Secret(name, version) => (
                "UPDATE secrets SET sealed = ?4
                 WHERE org = ?1 AND name = ?2 AND sealed = ?3 AND version = ?5",
                name.as_str(),
                Some(*version),
            ),
            KeyHolder::Subject(id) => {
                rewrap_subject(tx, &org, *id, &json(from)?, &json(to)?)?;
                continue;
            }
        };
        let changed = tx
            .prepare_cached(statement)
            .map_err(sql)?
            .execute(params![org, name, json(from)?, json(to)?, version])
            .map_err(sql)?;
        one(changed, "wrapped key")?;
    }
    Ok(())
}

/// A subject that was erased meanwhile has no key to wrap.
fn rewrap_subject(
    tx: &Transaction<'_>,
    org: &str,
    id: SubjectId,
    from: &str,
    to: &str,
) -> Result<(), StoreError> {
    let changed = tx
        .prepare_cached(
            "UPDATE subjects SET private = ?4 WHERE org = ?1 AND id = ?2 AND private = ?3",
        )
        .and_then(|mut s| s.execute(params![org, id.to_string(), from, to]))
        .map_err(sql)?;
    let erased = exists(
        tx,
        "SELECT 1 FROM subjects WHERE org = ?1 AND id = ?2 AND private IS NULL",
        params![org, id.to_string()],
    )?;
    if erased {
        return Ok(());
    }
    one(changed, "wrapped key")
}

/// The keys of every subject of the organization that was not erased.
pub(crate) fn subject_keys(
    connection: &Connection,
    org: OrgId,
) -> Result<Vec<(SubjectId, WrappedKey)>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT id, private FROM subjects WHERE org = ?1 AND private IS NOT NULL")
        .map_err(sql)?;
    let rows = statement
        .query_map([org.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(sql)?;
    rows.map(|row| {
        let (id, private): (String, String) = row.map_err(sql)?;
        let id = id.parse().map_err(|e| corrupt("subject", e))?;
        Ok((id, from_json("key of a subject", &private)?))
    })
    .collect()
}

pub(crate) fn retire(
    tx: &Change<'_>,
    org: OrgId,
    before: u32,
    commit: &Commit,
) -> Result<Receipt, StoreError> {
    let receipt = apply_commit(tx, commit)?;
    let org = org.to_string();
    known_organization(tx, &org)?;
    // Absent is under the root key: older than any version.
    let used = exists(
        tx,
        "SELECT 1 FROM (
             SELECT org, private FROM organization_keys
             UNION ALL SELECT org, private FROM former_log_keys
             UNION ALL SELECT org, private FROM principals
             UNION ALL SELECT org, sealed FROM secrets
             UNION ALL SELECT org, private FROM subjects WHERE private IS NOT NULL
         ) WHERE org = ?1 AND coalesce(json_extract(private, '$.key'), 0) < ?2",
        params![org, before],
    )?;
    if used {
        return Err(CONFLICT);
    }
    tx.prepare_cached("DELETE FROM wrapping_keys WHERE org = ?1 AND version < ?2")
        .and_then(|mut s| s.execute(params![org, before]))
        .map_err(sql)?;
    tx.prepare_cached("DELETE FROM former_issuers WHERE org = ?1")
        .and_then(|mut s| s.execute([&org]))
        .map_err(sql)?;
    Ok(receipt)
}

pub(crate) fn replace_wrapping(
    tx: &Change<'_>,
    keys: &[(OrgId, WrappingKey)],
    commits: &[Commit],
) -> Result<(), StoreError> {
    for commit in commits {
        apply_commit(tx, commit)?;
    }
    let stored: i64 = tx
        .prepare_cached("SELECT count(*) FROM wrapping_keys")
        .and_then(|mut s| s.query_row([], |row| row.get(0)))
        .map_err(sql)?;
    let under_root = exists(
        tx,
        "SELECT 1 FROM (
             SELECT private FROM organization_keys
             UNION ALL SELECT private FROM former_log_keys
             UNION ALL SELECT private FROM principals
             UNION ALL SELECT sealed FROM secrets
             UNION ALL SELECT private FROM subjects
             WHERE private IS NOT NULL AND org IN (SELECT id FROM organizations)
         ) WHERE json_extract(private, '$.key') IS NULL",
        [],
    )?;
    if under_root || i64::try_from(keys.len()).ok() != Some(stored) {
        return Err(CONFLICT);
    }
    for (org, key) in keys {
        let changed = tx
            .prepare_cached("UPDATE wrapping_keys SET wrapped = ?3 WHERE org = ?1 AND version = ?2")
            .map_err(sql)?
            .execute(params![org.to_string(), key.version, json(&key.wrapped)?])
            .map_err(sql)?;
        one(changed, "wrapping key")?;
    }
    Ok(())
}

pub(crate) fn known_organization(tx: &Transaction<'_>, org: &str) -> Result<(), StoreError> {
    let known = tx
        .prepare_cached("SELECT 1 FROM organizations WHERE id = ?1")
        .and_then(|mut s| s.query_row([org], |_| Ok(())).optional())
        .map_err(sql)?;
    found(known.is_some(), "organization")
}
