//! X-Wing: the draft's vectors, and what is refused.

use std::sync::Arc;

use creto_crypto::{
    AwsLcProvider, CryptoError, CryptoProvider, DecapsulationKey, EncapsulationKey, KemAlgorithm,
    KemCiphertext,
};
use serde_json::Value;

use crate::{Fixed, provider};

const ALGORITHM: KemAlgorithm = KemAlgorithm::XWing;
const MLKEM_PUBLIC: usize = 1184;
const MLKEM_CIPHERTEXT: usize = 1088;

#[test]
fn the_drafts_vectors() {
    let text = include_str!("../data/x-wing-test-vectors.json");
    let vectors: Vec<Value> = serde_json::from_str(text).unwrap();
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let bytes = |name: &str| hex::decode(vector[name].as_str().unwrap()).unwrap();
        let drawing = |name: &str| AwsLcProvider::new(Arc::new(Fixed::new(&bytes(name))));
        let key = drawing("seed").generate_kem_key(ALGORITHM).unwrap();
        assert_eq!(key.secret().expose(), bytes("sk"));
        assert_eq!(key.encapsulation_key().as_bytes(), bytes("pk"));
        let (ciphertext, sent) = drawing("eseed")
            .encapsulate(key.encapsulation_key())
            .unwrap();
        assert_eq!(ciphertext.as_bytes(), bytes("ct"));
        assert_eq!(sent.expose(), bytes("ss"));
        assert_eq!(provider().decapsulate(&key, &ciphertext).unwrap(), sent);
    }
}

#[test]
fn a_change_of_either_half_gives_another_secret() {
    let provider = provider();
    let key = provider.generate_kem_key(ALGORITHM).unwrap();
    let (ciphertext, sent) = provider.encapsulate(key.encapsulation_key()).unwrap();
    for position in [0, MLKEM_CIPHERTEXT - 1, MLKEM_CIPHERTEXT, 1118] {
        let mut bytes = ciphertext.as_bytes().to_vec();
        bytes[position] ^= 1;
        let changed = KemCiphertext::from_bytes(ALGORITHM, &bytes).unwrap();
        assert_ne!(provider.decapsulate(&key, &changed).unwrap(), sent);
    }
}

/// RFC 7748, section 6.1: with the point zero nothing is agreed.
#[test]
fn a_point_of_low_order_is_refused() {
    let provider = provider();
    let key = provider.generate_kem_key(ALGORITHM).unwrap();
    let mut public = key.encapsulation_key().as_bytes().to_vec();
    public[MLKEM_PUBLIC..].fill(0);
    let public = EncapsulationKey::from_bytes(ALGORITHM, &public).unwrap();
    let rejected = |error| matches!(error, CryptoError::KeyRejected { .. });
    assert!(rejected(provider.encapsulate(&public).unwrap_err()));
    let (ciphertext, _) = provider.encapsulate(key.encapsulation_key()).unwrap();
    let mut bytes = ciphertext.as_bytes().to_vec();
    bytes[MLKEM_CIPHERTEXT..].fill(0);
    let changed = KemCiphertext::from_bytes(ALGORITHM, &bytes).unwrap();
    assert!(rejected(provider.decapsulate(&key, &changed).unwrap_err()));
}

#[test]
fn its_halves_must_belong_together() {
    let provider = provider();
    let key = provider.generate_kem_key(ALGORITHM).unwrap();
    let other = provider.generate_kem_key(ALGORITHM).unwrap();
    let public = other.encapsulation_key().as_bytes();
    assert!(matches!(
        DecapsulationKey::from_bytes(ALGORITHM, key.secret().expose(), public),
        Err(CryptoError::KeyRejected { .. })
    ));
}
