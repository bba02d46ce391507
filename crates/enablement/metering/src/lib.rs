//! What agents use, what it costs, and who pays.
//!
//! [`Meter`] is the quota that `creto-authz` asks as the last step of a decision.
//! It keeps these promises:
//!
//! - **All hops or none.** A reservation counts against every limit that applies, in
//!   one atomic step: the budget of every delegation link between the owner and the
//!   agent, and the limits set on those links, on the agent and on the organization.
//!   No interleaving of callers spends a limit's last unit twice.
//! - **Reserve, then settle or release.** What was reserved and not used is given
//!   back. More than was reserved is settled only as far as the limits let it. A
//!   reservation that nobody closes expires and is listed by [`Meter::expired`]. How many
//!   are open at a time has a bound ([`OpenBounds`]).
//! - **Exact.** Once [`Meter::set_limit`], [`Meter::remove_limit`] or
//!   [`Meter::set_rate`] returns, no decision uses what was in force before; what was
//!   decided before and is not durable yet is void.
//! - **A crash may under-use, never overspend.** The ledger is durable,
//!   [`Meter::open`] rebuilds every counter from it, and an action may start only
//!   after its reservation is durable.
//! - **To the last digit.** Amounts are counted in whole billionths of a currency unit. The
//!   one rounding is that of an invoice line ([`InvoiceLine`]).
//! - **Billed once.** An event belongs to at most one invoice, ever. Invoice
//!   numbers of an organization count up from one without a gap.
//!
//! Windows are calendar hours, days and months of a limit's time zone; those of
//! signed budgets are UTC's. A reservation counts in the window in which it was
//! decided, also when it is settled in a later one. Where the wall clock steps back
//! over the start of a window, the later window goes on counting. Rates (GCRA) live in
//! memory and start full after a restart.
//!
//! This crate does not send invoices, take payments or decide policy.

mod amount;
#[cfg(feature = "test-util")]
pub mod conformance;
mod error;
mod invoicing;
mod limits;
#[cfg(feature = "test-util")]
pub mod memory;
mod model;
mod ports;
mod prices;
mod rate;
mod recent;
mod service;

/// The port of `creto-authz` that [`Meter`] serves.
pub use creto_authz::{Exceeded, Quota};
pub use error::{MeteringError, PriceBookError};
pub use limits::{
    Crossing, DEFAULT_THRESHOLDS, Limit, LimitId, LimitKind, LimitRef, LimitView, MAX_LIMITS,
    MAX_RATES, MAX_THRESHOLDS, NoticeKey, OnExceed, OpenBounds, RateId, RateKind, RateRule,
    RateScope, Scope, Window, reaches,
};
pub use model::{
    Balance, Event, EventId, EventKind, Invoice, InvoiceId, InvoiceKind, InvoiceLine,
    InvoicedEvent, Reservation, Settlement, UsageRow,
};
pub use ports::{Entry, EventQuery, LedgerStore, PricedUnits, Spend, UsedQuery};
pub use prices::PriceBook;
pub use rate::{RateLimit, RatePeriod};
pub use service::{Expired, Meter, MeterConfig};
