//! What this crate needs from outside, beyond the ports of the products it ties
//! together.

use async_trait::async_trait;
use creto_audit::{RecordClass, StoredRecord};
use creto_types::{
    ActionId, Commit, LeafIndex, OrgId, PrincipalName, Receipt, StoreError, StoredReply, SubjectId,
    Timestamp,
};

use crate::SandboxAnswer;
use crate::policies::PolicyFiles;

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

/// Finds records of actions in the journal.
#[async_trait]
pub trait ActionRecords: Send + Sync {
    /// Every record that carries the action's id, in log order. Empty when the
    /// organization has no such action.
    async fn records(
        &self,
        org: OrgId,
        action: ActionId,
    ) -> Result<Vec<(LeafIndex, StoredRecord)>, StoreError>;

    /// Records of decided actions (`action.decided`) and of checked connections
    /// (`egress.checked`) below `before`, newest first, at most `limit`.
    async fn decisions(
        &self,
        org: OrgId,
        before: Option<LeafIndex>,
        limit: usize,
    ) -> Result<Vec<(LeafIndex, StoredRecord)>, StoreError>;
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

/// One published version of an organization's policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersion {
    /// The organization.
    pub org: OrgId,
    /// Counts up from 1 in the organization, without a gap.
    pub version: u64,
    /// SHA-256 of the bundle, in hexadecimal.
    pub digest: String,
    /// Who published it.
    pub author: PrincipalName,
    /// Why.
    pub reason: String,
    /// When.
    pub published_at: Timestamp,
    /// The earlier version whose bundle this one brought back.
    pub restores: Option<u64>,
    /// Where its publication lies in the log; written by the store.
    pub leaf: Option<LeafIndex>,
}

/// Which policies an organization is to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServedPolicies {
    /// The configured directory; the digest of the bundle that was put in force
    /// last.
    Directory {
        /// SHA-256, in hexadecimal.
        digest: String,
    },
    /// The newest published version.
    Published {
        /// Which.
        version: u64,
    },
}

/// Keeps policies. What was published, or taken from the directory, is never changed or
/// removed: evidence refers to it by its digest.
///
/// A mutation and its [`Commit`] become durable in one transaction before the
/// call returns, or nothing is changed.
#[async_trait]
pub trait PolicyStore: Send + Sync {
    /// Adds a version and makes it the one to be served.
    ///
    /// [`StoreError::Conflict`] unless `version` is one more than the newest of
    /// the organization, which is 0 when there is none. Concurrent calls do not
    /// get past that.
    async fn publish(
        &self,
        version: PolicyVersion,
        files: PolicyFiles,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Makes the directory what is to be served, with this digest, and keeps its files.
    async fn follow_directory(
        &self,
        org: OrgId,
        digest: String,
        files: PolicyFiles,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// The first bundle whose digest is greater than `after`, of all that were
    /// published or followed, by digest.
    async fn bundle(
        &self,
        org: OrgId,
        after: Option<&str>,
    ) -> Result<Option<(String, PolicyFiles)>, StoreError>;

    /// What was published or followed with this digest.
    async fn kept(&self, org: OrgId, digest: &str) -> Result<Option<PolicyFiles>, StoreError>;

    /// What is to be served; `None` for an organization that was never served.
    async fn served(&self, org: OrgId) -> Result<Option<ServedPolicies>, StoreError>;

    /// One version with its files.
    async fn get(
        &self,
        org: OrgId,
        version: u64,
    ) -> Result<Option<(PolicyVersion, PolicyFiles)>, StoreError>;

    /// Versions below `before`, newest first, at most `limit`.
    async fn list(
        &self,
        org: OrgId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<PolicyVersion>, StoreError>;
}

/// A person whose records are to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The organization.
    pub org: OrgId,
    /// Who.
    pub person: PrincipalName,
    /// The pseudonym in its log.
    pub subject: SubjectId,
}

/// Payloads of a class that were kept long enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The organization.
    pub org: OrgId,
    /// Of records of this class.
    pub class: RecordClass,
    /// Through this leaf of its log.
    pub through: LeafIndex,
}

/// What became of the payloads of an organization that another cipher had sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// So many are sealed by the cipher for new ones.
    pub sealed: u64,
    /// So many cannot be opened, and stayed as they were.
    pub unread: u64,
}

/// Whose records there are, and how long their payloads.
#[async_trait]
pub trait SubjectStore: Send + Sync {
    /// The pseudonym of a person's records; none when there are none that were not erased.
    async fn subject(
        &self,
        org: OrgId,
        person: &PrincipalName,
    ) -> Result<Option<SubjectId>, StoreError>;

    /// Destroys the key of the person's payloads, together with the commit or not at all,
    /// and the replies that were kept for the person. On return it is durable, the key is
    /// nowhere any more, and every reader finds the payloads erased. `Conflict` when the
    /// person is neither suspended nor revoked, or has another pseudonym by now.
    async fn erase(&self, erasure: Erasure, commit: Commit) -> Result<Receipt, StoreError>;

    /// Makes sure that what an erasure destroyed is in no file, when the process ended, or
    /// the files could not be emptied, behind its commit.
    async fn settle(&self) -> Result<(), StoreError>;

    /// Seals the payloads of an organization by the cipher for new ones, in small changes
    /// each of which stays. A cipher that no payload of any organization is of then may be
    /// taken from the list of those that are read; payloads that cannot be opened keep
    /// theirs there.
    async fn reseal(&self, org: OrgId) -> Result<Resealed, StoreError>;

    /// Forgets the replies that were kept for idempotency keys before the day of this
    /// instant began.
    async fn forget_replies(&self, before: Timestamp) -> Result<(), StoreError>;

    /// The last leaf that has its place before then, if payloads of the class are kept
    /// there or before that [`SubjectStore::expire`] has not ended. Those that are kept
    /// for ever ([`creto_audit::is_kept`]) do not count.
    async fn expirable(
        &self,
        org: OrgId,
        class: RecordClass,
        before: Timestamp,
    ) -> Result<Option<LeafIndex>, StoreError>;

    /// When the newest record has its place, if there is one with a timestamp.
    async fn newest(&self, org: OrgId) -> Result<Option<Timestamp>, StoreError>;

    /// Ends keeping these payloads, together with the commit or not at all. They are gone,
    /// and readers find them expired, at the latest when [`SubjectStore::sweep`] says that
    /// nothing is left. `Conflict` when no more end than did before.
    async fn expire(&self, expiry: Expiry, commit: Commit) -> Result<Receipt, StoreError>;

    /// Removes payloads whose end is on record, and what else is kept of those who were
    /// erased, as far as it can go now.
    /// Whether nothing is left; otherwise it is to be called again.
    async fn sweep(&self) -> Result<bool, StoreError>;
}
