//! Private keys: what each is for, how it is made and how it is stored.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::{
    CryptoError, CryptoProvider, InForce, KeyRing, LocalSigner, SignatureAlgorithm, Signer,
    SigningKey, VerifyingKey, WrappedKey, sha256,
};
use creto_types::{OrgId, PrincipalName, canonical_json};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{NhiError, Principal, PrincipalType};

/// What a key of an organization signs. Each purpose has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPurpose {
    /// Tokens.
    Issuer,
    /// Checkpoints of the log, with the Ed25519 that today's witnesses know.
    LogEd25519,
    /// The same checkpoints, by the algorithm for new keys, which is the composite one unless
    /// configured otherwise.
    LogComposite,
    /// Exported evidence.
    Evidence,
}

impl KeyPurpose {
    /// Every purpose.
    pub const ALL: [Self; 4] = [
        Self::Issuer,
        Self::LogEd25519,
        Self::LogComposite,
        Self::Evidence,
    ];

    /// The name in stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::LogEd25519 => "log_ed25519",
            Self::LogComposite => "log_composite",
            Self::Evidence => "evidence",
        }
    }

    /// Whether its key signs checkpoints of the log.
    #[must_use]
    pub const fn signs_checkpoints(self) -> bool {
        matches!(self, Self::LogEd25519 | Self::LogComposite)
    }

    /// Of the keys that are replaced together: those of the log, and of what is exported.
    pub(crate) const LOG: [Self; 3] = [Self::LogEd25519, Self::LogComposite, Self::Evidence];

    /// The algorithm that the format fixes of what the purpose's key signs. Where
    /// none is fixed, it is the one for new keys.
    #[must_use]
    pub const fn fixed_algorithm(self) -> Option<SignatureAlgorithm> {
        match self {
            Self::LogEd25519 => Some(SignatureAlgorithm::Ed25519),
            Self::Issuer | Self::LogComposite | Self::Evidence => None,
        }
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is not the name of a purpose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown key purpose")]
pub struct UnknownKeyPurpose;

impl FromStr for KeyPurpose {
    type Err = UnknownKeyPurpose;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
            .ok_or(UnknownKeyPurpose)
    }
}

/// A key pair at rest: the public half readable, the private half wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// The public half.
    pub public: VerifyingKey,
    /// The private half, of use only with the root key.
    pub wrapped: WrappedKey,
}

/// Makes keys, wraps and unwraps them, by the algorithms that are allowed.
pub(crate) struct KeyMaker {
    pub(crate) provider: Arc<dyn CryptoProvider>,
    pub(crate) ring: KeyRing,
    pub(crate) algorithms: InForce,
}

/// What a wrapped key is bound to, so that a stored key cannot be moved to
/// another principal or purpose, nor a stored agent be made a human.
pub(crate) fn principal_wrapping(org: OrgId, kind: PrincipalType, name: &PrincipalName) -> String {
    format!("creto/nhi/{org}/principal/{kind}/{name}")
}

/// What the key of a principal is bound to that had these before, oldest first. So
/// nobody plants a key that links are verified by, nor removes one: whoever has not the
/// root key makes no key that opens with other ones before it.
pub(crate) fn wrapping_of(
    principal: &Principal,
    before: &[VerifyingKey],
) -> Result<String, NhiError> {
    let wrapping = principal_wrapping(principal.org, principal.kind, &principal.name);
    if before.is_empty() {
        return Ok(wrapping);
    }
    let before = URL_SAFE_NO_PAD.encode(sha256(&canonical_json(&before)?));
    Ok(format!("{wrapping}/after/{before}"))
}

pub(crate) fn organization_wrapping(org: OrgId, purpose: KeyPurpose) -> String {
    format!("creto/nhi/{org}/organization/{purpose}")
}

