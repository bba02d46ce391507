//! Other keys for an organization's log while it is served.
//!
//! Readers outside know the keys that sign checkpoints, so those that were replaced sign
//! besides the new ones until they are retired: meanwhile whoever knows either pair can
//! follow the log. What signs exported evidence is replaced with them; what it signed names
//! its key and stays what it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use creto_crypto::{Signer, VerifyingKey};
use creto_types::{Commit, OrgId, Receipt, StoreError};

use crate::keys::{SharedSigner, key_id, organization_wrapping};
use crate::ports::StoredLogRotation;
use crate::service::{Inner, to_completion};
use crate::{KeyPurpose, Nhi, NhiError};

/// What signs for one organization's log.
pub struct LogSigners {
    /// Checkpoints, for tools that know nothing else.
    pub ed25519: Arc<dyn Signer>,
    /// Checkpoints.
    pub composite: Arc<dyn Signer>,
    /// Exported evidence.
    pub evidence: Arc<dyn Signer>,
    /// Checkpoints besides, the Ed25519 key first, until they are retired.
    pub former: Option<(Arc<dyn Signer>, Arc<dyn Signer>)>,
}

/// New keys of a log, made and not in use yet.
pub struct LogRotationDraft {
    stored: StoredLogRotation,
    signers: Vec<(KeyPurpose, SharedSigner)>,
    former: BTreeMap<KeyPurpose, String>,
}

impl LogRotationDraft {
    #[cfg(feature = "test-util")]
    pub(crate) const fn stored(&self) -> &StoredLogRotation {
        &self.stored
    }

    /// The new keys.
    #[must_use]
    pub fn keys(&self) -> BTreeMap<KeyPurpose, VerifyingKey> {
        let keys = self.stored.keys.iter();
        keys.map(|(purpose, key)| (*purpose, key.public.clone()))
            .collect()
    }

    /// The `kid` of each key whose place they take.
    #[must_use]
    pub const fn former(&self) -> &BTreeMap<KeyPurpose, String> {
        &self.former
    }
}

impl std::fmt::Debug for LogRotationDraft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogRotationDraft")
            .field("org", &self.stored.org)
            .finish_non_exhaustive()
    }
}

impl Nhi {
    /// Every key that signs for an organization's log, as they are at one moment.
    pub fn log_signers(&self, org: OrgId) -> Result<LogSigners, NhiError> {
        let registry = self.inner.registry.read();
        let state = registry.org(org)?;
        let former = |purpose| state.former_log_keys.get(&purpose).map(Arc::clone);
        Ok(LogSigners {
            ed25519: state.signer(KeyPurpose::LogEd25519),
            composite: state.signer(KeyPurpose::LogComposite),
            evidence: state.signer(KeyPurpose::Evidence),
            former: former(KeyPurpose::LogEd25519).zip(former(KeyPurpose::LogComposite)),
        })
    }

    /// Makes keys for the log. [`NhiError::FormerLogKeys`] while those that the last
    /// rotation replaced are not retired.
    pub fn draft_log_rotation(&self, org: OrgId) -> Result<LogRotationDraft, NhiError> {
        let inner = &self.inner;
        if !self.former_log_keys(org)?.is_empty() {
            return Err(NhiError::FormerLogKeys);
        }
        let former = inner.log_kids(org)?;
        let (mut keys, mut signers) = (Vec::new(), Vec::new());
        for purpose in KeyPurpose::LOG {
            let wrapping = organization_wrapping(org, purpose);
            let key = inner.keys.make(org, purpose.fixed_algorithm(), &wrapping)?;
            let signer: SharedSigner = Arc::new(inner.keys.signer(org, &key, &wrapping)?);
            keys.push((purpose, key));
            signers.push((purpose, signer));
        }
        Ok(LogRotationDraft {
            stored: StoredLogRotation {
                org,
                keys,
                at: inner.clock.now(),
            },
            signers,
            former,
        })
    }

    /// Takes the new keys into use; those of before sign checkpoints besides.
    ///
    /// When the store fails, memory takes over what the store then says. `Conflict`
    /// when another rotation came first.
    pub async fn commit_log_rotation(
        &self,
        draft: LogRotationDraft,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let LogRotationDraft {
                stored,
                signers,
                former,
            } = draft;
            let org = stored.org;
            let _turn = inner.superseding.lock().await;
            // The record says whose place they take.
            if inner.log_kids(org)? != former {
                return Err(CHANGED.into());
            }
            let result = inner.store.rotate_log_keys(stored.clone(), commit).await;
            let in_force = match &result {
                Ok(_) => true,
                // It may be durable all the same: the answer was lost.
                Err(StoreError::Unavailable(_)) => inner.has_log_keys(&stored).await,
                Err(_) => false,
            };
            if in_force {
                inner.registry.write().replace_log_keys(org, signers)?;
            }
            Ok(result?)
        })
        .await
    }

    /// The `kid` of each former key that still signs checkpoints.
    pub fn former_log_keys(&self, org: OrgId) -> Result<BTreeMap<KeyPurpose, String>, NhiError> {
        self.inner.former_log_kids(org)
    }

    /// Ends the former keys of the log, which are these: they sign no more. `NotFound` when
    /// there are none, `Conflict` when they are others.
    ///
    /// To be called when a checkpoint by the keys in force is published. It stays so: they
    /// are replaced only when there are no former ones.
    pub async fn retire_log_keys(
        &self,
        org: OrgId,
        kids: BTreeMap<KeyPurpose, String>,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let _turn = inner.superseding.lock().await;
            let former = inner.former_log_kids(org)?;
            if !former.is_empty() && former != kids {
                return Err(CHANGED.into());
            }
            let result = inner.store.retire_log_keys(org, commit).await;
            let ended = match &result {
                Ok(_) => true,
                Err(StoreError::Unavailable(_) | StoreError::Replayed(_)) => {
                    !inner.has_former_log_keys(org).await
                }
                Err(_) => false,
            };
            if ended && let Some(state) = inner.registry.write().orgs.get_mut(&org) {
                state.former_log_keys.clear();
            }
            Ok(result?)
        })
        .await
    }
}

/// Another rotation or retirement came first.
const CHANGED: StoreError = StoreError::Conflict {
    what: "key of the log",
};

impl Inner {
    /// The `kid` of each key that signs for the log.
    fn log_kids(&self, org: OrgId) -> Result<BTreeMap<KeyPurpose, String>, NhiError> {
        let registry = self.registry.read();
        let state = registry.org(org)?;
        let kid = |purpose| key_id(state.signer(purpose).verifying_key());
        let kids = KeyPurpose::LOG.map(|purpose| Ok((purpose, kid(purpose)?)));
        kids.into_iter().collect()
    }

    fn former_log_kids(&self, org: OrgId) -> Result<BTreeMap<KeyPurpose, String>, NhiError> {
        let registry = self.registry.read();
        let former = registry.org(org)?.former_log_keys.iter();
        former
            .map(|(purpose, signer)| Ok((*purpose, key_id(signer.verifying_key())?)))
            .collect()
    }

    async fn has_log_keys(&self, rotation: &StoredLogRotation) -> bool {
        let stored = self.stored_organization(rotation.org).await;
        stored.is_some_and(|stored| rotation.keys.iter().all(|key| stored.keys.contains(key)))
    }

    /// Where the store cannot say they are taken to be there: they sign on.
    async fn has_former_log_keys(&self, org: OrgId) -> bool {
        let stored = self.stored_organization(org).await;
        stored.is_none_or(|stored| !stored.former_log_keys.is_empty())
    }
}
