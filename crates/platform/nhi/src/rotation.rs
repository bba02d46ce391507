//! Moving an organization to another algorithm or to other keys while it is served.
//!
//! Rotation adds a wrapping key and an issuer key, each of the algorithm for new
//! keys: what is made from then on is by these, and everything made before stays
//! readable. Retirement is a step of its own: it wraps what is left under the newest
//! wrapping key, and ends the older ones and the issuers that were replaced. The keys of
//! the log, which readers outside know, are rotated for themselves (`log_keys.rs`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use creto_crypto::{SignatureAlgorithm, WrapAlgorithm, WrappedKey};
use creto_types::{Commit, OrgId, Receipt, StoreError, Timestamp};

use crate::keys::{SharedSigner, key_id, organization_wrapping};
use crate::ports::{KeyHolder, Part, Rewrapped, StoredOrganization, StoredRotation};
use crate::principal_keys::{FormerKeys, wrapping_after};
use crate::secrets::secret_wrapping;
use crate::service::{Inner, to_completion};
use crate::{KeyPurpose, Nhi, NhiError, StoredKey};

/// How many keys are wrapped anew in one transaction.
const BATCH: usize = 256;

/// New keys of an organization, made and not in use yet.
pub struct RotationDraft {
    stored: StoredRotation,
    signer: SharedSigner,
    summary: RotationSummary,
}

/// Which keys an organization uses after a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationSummary {
    /// The version of its wrapping key.
    pub wrapping_version: u32,
    /// How what is under that key is wrapped.
    pub wrapping: WrapAlgorithm,
    /// By which algorithm its tokens are signed.
    pub issuer: SignatureAlgorithm,
    /// The `kid` of that key.
    pub issuer_kid: String,
    /// The `kid` of the key before, whose tokens hold until it is retired.
    pub former_kid: String,
}

impl RotationDraft {
    #[cfg(feature = "test-util")]
    pub(crate) const fn stored(&self) -> &StoredRotation {
        &self.stored
    }

    /// What it will lead to.
    #[must_use]
    pub const fn summary(&self) -> &RotationSummary {
        &self.summary
    }
}

impl std::fmt::Debug for RotationDraft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RotationDraft")
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

/// What a retirement ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retiring {
    /// Wrapping keys before this version end; what was under them was wrapped anew.
    pub before_version: Option<u32>,
    /// The issuers that end.
    pub issuer_kids: Vec<String>,
    /// When the last token that one of them signed is no longer valid by itself.
    pub tokens_until: Option<Timestamp>,
}

impl Nhi {
    /// Makes a wrapping key and an issuer key of the algorithms for new keys. Waits for the
    /// keystore: not for a thread that others wait for.
    pub fn draft_rotation(&self, org: OrgId) -> Result<RotationDraft, NhiError> {
        let inner = &self.inner;
        let former_kid = inner.registry.read().org(org)?.issuer_kid.clone();
        let failed = |source| NhiError::Crypto {
            operation: "make a wrapping key",
            source,
        };
        let wrapping = inner.keys.ring.draft(org).map_err(failed)?;
        // Still under the wrapping key before: the new one is not durable yet.
        let purpose = organization_wrapping(org, KeyPurpose::Issuer);
        let issuer = inner
            .keys
            .make(org, KeyPurpose::Issuer.fixed_algorithm(), &purpose)?;
        let signer: SharedSigner = Arc::new(inner.keys.signer(org, &issuer, &purpose)?);
        let summary = RotationSummary {
            wrapping_version: wrapping.version,
            wrapping: inner.config.algorithms.now().wrapping.for_new(),
            issuer: issuer.public.algorithm(),
            issuer_kid: key_id(&issuer.public)?,
            former_kid,
        };
        Ok(RotationDraft {
            stored: StoredRotation {
                org,
                wrapping,
                issuer,
                at: inner.clock.now(),
            },
            signer,
            summary,
        })
    }

