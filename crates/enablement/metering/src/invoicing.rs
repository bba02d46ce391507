//! Usage and invoices: what is read from the ledger.

use std::collections::BTreeMap;

use creto_types::{Commit, Money, MoneyError, OrgId, Period, PrincipalName, Receipt};

use crate::amount::Amount;
use crate::error::MeteringError;
use crate::model::{Event, Invoice, InvoiceId, InvoiceLine, InvoicedEvent, UsageRow};
use crate::ports::EventQuery;
use crate::service::Meter;

/// Events read at once.
const PAGE: usize = 1_024;

/// What makes one invoice line: agent, action and unit price.
type LineKey = (PrincipalName, String, Amount);

impl Meter {
    /// What was settled in the period, by agent and action.
    pub async fn usage(
        &self,
        org: OrgId,
        period: Period,
        agent: Option<PrincipalName>,
    ) -> Result<Vec<UsageRow>, MeteringError> {
        let query = EventQuery {
            period,
            agent,
            customer: None,
            uninvoiced: false,
        };
        let mut sums: BTreeMap<(PrincipalName, String), (u64, u64, Amount)> = BTreeMap::new();
        self.each_event(org, query, |event| {
            let used = event.settlement;
            let cost = self.core().own(&used.cost)?;
            let sum = sums.entry((used.agent, used.action)).or_default();
            let units = sum.1.checked_add(used.units);
            sum.0 = sum.0.saturating_add(1);
            sum.1 = units.ok_or(MoneyError::Overflow)?;
            sum.2 = sum.2.plus(cost).ok_or(MoneyError::Overflow)?;
            Ok(())
        })
        .await?;
        let currency = self.prices().currency();
        sums.into_iter()
            .map(|((agent, action), (events, units, cost))| {
                Ok(UsageRow {
                    agent,
                    action,
                    events,
                    units,
                    cost: cost.money(currency)?,
                })
            })
            .collect()
    }

    /// The next invoice of the organization, over the customer's events that were
    /// settled in the period and are not billed yet. Changes nothing.
    ///
    /// An event that becomes durable while this runs may be left for a later
    /// invoice over the same period; none is lost and none is billed twice.
    pub async fn draft_invoice(
        &self,
        org: OrgId,
        period: Period,
        customer: PrincipalName,
    ) -> Result<Invoice, MeteringError> {
        let issued_at = self.core().clock.now();
        if period.end() > issued_at {
            return Err(MeteringError::PeriodNotOver { end: period.end() });
        }
        let query = EventQuery {
            period,
            agent: None,
            customer: Some(customer.clone()),
            uninvoiced: true,
        };
        let mut lines: BTreeMap<LineKey, (u64, Vec<InvoicedEvent>)> = BTreeMap::new();
        self.each_event(org, query, |event| {
            let used = event.settlement;
            let price = self.core().own(&used.unit_price)?;
            let (quantity, events) = lines.entry((used.agent, used.action, price)).or_default();
            *quantity = quantity
                .checked_add(used.units)
                .ok_or(MoneyError::Overflow)?;
            events.push(InvoicedEvent {
                event_id: used.event_id,
                action_id: used.action_id,
                units: used.units,
                leaf: event.leaf,
            });
            Ok(())
        })
        .await?;
        if lines.is_empty() {
            return Err(MeteringError::NothingToInvoice { customer, period });
        }
        let currency = self.prices().currency();
        let mut total = Money::zero(currency).round_to_minor_unit();
        let lines = lines
            .into_iter()
            .map(|((agent, action, price), (quantity, mut events))| {
                events.sort_by_key(|event| event.leaf);
                let exact = price.times(quantity).ok_or(MoneyError::Overflow)?;
                let amount = exact.money(currency)?.round_to_minor_unit();
                total = total.checked_add(&amount)?;
                Ok(InvoiceLine {
                    agent,
                    action,
                    quantity,
                    unit_price: price.money(currency)?,
                    amount,
                    events,
                })
            })
            .collect::<Result<Vec<_>, MeteringError>>()?;
        let last = self.core().store.last_invoice_number(org).await?;
        Ok(Invoice {
            id: self.core().ids.next(),
            number: last.checked_add(1).ok_or(MoneyError::Overflow)?,
            org,
            customer,
            period,
            issued_at,
            lines,
            total,
            leaf: None,
        })
    }

    /// Issues the invoice. A conflict means that another invoice was issued since
    /// it was drafted: draft it again.
    pub async fn issue_invoice(
        &self,
        invoice: Invoice,
        commit: Commit,
    ) -> Result<Receipt, MeteringError> {
        if !commit
            .evidence
            .iter()
            .any(|record| record.org == invoice.org)
        {
            return Err(MeteringError::EvidenceRequired);
        }
        Ok(self.core().store.issue(invoice, commit).await?)
    }

    /// One invoice of the organization.
    pub async fn invoice(
        &self,
        org: OrgId,
        id: InvoiceId,
    ) -> Result<Option<Invoice>, MeteringError> {
        Ok(self.core().store.invoice(org, id).await?)
    }

    /// The organization's invoices in the order of their ids.
    pub async fn invoices(
        &self,
        org: OrgId,
        after: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<Invoice>, MeteringError> {
        Ok(self.core().store.invoices(org, after, limit).await?)
    }

    async fn each_event(
        &self,
        org: OrgId,
        query: EventQuery,
        mut visit: impl FnMut(Event) -> Result<(), MeteringError>,
    ) -> Result<(), MeteringError> {
        let mut after = None;
        loop {
            let store = &self.core().store;
            let page = store.events(org, query.clone(), after, PAGE).await?;
            let full = page.len() >= PAGE;
            for event in page {
                after = Some(event.settlement.event_id);
                visit(event)?;
            }
            if !full {
                return Ok(());
            }
        }
    }
}
