//! NIST's own vectors (ACVP) for the parts of FIPS 203 and FIPS 204 that are served.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use creto_crypto::{
    AwsLcProvider, CryptoError, CryptoProvider as _, DecapsulationKey, KemAlgorithm, KemCiphertext,
    Signature, SignatureAlgorithm, SigningKey, VerifyingKey,
};
use serde_json::Value;

use crate::{Fixed, provider};

/// The groups of a mode, for a parameter set.
fn groups(mode: &str, set: &str, function: Option<&str>) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../data/acvp.json")).unwrap();
    let of = |group: &Value| {
        group["mode"] == mode
            && group["parameterSet"] == set
            && group["function"].as_str() == function
    };
    let found: Vec<Value> = all.into_iter().filter(of).collect();
    assert_eq!(found.len(), 1, "{mode} {set} {function:?}");
    found
}

fn tests(groups: &[Value]) -> impl Iterator<Item = (&Value, &Value)> {
    groups.iter().flat_map(|group| {
        let tests = group["tests"].as_array().unwrap();
        assert_eq!(tests.len(), 10);
        tests.iter().map(move |test| (group, test))
    })
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    hex::decode(value[name].as_str().unwrap()).unwrap()
}

const KEMS: [(&str, KemAlgorithm); 2] = [
    ("ML-KEM-768", KemAlgorithm::MlKem768),
    ("ML-KEM-1024", KemAlgorithm::MlKem1024),
];

#[test]
fn a_seed_gives_the_signing_key() {
    let algorithm = SignatureAlgorithm::MlDsa65;
    for (_, test) in tests(&groups("keyGen", "ML-DSA-65", None)) {
        let key = SigningKey::from_bytes(algorithm, &bytes(test, "seed")).unwrap();
        assert_eq!(key.verifying_key().as_bytes(), bytes(test, "pk"), "{test}");
    }
}

/// Signatures by the external interface, with contexts; NIST's of signing are beside the
/// code that signs (`src/mldsa.rs`), as they have no seed.
#[test]
fn a_signature_holds_or_does_not() {
    let all: Vec<Value> =
        serde_json::from_str(include_str!("../data/acvp-signatures.json")).unwrap();
    let group = all.iter().find(|group| group["mode"] == "sigVer").unwrap();
    let algorithm = SignatureAlgorithm::MlDsa65;
    let (mut held, mut refused) = (0, 0);
    for test in group["tests"].as_array().unwrap() {
        let bytes = |name: &str| {
            BASE64_STANDARD
                .decode(test[name].as_str().unwrap())
                .unwrap()
        };
        let key = VerifyingKey::from_bytes(algorithm, &bytes("pk")).unwrap();
        let signature = Signature::from_bytes(algorithm, &bytes("signature")).unwrap();
        let (context, message) = (bytes("context"), bytes("message"));
        let said = key.verify(&context, &message, &signature);
        if test["testPassed"] == true {
            assert_eq!(said, Ok(()), "{}", test["name"]);
            // The same under another context is not.
            let other = [&context[..], b"x"].concat();
            let said = key.verify(&other, &message, &signature);
            assert_eq!(said, Err(CryptoError::SignatureInvalid), "{}", test["name"]);
            held += 1;
        } else {
            let why = &test["reason"];
            assert_eq!(said, Err(CryptoError::SignatureInvalid), "{why}");
            refused += 1;
        }
    }
    assert_eq!((held, refused), (2, 8));
}

#[test]
fn a_seed_gives_both_keys() {
    for (set, algorithm) in KEMS {
        for (_, test) in tests(&groups("keyGen", set, None)) {
            let seed = [bytes(test, "d"), bytes(test, "z")].concat();
            let key = DecapsulationKey::from_seed(algorithm, &seed).unwrap();
            assert_eq!(key.encapsulation_key().as_bytes(), bytes(test, "ek"));
            assert_eq!(key.secret().expose(), bytes(test, "dk"));
        }
    }
}

#[test]
fn what_is_sent_and_agreed() {
    for (set, algorithm) in KEMS {
        for (_, test) in tests(&groups("encapDecap", set, Some("encapsulation"))) {
            let (ek, dk) = (bytes(test, "ek"), bytes(test, "dk"));
            let key = DecapsulationKey::from_bytes(algorithm, &dk, &ek).unwrap();
            let drawing = AwsLcProvider::new(Arc::new(Fixed::new(&bytes(test, "m"))));
            let (ciphertext, sent) = drawing.encapsulate(key.encapsulation_key()).unwrap();
            assert_eq!(ciphertext.as_bytes(), bytes(test, "c"));
            assert_eq!(sent.expose(), bytes(test, "k"));
            assert_eq!(provider().decapsulate(&key, &ciphertext).unwrap(), sent);
        }
    }
}

/// Changed ciphertexts among them: they give another secret and no error (FIPS 203,
/// section 6.3).
#[test]
fn what_is_received() {
    for (set, algorithm) in KEMS {
        let groups = groups("encapDecap", set, Some("decapsulation"));
        let mut changed = 0;
        for (group, test) in tests(&groups) {
            let dk = bytes(group, "dk");
            // FIPS 203, section 7.1: the encapsulation key lies within.
            let start = 384
                * if algorithm == KemAlgorithm::MlKem768 {
                    3
                } else {
                    4
                };
            let ek = &dk[start..start + algorithm.public_key_len()];
            let key = DecapsulationKey::from_bytes(algorithm, &dk, ek).unwrap();
            let ciphertext = KemCiphertext::from_bytes(algorithm, &bytes(test, "c")).unwrap();
            let agreed = provider().decapsulate(&key, &ciphertext).unwrap();
            assert_eq!(agreed.expose(), bytes(test, "k"), "{}", test["reason"]);
            changed += usize::from(test["reason"] != "no modification");
        }
        assert!(changed > 0, "{set}");
    }
}
