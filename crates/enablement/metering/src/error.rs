//! What can go wrong while metering.

use std::time::Duration;

use creto_authz::LimitScope;
use creto_errors::{Class, Classify};
use creto_types::{
    ActionId, Currency, Money, MoneyError, Period, PrincipalName, StoreError, Timestamp,
};

use crate::limits::whose;

/// A reservation, settlement, usage or invoice call failed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MeteringError {
    /// The ledger's store answered with an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An amount does not fit, or currencies met.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// No open reservation of this action.
    #[error(
        "action {action} has no open reservation: it was never allowed, or was settled, released or given back after its time"
    )]
    ReservationNotFound {
        /// The action.
        action: ActionId,
    },
    /// The reservation was settled or released before.
    #[error("the reservation of action {action} was already settled or released")]
    ReservationClosed {
        /// The action.
        action: ActionId,
    },
    /// More units are to be settled than were reserved, and the rest does not fit.
    #[error(
        "action {action} reserved {reserved} units, {asked} cannot be settled: {why}; ask for a further action for the rest"
    )]
    SettleExceedsReservation {
        /// The action.
        action: ActionId,
        /// What it may use.
        reserved: u64,
        /// What was to be settled.
        asked: u64,
        /// What does not cover the rest.
        why: String,
    },
    /// A limit was set since the decision, or since the settlement was drafted.
    #[error("limits changed since this was decided; it is to be decided anew")]
    LimitsChanged,
    /// What an action was decided by is in force no longer.
    #[error("what this was decided by is in force no longer; it is to be decided anew")]
    Outdated,
    /// A limit or a rate that cannot be counted.
    #[error("`{field}`: {message}")]
    LimitInvalid {
        /// What of it.
        field: &'static str,
        /// What is expected.
        message: String,
    },
    /// There are as many limits on one subject, or rates, as can be.
    #[error("there are {most} already; remove one first")]
    TooManyLimits {
        /// How many there may be.
        most: usize,
    },
    /// As many reservations are open as may be at a time.
    #[error(
        "{} has {most} open reservations, the most there may be; settle or release some, or try again in {retry_after:?}",
        whose(scope)
    )]
    TooManyOpen {
        /// Whose they are.
        scope: LimitScope,
        /// How many there may be.
        most: usize,
        /// When the first of them ends by itself.
        retry_after: Duration,
    },
    /// A settlement came without the evidence record that its event points to.
    #[error("a settlement and an invoice need an evidence record of their organization")]
    EvidenceRequired,
    /// A period that is not over cannot be invoiced.
    #[error("the period ends at {end}, which is not past yet")]
    PeriodNotOver {
        /// Its end.
        end: Timestamp,
    },
    /// No event that is not invoiced yet.
    #[error("{customer} has nothing to invoice from {} to {}", period.start(), period.end())]
    NothingToInvoice {
        /// Who would have paid.
        customer: PrincipalName,
        /// For when.
        period: Period,
    },
    /// The ledger was written with prices in another currency.
    #[error(
        "the ledger is kept in {ledger} and the price book is in {prices}; a ledger keeps its currency"
    )]
    LedgerCurrency {
        /// What the ledger holds.
        ledger: Currency,
        /// What the price book says.
        prices: Currency,
    },
    /// The task that finishes a change has stopped, as it does at shutdown.
    #[error("the change was interrupted; its outcome is in the ledger")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl Classify for MeteringError {
    fn class(&self) -> Class {
        match self {
            Self::Store(error) => error.class(),
            Self::Money(error) => error.class(),
            Self::Interrupted(_)
            | Self::LimitsChanged
            | Self::Outdated
            | Self::TooManyOpen { .. } => Class::Transient,
            Self::ReservationNotFound { .. }
            | Self::ReservationClosed { .. }
            | Self::SettleExceedsReservation { .. }
            | Self::LimitInvalid { .. }
            | Self::TooManyLimits { .. }
            | Self::EvidenceRequired
            | Self::PeriodNotOver { .. }
            | Self::NothingToInvoice { .. }
            | Self::LedgerCurrency { .. } => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Money(error) => error.code(),
            Self::ReservationNotFound { .. } => "reservation_not_found",
            Self::ReservationClosed { .. } => "reservation_closed",
            Self::SettleExceedsReservation { .. } => "settle_exceeds_reservation",
            Self::LimitsChanged => "limits_changed",
            Self::Outdated => "decision_outdated",
            Self::LimitInvalid { .. } => "limit_invalid",
            Self::TooManyLimits { .. } => "too_many_limits",
            Self::TooManyOpen { .. } => "too_many_open_reservations",
            Self::EvidenceRequired => "evidence_required",
            Self::PeriodNotOver { .. } => "period_not_over",
            Self::NothingToInvoice { .. } => "nothing_to_invoice",
            Self::LedgerCurrency { .. } => "ledger_currency",
            Self::Interrupted(_) => "metering_interrupted",
        }
    }
}

/// A price cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceBookError {
    /// Another currency than the book's.
    #[error("the price of `{action}` is {price}; every price is in {currency}")]
    Currency {
        /// Which action.
        action: String,
        /// Its price.
        price: Money,
        /// The book's currency.
        currency: Currency,
    },
    /// Below zero.
    #[error("the price of `{action}` is below zero: {price}")]
    Negative {
        /// Which action.
        action: String,
        /// Its price.
        price: Money,
    },
    /// More decimal places than the ledger counts.
    #[error("the price of `{action}` has more than {places} decimal places: {price}")]
    TooFine {
        /// Which action.
        action: String,
        /// Its price.
        price: Money,
        /// How many there may be.
        places: u32,
    },
    /// One action with two prices.
    #[error("`{action}` has two prices")]
    Twice {
        /// Which action.
        action: String,
    },
}

impl Classify for PriceBookError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Currency { .. } => "price_currency",
            Self::Negative { .. } => "price_negative",
            Self::TooFine { .. } => "price_too_fine",
            Self::Twice { .. } => "price_listed_twice",
        }
    }
}
