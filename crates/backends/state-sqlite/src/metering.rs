//! The ledger: reservations, events, invoices.

mod limits;

use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use creto_metering::{
    Entry, Event, EventId, EventQuery, Invoice, InvoiceId, LedgerStore, Limit, LimitId, NoticeKey,
    PricedUnits, RateId, RateRule, Reservation, Settlement, Spend, UsedQuery,
};
use creto_nhi::LinkId;
use creto_types::{
    ActionId, Commit, Currency, LeafIndex, Money, OrgId, Receipt, StoreError, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use rust_decimal::Decimal;

use crate::Database;
use crate::database::{apply_commit, corrupt, sql};

const RESERVATION: &str = "reservation";
const EVENT: &str = "event";
const INVOICE: &str = "invoice";

/// A [`LedgerStore`] in this database.
#[derive(Clone, Debug)]
pub struct SqliteLedger {
    db: Arc<Database>,
}

impl SqliteLedger {
    /// The ledger in this database.
    #[must_use]
    pub fn new(db: Arc<Database>) -> Self {
        Self { db }
    }
}

#[async_trait]
impl LedgerStore for SqliteLedger {
    async fn spends(&self, after: Option<EventId>, limit: usize) -> Result<Vec<Spend>, StoreError> {
        self.db
            .read(move |connection| {
                list(
                    connection,
                    "SELECT event_id, org, agent, action, units, hops, reserved_at, cost, currency
                     FROM ledger
                     WHERE event_id > :after ORDER BY event_id LIMIT :limit",
                    named_params! { ":after": text_after(after), ":limit": at_most(limit) },
                    |row| {
                        Ok(Spend {
                            event_id: parsed(row, "event_id", EVENT)?,
                            org: parsed(row, "org", EVENT)?,
                            agent: parsed(row, "agent", EVENT)?,
                            action: text(row, "action")?,
                            units: count(row, "units", EVENT)?,
                            hops: hops(row, EVENT)?,
                            reserved_at: parsed(row, "reserved_at", EVENT)?,
                            cost: money(row, "cost", EVENT)?,
                        })
                    },
                )
            })
            .await
    }

    async fn open_reservations(&self) -> Result<Vec<Reservation>, StoreError> {
        self.db
            .read(|connection| {
                list(
                    connection,
                    "SELECT * FROM reservations WHERE state = 'open' ORDER BY org, action_id",
                    [],
                    reservation,
                )
            })
            .await
    }

    async fn entry(&self, org: OrgId, action: ActionId) -> Result<Option<Entry>, StoreError> {
        self.db
            .read(move |connection| {
                let Some(state) = state_of(connection, org, action)? else {
                    return Ok(None);
                };
                match state.as_str() {
                    "open" => Ok(Some(Entry::Open)),
                    "released" => Ok(Some(Entry::Released)),
                    _ => {
                        let mut entries = list(
                            connection,
                            "SELECT cost, currency, units FROM ledger
                             WHERE org = :org AND action_id = :action",
                            named_params! {
                                ":org": org.to_string(),
                                ":action": action.to_string(),
                            },
                            |row| {
                                Ok(Entry::Settled {
                                    cost: money(row, "cost", EVENT)?,
                                    units: count(row, "units", EVENT)?,
                                })
                            },
                        )?;
                        let entry = entries
                            .pop()
                            .ok_or_else(|| corrupt(EVENT, "a settled action without its event"))?;
                        Ok(Some(entry))
                    }
                }
            })
            .await
    }

    async fn reserve(
        &self,
        reservation: Reservation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                insert_reservation(tx, &reservation)?;
                Ok(receipt)
            })
            .await
    }

    async fn settle(&self, settlement: Settlement, commit: Commit) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let leaf = receipt.leaf().ok_or(StoreError::NotFound {
                    what: "evidence record in the commit",
                })?;
                close(tx, settlement.org, settlement.action_id, "settled")?;
                insert_event(tx, &settlement, leaf)?;
                Ok(receipt)
            })
            .await
    }

    async fn release(
        &self,
        org: OrgId,
        action: ActionId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                close(tx, org, action, "released")?;
                Ok(receipt)
            })
            .await
    }

    async fn used(&self, org: OrgId, query: UsedQuery) -> Result<Vec<PricedUnits>, StoreError> {
        self.db
            .read(move |connection| limits::used(connection, org, &query))
            .await
    }

    async fn latest(&self, org: OrgId, query: UsedQuery) -> Result<Option<Timestamp>, StoreError> {
        self.db
            .read(move |connection| limits::latest(connection, org, &query))
            .await
    }

    async fn limits(&self) -> Result<Vec<Limit>, StoreError> {
        self.db.read(limits::all).await
    }

    async fn put_limit(&self, limit: Limit, commit: Commit) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                limits::put(tx, "limits", limit.org, &limit.id.to_string(), &limit)?;
                Ok(receipt)
            })
            .await
    }

    async fn remove_limit(
        &self,
        org: OrgId,
        id: LimitId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                limits::remove(tx, "limits", org, &id.to_string())?;
                Ok(receipt)
            })
            .await
    }

    async fn rates(&self) -> Result<Vec<RateRule>, StoreError> {
        self.db.read(limits::rates).await
    }

    async fn put_rate(&self, rule: RateRule, commit: Commit) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                limits::put(tx, "rates", rule.org, &rule.id.to_string(), &rule)?;
                Ok(receipt)
            })
            .await
    }

    async fn remove_rate(
        &self,
        org: OrgId,
        id: RateId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                limits::remove(tx, "rates", org, &id.to_string())?;
                Ok(receipt)
            })
            .await
    }

    async fn notice(&self, key: NoticeKey, commit: Commit) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                limits::notice(tx, &key)?;
                Ok(receipt)
            })
            .await
    }

    async fn events(
        &self,
        org: OrgId,
        query: EventQuery,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        self.db
            .read(move |connection| {
                let only = if query.uninvoiced {
                    "AND invoice IS NULL"
                } else {
                    ""
                };
                list(
                    connection,
                    &format!(
                        "SELECT * FROM ledger WHERE org = :org AND event_id > :after
                            AND settled_at >= :start AND settled_at < :end
                            AND (:agent IS NULL OR agent = :agent)
                            AND (:customer IS NULL OR customer = :customer) {only}
                         ORDER BY event_id LIMIT :limit"
                    ),
                    named_params! {
                        ":org": org.to_string(),
                        ":after": text_after(after),
                        ":start": instant(query.period.start()),
                        ":end": instant(query.period.end()),
                        ":agent": query.agent.as_ref().map(ToString::to_string),
                        ":customer": query.customer.as_ref().map(ToString::to_string),
                        ":limit": at_most(limit),
                    },
                    event,
                )
            })
            .await
    }

    async fn last_invoice_number(&self, org: OrgId) -> Result<u64, StoreError> {
        self.db
            .read(move |connection| last_number(connection, org))
            .await
    }

    async fn issue(&self, mut invoice: Invoice, commit: Commit) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                if invoice.number != last_number(tx, invoice.org)?.saturating_add(1) {
                    return Err(StoreError::Conflict { what: INVOICE });
                }
                for event in invoice.lines.iter().flat_map(|line| &line.events) {
                    bill(tx, invoice.org, event.event_id, invoice.id)?;
                }
                invoice.leaf = receipt.leaf();
                insert_invoice(tx, &invoice)?;
                Ok(receipt)
            })
            .await
    }

    async fn invoice(&self, org: OrgId, id: InvoiceId) -> Result<Option<Invoice>, StoreError> {
        self.db
            .read(move |connection| {
                let mut found = list(
                    connection,
                    "SELECT body FROM invoices WHERE org = :org AND id = :id",
                    named_params! { ":org": org.to_string(), ":id": id.to_string() },
                    invoice,
                )?;
                Ok(found.pop())
            })
            .await
    }

    async fn invoices(
        &self,
        org: OrgId,
        after: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<Invoice>, StoreError> {
        self.db
            .read(move |connection| {
                list(
                    connection,
                    "SELECT body FROM invoices WHERE org = :org AND id > :after
                     ORDER BY id LIMIT :limit",
                    named_params! {
                        ":org": org.to_string(),
                        ":after": text_after(after),
                        ":limit": at_most(limit),
                    },
                    invoice,
                )
            })
            .await
    }
}

