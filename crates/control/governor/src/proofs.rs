//! Callers whose tokens are bound to a key (RFC 9449).

use creto_authz::Bound;
use creto_crypto::{Accepted, HolderAlgorithm, Thumbprint};
use creto_nhi::{NhiError, Proof};

use crate::caller::Origin;
use crate::{Caller, GovernError, Governor};

/// Who exchanges a token, and for whom: see [`Governor::authenticate_exchange`].
#[derive(Debug)]
pub struct Exchange {
    /// Whose token is given.
    pub subject: Caller,
    /// Whose token says who acts.
    pub actor: Option<Caller>,
    /// The key that was proven; the new token is bound to it unless it names another.
    pub key: Option<Thumbprint>,
}

impl Governor {
    /// Verifies a token that is bound to a key, and uses up the proof that came with it. Of
    /// a token that was verified before only the proof, and what may have ended since, is
    /// looked at. That the proof is for the request is for the interface to see.
    pub fn authenticate_with_proof(
        &self,
        token: &str,
        proof: &Proof,
    ) -> Result<Caller, GovernError> {
        let nhi = &self.parts.nhi;
        // As in `authenticate`.
        let ended = nhi.tokens_ended();
        let now = self.parts.clock.reading();
        let holds = |bound: &Bound| bound.live(now).is_ok();
        if let Some(bound) = self.verified.get(token, ended, now, holds) {
            nhi.verify_proof(bound.identity(), token, proof)
                .map_err(NhiError::from)?;
            let bound = self.renewed(token, ended, now, bound);
            return Ok(Caller::new(bound, Origin::Token));
        }
        let identity = nhi.verify_bound_token(token, proof)?;
        let bound = self.parts.authz.bind(identity);
        self.verified.keep(token, ended, now, bound.clone());
        Ok(Caller::new(bound, Origin::Token))
    }

    /// Verifies the tokens of an exchange, and uses up the proof that came with them.
    pub fn authenticate_exchange(
        &self,
        subject: &str,
        actor: Option<&str>,
        proof: Option<&Proof>,
    ) -> Result<Exchange, GovernError> {
        let exchanging = self.parts.nhi.verify_exchange(subject, actor, proof)?;
        let caller = |identity| Caller::new(self.parts.authz.bind(identity), Origin::Token);
        Ok(Exchange {
            subject: caller(exchanging.subject),
            actor: exchanging.actor.map(caller),
            key: exchanging.key,
        })
    }

    /// The nonce that the next proof has to name.
    #[must_use]
    pub fn proof_nonce(&self) -> String {
        self.parts.nhi.proof_nonce()
    }

    /// By which algorithms proofs of possession are read.
    #[must_use]
    pub fn proof_algorithms(&self) -> Accepted<HolderAlgorithm> {
        self.parts.nhi.proof_algorithms()
    }

    /// Whether every agent's token has to be bound to a key.
    #[must_use]
    pub fn requires_proof(&self) -> bool {
        self.parts.nhi.requires_proof()
    }
}

/// The thumbprint of a key that a token is to be bound to.
pub(crate) fn thumbprint(
    field: &'static str,
    text: Option<&str>,
) -> Result<Option<Thumbprint>, GovernError> {
    text.map(str::parse).transpose().map_err(|_| {
        GovernError::invalid(
            field,
            "the SHA-256 thumbprint of a public key (RFC 7638) is expected: 43 characters of \
             unpadded base64url",
        )
    })
}
