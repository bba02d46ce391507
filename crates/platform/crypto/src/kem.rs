//! ML-KEM-768 (FIPS 203). Keys and ciphertexts are kept in the standard's byte
//! encodings.

use aws_lc_rs::kem;

use crate::{CryptoError, Secret, encoding};

/// A key encapsulation mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KemAlgorithm {
    /// ML-KEM-768.
    MlKem768,
}

impl KemAlgorithm {
    /// The name in FIPS 203.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MlKem768 => "ML-KEM-768",
        }
    }
}

// FIPS 203, table 3.
const ENCAPSULATION_KEY_LEN: usize = 1184;
const DECAPSULATION_KEY_LEN: usize = 2400;
const CIPHERTEXT_LEN: usize = 1088;

/// The public half: whoever has it can agree on a secret with the key's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncapsulationKey {
    algorithm: KemAlgorithm,
    bytes: Box<[u8]>,
}

/// The private half.
#[derive(Clone, Debug)]
pub struct DecapsulationKey {
    algorithm: KemAlgorithm,
    secret: Secret,
    public: EncapsulationKey,
}

/// What the sender of a secret sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KemCiphertext {
    algorithm: KemAlgorithm,
    bytes: Box<[u8]>,
}

impl EncapsulationKey {
    /// A key from its bytes.
    pub fn from_bytes(algorithm: KemAlgorithm, bytes: &[u8]) -> Result<Self, CryptoError> {
        let name = algorithm.as_str();
        encoding::expect_len("encapsulation key", name, ENCAPSULATION_KEY_LEN, bytes)?;
        Ok(Self {
            algorithm,
            bytes: bytes.into(),
        })
    }

    /// The mechanism.
    #[must_use]
    pub const fn algorithm(&self) -> KemAlgorithm {
        self.algorithm
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn encapsulate(&self) -> Result<(KemCiphertext, Secret), CryptoError> {
        // FIPS 203, section 7.2: a key whose coefficients are out of range is
        // refused by the engine here.
        let key =
            kem::EncapsulationKey::new(&kem::ML_KEM_768, &self.bytes).map_err(|_| engine())?;
        let (ciphertext, shared) = key.encapsulate().map_err(|_| engine())?;
        Ok((
            KemCiphertext {
                algorithm: self.algorithm,
                bytes: ciphertext.as_ref().into(),
            },
            Secret::copy_of(shared.as_ref()),
        ))
    }
}

impl DecapsulationKey {
    /// A key pair from the bytes of both halves.
    pub fn from_bytes(
        algorithm: KemAlgorithm,
        bytes: &[u8],
        public: &[u8],
    ) -> Result<Self, CryptoError> {
        let name = algorithm.as_str();
        encoding::expect_len("decapsulation key", name, DECAPSULATION_KEY_LEN, bytes)?;
        Ok(Self {
            algorithm,
            secret: Secret::copy_of(bytes),
            public: EncapsulationKey::from_bytes(algorithm, public)?,
        })
    }

    pub(crate) fn generate(algorithm: KemAlgorithm) -> Result<Self, CryptoError> {
        let key = kem::DecapsulationKey::generate(&kem::ML_KEM_768).map_err(|_| engine())?;
        let secret = key.key_bytes().map_err(|_| engine())?;
        let public = key
            .encapsulation_key()
            .and_then(|public| public.key_bytes().map(|bytes| bytes.as_ref().to_vec()))
            .map_err(|_| engine())?;
        Self::from_bytes(algorithm, secret.as_ref(), &public)
    }

    /// The mechanism.
    #[must_use]
    pub const fn algorithm(&self) -> KemAlgorithm {
        self.algorithm
    }

    /// The public half.
    #[must_use]
    pub const fn encapsulation_key(&self) -> &EncapsulationKey {
        &self.public
    }

    /// The private bytes, for wrapping.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The secret that was sent. A changed ciphertext gives another secret, not
    /// an error (implicit rejection, FIPS 203, section 6.3).
    pub(crate) fn decapsulate(&self, ciphertext: &KemCiphertext) -> Result<Secret, CryptoError> {
        let key = kem::DecapsulationKey::new(&kem::ML_KEM_768, self.secret.expose())
            .map_err(|_| engine())?;
        let shared = key
            .decapsulate(kem::Ciphertext::from(&*ciphertext.bytes))
            .map_err(|_| engine())?;
        Ok(Secret::copy_of(shared.as_ref()))
    }
}

impl KemCiphertext {
    /// A ciphertext from its bytes.
    pub fn from_bytes(algorithm: KemAlgorithm, bytes: &[u8]) -> Result<Self, CryptoError> {
        encoding::expect_len("ciphertext", algorithm.as_str(), CIPHERTEXT_LEN, bytes)?;
        Ok(Self {
            algorithm,
            bytes: bytes.into(),
        })
    }

    /// The mechanism.
    #[must_use]
    pub const fn algorithm(&self) -> KemAlgorithm {
        self.algorithm
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn engine() -> CryptoError {
    CryptoError::Engine {
        operation: "ML-KEM-768",
    }
}
