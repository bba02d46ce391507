//! Of which algorithms something is stored, and how other lists of them come into force.

use std::collections::BTreeSet;

use creto_audit::{AlgorithmsInUse, AllowedAlgorithms, Sealer};
use creto_governor::{ListsAnswer, ListsChange};
use creto_types::{Commit, OrgId, PrincipalName, StoreError, Timestamp};
use rusqlite::Connection;
use serde_json::Value;

use crate::Database;
use crate::database::{apply_commit, sql};
use crate::nhi::{field, from_json, json};
use crate::subjects::Change;

/// What is verified by a key that is not revoked, the issuers of tokens among them.
const SIGNATURES: &str = "
    SELECT DISTINCT json_extract(public, '$.alg') FROM (
        SELECT public FROM organization_keys
        UNION ALL SELECT public FROM former_issuers
        UNION ALL SELECT public FROM former_log_keys
        UNION ALL SELECT public FROM principals
        UNION ALL SELECT public FROM former_keys AS f WHERE NOT EXISTS (
            SELECT 1 FROM key_revocations AS r
            WHERE r.org = f.org AND r.principal = f.principal AND r.version = f.version
        )
    )";

/// Keys and secrets at rest, and whether they are under the root key itself.
const WRAPPINGS: &str = "
    SELECT DISTINCT json_extract(wrapped, '$.alg'), json_extract(wrapped, '$.key') IS NULL FROM (
        SELECT wrapped FROM wrapping_keys
        UNION ALL SELECT private FROM organization_keys
        UNION ALL SELECT private FROM former_log_keys
        UNION ALL SELECT private FROM principals
        UNION ALL SELECT sealed FROM secrets
        UNION ALL SELECT private FROM subjects WHERE private IS NOT NULL
    )";

const CIPHERS: &str = "SELECT name FROM payload_ciphers";

impl Database {
    /// Whether everything that is stored can be read by the lists that are in force:
    /// [`StoreError::Algorithm`] names what cannot. Reads no payload, however many there
    /// are, and asks no device: whether its keystore knows a name is all that counts here.
    pub async fn reads_what_is_stored(&self) -> Result<(), StoreError> {
        let (lists, subjects) = (self.algorithms().clone(), self.subjects());
        self.read(move |connection| readable(connection, &lists.now(), subjects.sealer()))
            .await
    }

    /// Puts other lists in force, for everything that shares those of this database, and
    /// records that in the log of every organization ([`ListsChange`]), as of this instant.
    /// Gives the organizations. When something is stored that they do not read they are
    /// refused ([`StoreError::Algorithm`]), and those of before stay; what the records
    /// themselves are sealed by counts, which is by the lists of before.
    ///
    /// They are in force once the records are on disk, in between two changes: what is
    /// stored before was looked at, and what follows is refused when it is by an algorithm
    /// that is accepted no more.
    pub async fn put_in_force(
        &self,
        lists: AllowedAlgorithms,
        at: Timestamp,
    ) -> Result<Vec<OrgId>, StoreError> {
        let _alone = self.replacing.lock().await;
        let (in_force, new) = (self.algorithms().clone(), lists.clone());
        let put = move |change: &Change<'_>| {
            let recorded = record(change, &lists, at)?;
            readable(change, &lists, change.sealer())?;
            Ok(recorded)
        };
        self.write_then(put, move || in_force.replace(new)).await
    }

    /// Records the lists that are in force in the log of every organization that has others
    /// on record, or none. Gives those organizations.
    pub async fn record_in_force(&self, at: Timestamp) -> Result<Vec<OrgId>, StoreError> {
        let _alone = self.replacing.lock().await;
        self.write(move |change| {
            let lists = AllowedAlgorithms::clone(&change.algorithms().now());
            record(change, &lists, at)
        })
        .await
    }
}

