//! Each primitive against the bare library calls it is made of.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use aws_lc_rs::{aead, agreement, digest, hkdf, kem};
use creto_crypto::{
    AeadAlgorithm, AwsLcProvider, CryptoProvider as _, HashAlgorithm, KdfAlgorithm, KemAlgorithm,
    RootKey, SignatureAlgorithm, VerifyingKey, WrapAlgorithm,
};
use creto_types::{Randomness as _, SystemRandom};
use libcrux_ml_dsa::ml_dsa_65;
use libcrux_ml_kem::{mlkem768, mlkem1024};

use crate::report::{Entry, Report};
use crate::sample::Sample;

const BUDGET: Duration = Duration::from_secs(2);
/// What is signed.
const MESSAGE: &[u8] = &[7; 512];
/// What is sealed or hashed: 4 KiB.
const DATA: &[u8] = &[7; 4_096];

type Outcome = Result<(), Box<dyn Error>>;

pub(crate) fn run(report: &mut Report) -> Outcome {
    let provider = AwsLcProvider::new(Arc::new(SystemRandom));
    hashes(report, &provider);
    sealing(report, &provider)?;
    wrapping(report, &provider)?;
    making_keys(report, &provider);
    signatures(report, &provider)?;
    agreement_of_secrets(report, &provider)
}

/// Both in turns, so that what the machine does besides meets both.
fn pair(
    report: &mut Report,
    name: &str,
    peer: &str,
    batch: u32,
    mut ours: impl FnMut(),
    mut bare: impl FnMut(),
) {
    let name = format!("crypto/{name}");
    if !report.wants(&name) {
        return;
    }
    let (mut ours_took, mut bare_took) = (Sample::new(), Sample::new());
    let start = Instant::now();
    while start.elapsed() < BUDGET {
        let warm = start.elapsed() > BUDGET / 10;
        let turn = |sample: &mut Sample, call: &mut dyn FnMut()| {
            let start = Instant::now();
            for _ in 0..batch {
                call();
            }
            if warm {
                sample.add(start.elapsed() / batch);
            }
        };
        turn(&mut ours_took, &mut ours);
        turn(&mut bare_took, &mut bare);
    }
    let entry = Entry::latency(&name, "us", ours_took.micros());
    report.add(entry.beside(peer, bare_took.micros().median));
}

fn hashes(report: &mut Report, provider: &AwsLcProvider) {
    for (name, algorithm, function) in [
        ("sha_256", HashAlgorithm::Sha256, &digest::SHA256),
        ("sha_384", HashAlgorithm::Sha384, &digest::SHA384),
        ("sha_512", HashAlgorithm::Sha512, &digest::SHA512),
        ("sha3_256", HashAlgorithm::Sha3_256, &digest::SHA3_256),
    ] {
        pair(
            report,
            name,
            "aws-lc-rs",
            16,
            || drop(black_box(provider.hash(algorithm, black_box(DATA)))),
            || {
                black_box(digest::digest(function, black_box(DATA)));
            },
        );
    }
    pair(
        report,
        "blake3",
        "blake3",
        16,
        || {
            drop(black_box(
                provider.hash(HashAlgorithm::Blake3, black_box(DATA)),
            ))
        },
        || {
            black_box(blake3::hash(black_box(DATA)));
        },
    );
    let (mut okm, mut bare_okm) = ([0; 32], [0; 32]);
    for (name, algorithm, engine) in [
        ("hkdf_sha256", KdfAlgorithm::HkdfSha256, hkdf::HKDF_SHA256),
        ("hkdf_sha384", KdfAlgorithm::HkdfSha384, hkdf::HKDF_SHA384),
        ("hkdf_sha512", KdfAlgorithm::HkdfSha512, hkdf::HKDF_SHA512),
    ] {
        pair(
            report,
            name,
            "aws-lc-rs",
            16,
            || {
                let derived = algorithm.derive(b"salt", black_box(&[9; 32]), &[b"i"], &mut okm);
                let _ = black_box(derived);
            },
            || {
                let _ = black_box(bare_hkdf(engine, b"salt", &[9; 32], b"i", &mut bare_okm));
            },
        );
    }
}

/// How many bytes are asked for.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn bare_hkdf(
    engine: hkdf::Algorithm,
    salt: &[u8],
    secret: &[u8],
    info: &[u8],
    okm: &mut [u8],
) -> Result<(), Unspecified> {
    hkdf::Salt::new(engine, salt)
        .extract(black_box(secret))
        .expand(&[info], Length(okm.len()))?
        .fill(okm)
}

