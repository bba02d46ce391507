//! What agents use, what it costs, and who pays.
//!
//! [`Meter`] is the quota that `creto-authz` asks as the last step of a decision.
//! It keeps these promises:
//!
//! - **All hops or none.** A reservation counts against the budget of every
//!   delegation link between the owner and the agent, in one atomic step. No
//!   interleaving of callers spends a budget's last unit twice.
//! - **Reserve, then settle or release.** What was reserved and not used is given
//!   back; what is settled never exceeds what was reserved. A reservation that
//!   nobody closes expires and is listed by [`Meter::expired`].
//! - **A crash may under-use, never overspend.** The ledger is durable,
//!   [`Meter::open`] rebuilds every counter from it, and an action may start only
//!   after its reservation is durable.
//! - **Exact.** Amounts are counted in whole billionths of a currency unit. The
//!   one rounding is that of an invoice line ([`InvoiceLine`]).
//! - **Billed once.** An event belongs to at most one invoice, ever. Invoice
//!   numbers of an organization count up from one without a gap.
//!
//! Budget windows are UTC days and months. A reservation counts in the window in
//! which it was decided, also when it is settled in a later one. Rate limits
//! (GCRA) are per organization and agent, live in memory and start full after a
//! restart.
//!
//! This crate does not send invoices, take payments or decide policy.

mod amount;
#[cfg(feature = "test-util")]
pub mod conformance;
mod counters;
mod error;
mod invoicing;
#[cfg(feature = "test-util")]
pub mod memory;
mod model;
mod ports;
mod prices;
mod rate;
mod service;

/// The port of `creto-authz` that [`Meter`] serves.
pub use creto_authz::{Exceeded, Quota};
pub use error::{MeteringError, PriceBookError};
pub use model::{
    Balance, Event, EventId, EventKind, Invoice, InvoiceId, InvoiceKind, InvoiceLine,
    InvoicedEvent, Reservation, Settlement, UsageRow,
};
pub use ports::{Entry, EventQuery, LedgerStore, Spend};
pub use prices::PriceBook;
pub use rate::RateLimit;
pub use service::{Meter, MeterConfig, QuotaDecision, QuotaRequest};
