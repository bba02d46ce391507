//! What this crate needs from outside: a durable store.

use async_trait::async_trait;
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};

use crate::{EpochId, KeyPurpose, LinkId, Organization, Principal, SignedLink, StoredKey};

/// An organization with its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOrganization {
    /// The organization.
    pub organization: Organization,
    /// The human who founded it.
    pub owner: PrincipalName,
    /// One key for each purpose.
    pub keys: Vec<(KeyPurpose, StoredKey)>,
}

/// A principal with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPrincipal {
    /// The principal; its verifying key is the public half of `key`.
    pub principal: Principal,
    /// Its key.
    pub key: StoredKey,
}

/// A link with its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLink {
    /// The link.
    pub signed: SignedLink,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// The credentials of a human that were issued before are superseded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEpoch {
    /// The human's organization.
    pub org: OrgId,
    /// Whose credentials.
    pub human: PrincipalName,
    /// The epoch that begins; credentials name it.
    pub epoch: EpochId,
    /// When it began. For people: no token is compared with it.
    pub since: Timestamp,
}

/// A principal is suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSuspension {
    /// The principal's organization.
    pub org: OrgId,
    /// Who.
    pub principal: PrincipalName,
    /// Since when.
    pub since: Timestamp,
}

/// Everything that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All organizations.
    pub organizations: Vec<StoredOrganization>,
    /// All principals of all organizations.
    pub principals: Vec<StoredPrincipal>,
    /// All links of all organizations, each after its parent.
    pub links: Vec<StoredLink>,
    /// All epochs of credentials, in the order in which they began: the last one
    /// of a human counts.
    pub epochs: Vec<StoredEpoch>,
    /// Who is suspended, by organization and name.
    pub suspensions: Vec<StoredSuspension>,
}

/// Keeps identities.
///
/// Every change becomes durable together with its [`Commit`] or not at all, and
/// is durable when the call returns. What a commit can refuse (a replayed
/// idempotency key, a used claim) changes nothing either. Rows are added, links
/// revoked, and suspensions end; nothing else is ever deleted or altered.
#[async_trait]
pub trait NhiStore: Send + Sync + 'static {
    /// Everything that is stored.
    async fn load(&self) -> Result<Snapshot, StoreError>;

    /// Adds an organization and the human who owns it, the one that it names.
    /// `Conflict` when the id is taken.
    async fn insert_organization(
        &self,
        organization: StoredOrganization,
        owner: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Adds a principal. `Conflict` when the name is taken, `NotFound` when there
    /// is no such organization.
    async fn insert_principal(
        &self,
        principal: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Adds a link. `Conflict` when its id is taken, or when a link above it was
    /// revoked or a principal of its chain suspended meanwhile; `NotFound` when the
    /// organization, a principal or the parent is not there.
    async fn insert_link(&self, link: SignedLink, commit: Commit) -> Result<Receipt, StoreError>;

    /// Revokes a link, for ever. `Conflict` when it is revoked already,
    /// `NotFound` when the organization has no such link.
    async fn revoke_link(
        &self,
        org: OrgId,
        link: LinkId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Suspends a principal. `Conflict` when it is suspended already, `NotFound`
    /// when the organization has no such principal.
    async fn insert_suspension(
        &self,
        suspension: StoredSuspension,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Ends the suspension of a principal. `Conflict` when it is not suspended,
    /// `NotFound` when the organization has no such principal.
    async fn end_suspension(
        &self,
        org: OrgId,
        principal: PrincipalName,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Begins an epoch of a human's credentials. `Conflict` when its id is taken,
    /// `NotFound` when the organization has no such human.
    async fn insert_epoch(&self, epoch: StoredEpoch, commit: Commit)
    -> Result<Receipt, StoreError>;
}