impl KeyMaker {
    /// A new key, already wrapped; its private half is wiped on return. It is of the
    /// algorithm for new keys, unless a format fixes another.
    pub(crate) fn make(
        &self,
        org: OrgId,
        fixed: Option<SignatureAlgorithm>,
        wrapping: &str,
    ) -> Result<StoredKey, NhiError> {
        let failed = |source| NhiError::Crypto {
            operation: "make a signing key",
            source,
        };
        let algorithm = {
            let algorithms = self.algorithms.now();
            let allowed = &algorithms.signature;
            let algorithm = fixed.unwrap_or_else(|| allowed.for_new());
            allowed.check(algorithm).map_err(failed)?
        };
        let key = self
            .provider
            .generate_signing_key(algorithm)
            .map_err(failed)?;
        let wrapped = self
            .ring
            .wrap(org, wrapping, key.secret())
            .map_err(failed)?;
        Ok(StoredKey {
            public: key.verifying_key().clone(),
            wrapped,
        })
    }

    /// The key, ready to sign. Fails when the root key is another one, when the
    /// stored halves do not belong together, or when it or its wrapping is of an
    /// algorithm that is not allowed.
    pub(crate) fn signer(
        &self,
        org: OrgId,
        stored: &StoredKey,
        wrapping: &str,
    ) -> Result<LocalSigner, NhiError> {
        let failed = |source| NhiError::Crypto {
            operation: "unwrap a stored key",
            source,
        };
        let signature = stored.public.algorithm();
        let algorithms = self.algorithms.now();
        algorithms.signature.check(signature).map_err(failed)?;
        let secret = self
            .ring
            .unwrap(org, wrapping, &stored.wrapped)
            .map_err(failed)?;
        let key = SigningKey::from_bytes(signature, secret.expose()).map_err(failed)?;
        if key.verifying_key() != &stored.public {
            return Err(failed(CryptoError::SignatureInvalid));
        }
        Ok(LocalSigner::new(key, Arc::clone(&self.provider)))
    }

    /// A private half, or a secret, under the newest wrapping key.
    pub(crate) fn rewrap(
        &self,
        org: OrgId,
        wrapping: &str,
        stored: &WrappedKey,
    ) -> Result<WrappedKey, NhiError> {
        self.ring
            .unwrap(org, wrapping, stored)
            .and_then(|secret| self.ring.wrap(org, wrapping, &secret))
            .map_err(|source| NhiError::Crypto {
                operation: "wrap a stored key anew",
                source,
            })
    }
}

/// The kind of key in a JWK that has an algorithm and a public half (RFC 9964).
pub(crate) const KEY_TYPE: &str = "AKP";

/// A signer that is shared.
pub(crate) type SharedSigner = Arc<dyn Signer>;

/// The JWK thumbprint (RFC 7638) of an AKP key: SHA-256 over the required
/// members `alg`, `kty` and `pub` in canonical form, as unpadded base64url. What is
/// called `kid` is this.
pub fn key_id(key: &VerifyingKey) -> Result<String, NhiError> {
    thumbprint(key.algorithm().as_str(), &key.to_base64url())
}

/// The same of any key with an algorithm and a public half in base64url.
pub(crate) fn thumbprint(algorithm: &str, public: &str) -> Result<String, NhiError> {
    let members = json!({
        "alg": algorithm,
        "kty": KEY_TYPE,
        "pub": public,
    });
    Ok(URL_SAFE_NO_PAD.encode(sha256(&canonical_json(&members)?)))
}

/// The key as a JWK for checking tokens; `purpose` is its `use`.
pub(crate) fn jwk(key: &VerifyingKey, kid: &str, purpose: &str) -> serde_json::Value {
    json!({
        "kty": KEY_TYPE,
        "alg": key.algorithm().as_str(),
        "kid": kid,
        "use": purpose,
        "pub": key.to_base64url(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `kid` of the ML-DSA-65-Ed25519 example of
    /// draft-ietf-jose-pq-composite-sigs, whose key has all-zero seeds.
    #[test]
    fn thumbprint_of_the_jose_example() {
        let key = SigningKey::from_bytes(SignatureAlgorithm::MlDsa65Ed25519, &[0; 64]).unwrap();
        assert_eq!(
            key_id(key.verifying_key()).unwrap(),
            "87Vn3JTmvTdxvpetv0rA5GwfoLnCkMxBDCJvYgFVuh4"
        );
    }
}
