//! Sealing, key agreement, and what the types show and write.

use std::sync::Arc;

use creto_crypto::{
    AeadAlgorithm, AeadKey, Algorithm as _, CryptoError, CryptoProvider, DecapsulationKey,
    EncapsulationKey, HashAlgorithm, KemAlgorithm, KemCiphertext, LocalSigner, Sealed, Signature,
    SignatureAlgorithm, Signer, VerifyingKey, sha256,
};

use crate::{provider, seeded};

#[test]
fn sealed_bytes_open_with_the_same_key_and_data_only() {
    let provider = provider();
    let key = provider
        .generate_aead_key(AeadAlgorithm::Aes256Gcm)
        .unwrap();
    let other = provider
        .generate_aead_key(AeadAlgorithm::Aes256Gcm)
        .unwrap();
    let sealed = provider.seal(&key, b"aad", b"the plaintext").unwrap();
    assert_eq!(
        provider.open(&key, b"aad", &sealed).unwrap().expose(),
        b"the plaintext"
    );
    assert_eq!(
        provider.open(&key, b"AAD", &sealed),
        Err(CryptoError::OpenFailed)
    );
    assert_eq!(
        provider.open(&other, b"aad", &sealed),
        Err(CryptoError::OpenFailed)
    );
    let again = provider.seal(&key, b"aad", b"the plaintext").unwrap();
    assert_ne!(sealed, again, "nonces are never repeated");
}