    /// Takes the new keys into use. Tokens, links and stored keys from before stay
    /// valid until [`Nhi::retire_keys`].
    ///
    /// When the store fails, memory takes over what the store then says. `Conflict`
    /// when another rotation came first.
    pub async fn commit_rotation(
        &self,
        draft: RotationDraft,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let RotationDraft {
                stored,
                signer,
                summary,
            } = draft;
            // Memory has to take them in the order in which the store did.
            let _turn = inner.superseding.lock().await;
            // What the record says was replaced has to be what is.
            if inner.registry.read().org(stored.org)?.issuer_kid != summary.former_kid {
                let what = "wrapping key";
                return Err(StoreError::Conflict { what }.into());
            }
            let result = inner.store.rotate_keys(stored.clone(), commit).await;
            let in_force = match &result {
                Ok(_) => true,
                // It may be durable all the same: the answer was lost.
                Err(StoreError::Unavailable(_)) => inner.is_stored(&stored).await,
                Err(_) => false,
            };
            if in_force {
                inner.take_rotation(&stored, signer)?;
            }
            Ok(result?)
        })
        .await
    }

    /// What [`Nhi::retire_keys`] would end now.
    pub fn retiring(&self, org: OrgId) -> Result<Retiring, NhiError> {
        self.inner.retiring(org)
    }

    /// Wraps what is left under older wrapping keys, or under the root key itself,
    /// under the newest one. Changes no key and no authority; may be repeated.
    pub async fn rewrap_keys(&self, org: OrgId) -> Result<usize, NhiError> {
        let inner = Arc::clone(&self.inner);
        let work = async move { inner.rewrap(org).await };
        match tokio::spawn(work).await {
            Ok(outcome) => outcome,
            Err(error) => Err(StoreError::Unavailable(Box::new(error)).into()),
        }
    }

    /// Ends the wrapping keys and issuers that rotations replaced, as told by
    /// [`Nhi::retiring`]. Tokens that those issuers signed verify no more. Call
    /// [`Nhi::rewrap_keys`] first; `Conflict` when something was wrapped under an older
    /// key, or rotated, meanwhile.
    pub async fn retire_keys(
        &self,
        org: OrgId,
        retiring: Retiring,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let _turn = inner.superseding.lock().await;
            if inner.retiring(org)? != retiring {
                return Err(StoreError::Conflict {
                    what: "wrapping key",
                }
                .into());
            }
            let authority = Arc::clone(&inner.registry.read().org(org)?.authority);
            let before = retiring.before_version.unwrap_or(0);
            let result = inner.store.retire_keys(org, before, commit).await;
            // Whether all of it came about; without it the issuers are ended alone, which
            // is safe, and what is wrapped stays readable.
            let known = match &result {
                Ok(_) => true,
                // It may be durable all the same: the answer was lost, or it is the
                // answer of a call that was made before.
                Err(StoreError::Unavailable(_) | StoreError::Replayed(_)) => {
                    match inner.has_former_issuers(org).await {
                        Some(true) => return Ok(result?),
                        answer => answer.is_some(),
                    }
                }
                Err(_) => return Ok(result?),
            };
            let mut registry = inner.registry.write();
            let former = match registry.orgs.get_mut(&org) {
                Some(state) => std::mem::take(&mut state.former_issuers),
                None => Vec::new(),
            };
            for issuer in former {
                issuer.retirement.retire();
                registry.issuers.remove(&issuer.kid);
            }
            drop(registry);
            if known {
                let guard = inner.unwrapping.write();
                inner.keys.ring.retire_before(org, before);
                drop(guard);
            }
            inner.tokens_ended.fetch_add(1, Ordering::SeqCst);
            authority.changed();
            Ok(result?)
        })
        .await
    }
}

impl Inner {
    fn retiring(&self, org: OrgId) -> Result<Retiring, NhiError> {
        let longest = self.config.max_token_ttl;
        let registry = self.registry.read();
        let former = &registry.org(org)?.former_issuers;
        Ok(Retiring {
            before_version: self.keys.ring.version(org),
            issuer_kids: former.iter().map(|issuer| issuer.kid.clone()).collect(),
            tokens_until: former
                .iter()
                .map(|issuer| issuer.replaced_at)
                .max()
                .map(|at| at.saturating_add(longest).unwrap_or(Timestamp::MAX)),
        })
    }

