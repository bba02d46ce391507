//! The timestamp oracle's bound, and the order of commits.

use std::sync::Arc;

use async_trait::async_trait;
use creto_consensus::{Epoch, Sequenced, Sequencer, WindowStore};
use creto_types::{Commit, HybridTimestamp, LeafIndex, OrgId, StoreError};
use rusqlite::{Connection, OptionalExtension, params};

use crate::Database;
use crate::database::{apply_commit, corrupt, sql};
use crate::leaves::LEAVES;

/// The bound in this database.
#[derive(Clone, Debug)]
pub struct SqliteWindow {
    db: Arc<Database>,
}

impl SqliteWindow {
    /// The bound in this database.
    #[must_use]
    pub fn new(db: Arc<Database>) -> Self {
        Self { db }
    }

    /// As [`WindowStore::raise`], with evidence of why in the same transaction. Its
    /// instants are below the new bound, and not below the old one.
    pub async fn raise_with(&self, to_ms: u64, commits: Vec<Commit>) -> Result<(), StoreError> {
        let to_ms = i64::try_from(to_ms).map_err(|e| corrupt("timestamp bound", e))?;
        self.db
            .write(move |tx| {
                let changed = tx
                    .prepare_cached(
                        "INSERT INTO timestamp_bound (id, bound_ms) VALUES (1, ?1)
                         ON CONFLICT (id) DO UPDATE SET bound_ms = excluded.bound_ms
                         WHERE excluded.bound_ms > timestamp_bound.bound_ms",
                    )
                    .and_then(|mut statement| statement.execute(params![to_ms]))
                    .map_err(sql)?;
                if changed == 0 {
                    return Err(StoreError::Conflict {
                        what: "timestamp bound",
                    });
                }
                for commit in &commits {
                    apply_commit(tx, commit)?;
                }
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl WindowStore for SqliteWindow {
    async fn upper_bound(&self) -> Result<Option<u64>, StoreError> {
        self.db.read(bound).await
    }

    async fn raise(&self, to_ms: u64) -> Result<(), StoreError> {
        self.raise_with(to_ms, Vec::new()).await
    }
}

pub(crate) fn bound(connection: &Connection) -> Result<Option<u64>, StoreError> {
    let bound: Option<i64> = connection
        .query_row("SELECT bound_ms FROM timestamp_bound", [], |row| row.get(0))
        .optional()
        .map_err(sql)?;
    bound
        .map(|bound| u64::try_from(bound).map_err(|e| corrupt("timestamp bound", e)))
        .transpose()
}

/// The order in which evidence becomes durable in this database: that of the journal.
#[derive(Clone, Debug)]
pub struct SqliteSequencer {
    db: Arc<Database>,
}

impl SqliteSequencer {
    /// The order of this database.
    #[must_use]
    pub fn new(db: Arc<Database>) -> Self {
        Self { db }
    }
}

#[async_trait]
impl Sequencer for SqliteSequencer {
    fn epoch(&self) -> Epoch {
        self.db.epoch()
    }

    async fn order(&self, commit: Commit) -> Result<Vec<Sequenced>, StoreError> {
        let epoch = self.epoch();
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let placed = commit.evidence.iter().zip(receipt.leaves);
                placed
                    .map(|(event, place)| {
                        let ts = timestamps(tx, event.org, place, 1)?.pop();
                        Ok(Sequenced {
                            org: event.org,
                            place,
                            ts: ts.ok_or(StoreError::NotFound { what: "event" })?,
                            epoch,
                        })
                    })
                    .collect()
            })
            .await
    }

    async fn timestamps(
        &self,
        org: OrgId,
        from: LeafIndex,
        count: usize,
    ) -> Result<Vec<HybridTimestamp>, StoreError> {
        self.db
            .read(move |connection| timestamps(connection, org, from, count))
            .await
    }
}

/// What the journal has beside so many leaves from this one on.
fn timestamps(
    connection: &Connection,
    org: OrgId,
    from: LeafIndex,
    count: usize,
) -> Result<Vec<HybridTimestamp>, StoreError> {
    let Some(from) = i64::try_from(from.0).ok().filter(|from| *from < LEAVES) else {
        return Ok(Vec::new());
    };
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let mut statement = connection
        .prepare_cached(
            "SELECT journal.ts FROM logs JOIN journal
             ON journal.place >= (logs.number << 40) + ?2
             AND journal.place < (logs.number + 1) << 40
             WHERE logs.org = ?1 ORDER BY journal.place LIMIT ?3",
        )
        .map_err(sql)?;
    let rows = statement
        .query_map(params![org.to_string(), from, count], |row| row.get(0))
        .map_err(sql)?;
    rows.map(|ts| {
        let ts: Option<i64> = ts.map_err(sql)?;
        let ts = ts.ok_or_else(|| corrupt("event", "it has no timestamp"))?;
        let ts = u64::try_from(ts).map_err(|e| corrupt("leaf timestamp", e))?;
        Ok(HybridTimestamp::from_u64(ts))
    })
    .collect()
}