fn insert_reservation(tx: &Transaction<'_>, reservation: &Reservation) -> Result<(), StoreError> {
    let added = tx
        .prepare_cached(
            "INSERT INTO reservations (org, action_id, agent, customer, action, units,
                unit_price, cost, currency, hops, reserved_at, expires_at, overage, state)
             VALUES (:org, :action_id, :agent, :customer, :action, :units,
                :unit_price, :cost, :currency, :hops, :reserved_at, :expires_at, :overage,
                'open')
             ON CONFLICT DO NOTHING",
        )
        .and_then(|mut statement| {
            statement.execute(named_params! {
                ":org": reservation.org.to_string(),
                ":action_id": reservation.action_id.to_string(),
                ":agent": reservation.agent.as_str(),
                ":customer": reservation.customer.as_str(),
                ":action": reservation.action,
                ":units": signed(reservation.units),
                ":unit_price": reservation.unit_price.amount().to_string(),
                ":cost": reservation.cost.amount().to_string(),
                ":currency": reservation.cost.currency().code(),
                ":hops": hops_text(&reservation.hops),
                ":reserved_at": instant(reservation.reserved_at),
                ":expires_at": instant(reservation.expires_at),
                ":overage": reservation.overage,
            })
        })
        .map_err(sql)?;
    changed_one(added, RESERVATION)
}

