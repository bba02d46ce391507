//! Somebody who holds the key that a token is bound to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::{
    AwsLcProvider, CryptoProvider as _, HolderKey, SignatureAlgorithm, SigningKey, Thumbprint,
    sha256,
};
use creto_types::{SeededRandom, Timestamp};
use serde_json::{Value, json};

/// An Ed25519 key and the proofs by it, each with another `jti`.
pub struct Holder {
    key: SigningKey,
    provider: AwsLcProvider,
    made: AtomicU64,
}

impl Holder {
    /// The key of this seed.
    ///
    /// # Panics
    ///
    /// Never: every seed is a key.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        Self {
            key: SigningKey::from_bytes(SignatureAlgorithm::Ed25519, &[seed; 32])
                .expect("every seed is a key"),
            provider: AwsLcProvider::new(Arc::new(SeededRandom::new(u64::from(seed)))),
            made: AtomicU64::new(0),
        }
    }

    /// What a token is bound to.
    ///
    /// # Panics
    ///
    /// Never: the key is of its algorithm.
    #[must_use]
    pub fn jkt(&self) -> Thumbprint {
        HolderKey::ed25519(self.key.verifying_key().as_bytes())
            .expect("the key is of its algorithm")
            .thumbprint()
    }

    /// The header of a proof.
    #[must_use]
    pub fn header(&self) -> Value {
        let x = self.key.verifying_key().to_base64url();
        json!({
            "typ": "dpop+jwt",
            "alg": "EdDSA",
            "jwk": { "kty": "OKP", "crv": "Ed25519", "x": x },
        })
    }

    /// The claims of a proof of one request.
    #[must_use]
    pub fn claims(
        &self,
        (method, uri): (&str, &str),
        token: Option<&str>,
        nonce: &str,
        at: Timestamp,
    ) -> Value {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let mut claims = json!({
            "jti": format!("proof-{made}"),
            "htm": method,
            "htu": uri,
            "iat": at.as_second(),
            "nonce": nonce,
        });
        if let (Some(token), Some(members)) = (token, claims.as_object_mut()) {
            let hash = URL_SAFE_NO_PAD.encode(sha256(token.as_bytes()));
            members.insert("ath".to_owned(), json!(hash));
        }
        claims
    }

    /// A JWT of these, signed by the key.
    ///
    /// # Panics
    ///
    /// Never: the key signs anything.
    #[must_use]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(header), part(claims));
        let signature = self.provider.sign(&self.key, b"", input.as_bytes());
        let signature = signature.expect("an Ed25519 key signs anything");
        format!("{input}.{}", signature.to_base64url())
    }

    /// A proof of one request.
    #[must_use]
    pub fn proof(
        &self,
        request: (&str, &str),
        token: Option<&str>,
        nonce: &str,
        at: Timestamp,
    ) -> String {
        self.sign(&self.header(), &self.claims(request, token, nonce, at))
    }
}
