//! The root key's file, and what it wraps.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use creto_crypto::{
    AeadAlgorithm, Algorithm as _, CryptoError, KdfAlgorithm, RootKey, RootKeyError, Secret,
    WrapAlgorithm, WrappedKey,
};
use creto_errors::{Class, Classify as _};

use crate::{provider, seeded};

const ALGORITHM: WrapAlgorithm = WrapAlgorithm::HkdfSha256Aes256Gcm;

#[test]
fn a_new_file_is_private_whole_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.key");
    let key = RootKey::create_new(&path, &provider()).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    assert_eq!(fs::read_to_string(&path).unwrap().len(), 65);
    assert_eq!(RootKey::load(&path).unwrap(), key);
    assert!(matches!(
        RootKey::create_new(&path, &provider()),
        Err(RootKeyError::Exists { .. })
    ));
    assert_eq!(
        RootKey::load(&path).unwrap(),
        key,
        "the first key is still there"
    );
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["root.key"], "no temporary file stays");
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.key");
    RootKey::create_new(&path, &provider()).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o601, 0o644] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(RootKey::load(&path), Err(RootKeyError::Permissions { mode: m, .. }) if m == mode),
            "{mode:o}"
        );
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(RootKey::load(&path).is_ok(), "{mode:o}");
    }
    assert!(matches!(
        RootKey::load(dir.path()),
        Err(RootKeyError::NotAFile { .. })
    ));
    let missing = dir.path().join("none");
    assert!(matches!(
        RootKey::load(&missing),
        Err(RootKeyError::Io { .. })
    ));
}

#[test]
fn only_64_hexadecimal_digits_are_a_root_key() {
    let good = "00".repeat(31) + "fF";
    assert_eq!(
        RootKey::from_hex(&good).unwrap(),
        RootKey::from_hex(&format!(" {good}\n")).unwrap()
    );
    for bad in [
        "",
        "00",
        &"0".repeat(63),
        &"0".repeat(65),
        &"g0".repeat(32),
        &"é".repeat(32),
    ] {
        assert!(
            matches!(RootKey::from_hex(bad), Err(RootKeyError::Malformed)),
            "{bad}"
        );
    }
    assert!(!format!("{:?}", RootKey::from_hex(&good).unwrap()).contains("255"));
}

