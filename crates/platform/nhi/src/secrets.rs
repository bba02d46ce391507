//! What a principal entrusts to the agents below it: secrets sealed at rest, in
//! versions, and leases by which one agent reads one of them.
//!
//! A secret's value is never in memory longer than it takes to seal it or to give it
//! to its reader, and is bound to its organization, name and version: a row that is
//! moved opens nothing. Leases are not remembered here: whether one holds is decided
//! in the transaction that makes its use durable, so that an end is exact on return
//! and after a restart.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use creto_crypto::{Secret, WrappedKey};
use creto_types::{Commit, Id, IdKind, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::service::to_completion;
use crate::{AgentIdentity, LinkId, Nhi, NhiError};

/// The longest value of a secret, in bytes.
pub const MAX_SECRET_LEN: usize = 16 * 1024;

/// How often a value is read anew when it was wrapped under another key meanwhile.
const OPENED_ANEW: usize = 4;

/// The kind of [`LeaseId`].
#[derive(Debug)]
pub enum LeaseKind {}

impl IdKind for LeaseKind {
    const PREFIX: &'static str = "lse";
}

/// One lease of a secret.
pub type LeaseId = Id<LeaseKind>;

/// A secret's name in its organization: 1 to 63 of `a-z`, `0-9`, `-`, `_`, `.`,
/// starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(Arc<str>);

/// A text is not a secret's name. It is not quoted: it may be the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "1 to 63 characters of a-z, 0-9, `-`, `_` and `.` are expected, the first a letter or a digit"
)]
pub struct SecretNameError;

impl SecretName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The alphabet is the one of principals.
        text.parse::<PrincipalName>()
            .map(|_| Self(text.into()))
            .map_err(|_| SecretNameError)
    }
}

impl TryFrom<String> for SecretName {
    type Error = SecretNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// One version of a secret, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSecret {
    /// Whose.
    pub org: OrgId,
    /// Its name.
    pub name: SecretName,
    /// Counts from 1 without a gap; the highest is the one that is read.
    pub version: u32,
    /// Who put it there.
    pub put_by: PrincipalName,
    /// Whose the secret is now, in all of its versions: whoever put the first one, until it
    /// is handed over. Only they put further ones and lease it.
    pub owner: PrincipalName,
    /// The person at the top of the chain in which an agent put the first one: only in
    /// chains from that person is it the agent's. None when a person put it, once it was handed
    /// over, and where that was not written down.
    pub root: Option<PrincipalName>,
    /// When.
    pub put_at: Timestamp,
    /// The value, under the wrapping key of the organization.
    pub sealed: WrappedKey,
}

impl StoredSecret {
    /// Whether it is this principal's, in the chain by which it acts.
    #[must_use]
    pub fn is_of(&self, identity: &AgentIdentity) -> bool {
        self.owner == identity.name && self.is_known_in(identity)
    }

    /// Whether a lease lets this agent read it: whose it is stands in the agent's chain.
    #[must_use]
    pub fn reaches(&self, reader: &AgentIdentity) -> bool {
        let mut above = reader.hops.iter().map(|hop| &hop.link.delegator);
        let stands_in = reader.name == self.owner || above.any(|name| *name == self.owner);
        stands_in && self.is_known_in(reader)
    }

    fn is_known_in(&self, identity: &AgentIdentity) -> bool {
        let top = || identity.hops.first().map(|hop| &hop.link.delegator);
        self.root.is_none() || self.root.as_ref() == top()
    }
}

/// A secret becomes somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The organization.
    pub org: OrgId,
    /// Which secret.
    pub secret: SecretName,
    /// Whose it is.
    pub from: PrincipalName,
    /// Whose it is from then on.
    pub to: PrincipalName,
}

/// What lets one agent read one secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLease {
    /// Its id.
    pub id: LeaseId,
    /// Whose.
    pub org: OrgId,
    /// Which secret, in its newest version.
    pub secret: SecretName,
    /// By which link it is read: only who acts by this very link may.
    pub link: LinkId,
    /// Who acts by that link.
    pub agent: PrincipalName,
    /// Since when.
    pub given_at: Timestamp,
    /// Until when, exclusive.
    pub expires_at: Timestamp,
    /// When it was taken back.
    pub ended_at: Option<Timestamp>,
}

