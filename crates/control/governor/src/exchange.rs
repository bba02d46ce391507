//! Tokens for tokens: what RFC 8693 asks of the governor.

use std::time::Duration;

use creto_nhi::{AgentIdentity, InstanceName};
use creto_types::Commit;

use crate::proofs::thumbprint;
use crate::records::{TOKEN_ISSUED, TokenIssued};
use crate::roles::Call;
use crate::{Caller, GovernError, Governor, TokenAnswer};

/// What an agent asks for in exchange for its token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangeRequest {
    /// The instance that acts by it; that of the tokens given, if any, when absent.
    pub instance: Option<String>,
    /// The thumbprint of the key that the new one is bound to; that of the proof that came
    /// with the tokens, or of the token given, when absent.
    pub jkt: Option<String>,
    /// How long it is valid; the configured time when absent, and never longer than
    /// the tokens given.
    pub ttl_seconds: Option<u64>,
}

impl Governor {
    /// Issues an agent another token for the delegation of the one it came with:
    /// never for longer, and bound to an instance where one is named. An `actor` says
    /// who acts; that can only be the agent itself or one of its instances.
    ///
    /// The agent's own rate bounds it, and its evidence is durable before the token is
    /// seen, as with [`Governor::issue_token`].
    pub async fn exchange_token(
        &self,
        caller: &Caller,
        actor: Option<&Caller>,
        request: ExchangeRequest,
    ) -> Result<TokenAnswer, GovernError> {
        let live = || {
            let both = [Some(caller), actor];
            let mut both = both.into_iter().flatten();
            both.try_for_each(|one| one.live(self.now()))
        };
        caller.may(Call::IssueToken, self.now())?;
        live()?;
        self.admit(caller)?;
        let held = match actor {
            Some(actor) => acted_by(caller.identity(), actor.identity())?,
            None => caller.identity().clone(),
        };
        let instance: Option<InstanceName> =
            request.instance.map(|text| text.parse()).transpose()?;
        let key = thumbprint("creto_jkt", request.jkt.as_deref())?;
        let ttl = request.ttl_seconds.map(Duration::from_secs);
        let (identity, issued) = self.parts.nhi.exchange_token(&held, instance, key, ttl)?;
        let answer = TokenAnswer::of(&identity, &issued);
        let record = TokenIssued::of(&identity, &issued, held.token_id);
        let evidence = self
            .record(caller.org(), caller.name(), TOKEN_ISSUED, None, &record)
            .await?;
        let receipt = self.commit(Commit::of(evidence)).await?;
        let leaf = self.committed(caller.org(), &receipt);
        // What ended while this was written is not outrun.
        live()?;
        Ok(TokenAnswer {
            token: Some(issued.token),
            leaf,
            ..answer
        })
    }
}

/// The identity that both tokens prove: bound to the instance and the key of either, and
/// for as long as both hold.
fn acted_by(held: &AgentIdentity, actor: &AgentIdentity) -> Result<AgentIdentity, GovernError> {
    let link = |identity: &AgentIdentity| identity.link().map(|hop| hop.link.id);
    if actor.org != held.org || actor.name != held.name || link(actor) != link(held) {
        return Err(GovernError::forbidden(
            "who acts by a delegation is its delegatee: the actor's token is not of the same \
             agent and delegation",
        ));
    }
    let mut both = match actor.instance() {
        Some(instance) => held.of_instance(instance.clone())?,
        None => held.clone(),
    }
    .confirmed_by(actor.confirmation());
    both.expires_at = both.expires_at.min(actor.expires_at);
    Ok(both)
}
