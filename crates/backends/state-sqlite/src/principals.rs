//! Principals that were revoked.

use creto_nhi::StoredExpulsion;
use creto_types::{Commit, Receipt, StoreError};
use rusqlite::{Connection, params};

use crate::database::{apply_commit, sql};
use crate::nhi::{field, known_principal, one};
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

pub(crate) fn load_expulsions(connection: &Connection) -> Result<Vec<StoredExpulsion>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT org, principal, at FROM expulsions ORDER BY org, principal")
        .map_err(sql)?;
    let mut rows = statement.query([]).map_err(sql)?;
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
