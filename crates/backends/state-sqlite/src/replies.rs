//! Replies kept for idempotency keys.

use std::sync::Arc;

use creto_types::{Idempotency, LeafIndex, OrgId, PrincipalName, StoreError, StoredReply};
use rusqlite::{Connection, OptionalExtension, params};

use crate::Database;
use crate::database::{corrupt, sql};

/// Looks up the reply that an idempotency key stands for.
#[derive(Clone, Debug)]
pub struct SqliteReplies {
    db: Arc<Database>,
}

impl SqliteReplies {
    /// Replies in this database.
    #[must_use]
    pub fn new(db: Arc<Database>) -> Self {
        Self { db }
    }

    /// The reply stored under the caller's key, if the key was used.
    pub async fn find(
        &self,
        org: OrgId,
        caller: &PrincipalName,
        key: &str,
    ) -> Result<Option<StoredReply>, StoreError> {
        let (caller, key) = (caller.to_string(), key.to_owned());
        self.db
            .read(move |connection| find(connection, org, &caller, &key))
            .await
    }
}

pub(crate) fn find(
    connection: &Connection,
    org: OrgId,
    caller: &str,
    key: &str,
) -> Result<Option<StoredReply>, StoreError> {
    let row: Option<(Vec<u8>, String, String)> = connection
        .prepare_cached(
            "SELECT request_digest, response, leaves FROM replies
             WHERE org = ?1 AND caller = ?2 AND key = ?3",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![org.to_string(), caller, key], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()
        })
        .map_err(sql)?;
    row.map(|(digest, response, leaves)| {
        Ok(StoredReply {
            request_digest: digest
                .try_into()
                .map_err(|_| corrupt("reply", "the request digest is not 32 bytes"))?,
            response: serde_json::from_str(&response).map_err(|e| corrupt("reply", e))?,
            leaves: serde_json::from_str(&leaves).map_err(|e| corrupt("reply", e))?,
        })
    })
    .transpose()
}

/// Keeps the reply of a change that was made on this day, counted from 1970.
pub(crate) fn insert(
    connection: &Connection,
    record: &Idempotency,
    leaves: &[LeafIndex],
    day: i64,
) -> Result<(), StoreError> {
    let leaves = serde_json::to_string(leaves).map_err(|e| corrupt("reply", e))?;
    connection
        .prepare_cached(
            "INSERT INTO replies (org, caller, key, request_digest, response, leaves, day)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                record.org.to_string(),
                record.caller.as_str(),
                record.key,
                record.request_digest.as_slice(),
                record.response.to_string(),
                leaves,
                day,
            ])
        })
        .map_err(sql)?;
    Ok(())
}
