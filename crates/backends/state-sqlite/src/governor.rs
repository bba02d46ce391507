//! The state that belongs to the governor itself: evidence without a change of
//! state, actions by id, sandboxes.

use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::StoredRecord;
use creto_governor::{ActionRecords, CommitStore, Replies, SandboxRow, SandboxState, SandboxStore};
use creto_types::{
    ActionId, Commit, LeafIndex, OrgId, PrincipalName, Receipt, StoreError, StoredReply,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::database::{apply_commit, corrupt, sql};
use crate::leaves::{LEAVES, leaf_of};
use crate::{Database, SqliteReplies};

/// The governor's state in SQLite.
#[derive(Clone, Debug)]
pub struct SqliteGovernor {
    db: Arc<Database>,
}

impl SqliteGovernor {
    /// State in this database.
    #[must_use]
    pub fn new(db: Arc<Database>) -> Self {
        Self { db }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.db
    }
}

#[async_trait]
impl CommitStore for SqliteGovernor {
    async fn commit(&self, commit: Commit) -> Result<Receipt, StoreError> {
        self.db.write(move |tx| apply_commit(tx, &commit)).await
    }
}

#[async_trait]
impl Replies for SqliteReplies {
    async fn find(
        &self,
        org: OrgId,
        caller: &PrincipalName,
        key: &str,
    ) -> Result<Option<StoredReply>, StoreError> {
        Self::find(self, org, caller, key).await
    }
}

#[async_trait]
impl ActionRecords for SqliteGovernor {
    async fn records(
        &self,
        org: OrgId,
        action: ActionId,
    ) -> Result<Vec<(LeafIndex, StoredRecord)>, StoreError> {
        let subjects = self.db.subjects();
        self.db
            .read(move |connection| {
                let mut statement = connection
                    .prepare_cached(
                        "SELECT journal.place, journal.bytes, journal.sealed FROM logs JOIN journal
                         ON journal.place >= logs.number << 40
                         AND journal.place < (logs.number + 1) << 40
                         WHERE logs.org = ?1 AND journal.action_id = ?2
                         ORDER BY journal.place",
                    )
                    .map_err(sql)?;
                let rows = statement
                    .query_map(params![org.to_string(), action.to_string()], |row| {
                        Ok((leaf_of(row.get(0)?), row.get(1)?, row.get(2)?))
                    })
                    .map_err(sql)?;
                rows.map(|row| {
                    let (leaf, bytes, sealed) = row.map_err(sql)?;
                    let record = subjects.record(connection, leaf, bytes, sealed)?;
                    Ok((leaf_index(leaf)?, record))
                })
                .collect()
            })
            .await
    }

    async fn decisions(
        &self,
        org: OrgId,
        before: Option<LeafIndex>,
        limit: usize,
    ) -> Result<Vec<(LeafIndex, StoredRecord)>, StoreError> {
        let below = before
            .and_then(|leaf| i64::try_from(leaf.0).ok())
            .map_or(LEAVES, |leaf| leaf.min(LEAVES));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let subjects = self.db.subjects();
        self.db
            .read(move |connection| {
                let mut statement = connection
                    .prepare_cached(
                        "SELECT journal.place, journal.bytes, journal.sealed FROM logs JOIN journal
                         ON journal.place >= logs.number << 40
                         AND journal.place < (logs.number << 40) + ?2
                         WHERE logs.org = ?1 AND journal.kind IN ('action.decided', 'egress.checked')
                         ORDER BY journal.place DESC LIMIT ?3",
                    )
                    .map_err(sql)?;
                let rows = statement
                    .query_map(params![org.to_string(), below, limit], |row| {
                        Ok((leaf_of(row.get(0)?), row.get(1)?, row.get(2)?))
                    })
                    .map_err(sql)?;
                rows.map(|row| {
                    let (leaf, bytes, sealed) = row.map_err(sql)?;
                    let record = subjects.record(connection, leaf, bytes, sealed)?;
                    Ok((leaf_index(leaf)?, record))
                })
                .collect()
            })
            .await
    }
}

#[async_trait]
impl SandboxStore for SqliteGovernor {
    async fn put(&self, row: SandboxRow, commit: Commit) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let answer =
                    serde_json::to_string(&row.answer).map_err(|e| corrupt("sandbox", e))?;
                let leaf = receipt
                    .leaf()
                    .map(|leaf| i64::try_from(leaf.0))
                    .transpose()
                    .map_err(|e| corrupt("leaf index", e))?;
                tx.prepare_cached(
                    "INSERT INTO sandboxes (org, id, running, answer, leaf)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (org, id) DO UPDATE SET
                         running = excluded.running,
                         answer = excluded.answer,
                         leaf = coalesce(excluded.leaf, leaf)",
                )
                .and_then(|mut statement| {
                    statement.execute(params![
                        row.org.to_string(),
                        row.answer.id,
                        row.answer.state == SandboxState::Running,
                        answer,
                        leaf,
                    ])
                })
                .map_err(sql)?;
                Ok(receipt)
            })
            .await
    }

    async fn get(&self, org: OrgId, id: &str) -> Result<Option<SandboxRow>, StoreError> {
        let id = id.to_owned();
        self.db
            .read(move |connection| {
                let found = connection
                    .prepare_cached(
                        "SELECT org, answer, leaf FROM sandboxes WHERE org = ?1 AND id = ?2",
                    )
                    .and_then(|mut statement| {
                        statement
                            .query_row(params![org.to_string(), id], columns)
                            .optional()
                    })
                    .map_err(sql)?;
                found.map(decode).transpose()
            })
            .await
    }

    async fn list(
        &self,
        org: OrgId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SandboxRow>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.db
            .read(move |connection| {
                rows(
                    connection,
                    "SELECT org, answer, leaf FROM sandboxes
                     WHERE org = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                    params![org.to_string(), after, limit],
                )
            })
            .await
    }

    async fn running(&self) -> Result<Vec<SandboxRow>, StoreError> {
        self.db
            .read(|connection| {
                rows(
                    connection,
                    "SELECT org, answer, leaf FROM sandboxes WHERE running = 1 ORDER BY org, id",
                    [],
                )
            })
            .await
    }
}

type Columns = (String, String, Option<i64>);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn rows(
    connection: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<SandboxRow>, StoreError> {
    let mut statement = connection.prepare_cached(query).map_err(sql)?;
    let found = statement.query_map(parameters, columns).map_err(sql)?;
    found.map(|row| decode(row.map_err(sql)?)).collect()
}

fn decode((org, answer, leaf): Columns) -> Result<SandboxRow, StoreError> {
    let mut row = SandboxRow {
        org: org.parse().map_err(|e| corrupt("sandbox", error(e)))?,
        answer: serde_json::from_str(&answer).map_err(|e| corrupt("sandbox", e))?,
    };
    row.answer.leaf = leaf.map(leaf_index).transpose()?;
    Ok(row)
}

fn error(error: creto_types::IdError) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(error)
}

pub(crate) fn leaf_index(leaf: i64) -> Result<LeafIndex, StoreError> {
    Ok(LeafIndex(
        u64::try_from(leaf).map_err(|e| corrupt("leaf index", e))?,
    ))
}
