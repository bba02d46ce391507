//! ML-DSA-44 and ML-DSA-65 (FIPS 204) with a context, hedged.

use libcrux_ml_dsa::ml_dsa_44::{
    self, MLDSA44Signature, MLDSA44SigningKey, MLDSA44VerificationKey,
};
use libcrux_ml_dsa::ml_dsa_65::{
    self, MLDSA65Signature, MLDSA65SigningKey, MLDSA65VerificationKey,
};
use zeroize::{Zeroize, Zeroizing};

use crate::{CryptoError, encoding};

/// The seed ξ; private keys are kept in no other form.
pub(crate) const SEED_LEN: usize = 32;
/// The randomness of the hedged variant.
pub(crate) const HEDGE_LEN: usize = 32;

/// FIPS 204, section 5.2.
const LONGEST_CONTEXT: usize = 255;

/// The parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    MlDsa44,
    MlDsa65,
}

impl Set {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MlDsa44 => "ML-DSA-44",
            Self::MlDsa65 => "ML-DSA-65",
        }
    }

    // FIPS 204, table 2.

    pub(crate) const fn public_len(self) -> usize {
        match self {
            Self::MlDsa44 => 1312,
            Self::MlDsa65 => 1952,
        }
    }

    pub(crate) const fn signature_len(self) -> usize {
        match self {
            Self::MlDsa44 => 2420,
            Self::MlDsa65 => 3309,
        }
    }
}

/// The expanded key, wiped on drop: the library's own type is not.
pub(crate) enum MlDsaKey {
    MlDsa44(Box<MLDSA44SigningKey>),
    MlDsa65(Box<MLDSA65SigningKey>),
}

impl Drop for MlDsaKey {
    fn drop(&mut self) {
        match self {
            Self::MlDsa44(key) => key.as_ref_mut().zeroize(),
            Self::MlDsa65(key) => key.as_ref_mut().zeroize(),
        }
    }
}

impl MlDsaKey {
    /// Expands the seed and gives the public key beside it.
    pub(crate) fn expand(set: Set, seed: &[u8]) -> Result<(Self, Vec<u8>), CryptoError> {
        let seed: Zeroizing<[u8; SEED_LEN]> =
            Zeroizing::new(encoding::fixed("private key", set.name(), seed)?);
        Ok(match set {
            Set::MlDsa44 => {
                let mut pair = ml_dsa_44::generate_key_pair(*seed);
                let bytes = pair.signing_key.as_ref_mut();
                let mut key = Box::new(MLDSA44SigningKey::zero());
                key.as_ref_mut().copy_from_slice(bytes);
                bytes.zeroize();
                (
                    Self::MlDsa44(key),
                    pair.verification_key.as_slice().to_vec(),
                )
            }
            Set::MlDsa65 => {
                let mut pair = ml_dsa_65::generate_key_pair(*seed);
                let bytes = pair.signing_key.as_ref_mut();
                let mut key = Box::new(MLDSA65SigningKey::zero());
                key.as_ref_mut().copy_from_slice(bytes);
                bytes.zeroize();
                (
                    Self::MlDsa65(key),
                    pair.verification_key.as_slice().to_vec(),
                )
            }
        })
    }

    pub(crate) fn sign(
        &self,
        context: &[u8],
        message: &[u8],
        hedge: [u8; HEDGE_LEN],
    ) -> Result<Vec<u8>, CryptoError> {
        check_context(context)?;
        let signed = match self {
            Self::MlDsa44(key) => ml_dsa_44::sign(key, message, context, hedge)
                .map(|signature| signature.as_slice().to_vec()),
            Self::MlDsa65(key) => ml_dsa_65::sign(key, message, context, hedge)
                .map(|signature| signature.as_slice().to_vec()),
        };
        signed.map_err(|_| CryptoError::Engine {
            operation: "ML-DSA signing",
        })
    }
}

pub(crate) fn verify(
    set: Set,
    public: &[u8],
    context: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), CryptoError> {
    check_context(context)?;
    let name = set.name();
    let verified = match set {
        Set::MlDsa44 => {
            let public = MLDSA44VerificationKey::new(encoding::fixed("public key", name, public)?);
            let signature = MLDSA44Signature::new(encoding::fixed("signature", name, signature)?);
            ml_dsa_44::verify(&public, message, context, &signature)
        }
        Set::MlDsa65 => {
            let public = MLDSA65VerificationKey::new(encoding::fixed("public key", name, public)?);
            let signature = MLDSA65Signature::new(encoding::fixed("signature", name, signature)?);
            ml_dsa_65::verify(&public, message, context, &signature)
        }
    };
    verified.map_err(|_| CryptoError::SignatureInvalid)
}

fn check_context(context: &[u8]) -> Result<(), CryptoError> {
    if context.len() > LONGEST_CONTEXT {
        return Err(CryptoError::ContextTooLong { got: context.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::Value;

    use super::*;

    /// NIST's vectors (ACVP) of the external interface, in the deterministic variant, whose
    /// randomness is zeros (FIPS 204, algorithm 2), and hedged. They give the expanded key,
    /// which nothing outside this module can be made of.
    #[test]
    fn signs_as_nist_does() {
        let all: Vec<Value> =
            serde_json::from_str(include_str!("../tests/data/acvp-signatures.json")).unwrap();
        let group = all.iter().find(|group| group["mode"] == "sigGen").unwrap();
        let mut ran = [0, 0];
        for test in group["tests"].as_array().unwrap() {
            let bytes = |name: &str| {
                BASE64_STANDARD
                    .decode(test[name].as_str().unwrap())
                    .unwrap()
            };
            let expanded = MLDSA65SigningKey::new(bytes("sk").try_into().unwrap());
            let key = MlDsaKey::MlDsa65(Box::new(expanded));
            let deterministic = test["deterministic"] == true;
            let hedge = if deterministic {
                [0; HEDGE_LEN]
            } else {
                bytes("rnd").try_into().unwrap()
            };
            let signature = key
                .sign(&bytes("context"), &bytes("message"), hedge)
                .unwrap();
            assert_eq!(signature, bytes("signature"), "{}", test["name"]);
            ran[usize::from(deterministic)] += 1;
        }
        assert_eq!(ran, [3, 3]);
    }
}
