//! A keystore that shares nothing with the one of this crate: its key never leaves it, and
//! what it gives out it alone can read.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use creto_crypto::{
    AllowedAlgorithms, CryptoError, KeyRing, Keystore, LocalKeystore, RootKey, Secret,
    WrapAlgorithm, WrappedKey, WrappingKey,
};
use creto_errors::{Class, Classify as _};
use creto_types::OrgId;
use parking_lot::Mutex;

use crate::{provider, seeded};

const NAME: &str = "kms:test-key/7";

/// As a service for keys has it: one key within, sealed bytes without.
struct Service {
    key: RandomizedNonceKey,
    /// What it answers with instead of doing its work.
    fails: Mutex<Option<CryptoError>>,
}

impl Service {
    fn new(byte: u8) -> Arc<Self> {
        Arc::new(Self {
            key: RandomizedNonceKey::new(&AES_256_GCM, &[byte; 32]).unwrap(),
            fails: Mutex::default(),
        })
    }

    fn answers(&self) -> Result<(), CryptoError> {
        self.fails.lock().clone().map_or(Ok(()), Err)
    }
}

impl Keystore for Service {
    fn wrap(
        &self,
        _: WrapAlgorithm,
        purpose: &str,
        secret: &Secret,
    ) -> Result<WrappedKey, CryptoError> {
        self.answers()?;
        let mut sealed = secret.expose().to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(purpose), &mut sealed)
            .unwrap();
        WrappedKey::opaque(NAME, &[nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn unwrap(&self, purpose: &str, wrapped: &WrappedKey) -> Result<Secret, CryptoError> {
        self.answers()?;
        let blob = wrapped.blob().filter(|_| self.reads(wrapped.name()));
        let Some(blob) = blob else {
            let name = wrapped.name().to_owned();
            return Err(CryptoError::KeystoreForeign { name });
        };
        let (nonce, sealed) = blob.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
        let mut sealed = sealed.to_vec();
        self.key
            .open_in_place(nonce, Aad::from(purpose), &mut sealed)
            .map(|opened| Secret::copy_of(opened))
            .map_err(|_| CryptoError::OpenFailed)
    }

    fn reads(&self, name: &str) -> bool {
        name == NAME
    }
}

fn org() -> OrgId {
    "org_019b76daa800770db259e4e1cb631c66".parse().unwrap()
}

fn ring(keystore: Arc<dyn Keystore>) -> KeyRing {
    let lists = AllowedAlgorithms::default();
    KeyRing::new(keystore, Arc::new(provider()), lists.into())
}

fn local() -> LocalKeystore {
    let root = RootKey::from_hex(&"1".repeat(64)).unwrap();
    LocalKeystore::new(root, Arc::new(seeded(1)))
}

/// As it is in the store, and out of it again.
fn stored(key: &WrappingKey) -> WrappingKey {
    let json = serde_json::to_string(&key.wrapped).unwrap();
    WrappingKey {
        version: key.version,
        wrapped: serde_json::from_str(&json).unwrap(),
    }
}

#[test]
fn wrapping_keys_are_under_whatever_keystore_there_is() {
    let (service, secret) = (Service::new(1), Secret::new(vec![9; 64]));
    let first = ring(service.clone());
    let key = stored(&first.draft(org()).unwrap());
    assert_eq!((key.wrapped.name(), key.wrapped.algorithm()), (NAME, None));
    first.add(org(), &key).unwrap();
    // What is under it is wrapped as ever.
    let wrapped = first.wrap(org(), "p", &secret).unwrap();
    assert_eq!(wrapped.version(), Some(1));
    assert_eq!(wrapped.name(), "HKDF-SHA256+A256GCM");
    assert!(!first.is_old(org(), &wrapped));

    let again = ring(service.clone());
    again.add(org(), &key).unwrap();
    assert_eq!(again.unwrap(org(), "p", &wrapped).unwrap(), secret);
    for wrong in [Service::new(2) as Arc<dyn Keystore>, Arc::new(local())] {
        let refused = ring(wrong).add(org(), &key).unwrap_err();
        assert!(matches!(
            refused,
            CryptoError::OpenFailed | CryptoError::UnknownAlgorithm { .. }
        ));
    }

    // There and back, and everything under it opens.
    let aes = WrapAlgorithm::HkdfSha256Aes256Gcm;
    let back = key.rewrap(org(), &*service, &local(), aes).unwrap();
    assert_eq!(back.wrapped.algorithm(), Some(aes));
    let foreign = ring(service.clone()).add(org(), &back).unwrap_err();
    assert_eq!(foreign.code(), "keystore_foreign");
    let again = ring(Arc::new(local()));
    again.add(org(), &stored(&back)).unwrap();
    assert_eq!(again.unwrap(org(), "p", &wrapped).unwrap(), secret);
    let there = back.rewrap(org(), &local(), &*service, aes).unwrap();
    let again = ring(service);
    again.add(org(), &there).unwrap();
    assert_eq!(again.unwrap(org(), "p", &wrapped).unwrap(), secret);
}

/// An organization of before has keys directly under the root key.
#[test]
fn what_is_under_the_root_key_itself_is_the_keystores_too() {
    let (ring, secret) = (ring(Service::new(1)), Secret::new(vec![9; 64]));
    let wrapped = ring.wrap(org(), "p", &secret).unwrap();
    assert_eq!((wrapped.name(), wrapped.version()), (NAME, None));
    assert!(!ring.is_old(org(), &wrapped));
    assert_eq!(ring.unwrap(org(), "p", &wrapped).unwrap(), secret);
    let moved = ring.unwrap(org(), "q", &wrapped);
    assert_eq!(moved, Err(CryptoError::OpenFailed));
    ring.add(org(), &ring.draft(org()).unwrap()).unwrap();
    assert!(ring.is_old(org(), &wrapped));
}

#[test]
fn a_keystore_that_is_away_or_refuses_says_which() {
    let (service, why) = (Service::new(1), "as it was told".to_owned());
    let ring = ring(service.clone());
    let key = ring.draft(org()).unwrap();
    let secret = Secret::new(vec![9; 64]);
    for (error, code, class) in [
        (
            CryptoError::KeystoreUnavailable { why: why.clone() },
            "keystore_unavailable",
            Class::Transient,
        ),
        (
            CryptoError::KeystoreRefused { why },
            "keystore_refused",
            Class::Security,
        ),
    ] {
        assert_eq!((error.code(), error.class()), (code, class));
        *service.fails.lock() = Some(error.clone());
        assert_eq!(ring.draft(org()), Err(error.clone()));
        assert_eq!(ring.wrap(org(), "p", &secret), Err(error));
    }
    // What was drafted before was opened then.
    ring.add(org(), &key).unwrap();
    let wrapped = ring.wrap(org(), "p", &secret).unwrap();
    assert_eq!(ring.unwrap(org(), "p", &wrapped).unwrap(), secret);
}

/// Opens something else than it was given.
struct Forgetful(LocalKeystore);

impl Keystore for Forgetful {
    fn wrap(
        &self,
        algorithm: WrapAlgorithm,
        purpose: &str,
        _: &Secret,
    ) -> Result<WrappedKey, CryptoError> {
        self.0.wrap(algorithm, purpose, &Secret::new(vec![0; 32]))
    }

    fn unwrap(&self, purpose: &str, wrapped: &WrappedKey) -> Result<Secret, CryptoError> {
        self.0.unwrap(purpose, wrapped)
    }

    fn reads(&self, name: &str) -> bool {
        self.0.reads(name)
    }
}

#[test]
fn nothing_is_put_under_a_key_that_would_be_lost() {
    let ring = ring(Arc::new(Forgetful(local())));
    assert_eq!(ring.draft(org()), Err(CryptoError::OpenFailed));
}

#[test]
fn a_wrapped_key_is_in_one_of_its_forms() {
    let wrapped = WrappedKey::opaque(NAME, &[0, 255, 7]).unwrap();
    let json = serde_json::to_string(&wrapped).unwrap();
    assert_eq!(json, r#"{"alg":"kms:test-key/7","blob":"AP8H"}"#);
    assert_eq!(serde_json::from_str::<WrappedKey>(&json).unwrap(), wrapped);
    let long = "x".repeat(65);
    for name in ["", "two words", "schlüssel", &long, "HKDF-SHA256+A256GCM"] {
        let refused = WrappedKey::opaque(name, b"blob").unwrap_err();
        assert_eq!(refused, CryptoError::WrappedForm, "{name}");
    }
    for (json, why) in [
        (r#"{"alg":"x"}"#, "a wrapped key has"),
        (r#"{"alg":"x","blob":"A"}"#, "blob is not unpadded"),
        (r#"{"alg":"x","blob":"AA","key":1}"#, "a wrapped key has"),
        (
            r#"{"alg":"x","blob":"AA","salt":"AA"}"#,
            "a wrapped key has",
        ),
        (r#"{"alg":"x","salt":"AA"}"#, "a wrapped key has"),
        (r#"{"alg":"x","salt":"AA","ciphertext":"AA"}"#, "`x`"),
        (r#"{"alg":"x","blob":"AA","more":1}"#, "unknown field"),
        (r#"{"alg":"HKDF-SHA256+A256GCM","blob":"AA"}"#, "a wrapped"),
    ] {
        let error = serde_json::from_str::<WrappedKey>(json).unwrap_err();
        assert!(error.to_string().contains(why), "{json}: {error}");
    }
}
