//! AES-256-GCM (NIST SP 800-38D) with associated data.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{CryptoError, Secret, encoding};

/// An authenticated cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AeadAlgorithm {
    /// AES-256-GCM, named `A256GCM` as in RFC 7518.
    #[serde(rename = "A256GCM")]
    Aes256Gcm,
}

impl AeadAlgorithm {
    /// The JOSE name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "A256GCM",
        }
    }
}

pub(crate) const KEY_LEN: usize = 32;
pub(crate) const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// A symmetric key. Random nonces are safe for 2^32 messages a key
/// (SP 800-38D, section 8.3); whoever seals more takes more keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AeadKey {
    algorithm: AeadAlgorithm,
    secret: Secret,
}

impl AeadKey {
    /// A key from its bytes.
    pub fn from_bytes(algorithm: AeadAlgorithm, bytes: &[u8]) -> Result<Self, CryptoError> {
        encoding::expect_len("key", algorithm.as_str(), KEY_LEN, bytes)?;
        Ok(Self {
            algorithm,
            secret: Secret::copy_of(bytes),
        })
    }

    /// What it is for.
    #[must_use]
    pub const fn algorithm(&self) -> AeadAlgorithm {
        self.algorithm
    }

    pub(crate) fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<Sealed, CryptoError> {
        Ok(Sealed {
            algorithm: self.algorithm,
            nonce: encoding::encode(&nonce),
            ciphertext: encoding::encode(&seal(self.secret.expose(), nonce, aad, plaintext)?),
        })
    }

    pub(crate) fn open(&self, aad: &[u8], sealed: &Sealed) -> Result<Secret, CryptoError> {
        let algorithm = sealed.algorithm.as_str();
        let nonce = encoding::decode("nonce", &sealed.nonce)?;
        let nonce = encoding::fixed("nonce", algorithm, &nonce)?;
        let ciphertext = encoding::decode("ciphertext", &sealed.ciphertext)?;
        open(self.secret.expose(), nonce, aad, ciphertext)
    }
}

/// A ciphertext with its nonce, its tag and the name of its algorithm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    #[serde(rename = "enc")]
    algorithm: AeadAlgorithm,
    nonce: String,
    ciphertext: String,
}

impl Sealed {
    /// The cipher.
    #[must_use]
    pub const fn algorithm(&self) -> AeadAlgorithm {
        self.algorithm
    }
}

fn key(bytes: &[u8]) -> Result<LessSafeKey, CryptoError> {
    UnboundKey::new(&AES_256_GCM, bytes)
        .map(LessSafeKey::new)
        .map_err(|_| CryptoError::Engine {
            operation: "AES-256-GCM key set-up",
        })
}

/// Ciphertext followed by the tag.
pub(crate) fn seal(
    key_bytes: &[u8],
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    // Room for the tag from the start: growing would leave plaintext behind.
    let mut buffer = Vec::with_capacity(plaintext.len().saturating_add(TAG_LEN));
    buffer.extend_from_slice(plaintext);
    key(key_bytes)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut buffer,
        )
        .map_err(|_| CryptoError::Engine {
            operation: "AES-256-GCM sealing",
        })?;
    Ok(buffer)
}

/// The plaintext of [`seal`]'s output.
pub(crate) fn open(
    key_bytes: &[u8],
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    ciphertext: Vec<u8>,
) -> Result<Secret, CryptoError> {
    let mut buffer = Zeroizing::new(ciphertext);
    let plaintext = key(key_bytes)?
        .open_in_place(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut buffer,
        )
        .map_err(|_| CryptoError::OpenFailed)?;
    Ok(Secret::copy_of(plaintext))
}
