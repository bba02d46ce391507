//! A witness's key as a line of text, in the form in which note tools keep private
//! keys: `PRIVATE+KEY+<name>+<id>+<base64(type || seed)>`.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use creto_crypto::{
    CryptoError, CryptoProvider, LocalSigner, Secret, SignatureAlgorithm, Signer, SigningKey,
};
use creto_errors::{Class, Classify};

use crate::VerifierError;
use crate::witness::cosigner_name;

const HEAD: &str = "PRIVATE+KEY+";

/// Signature type of Ed25519 cosignatures (C2SP tlog-cosignature).
const COSIGNATURE: u8 = 0x04;

const SEED_LEN: usize = 32;

fn signing_key(typed: &[u8]) -> Result<SigningKey, WitnessKeyError> {
    let seed = typed
        .strip_prefix(&[COSIGNATURE])
        .ok_or(WitnessKeyError::Malformed)?;
    Ok(SigningKey::from_bytes(SignatureAlgorithm::Ed25519, seed)?)
}

/// The name and the private key of a witness.
#[derive(Clone)]
pub struct WitnessKey {
    name: String,
    signer: Arc<dyn Signer>,
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
        provider: Arc<dyn CryptoProvider>,
    ) -> Result<(Self, Secret), WitnessKeyError> {
        let mut seed = vec![COSIGNATURE; 1 + SEED_LEN];
        provider.random(seed.get_mut(1..).unwrap_or_default());
        let seed = Secret::new(seed);
        let key = signing_key(seed.expose())?;
        let signer = Arc::new(LocalSigner::new(key, provider));
        let public = cosigner_name(name, signer.as_ref())?;
        // Room for all of it, so that no part is left behind when it grows.
        let mut text = String::with_capacity(name.len() + 128);
        let _ = write!(text, "{HEAD}{name}+{:08x}+", public.id());
        STANDARD.encode_string(seed.expose(), &mut text);
        let name = name.to_owned();
        Ok((Self { name, signer }, Secret::new(text.into_bytes())))
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
        let key = signing_key(seed.expose())?;
        let signer = Arc::new(LocalSigner::new(key, provider));
        if format!("{:08x}", cosigner_name(name, signer.as_ref())?.id()) != id {
            return Err(WitnessKeyError::Malformed);
        }
        let name = name.to_owned();
        Ok(Self { name, signer })
    }

    /// The verifier key that logs and readers configure.
    pub fn verifier_key(&self) -> Result<String, WitnessKeyError> {
        Ok(cosigner_name(&self.name, self.signer.as_ref())?.to_string())
    }

    pub(crate) fn into_parts(self) -> (String, Arc<dyn Signer>) {
        (self.name, self.signer)
    }
}
