//! Revoking a principal: it, and everything that was delegated to it or through it, has
//! no authority ever again.

use std::sync::Arc;

use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};

use crate::authority::Standing;
use crate::ports::{Part, StoredExpulsion};
use crate::service::{Inner, to_completion};
use crate::{Nhi, NhiError};

impl Nhi {
    /// Revokes a principal, for ever. On return no identity in whose chain it stands is
    /// live, after a restart neither. What is stored is one row, however many delegations
    /// hang from it. The name stays taken: nobody else is ever known by it. The
    /// organization's founder cannot be revoked.
    ///
    /// When the store fails, memory takes over what the store then says; the principal
    /// counts as revoked when it cannot say. Either way the call may be repeated.
    pub async fn revoke_principal(
        &self,
        org: OrgId,
        principal: &PrincipalName,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let (standing, authority) = self.inner.standing(org, principal)?;
        let name = principal.clone();
        if self.inner.registry.read().org(org)?.owner == name {
            return Err(NhiError::OwnerNotRevoked { name });
        }
        if standing.revoked_at().is_some() {
            // Whoever revoked it may not have told the readers yet.
            authority.changed();
            return Err(NhiError::PrincipalAlreadyRevoked { name });
        }
        let row = StoredExpulsion {
            org,
            principal: name.clone(),
            at,
        };
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let result = match inner.store.insert_expulsion(row, commit).await {
                Ok(receipt) => {
                    standing.revoke(at);
                    Ok(receipt)
                }
                Err(StoreError::Conflict { .. }) => {
                    // Another call revoked it and may never get to memory.
                    standing.kill();
                    inner.learn_expulsion(org, &standing).await;
                    Err(NhiError::PrincipalAlreadyRevoked { name })
                }
                // It may be durable all the same: the answer was lost, or it is the
                // answer of a call that was made before.
                Err(error @ (StoreError::Unavailable(_) | StoreError::Replayed(_))) => {
                    inner.learn_expulsion(org, &standing).await;
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
    /// Takes over what the store knows of a principal's revocation.
    pub(crate) async fn learn_expulsion(&self, org: OrgId, standing: &Standing) {
        let part = Part::Principal(org, standing.principal().clone());
        let Ok(snapshot) = self.store.load_part(part).await else {
            return standing.kill();
        };
        if let Some(row) = snapshot.expulsions.first() {
            standing.revoke(row.at);
        }
    }
}
