//! A ledger in memory, for tests.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use creto_types::memory::MemoryCommits;
use creto_types::{ActionId, Commit, OrgId, Receipt, StoreError, Timestamp};
use parking_lot::Mutex;

use crate::limits::{Limit, LimitId, NoticeKey, RateId, RateRule, Scope};
use crate::model::{Event, EventId, Invoice, InvoiceId, Reservation, Settlement};
use crate::ports::{Entry, EventQuery, LedgerStore, PricedUnits, Spend, UsedQuery};

/// Obeys the whole contract of [`LedgerStore`] but durability.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    commits: Arc<MemoryCommits>,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    reservations: BTreeMap<(OrgId, ActionId), (Reservation, State)>,
    events: BTreeMap<EventId, Event>,
    invoices: BTreeMap<(OrgId, InvoiceId), Invoice>,
    limits: BTreeMap<LimitId, Limit>,
    rates: BTreeMap<RateId, RateRule>,
    notices: HashSet<NoticeKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Settled(EventId),
    Released,
}

impl MemoryLedger {
    /// An empty ledger over this journal.
    #[must_use]
    pub fn new(commits: Arc<MemoryCommits>) -> Self {
        Self {
            commits,
            tables: Mutex::default(),
        }
    }
}

impl MemoryLedger {
    /// A repeated commit is answered before the state it would find is judged.
    fn not_replayed(&self, commit: &Commit) -> Result<(), StoreError> {
        let Some(record) = &commit.idempotency else {
            return Ok(());
        };
        match self.commits.reply(record.org, &record.caller, &record.key) {
            Some(reply) => Err(StoreError::Replayed(Box::new(reply))),
            None => Ok(()),
        }
    }
}

const RESERVATION: &str = "reservation";

impl Tables {
    fn last_number(&self, org: OrgId) -> u64 {
        let invoices = self.invoices.values().filter(|i| i.org == org);
        invoices.map(|invoice| invoice.number).max().unwrap_or(0)
    }

    fn matching<'a>(
        &'a self,
        org: OrgId,
        query: &'a UsedQuery,
    ) -> impl Iterator<Item = &'a Settlement> {
        let events = self.events.values().map(|event| &event.settlement);
        events.filter(move |used| {
            let of_scope = match &query.scope {
                Scope::Organization => true,
                Scope::Agent(name) => used.agent == *name,
                Scope::Delegation { link, .. } => used.hops.contains(link),
            };
            let of_event = query.event.as_ref();
            used.org == org
                && of_scope
                && of_event.is_none_or(|event| *event == used.action)
                && query.since.is_none_or(|since| used.reserved_at >= since)
                && query.until.is_none_or(|until| used.reserved_at < until)
        })
    }

    fn open(
        &mut self,
        org: OrgId,
        action: ActionId,
    ) -> Result<&mut (Reservation, State), StoreError> {
        let row = self
            .reservations
            .get_mut(&(org, action))
            .ok_or(StoreError::NotFound { what: RESERVATION })?;
        if row.1 == State::Open {
            Ok(row)
        } else {
            Err(StoreError::Conflict { what: RESERVATION })
        }
    }
}

#[async_trait]
impl LedgerStore for MemoryLedger {
    async fn spends(&self, after: Option<EventId>, limit: usize) -> Result<Vec<Spend>, StoreError> {
        let tables = self.tables.lock();
        Ok(tables
            .events
            .values()
            .map(|event| &event.settlement)
            .filter(|used| after.is_none_or(|after| used.event_id > after))
            .take(limit)
            .map(|used| Spend {
                event_id: used.event_id,
                org: used.org,
                agent: used.agent.clone(),
                action: used.action.clone(),
                units: used.units,
                hops: used.hops.clone(),
                reserved_at: used.reserved_at,
                cost: used.cost,
            })
            .collect())
    }