fn insert_event(
    tx: &Transaction<'_>,
    settlement: &Settlement,
    leaf: LeafIndex,
) -> Result<(), StoreError> {
    let added = tx
        .prepare_cached(
            "INSERT INTO ledger (event_id, org, action_id, agent, customer, action, units,
                unit_price, cost, currency, hops, reserved_at, settled_at, leaf, overage)
             VALUES (:event_id, :org, :action_id, :agent, :customer, :action, :units,
                :unit_price, :cost, :currency, :hops, :reserved_at, :settled_at, :leaf, :overage)
             ON CONFLICT DO NOTHING",
        )
        .and_then(|mut statement| {
            statement.execute(named_params! {
                ":event_id": settlement.event_id.to_string(),
                ":org": settlement.org.to_string(),
                ":action_id": settlement.action_id.to_string(),
                ":agent": settlement.agent.as_str(),
                ":customer": settlement.customer.as_str(),
                ":action": settlement.action,
                ":units": signed(settlement.units),
                ":unit_price": settlement.unit_price.amount().to_string(),
                ":cost": settlement.cost.amount().to_string(),
                ":currency": settlement.cost.currency().code(),
                ":hops": hops_text(&settlement.hops),
                ":reserved_at": instant(settlement.reserved_at),
                ":settled_at": instant(settlement.settled_at),
                ":leaf": signed(leaf.0),
                ":overage": settlement.overage,
            })
        })
        .map_err(sql)?;
    changed_one(added, EVENT)
}

/// Takes the reservation out of the open state.
fn close(
    tx: &Transaction<'_>,
    org: OrgId,
    action: ActionId,
    state: &str,
) -> Result<(), StoreError> {
    let changed = tx
        .prepare_cached(
            "UPDATE reservations SET state = ?3
             WHERE org = ?1 AND action_id = ?2 AND state = 'open'",
        )
        .and_then(|mut statement| {
            statement.execute(params![org.to_string(), action.to_string(), state])
        })
        .map_err(sql)?;
    if changed == 0 && state_of(tx, org, action)?.is_none() {
        return Err(StoreError::NotFound { what: RESERVATION });
    }
    changed_one(changed, RESERVATION)
}

/// Marks the event as billed by the invoice.
fn bill(
    tx: &Transaction<'_>,
    org: OrgId,
    event: EventId,
    invoice: InvoiceId,
) -> Result<(), StoreError> {
    let (org, event) = (org.to_string(), event.to_string());
    let changed = tx
        .prepare_cached(
            "UPDATE ledger SET invoice = ?3
             WHERE org = ?1 AND event_id = ?2 AND invoice IS NULL",
        )
        .and_then(|mut statement| statement.execute(params![org, event, invoice.to_string()]))
        .map_err(sql)?;
    if changed == 0 {
        let known: bool = tx
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM ledger WHERE org = ?1 AND event_id = ?2)")
            .and_then(|mut statement| statement.query_row([&org, &event], |row| row.get(0)))
            .map_err(sql)?;
        if !known {
            return Err(StoreError::NotFound { what: EVENT });
        }
    }
    changed_one(changed, EVENT)
}

fn insert_invoice(tx: &Transaction<'_>, invoice: &Invoice) -> Result<(), StoreError> {
    let body = serde_json::to_string(invoice).map_err(|e| corrupt(INVOICE, e))?;
    let added = tx
        .prepare_cached(
            "INSERT INTO invoices (org, id, number, body) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                invoice.org.to_string(),
                invoice.id.to_string(),
                signed(invoice.number),
                body,
            ])
        })
        .map_err(sql)?;
    changed_one(added, INVOICE)
}