#[test]
fn a_sealed_object_names_its_algorithm_and_survives_json() {
    let provider = provider();
    let key = provider
        .generate_aead_key(AeadAlgorithm::Aes256Gcm)
        .unwrap();
    let sealed = provider.seal(&key, b"", b"").unwrap();
    let json = serde_json::to_string(&sealed).unwrap();
    assert!(json.contains(r#""enc":"A256GCM""#));
    let back: Sealed = serde_json::from_str(&json).unwrap();
    assert!(provider.open(&key, b"", &back).unwrap().is_empty());
    let other = json.replace("A256GCM", "A128CBC");
    assert!(serde_json::from_str::<Sealed>(&other).is_err());
}

#[test]
fn every_changed_ciphertext_byte_is_noticed() {
    let provider = provider();
    let key = provider
        .generate_aead_key(AeadAlgorithm::Aes256Gcm)
        .unwrap();
    let sealed = provider.seal(&key, b"aad", b"0123456789").unwrap();
    let json = serde_json::to_value(&sealed).unwrap();
    let text = json["ciphertext"].as_str().unwrap().to_owned();
    for position in 0..text.len() {
        let mut changed: Vec<char> = text.chars().collect();
        changed[position] = if changed[position] == 'A' { 'B' } else { 'A' };
        let mut json = json.clone();
        json["ciphertext"] = changed.into_iter().collect::<String>().into();
        // The last character has bits that belong to no byte: strict base64url has
        // them zero.
        let opened = serde_json::from_value::<Sealed>(json)
            .is_ok_and(|sealed| provider.open(&key, b"aad", &sealed).is_ok());
        assert!(!opened, "character {position}");
    }
}

#[test]
fn both_sides_of_every_kem_agree() {
    let provider = provider();
    for algorithm in KemAlgorithm::ALL.iter().copied() {
        let key = provider.generate_kem_key(algorithm).unwrap();
        // Through bytes, as they would be stored and sent.
        let public =
            EncapsulationKey::from_bytes(algorithm, key.encapsulation_key().as_bytes()).unwrap();
        let stored =
            DecapsulationKey::from_bytes(algorithm, key.secret().expose(), public.as_bytes())
                .unwrap();
        let (ciphertext, sent) = provider.encapsulate(&public).unwrap();
        let ciphertext =
            KemCiphertext::from_bytes(ciphertext.algorithm(), ciphertext.as_bytes()).unwrap();
        assert_eq!(provider.decapsulate(&stored, &ciphertext).unwrap(), sent);
        assert_eq!(sent.len(), 32);
        let (_, again) = provider.encapsulate(&public).unwrap();
        assert_ne!(again, sent);
    }
}

#[test]
fn keys_and_ciphertexts_of_another_length_are_refused() {
    let provider = provider();
    for algorithm in KemAlgorithm::ALL.iter().copied() {
        let key = provider.generate_kem_key(algorithm).unwrap();
        let public = key.encapsulation_key().as_bytes();
        let (ciphertext, _) = provider.encapsulate(key.encapsulation_key()).unwrap();
        let malformed = |error| matches!(error, CryptoError::Malformed { .. });
        let longer = |bytes: &[u8]| [bytes, &[0]].concat();
        for bytes in [longer(public), public[1..].to_vec(), Vec::new()] {
            assert!(malformed(
                EncapsulationKey::from_bytes(algorithm, &bytes).unwrap_err()
            ));
        }
        for bytes in [longer(ciphertext.as_bytes()), Vec::new()] {
            assert!(malformed(
                KemCiphertext::from_bytes(algorithm, &bytes).unwrap_err()
            ));
        }
        for bytes in [longer(key.secret().expose()), Vec::new()] {
            assert!(malformed(
                DecapsulationKey::from_bytes(algorithm, &bytes, public).unwrap_err()
            ));
        }
    }
}

#[test]
fn an_object_of_another_algorithm_is_refused_before_it_is_used() {
    let provider = provider();
    let keys: Vec<_> = KemAlgorithm::ALL
        .iter()
        .map(|algorithm| provider.generate_kem_key(*algorithm).unwrap())
        .collect();
    for (place, key) in keys.iter().enumerate() {
        let other = &keys[(place + 1) % keys.len()];
        let (ciphertext, _) = provider.encapsulate(other.encapsulation_key()).unwrap();
        assert!(matches!(
            provider.decapsulate(key, &ciphertext),
            Err(CryptoError::AlgorithmMismatch { .. })
        ));
    }
    let bytes = [7; 32];
    let aes = AeadKey::from_bytes(AeadAlgorithm::Aes256Gcm, &bytes).unwrap();
    let chacha = AeadKey::from_bytes(AeadAlgorithm::ChaCha20Poly1305, &bytes).unwrap();
    let sealed = provider.seal(&aes, b"", b"data").unwrap();
    assert!(matches!(
        provider.open(&chacha, b"", &sealed),
        Err(CryptoError::AlgorithmMismatch {
            expected: "ChaCha20-Poly1305",
            got: "A256GCM"
        })
    ));
    assert_ne!(aes, chacha);
}

#[test]
fn a_changed_ml_kem_ciphertext_gives_another_secret() {
    let provider = provider();
    for algorithm in [KemAlgorithm::MlKem768, KemAlgorithm::MlKem1024] {
        let key = provider.generate_kem_key(algorithm).unwrap();
        let (ciphertext, sent) = provider.encapsulate(key.encapsulation_key()).unwrap();
        let mut bytes = ciphertext.as_bytes().to_vec();
        bytes[500] ^= 1;
        let changed = KemCiphertext::from_bytes(algorithm, &bytes).unwrap();
        assert_ne!(provider.decapsulate(&key, &changed).unwrap(), sent);
    }
}

/// FIPS 203, sections 7.2 and 7.3.
#[test]
fn bytes_that_are_no_ml_kem_key_are_refused() {
    let provider = provider();
    let rejected = |error| matches!(error, CryptoError::KeyRejected { .. });
    for algorithm in KemAlgorithm::ALL.iter().copied() {
        let bytes = vec![0xFF; algorithm.public_key_len()];
        assert!(rejected(
            EncapsulationKey::from_bytes(algorithm, &bytes).unwrap_err()
        ));
    }
    for algorithm in [KemAlgorithm::MlKem768, KemAlgorithm::MlKem1024] {
        let key = provider.generate_kem_key(algorithm).unwrap();
        let public = key.encapsulation_key().as_bytes();
        let private = key.secret().expose();
        let other = provider.generate_kem_key(algorithm).unwrap();
        let others = other.encapsulation_key().as_bytes();
        assert!(rejected(
            DecapsulationKey::from_bytes(algorithm, private, others).unwrap_err()
        ));
        // The hash of the public key lies before the last 32 bytes.
        let mut changed = private.to_vec();
        changed[private.len() - 33] ^= 1;
        assert!(rejected(
            DecapsulationKey::from_bytes(algorithm, &changed, public).unwrap_err()
        ));
    }
}

#[test]
fn a_local_signer_signs_with_its_key() {
    let provider = Arc::new(provider());
    let key = provider
        .generate_signing_key(SignatureAlgorithm::MlDsa65Ed25519)
        .unwrap();
    let public = key.verifying_key().clone();
    let signer = LocalSigner::new(key, provider.clone());
    let signature = signer.sign(b"ctx", b"message").unwrap();
    assert_eq!(signer.verifying_key(), &public);
    assert!(
        provider
            .verify(&public, b"ctx", b"message", &signature)
            .is_ok()
    );
}

#[test]
fn keys_and_signatures_survive_json() {
    let provider = provider();
    for algorithm in SignatureAlgorithm::ALL.iter().copied() {
        let key = provider.generate_signing_key(algorithm).unwrap();
        let signature = provider.sign(&key, b"", b"m").unwrap();
        let public = serde_json::to_string(key.verifying_key()).unwrap();
        assert!(public.starts_with(&format!(r#"{{"alg":"{algorithm}","pub":""#)));
        let public: VerifyingKey = serde_json::from_str(&public).unwrap();
        let signature = serde_json::to_string(&signature).unwrap();
        let signature: Signature = serde_json::from_str(&signature).unwrap();
        assert!(public.verify(b"", b"m", &signature).is_ok());
    }
    let padded = r#"{"alg":"Ed25519","pub":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"#;
    assert!(serde_json::from_str::<VerifyingKey>(padded).is_err());
    let loose_bits = r#"{"alg":"Ed25519","pub":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB"}"#;
    assert!(serde_json::from_str::<VerifyingKey>(loose_bits).is_err());
    let unknown = r#"{"alg":"Ed25519","pub":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","x":1}"#;
    assert!(serde_json::from_str::<VerifyingKey>(unknown).is_err());
}

#[test]
fn an_ml_dsa_signature_is_bound_to_its_context() {
    let provider = provider();
    let algorithm = SignatureAlgorithm::MlDsa65;
    let key = provider.generate_signing_key(algorithm).unwrap();
    let signature = provider.sign(&key, b"ctx", b"message").unwrap();
    let public = key.verifying_key();
    assert_eq!(signature.algorithm(), algorithm);
    assert!(public.verify(b"ctx", b"message", &signature).is_ok());
    for (context, message) in [(&b"ctx"[..], &b"messagf"[..]), (b"", b"message")] {
        assert_eq!(
            public.verify(context, message, &signature),
            Err(CryptoError::SignatureInvalid)
        );
    }
    let long = [0; 256];
    let too_long = Err(CryptoError::ContextTooLong { got: 256 });
    assert_eq!(public.verify(&long, b"message", &signature), too_long);
    assert!(provider.sign(&key, &long, b"message").is_err());
    let again = provider.sign(&key, b"ctx", b"message").unwrap();
    assert_ne!(again, signature, "signatures are hedged");
}

#[test]
fn debug_never_shows_a_secret() {
    let provider = Arc::new(seeded(7));
    let key = provider
        .generate_signing_key(SignatureAlgorithm::MlDsa65Ed25519)
        .unwrap();
    let secret = key.secret().expose().to_vec();
    let kem = provider.generate_kem_key(KemAlgorithm::XWing).unwrap();
    let aead = provider
        .generate_aead_key(AeadAlgorithm::Aes256Gcm)
        .unwrap();
    let shown = format!("{key:?} {:?} {kem:?} {aead:?}", key.secret());
    for bytes in [kem.secret().expose(), aead.secret().expose()] {
        assert!(!shown.contains(&hex::encode(bytes)[..8]));
        assert!(!shown.contains(&format!("{}, {}, ", bytes[0], bytes[1])));
    }
    let signer = LocalSigner::new(key, provider);
    let shown = format!("{shown} {signer:?}").to_lowercase();
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let decimal: String = secret
        .iter()
        .take(4)
        .map(|byte| format!("{byte}, "))
        .collect();
    assert!(!shown.contains(&hex[..16]));
    assert!(!shown.contains(&decimal));
}

#[test]
fn hashing_through_the_provider_is_the_same_hash() {
    let digest = provider().hash(HashAlgorithm::Sha256, b"abc");
    assert_eq!(digest.as_bytes(), sha256(b"abc"));
    assert_eq!(digest.algorithm(), HashAlgorithm::Sha256);
}
