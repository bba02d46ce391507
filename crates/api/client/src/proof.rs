//! The key that a credential is bound to, and the proofs by it (RFC 9449).

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_config::Secret;
use creto_crypto::{
    AwsLcProvider, CryptoProvider as _, HolderKey, SignatureAlgorithm, SigningKey, Thumbprint,
    sha256,
};
use creto_types::{Clock, SystemClock, SystemRandom};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::{Client, ClientError};

/// Bytes of a `jti`: no two are ever equal.
const JTI_LEN: usize = 16;

/// An Ed25519 key whose holder proves with each request that a credential is its own.
/// Cheap to clone; clones share the nonce that the server told last.
#[derive(Clone)]
pub struct ProofKey {
    shared: Arc<Shared>,
}

struct Shared {
    key: SigningKey,
    public: HolderKey,
    provider: AwsLcProvider,
    clock: SystemClock,
    nonce: Mutex<Option<String>>,
}

/// A private key as RFC 8037, section 2, has it. What else is in it is of no concern here.
#[derive(Deserialize)]
struct PrivateJwk {
    kty: String,
    crv: String,
    x: String,
    #[serde(deserialize_with = "secret")]
    d: Secret,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    Secret::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

impl ProofKey {
    /// A new key, and the JWK that [`ProofKey::from_file`] reads: a secret.
    pub fn generate() -> Result<(Self, Secret), ClientError> {
        let provider = AwsLcProvider::new(Arc::new(SystemRandom));
        let key = provider
            .generate_signing_key(SignatureAlgorithm::Ed25519)
            .map_err(ClientError::Proof)?;
        let d =
            Secret::new(URL_SAFE_NO_PAD.encode(key.secret().expose())).expect("a seed has bytes");
        // Growing would leave parts of `d` behind.
        let mut jwk = String::with_capacity(256);
        let _ = write!(
            jwk,
            r#"{{"crv":"Ed25519","d":"{}","kty":"OKP","x":"{}"}}"#,
            d.expose(),
            key.verifying_key().to_base64url(),
        );
        let jwk = Secret::new(jwk).expect("it is one line of some hundred characters");
        Ok((Self::of(key, provider)?, jwk))
    }

    /// Reads a key from a file that nobody but its owner may read.
    pub fn from_file(path: &Path) -> Result<Self, ClientError> {
        let text = Secret::from_file(path).map_err(|source| ClientError::Credential {
            path: path.to_owned(),
            source,
        })?;
        let unusable = || ClientError::ProofKey {
            path: path.to_owned(),
        };
        let jwk: PrivateJwk = serde_json::from_str(text.expose()).map_err(|_| unusable())?;
        if jwk.kty != "OKP" || jwk.crv != "Ed25519" {
            return Err(unusable());
        }
        let seed = URL_SAFE_NO_PAD.decode(jwk.d.expose());
        let seed = creto_crypto::Secret::new(seed.map_err(|_| unusable())?);
        let key = SigningKey::from_bytes(SignatureAlgorithm::Ed25519, seed.expose())
            .map_err(|_| unusable())?;
        if key.verifying_key().to_base64url() != jwk.x {
            return Err(unusable());
        }
        Self::of(key, AwsLcProvider::new(Arc::new(SystemRandom)))
    }

    fn of(key: SigningKey, provider: AwsLcProvider) -> Result<Self, ClientError> {
        let public = HolderKey::ed25519(key.verifying_key().as_bytes());
        Ok(Self {
            shared: Arc::new(Shared {
                public: public.map_err(ClientError::Proof)?,
                key,
                provider,
                clock: SystemClock::new(),
                nonce: Mutex::default(),
            }),
        })
    }

    /// Names the key wherever a token is to be bound to it.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.shared.public.thumbprint()
    }

    /// A proof of one request with this token, for whoever sends it otherwise than by
    /// [`Client`], under the header `DPoP`. The server takes it once.
    pub fn prove(&self, method: &str, url: &str, token: &Secret) -> Result<String, ClientError> {
        let Shared {
            key,
            provider,
            clock,
            nonce,
            ..
        } = self.shared.as_ref();
        let mut jti = [0; JTI_LEN];
        provider.random(&mut jti);
        let header = json!({
            "typ": "dpop+jwt",
            "alg": "Ed25519",
            "jwk": {"kty": "OKP", "crv": "Ed25519", "x": key.verifying_key().to_base64url()},
        });
        let mut claims = json!({
            "jti": hex::encode(jti),
            "htm": method,
            "htu": url.split(['?', '#']).next().unwrap_or(url),
            "iat": clock.now().as_second(),
            "ath": URL_SAFE_NO_PAD.encode(sha256(token.expose().as_bytes())),
        });
        let nonce = nonce.lock().clone();
        if let (Some(nonce), Some(claims)) = (nonce, claims.as_object_mut()) {
            claims.insert("nonce".to_owned(), json!(nonce));
        }
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut proof = format!("{}.{}", part(&header), part(&claims));
        let signature = provider.sign(key, b"", proof.as_bytes());
        proof.push('.');
        proof.push_str(&signature.map_err(ClientError::Proof)?.to_base64url());
        Ok(proof)
    }

    /// Keeps the nonce that an answer told under the header `DPoP-Nonce`, for the next proof.
    pub fn told(&self, nonce: &str) {
        *self.shared.nonce.lock() = Some(nonce.to_owned());
    }
}

impl std::fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProofKey({})", self.thumbprint())
    }
}

impl Client {
    /// The same, whose credential is bound to this key.
    #[must_use]
    pub fn with_proof_key(mut self, key: ProofKey) -> Self {
        self.proof_key = Some(key);
        self
    }
}
