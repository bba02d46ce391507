//! Usage, balances and invoices.

use creto_metering::{Invoice, InvoiceId};
use creto_nhi::Hop;
use creto_types::{Commit, Money, Period, PrincipalName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::idempotency::Begun;
use crate::records::InvoiceIssued;
use crate::{
    BalanceAnswer, Call, Caller, GovernError, Governor, IdempotencyKey, InvoiceAnswer,
    InvoiceLineAnswer, InvoicedEvent, UsageAnswer, UsageLine,
};

/// Which usage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// First instant inside; the beginning when absent.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// First instant after; now when absent.
    #[serde(default)]
    pub to: Option<Timestamp>,
    /// Of one agent alone.
    #[serde(default)]
    pub agent: Option<PrincipalName>,
}

/// An invoice to issue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InvoiceRequest {
    /// First instant inside.
    pub from: Timestamp,
    /// First instant after; not in the future. Now when absent.
    #[serde(default)]
    pub to: Option<Timestamp>,
    /// Who pays; the caller when absent.
    #[serde(default)]
    pub customer: Option<PrincipalName>,
}

impl Governor {
    /// Settled usage by agent and action. An agent sees its own.
    pub async fn usage(
        &self,
        caller: &Caller,
        query: UsageQuery,
    ) -> Result<UsageAnswer, GovernError> {
        let now = self.now();
        caller.may(Call::GetUsage, now)?;
        let agent = match query.agent {
            asked if caller.is_human() => asked,
            None => Some(caller.name().clone()),
            Some(agent) if agent == *caller.name() => Some(agent),
            Some(_) => {
                return Err(GovernError::forbidden(
                    "an agent may read its own usage only",
                ));
            }
        };
        let from = query.from.unwrap_or(Timestamp::UNIX_EPOCH);
        let to = query.to.unwrap_or(now);
        let period = period(from, to)?;
        let meter = &self.parts.meter;
        let rows = meter.usage(caller.org(), period, agent).await?;
        let mut total = Money::zero(meter.prices().currency());
        let mut lines = Vec::with_capacity(rows.len());
        for row in rows {
            total = total
                .checked_add(&row.cost)
                .map_err(creto_metering::MeteringError::from)?;
            lines.push(UsageLine {
                agent: row.agent,
                action: row.action,
                events: row.events,
                units: row.units,
                cost: row.cost,
            });
        }
        Ok(UsageAnswer {
            from,
            to,
            lines,
            total,
        })
    }

    /// Issues an invoice over everything that was settled in the period and not
    /// billed before.
    pub async fn issue_invoice(
        &self,
        caller: &Caller,
        request: InvoiceRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<InvoiceAnswer, GovernError> {
        let now = self.now();
        caller.may(Call::IssueInvoice, now)?;
        caller.require_person("issue invoices")?;
        let ticket = match self.begin(caller, key, "invoice.issue", &request).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let period = period(request.from, request.to.unwrap_or(now))?;
        let customer = request.customer.unwrap_or_else(|| caller.name().clone());
        let meter = &self.parts.meter;
        let invoice = meter.draft_invoice(caller.org(), period, customer).await?;
        let answer = invoice_answer(&invoice);
        let evidence = self
            .record(
                caller.org(),
                caller.name(),
                "invoice.issued",
                None,
                &InvoiceIssued::of(&invoice)?,
            )
            .await?;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = meter.issue_invoice(invoice, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(caller.org(), &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Invoices after `after`, oldest first.
    pub async fn invoices(
        &self,
        caller: &Caller,
        after: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<InvoiceAnswer>, GovernError> {
        caller.may(Call::ListInvoices, self.now())?;
        caller.require_person("read invoices")?;
        let invoices = self
            .parts
            .meter
            .invoices(caller.org(), after, limit)
            .await?;
        Ok(invoices.iter().map(invoice_answer).collect())
    }

    /// One invoice.
    pub async fn invoice(
        &self,
        caller: &Caller,
        id: InvoiceId,
    ) -> Result<InvoiceAnswer, GovernError> {
        caller.may(Call::GetInvoice, self.now())?;
        caller.require_person("read invoices")?;
        let invoice = self.parts.meter.invoice(caller.org(), id).await?;
        invoice
            .as_ref()
            .map(invoice_answer)
            .ok_or(GovernError::NotFound { what: "invoice" })
    }

    pub(crate) fn balance(&self, hop: &Hop, now: Timestamp) -> Option<BalanceAnswer> {
        self.parts.meter.balance(hop, now).map(BalanceAnswer::from)
    }

    /// What the caller spent so far under the nearest budget of its chain.
    pub(crate) fn spent(&self, caller: &Caller) -> Option<Money> {
        let now = self.now();
        caller
            .identity()
            .hops
            .iter()
            .rev()
            .find_map(|hop| self.parts.meter.balance(hop, now)?.used.money())
    }

    pub(crate) fn price(&self, action: &str, units: u64) -> Result<Money, GovernError> {
        Ok(self
            .parts
            .meter
            .prices()
            .price(action)
            .checked_mul(units)
            .map_err(creto_metering::MeteringError::from)?)
    }
}

fn period(from: Timestamp, to: Timestamp) -> Result<Period, GovernError> {
    Period::new(from, to).map_err(|error| GovernError::invalid("from", error.to_string()))
}

fn invoice_answer(invoice: &Invoice) -> InvoiceAnswer {
    InvoiceAnswer {
        id: invoice.id.to_string(),
        number: invoice.number.to_string(),
        customer: invoice.customer.clone(),
        from: invoice.period.start(),
        to: invoice.period.end(),
        issued_at: invoice.issued_at,
        lines: invoice
            .lines
            .iter()
            .map(|line| InvoiceLineAnswer {
                agent: line.agent.clone(),
                action: line.action.clone(),
                quantity: line.quantity,
                unit_price: line.unit_price,
                amount: line.amount,
                events: line
                    .events
                    .iter()
                    .map(|event| InvoicedEvent {
                        event_id: event.event_id.to_string(),
                        action_id: event.action_id,
                        units: event.units,
                        leaf: event.leaf,
                    })
                    .collect(),
            })
            .collect(),
        total: invoice.total,
        leaf: invoice.leaf,
    }
}
