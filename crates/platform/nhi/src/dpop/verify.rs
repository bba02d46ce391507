//! The use cases around tokens that are bound to a key.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::{Accepted, HolderAlgorithm, Thumbprint, sha256};
use creto_types::Timestamp;

use super::{DpopError, Proof};
use crate::service::Inner;
use crate::{AgentIdentity, Nhi, NhiError, PrincipalType};

/// How far `iat` may be from now. The nonce is what makes a proof fresh; this bounds the
/// use of one that was made ahead of its time by a clock that was set wrong.
const PROOF_WINDOW: Duration = Duration::from_secs(300);

/// What a token is exchanged by: see [`Nhi::verify_exchange`].
#[derive(Debug)]
pub struct Exchanging {
    /// Of the subject's token.
    pub subject: Arc<AgentIdentity>,
    /// Of the actor's token, when there is one.
    pub actor: Option<Arc<AgentIdentity>>,
    /// The key that was proven.
    pub key: Option<Thumbprint>,
}

impl Nhi {
    /// The nonce that the next proof has to name. It changes every [`super::NONCE_TURN`].
    #[must_use]
    pub fn proof_nonce(&self) -> String {
        self.inner.proofs.nonce()
    }

    /// By which algorithms proofs are read.
    #[must_use]
    pub fn proof_algorithms(&self) -> Accepted<HolderAlgorithm> {
        self.inner.config.algorithms.now().holder.clone()
    }

    /// Whether every agent's token has to be bound to a key.
    #[must_use]
    pub fn requires_proof(&self) -> bool {
        self.inner.config.require_proof
    }

    /// Checks a token that is bound to a key, with the whole chain behind it, and the
    /// proof that came with it. That the proof is for the request it came with is for
    /// the caller to see. It is used up by this, and by nothing that fails.
    pub fn verify_bound_token(
        &self,
        token: &str,
        proof: &Proof,
    ) -> Result<Arc<AgentIdentity>, NhiError> {
        let identity = self.inner.identity_in(token)?;
        self.verify_proof(&identity, token, proof)?;
        Ok(Arc::new(identity))
    }

    /// Checks the proof that came with a token whose identity was verified before, and
    /// uses it up as [`Nhi::verify_bound_token`] does.
    pub fn verify_proof(
        &self,
        identity: &AgentIdentity,
        token: &str,
        proof: &Proof,
    ) -> Result<(), DpopError> {
        let bound = identity.confirmation().ok_or(DpopError::NotBound)?;
        if bound != proof.key {
            return Err(DpopError::KeyMismatch);
        }
        if proof.token_hash.as_deref() != Some(&token_hash(token)) {
            return Err(DpopError::invalid("its `ath` is not of this token"));
        }
        self.inner.accept(identity, proof)
    }

    /// Checks the tokens that another one is asked for by (RFC 8693). One that is bound
    /// to a key is refused without a proof by that key; a proof beside unbound ones says
    /// which key the new one is to be bound to (RFC 9449, section 5).
    pub fn verify_exchange(
        &self,
        subject: &str,
        actor: Option<&str>,
        proof: Option<&Proof>,
    ) -> Result<Exchanging, NhiError> {
        let inner = &self.inner;
        let checked = |token: &str| -> Result<AgentIdentity, NhiError> {
            let identity = inner.identity_in(token)?;
            match (identity.confirmation(), proof) {
                (None, _) => inner.may_be_unbound(&identity)?,
                (Some(_), None) => return Err(DpopError::ProofRequired.into()),
                (Some(bound), Some(proof)) if bound == proof.key => {}
                (Some(_), Some(_)) => return Err(DpopError::KeyMismatch.into()),
            }
            Ok(identity)
        };
        let identity = checked(subject)?;
        let acting = actor.map(checked).transpose()?;
        if let Some(proof) = proof {
            // No token is presented here, so a proof need not name one.
            let given = std::iter::once(subject).chain(actor);
            if let Some(hash) = &proof.token_hash
                && !given.into_iter().any(|token| *hash == token_hash(token))
            {
                return Err(DpopError::invalid("its `ath` is of no token given").into());
            }
            inner.accept(&identity, proof)?;
        }
        Ok(Exchanging {
            subject: Arc::new(identity),
            actor: acting.map(Arc::new),
            key: proof.map(|proof| proof.key),
        })
    }
}

impl AgentIdentity {
    /// The same authority, exercised by who has this key. What is bound to a key stays
    /// so: `None` changes nothing.
    #[must_use]
    pub fn confirmed_by(&self, key: Option<Thumbprint>) -> Self {
        self.with(|narrowed| narrowed.confirmation = key.or(narrowed.confirmation))
    }
}

impl Inner {
    /// Refuses who must not act by a token that is bound to no key.
    pub(crate) fn may_be_unbound(&self, identity: &AgentIdentity) -> Result<(), DpopError> {
        match identity.kind {
            PrincipalType::Agent if self.config.require_proof => Err(DpopError::BindingRequired),
            PrincipalType::Agent | PrincipalType::Human => Ok(()),
        }
    }

    fn accept(&self, identity: &AgentIdentity, proof: &Proof) -> Result<(), DpopError> {
        self.in_time(proof)?;
        self.proofs.accept(identity.org, &identity.name, proof)
    }

    fn in_time(&self, proof: &Proof) -> Result<(), DpopError> {
        let out_of_range = || DpopError::invalid("an instant in it is out of range");
        let instant = |second| Timestamp::from_second(second).map_err(|_| out_of_range());
        let now = self.clock.now();
        let latest = now.saturating_add(PROOF_WINDOW).unwrap_or(Timestamp::MAX);
        let earliest = now.saturating_sub(PROOF_WINDOW).unwrap_or(Timestamp::MIN);
        let issued_at = instant(proof.issued_at)?;
        if issued_at < earliest || issued_at > latest {
            return Err(DpopError::invalid("its `iat` is too far from now"));
        }
        if let Some(end) = proof.expires_at
            && instant(end)? <= now
        {
            return Err(DpopError::invalid("it has expired"));
        }
        if let Some(begin) = proof.not_before
            && instant(begin)? > latest
        {
            return Err(DpopError::invalid("it is not valid yet"));
        }
        Ok(())
    }
}

/// `ath` of RFC 9449, section 4.2.
fn token_hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(token.as_bytes()))
}
