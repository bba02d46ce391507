//! AES-256-GCM (NIST SP 800-38D) and ChaCha20-Poly1305 (RFC 8439) with associated
//! data.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{self, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::algorithm::named;
use crate::{CryptoError, Secret, encoding};

/// An authenticated cipher. Both take a key of 32 bytes, a nonce of 12 and give a
/// tag of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AeadAlgorithm {
    /// AES-256-GCM, named `A256GCM` as in RFC 7518.
    Aes256Gcm,
    /// ChaCha20-Poly1305, named as in RFC 8439: JOSE has no name for it.
    ChaCha20Poly1305,
}

named!(AeadAlgorithm, "encryption", [Aes256Gcm, ChaCha20Poly1305]);

impl AeadAlgorithm {
    /// The standard's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "A256GCM",
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        }
    }

    fn engine(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

pub(crate) const KEY_LEN: usize = 32;
pub(crate) const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

const SEALING: CryptoError = CryptoError::Engine {
    operation: "AEAD sealing",
};

/// A symmetric key, expanded once. Random nonces are safe for 2^32 messages a key
/// (SP 800-38D, section 8.3); whoever seals more takes more keys.
#[derive(Clone)]
pub struct AeadKey {
    algorithm: AeadAlgorithm,
    secret: Secret,
    expanded: Arc<LessSafeKey>,
}

impl AeadKey {
    /// A key from its bytes.
    pub fn from_bytes(algorithm: AeadAlgorithm, bytes: &[u8]) -> Result<Self, CryptoError> {
        encoding::expect_len("key", algorithm.as_str(), KEY_LEN, bytes)?;
        Ok(Self {
            algorithm,
            secret: Secret::copy_of(bytes),
            expanded: Arc::new(expand(algorithm, bytes)?),
        })
    }

    /// What it is for.
    #[must_use]
    pub const fn algorithm(&self) -> AeadAlgorithm {
        self.algorithm
    }

    /// The bytes, for wrapping.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<Sealed, CryptoError> {
        Ok(Sealed {
            algorithm: self.algorithm,
            nonce,
            ciphertext: seal(&self.expanded, nonce, aad, plaintext)?,
        })
    }

    /// Appends the ciphertext of the parts, one after the other, and its tag.
    pub(crate) fn append_sealed(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &[&[u8]],
        output: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let length: usize = plaintext.iter().map(|part| part.len()).sum();
        // Room for all of it from the start: growing would leave plaintext behind.
        output.reserve(length.saturating_add(TAG_LEN));
        let start = output.len();
        plaintext
            .iter()
            .for_each(|part| output.extend_from_slice(part));
        let text = output.get_mut(start..).ok_or(SEALING)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self
            .expanded
            .seal_in_place_separate_tag(nonce, Aad::from(aad), text);
        match sealed {
            Ok(tag) => {
                output.extend_from_slice(tag.as_ref());
                Ok(())
            }
            Err(_) => {
                text.zeroize();
                output.truncate(start);
                Err(SEALING)
            }
        }
    }

    pub(crate) fn open(&self, aad: &[u8], sealed: &Sealed) -> Result<Secret, CryptoError> {
        if sealed.algorithm != self.algorithm {
            return Err(CryptoError::AlgorithmMismatch {
                expected: self.algorithm.as_str(),
                got: sealed.algorithm.as_str(),
            });
        }
        open(&self.expanded, sealed.nonce, aad, &sealed.ciphertext)
    }
}

impl PartialEq for AeadKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.secret == other.secret
    }
}

impl Eq for AeadKey {}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AeadKey({})", self.algorithm)
    }
}

/// A ciphertext with its nonce, its tag and the name of its algorithm. On the wire
/// `{"enc":"...","nonce":"<base64url>","ciphertext":"<base64url>"}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireSealed", into = "WireSealed")]
pub struct Sealed {
    algorithm: AeadAlgorithm,
    nonce: [u8; NONCE_LEN],
    ciphertext: Vec<u8>,
}

impl Sealed {
    /// A sealed object from its parts; `ciphertext` ends with the tag.
    pub fn from_parts(
        algorithm: AeadAlgorithm,
        nonce: &[u8],
        ciphertext: &[u8],
    ) -> Result<Self, CryptoError> {
        let name = algorithm.as_str();
        let nonce = encoding::fixed("nonce", name, nonce)?;
        if ciphertext.len() < TAG_LEN {
            return Err(CryptoError::Malformed {
                what: "tag",
                algorithm: name,
                expected: TAG_LEN,
                got: ciphertext.len(),
            });
        }
        Ok(Self {
            algorithm,
            nonce,
            ciphertext: ciphertext.to_vec(),
        })
    }

    /// The cipher.
    #[must_use]
    pub const fn algorithm(&self) -> AeadAlgorithm {
        self.algorithm
    }

    /// The nonce.
    #[must_use]
    pub const fn nonce(&self) -> &[u8] {
        &self.nonce
    }

    /// The ciphertext and its tag.
    #[must_use]
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Sealed({}, {} bytes)",
            self.algorithm,
            self.ciphertext.len()
        )
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSealed {
    enc: AeadAlgorithm,
    nonce: String,
    ciphertext: String,
}

impl TryFrom<WireSealed> for Sealed {
    type Error = CryptoError;

    fn try_from(wire: WireSealed) -> Result<Self, Self::Error> {
        let nonce = encoding::decode("nonce", &wire.nonce)?;
        let ciphertext = encoding::decode("ciphertext", &wire.ciphertext)?;
        Self::from_parts(wire.enc, &nonce, &ciphertext)
    }
}

impl From<Sealed> for WireSealed {
    fn from(sealed: Sealed) -> Self {
        Self {
            enc: sealed.algorithm,
            nonce: encoding::encode(&sealed.nonce),
            ciphertext: encoding::encode(&sealed.ciphertext),
        }
    }
}

/// A key ready for use. AWS-LC wipes what it allocates when it frees it.
pub(crate) fn expand(algorithm: AeadAlgorithm, bytes: &[u8]) -> Result<LessSafeKey, CryptoError> {
    UnboundKey::new(algorithm.engine(), bytes)
        .map(LessSafeKey::new)
        .map_err(|_| CryptoError::Engine {
            operation: "AEAD key set-up",
        })
}

/// Ciphertext followed by the tag.
pub(crate) fn seal(
    key: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    // Room for the tag from the start: growing would leave plaintext behind.
    let mut buffer = Vec::with_capacity(plaintext.len().saturating_add(TAG_LEN));
    buffer.extend_from_slice(plaintext);
    let nonce = Nonce::assume_unique_for_key(nonce);
    if key
        .seal_in_place_append_tag(nonce, Aad::from(aad), &mut buffer)
        .is_err()
    {
        buffer.zeroize();
        return Err(SEALING);
    }
    Ok(buffer)
}

/// The plaintext of [`seal`]'s output, in one allocation of just its length: there is no
/// byte more to wipe than there is plaintext.
pub(crate) fn open(
    key: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Secret, CryptoError> {
    let (text, tag) = ciphertext
        .split_last_chunk::<TAG_LEN>()
        .ok_or(CryptoError::OpenFailed)?;
    // A secret from here on, whether it opens or not.
    let mut buffer = Secret::copy_of(text);
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, buffer.expose_mut())
        .map_err(|_| CryptoError::OpenFailed)?;
    Ok(buffer)
}