    async fn open_reservations(&self) -> Result<Vec<Reservation>, StoreError> {
        let tables = self.tables.lock();
        Ok(tables
            .reservations
            .values()
            .filter(|(_, state)| *state == State::Open)
            .map(|(reservation, _)| reservation.clone())
            .collect())
    }

    async fn entry(&self, org: OrgId, action: ActionId) -> Result<Option<Entry>, StoreError> {
        let tables = self.tables.lock();
        let Some((_, state)) = tables.reservations.get(&(org, action)) else {
            return Ok(None);
        };
        Ok(Some(match state {
            State::Open => Entry::Open,
            State::Released => Entry::Released,
            State::Settled(event) => {
                let event = tables.events.get(event);
                let used = &event
                    .ok_or(StoreError::NotFound { what: "event" })?
                    .settlement;
                Entry::Settled {
                    cost: used.cost,
                    units: used.units,
                }
            }
        }))
    }

    async fn reserve(
        &self,
        reservation: Reservation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut tables = self.tables.lock();
        self.not_replayed(&commit)?;
        let key = (reservation.org, reservation.action_id);
        if tables.reservations.contains_key(&key) {
            return Err(StoreError::Conflict { what: RESERVATION });
        }
        let receipt = self.commits.apply(&commit)?;
        tables.reservations.insert(key, (reservation, State::Open));
        Ok(receipt)
    }

    async fn settle(&self, settlement: Settlement, commit: Commit) -> Result<Receipt, StoreError> {
        let mut tables = self.tables.lock();
        self.not_replayed(&commit)?;
        if tables.events.contains_key(&settlement.event_id) {
            return Err(StoreError::Conflict { what: "event" });
        }
        let row = tables.open(settlement.org, settlement.action_id)?;
        let receipt = self.commits.apply(&commit)?;
        let leaf = receipt.leaf().ok_or(StoreError::NotFound {
            what: "evidence record in the commit",
        })?;
        row.1 = State::Settled(settlement.event_id);
        tables.events.insert(
            settlement.event_id,
            Event {
                settlement,
                leaf,
                invoice: None,
            },
        );
        Ok(receipt)
    }

    async fn release(
        &self,
        org: OrgId,
        action: ActionId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut tables = self.tables.lock();
        self.not_replayed(&commit)?;
        let row = tables.open(org, action)?;
        let receipt = self.commits.apply(&commit)?;
        row.1 = State::Released;
        Ok(receipt)
    }

    async fn used(&self, org: OrgId, query: UsedQuery) -> Result<Vec<PricedUnits>, StoreError> {
        let tables = self.tables.lock();
        Ok(tables
            .matching(org, &query)
            .map(|used| PricedUnits {
                unit_price: used.unit_price,
                units: used.units,
            })
            .collect())
    }

    async fn latest(&self, org: OrgId, query: UsedQuery) -> Result<Option<Timestamp>, StoreError> {
        let tables = self.tables.lock();
        Ok(tables
            .matching(org, &query)
            .map(|used| used.reserved_at)
            .max())
    }

    async fn limits(&self) -> Result<Vec<Limit>, StoreError> {
        Ok(self.tables.lock().limits.values().cloned().collect())
    }

    async fn put_limit(&self, limit: Limit, commit: Commit) -> Result<Receipt, StoreError> {
        let mut tables = self.tables.lock();
        self.not_replayed(&commit)?;
        let receipt = self.commits.apply(&commit)?;
        tables.limits.insert(limit.id, limit);
        Ok(receipt)
    }

    async fn remove_limit(
        &self,
        org: OrgId,
        id: LimitId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut tables = self.tables.lock();
        self.not_replayed(&commit)?;
        if tables.limits.get(&id).is_none_or(|limit| limit.org != org) {
            return Err(StoreError::NotFound { what: "limit" });
        }
        let receipt = self.commits.apply(&commit)?;
        tables.limits.remove(&id);
        Ok(receipt)
    }

    async fn rates(&self) -> Result<Vec<RateRule>, StoreError> {
        Ok(self.tables.lock().rates.values().cloned().collect())
    }

