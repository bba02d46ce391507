//! ML-KEM-768 and ML-KEM-1024 (FIPS 203) on bytes: what [`crate::kem`] names, and
//! one half of X-Wing.
//!
//! Keys and ciphertexts are made by libcrux, which takes its randomness as an
//! argument; they are opened by AWS-LC, which keeps and wipes the private key.

use aws_lc_rs::kem;
use libcrux_ml_kem::{mlkem768, mlkem1024};
use zeroize::Zeroizing;

use crate::hash::sha3_256;
use crate::{CryptoError, Secret, encoding};

/// The seed `d || z` of a key (FIPS 203, section 7.1).
pub(crate) const SEED_LEN: usize = 64;
/// The message `m` of one encapsulation (FIPS 203, section 7.2).
pub(crate) const MESSAGE_LEN: usize = 32;
const HASH_LEN: usize = 32;
const REJECTION_LEN: usize = 32;

/// The parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    MlKem768,
    MlKem1024,
}

impl Set {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MlKem768 => "ML-KEM-768",
            Self::MlKem1024 => "ML-KEM-1024",
        }
    }

    // FIPS 203, table 3.

    pub(crate) const fn public_len(self) -> usize {
        match self {
            Self::MlKem768 => 1184,
            Self::MlKem1024 => 1568,
        }
    }

    pub(crate) const fn private_len(self) -> usize {
        match self {
            Self::MlKem768 => 2400,
            Self::MlKem1024 => 3168,
        }
    }

    pub(crate) const fn ciphertext_len(self) -> usize {
        match self {
            Self::MlKem768 => 1088,
            Self::MlKem1024 => 1568,
        }
    }

    fn engine(self) -> &'static kem::Algorithm {
        match self {
            Self::MlKem768 => &kem::ML_KEM_768,
            Self::MlKem1024 => &kem::ML_KEM_1024,
        }
    }
}

/// A checked encapsulation key.
#[derive(Clone)]
pub(crate) enum Public {
    MlKem768(Box<mlkem768::MlKem768PublicKey>),
    MlKem1024(Box<mlkem1024::MlKem1024PublicKey>),
}

impl Public {
    /// Refuses another length, and coefficients out of range (FIPS 203, section
    /// 7.2).
    pub(crate) fn from_bytes(set: Set, bytes: &[u8]) -> Result<Self, CryptoError> {
        encoding::expect_len("encapsulation key", set.name(), set.public_len(), bytes)?;
        let rejected = || CryptoError::KeyRejected {
            what: "encapsulation key",
            algorithm: set.name(),
        };
        match set {
            Set::MlKem768 => mlkem768::MlKem768PublicKey::try_from(bytes)
                .ok()
                .filter(mlkem768::validate_public_key)
                .map(|key| Self::MlKem768(Box::new(key))),
            Set::MlKem1024 => mlkem1024::MlKem1024PublicKey::try_from(bytes)
                .ok()
                .filter(mlkem1024::validate_public_key)
                .map(|key| Self::MlKem1024(Box::new(key))),
        }
        .ok_or_else(rejected)
    }

    /// The ciphertext and the secret that come of `message`, which must be random.
    pub(crate) fn encapsulate(&self, message: [u8; MESSAGE_LEN]) -> (Vec<u8>, Secret) {
        let (ciphertext, shared) = match self {
            Self::MlKem768(key) => {
                let (ciphertext, shared) = mlkem768::encapsulate(key, message);
                (ciphertext.as_slice().to_vec(), shared)
            }
            Self::MlKem1024(key) => {
                let (ciphertext, shared) = mlkem1024::encapsulate(key, message);
                (ciphertext.as_slice().to_vec(), shared)
            }
        };
        let shared = Zeroizing::new(shared);
        (ciphertext, Secret::copy_of(shared.as_ref()))
    }
}

/// Both halves of a key, in bytes and ready for use.
pub(crate) struct Made {
    pub(crate) secret: Secret,
    pub(crate) private: Private,
    pub(crate) encoded: Vec<u8>,
    pub(crate) public: Public,
}

/// What comes of a seed. It is not asked what [`Public::from_bytes`] and
/// [`Private::from_bytes`] ask: that is of keys from elsewhere (FIPS 203, sections 7.2 and
/// 7.3), and takes a fifth of the time again.
pub(crate) fn expand(set: Set, seed: [u8; SEED_LEN]) -> Result<Made, CryptoError> {
    let (secret, encoded, public) = match set {
        Set::MlKem768 => {
            let (private, public) = mlkem768::generate_key_pair(seed).into_parts();
            let private = Zeroizing::new(<[u8; 2400]>::from(private));
            let secret = Secret::copy_of(private.as_ref());
            let encoded = public.as_slice().to_vec();
            (secret, encoded, Public::MlKem768(Box::new(public)))
        }
        Set::MlKem1024 => {
            let (private, public) = mlkem1024::generate_key_pair(seed).into_parts();
            let private = Zeroizing::new(<[u8; 3168]>::from(private));
            let secret = Secret::copy_of(private.as_ref());
            let encoded = public.as_slice().to_vec();
            (secret, encoded, Public::MlKem1024(Box::new(public)))
        }
    };
    let private = kem::DecapsulationKey::new(set.engine(), secret.expose());
    let private = private.map_err(|_| CryptoError::Engine {
        operation: "ML-KEM key set-up",
    })?;
    Ok(Made {
        secret,
        private: Private(private),
        encoded,
        public,
    })
}

/// A decapsulation key, ready for use.
pub(crate) struct Private(kem::DecapsulationKey);

impl Private {
    /// Refuses another length, a key that is not of `public`, and one whose hash of
    /// it is wrong (FIPS 203, section 7.3).
    pub(crate) fn from_bytes(set: Set, bytes: &[u8], public: &[u8]) -> Result<Self, CryptoError> {
        let name = set.name();
        encoding::expect_len("decapsulation key", name, set.private_len(), bytes)?;
        // dk = dk_PKE || ek || H(ek) || z
        let end = set.private_len() - REJECTION_LEN - HASH_LEN;
        let start = end - set.public_len();
        let hash = sha3_256(&[public]);
        let belongs = bytes.get(start..end) == Some(public)
            && bytes.get(end..end + HASH_LEN) == Some(hash.as_slice());
        let key = belongs
            .then(|| kem::DecapsulationKey::new(set.engine(), bytes).ok())
            .flatten();
        key.map(Self).ok_or(CryptoError::KeyRejected {
            what: "decapsulation key",
            algorithm: name,
        })
    }

    /// The secret that was sent. A changed ciphertext gives another secret, not an
    /// error (implicit rejection, FIPS 203, section 6.3).
    pub(crate) fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret, CryptoError> {
        self.0
            .decapsulate(kem::Ciphertext::from(ciphertext))
            .map(|shared| Secret::copy_of(shared.as_ref()))
            .map_err(|_| CryptoError::Engine {
                operation: "ML-KEM decapsulation",
            })
    }
}