/// The bare calls have what a sender and a reader cannot do without: a fresh nonce, and
/// a buffer of their own.
fn sealing(report: &mut Report, provider: &AwsLcProvider) -> Outcome {
    for (name, algorithm, engine) in [
        ("aes_256_gcm", AeadAlgorithm::Aes256Gcm, &AES_256_GCM),
        (
            "chacha20_poly1305",
            AeadAlgorithm::ChaCha20Poly1305,
            &CHACHA20_POLY1305,
        ),
    ] {
        let key = provider.generate_aead_key(algorithm)?;
        let sealed = provider.seal(&key, b"aad", DATA)?;
        let bare = LessSafeKey::new(UnboundKey::new(engine, key.secret().expose())?);
        pair(
            report,
            &format!("{name}_seal"),
            "aws-lc-rs",
            8,
            || drop(black_box(provider.seal(&key, b"aad", black_box(DATA)))),
            || {
                let mut nonce = [0; aead::NONCE_LEN];
                SystemRandom.fill(&mut nonce);
                let mut buffer = Vec::with_capacity(DATA.len() + 16);
                buffer.extend_from_slice(black_box(DATA));
                let nonce = Nonce::assume_unique_for_key(nonce);
                let sealed = bare.seal_in_place_append_tag(nonce, Aad::from(b"aad"), &mut buffer);
                let _ = black_box((sealed, buffer));
            },
        );
        pair(
            report,
            &format!("{name}_open"),
            "aws-lc-rs",
            8,
            || drop(black_box(provider.open(&key, b"aad", black_box(&sealed)))),
            || {
                let nonce = Nonce::try_assume_unique_for_key(sealed.nonce());
                let mut buffer = black_box(sealed.ciphertext()).to_vec();
                let opened = nonce.and_then(|nonce| {
                    bare.open_in_place(nonce, Aad::from(b"aad"), &mut buffer)
                        .map(|plain| plain.len())
                });
                let _ = black_box((opened, buffer));
            },
        );
    }
    Ok(())
}

/// The bare calls derive a key and a nonce from a salt, and seal or open with them. What is
/// stored is text besides, which they neither write nor read.
fn wrapping(report: &mut Report, provider: &AwsLcProvider) -> Outcome {
    const PURPOSE: &str =
        "creto/nhi/org_019b76daa800770db259e4e1cb631c66/principal/agent/release-bot";
    const BINDING: &[u8] = b"creto/wrapped-key/v1\0\
        creto/nhi/org_019b76daa800770db259e4e1cb631c66/principal/agent/release-bot";
    let root = RootKey::from_hex(&"5a".repeat(32))?;
    let key = provider.generate_signing_key(SignatureAlgorithm::MlDsa65Ed25519)?;
    let (algorithm, secret) = (WrapAlgorithm::HkdfSha256Aes256Gcm, key.secret());
    let wrapped = root.wrap(provider, algorithm, PURPOSE, secret)?;
    let bare = |salt: &[u8]| {
        let mut okm = [0; 44];
        bare_hkdf(hkdf::HKDF_SHA256, salt, &[0x5a; 32], BINDING, &mut okm)?;
        let (key, nonce) = okm.split_at(32);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?);
        Ok::<_, Unspecified>((key, Nonce::try_assume_unique_for_key(nonce)?))
    };
    let seal = |salt: &[u8; 16]| {
        let (key, nonce) = bare(salt)?;
        let mut buffer = Vec::with_capacity(secret.len() + 16);
        buffer.extend_from_slice(black_box(secret.expose()));
        key.seal_in_place_append_tag(nonce, Aad::from(BINDING), &mut buffer)?;
        Ok::<_, Unspecified>(buffer)
    };
    let sealed = seal(&[3; 16])?;
    pair(
        report,
        "wrap",
        "HKDF and AEAD, bare",
        4,
        || {
            drop(black_box(root.wrap(
                provider,
                algorithm,
                black_box(PURPOSE),
                secret,
            )))
        },
        || {
            let mut salt = [0; 16];
            SystemRandom.fill(&mut salt);
            let _ = black_box((seal(&salt), salt));
        },
    );
    pair(
        report,
        "unwrap",
        "HKDF and AEAD, bare",
        4,
        || drop(black_box(root.unwrap(black_box(PURPOSE), &wrapped))),
        || {
            let mut buffer = black_box(&sealed).clone();
            let opened = bare(black_box(&[3; 16])).and_then(|(key, nonce)| {
                key.open_in_place(nonce, Aad::from(BINDING), &mut buffer)
                    .map(|plain| plain.len())
            });
            let _ = black_box((opened, buffer));
        },
    );
    Ok(())
}

