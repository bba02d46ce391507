//! What this crate needs from a state engine.

use async_trait::async_trait;
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};

use crate::{ActionDigest, Filter, Grant, OversightError, OversightRequest, RequestId};

/// The most requests of one agent that wait for a human at a time. More than a
/// person can tell apart, and few enough that what waits stays small.
pub const PENDING_LIMIT: usize = 32;

/// Keeps oversight requests.
///
/// A mutation and its [`Commit`] become durable in one transaction before the
/// call returns, or nothing is changed. The store writes `leaf`, the first leaf
/// of the newest commit on the request that had one, and derives `used` from the
/// claims of the organization whenever it reads: the grant's text is the claim's
/// token, whichever port's commit carried it.
///
/// Reads return the recorded state; showing a request that is due as expired is
/// the service's business, except where `now` is given.
#[async_trait]
pub trait OversightStore: Send + Sync {
    /// Adds a pending request.
    ///
    /// A pending request whose expiry lies after the new one's `created_at` is in
    /// its way: [`StoreError::Conflict`] when there is one of the same
    /// organization, agent, link and digest, or when the id exists;
    /// [`OversightError::TooManyPending`] when there are [`PENDING_LIMIT`] of the
    /// same organization and agent. Concurrent calls do not get past either.
    async fn insert(
        &self,
        request: OversightRequest,
        commit: Commit,
    ) -> Result<Receipt, OversightError>;

    /// Replaces the state of a pending request; nothing else of it changes.
    ///
    /// [`StoreError::NotFound`] when there is none, [`StoreError::Conflict`] when
    /// it is not pending any more.
    async fn decide(&self, next: OversightRequest, commit: Commit) -> Result<Receipt, StoreError>;

    /// One request of the organization.
    async fn get(&self, org: OrgId, id: RequestId) -> Result<Option<OversightRequest>, StoreError>;

    /// The pending request of this agent, link and digest that expires after `now`.
    async fn find_pending(
        &self,
        org: OrgId,
        agent: &PrincipalName,
        link: Option<&str>,
        digest: &ActionDigest,
        now: Timestamp,
    ) -> Result<Option<OversightRequest>, StoreError>;

    /// The request that this grant approves.
    async fn find_by_grant(
        &self,
        org: OrgId,
        grant: &Grant,
    ) -> Result<Option<OversightRequest>, StoreError>;

    /// Requests with an id greater than `after`, by id, at most `limit`; the
    /// filter's state is the one shown at `now`.
    async fn list(
        &self,
        org: OrgId,
        filter: &Filter,
        now: Timestamp,
        after: Option<RequestId>,
        limit: usize,
    ) -> Result<Vec<OversightRequest>, StoreError>;

    /// Pending requests of every organization that expire at `now` or before,
    /// the longest due first.
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<OversightRequest>, StoreError>;
}
