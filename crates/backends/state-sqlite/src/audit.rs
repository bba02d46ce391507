//! The journal behind the audit log.

use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::{Journal, RecordClass, StoredRecord};
use creto_types::{Evidence, LeafIndex, OrgId, StoreError};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::Database;
use crate::database::{corrupt, sql};
use crate::leaves::{CIPHER, LEAVES, SUBJECT, leaf_of};

/// How often records are sealed when their subject is erased each time before they have
/// a place.
const SEALED_ANEW: usize = 4;

/// The journal in this database.
#[derive(Clone, Debug)]
pub struct SqliteJournal {
    db: Arc<Database>,
}

impl SqliteJournal {
    /// The journal in this database.
    #[must_use]
    pub fn new(db: Arc<Database>) -> Self {
        Self { db }
    }

    /// The rows of some leaves in order, as `read` reads them, of which none is missing.
    async fn rows<T: Send + 'static>(
        &self,
        query: &'static str,
        org: OrgId,
        from: u64,
        max: usize,
        read: impl Fn(&Connection, &Row<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Vec<T>, StoreError> {
        let Some(first) = i64::try_from(from).ok().filter(|first| *first < LEAVES) else {
            return Ok(Vec::new());
        };
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        self.db
            .read(move |connection| {
                let mut statement = connection.prepare_cached(query).map_err(sql)?;
                let mut rows = statement
                    .query(params![org.to_string(), first, limit])
                    .map_err(sql)?;
                let mut all = Vec::new();
                let mut expected = first;
                while let Some(row) = rows.next().map_err(sql)? {
                    let leaf = row.get(0).map(leaf_of).map_err(sql)?;
                    if leaf != expected {
                        return Err(corrupt(
                            "journal",
                            format!("leaf {expected} is missing before leaf {leaf}"),
                        ));
                    }
                    expected += 1;
                    all.push(read(connection, row)?);
                }
                Ok(all)
            })
            .await
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(
        &self,
        class: RecordClass,
        records: Vec<Evidence>,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        for _ in 1..SEALED_ANEW {
            let leaves = self.db.seal(class, &records).await?;
            match self.db.append(leaves).await {
                Err(StoreError::Conflict { what: SUBJECT }) => self.db.subjects().forget_known(),
                Err(StoreError::Conflict { what: CIPHER }) => {}
                outcome => return outcome,
            }
        }
        let leaves = self.db.seal(class, &records).await?;
        self.db.append(leaves).await
    }

    async fn read(&self, org: OrgId, from: u64, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let query = "SELECT journal.place, journal.bytes FROM logs JOIN journal
                     ON journal.place >= (logs.number << 40) + ?2
                     AND journal.place < (logs.number + 1) << 40
                     WHERE logs.org = ?1 ORDER BY journal.place LIMIT ?3";
        self.rows(query, org, from, max, |_, row| {
            row.get::<_, Vec<u8>>(1).map_err(sql)
        })
        .await
    }

    async fn records(
        &self,
        org: OrgId,
        from: u64,
        max: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let query = "SELECT journal.place, journal.bytes, journal.sealed FROM logs JOIN journal
                     ON journal.place >= (logs.number << 40) + ?2
                     AND journal.place < (logs.number + 1) << 40
                     WHERE logs.org = ?1 ORDER BY journal.place LIMIT ?3";
        let subjects = self.db.subjects();
        self.rows(query, org, from, max, move |connection, row| {
            let place = row.get(0).map(leaf_of).map_err(sql)?;
            let (leaf, sealed) = (row.get(1).map_err(sql)?, row.get(2).map_err(sql)?);
            subjects.record(connection, place, leaf, sealed)
        })
        .await
    }

    async fn size(&self, org: OrgId) -> Result<u64, StoreError> {
        let last: Option<i64> = self
            .db
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT journal.place FROM logs JOIN journal
                         ON journal.place >= logs.number << 40
                         AND journal.place < (logs.number + 1) << 40
                         WHERE logs.org = ?1 ORDER BY journal.place DESC LIMIT 1",
                    )
                    .and_then(|mut statement| {
                        statement
                            .query_row([org.to_string()], |row| row.get(0).map(leaf_of))
                            .optional()
                    })
                    .map_err(sql)
            })
            .await?;
        match last {
            None => Ok(0),
            Some(last) => u64::try_from(last)
                .map(|last| last + 1)
                .map_err(|e| corrupt("leaf index", e)),
        }
    }

    async fn organizations(&self) -> Result<Vec<OrgId>, StoreError> {
        let orgs: Vec<String> = self
            .db
            .read(|connection| {
                connection
                    .prepare_cached(
                        "SELECT org FROM logs WHERE EXISTS
                         (SELECT 1 FROM journal WHERE place = logs.number << 40)
                         ORDER BY org",
                    )
                    .and_then(|mut statement| {
                        statement
                            .query_map([], |row| row.get(0))?
                            .collect::<Result<Vec<_>, _>>()
                    })
                    .map_err(sql)
            })
            .await?;
        orgs.iter()
            .map(|org| org.parse().map_err(|e| corrupt("organization id", e)))
            .collect()
    }
}