/// From fresh seeds to keys that sign or open. Of ML-KEM the one library makes the key and
/// the other has it ready for use.
fn making_keys(report: &mut Report, provider: &AwsLcProvider) {
    let ed = || {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed::<32>());
        let _ = black_box(pair.map(|pair| (pair.public_key().clone(), pair)));
    };
    let ml_dsa = || {
        black_box(ml_dsa_65::generate_key_pair(seed()));
    };
    let ml_kem_768 = |seed| {
        let pair = mlkem768::generate_key_pair(seed);
        let ready = kem::DecapsulationKey::new(&kem::ML_KEM_768, pair.sk());
        let _ = black_box((ready, pair));
    };
    let ml_kem_1024 = |seed| {
        let pair = mlkem1024::generate_key_pair(seed);
        let ready = kem::DecapsulationKey::new(&kem::ML_KEM_1024, pair.sk());
        let _ = black_box((ready, pair));
    };
    let x_wing = || {
        let expanded = libcrux_sha3::shake256::<96>(&seed::<32>());
        let (both, own) = expanded.split_at(64);
        if let Ok(both) = both.try_into() {
            ml_kem_768(both);
        }
        let own = agreement::PrivateKey::from_private_key(&agreement::X25519, own);
        let _ = black_box(own.map(|own| (own.compute_public_key(), own)));
    };
    let both = || {
        ed();
        ml_dsa();
    };
    for (name, algorithm, peer, bare) in [
        (
            "ed25519",
            SignatureAlgorithm::Ed25519,
            "aws-lc-rs",
            &ed as &dyn Fn(),
        ),
        ("ml_dsa_65", SignatureAlgorithm::MlDsa65, "libcrux", &ml_dsa),
        (
            "composite",
            SignatureAlgorithm::MlDsa65Ed25519,
            "both halves, bare",
            &both,
        ),
    ] {
        pair(
            report,
            &format!("{name}_generate"),
            peer,
            1,
            || drop(black_box(provider.generate_signing_key(algorithm))),
            bare,
        );
    }
    for (name, algorithm, peer, bare) in [
        (
            "ml_kem_768",
            KemAlgorithm::MlKem768,
            "libcrux and aws-lc-rs",
            &(|| ml_kem_768(seed())) as &dyn Fn(),
        ),
        (
            "ml_kem_1024",
            KemAlgorithm::MlKem1024,
            "libcrux and aws-lc-rs",
            &|| ml_kem_1024(seed()),
        ),
        (
            "x_wing",
            KemAlgorithm::XWing,
            "both halves and SHAKE256, bare",
            &x_wing,
        ),
    ] {
        pair(
            report,
            &format!("{name}_generate"),
            peer,
            1,
            || drop(black_box(provider.generate_kem_key(algorithm))),
            bare,
        );
    }
}

fn seed<const N: usize>() -> [u8; N] {
    let mut seed = [0; N];
    SystemRandom.fill(&mut seed);
    seed
}

fn signatures(report: &mut Report, provider: &AwsLcProvider) -> Outcome {
    let key = |algorithm| provider.generate_signing_key(algorithm);
    let hedge = || {
        let mut hedge = [0; 32];
        SystemRandom.fill(&mut hedge);
        hedge
    };
    let bare_ed = Ed25519KeyPair::generate()?;
    let bare_ml = ml_dsa_65::generate_key_pair([3; 32]);
    let sign_ed = || {
        black_box(bare_ed.sign(black_box(MESSAGE)));
    };
    let sign_ml = || {
        let signed = ml_dsa_65::sign(&bare_ml.signing_key, black_box(MESSAGE), b"bench", hedge());
        let _ = black_box(signed);
    };
    let ed_signature = bare_ed.sign(MESSAGE);
    let ed_public = UnparsedPublicKey::new(&ED25519, bare_ed.public_key().as_ref().to_vec());
    let ml_signature = ml_dsa_65::sign(&bare_ml.signing_key, MESSAGE, b"bench", [5; 32])
        .map_err(|error| format!("{error:?}"))?;
    let verify_ed = || {
        let _ = black_box(ed_public.verify(black_box(MESSAGE), ed_signature.as_ref()));
    };
    let verify_ml = || {
        let public = &bare_ml.verification_key;
        let verified = ml_dsa_65::verify(public, black_box(MESSAGE), b"bench", &ml_signature);
        let _ = black_box(verified);
    };
    for (name, algorithm, context, peer) in [
        (
            "ed25519",
            SignatureAlgorithm::Ed25519,
            &b""[..],
            "aws-lc-rs",
        ),
        (
            "ml_dsa_65",
            SignatureAlgorithm::MlDsa65,
            b"bench",
            "libcrux",
        ),
        (
            "composite",
            SignatureAlgorithm::MlDsa65Ed25519,
            b"bench",
            "both halves, bare",
        ),
    ] {
        let key = key(algorithm)?;
        let public: &VerifyingKey = key.verifying_key();
        let signature = provider.sign(&key, context, MESSAGE)?;
        let (ed, ml) = (
            algorithm != SignatureAlgorithm::MlDsa65,
            algorithm != SignatureAlgorithm::Ed25519,
        );
        pair(
            report,
            &format!("{name}_sign"),
            peer,
            1,
            || drop(black_box(provider.sign(&key, context, black_box(MESSAGE)))),
            || {
                if ed {
                    sign_ed();
                }
                if ml {
                    sign_ml();
                }
            },
        );
        pair(
            report,
            &format!("{name}_verify"),
            peer,
            1,
            || {
                drop(black_box(public.verify(
                    context,
                    black_box(MESSAGE),
                    &signature,
                )))
            },
            || {
                if ed {
                    verify_ed();
                }
                if ml {
                    verify_ml();
                }
            },
        );
    }
    Ok(())
}

