//! The journal behind the audit log.

use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::{Journal, RecordClass};
use creto_types::{Evidence, LeafIndex, OrgId, StoreError};
use rusqlite::{OptionalExtension as _, params};

use crate::Database;
use crate::database::{corrupt, sql};
use crate::leaves::{LEAVES, NewLeaf, leaf_of};

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
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(
        &self,
        class: RecordClass,
        records: Vec<Evidence>,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        let leaves = records
            .iter()
            .map(|record| NewLeaf::new(class, record))
            .collect::<Result<_, _>>()?;
        self.db.append(leaves).await
    }

    async fn read(&self, org: OrgId, from: u64, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let Some(first) = i64::try_from(from).ok().filter(|first| *first < LEAVES) else {
            return Ok(Vec::new());
        };
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let rows = self
            .db
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT journal.place, journal.bytes FROM logs JOIN journal
                         ON journal.place >= (logs.number << 40) + ?2
                         AND journal.place < (logs.number + 1) << 40
                         WHERE logs.org = ?1 ORDER BY journal.place LIMIT ?3",
                    )
                    .and_then(|mut statement| {
                        statement
                            .query_map(params![org.to_string(), first, limit], |row| {
                                Ok((leaf_of(row.get(0)?), row.get::<_, Vec<u8>>(1)?))
                            })?
                            .collect::<Result<Vec<_>, _>>()
                    })
                    .map_err(sql)
            })
            .await?;
        (first..)
            .zip(rows)
            .map(|(expected, (leaf, bytes))| {
                if leaf == expected {
                    Ok(bytes)
                } else {
                    Err(corrupt(
                        "journal",
                        format!("leaf {expected} is missing before leaf {leaf}"),
                    ))
                }
            })
            .collect()
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
