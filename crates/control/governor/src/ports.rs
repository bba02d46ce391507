//! What this crate needs from outside, beyond the ports of the products it ties
//! together.

use async_trait::async_trait;
use creto_types::{
    ActionId, Commit, LeafIndex, OrgId, PrincipalName, Receipt, StoreError, StoredReply,
};

use crate::SandboxAnswer;

/// Makes evidence durable that comes without a change of a product's state.
#[async_trait]
pub trait CommitStore: Send + Sync {
    /// Applies the commit, or changes nothing. Durable on return.
    async fn commit(&self, commit: Commit) -> Result<Receipt, StoreError>;
}

/// Finds the replies kept for idempotency keys.
#[async_trait]
pub trait Replies: Send + Sync {
    /// The reply stored under the caller's key, if the key was used.
    async fn find(
        &self,
        org: OrgId,
        caller: &PrincipalName,
        key: &str,
    ) -> Result<Option<StoredReply>, StoreError>;
}

/// Finds the records of one action in the journal.
#[async_trait]
pub trait ActionRecords: Send + Sync {
    /// Every leaf that carries the action's id, in log order. Empty when the
    /// organization has no such action.
    async fn records(
        &self,
        org: OrgId,
        action: ActionId,
    ) -> Result<Vec<(LeafIndex, Vec<u8>)>, StoreError>;
}

/// A sandbox as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxRow {
    /// The organization.
    pub org: OrgId,
    /// What callers see.
    pub answer: SandboxAnswer,
}

/// Remembers sandboxes over a restart.
#[async_trait]
pub trait SandboxStore: Send + Sync {
    /// Inserts or replaces the row, together with the commit.
    async fn put(&self, row: SandboxRow, commit: Commit) -> Result<Receipt, StoreError>;

    /// One sandbox of the organization.
    async fn get(&self, org: OrgId, id: &str) -> Result<Option<SandboxRow>, StoreError>;

    /// The organization's sandboxes with an id greater than `after`, by id.
    async fn list(
        &self,
        org: OrgId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SandboxRow>, StoreError>;

    /// Every sandbox that was running when the process stopped.
    async fn running(&self) -> Result<Vec<SandboxRow>, StoreError>;
}
