//! The keys of principals: which one signs, which ones are verified by, which ones are
//! revoked.
//!
//! A principal signs with its newest key. A link names the version of the key that signed
//! it, a statement and a prekey its thumbprint, so that the keys before go on verifying
//! what they signed, until they are revoked. Of those only the public halves are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use creto_crypto::VerifyingKey;
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::keys::{key_id, wrapping_of};
use crate::link::Ended;
use crate::ports::{Part, StoredFormerKey, StoredKeyChange, StoredKeyRevocation, StoredPrincipal};
use crate::registry::{Keys, PrincipalEntry, Registry, corrupt};
use crate::service::{Inner, not_revoked, to_completion};
use crate::{Nhi, NhiError, Principal, StoredKey};

/// How many keys a principal ever has: all of them are kept to verify by. With a new one
/// each month it takes 21 years.
pub const MAX_PRINCIPAL_KEYS: usize = 256;

/// Which of a principal's keys, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyVersion(NonZeroU32);

impl KeyVersion {
    /// The key that a principal was made with.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The version of this number; there is none of 0.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it by reference"
    )]
    pub(crate) fn is_first(&self) -> bool {
        *self == Self::FIRST
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Default for KeyVersion {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key of a principal as the registry knows it.
#[derive(Clone)]
pub(crate) struct KnownKey {
    pub(crate) version: KeyVersion,
    pub(crate) public: VerifyingKey,
    since: Timestamp,
    /// Shared by every link that it signed.
    pub(crate) status: Arc<Ended>,
}

impl KnownKey {
    /// Refuses what it would sign, or signed and was not put into force yet.
    pub(crate) fn in_force(&self, name: &PrincipalName) -> Result<(), NhiError> {
        if self.status.is_so() {
            return Err(NhiError::SigningKeyRevoked {
                name: name.clone(),
                version: self.version,
            });
        }
        Ok(())
    }
}

impl PrincipalEntry {
    /// What the wrapped half of the key that it signs with is bound to.
    pub(crate) fn wrapping(&self) -> Result<String, NhiError> {
        let known = self.keys.known.iter().map(|key| key.public.clone());
        let mut before: Vec<VerifyingKey> = known.collect();
        before.pop();
        wrapping_of(&self.principal, &before)
    }

    /// Refuses to sign with a key that may have been replaced.
    pub(crate) fn settled(&self) -> Result<(), NhiError> {
        if self.keys.settled {
            return Ok(());
        }
        let why = format!(
            "it is not known which key `{}` signs with",
            self.principal.name
        );
        Err(StoreError::Unavailable(why.into()).into())
    }

    /// The key that it signs with now.
    pub(crate) fn present(&self) -> &KnownKey {
        self.keys
            .known
            .last()
            .expect("it was made with a key, and none is ever removed")
    }

    /// The key of this version.
    pub(crate) fn known(&self, version: KeyVersion) -> Result<&KnownKey, NhiError> {
        let mut known = self.keys.known.iter();
        known
            .find(|key| key.version == version)
            .ok_or_else(|| NhiError::UnknownKey {
                name: self.principal.name.clone(),
                key: version.to_string(),
            })
    }

    /// Its keys, oldest first.
    pub(crate) fn listed(&self) -> Result<Vec<PrincipalKey>, NhiError> {
        let present = self.present().version;
        let known = self.keys.known.iter().map(|key| {
            Ok(PrincipalKey {
                version: key.version,
                key: key.public.clone(),
                kid: key_id(&key.public)?,
                since: key.since,
                present: key.version == present,
                revoked: key.status.is_so(),
                revoked_at: key.status.at(),
            })
        });
        known.collect()
    }
}

/// A key of a principal, for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalKey {
    /// Which.
    pub version: KeyVersion,
    /// The key.
    pub key: VerifyingKey,
    /// Its JWK thumbprint (RFC 7638).
    pub kid: String,
    /// Since when the principal has it.
    pub since: Timestamp,
    /// Whether it is the one that it signs with.
    pub present: bool,
    /// Whether it was revoked.
    pub revoked: bool,
    /// When, once that is known for certain.
    pub revoked_at: Option<Timestamp>,
}

/// A new key of a principal, made and not in use yet.
#[derive(Debug)]
pub struct PrincipalKeyDraft {
    stored: StoredKeyChange,
    kid: String,
}

impl PrincipalKeyDraft {
    /// The version it will have.
    #[must_use]
    pub fn version(&self) -> KeyVersion {
        self.stored.former.version.next()
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &VerifyingKey {
        &self.stored.key.public
    }

    /// Its JWK thumbprint (RFC 7638).
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    #[cfg(feature = "test-util")]
    pub(crate) const fn stored(&self) -> &StoredKeyChange {
        &self.stored
    }
}

impl Nhi {
    /// Makes another key for a principal, of the algorithm for new keys. It has it since
    /// `at`.
    pub fn draft_principal_key(
        &self,
        org: OrgId,
        name: &PrincipalName,
        at: Timestamp,
    ) -> Result<PrincipalKeyDraft, NhiError> {
        let inner = &self.inner;
        let entry = inner.registry.read().org(org)?.principal(name)?.clone();
        not_revoked(&entry.standing)?;
        entry.settled()?;
        if entry.keys.known.len() >= MAX_PRINCIPAL_KEYS {
            return Err(NhiError::TooManyKeys { name: name.clone() });
        }
        let before = entry.keys.known.iter().map(|key| key.public.clone());
        let wrapping = wrapping_of(&entry.principal, &before.collect::<Vec<_>>())?;
        let key = inner.keys.make(org, None, &wrapping)?;
        let present = entry.present();
        Ok(PrincipalKeyDraft {
            kid: key_id(&key.public)?,
            stored: StoredKeyChange {
                key,
                former: StoredFormerKey {
                    org,
                    principal: name.clone(),
                    version: present.version,
                    public: present.public.clone(),
                    replaced_at: at,
                },
            },
        })
    }

    /// Takes the new key into use. What the keys before signed stays what it is. The
    /// private half of the one before is not kept.
    ///
    /// When the store fails, memory takes over what the store then says; when it cannot
    /// say, the principal signs nothing until [`Nhi::settle_keys`] finds out. `Conflict`
    /// when another rotation came first.
    pub async fn commit_principal_key(
        &self,
        draft: PrincipalKeyDraft,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let change = draft.stored;
            let (org, name) = (change.former.org, change.former.principal.clone());
            // Memory has to take them in the order in which the store did.
            let _turn = inner.superseding.lock().await;
            match inner.store.replace_key(change.clone(), commit).await {
                Ok(receipt) => {
                    inner.registry.write().replace_key(change)?;
                    Ok(receipt)
                }
                Err(StoreError::Conflict { what: "principal" }) => {
                    let (standing, authority) = inner.standing(org, &name)?;
                    let refused = inner.revoked_meanwhile(org, &standing).await;
                    authority.changed();
                    Err(refused)
                }
                // It may be durable all the same: the answer was lost, it is the answer of
                // a call that was made before, or another call never got to memory.
                Err(
                    error @ (StoreError::Unavailable(_)
                    | StoreError::Replayed(_)
                    | StoreError::Conflict {
                        what: "principal key",
                    }),
                ) => {
                    // What cannot be found out now is when it is asked for.
                    let _ = inner.learn_keys(org, &name).await;
                    Err(error.into())
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Finds out which key a principal signs with, when the store could not tell after a
    /// rotation; nothing to do otherwise. Until it can, the principal signs nothing.
    pub async fn settle_keys(&self, org: OrgId, name: &PrincipalName) -> Result<(), NhiError> {
        let settled = |inner: &Inner| {
            Ok(inner
                .registry
                .read()
                .org(org)?
                .principal(name)?
                .keys
                .settled)
        };
        if settled(&self.inner)? {
            return Ok(());
        }
        let _turn = self.inner.superseding.lock().await;
        match settled(&self.inner) {
            Ok(false) => self.inner.learn_keys(org, name).await,
            other => other.map(drop),
        }
    }

    /// Refuses what a key signed that was revoked.
    pub fn signed_in_force(
        &self,
        org: OrgId,
        name: &PrincipalName,
        kid: &str,
    ) -> Result<(), NhiError> {
        let key = self.principal_key(org, name, kid)?;
        if key.revoked {
            return Err(NhiError::SigningKeyRevoked {
                name: name.clone(),
                version: key.version,
            });
        }
        Ok(())
    }

    /// Revokes a key of a principal, for ever: on return no identity by a link that it
    /// signed is live, and nothing else that it signed is given out or believed, after a
    /// restart neither. What is stored is one row, however many links it signed. Of the
    /// key that the principal signs with, nothing more is signed until there is another.
    ///
    /// When the store fails, memory takes over what the store then says; the key counts
    /// as revoked when it cannot say. Either way the call may be repeated.
    pub async fn revoke_key(
        &self,
        org: OrgId,
        principal: &PrincipalName,
        version: KeyVersion,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let (key, authority) = {
            let registry = self.inner.registry.read();
            let state = registry.org(org)?;
            let key = state.principal(principal)?.known(version)?.clone();
            (key, Arc::clone(&state.authority))
        };
        let (name, status) = (principal.clone(), key.status);
        if status.at().is_some() {
            // Whoever revoked it may not have told the readers yet.
            authority.changed();
            return Err(NhiError::KeyAlreadyRevoked { name, version });
        }
        let row = StoredKeyRevocation {
            org,
            principal: name.clone(),
            version,
            kid: key_id(&key.public)?,
            at,
        };
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            // Who finds out in the store that it was revoked waits here for memory.
            let _turn = inner.superseding.lock().await;
            let result = match inner.store.revoke_key(row.clone(), commit).await {
                Ok(receipt) => {
                    status.end(at);
                    Ok(receipt)
                }
                Err(StoreError::Conflict { .. }) => {
                    // Another call revoked it and may never get to memory.
                    status.kill();
                    inner.learn_key_revocation(&row, &status).await;
                    Err(NhiError::KeyAlreadyRevoked { name, version })
                }
                // It may be durable all the same: the answer was lost, or it is the
                // answer of a call that was made before.
                Err(error @ (StoreError::Unavailable(_) | StoreError::Replayed(_))) => {
                    inner.learn_key_revocation(&row, &status).await;
                    Err(error.into())
                }
                Err(error) => Err(error.into()),
            };
            authority.changed();
            result
        })
        .await
    }

    /// The keys of a principal, oldest first.
    pub fn principal_keys(
        &self,
        org: OrgId,
        name: &PrincipalName,
    ) -> Result<Vec<PrincipalKey>, NhiError> {
        let entry = self
            .inner
            .registry
            .read()
            .org(org)?
            .principal(name)?
            .clone();
        entry.listed()
    }

    /// The key of a principal with this thumbprint.
    pub fn principal_key(
        &self,
        org: OrgId,
        name: &PrincipalName,
        kid: &str,
    ) -> Result<PrincipalKey, NhiError> {
        let mut keys = self.principal_keys(org, name)?.into_iter();
        keys.find(|key| key.kid == kid)
            .ok_or_else(|| NhiError::UnknownKey {
                name: name.clone(),
                key: kid.to_owned(),
            })
    }
}

impl Inner {
    /// Takes over which keys the store says that a principal has. When it cannot say, the
    /// principal signs nothing.
    async fn learn_keys(&self, org: OrgId, name: &PrincipalName) -> Result<(), NhiError> {
        let learnt = self.stored_keys(org, name).await;
        let mut registry = self.registry.write();
        let state = registry.orgs.get_mut(&org);
        let state = state.ok_or(NhiError::UnknownOrganization { org })?;
        let authority = Arc::clone(&state.authority);
        let entry = state.principals.get_mut(name);
        let entry = entry.ok_or_else(|| NhiError::UnknownPrincipal { name: name.clone() })?;
        let (stored, mut known, revocations) = match learnt {
            Ok(learnt) => learnt,
            Err(error) => {
                entry.keys.settled = false;
                return Err(error);
            }
        };
        // The links of a key share its status: it stays the same one.
        for (known, before) in known.iter_mut().zip(entry.keys.known.iter()) {
            known.status = Arc::clone(&before.status);
        }
        for row in revocations {
            if let Some(key) = known.iter().find(|key| key.version == row.version) {
                key.status.end(row.at);
            }
        }
        entry.principal = Arc::new(stored.principal);
        *entry.keys = Keys {
            key: Arc::new(stored.key),
            known: known.into(),
            settled: true,
        };
        drop(registry);
        authority.changed();
        Ok(())
    }

    async fn stored_keys(
        &self,
        org: OrgId,
        name: &PrincipalName,
    ) -> Result<(StoredPrincipal, Vec<KnownKey>, Vec<StoredKeyRevocation>), NhiError> {
        let part = Part::Principal(org, name.clone());
        let mut snapshot = self.store.load_part(part).await?;
        let stored = snapshot
            .principals
            .pop()
            .ok_or_else(|| NhiError::UnknownPrincipal { name: name.clone() })?;
        let former = FormerKeys::of(snapshot.former_keys).take(&stored.principal);
        // It vouches for the rows, as at the start.
        let wrapping = wrapping_after(&stored.principal, &former)?;
        self.keys.signer(org, &stored.key, &wrapping)?;
        let known = known_keys(&stored.principal, former)?;
        Ok((stored, known, snapshot.key_revocations))
    }

    /// Waits until whoever revokes a key has told memory of it.
    pub(crate) async fn told_of_keys(&self) {
        drop(self.superseding.lock().await);
    }

    /// Takes over what the store knows of a key's revocation.
    async fn learn_key_revocation(&self, tried: &StoredKeyRevocation, status: &Ended) {
        let part = Part::Principal(tried.org, tried.principal.clone());
        let Ok(snapshot) = self.store.load_part(part).await else {
            return status.kill();
        };
        let mut revocations = snapshot.key_revocations.iter();
        let stored = revocations.find(|row| row.version == tried.version);
        if let Some(row) = stored {
            status.end(row.at);
        }
    }
}

impl Registry {
    /// The principal signs with another key from now on.
    fn replace_key(&mut self, change: StoredKeyChange) -> Result<(), NhiError> {
        let StoredKeyChange { key, former } = change;
        let state = self.orgs.get_mut(&former.org);
        let entry = state
            .and_then(|state| state.principals.get_mut(&former.principal))
            .ok_or(NhiError::UnknownPrincipal {
                name: former.principal,
            })?;
        let next = KnownKey {
            version: former.version.next(),
            public: key.public.clone(),
            since: former.replaced_at,
            status: Arc::default(),
        };
        let known = entry.keys.known.iter().cloned();
        entry.keys.known = known.chain([next]).collect();
        entry.principal = Arc::new(Principal {
            verifying_key: key.public.clone(),
            ..Principal::clone(&entry.principal)
        });
        entry.keys.key = Arc::new(StoredKey { ..key });
        Ok(())
    }

    /// Adds what was revoked of the keys.
    pub(crate) fn end_keys(
        &mut self,
        revocations: Vec<StoredKeyRevocation>,
    ) -> Result<(), NhiError> {
        for row in revocations {
            let state = self.orgs.get(&row.org);
            let entry = state.and_then(|state| state.principals.get(&row.principal));
            let key = entry
                .ok_or_else(|| corrupt("key revocation", "its principal is missing"))?
                .known(row.version)
                .map_err(|_| corrupt("key revocation", "its key is missing"))?;
            if key_id(&key.public)? != row.kid {
                return Err(corrupt("key revocation", "its key is another one"));
            }
            key.status.end(row.at);
        }
        Ok(())
    }
}

/// The keys that each principal had before, by organization and name.
pub(crate) struct FormerKeys(BTreeMap<(OrgId, PrincipalName), Vec<StoredFormerKey>>);

impl FormerKeys {
    /// Out of the rows of a store, in their order.
    pub(crate) fn of(rows: Vec<StoredFormerKey>) -> Self {
        let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in rows {
            let whose = (row.org, row.principal.clone());
            keys.entry(whose).or_default().push(row);
        }
        Self(keys)
    }

    /// Those of one principal, oldest first, and no longer kept here.
    pub(crate) fn take(&mut self, principal: &Principal) -> Vec<StoredFormerKey> {
        let whose = (principal.org, principal.name.clone());
        self.0.remove(&whose).unwrap_or_default()
    }

    /// Refuses keys of nobody.
    pub(crate) fn all_taken(&self) -> Result<(), NhiError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(corrupt("former key", "its principal is missing"))
    }
}

/// What the wrapped key of a principal is bound to that had these before.
pub(crate) fn wrapping_after(
    principal: &Principal,
    former: &[StoredFormerKey],
) -> Result<String, NhiError> {
    let before: Vec<VerifyingKey> = former.iter().map(|row| row.public.clone()).collect();
    wrapping_of(principal, &before)
}

/// The keys of a principal, oldest first: those before, and the present one.
pub(crate) fn known_keys(
    principal: &Principal,
    former: Vec<StoredFormerKey>,
) -> Result<Vec<KnownKey>, NhiError> {
    let mut known = Vec::with_capacity(former.len() + 1);
    let mut version = KeyVersion::FIRST;
    let mut since = principal.created_at;
    for row in former {
        if row.version != version {
            return Err(corrupt("former key", "a version is missing"));
        }
        known.push(KnownKey {
            version,
            public: row.public,
            since,
            status: Arc::default(),
        });
        version = version.next();
        since = row.replaced_at;
    }
    known.push(KnownKey {
        version,
        public: principal.verifying_key.clone(),
        since,
        status: Arc::default(),
    });
    Ok(known)
}
