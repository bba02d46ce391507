//! Implementations of others agree with ours, in both directions: what we sign, seal or
//! send they read, and the other way round. `scripts/setup.sh --test` installs them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::{
    AeadAlgorithm, AeadKey, Algorithm, AwsLcProvider, CryptoProvider as _, DecapsulationKey,
    EncapsulationKey, HashAlgorithm, KdfAlgorithm, KemAlgorithm, KemCiphertext, RootKey, Sealed,
    Secret, Signature, SignatureAlgorithm, SigningKey, VerifyingKey, WrapAlgorithm, WrappedKey,
};
use creto_types::SystemRandom;
use serde_json::{Value, json};

const MESSAGE: &[u8] = b"creto/cross-check: what was agreed";

fn provider() -> AwsLcProvider {
    AwsLcProvider::new(Arc::new(SystemRandom))
}

fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    provider().random(&mut bytes);
    bytes
}

/// Where `scripts/setup.sh --test` puts packages: beside the profiles of the target
/// folder.
fn packages(folder: &str, witness: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let packages = own.ancestors().nth(3).unwrap().join(folder);
    assert!(
        packages.join(witness).is_dir(),
        "{} is missing; run scripts/setup.sh --test first",
        packages.display()
    );
    packages
}

/// An implementation of somebody else's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Other {
    /// PyPI `cryptography`.
    Cryptography,
    /// npm `@noble/post-quantum`.
    Noble,
}

impl Other {
    /// What comes of these tasks, byte strings by name.
    fn answers(self, tasks: &[Value]) -> Vec<Value> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/others");
        let mut command = match self {
            Self::Cryptography => {
                let mut command = Command::new("/usr/bin/python3");
                command
                    .arg(folder.join("cryptography_side.py"))
                    .env("PYTHONPATH", packages("test-python", "cryptography"))
                    .env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Self::Noble => {
                let mut command = Command::new("node");
                let witness = "node_modules/@noble/post-quantum";
                command
                    .arg(folder.join("noble_side.mjs"))
                    .env("NODE_PACKAGES", packages("test-node", witness));
                command
            }
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input
            .write_all(json!(tasks).to_string().as_bytes())
            .unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answers.len(), tasks.len());
        answers
    }
}

fn bytes(answer: &Value, name: &str) -> Vec<u8> {
    hex::decode(answer[name].as_str().unwrap()).unwrap()
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(bytes)
}

fn signatures(other: Other) {
    let mut tasks = Vec::new();
    let mut ours = Vec::new();
    for algorithm in SignatureAlgorithm::ALL {
        let context: &[u8] = if algorithm.takes_context() {
            b"cross/v1"
        } else {
            b""
        };
        let seed = random(algorithm.private_key_len());
        let key = SigningKey::from_bytes(*algorithm, &seed).unwrap();
        let signature = provider().sign(&key, context, MESSAGE).unwrap();
        let task = |work: &str, message: &[u8]| {
            json!({
                "do": work, "alg": algorithm.name(), "context": text(context),
                "message": text(message), "public": text(key.verifying_key().as_bytes()),
                "signature": text(signature.as_bytes()),
            })
        };
        tasks.push(task("verify", MESSAGE));
        tasks.push(task("verify", b"something else"));
        tasks.push(json!({
            "do": "sign", "alg": algorithm.name(), "seed": text(&seed),
            "context": text(context), "message": text(MESSAGE),
        }));
        ours.push((*algorithm, context, key));
    }
    let answers = other.answers(&tasks);
    for ((algorithm, context, key), answers) in ours.iter().zip(answers.chunks(3)) {
        assert_eq!(bytes(&answers[0], "valid"), [1], "{algorithm}");
        assert_eq!(bytes(&answers[1], "valid"), [0], "{algorithm}");
        let public = VerifyingKey::from_bytes(*algorithm, &bytes(&answers[2], "public")).unwrap();
        assert_eq!(&public, key.verifying_key(), "of one seed comes one key");
        let signature = bytes(&answers[2], "signature");
        let signature = Signature::from_bytes(*algorithm, &signature).unwrap();
        public.verify(context, MESSAGE, &signature).unwrap();
        assert!(
            public
                .verify(context, b"something else", &signature)
                .is_err()
        );
    }
}

fn secrets(other: Other) {
    let mut tasks = Vec::new();
    let mut ours = Vec::new();
    for algorithm in KemAlgorithm::ALL {
        let seed = random(algorithm.seed_len());
        let key = DecapsulationKey::from_seed(*algorithm, &seed).unwrap();
        let public = key.encapsulation_key();
        let (ciphertext, secret) = provider().encapsulate(public).unwrap();
        tasks.push(json!({
            "do": "open", "alg": algorithm.name(), "seed": text(&seed),
            "ciphertext": text(ciphertext.as_bytes()),
        }));
        tasks.push(json!({
            "do": "send", "alg": algorithm.name(), "public": text(public.as_bytes()),
        }));
        ours.push((*algorithm, key, secret));
    }
    let answers = other.answers(&tasks);
    for ((algorithm, key, secret), answers) in ours.iter().zip(answers.chunks(2)) {
        assert_eq!(bytes(&answers[0], "secret"), secret.expose(), "{algorithm}");
        let public = EncapsulationKey::from_bytes(*algorithm, &bytes(&answers[0], "public"));
        assert_eq!(&public.unwrap(), key.encapsulation_key());
        let sent = KemCiphertext::from_bytes(*algorithm, &bytes(&answers[1], "ciphertext"));
        let opened = provider().decapsulate(key, &sent.unwrap()).unwrap();
        assert_eq!(opened.expose(), bytes(&answers[1], "secret"), "{algorithm}");
    }
}

