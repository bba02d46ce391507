//! The timestamp oracle's bound.

use std::sync::Arc;

use async_trait::async_trait;
use creto_consensus::WindowStore;
use creto_types::StoreError;
use rusqlite::{OptionalExtension, params};

use crate::Database;
use crate::database::{corrupt, sql};

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
