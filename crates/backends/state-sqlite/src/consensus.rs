//! The timestamp oracle's bound, and the order of commits.

use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::RecordClass;
use creto_consensus::{Epoch, Sequenced, Sequencer, WindowStore};
use creto_types::{Evidence, StoreError};
use rusqlite::{OptionalExtension, params};

use crate::Database;
use crate::database::{append_leaf, corrupt, sql};

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
}

#[async_trait]
impl WindowStore for SqliteWindow {
    async fn upper_bound(&self) -> Result<Option<u64>, StoreError> {
        let bound: Option<i64> = self
            .db
            .read(|connection| {
                connection
                    .query_row("SELECT bound_ms FROM timestamp_bound", [], |row| row.get(0))
                    .optional()
                    .map_err(sql)
            })
            .await?;
        bound
            .map(|bound| u64::try_from(bound).map_err(|e| corrupt("timestamp bound", e)))
            .transpose()
    }

    async fn raise(&self, to_ms: u64) -> Result<(), StoreError> {
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
                Ok(())
            })
            .await
    }
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

    async fn order(&self, events: Vec<Evidence>) -> Result<Vec<Sequenced>, StoreError> {
        let epoch = self.epoch();
        self.db
            .write(move |tx| {
                let place = |event: &Evidence| {
                    let (place, ts) = append_leaf(tx, RecordClass::Evidence, event)?;
                    Ok(Sequenced {
                        org: event.org,
                        place,
                        ts,
                        epoch,
                    })
                };
                events.iter().map(place).collect()
            })
            .await
    }
}
