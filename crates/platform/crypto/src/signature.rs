//! Signature keys and signatures, each carrying its algorithm.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use creto_types::Randomness;
use serde::{Deserialize, Serialize};

use crate::algorithm::named;
use crate::composite::{self, CompositeKey};
use crate::mldsa::{self, HEDGE_LEN, MlDsaKey, Set};
use crate::{CryptoError, Secret, encoding};

/// A signature algorithm, named as in JOSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignatureAlgorithm {
    /// Ed25519 (RFC 8032), `Ed25519` of RFC 9864.
    Ed25519,
    /// ML-DSA-44 (FIPS 204), `ML-DSA-44` of RFC 9964. Of the lowest security category; what
    /// cosignatures of witnesses are made by (C2SP tlog-cosignature).
    MlDsa44,
    /// ML-DSA-65 (FIPS 204), `ML-DSA-65` of RFC 9964.
    MlDsa65,
    /// Composite ML-DSA-65 + Ed25519.
    MlDsa65Ed25519,
}

named!(
    SignatureAlgorithm,
    "signature",
    [Ed25519, MlDsa44, MlDsa65, MlDsa65Ed25519]
);

impl SignatureAlgorithm {
    /// Those that keys of organizations and principals are made by. They take a context, by
    /// which the uses of one key are told apart, and are of NIST's security category 3.
    pub const OF_ORGANIZATIONS: [Self; 2] = [Self::MlDsa65, Self::MlDsa65Ed25519];

    /// The JOSE name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::MlDsa44 => Set::MlDsa44.name(),
            Self::MlDsa65 => Set::MlDsa65.name(),
            Self::MlDsa65Ed25519 => composite::NAME,
        }
    }

    /// Bytes of a public key.
    #[must_use]
    pub const fn public_key_len(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::MlDsa44 => Set::MlDsa44.public_len(),
            Self::MlDsa65 => Set::MlDsa65.public_len(),
            Self::MlDsa65Ed25519 => composite::PUBLIC_LEN,
        }
    }

    /// Whether it signs in a context. Plain Ed25519 (RFC 8032) does not.
    #[must_use]
    pub const fn takes_context(self) -> bool {
        match self {
            Self::Ed25519 => false,
            Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa65Ed25519 => true,
        }
    }

    /// Bytes of a private key: seeds alone.
    #[must_use]
    pub const fn private_key_len(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::MlDsa44 | Self::MlDsa65 => mldsa::SEED_LEN,
            Self::MlDsa65Ed25519 => composite::PRIVATE_LEN,
        }
    }

    /// Bytes of a signature.
    #[must_use]
    pub const fn signature_len(self) -> usize {
        match self {
            Self::Ed25519 => 64,
            Self::MlDsa44 => Set::MlDsa44.signature_len(),
            Self::MlDsa65 => Set::MlDsa65.signature_len(),
            Self::MlDsa65Ed25519 => composite::SIGNATURE_LEN,
        }
    }
}

/// A public key. Cheap to clone. On the wire `{"alg":"...","pub":"<base64url>"}`,
/// the parameters of the AKP key type (RFC 9964).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "WireKey", into = "WireKey")]
pub struct VerifyingKey {
    algorithm: SignatureAlgorithm,
    bytes: Arc<[u8]>,
}

impl VerifyingKey {
    /// A key from its bytes. The length is checked here; whether they are a
    /// usable key shows when a signature is verified.
    pub fn from_bytes(algorithm: SignatureAlgorithm, bytes: &[u8]) -> Result<Self, CryptoError> {
        let expected = algorithm.public_key_len();
        encoding::expect_len("public key", algorithm.as_str(), expected, bytes)?;
        Ok(Self {
            algorithm,
            bytes: bytes.into(),
        })
    }