fn last_number(connection: &Connection, org: OrgId) -> Result<u64, StoreError> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(number) FROM invoices WHERE org = ?1")
        .and_then(|mut statement| statement.query_row([org.to_string()], |row| row.get(0)))
        .map_err(sql)?;
    last.map_or(Ok(0), |last| {
        u64::try_from(last).map_err(|e| corrupt(INVOICE, e))
    })
}

fn state_of(
    connection: &Connection,
    org: OrgId,
    action: ActionId,
) -> Result<Option<String>, StoreError> {
    connection
        .prepare_cached("SELECT state FROM reservations WHERE org = ?1 AND action_id = ?2")
        .and_then(|mut statement| {
            statement
                .query_row([org.to_string(), action.to_string()], |row| row.get(0))
                .optional()
        })
        .map_err(sql)
}

fn changed_one(rows: usize, what: &'static str) -> Result<(), StoreError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict { what })
    }
}

fn list<T>(
    connection: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(query).map_err(sql)?;
    let mut rows = statement.query(parameters).map_err(sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn reservation(row: &Row<'_>) -> Result<Reservation, StoreError> {
    Ok(Reservation {
        org: parsed(row, "org", RESERVATION)?,
        action_id: parsed(row, "action_id", RESERVATION)?,
        agent: parsed(row, "agent", RESERVATION)?,
        customer: parsed(row, "customer", RESERVATION)?,
        action: text(row, "action")?,
        units: count(row, "units", RESERVATION)?,
        unit_price: money(row, "unit_price", RESERVATION)?,
        cost: money(row, "cost", RESERVATION)?,
        hops: hops(row, RESERVATION)?,
        reserved_at: parsed(row, "reserved_at", RESERVATION)?,
        expires_at: parsed(row, "expires_at", RESERVATION)?,
        overage: row.get("overage").map_err(sql)?,
    })
}

fn event(row: &Row<'_>) -> Result<Event, StoreError> {
    let invoice: Option<String> = row.get("invoice").map_err(sql)?;
    Ok(Event {
        settlement: Settlement {
            org: parsed(row, "org", EVENT)?,
            event_id: parsed(row, "event_id", EVENT)?,
            action_id: parsed(row, "action_id", EVENT)?,
            agent: parsed(row, "agent", EVENT)?,
            customer: parsed(row, "customer", EVENT)?,
            action: text(row, "action")?,
            units: count(row, "units", EVENT)?,
            unit_price: money(row, "unit_price", EVENT)?,
            cost: money(row, "cost", EVENT)?,
            hops: hops(row, EVENT)?,
            reserved_at: parsed(row, "reserved_at", EVENT)?,
            settled_at: parsed(row, "settled_at", EVENT)?,
            overage: row.get("overage").map_err(sql)?,
        },
        leaf: LeafIndex(count(row, "leaf", EVENT)?),
        invoice: invoice
            .map(|id| id.parse().map_err(|e| corrupt(EVENT, e)))
            .transpose()?,
    })
}

fn invoice(row: &Row<'_>) -> Result<Invoice, StoreError> {
    serde_json::from_str(&text(row, "body")?).map_err(|e| corrupt(INVOICE, e))
}

fn text(row: &Row<'_>, column: &str) -> Result<String, StoreError> {
    row.get(column).map_err(sql)
}

fn parsed<T>(row: &Row<'_>, column: &str, what: &'static str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    text(row, column)?.parse().map_err(|e| corrupt(what, e))
}

fn money(row: &Row<'_>, column: &str, what: &'static str) -> Result<Money, StoreError> {
    let amount = Decimal::from_str_exact(&text(row, column)?).map_err(|e| corrupt(what, e))?;
    let currency: Currency = parsed(row, "currency", what)?;
    Ok(Money::new(amount, currency))
}

fn count(row: &Row<'_>, column: &str, what: &'static str) -> Result<u64, StoreError> {
    let number: i64 = row.get(column).map_err(sql)?;
    u64::try_from(number).map_err(|e| corrupt(what, e))
}

fn hops(row: &Row<'_>, what: &'static str) -> Result<Vec<LinkId>, StoreError> {
    serde_json::from_str(&text(row, "hops")?).map_err(|e| corrupt(what, e))
}

fn hops_text(hops: &[LinkId]) -> String {
    serde_json::json!(hops).to_string()
}

/// Sorts as text in the order of time.
fn instant(at: Timestamp) -> String {
    format!("{at:.9}")
}

fn text_after<I: ToString>(id: Option<I>) -> String {
    id.map_or_else(String::new, |id| id.to_string())
}

/// A count as SQLite keeps it; the meter reserves no more than fits.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