impl StoredLease {
    /// Whether it holds at this instant.
    #[must_use]
    pub fn holds(&self, at: Timestamp) -> bool {
        self.ended_at.is_none() && at < self.expires_at
    }
}

/// Keeps secrets and leases, under the promises of [`crate::NhiStore`]. Secrets and
/// leases are added, leases ended and secrets handed over; nothing else is ever deleted or
/// altered but the wrapping of a value ([`crate::NhiStore::rewrap_keys`]).
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// Adds a version. `Conflict` with `what` `secret` unless it is the next one of its
    /// name and put by whose it is, in a chain of that root, and with `wrapping key` when it is under
    /// one that was retired meanwhile; `NotFound` when there is no such organization.
    async fn insert_secret(
        &self,
        secret: StoredSecret,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Makes a secret somebody else's, of no root; its leases stay. `NotFound` when there is no such
    /// secret, or nobody to whom it goes; `Conflict` with `what` `secret` when it is not
    /// whose it is said to be, and with `principal` when who gets it was revoked.
    async fn hand_over(&self, change: HandOver, commit: Commit) -> Result<Receipt, StoreError>;

    /// The newest version.
    async fn secret(
        &self,
        org: OrgId,
        name: &SecretName,
    ) -> Result<Option<StoredSecret>, StoreError>;

    /// One version.
    async fn secret_version(
        &self,
        org: OrgId,
        name: &SecretName,
        version: u32,
    ) -> Result<Option<StoredSecret>, StoreError>;

    /// Every version of every secret, by name and version.
    async fn secrets(&self, org: OrgId) -> Result<Vec<StoredSecret>, StoreError>;

    /// The newest version of each secret with a greater name than this, by name, at most so
    /// many.
    async fn newest_secrets(
        &self,
        org: OrgId,
        after: Option<SecretName>,
        max: usize,
    ) -> Result<Vec<StoredSecret>, StoreError>;

    /// Adds a lease that this principal gives. `Conflict` when its id is taken, `NotFound`
    /// when there is no such secret or link, `Conflict` with `what` `secret` when that is not
    /// the principal's, and with `delegation` when the link is revoked.
    async fn insert_lease(
        &self,
        lease: StoredLease,
        by: PrincipalName,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// One lease.
    async fn lease(&self, org: OrgId, id: LeaseId) -> Result<Option<StoredLease>, StoreError>;

    /// Leases, or those to this link, with a greater id than this, by id, at most so many.
    async fn leases(
        &self,
        org: OrgId,
        link: Option<LinkId>,
        after: Option<LeaseId>,
        max: usize,
    ) -> Result<Vec<StoredLease>, StoreError>;

    /// Ends a lease. `Conflict` when it is ended already, `NotFound` when there is no
    /// such lease.
    async fn end_lease(
        &self,
        org: OrgId,
        id: LeaseId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Makes the evidence of one use durable. `Conflict`, and nothing is changed, when
    /// the lease does not hold at that instant, and with `what` `secret` when the secret is
    /// not this owner's.
    async fn use_lease(
        &self,
        org: OrgId,
        id: LeaseId,
        owner: PrincipalName,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;
}

/// What a secret is bound to under its wrapping key.
pub(crate) fn secret_wrapping(org: OrgId, name: &SecretName, version: u32) -> String {
    format!("creto/secret/{org}/{name}/{version}")
}

impl Nhi {
    /// Seals a value as a version of a secret that this principal puts, an agent in the chain
    /// by which it acts. Nothing is stored yet.
    pub fn draft_secret(
        &self,
        by: &AgentIdentity,
        name: SecretName,
        version: u32,
        value: &Secret,
    ) -> Result<StoredSecret, NhiError> {
        let org = by.org;
        if value.is_empty() || value.len() > MAX_SECRET_LEN {
            return Err(NhiError::Invalid {
                field: "value",
                why: format!("must have 1 to {MAX_SECRET_LEN} bytes"),
            });
        }
        let wrapping = secret_wrapping(org, &name, version);
        let sealed = self.inner.keys.ring.wrap(org, &wrapping, value);
        Ok(StoredSecret {
            org,
            name,
            version,
            owner: by.name.clone(),
            root: by.hops.first().map(|hop| hop.link.delegator.clone()),
            put_by: by.name.clone(),
            put_at: self.inner.clock.now(),
            sealed: sealed.map_err(|source| NhiError::Crypto {
                operation: "seal a secret",
                source,
            })?,
        })
    }

    /// Stores the version.
    pub async fn commit_secret(
        &self,
        secret: StoredSecret,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            Ok(inner.store.secrets().insert_secret(secret, commit).await?)
        })
        .await
    }

    /// Makes a secret somebody else's: once this returns, who had it puts no version and
    /// gives no lease, and those that were given are good where whose it is now stands in the
    /// reader's chain.
    pub async fn hand_over_secret(
        &self,
        change: HandOver,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            Ok(inner.store.secrets().hand_over(change, commit).await?)
        })
        .await
    }

    /// The newest version of a secret, sealed.
    pub async fn secret(
        &self,
        org: OrgId,
        name: &SecretName,
    ) -> Result<Option<StoredSecret>, NhiError> {
        Ok(self.inner.store.secrets().secret(org, name).await?)
    }

    /// The newest version of each secret with a greater name than this, sealed, by name, at
    /// most so many.
    pub async fn newest_secrets(
        &self,
        org: OrgId,
        after: Option<SecretName>,
        max: usize,
    ) -> Result<Vec<StoredSecret>, NhiError> {
        let store = self.inner.store.secrets();
        Ok(store.newest_secrets(org, after, max).await?)
    }

    /// Adds a lease that this principal gives, whose the secret has to be. Whether it may
    /// otherwise is the caller's to decide.
    pub async fn commit_lease(
        &self,
        lease: StoredLease,
        by: PrincipalName,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            Ok(inner
                .store
                .secrets()
                .insert_lease(lease, by, commit)
                .await?)
        })
        .await
    }

    /// One lease.
    pub async fn lease(&self, org: OrgId, id: LeaseId) -> Result<Option<StoredLease>, NhiError> {
        Ok(self.inner.store.secrets().lease(org, id).await?)
    }

    /// Leases, or those to this delegation, with a greater id than this, by id, at most so
    /// many.
    pub async fn leases(
        &self,
        org: OrgId,
        link: Option<LinkId>,
        after: Option<LeaseId>,
        max: usize,
    ) -> Result<Vec<StoredLease>, NhiError> {
        let store = self.inner.store.secrets();
        Ok(store.leases(org, link, after, max).await?)
    }

    /// Ends a lease: once this returns, nothing is read by it.
    pub async fn end_lease(
        &self,
        org: OrgId,
        id: LeaseId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let secrets = inner.store.secrets();
            Ok(secrets.end_lease(org, id, at, commit).await?)
        })
        .await
    }

    /// Opens a secret by a lease, once the evidence of that is durable. `Conflict` when
    /// the lease does not hold at that instant, or the secret was handed over since it was
    /// looked for.
    pub async fn use_lease(
        &self,
        secret: &StoredSecret,
        lease: LeaseId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<(Receipt, Secret), NhiError> {
        let store = self.inner.store.secrets();
        let owner = secret.owner.clone();
        let receipt = store
            .use_lease(secret.org, lease, owner, at, commit)
            .await?;
        Ok((receipt, self.open_secret(secret).await?))
    }

    async fn open_secret(&self, secret: &StoredSecret) -> Result<Secret, NhiError> {
        let org = secret.org;
        let wrapping = secret_wrapping(org, &secret.name, secret.version);
        let ring = &self.inner.keys.ring;
        let mut sealed = secret.sealed.clone();
        for _ in 0..OPENED_ANEW {
            if let Ok(value) = ring.unwrap(org, &wrapping, &sealed) {
                return Ok(value);
            }
            // Its wrapping key may have been retired since it was read.
            let store = self.inner.store.secrets();
            let same = store.secret_version(org, &secret.name, secret.version);
            match same.await? {
                Some(row) if row.sealed != sealed => sealed = row.sealed,
                _ => break,
            }
        }
        ring.unwrap(org, &wrapping, &sealed)
            .map_err(|source| NhiError::Crypto {
                operation: "open a secret",
                source,
            })
    }
}