#[test]
fn a_wrapped_key_opens_for_its_purpose_and_root_alone() {
    let provider = provider();
    let root = RootKey::from_hex(&"01".repeat(32)).unwrap();
    let other = RootKey::from_hex(&"02".repeat(32)).unwrap();
    let secret = Secret::new(vec![9; 64]);
    let wrapped = root.wrap(&provider, ALGORITHM, "issuer", &secret).unwrap();
    assert_eq!(root.unwrap("issuer", &wrapped).unwrap(), secret);
    assert_eq!(
        root.unwrap("Issuer", &wrapped),
        Err(CryptoError::OpenFailed)
    );
    assert_eq!(
        other.unwrap("issuer", &wrapped),
        Err(CryptoError::OpenFailed)
    );
    assert_ne!(
        root.wrap(&provider, ALGORITHM, "issuer", &secret).unwrap(),
        wrapped
    );

    let json = serde_json::to_string(&wrapped).unwrap();
    assert!(
        json.starts_with(r#"{"alg":"HKDF-SHA256+A256GCM","salt":""#),
        "{json}"
    );
    let back: WrappedKey = serde_json::from_str(&json).unwrap();
    assert_eq!(root.unwrap("issuer", &back).unwrap(), secret);
}

#[test]
fn a_mangled_wrapped_key_is_an_error() {
    let root = RootKey::from_hex(&"01".repeat(32)).unwrap();
    let wrapped = root
        .wrap(&seeded(1), ALGORITHM, "p", &Secret::new(vec![9; 32]))
        .unwrap();
    let json = serde_json::to_value(&wrapped).unwrap();
    for (field, value) in [
        ("salt", ""),
        ("salt", "AAAA"),
        ("salt", "=="),
        ("ciphertext", ""),
        ("ciphertext", "AAAA"),
        ("ciphertext", "!"),
    ] {
        let mut json = json.clone();
        json[field] = value.into();
        let wrapped: WrappedKey = serde_json::from_value(json).unwrap();
        assert!(root.unwrap("p", &wrapped).is_err(), "{field}={value}");
    }
}

/// Made with Python's `cryptography` 50.0.2 from the description in
/// `docs/formats/keys-and-tokens.md`. What is stored so stays readable.
#[test]
fn wrapped_keys_that_others_made_open() {
    let root = RootKey::from_hex(&"01".repeat(32)).unwrap();
    let made = [
        (
            "HKDF-SHA256+A256GCM",
            "4_VqnX_zUqCZaiQLyGVqXBYbA3qLJ4ndfuCh1pUpOitddGbYrE4dFdtcyObrYOjy",
        ),
        (
            "HKDF-SHA256+ChaCha20-Poly1305",
            "P33huAwqLLLD6XFP6D2WjRxQ0xA2p07vDZiOESW7HK6d5aANFZNrlMz2ZcKZOJAT",
        ),
        (
            "HKDF-SHA384+A256GCM",
            "YQaTTFYlPBO9DzKwg-adZ8WcIogycQ9W3yez_dMRu4i4dnVRe2ndtDYxz0iJF8Sn",
        ),
        (
            "HKDF-SHA384+ChaCha20-Poly1305",
            "Fe8KUThgCoiABb1tHpgydAYEnFCrwW1mkP9hH5CjzTb0L60Bb3LQhi06_IhMJhch",
        ),
        (
            "HKDF-SHA512+A256GCM",
            "jVrkREjZ8JHNxp3evkzKNWKL2ooTAm7Z6GoJPscdRqKN8gXWKe_9rll7BKNqqdL5",
        ),
        (
            "HKDF-SHA512+ChaCha20-Poly1305",
            "biMjPtCoWe0buVAHoj-0WxFFoNXbwB808o1jZb0FPXhgNhmJi0dWx4itQisljG-4",
        ),
    ];
    assert_eq!(made.len(), WrapAlgorithm::ALL.len());
    for (algorithm, ciphertext) in made {
        let salt = "AAECAwQFBgcICQoLDA0ODw";
        let json =
            format!(r#"{{"alg":"{algorithm}","salt":"{salt}","ciphertext":"{ciphertext}"}}"#);
        let wrapped: WrappedKey = serde_json::from_str(&json).unwrap();
        let opened = root.unwrap("issuer", &wrapped).unwrap();
        assert_eq!(opened.expose(), [9; 32], "{algorithm}");
    }
}

#[test]
fn every_derivation_wraps_with_every_cipher() {
    let mut expected: Vec<String> = Vec::new();
    for aead in AeadAlgorithm::ALL {
        for kdf in KdfAlgorithm::ALL {
            expected.push(format!("{kdf}+{aead}"));
        }
    }
    let all = WrapAlgorithm::ALL.iter();
    let names: Vec<&str> = all.clone().map(|algorithm| algorithm.as_str()).collect();
    assert_eq!(names, expected);
    let parts = all.map(|algorithm| format!("{}+{}", algorithm.kdf(), algorithm.aead()));
    assert_eq!(parts.collect::<Vec<_>>(), expected);
}

#[test]
fn a_wrapped_key_does_not_change_its_algorithm() {
    let root = RootKey::from_hex(&"01".repeat(32)).unwrap();
    let secret = Secret::new(vec![9; 32]);
    for made in WrapAlgorithm::ALL {
        let wrapped = root.wrap(&seeded(1), *made, "p", &secret).unwrap();
        assert_eq!(wrapped.algorithm(), Some(*made));
        for named in WrapAlgorithm::ALL {
            let json = serde_json::to_string(&wrapped).unwrap();
            let json = json.replace(made.as_str(), named.as_str());
            let wrapped: WrappedKey = serde_json::from_str(&json).unwrap();
            assert_eq!(root.unwrap("p", &wrapped).is_ok(), made == named);
        }
    }
}

#[test]
fn a_full_disk_is_told_from_what_else_can_be_wrong() {
    let path = Path::new("root.key");
    let failed = |kind| RootKeyError::io("write", path)(std::io::Error::from(kind));
    for full in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        let error = failed(full);
        assert_eq!(
            (error.code(), error.class()),
            ("storage_full", Class::Transient)
        );
        assert!(error.to_string().ends_with("root.key"), "{error}");
    }
    assert_eq!(failed(ErrorKind::PermissionDenied).code(), "root_key_io");
}