fn sealed(other: Other) {
    for algorithm in AeadAlgorithm::ALL {
        let (key, nonce) = (random(32), random(12));
        let ours = AeadKey::from_bytes(*algorithm, &key).unwrap();
        let sealed = provider().seal(&ours, b"aad", MESSAGE).unwrap();
        let answers = other.answers(&[
            json!({
                "do": "unseal", "alg": algorithm.name(), "key": text(&key), "aad": text(b"aad"),
                "nonce": text(sealed.nonce()), "ciphertext": text(sealed.ciphertext()),
            }),
            json!({
                "do": "seal", "alg": algorithm.name(), "key": text(&key), "aad": text(b"aad"),
                "nonce": text(&nonce), "plaintext": text(MESSAGE),
            }),
        ]);
        assert_eq!(bytes(&answers[0], "plaintext"), MESSAGE, "{algorithm}");
        let theirs = bytes(&answers[1], "ciphertext");
        let theirs = Sealed::from_parts(*algorithm, &nonce, &theirs).unwrap();
        let opened = provider().open(&ours, b"aad", &theirs).unwrap();
        assert_eq!(opened.expose(), MESSAGE, "{algorithm}");
    }
}

/// Wrapped keys, in the form that they are stored in.
fn wrapped(other: Other) {
    let (root, salt) = (random(32), random(16));
    let ours = RootKey::from_hex(&text(&root)).unwrap();
    let purpose = "creto/keystore/org/wrapping/1";
    let own = Secret::new(random(64));
    let mut tasks = Vec::new();
    for algorithm in WrapAlgorithm::ALL {
        let wrapped = ours.wrap(&provider(), *algorithm, purpose, &own).unwrap();
        let wrapped = serde_json::to_value(wrapped).unwrap();
        assert_eq!(wrapped["alg"], algorithm.name());
        let field = |name: &str| URL_SAFE_NO_PAD.decode(wrapped[name].as_str().unwrap());
        tasks.push(json!({
            "do": "unwrap", "alg": algorithm.name(), "root": text(&root),
            "purpose": text(purpose), "salt": text(field("salt").unwrap()),
            "ciphertext": text(field("ciphertext").unwrap()),
        }));
        tasks.push(json!({
            "do": "wrap", "alg": algorithm.name(), "root": text(&root),
            "purpose": text(purpose), "salt": text(&salt), "secret": text(MESSAGE),
        }));
    }
    let answers = other.answers(&tasks);
    for (algorithm, answers) in WrapAlgorithm::ALL.iter().zip(answers.chunks(2)) {
        assert_eq!(bytes(&answers[0], "secret"), own.expose(), "{algorithm}");
        let theirs: WrappedKey = serde_json::from_value(json!({
            "alg": algorithm.name(), "salt": URL_SAFE_NO_PAD.encode(&salt),
            "ciphertext": URL_SAFE_NO_PAD.encode(bytes(&answers[1], "ciphertext")),
        }))
        .unwrap();
        let opened = ours.unwrap(purpose, &theirs).unwrap();
        assert_eq!(opened.expose(), MESSAGE, "{algorithm}");
    }
}

fn digests(other: Other) {
    let hashes: Vec<HashAlgorithm> = HashAlgorithm::ALL
        .iter()
        .copied()
        // Which `cryptography` has not.
        .filter(|hash| other == Other::Noble || *hash != HashAlgorithm::Blake3)
        .collect();
    // Of every length around the blocks of all of them, and of many blocks.
    let long = random(1 << 20);
    let lengths: Vec<usize> = (0..=300).chain([1024, 1025, 4096, 1 << 20]).collect();
    let mut tasks = Vec::new();
    for hash in &hashes {
        for length in &lengths {
            let data = text(&long[..*length]);
            tasks.push(json!({ "do": "hash", "alg": hash.name(), "data": data }));
        }
    }
    for kdf in KdfAlgorithm::ALL {
        tasks.push(json!({
            "do": "derive", "alg": kdf.name(), "salt": text(b"salt"), "secret": text(b"secret"),
            "info": text(b"info"),
        }));
    }
    let answers = other.answers(&tasks);
    let (of_hashes, of_kdfs) = answers.split_at(hashes.len() * lengths.len());
    for (hash, answers) in hashes.iter().zip(of_hashes.chunks(lengths.len())) {
        for (length, answer) in lengths.iter().zip(answers) {
            let ours = provider().hash(*hash, &long[..*length]);
            assert_eq!(ours.as_bytes(), bytes(answer, "digest"), "{hash} {length}");
        }
    }
    for (kdf, answer) in KdfAlgorithm::ALL.iter().zip(of_kdfs) {
        let mut okm = [0; 77];
        kdf.derive(b"salt", b"secret", &[b"in", b"fo"], &mut okm)
            .unwrap();
        assert_eq!(okm.as_slice(), bytes(answer, "okm"), "{kdf}");
    }
}

#[test]
fn cryptography_of_pypi_agrees() {
    signatures(Other::Cryptography);
    secrets(Other::Cryptography);
    sealed(Other::Cryptography);
    wrapped(Other::Cryptography);
    digests(Other::Cryptography);
}

#[test]
fn noble_post_quantum_of_npm_agrees() {
    signatures(Other::Noble);
    secrets(Other::Noble);
    sealed(Other::Noble);
    wrapped(Other::Noble);
    digests(Other::Noble);
}
