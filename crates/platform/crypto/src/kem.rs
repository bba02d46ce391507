//! Agreeing on a secret: ML-KEM-768, ML-KEM-1024 (FIPS 203) and X-Wing. Keys and
//! ciphertexts are kept in the standards' byte encodings.

use std::fmt;
use std::sync::Arc;

use creto_types::Randomness;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::algorithm::named;
use crate::mlkem::{self, Set};
use crate::{CryptoError, Secret, encoding, xwing};

/// A key encapsulation mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KemAlgorithm {
    /// ML-KEM-768.
    MlKem768,
    /// ML-KEM-1024.
    MlKem1024,
    /// X25519 and ML-KEM-768 of draft-connolly-cfrg-xwing-kem.
    XWing,
}

named!(
    KemAlgorithm,
    "key encapsulation",
    [MlKem768, MlKem1024, XWing]
);

/// Which code an algorithm is made of.
enum Family {
    MlKem(Set),
    XWing,
}

impl KemAlgorithm {
    /// The name in FIPS 203, and in the draft.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self.family() {
            Family::MlKem(set) => set.name(),
            Family::XWing => xwing::NAME,
        }
    }

    /// Bytes of an encapsulation key.
    #[must_use]
    pub const fn public_key_len(self) -> usize {
        match self.family() {
            Family::MlKem(set) => set.public_len(),
            Family::XWing => xwing::PUBLIC_LEN,
        }
    }

    /// Bytes of a decapsulation key: of ML-KEM the expanded one, of X-Wing the seed.
    #[must_use]
    pub const fn private_key_len(self) -> usize {
        match self.family() {
            Family::MlKem(set) => set.private_len(),
            Family::XWing => xwing::PRIVATE_LEN,
        }
    }

    /// Bytes of a ciphertext.
    #[must_use]
    pub const fn ciphertext_len(self) -> usize {
        match self.family() {
            Family::MlKem(set) => set.ciphertext_len(),
            Family::XWing => xwing::CIPHERTEXT_LEN,
        }
    }

    /// Bytes of the seed that a key comes of: `d || z` of ML-KEM.
    #[must_use]
    pub const fn seed_len(self) -> usize {
        match self.family() {
            Family::MlKem(_) => mlkem::SEED_LEN,
            Family::XWing => xwing::PRIVATE_LEN,
        }
    }

    const fn family(self) -> Family {
        match self {
            Self::MlKem768 => Family::MlKem(Set::MlKem768),
            Self::MlKem1024 => Family::MlKem(Set::MlKem1024),
            Self::XWing => Family::XWing,
        }
    }
}

/// The public half: whoever has it can agree on a secret with the key's owner.
/// Cheap to clone. On the wire `{"alg":"...","pub":"<base64url>"}`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "WireKey", into = "WireKey")]
pub struct EncapsulationKey {
    algorithm: KemAlgorithm,
    bytes: Arc<[u8]>,
    checked: Arc<CheckedKey>,
}

enum CheckedKey {
    MlKem(mlkem::Public),
    XWing(xwing::Public),
}

impl EncapsulationKey {
    /// A key from its bytes; bytes that are no key are refused.
    pub fn from_bytes(algorithm: KemAlgorithm, bytes: &[u8]) -> Result<Self, CryptoError> {
        let checked = match algorithm.family() {
            Family::MlKem(set) => CheckedKey::MlKem(mlkem::Public::from_bytes(set, bytes)?),
            Family::XWing => CheckedKey::XWing(xwing::Public::from_bytes(bytes)?),
        };
        Ok(Self {
            algorithm,
            bytes: bytes.into(),
            checked: Arc::new(checked),
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

    /// A key from its unpadded base64url text.
    pub fn from_base64url(algorithm: KemAlgorithm, text: &str) -> Result<Self, CryptoError> {
        Self::from_bytes(algorithm, &encoding::decode("encapsulation key", text)?)
    }

    /// The bytes as unpadded base64url.
    #[must_use]
    pub fn to_base64url(&self) -> String {
        encoding::encode(&self.bytes)
    }

    pub(crate) fn encapsulate(
        &self,
        random: &dyn Randomness,
    ) -> Result<(KemCiphertext, Secret), CryptoError> {
        let (bytes, secret) = match &*self.checked {
            CheckedKey::MlKem(key) => {
                let mut message = Zeroizing::new([0_u8; mlkem::MESSAGE_LEN]);
                random.fill(message.as_mut());
                key.encapsulate(*message)
            }
            CheckedKey::XWing(key) => {
                let mut seed = Zeroizing::new([0_u8; xwing::ENCAPSULATION_SEED_LEN]);
                random.fill(seed.as_mut());
                key.encapsulate(&seed)?
            }
        };
        let ciphertext = KemCiphertext {
            algorithm: self.algorithm,
            bytes: bytes.into(),
        };
        Ok((ciphertext, secret))
    }
}

impl PartialEq for EncapsulationKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.bytes == other.bytes
    }
}

impl Eq for EncapsulationKey {}

impl fmt::Debug for EncapsulationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = encoding::encode(&self.bytes);
        let head = text.get(..16).unwrap_or(&text);
        write!(f, "EncapsulationKey({}, {head}...)", self.algorithm)
    }
}