/// The bare calls have keys that were parsed and checked before, as ours have.
fn agreement_of_secrets(report: &mut Report, provider: &AwsLcProvider) -> Outcome {
    let message = || {
        let mut message = [0; 32];
        SystemRandom.fill(&mut message);
        message
    };
    let bare_768 = mlkem768::generate_key_pair([4; 64]);
    let bare_1024 = mlkem1024::generate_key_pair([4; 64]);
    let aws_768 = kem::DecapsulationKey::generate(&kem::ML_KEM_768)?;
    let aws_1024 = kem::DecapsulationKey::generate(&kem::ML_KEM_1024)?;
    let (sent_768, _) = aws_768.encapsulation_key()?.encapsulate()?;
    let (sent_1024, _) = aws_1024.encapsulation_key()?.encapsulate()?;
    let (sent_768, sent_1024) = (sent_768.as_ref().to_vec(), sent_1024.as_ref().to_vec());
    let x25519 = agreement::PrivateKey::generate(&agreement::X25519)?;
    let point = x25519.compute_public_key()?.as_ref().to_vec();
    let agree = |key: &agreement::PrivateKey| {
        let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, black_box(&point));
        let agreed = agreement::agree(key, peer, (), |secret| {
            black_box(secret);
            Ok(())
        });
        let _ = black_box(agreed);
    };
    for (name, algorithm, peers) in [
        (
            "ml_kem_768",
            KemAlgorithm::MlKem768,
            ["libcrux", "aws-lc-rs"],
        ),
        (
            "ml_kem_1024",
            KemAlgorithm::MlKem1024,
            ["libcrux", "aws-lc-rs"],
        ),
        (
            "x_wing",
            KemAlgorithm::XWing,
            ["both halves and SHA3-256, bare"; 2],
        ),
    ] {
        let [encapsulating, decapsulating] = peers;
        let wide = algorithm == KemAlgorithm::MlKem1024;
        let hybrid = algorithm == KemAlgorithm::XWing;
        let key = provider.generate_kem_key(algorithm)?;
        let public = key.encapsulation_key();
        let (sent, _) = provider.encapsulate(public)?;
        pair(
            report,
            &format!("{name}_encapsulate"),
            encapsulating,
            1,
            || drop(black_box(provider.encapsulate(black_box(public)))),
            || {
                if wide {
                    black_box(mlkem1024::encapsulate(bare_1024.public_key(), message()));
                } else {
                    black_box(mlkem768::encapsulate(bare_768.public_key(), message()));
                }
                if hybrid {
                    let key =
                        agreement::PrivateKey::from_private_key(&agreement::X25519, &message());
                    if let Ok(key) = key {
                        let _ = black_box(key.compute_public_key());
                        agree(&key);
                    }
                    black_box(digest::digest(&digest::SHA3_256, &[0; 134]));
                }
            },
        );
        pair(
            report,
            &format!("{name}_decapsulate"),
            decapsulating,
            1,
            || drop(black_box(provider.decapsulate(&key, black_box(&sent)))),
            || {
                let opened = if wide {
                    aws_1024.decapsulate(kem::Ciphertext::from(&*sent_1024))
                } else {
                    aws_768.decapsulate(kem::Ciphertext::from(&*sent_768))
                };
                let _ = black_box(opened);
                if hybrid {
                    agree(&x25519);
                    black_box(digest::digest(&digest::SHA3_256, &[0; 134]));
                }
            },
        );
    }
    Ok(())
}
