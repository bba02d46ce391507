//! ML-DSA-65 (FIPS 204) with a context, hedged.

use libcrux_ml_dsa::ml_dsa_65::{
    self, MLDSA65Signature, MLDSA65SigningKey, MLDSA65VerificationKey,
};
use zeroize::{Zeroize, Zeroizing};

use crate::{CryptoError, encoding};

// FIPS 204, table 2.
pub(crate) const PUBLIC_LEN: usize = 1952;
pub(crate) const SIGNATURE_LEN: usize = 3309;
/// The seed ξ; private keys are kept in no other form.
pub(crate) const SEED_LEN: usize = 32;
/// The randomness of the hedged variant.
pub(crate) const HEDGE_LEN: usize = 32;

/// FIPS 204, section 5.2.
const LONGEST_CONTEXT: usize = 255;

pub(crate) const NAME: &str = "ML-DSA-65";

/// The expanded key, wiped on drop: the library's own type is not.
pub(crate) struct MlDsaKey(Box<MLDSA65SigningKey>);

impl Drop for MlDsaKey {
    fn drop(&mut self) {
        self.0.as_ref_mut().zeroize();
    }
}

impl MlDsaKey {
    /// Expands the seed and gives the public key beside it.
    pub(crate) fn expand(seed: &[u8]) -> Result<(Self, Vec<u8>), CryptoError> {
        let seed: Zeroizing<[u8; SEED_LEN]> =
            Zeroizing::new(encoding::fixed("private key", NAME, seed)?);
        let mut pair = ml_dsa_65::generate_key_pair(*seed);
        let key = Self(Box::new(pair.signing_key.clone()));
        pair.signing_key.as_ref_mut().zeroize();
        Ok((key, pair.verification_key.as_slice().to_vec()))
    }

    pub(crate) fn sign(
        &self,
        context: &[u8],
        message: &[u8],
        hedge: [u8; HEDGE_LEN],
    ) -> Result<Vec<u8>, CryptoError> {
        check_context(context)?;
        ml_dsa_65::sign(&self.0, message, context, hedge)
            .map(|signature| signature.as_slice().to_vec())
            .map_err(|_| CryptoError::Engine {
                operation: "ML-DSA-65 signing",
            })
    }
}

pub(crate) fn verify(
    public: &[u8],
    context: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), CryptoError> {
    check_context(context)?;
    let public = MLDSA65VerificationKey::new(encoding::fixed("public key", NAME, public)?);
    let signature = MLDSA65Signature::new(encoding::fixed("signature", NAME, signature)?);
    ml_dsa_65::verify(&public, message, context, &signature)
        .map_err(|_| CryptoError::SignatureInvalid)
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
            let key = MlDsaKey(Box::new(expanded));
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