    async fn put_rate(&self, rule: RateRule, commit: Commit) -> Result<Receipt, StoreError> {
        let mut tables = self.tables.lock();
        self.not_replayed(&commit)?;
        let receipt = self.commits.apply(&commit)?;
        tables.rates.insert(rule.id, rule);
        Ok(receipt)
    }

    async fn remove_rate(
        &self,
        org: OrgId,
        id: RateId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut tables = self.tables.lock();
        self.not_replayed(&commit)?;
        if tables.rates.get(&id).is_none_or(|rule| rule.org != org) {
            return Err(StoreError::NotFound { what: "rate" });
        }
        let receipt = self.commits.apply(&commit)?;
        tables.rates.remove(&id);
        Ok(receipt)
    }

    async fn notice(&self, key: NoticeKey, commit: Commit) -> Result<Receipt, StoreError> {
        let mut tables = self.tables.lock();
        self.not_replayed(&commit)?;
        if tables.notices.contains(&key) {
            return Err(StoreError::Conflict { what: "notice" });
        }
        let receipt = self.commits.apply(&commit)?;
        tables.notices.insert(key);
        Ok(receipt)
    }

    async fn events(
        &self,
        org: OrgId,
        query: EventQuery,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let tables = self.tables.lock();
        Ok(tables
            .events
            .values()
            .filter(|event| {
                let used = &event.settlement;
                used.org == org
                    && after.is_none_or(|after| used.event_id > after)
                    && query.period.contains(used.settled_at)
                    && query.agent.as_ref().is_none_or(|a| *a == used.agent)
                    && query.customer.as_ref().is_none_or(|c| *c == used.customer)
                    && !(query.uninvoiced && event.invoice.is_some())
            })
            .take(limit)
            .cloned()
            .collect())
    }

    async fn last_invoice_number(&self, org: OrgId) -> Result<u64, StoreError> {
        Ok(self.tables.lock().last_number(org))
    }

    async fn issue(&self, mut invoice: Invoice, commit: Commit) -> Result<Receipt, StoreError> {
        let mut tables = self.tables.lock();
        self.not_replayed(&commit)?;
        if invoice.number != tables.last_number(invoice.org).saturating_add(1) {
            return Err(StoreError::Conflict { what: "invoice" });
        }
        let events: Vec<EventId> = invoice
            .lines
            .iter()
            .flat_map(|line| line.events.iter().map(|event| event.event_id))
            .collect();
        for id in &events {
            match tables.events.get(id) {
                Some(event) if event.settlement.org != invoice.org => {
                    return Err(StoreError::NotFound { what: "event" });
                }
                None => return Err(StoreError::NotFound { what: "event" }),
                Some(event) if event.invoice.is_some() => {
                    return Err(StoreError::Conflict { what: "event" });
                }
                Some(_) => {}
            }
        }
        let mut seen = events.clone();
        seen.sort_unstable();
        seen.dedup();
        if seen.len() != events.len() {
            return Err(StoreError::Conflict { what: "event" });
        }
        let receipt = self.commits.apply(&commit)?;
        for id in &events {
            if let Some(event) = tables.events.get_mut(id) {
                event.invoice = Some(invoice.id);
            }
        }
        invoice.leaf = receipt.leaf();
        tables.invoices.insert((invoice.org, invoice.id), invoice);
        Ok(receipt)
    }

    async fn invoice(&self, org: OrgId, id: InvoiceId) -> Result<Option<Invoice>, StoreError> {
        Ok(self.tables.lock().invoices.get(&(org, id)).cloned())
    }

    async fn invoices(
        &self,
        org: OrgId,
        after: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<Invoice>, StoreError> {
        let tables = self.tables.lock();
        Ok(tables
            .invoices
            .values()
            .filter(|invoice| invoice.org == org && after.is_none_or(|after| invoice.id > after))
            .take(limit)
            .cloned()
            .collect())
    }
}
