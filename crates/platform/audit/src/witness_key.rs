//! A witness's key as a line of text, in the form in which note tools keep private
//! keys: `PRIVATE+KEY+<name>+<id>+<base64(type || seed)>`.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use creto_crypto::{CryptoError, CryptoProvider, LocalSigner, Secret, Signer, SigningKey};
use creto_errors::{Class, Classify};
use creto_tlog::{CosignatureType, NoteKey};

use crate::VerifierError;
use crate::head::HASHER;
use crate::verifier::cosigning;

const HEAD: &str = "PRIVATE+KEY+";

/// Of either type.
const SEED_LEN: usize = 32;

/// The name and the private key of a witness.
#[derive(Clone)]
pub struct WitnessKey {
    pub(crate) name: NoteKey,
    pub(crate) kind: CosignatureType,
    pub(crate) signer: Arc<dyn Signer>,
}

/// A text is not a witness's key, or a name cannot be a witness's.
#[derive(Debug, thiserror::Error)]
pub enum WitnessKeyError {
    /// It is not in the form, or its id is that of another key.
    #[error("it is not the private key of a witness, as `creto audit witness-key` writes it")]
    Malformed,
    /// The name cannot be used.
    #[error(transparent)]
    Name(#[from] VerifierError),
    /// The key cannot be used.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl Classify for WitnessKeyError {
    fn class(&self) -> Class {
        match self {
            Self::Malformed => Class::Permanent,
            Self::Name(error) => error.class(),
            Self::Crypto(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "witness_key_malformed",
            Self::Name(error) => error.code(),
            Self::Crypto(error) => error.code(),
        }
    }
}

impl std::fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WitnessKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl WitnessKey {
    /// A new key, and its text, which is a secret.
    pub fn generate(
        name: &str,
        kind: CosignatureType,
        provider: Arc<dyn CryptoProvider>,
    ) -> Result<(Self, Secret), WitnessKeyError> {
        let mut seed = vec![kind.byte(); 1 + SEED_LEN];
        provider.random(seed.get_mut(1..).unwrap_or_default());
        let seed = Secret::new(seed);
        let key = Self::of(name, seed.expose(), provider)?;
        // Room for all of it, so that no part is left behind when it grows.
        let mut text = String::with_capacity(name.len() + 128);
        let _ = write!(text, "{HEAD}{name}+{:08x}+", key.name.id());
        STANDARD.encode_string(seed.expose(), &mut text);
        Ok((key, Secret::new(text.into_bytes())))
    }

    /// Reads a key's text.
    pub fn parse(text: &str, provider: Arc<dyn CryptoProvider>) -> Result<Self, WitnessKeyError> {
        let mut parts = text
            .strip_prefix(HEAD)
            .ok_or(WitnessKeyError::Malformed)?
            .splitn(3, '+');
        let (Some(name), Some(id), Some(seed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(WitnessKeyError::Malformed);
        };
        let seed = STANDARD
            .decode(seed)
            .map(Secret::new)
            .map_err(|_| WitnessKeyError::Malformed)?;
        let key = Self::of(name, seed.expose(), provider)?;
        if format!("{:08x}", key.name.id()) != id {
            return Err(WitnessKeyError::Malformed);
        }
        Ok(key)
    }

    /// The key of a seed, before which is the byte of its type.
    fn of(
        name: &str,
        typed: &[u8],
        provider: Arc<dyn CryptoProvider>,
    ) -> Result<Self, WitnessKeyError> {
        let (byte, seed) = typed.split_first().ok_or(WitnessKeyError::Malformed)?;
        let mut kinds = CosignatureType::ALL.into_iter();
        let kind = kinds.find(|kind| kind.byte() == *byte);
        let kind = kind.ok_or(WitnessKeyError::Malformed)?;
        let key = SigningKey::from_bytes(cosigning(kind), seed)?;
        let public = key.verifying_key().as_bytes();
        let name = NoteKey::cosigner(HASHER, name, kind, public).map_err(VerifierError::from)?;
        Ok(Self {
            name,
            kind,
            signer: Arc::new(LocalSigner::new(key, provider)),
        })
    }

    /// The verifier key that logs and readers configure.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        self.name.to_string()
    }
}
