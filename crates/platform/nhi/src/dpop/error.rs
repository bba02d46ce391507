//! Why a proof, or a token that needs one, is refused.

use std::time::Duration;

use creto_crypto::CryptoError;
use creto_errors::{Class, Classify};
use creto_types::PrincipalName;

/// A proof of possession is missing, wrong, or where none belongs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpopError {
    /// It is not a proof for this request, or for this token.
    #[error("the DPoP proof is not valid: {why}")]
    Invalid {
        /// Why, without quoting it.
        why: &'static str,
    },
    /// It is by an algorithm that this server does not know, or not accept.
    #[error("the DPoP proof cannot be read: {0}")]
    Algorithm(CryptoError),
    /// It was accepted before.
    #[error("the DPoP proof was used before; every request needs one of its own")]
    Replayed,
    /// It names no nonce that is accepted now.
    #[error("the DPoP proof needs the nonce of the `DPoP-Nonce` header of this answer")]
    UseNonce,
    /// The token is bound to a key, and nothing proves that its bearer has it.
    #[error(
        "the token is bound to a key: `Authorization: DPoP <token>` and a proof in the header \
         `DPoP` are needed"
    )]
    ProofRequired,
    /// The token is bound to no key.
    #[error("the token is bound to no key, so nothing proves whose it is; it is a bearer token")]
    NotBound,
    /// The proof is by another key than the token's.
    #[error("the DPoP proof is not by the key that the token is bound to")]
    KeyMismatch,
    /// This server wants every token of an agent bound to a key.
    #[error("a token of an agent has to be bound to a key here (DPoP)")]
    BindingRequired,
    /// More proofs than are remembered; what could not be remembered could be replayed.
    #[error(
        "more DPoP proofs of `{principal}` came than are remembered; there is room again in {} s",
        whole_seconds(*retry_after)
    )]
    TooManyProofs {
        /// Who.
        principal: PrincipalName,
        /// How long until a nonce begins that has room.
        retry_after: Duration,
    },
}

impl DpopError {
    pub(crate) const fn invalid(why: &'static str) -> Self {
        Self::Invalid { why }
    }

    /// How long to wait, where waiting is all there is to do.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyProofs { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// The error code of RFC 9449 (sections 5, 7.1 and 8) or RFC 6750 (section 3.1), where
    /// either has one for it.
    #[must_use]
    pub const fn oauth_code(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { .. } | Self::Algorithm(_) | Self::Replayed => {
                Some("invalid_dpop_proof")
            }
            Self::UseNonce => Some("use_dpop_nonce"),
            Self::ProofRequired | Self::NotBound | Self::KeyMismatch | Self::BindingRequired => {
                Some("invalid_token")
            }
            Self::TooManyProofs { .. } => None,
        }
    }
}

/// Of what is left of a second, all of it.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Classify for DpopError {
    fn class(&self) -> Class {
        match self {
            // The next request can be right: its client just learned how.
            Self::UseNonce => Class::Permanent,
            Self::TooManyProofs { .. } => Class::Transient,
            Self::Invalid { .. }
            | Self::Algorithm(_)
            | Self::Replayed
            | Self::ProofRequired
            | Self::NotBound
            | Self::KeyMismatch
            | Self::BindingRequired => Class::Security,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid_dpop_proof",
            Self::Algorithm(error) => error.code(),
            Self::Replayed => "dpop_proof_replayed",
            Self::UseNonce => "use_dpop_nonce",
            Self::ProofRequired => "dpop_proof_required",
            Self::NotBound => "dpop_token_not_bound",
            Self::KeyMismatch => "dpop_key_mismatch",
            Self::BindingRequired => "dpop_binding_required",
            Self::TooManyProofs { .. } => "dpop_too_many_proofs",
        }
    }
}
