//! The ledger this crate needs from outside.

use async_trait::async_trait;
use creto_nhi::LinkId;
use creto_types::{
    ActionId, Commit, Money, OrgId, Period, PrincipalName, Receipt, StoreError, Timestamp,
};

use crate::limits::{Limit, LimitId, NoticeKey, RateId, RateRule, Scope};
use crate::model::{Event, EventId, Invoice, InvoiceId, Reservation, Settlement};

/// The durable ledger.
///
/// A mutation becomes durable together with its [`Commit`], in one transaction,
/// or nothing is changed. Mutations of one organization take effect one after
/// the other, and each one checks the state it finds: two callers that close the
/// same reservation or bill the same event get one success and one
/// [`StoreError::Conflict`]. A commit whose idempotency key was used before is
/// answered with [`StoreError::Replayed`] whatever state it would find.
#[async_trait]
pub trait LedgerStore: Send + Sync + 'static {
    /// What settled events spent, over all organizations, in the order of their
    /// ids: at most `limit`, after the given one.
    async fn spends(&self, after: Option<EventId>, limit: usize) -> Result<Vec<Spend>, StoreError>;

    /// Every reservation that is neither settled nor released.
    async fn open_reservations(&self) -> Result<Vec<Reservation>, StoreError>;

    /// What became of an action's reservation; `None` when it never was durable.
    async fn entry(&self, org: OrgId, action: ActionId) -> Result<Option<Entry>, StoreError>;

    /// Adds an open reservation. [`StoreError::Conflict`] when the action has one,
    /// open or closed.
    async fn reserve(
        &self,
        reservation: Reservation,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Closes the reservation and adds the event, which keeps the commit's first
    /// leaf. [`StoreError::NotFound`] without a reservation,
    /// [`StoreError::Conflict`] when it is closed. The commit has at least one
    /// evidence record. Whether more than was reserved may be settled is for the
    /// meter to say.
    async fn settle(&self, settlement: Settlement, commit: Commit) -> Result<Receipt, StoreError>;

    /// Closes the reservation without an event. [`StoreError::NotFound`] without a
    /// reservation, [`StoreError::Conflict`] when it is closed.
    async fn release(
        &self,
        org: OrgId,
        action: ActionId,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// What the events that match used, in whatever order: together they are exact.
    async fn used(&self, org: OrgId, query: UsedQuery) -> Result<Vec<PricedUnits>, StoreError>;

    /// When the latest of the events that match was decided; `None` when none does.
    async fn latest(&self, org: OrgId, query: UsedQuery) -> Result<Option<Timestamp>, StoreError>;

    /// Every limit in force, over all organizations.
    async fn limits(&self) -> Result<Vec<Limit>, StoreError>;

    /// Puts a limit in force, in place of the one with its id.
    async fn put_limit(&self, limit: Limit, commit: Commit) -> Result<Receipt, StoreError>;

    /// Ends a limit. [`StoreError::NotFound`] when the organization has none of this
    /// id.
    async fn remove_limit(
        &self,
        org: OrgId,
        id: LimitId,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Every rate in force, over all organizations.
    async fn rates(&self) -> Result<Vec<RateRule>, StoreError>;

    /// Puts a rate in force, in place of the one with its id.
    async fn put_rate(&self, rule: RateRule, commit: Commit) -> Result<Receipt, StoreError>;

    /// Ends a rate. [`StoreError::NotFound`] when the organization has none of this
    /// id.
    async fn remove_rate(
        &self,
        org: OrgId,
        id: RateId,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Notes that a threshold was notified. [`StoreError::Conflict`] when it was
    /// before: each key is notified once, ever.
    async fn notice(&self, key: NoticeKey, commit: Commit) -> Result<Receipt, StoreError>;

    /// The organization's events that match, in the order of their ids: at most
    /// `limit`, after the given one.
    async fn events(
        &self,
        org: OrgId,
        query: EventQuery,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError>;

    /// The number of the organization's newest invoice; zero when it has none.
    async fn last_invoice_number(&self, org: OrgId) -> Result<u64, StoreError>;

    /// Adds the invoice, with the commit's first leaf, and marks its events.
    /// [`StoreError::Conflict`] when its number is not the next one or one of its
    /// events is billed, [`StoreError::NotFound`] for an event that does not exist
    /// in the organization.
    async fn issue(&self, invoice: Invoice, commit: Commit) -> Result<Receipt, StoreError>;

    /// One invoice of the organization.
    async fn invoice(&self, org: OrgId, id: InvoiceId) -> Result<Option<Invoice>, StoreError>;

    /// The organization's invoices in the order of their ids: at most `limit`,
    /// after the given one.
    async fn invoices(
        &self,
        org: OrgId,
        after: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<Invoice>, StoreError>;
}

/// Which events a limit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedQuery {
    /// Whose use.
    pub scope: Scope,
    /// Of this action alone.
    pub event: Option<String>,
    /// Decided at or after this instant; all of them when absent.
    pub since: Option<Timestamp>,
    /// Decided before this instant; all of them when absent.
    pub until: Option<Timestamp>,
}

/// So many units at one price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricedUnits {
    /// The price of one.
    pub unit_price: Money,
    /// How many.
    pub units: u64,
}

/// What one event took from limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The event.
    pub event_id: EventId,
    /// The organization.
    pub org: OrgId,
    /// Who acted.
    pub agent: PrincipalName,
    /// What was done.
    pub action: String,
    /// How many units it used.
    pub units: u64,
    /// The links it counts against.
    pub hops: Vec<LinkId>,
    /// When it was decided.
    pub reserved_at: Timestamp,
    /// What it cost.
    pub cost: Money,
}

/// What became of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nobody closed it yet.
    Open,
    /// It became an event.
    Settled {
        /// What was used.
        cost: Money,
        /// How many units.
        units: u64,
    },
    /// It was given back.
    Released,
}

/// Which events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// Settled in this period.
    pub period: Period,
    /// Of this agent alone.
    pub agent: Option<PrincipalName>,
    /// For this customer alone.
    pub customer: Option<PrincipalName>,
    /// Only what no invoice bills yet.
    pub uninvoiced: bool,
}
