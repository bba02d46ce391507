//! Principals that were revoked.

use creto_nhi::StoredExpulsion;
use creto_types::{Commit, PrincipalName, Receipt, StoreError};
use rusqlite::{Connection, Transaction, params};

use crate::database::{apply_commit, sql};
use crate::load::Which;
use crate::nhi::{exists, field, known_principal, one};
use crate::subjects::Change;

pub(crate) fn expel(
    tx: &Change<'_>,
    row: &StoredExpulsion,
    commit: &Commit,
) -> Result<Receipt, StoreError> {
    let receipt = apply_commit(tx, commit)?;
    let org = row.org.to_string();
    known_principal(tx, &org, &row.principal)?;
    let added = tx
        .prepare_cached("INSERT OR IGNORE INTO expulsions (org, principal, at) VALUES (?1, ?2, ?3)")
        .and_then(|mut s| s.execute(params![org, row.principal.as_str(), row.at.to_string()]))
        .map_err(sql)?;
    one(added, "revocation")?;
    Ok(receipt)
}

/// Refuses what is not done any more with somebody who was revoked.
pub(crate) fn not_expelled(
    tx: &Transaction<'_>,
    org: &str,
    principal: &PrincipalName,
) -> Result<(), StoreError> {
    let expelled = exists(
        tx,
        "SELECT 1 FROM expulsions WHERE org = ?1 AND principal = ?2",
        params![org, principal.as_str()],
    )?;
    if expelled {
        return Err(StoreError::Conflict { what: "principal" });
    }
    Ok(())
}

pub(crate) fn load_expulsions(
    connection: &Connection,
    which: &Which,
) -> Result<Vec<StoredExpulsion>, StoreError> {
    let text = which.of(
        "SELECT org, principal, at FROM expulsions",
        "principal",
        "org, principal",
    );
    let mut statement = connection.prepare_cached(&text).map_err(sql)?;
    let mut rows = statement.query(which.params()).map_err(sql)?;
    let mut expulsions = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        expulsions.push(StoredExpulsion {
            org: field(row, 0, "revocation")?,
            principal: field(row, 1, "revocation")?,
            at: field(row, 2, "revocation")?,
        });
    }
    Ok(expulsions)
}
