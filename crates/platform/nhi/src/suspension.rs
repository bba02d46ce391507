//! Suspending a principal: it, and everything that was delegated through it, has
//! no authority until it is resumed.

use std::sync::Arc;

use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};

use crate::authority::{Authority, Standing};
use crate::ports::{Part, StoredSuspension};
use crate::service::{Inner, not_revoked, to_completion};
use crate::{IdentityError, Nhi, NhiError};

impl Nhi {
    /// Suspends a principal. On return no identity in whose chain it stands is
    /// live, after a restart neither, until [`Nhi::resume`]. The organization's
    /// owner cannot be suspended: nobody would be left to resume anyone.
    ///
    /// When the store fails, memory takes over what the store then says; the
    /// principal counts as suspended when it cannot say. Either way the call may
    /// be repeated.
    pub async fn suspend(
        &self,
        org: OrgId,
        principal: &PrincipalName,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let (standing, authority) = self.inner.standing(org, principal)?;
        not_revoked(&standing)?;
        if self.inner.registry.read().org(org)?.owner == *principal {
            return Err(NhiError::OwnerNotSuspended {
                name: principal.clone(),
            });
        }
        let row = StoredSuspension {
            org,
            principal: principal.clone(),
            since: at,
        };
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            // Memory has to take them in the order in which the store did.
            let _turn = inner.superseding.lock().await;
            let result = match inner.store.insert_suspension(row, commit).await {
                Ok(receipt) => {
                    standing.suspend(at);
                    Ok(receipt)
                }
                Err(StoreError::Conflict { what: "principal" }) => {
                    Err(inner.revoked_meanwhile(org, &standing).await)
                }
                Err(StoreError::Conflict { .. }) => {
                    // Another call suspended it and may never get to memory.
                    standing.hold();
                    inner.learn_standing(org, &standing, true).await;
                    Err(NhiError::AlreadySuspended {
                        name: standing.principal().clone(),
                    })
                }
                Err(error) => Err(inner.unsure(error, org, &standing, true).await),
            };
            authority.changed();
            result
        })
        .await
    }

    /// Ends a suspension. On return whatever the principal held before is in force
    /// again, as far as it was not revoked and has not expired.
    ///
    /// When the store fails, memory takes over what the store then says; the
    /// principal stays suspended when it cannot say. Either way the call may be
    /// repeated.
    pub async fn resume(
        &self,
        org: OrgId,
        principal: &PrincipalName,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let (standing, authority) = self.inner.standing(org, principal)?;
        not_revoked(&standing)?;
        let principal = principal.clone();
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let _turn = inner.superseding.lock().await;
            let ended = inner
                .store
                .end_suspension(org, principal.clone(), commit)
                .await;
            let result = match ended {
                Ok(receipt) => {
                    standing.resume();
                    Ok(receipt)
                }
                Err(StoreError::Conflict { what: "principal" }) => {
                    Err(inner.revoked_meanwhile(org, &standing).await)
                }
                Err(StoreError::Conflict { what: "erasure" }) => {
                    Err(NhiError::ErasureUnderWay { name: principal })
                }
                Err(StoreError::Conflict { .. }) => {
                    inner.learn_standing(org, &standing, false).await;
                    Err(NhiError::NotSuspended { name: principal })
                }
                Err(error) => Err(inner.unsure(error, org, &standing, false).await),
            };
            authority.changed();
            result
        })
        .await
    }

    /// Whether a principal is suspended, always current.
    #[must_use]
    pub fn standing(&self, org: OrgId, principal: &PrincipalName) -> Option<Arc<Standing>> {
        let found = self.inner.standing(org, principal).ok()?;
        Some(found.0)
    }

    /// The human who founded the organization.
    pub fn owner(&self, org: OrgId) -> Result<PrincipalName, NhiError> {
        Ok(self.inner.registry.read().org(org)?.owner.clone())
    }
}

impl Inner {
    pub(crate) fn standing(
        &self,
        org: OrgId,
        principal: &PrincipalName,
    ) -> Result<(Arc<Standing>, Arc<Authority>), NhiError> {
        let registry = self.registry.read();
        let state = registry.org(org)?;
        let standing = Arc::clone(&state.principal(principal)?.standing);
        Ok((standing, Arc::clone(&state.authority)))
    }

    /// Another call revoked it since it was looked at, and may never get to memory.
    pub(crate) async fn revoked_meanwhile(&self, org: OrgId, standing: &Standing) -> NhiError {
        standing.kill();
        self.learn_expulsion(org, standing).await;
        IdentityError::PrincipalRevoked {
            principal: standing.principal().clone(),
        }
        .into()
    }

    /// The change may be durable although the store failed: the answer was lost,
    /// or it is the answer of a call that was made before.
    async fn unsure(
        &self,
        error: StoreError,
        org: OrgId,
        standing: &Standing,
        suspending: bool,
    ) -> NhiError {
        if matches!(error, StoreError::Unavailable(_) | StoreError::Replayed(_)) {
            self.learn_standing(org, standing, suspending).await;
        }
        error.into()
    }

    /// Takes over what the store knows of a principal's standing. When it cannot
    /// say, one that was to be suspended is, and one that was to be resumed stays
    /// what it is.
    async fn learn_standing(&self, org: OrgId, standing: &Standing, suspending: bool) {
        let part = Part::Principal(org, standing.principal().clone());
        let Ok(snapshot) = self.store.load_part(part).await else {
            if suspending {
                standing.hold();
            }
            return;
        };
        match snapshot.suspensions.first() {
            Some(row) => standing.suspend(row.since),
            None => standing.resume(),
        }
    }
}
