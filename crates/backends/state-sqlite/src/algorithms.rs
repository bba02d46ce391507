//! Of which algorithms something is stored, and how other lists of them come into force.

use std::collections::BTreeSet;

use creto_audit::{AlgorithmsInUse, AllowedAlgorithms, unreadable};
use creto_types::StoreError;
use rusqlite::Connection;

use crate::Database;
use crate::database::sql;
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

/// Keys and secrets at rest.
const WRAPPINGS: &str = "
    SELECT DISTINCT json_extract(wrapped, '$.alg') FROM (
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
    /// are.
    pub async fn reads_what_is_stored(&self) -> Result<(), StoreError> {
        let lists = self.algorithms().clone();
        self.read(move |connection| readable(connection, &lists.now()))
            .await
    }

    /// Puts other lists in force, for everything that shares those of this database. When
    /// something is stored that they do not read they are refused
    /// ([`StoreError::Algorithm`]), and those of before stay.
    ///
    /// It is done in between two changes: what is stored before was looked at, and what
    /// follows is refused when it is by an algorithm that is accepted no more.
    pub async fn put_in_force(&self, lists: AllowedAlgorithms) -> Result<(), StoreError> {
        // What the one before makes undone is not what this one found.
        let _alone = self.replacing.lock().await;
        let (in_force, before) = (self.algorithms().clone(), self.algorithms().now());
        let before = AllowedAlgorithms::clone(&before);
        let put = move |change: &Change<'_>| {
            readable(change, &lists)?;
            change.algorithms().replace(lists);
            Ok(())
        };
        self.write_or(0, put, move || in_force.replace(before))
            .await
    }
}

fn readable(connection: &Connection, lists: &AllowedAlgorithms) -> Result<(), StoreError> {
    let stored = AlgorithmsInUse {
        signature: names(connection, SIGNATURES)?,
        wrapping: names(connection, WRAPPINGS)?,
        aead: names(connection, CIPHERS)?,
    };
    lists
        .read_all_of(&stored)
        .map_err(|error| unreadable("data", error))
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
        db.put_in_force(lists).await.unwrap();
        assert!(matches!(
            db.append(leaves).await,
            Err(StoreError::Conflict { what: CIPHER })
        ));
    }
}
