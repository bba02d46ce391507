//! Revoking a delegation: it, and every one below, has no authority ever again.

use std::sync::Arc;

use creto_types::{Commit, OrgId, Receipt, StoreError, Timestamp};

use crate::ports::Part;
use crate::service::{Inner, to_completion};
use crate::{LinkId, LinkStatus, Nhi, NhiError};

impl Nhi {
    /// Ends a delegation and, with it, every one below. On return no identity
    /// that holds it is live.
    ///
    /// When the store fails, memory takes the delegation for what the store then
    /// says it is; for dead, when it cannot say. Either way the call may be
    /// repeated.
    pub async fn revoke(
        &self,
        org: OrgId,
        link: LinkId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let (status, authority) = {
            let registry = self.inner.registry.read();
            let state = registry.org(org)?;
            let entry = state.links.get(&link);
            let entry = entry.ok_or(NhiError::UnknownDelegation { link })?;
            (Arc::clone(&entry.status), Arc::clone(&state.authority))
        };
        if status.revoked_at().is_some() {
            // Whoever revoked it may not have told the readers yet.
            authority.changed();
            return Err(NhiError::AlreadyRevoked { link });
        }
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let result = match inner.store.revoke_link(org, link, at, commit).await {
                Ok(receipt) => {
                    status.revoke(at);
                    Ok(receipt)
                }
                Err(StoreError::Conflict { .. }) => {
                    // Another call revoked it and may never get to memory.
                    status.kill();
                    inner.learn_revocation(org, link, &status).await;
                    Err(NhiError::AlreadyRevoked { link })
                }
                // It may be durable all the same: the answer was lost, or it is
                // the answer of a call that was made before.
                Err(error @ (StoreError::Unavailable(_) | StoreError::Replayed(_))) => {
                    inner.learn_revocation(org, link, &status).await;
                    Err(error.into())
                }
                Err(error) => Err(error.into()),
            };
            authority.changed();
            result
        })
        .await
    }
}

impl Inner {
    /// Takes over what the store knows of a link's revocation. The links below
    /// share its status.
    async fn learn_revocation(&self, org: OrgId, link: LinkId, status: &LinkStatus) {
        let Ok(snapshot) = self.store.load_part(Part::Link(org, link)).await else {
            return status.kill();
        };
        let stored = snapshot.links.first();
        if let Some(at) = stored.and_then(|stored| stored.revoked_at) {
            status.revoke(at);
        }
    }
}
