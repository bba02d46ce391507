//! People who prove once who they are, and go on from there.

use std::sync::Arc;

use creto_nhi::Presented;

use crate::caller::Origin;
use crate::{Caller, GovernError, Governor};

impl Governor {
    /// Who presents a credential of this kind, to begin a session with it.
    ///
    /// # Errors
    ///
    /// `invalid_request` when there are no credentials of this kind, `principal_not_human`
    /// for an agent's, and what is wrong with the credential.
    pub async fn log_in(
        &self,
        kind: &str,
        presented: Presented<'_>,
    ) -> Result<Caller, GovernError> {
        let all = &self.parts.credentials;
        let Some(credentials) = all.iter().find(|credentials| credentials.kind() == kind) else {
            let kinds: Vec<_> = all.iter().map(|credentials| credentials.kind()).collect();
            let message = format!("is none of the kinds of credentials: {}", kinds.join(", "));
            return Err(GovernError::invalid("kind", message));
        };
        let identity = credentials.verify(presented).await?;
        let caller = Caller::new(self.parts.authz.bind(identity), Origin::Session);
        caller.require_person("begin a session")?;
        caller.live(self.now())?;
        Ok(caller)
    }

    /// The person of a session as of now, by the limits of now.
    ///
    /// # Errors
    ///
    /// That the credential or the person's authority ended since.
    pub fn still(&self, caller: &Caller) -> Result<Caller, GovernError> {
        caller.live(self.now())?;
        let bound = caller.bound();
        Ok(match bound.is_current() {
            true => caller.clone(),
            false => {
                let anew = self.parts.authz.bind(Arc::clone(bound.identity()));
                Caller::new(anew, caller.origin())
            }
        })
    }
}
