//! The search index beside the journal, and what its tags are made under.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::{Found, IndexKey, IndexKeys, SearchIndex, SearchTag, intersect};
use creto_types::{OrgId, StoreError};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::Database;
use crate::database::{corrupt, sql};
use crate::subjects::Whose;

/// The search index in this database.
#[derive(Clone, Debug)]
pub struct SqliteIndex {
    db: Arc<Database>,
}

impl SqliteIndex {
    /// The index in this database.
    #[must_use]
    pub fn new(db: Arc<Database>) -> Self {
        Self { db }
    }
}

/// The keys of search indexes, by what lies in this database.
#[derive(Clone, Debug)]
pub struct SqliteIndexKeys {
    db: Arc<Database>,
}

impl SqliteIndexKeys {
    /// Those of the organizations in this database.
    #[must_use]
    pub fn new(db: Arc<Database>) -> Self {
        Self { db }
    }
}

#[async_trait]
impl IndexKeys for SqliteIndexKeys {
    async fn key(&self, org: OrgId) -> Result<IndexKey, StoreError> {
        let subject = self.db.subject_of(org, Whose::Organization).await?;
        let key = subject.key.index_key();
        key.map_err(|e| corrupt("key of a subject", e))
    }
}

/// The log's number, and how many of its leaves are in the index. None while it has no
/// leaf.
fn progress(connection: &Connection, org: OrgId) -> Result<Option<(i64, i64)>, StoreError> {
    connection
        .prepare_cached(
            "SELECT logs.number, coalesce(search_covered.leaves, 0)
             FROM logs LEFT JOIN search_covered ON search_covered.log = logs.number
             WHERE logs.org = ?1",
        )
        .and_then(|mut statement| {
            statement
                .query_row([org.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
        .map_err(sql)
}

fn count(leaves: i64) -> Result<u64, StoreError> {
    u64::try_from(leaves).map_err(|e| corrupt("search index", e))
}

fn column(leaf: u64) -> Result<i64, StoreError> {
    i64::try_from(leaf).map_err(|e| corrupt("leaf index", e))
}

#[async_trait]
impl SearchIndex for SqliteIndex {
    async fn covered(&self, org: OrgId) -> Result<u64, StoreError> {
        self.db
            .read(move |connection| {
                count(progress(connection, org)?.map_or(0, |(_, covered)| covered))
            })
            .await
    }

    async fn extend(
        &self,
        org: OrgId,
        from: u64,
        leaves: Vec<Vec<SearchTag>>,
    ) -> Result<u64, StoreError> {
        self.db
            .write(move |tx| {
                let Some((log, covered)) = progress(tx, org)? else {
                    return Ok(0);
                };
                if count(covered)? != from {
                    return count(covered);
                }
                let mut next = covered;
                let mut insert = tx
                    .prepare_cached(
                        "INSERT INTO search (log, field, tag, leaf) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT DO NOTHING",
                    )
                    .map_err(sql)?;
                for tags in leaves {
                    for SearchTag { field, tag } in tags {
                        insert
                            .execute(params![log, field as u8, tag, next])
                            .map_err(sql)?;
                    }
                    next += 1;
                }
                tx.prepare_cached(
                    "INSERT INTO search_covered (log, leaves) VALUES (?1, ?2)
                     ON CONFLICT (log) DO UPDATE SET leaves = excluded.leaves",
                )
                .and_then(|mut statement| statement.execute([log, next]))
                .map_err(sql)?;
                count(next)
            })
            .await
    }

    async fn find(
        &self,
        org: OrgId,
        span: Range<u64>,
        tags: Vec<SearchTag>,
        max: usize,
    ) -> Result<Found, StoreError> {
        self.db
            .read(move |connection| {
                let Some((log, covered)) = progress(connection, org)? else {
                    return Ok(Found::default());
                };
                // What is below this does not change any more: one query sees what the
                // next one sees.
                let span = span.start..span.end.min(count(covered)?);
                let mut before = connection
                    .prepare_cached(
                        "SELECT leaf FROM search
                         WHERE log = ?1 AND field = ?2 AND tag = ?3 AND leaf < ?4
                         ORDER BY leaf DESC LIMIT 1",
                    )
                    .map_err(sql)?;
                intersect(span, &tags, max, |of, below| {
                    let below = column(below)?;
                    before
                        .query_row(params![log, of.field as u8, of.tag, below], |row| {
                            row.get(0)
                        })
                        .optional()
                        .map_err(sql)?
                        .map(count)
                        .transpose()
                })
            })
            .await
    }
}