/// What an organization is founded under: on record without a record, for there is nothing
/// that it changed.
pub(crate) fn founded_under(change: &Change<'_>, org: &str) -> Result<(), StoreError> {
    let lists = json(&ListsAnswer::of(&change.algorithms().now()))?;
    change
        .prepare_cached("INSERT INTO algorithms_on_record (org, lists) VALUES (?1, ?2)")
        .and_then(|mut s| s.execute([org, &lists]))
        .map(drop)
        .map_err(sql)
}

/// A record in the log of every organization that has other lists on record.
fn record(
    change: &Change<'_>,
    lists: &AllowedAlgorithms,
    at: Timestamp,
) -> Result<Vec<OrgId>, StoreError> {
    let text = json(&ListsAnswer::of(lists))?;
    let after: Value = from_json("lists of algorithms", &text)?;
    let mut recorded = Vec::new();
    for (org, owner, before) in on_record(change)? {
        if before.as_ref() == Some(&after) {
            continue;
        }
        let made = ListsChange {
            org,
            owner,
            before,
            after: after.clone(),
        };
        apply_commit(change, &Commit::of(made.evidence(at)))?;
        change
            .prepare_cached("INSERT OR REPLACE INTO algorithms_on_record VALUES (?1, ?2)")
            .and_then(|mut s| s.execute([&org.to_string(), &text]))
            .map_err(sql)?;
        recorded.push(org);
    }
    Ok(recorded)
}

/// Every organization with its owner, and the lists that it has on record.
fn on_record(
    connection: &Connection,
) -> Result<Vec<(OrgId, PrincipalName, Option<Value>)>, StoreError> {
    let mut statement = connection
        .prepare(
            "SELECT o.id, o.owner, r.lists FROM organizations AS o
             LEFT JOIN algorithms_on_record AS r ON r.org = o.id ORDER BY o.id",
        )
        .map_err(sql)?;
    let mut rows = statement.query([]).map_err(sql)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        let lists: Option<String> = row.get(2).map_err(sql)?;
        let lists = lists.map(|text| from_json("lists of algorithms", &text));
        let org = field(row, 0, "organization")?;
        all.push((org, field(row, 1, "owner")?, lists.transpose()?));
    }
    Ok(all)
}

fn readable(
    connection: &Connection,
    lists: &AllowedAlgorithms,
    sealer: &Sealer,
) -> Result<(), StoreError> {
    let mut stored = AlgorithmsInUse {
        signature: names(connection, SIGNATURES)?,
        aead: names(connection, CIPHERS)?,
        ..AlgorithmsInUse::default()
    };
    let mut statement = connection.prepare(WRAPPINGS).map_err(sql)?;
    let mut rows = statement.query([]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let under_root: bool = row.get(1).map_err(sql)?;
        let names = if under_root {
            &mut stored.root
        } else {
            &mut stored.wrapping
        };
        names.insert(row.get(0).map_err(sql)?);
    }
    sealer.reads_all_of(lists, &stored)
}

fn names(connection: &Connection, query: &str) -> Result<BTreeSet<String>, StoreError> {
    let mut statement = connection.prepare(query).map_err(sql)?;
    let rows = statement.query_map([], |row| row.get(0)).map_err(sql)?;
    rows.map(|name| name.map_err(sql)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use creto_audit::{RecordClass, Sealer, conformance};

    use super::*;
    use crate::leaves::CIPHER;

    #[tokio::test]
    async fn a_leaf_that_was_sealed_by_a_cipher_that_is_gone_has_no_place() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("state.db")).unwrap();
        let record = conformance::record(conformance::org(1), 7);
        let leaves = db.seal(RecordClass::Trace, &[record]).await.unwrap();
        let other = Sealer::for_tests_only_with("7", "ChaCha20-Poly1305");
        let lists = AllowedAlgorithms::clone(&other.algorithms().now());
        db.put_in_force(lists, Timestamp::UNIX_EPOCH).await.unwrap();
        assert!(matches!(
            db.append(leaves).await,
            Err(StoreError::Conflict { what: CIPHER })
        ));
    }
}