    /// Whether the store has issuers that were replaced and not retired; `None` when it
    /// cannot say.
    async fn has_former_issuers(&self, org: OrgId) -> Option<bool> {
        let stored = self.stored_organization(org).await?;
        Some(!stored.former_issuers.is_empty())
    }

    async fn is_stored(&self, rotation: &StoredRotation) -> bool {
        let stored = self.stored_organization(rotation.org).await;
        stored.is_some_and(|stored| stored.wrapping.contains(&rotation.wrapping))
    }

    /// An organization as the store has it; `None` when the store cannot say, or has not.
    pub(crate) async fn stored_organization(&self, org: OrgId) -> Option<StoredOrganization> {
        let part = Part::Organization(org);
        let mut snapshot = self.store.load_part(part).await.ok()?;
        snapshot.organizations.pop()
    }

    fn take_rotation(
        &self,
        rotation: &StoredRotation,
        signer: SharedSigner,
    ) -> Result<(), NhiError> {
        let org = rotation.org;
        self.keys
            .ring
            .add(org, &rotation.wrapping)
            .map_err(|source| NhiError::Crypto {
                operation: "open a wrapping key",
                source,
            })?;
        let version = rotation.wrapping.version;
        self.registry
            .write()
            .replace_issuer(org, signer, version, rotation.at)
    }

    async fn rewrap(&self, org: OrgId) -> Result<usize, NhiError> {
        let old = {
            let snapshot = self.store.load().await?;
            let mut old: Vec<(KeyHolder, String, WrappedKey)> = Vec::new();
            for stored in snapshot.organizations {
                if stored.organization.id == org {
                    old.extend(stored.keys.into_iter().map(|(purpose, key)| {
                        let wrapping = organization_wrapping(org, purpose);
                        (KeyHolder::Organization(purpose), wrapping, key.wrapped)
                    }));
                    old.extend(stored.former_log_keys.into_iter().map(|former| {
                        let wrapping = organization_wrapping(org, former.purpose);
                        let holder = KeyHolder::FormerLog(former.purpose);
                        (holder, wrapping, former.key.wrapped)
                    }));
                }
            }
            let mut former = FormerKeys::of(snapshot.former_keys);
            for stored in snapshot.principals {
                if stored.principal.org == org {
                    let before = former.take(&stored.principal);
                    let wrapping = wrapping_after(&stored.principal, &before)?;
                    let holder = KeyHolder::Principal(stored.principal.name);
                    old.push((holder, wrapping, stored.key.wrapped));
                }
            }
            for stored in self.store.secrets().secrets(org).await? {
                let wrapping = secret_wrapping(org, &stored.name, stored.version);
                let holder = KeyHolder::Secret(stored.name, stored.version);
                old.push((holder, wrapping, stored.sealed));
            }
            for (id, wrapped) in self.store.subject_keys(org).await? {
                old.push((KeyHolder::Subject(id), id.key_purpose(org), wrapped));
            }
            old.retain(|(.., wrapped)| self.keys.ring.is_old(org, wrapped));
            old
        };
        for batch in old.chunks(BATCH) {
            let mut rewrapped = Vec::with_capacity(batch.len());
            for (holder, purpose, wrapped) in batch {
                rewrapped.push(Rewrapped {
                    holder: holder.clone(),
                    from: wrapped.clone(),
                    to: self.keys.rewrap(org, purpose, wrapped)?,
                });
            }
            // A key that is being replaced is in the store before it is in memory.
            let _turn = self.superseding.lock().await;
            self.store.rewrap_keys(org, rewrapped.clone()).await?;
            let mut registry = self.registry.write();
            for Rewrapped { holder, from, to } in rewrapped {
                let (KeyHolder::Principal(name), Some(state)) =
                    (holder, registry.orgs.get_mut(&org))
                else {
                    continue;
                };
                // Another key may have taken its place meanwhile.
                let found = state.principals.get_mut(&name);
                if let Some(entry) = found.filter(|entry| entry.keys.key.wrapped == from) {
                    entry.keys.key = Arc::new(StoredKey {
                        public: entry.keys.key.public.clone(),
                        wrapped: to,
                    });
                }
            }
        }
        Ok(old.len())
    }
}
