//! The draft's own vectors, and everything near them that must not verify.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use creto_crypto::{
    COMPOSITE_OID, CryptoError, CryptoProvider, Signature, SignatureAlgorithm, SigningKey,
    VerifyingKey,
};
use serde_json::Value;

use crate::provider;

const ALGORITHM: SignatureAlgorithm = SignatureAlgorithm::MlDsa65Ed25519;
const MLDSA_SIGNATURE: usize = 3309;
const MLDSA_PUBLIC: usize = 1952;

struct Vector {
    message: Vec<u8>,
    context: Vec<u8>,
    public: Vec<u8>,
    private: Vec<u8>,
    pkcs8: Vec<u8>,
    signature: Vec<u8>,
    signature_with_context: Vec<u8>,
}

fn vector(id: &str) -> Vector {
    let text = include_str!("../data/composite-mldsa65-ed25519-vectors.json");
    let file: Value = serde_json::from_str(text).unwrap();
    let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let test = file["tests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|test| test["tcId"] == id)
        .unwrap();
    Vector {
        message: bytes(&file["m"]),
        context: bytes(&file["ctx"]),
        public: bytes(&test["pk"]),
        private: bytes(&test["sk"]),
        pkcs8: bytes(&test["sk_pkcs8"]),
        signature: bytes(&test["s"]),
        signature_with_context: bytes(&test["sWithContext"]),
    }
}

fn composite() -> Vector {
    vector("id-MLDSA65-Ed25519-SHA512")
}

fn check(public: &[u8], context: &[u8], message: &[u8], bytes: &[u8]) -> Result<(), CryptoError> {
    VerifyingKey::from_bytes(ALGORITHM, public)?.verify(
        context,
        message,
        &Signature::from_bytes(ALGORITHM, bytes)?,
    )
}

#[test]
fn the_drafts_signatures_verify() {
    let v = composite();
    check(&v.public, b"", &v.message, &v.signature).unwrap();
    check(&v.public, &v.context, &v.message, &v.signature_with_context).unwrap();
}

#[test]
fn the_drafts_private_key_gives_its_public_key() {
    let v = composite();
    let key = SigningKey::from_bytes(ALGORITHM, &v.private).unwrap();
    assert_eq!(key.verifying_key().as_bytes(), v.public);
    assert_eq!(key.secret().expose(), v.private);
    // The private key is what stands in the PKCS #8 structure's OCTET STRING.
    assert!(v.pkcs8.ends_with(&v.private));
}

#[test]
fn the_pkcs8_structure_names_our_oid() {
    // X.690, section 8.19: the first two arcs share a byte; all others are below
    // 128 here and take one byte each.
    let arcs: Vec<u8> = COMPOSITE_OID
        .split('.')
        .map(|arc| arc.parse().unwrap())
        .collect();
    let mut der = vec![0x06, 0x08, arcs[0] * 40 + arcs[1]];
    der.extend_from_slice(&arcs[2..]);
    assert!(
        composite()
            .pkcs8
            .windows(der.len())
            .any(|window| window == der)
    );
}

#[test]
fn the_mldsa_half_of_the_pure_vector_is_expanded_alike() {
    let pure = vector("id-ML-DSA-65");
    let mut private = pure.private.clone();
    private.extend_from_slice(&[7; 32]);
    let key = SigningKey::from_bytes(ALGORITHM, &private).unwrap();
    assert_eq!(&key.verifying_key().as_bytes()[..MLDSA_PUBLIC], pure.public);
}

#[test]
fn a_pure_mldsa_signature_is_no_half_of_a_composite() {
    let pure = vector("id-ML-DSA-65");
    let v = composite();
    let mut signature = pure.signature.clone();
    signature.extend_from_slice(&v.signature[MLDSA_SIGNATURE..]);
    let mut public = pure.public.clone();
    public.extend_from_slice(&v.public[MLDSA_PUBLIC..]);
    assert_eq!(
        check(&public, b"", &v.message, &signature),
        Err(CryptoError::SignatureInvalid)
    );
}

#[test]
fn either_half_flipped_fails() {
    let v = composite();
    for position in [
        0,
        17,
        1600,
        MLDSA_SIGNATURE - 1,
        MLDSA_SIGNATURE,
        MLDSA_SIGNATURE + 40,
        3372,
    ] {
        let mut signature = v.signature.clone();
        signature[position] ^= 1;
        assert_eq!(
            check(&v.public, b"", &v.message, &signature),
            Err(CryptoError::SignatureInvalid),
            "byte {position}"
        );
    }
    for position in [0, 1000, MLDSA_PUBLIC - 1, MLDSA_PUBLIC, 1983] {
        let mut public = v.public.clone();
        public[position] ^= 1;
        assert_eq!(
            check(&public, b"", &v.message, &v.signature),
            Err(CryptoError::SignatureInvalid),
            "key byte {position}"
        );
    }
}

#[test]
fn halves_of_two_valid_signatures_do_not_mix() {
    let provider = provider();
    let key = provider.generate_signing_key(ALGORITHM).unwrap();
    let one = provider.sign(&key, b"a", b"one").unwrap();
    let two = provider.sign(&key, b"a", b"two").unwrap();
    let mut mixed = one.as_bytes()[..MLDSA_SIGNATURE].to_vec();
    mixed.extend_from_slice(&two.as_bytes()[MLDSA_SIGNATURE..]);
    for message in [b"one", b"two"] {
        assert_eq!(
            check(key.verifying_key().as_bytes(), b"a", message, &mixed),
            Err(CryptoError::SignatureInvalid)
        );
    }
}

#[test]
fn the_wrong_context_or_message_fails() {
    let v = composite();
    let invalid = Err(CryptoError::SignatureInvalid);
    assert_eq!(
        check(&v.public, &v.context, &v.message, &v.signature),
        invalid
    );
    assert_eq!(
        check(&v.public, b"", &v.message, &v.signature_with_context),
        invalid
    );
    assert_eq!(check(&v.public, b"x", &v.message, &v.signature), invalid);
    assert_eq!(check(&v.public, b"", b"", &v.signature), invalid);
    assert_eq!(
        check(&v.public, &[0; 256], &v.message, &v.signature),
        Err(CryptoError::ContextTooLong { got: 256 })
    );
}

#[test]
fn context_and_message_cannot_trade_bytes() {
    let provider = provider();
    let key = provider.generate_signing_key(ALGORITHM).unwrap();
    let signature = provider.sign(&key, b"ab", b"c").unwrap();
    assert!(key.verifying_key().verify(b"ab", b"c", &signature).is_ok());
    assert!(key.verifying_key().verify(b"a", b"bc", &signature).is_err());
    assert!(key.verifying_key().verify(b"", b"abc", &signature).is_err());
}

#[test]
fn truncated_and_overlong_objects_are_refused() {
    let v = composite();
    for cut in [0, 1, 64, MLDSA_SIGNATURE, v.signature.len() - 1] {
        assert!(matches!(
            Signature::from_bytes(ALGORITHM, &v.signature[..cut]),
            Err(CryptoError::Malformed {
                what: "signature",
                ..
            })
        ));
    }
    let mut long = v.signature.clone();
    long.push(0);
    assert!(Signature::from_bytes(ALGORITHM, &long).is_err());
    let mut long = v.public.clone();
    long.push(0);
    assert!(VerifyingKey::from_bytes(ALGORITHM, &long).is_err());
    assert!(VerifyingKey::from_bytes(ALGORITHM, &v.public[1..]).is_err());
    assert!(SigningKey::from_bytes(ALGORITHM, &v.private[1..]).is_err());
    assert!(SigningKey::from_bytes(ALGORITHM, &[0; 65]).is_err());
}

#[test]
fn a_key_refuses_the_other_algorithm() {
    let provider = provider();
    let composite = provider.generate_signing_key(ALGORITHM).unwrap();
    let plain = provider
        .generate_signing_key(SignatureAlgorithm::Ed25519)
        .unwrap();
    let signature = provider.sign(&plain, b"", b"m").unwrap();
    assert!(plain.verifying_key().verify(b"", b"m", &signature).is_ok());
    assert!(matches!(
        composite.verifying_key().verify(b"", b"m", &signature),
        Err(CryptoError::AlgorithmMismatch { .. })
    ));
    assert!(matches!(
        provider.sign(&plain, b"context", b"m"),
        Err(CryptoError::ContextUnsupported { .. })
    ));
    assert!(matches!(
        plain.verifying_key().verify(b"context", b"m", &signature),
        Err(CryptoError::ContextUnsupported { .. })
    ));
}
