//! Limits, rates, notices, and what limits count.

use creto_metering::{Limit, NoticeKey, PricedUnits, RateRule, Scope, UsedQuery};
use creto_types::{OrgId, StoreError, Timestamp};
use rusqlite::{Connection, Transaction, named_params, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{EVENT, changed_one, count, instant, list, money, parsed, text};
use crate::database::{corrupt, sql};

/// Units by price: the cost of each event is its units times its price, so this is
/// exact, and short.
pub(super) fn used(
    connection: &Connection,
    org: OrgId,
    query: &UsedQuery,
) -> Result<Vec<PricedUnits>, StoreError> {
    let (agent, link) = agent_or_link(query);
    list(
        connection,
        &format!(
            "SELECT unit_price, currency, sum(units) AS units FROM ledger
             WHERE {MATCHING} GROUP BY unit_price, currency"
        ),
        named_params! {
            ":org": org.to_string(),
            ":since": query.since.map(instant).unwrap_or_default(),
            ":until": query.until.map(instant),
            ":agent": agent,
            ":link": link,
            ":event": query.event,
        },
        |row| {
            Ok(PricedUnits {
                unit_price: money(row, "unit_price", EVENT)?,
                units: count(row, "units", EVENT)?,
            })
        },
    )
}

/// When the latest of them was decided.
pub(super) fn latest(
    connection: &Connection,
    org: OrgId,
    query: &UsedQuery,
) -> Result<Option<Timestamp>, StoreError> {
    let (agent, link) = agent_or_link(query);
    let mut found = list(
        connection,
        &format!(
            "SELECT reserved_at FROM ledger WHERE {MATCHING}
             ORDER BY reserved_at DESC LIMIT 1"
        ),
        named_params! {
            ":org": org.to_string(),
            ":since": query.since.map(instant).unwrap_or_default(),
            ":until": query.until.map(instant),
            ":agent": agent,
            ":link": link,
            ":event": query.event,
        },
        |row| parsed(row, "reserved_at", EVENT),
    )?;
    Ok(found.pop())
}

/// What makes an event match a [`UsedQuery`].
const MATCHING: &str = "org = :org AND reserved_at >= :since
    AND (:until IS NULL OR reserved_at < :until)
    AND (:agent IS NULL OR agent = :agent)
    AND (:link IS NULL OR instr(hops, :link) > 0)
    AND (:event IS NULL OR action = :event)";

fn agent_or_link(query: &UsedQuery) -> (Option<String>, Option<String>) {
    match &query.scope {
        Scope::Organization => (None, None),
        Scope::Agent(name) => (Some(name.to_string()), None),
        // Ids are of one length, so one is never a part of another.
        Scope::Delegation { link, .. } => (None, Some(link.to_string())),
    }
}

pub(super) fn all(connection: &Connection) -> Result<Vec<Limit>, StoreError> {
    bodies(
        connection,
        "SELECT body FROM limits ORDER BY org, id",
        "limit",
    )
}

pub(super) fn rates(connection: &Connection) -> Result<Vec<RateRule>, StoreError> {
    bodies(
        connection,
        "SELECT body FROM rates ORDER BY org, id",
        "rate",
    )
}

fn bodies<T: DeserializeOwned>(
    connection: &Connection,
    query: &str,
    what: &'static str,
) -> Result<Vec<T>, StoreError> {
    list(connection, query, [], |row| {
        serde_json::from_str(&text(row, "body")?).map_err(|e| corrupt(what, e))
    })
}

pub(super) fn put(
    tx: &Transaction<'_>,
    table: &'static str,
    org: OrgId,
    id: &str,
    value: &impl Serialize,
) -> Result<(), StoreError> {
    let body = serde_json::to_string(value).map_err(|e| corrupt(table, e))?;
    let put = format!(
        "INSERT INTO {table} (org, id, body) VALUES (?1, ?2, ?3)
         ON CONFLICT (org, id) DO UPDATE SET body = excluded.body"
    );
    let rows = tx
        .prepare_cached(&put)
        .and_then(|mut statement| statement.execute(params![org.to_string(), id, body]))
        .map_err(sql)?;
    changed_one(rows, table)
}

pub(super) fn remove(
    tx: &Transaction<'_>,
    table: &'static str,
    org: OrgId,
    id: &str,
) -> Result<(), StoreError> {
    let rows = tx
        .prepare_cached(&format!("DELETE FROM {table} WHERE org = ?1 AND id = ?2"))
        .and_then(|mut statement| statement.execute(params![org.to_string(), id]))
        .map_err(sql)?;
    if rows == 1 {
        Ok(())
    } else {
        let what = if table == "limits" { "limit" } else { "rate" };
        Err(StoreError::NotFound { what })
    }
}

pub(super) fn notice(tx: &Transaction<'_>, key: &NoticeKey) -> Result<(), StoreError> {
    let rows = tx
        .prepare_cached(
            "INSERT INTO limit_notices (org, limit_id, window_start, most, threshold)
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                key.org.to_string(),
                key.limit.to_string(),
                key.window_start.map(instant).unwrap_or_default(),
                key.most.to_string(),
                key.threshold,
            ])
        })
        .map_err(sql)?;
    changed_one(rows, "notice")
}