/// The private half, expanded once.
#[derive(Clone)]
pub struct DecapsulationKey {
    secret: Secret,
    public: EncapsulationKey,
    expanded: Arc<ExpandedKey>,
}

enum ExpandedKey {
    MlKem(mlkem::Private),
    XWing(xwing::Private),
}

impl DecapsulationKey {
    /// A key pair from the bytes of both halves, which must belong together.
    pub fn from_bytes(
        algorithm: KemAlgorithm,
        bytes: &[u8],
        public: &[u8],
    ) -> Result<Self, CryptoError> {
        let name = algorithm.as_str();
        encoding::expect_len(
            "decapsulation key",
            name,
            algorithm.private_key_len(),
            bytes,
        )?;
        let key = match algorithm.family() {
            Family::XWing => Self::from_seed(algorithm, bytes)?,
            Family::MlKem(set) => {
                let checked = EncapsulationKey::from_bytes(algorithm, public)?;
                let expanded = mlkem::Private::from_bytes(set, bytes, public)?;
                Self {
                    secret: Secret::copy_of(bytes),
                    public: checked,
                    expanded: Arc::new(ExpandedKey::MlKem(expanded)),
                }
            }
        };
        if key.public.as_bytes() != public {
            return Err(CryptoError::KeyRejected {
                what: "decapsulation key",
                algorithm: name,
            });
        }
        Ok(key)
    }

    /// The key pair that comes of a seed, the same each time.
    pub fn from_seed(algorithm: KemAlgorithm, seed: &[u8]) -> Result<Self, CryptoError> {
        let name = algorithm.as_str();
        let (secret, encoded, checked, expanded) = match algorithm.family() {
            Family::MlKem(set) => {
                let seed = Zeroizing::new(encoding::fixed("seed", name, seed)?);
                let made = mlkem::expand(set, *seed)?;
                let checked = CheckedKey::MlKem(made.public);
                let expanded = ExpandedKey::MlKem(made.private);
                (made.secret, made.encoded, checked, expanded)
            }
            Family::XWing => {
                let (expanded, encoded, public) = xwing::Private::expand(seed)?;
                let (checked, expanded) = (CheckedKey::XWing(public), ExpandedKey::XWing(expanded));
                (Secret::copy_of(seed), encoded, checked, expanded)
            }
        };
        Ok(Self {
            secret,
            public: EncapsulationKey {
                algorithm,
                bytes: encoded.into(),
                checked: Arc::new(checked),
            },
            expanded: Arc::new(expanded),
        })
    }

    pub(crate) fn generate(
        algorithm: KemAlgorithm,
        random: &dyn Randomness,
    ) -> Result<Self, CryptoError> {
        let mut seed = Zeroizing::new(vec![0_u8; algorithm.seed_len()]);
        random.fill(&mut seed);
        Self::from_seed(algorithm, &seed)
    }

    /// The mechanism.
    #[must_use]
    pub const fn algorithm(&self) -> KemAlgorithm {
        self.public.algorithm()
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
    /// an error.
    pub(crate) fn decapsulate(&self, ciphertext: &KemCiphertext) -> Result<Secret, CryptoError> {
        if ciphertext.algorithm != self.algorithm() {
            return Err(CryptoError::AlgorithmMismatch {
                expected: self.algorithm().as_str(),
                got: ciphertext.algorithm.as_str(),
            });
        }
        match &*self.expanded {
            ExpandedKey::MlKem(key) => key.decapsulate(&ciphertext.bytes),
            ExpandedKey::XWing(key) => key.decapsulate(&ciphertext.bytes),
        }
    }
}

impl fmt::Debug for DecapsulationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecapsulationKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// What the sender of a secret sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KemCiphertext {
    algorithm: KemAlgorithm,
    bytes: Box<[u8]>,
}

impl KemCiphertext {
    /// A ciphertext from its bytes.
    pub fn from_bytes(algorithm: KemAlgorithm, bytes: &[u8]) -> Result<Self, CryptoError> {
        let expected = algorithm.ciphertext_len();
        encoding::expect_len("ciphertext", algorithm.as_str(), expected, bytes)?;
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireKey {
    alg: KemAlgorithm,
    #[serde(rename = "pub")]
    public: String,
}

impl TryFrom<WireKey> for EncapsulationKey {
    type Error = CryptoError;

    fn try_from(wire: WireKey) -> Result<Self, Self::Error> {
        Self::from_base64url(wire.alg, &wire.public)
    }
}

impl From<EncapsulationKey> for WireKey {
    fn from(key: EncapsulationKey) -> Self {
        Self {
            alg: key.algorithm,
            public: key.to_base64url(),
        }
    }
}