    /// A key from its unpadded base64url text.
    pub fn from_base64url(algorithm: SignatureAlgorithm, text: &str) -> Result<Self, CryptoError> {
        Self::from_bytes(algorithm, &encoding::decode("public key", text)?)
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes as unpadded base64url.
    #[must_use]
    pub fn to_base64url(&self) -> String {
        encoding::encode(&self.bytes)
    }

    /// Checks a signature over `message` in `context`. A composite signature
    /// holds only if both its halves do. Ed25519 takes no context.
    pub fn verify(
        &self,
        context: &[u8],
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), CryptoError> {
        if signature.algorithm != self.algorithm {
            return Err(CryptoError::AlgorithmMismatch {
                expected: self.algorithm.as_str(),
                got: signature.algorithm.as_str(),
            });
        }
        match self.algorithm {
            SignatureAlgorithm::Ed25519 => {
                no_context(context)?;
                UnparsedPublicKey::new(&ED25519, &self.bytes)
                    .verify(message, &signature.bytes)
                    .map_err(|_| CryptoError::SignatureInvalid)
            }
            SignatureAlgorithm::MlDsa44 => {
                let set = Set::MlDsa44;
                mldsa::verify(set, &self.bytes, context, message, &signature.bytes)
            }
            SignatureAlgorithm::MlDsa65 => {
                let set = Set::MlDsa65;
                mldsa::verify(set, &self.bytes, context, message, &signature.bytes)
            }
            SignatureAlgorithm::MlDsa65Ed25519 => {
                composite::verify(&self.bytes, context, message, &signature.bytes)
            }
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_base64url();
        let head = text.get(..16).unwrap_or(&text);
        write!(f, "VerifyingKey({}, {head}...)", self.algorithm)
    }
}

/// A signature. On the wire `{"alg":"...","sig":"<base64url>"}`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "WireSignature", into = "WireSignature")]
pub struct Signature {
    algorithm: SignatureAlgorithm,
    bytes: Box<[u8]>,
}

impl Signature {
    /// A signature from its bytes; only their number is checked.
    pub fn from_bytes(algorithm: SignatureAlgorithm, bytes: &[u8]) -> Result<Self, CryptoError> {
        let expected = algorithm.signature_len();
        encoding::expect_len("signature", algorithm.as_str(), expected, bytes)?;
        Ok(Self {
            algorithm,
            bytes: bytes.into(),
        })
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes as unpadded base64url.
    #[must_use]
    pub fn to_base64url(&self) -> String {
        encoding::encode(&self.bytes)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Signature({}, {} bytes)",
            self.algorithm,
            self.bytes.len()
        )
    }
}

/// A private key, expanded and ready to sign. What is stored are the seeds alone
/// ([`SigningKey::secret`]), and those only wrapped.
pub struct SigningKey {
    secret: Secret,
    public: VerifyingKey,
    expanded: Expanded,
}

enum Expanded {
    Ed25519(Ed25519KeyPair),
    MlDsa(MlDsaKey),
    Composite(Box<CompositeKey>),
}

impl SigningKey {
    /// A key from its private bytes: the 32-byte seed of Ed25519 or of ML-DSA, or
    /// `ML-DSA seed || Ed25519 seed`.
    pub fn from_bytes(algorithm: SignatureAlgorithm, bytes: &[u8]) -> Result<Self, CryptoError> {
        let expected = algorithm.private_key_len();
        encoding::expect_len("private key", algorithm.as_str(), expected, bytes)?;
        let (expanded, public) = match algorithm {
            SignatureAlgorithm::Ed25519 => {
                let pair = Ed25519KeyPair::from_seed_unchecked(bytes).map_err(|_| {
                    CryptoError::Engine {
                        operation: "Ed25519 key set-up",
                    }
                })?;
                let public = pair.public_key().as_ref().to_vec();
                (Expanded::Ed25519(pair), public)
            }
            SignatureAlgorithm::MlDsa44 => {
                let (key, public) = MlDsaKey::expand(Set::MlDsa44, bytes)?;
                (Expanded::MlDsa(key), public)
            }
            SignatureAlgorithm::MlDsa65 => {
                let (key, public) = MlDsaKey::expand(Set::MlDsa65, bytes)?;
                (Expanded::MlDsa(key), public)
            }
            SignatureAlgorithm::MlDsa65Ed25519 => {
                let (key, public) = CompositeKey::expand(bytes)?;
                (Expanded::Composite(Box::new(key)), public)
            }
        };
        Ok(Self {
            secret: Secret::copy_of(bytes),
            public: VerifyingKey::from_bytes(algorithm, &public)?,
            expanded,
        })
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.public.algorithm()
    }

    /// The public half.
    #[must_use]
    pub const fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// The private bytes, for wrapping.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// `random` is drawn from by the algorithms that hedge.
    pub(crate) fn sign(
        &self,
        context: &[u8],
        message: &[u8],
        random: &dyn Randomness,
    ) -> Result<Signature, CryptoError> {
        let hedge = || {
            let mut hedge = [0_u8; HEDGE_LEN];
            random.fill(&mut hedge);
            hedge
        };
        let bytes = match &self.expanded {
            Expanded::Ed25519(pair) => {
                no_context(context)?;
                pair.try_sign(message)
                    .map_err(|_| CryptoError::Engine {
                        operation: "Ed25519 signing",
                    })?
                    .as_ref()
                    .to_vec()
            }
            Expanded::MlDsa(key) => key.sign(context, message, hedge())?,
            Expanded::Composite(key) => key.sign(context, message, hedge())?,
        };
        Signature::from_bytes(self.algorithm(), &bytes)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

fn no_context(context: &[u8]) -> Result<(), CryptoError> {
    if context.is_empty() {
        Ok(())
    } else {
        Err(CryptoError::ContextUnsupported {
            algorithm: SignatureAlgorithm::Ed25519.as_str(),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireKey {
    alg: SignatureAlgorithm,
    #[serde(rename = "pub")]
    public: String,
}

impl TryFrom<WireKey> for VerifyingKey {
    type Error = CryptoError;

    fn try_from(wire: WireKey) -> Result<Self, Self::Error> {
        Self::from_base64url(wire.alg, &wire.public)
    }
}

impl From<VerifyingKey> for WireKey {
    fn from(key: VerifyingKey) -> Self {
        Self {
            alg: key.algorithm,
            public: key.to_base64url(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    alg: SignatureAlgorithm,
    sig: String,
}

impl TryFrom<WireSignature> for Signature {
    type Error = CryptoError;

    fn try_from(wire: WireSignature) -> Result<Self, Self::Error> {
        Self::from_bytes(wire.alg, &encoding::decode("signature", &wire.sig)?)
    }
}

impl From<Signature> for WireSignature {
    fn from(signature: Signature) -> Self {
        Self {
            alg: signature.algorithm,
            sig: signature.to_base64url(),
        }
    }
}
