//! The roles of humans.
//!
//! A role stands with its human's standing, which every identity of the human shares,
//! so that the next call sees a change. Whether the change is in the store decides:
//! memory follows it, and a human whose role the store cannot tell has none.

use std::sync::Arc;

use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};

use crate::ports::{Part, StoredRole};
use crate::service::{Inner, to_completion};
use crate::{Nhi, NhiError, PrincipalDraft, PrincipalType, Role, Standing};

impl Nhi {
    /// Adds a human with a role.
    ///
    /// # Errors
    ///
    /// As for [`Nhi::commit_principal`]; `principal_not_human` for an agent's draft.
    pub async fn commit_human(
        &self,
        draft: PrincipalDraft,
        role: Role,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let stored = draft.stored;
        let (org, name) = (stored.principal.org, stored.principal.name.clone());
        if stored.principal.kind != PrincipalType::Human {
            return Err(NhiError::NotHuman { name });
        }
        let row = StoredRole {
            org,
            human: name.clone(),
            role,
            since: at,
        };
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let _turn = inner.superseding.lock().await;
            let receipt = inner
                .store
                .insert_human(stored.clone(), row, commit)
                .await
                .map_err(|error| match error {
                    StoreError::Conflict { what: "principal" } => {
                        NhiError::PrincipalExists { name: name.clone() }
                    }
                    other => other.into(),
                })?;
            if let Some(state) = inner.registry.write().orgs.get_mut(&org) {
                state.add_principal(stored)?;
                state.principal(&name)?.standing.set_role(Some(role));
            }
            Ok(receipt)
        })
        .await
    }

    /// Gives a human another role. On return no call of the human is taken by the role
    /// before, after a restart neither. Who founded the organization stays its owner.
    ///
    /// When the store fails, memory takes over what the store then says; the human has
    /// no role when it cannot say. Either way the call may be repeated.
    ///
    /// # Errors
    ///
    /// `unknown_principal`, `principal_not_human`, `owner_keeps_role`, and what the
    /// store fails with.
    pub async fn set_role(
        &self,
        org: OrgId,
        human: &PrincipalName,
        role: Role,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let human = self.inner.human(org, human)?;
        if self.owner(org)? == human.name {
            return Err(NhiError::OwnerKeepsRole { name: human.name });
        }
        let row = StoredRole {
            org,
            human: human.name.clone(),
            role,
            since: at,
        };
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            // Memory has to take them in the order in which the store did.
            let _turn = inner.superseding.lock().await;
            let standing = inner.standing(org, &human.name)?.0;
            match inner.store.set_role(row, commit).await {
                Ok(receipt) => {
                    standing.set_role(Some(role));
                    Ok(receipt)
                }
                // It may be durable all the same: the answer was lost, or it is the
                // answer of a call that was made before.
                Err(error @ (StoreError::Unavailable(_) | StoreError::Replayed(_))) => {
                    inner.learn_role(org, &standing).await;
                    Err(error.into())
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// The role of a human, always current. `None` for whoever has none.
    #[must_use]
    pub fn role(&self, org: OrgId, human: &PrincipalName) -> Option<Role> {
        self.standing(org, human)?.role()
    }
}

impl Inner {
    async fn learn_role(&self, org: OrgId, standing: &Standing) {
        let part = Part::Principal(org, standing.principal().clone());
        let stored = match self.store.load_part(part).await {
            Ok(mut snapshot) => snapshot.roles.pop(),
            Err(_) => None,
        };
        standing.set_role(stored.map(|row| row.role));
    }
}
