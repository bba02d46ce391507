//! Reservations, the events they become, and invoices over events.

use creto_nhi::LinkId;
use creto_types::{
    ActionId, Id, IdKind, LeafIndex, Money, OrgId, Period, PrincipalName, Quantity, Timestamp,
};
use serde::{Deserialize, Serialize};

/// The kind of [`EventId`].
#[derive(Debug)]
pub enum EventKind {}

impl IdKind for EventKind {
    const PREFIX: &'static str = "evt";
}

/// One event of the ledger: an action that was settled.
pub type EventId = Id<EventKind>;

/// The kind of [`InvoiceId`].
#[derive(Debug)]
pub enum InvoiceKind {}

impl IdKind for InvoiceKind {
    const PREFIX: &'static str = "inv";
}

/// One invoice.
pub type InvoiceId = Id<InvoiceKind>;

/// What an allowed action may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The organization.
    pub org: OrgId,
    /// The action; an action has one reservation.
    pub action_id: ActionId,
    /// Who acts.
    pub agent: PrincipalName,
    /// Who pays: the delegator of the first link, or the agent itself when it
    /// acts under none.
    pub customer: PrincipalName,
    /// What is done.
    pub action: String,
    /// How many units at most.
    pub units: u64,
    /// The price of one, fixed when it was reserved.
    pub unit_price: Money,
    /// The price of all.
    pub cost: Money,
    /// The links it counts against, root first.
    pub hops: Vec<LinkId>,
    /// When it was decided; names the budget window it counts in.
    pub reserved_at: Timestamp,
    /// When it may be given back if nobody closes it.
    pub expires_at: Timestamp,
    /// Whether it was granted beyond a limit.
    pub overage: bool,
}

/// What an action really used. Becomes an event of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The organization.
    pub org: OrgId,
    /// The event it becomes.
    pub event_id: EventId,
    /// The action.
    pub action_id: ActionId,
    /// Who acted.
    pub agent: PrincipalName,
    /// Who pays.
    pub customer: PrincipalName,
    /// What was done.
    pub action: String,
    /// How many units it used.
    pub units: u64,
    /// The price of one.
    pub unit_price: Money,
    /// The exact price of all.
    pub cost: Money,
    /// The links it counts against, root first.
    pub hops: Vec<LinkId>,
    /// When it was decided; names the budget window it counts in.
    pub reserved_at: Timestamp,
    /// When it was settled; names the period it is billed in.
    pub settled_at: Timestamp,
    /// Whether some of it lies beyond a limit.
    pub overage: bool,
}

/// A settlement in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What was used.
    pub settlement: Settlement,
    /// Where its evidence lies in the organization's log.
    pub leaf: LeafIndex,
    /// The invoice that bills it, once there is one.
    pub invoice: Option<InvoiceId>,
}

/// Usage of one agent for one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// Who.
    pub agent: PrincipalName,
    /// What.
    pub action: String,
    /// How many settled actions.
    pub events: u64,
    /// Units in all.
    pub units: u64,
    /// The exact price.
    pub cost: Money,
}

/// What is left of a budget or another limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The most in the window.
    pub limit: Quantity,
    /// Settled.
    pub used: Quantity,
    /// Held for actions that are not closed yet.
    pub reserved: Quantity,
    /// What may still be reserved within the limit; never below zero.
    pub remaining: Quantity,
    /// When the window ends; `None` when it never does.
    pub resets_at: Option<Timestamp>,
}

/// An invoice. Once issued it never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invoice {
    /// Its id.
    pub id: InvoiceId,
    /// Counts up from one in the organization, without gaps.
    pub number: u64,
    /// The organization.
    pub org: OrgId,
    /// Who pays.
    pub customer: PrincipalName,
    /// When its events were settled.
    pub period: Period,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// By agent, action and unit price.
    pub lines: Vec<InvoiceLine>,
    /// The sum of the lines' amounts.
    pub total: Money,
    /// Where its evidence lies in the log; `None` before it is issued.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// One line: an agent, an action and a unit price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvoiceLine {
    /// Who.
    pub agent: PrincipalName,
    /// What.
    pub action: String,
    /// Units of all its events.
    pub quantity: u64,
    /// The price of one.
    pub unit_price: Money,
    /// Quantity times unit price, rounded once to the currency's minor unit.
    pub amount: Money,
    /// What it is made of, in the order of the log.
    pub events: Vec<InvoicedEvent>,
}

/// One event behind an invoice line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvoicedEvent {
    /// The event.
    pub event_id: EventId,
    /// The action it settles.
    pub action_id: ActionId,
    /// Units used.
    pub units: u64,
    /// Where the settlement lies in the log.
    pub leaf: LeafIndex,
}
