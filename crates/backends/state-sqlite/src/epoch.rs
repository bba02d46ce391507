//! Whose file it is: taken when it is opened, looked at in every transaction.

use creto_consensus::Epoch;
use creto_types::StoreError;
use rusqlite::{Connection, TransactionBehavior};

use crate::database::{corrupt, sql};

/// Takes the next epoch; durable on return.
pub(crate) fn take(connection: &mut Connection) -> Result<Epoch, StoreError> {
    let tx = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sql)?;
    let number = tx
        .query_row(
            "INSERT INTO epoch (id, number) VALUES (1, 1)
             ON CONFLICT (id) DO UPDATE SET number = number + 1 RETURNING number",
            [],
            |row| row.get(0),
        )
        .map_err(sql)?;
    tx.commit().map_err(sql)?;
    of(number)
}

/// Refuses a transaction that began after a later epoch was taken.
///
/// SQLite lets one transaction write at a time and this one writes already, so what is
/// read here stays so until it is committed.
pub(crate) fn check(tx: &Connection, own: Epoch) -> Result<(), StoreError> {
    let newest = tx
        .prepare_cached("SELECT number FROM epoch")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(sql)?;
    let newest = of(newest)?;
    if newest == own {
        return Ok(());
    }
    Err(fenced(own, newest))
}

pub(crate) fn fenced(own: Epoch, newest: Epoch) -> StoreError {
    StoreError::Fenced {
        own: own.as_u64(),
        newest: newest.as_u64(),
    }
}

fn of(number: i64) -> Result<Epoch, StoreError> {
    u64::try_from(number)
        .map(Epoch::from_u64)
        .map_err(|error| corrupt("epoch", error))
}
