//! The journal behind the audit log.

use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::{Journal, RecordClass};
use creto_types::{Evidence, LeafIndex, OrgId, StoreError};
use rusqlite::params;

use crate::Database;
use crate::database::{append_leaf, corrupt, sql};

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
        self.db
            .write(move |tx| {
                records
                    .iter()
                    .map(|record| append_leaf(tx, class, record).map(|(leaf, _)| leaf))
                    .collect()
            })
            .await
    }

    async fn read(&self, org: OrgId, from: u64, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        // No leaf is beyond what SQLite counts to.
        let Ok(first) = i64::try_from(from) else {
            return Ok(Vec::new());
        };
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let rows = self
            .db
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT leaf, bytes FROM journal WHERE org = ?1 AND leaf >= ?2
                         ORDER BY leaf LIMIT ?3",
                    )
                    .and_then(|mut statement| {
                        statement
                            .query_map(params![org.to_string(), first, limit], |row| {
                                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
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
                    .prepare_cached("SELECT max(leaf) FROM journal WHERE org = ?1")
                    .and_then(|mut statement| {
                        statement.query_row([org.to_string()], |row| row.get(0))
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
                    .prepare_cached("SELECT org FROM journal WHERE leaf = 0 ORDER BY org")
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
