//! Credentials of people, and superseding them: every one issued before is dead.
//!
//! A token's `iat` has whole seconds and follows a clock that may be stepped, so
//! no instant tells exactly which tokens came before. Instead each supersession
//! begins an epoch with an id of its own; a token names the epoch it was issued
//! in, and is refused when another has begun.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use creto_types::{Commit, Id, IdKind, OrgId, PrincipalName, Receipt, StoreError, Timestamp};

use crate::ports::{HumanCredentials, Part, Presented, StoredEpoch};
use crate::service::{Inner, to_completion};
use crate::{AgentIdentity, Nhi, NhiError, PrincipalType, TokenEnds};

/// The kind of [`EpochId`].
#[derive(Debug)]
pub enum EpochKind {}

impl IdKind for EpochKind {
    const PREFIX: &'static str = "epo";
}

/// The time between two supersessions of one human's credentials.
pub type EpochId = Id<EpochKind>;

/// The epoch a human's credentials are of now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    pub(crate) id: EpochId,
    pub(crate) since: Timestamp,
}

/// The tokens that organizations issue to their people. They say all by themselves: no
/// challenge is answered.
#[derive(Debug)]
pub struct IssuedTokens(Arc<Nhi>);

impl IssuedTokens {
    /// Of the organizations that this knows.
    #[must_use]
    pub const fn new(nhi: Arc<Nhi>) -> Self {
        Self(nhi)
    }
}

#[async_trait]
impl HumanCredentials for IssuedTokens {
    fn kind(&self) -> &'static str {
        "token"
    }

    async fn verify(&self, presented: Presented<'_>) -> Result<Arc<AgentIdentity>, NhiError> {
        let identity = self.0.verify_token(presented.credential)?;
        match identity.kind {
            PrincipalType::Human => Ok(identity),
            PrincipalType::Agent => Err(NhiError::NotHuman {
                name: identity.name.clone(),
            }),
        }
    }
}

impl Nhi {
    /// The identity of a person who proved by something else than a token who it is. It ends
    /// at `until`, and with the next supersession of the person's credentials.
    ///
    /// `epoch` is [`Nhi::credentials_epoch`] of when the person was given what proves it: a
    /// kind of credentials keeps that beside them, so that a supersession ends these too.
    ///
    /// # Errors
    ///
    /// [`NhiError::TokenSuperseded`], [`NhiError::NotHuman`], and those of names that are not
    /// known.
    pub fn human_in_person(
        &self,
        org: OrgId,
        name: &PrincipalName,
        epoch: Option<EpochId>,
        until: Timestamp,
    ) -> Result<Arc<AgentIdentity>, NhiError> {
        let mut identity = self.inner.human(org, name)?;
        identity.ends = self
            .inner
            .check_epoch(&identity, epoch, TokenEnds::default())?;
        identity.expires_at = until;
        Ok(Arc::new(identity))
    }

    /// Since which supersession the credentials of a human are good; none before the first.
    #[must_use]
    pub fn credentials_epoch(&self, org: OrgId, human: &PrincipalName) -> Option<EpochId> {
        let registry = self.inner.registry.read();
        let current = registry.orgs.get(&org)?.epochs.get(human)?;
        Some(current.id)
    }

    /// Supersedes every credential of a human. On return no token issued to that
    /// human before verifies, after a restart neither; every one issued from now
    /// on does, in the same second too. Delegations the human made stay: each is
    /// revoked by itself.
    ///
    /// When the store fails, memory takes over what the store then says; the
    /// credentials count as superseded when it cannot say. Either way the call
    /// may be repeated.
    pub async fn supersede_credentials(
        &self,
        org: OrgId,
        human: &PrincipalName,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        let human = inner.human(org, human)?.name;
        let next = StoredEpoch {
            org,
            human,
            epoch: inner.ids.next(),
            since: at,
        };
        to_completion(commit.turn(), async move {
            // Memory has to take epochs in the order in which the store did.
            let _turn = inner.superseding.lock().await;
            let authority = Arc::clone(&inner.registry.read().org(next.org)?.authority);
            let result = match inner.store.insert_epoch(next.clone(), commit).await {
                Ok(receipt) => {
                    inner.registry.write().begin_epoch(next)?;
                    Ok(receipt)
                }
                // It may be durable all the same: the answer was lost, or it is
                // the answer of a call that was made before.
                Err(error @ (StoreError::Unavailable(_) | StoreError::Replayed(_))) => {
                    inner.learn_epoch(next).await?;
                    Err(error.into())
                }
                Err(error) => Err(error.into()),
            };
            inner.tokens_ended.fetch_add(1, Ordering::SeqCst);
            authority.changed();
            result
        })
        .await
    }
}

impl Inner {
    /// Takes over which epoch the store says the human's credentials are of.
    async fn learn_epoch(&self, attempted: StoredEpoch) -> Result<(), NhiError> {
        let part = Part::Principal(attempted.org, attempted.human.clone());
        let Ok(mut snapshot) = self.store.load_part(part).await else {
            return self.registry.write().begin_epoch(attempted);
        };
        let (org, human) = (attempted.org, attempted.human);
        let last = snapshot.epochs.pop();
        let mut registry = self.registry.write();
        match last {
            Some(stored) => registry.begin_epoch(stored),
            None => {
                if let Some(state) = registry.orgs.get_mut(&org)
                    && state.epochs.remove(&human).is_some()
                    && let Some(entry) = state.principals.get(&human)
                {
                    entry.standing.supersede();
                }
                Ok(())
            }
        }
    }

    /// What ends a token of this epoch of this human, if it still counts.
    pub(crate) fn check_epoch(
        &self,
        human: &AgentIdentity,
        epoch: Option<EpochId>,
        ends: TokenEnds,
    ) -> Result<TokenEnds, NhiError> {
        let registry = self.registry.read();
        let state = registry.org(human.org)?;
        // Both under one lock, so that they are of one moment.
        let current = state.epochs.get(&human.name);
        let supersessions = state.principal(&human.name)?.standing.supersessions();
        match current {
            Some(current) if epoch != Some(current.id) => {
                Err(NhiError::TokenSuperseded { at: current.since })
            }
            None if epoch.is_some() => Err(NhiError::InvalidToken {
                why: "it is newer than what is stored about its subject",
            }),
            _ => Ok(ends.superseded_after(supersessions)),
        }
    }
}
