//! That nothing secret stays in memory that is given back. Every block is looked through when
//! the allocator gets it back, so what a copy was made in and not wiped is found.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests; an allocator is an unsafe trait, and this one hands everything on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use creto_crypto::{
    AeadAlgorithm, AeadKey, Algorithm as _, AwsLcProvider, CryptoProvider as _, DecapsulationKey,
    KemAlgorithm, RootKey, Secret, SignatureAlgorithm, SigningKey, WrapAlgorithm,
};
use creto_types::SystemRandom;
use libcrux_ml_dsa::{ml_dsa_44, ml_dsa_65};
use libcrux_ml_kem::{mlkem768, mlkem1024};

const MARK: usize = 16;

/// What is looked for; written while nothing looks.
static mut SOUGHT: [u8; MARK] = [0; MARK];
static LOOKS: AtomicBool = AtomicBool::new(false);
static FOUND: AtomicUsize = AtomicUsize::new(0);

struct Looking;

#[global_allocator]
static ALLOCATOR: Looking = Looking;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on. Zeroed, so that all of a block may be
        // read when it comes back.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if LOOKS.load(Ordering::SeqCst) {
            // SAFETY: the block is of this size, initialized, and nobody else's any more;
            // what is sought is not written meanwhile.
            let (bytes, sought) = unsafe {
                let bytes = std::slice::from_raw_parts(block, layout.size());
                (bytes, &*ptr::addr_of!(SOUGHT))
            };
            if bytes.windows(MARK).any(|window| window == sought) {
                FOUND.fetch_add(1, Ordering::SeqCst);
            }
        }
        // SAFETY: as for `alloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// In how many blocks these bytes lay that were given back by this.
fn left(sought: &[u8], work: impl FnOnce()) -> usize {
    // SAFETY: nothing looks now, and there is one thread.
    unsafe { ptr::addr_of_mut!(SOUGHT).write(sought[..MARK].try_into().unwrap()) };
    FOUND.store(0, Ordering::SeqCst);
    LOOKS.store(true, Ordering::SeqCst);
    work();
    LOOKS.store(false, Ordering::SeqCst);
    FOUND.load(Ordering::SeqCst)
}

/// Bytes that are nowhere else.
fn marked(length: usize, begin: u8) -> Vec<u8> {
    (0..length)
        .map(|at| begin ^ u8::try_from(at * 7 % 251).unwrap())
        .collect()
}

/// Some of the bytes of a private key that the library made of a seed, which nobody wiped: they
/// are found by them.
fn inside(expanded: &[u8]) -> [u8; MARK] {
    let middle = expanded.len() / 3;
    expanded[middle..middle + MARK].try_into().unwrap()
}

/// One test, because all that is given back is looked through, whoever gives it back.
#[test]
fn what_is_secret_is_wiped_before_its_memory_is_given_back() {
    let provider = AwsLcProvider::new(Arc::new(SystemRandom));
    let plain = marked(64, 0x41);
    assert_eq!(left(&plain, || drop(plain.clone())), 1, "it is looked for");

    let secret = || Secret::new(plain.clone());
    assert_eq!(left(&plain, || drop(secret())), 0, "a secret");
    let cut = || drop(Secret::copy_of(&plain[..40]));
    assert_eq!(left(&plain, cut), 0, "a copy");

    for algorithm in SignatureAlgorithm::ALL.iter().copied() {
        let seed = marked(algorithm.private_key_len(), 0x99);
        let expanded = {
            let seed = seed[..32].try_into().unwrap();
            match algorithm {
                SignatureAlgorithm::MlDsa44 => {
                    inside(ml_dsa_44::generate_key_pair(seed).signing_key.as_slice())
                }
                SignatureAlgorithm::Ed25519 => seed[..MARK].try_into().unwrap(),
                _ => inside(ml_dsa_65::generate_key_pair(seed).signing_key.as_slice()),
            }
        };
        for sought in [&seed[..], &expanded[..]] {
            let signs = || {
                let key = SigningKey::from_bytes(algorithm, &seed).unwrap();
                drop(provider.sign(&key, b"", b"message").unwrap());
            };
            assert_eq!(left(sought, signs), 0, "{algorithm}");
        }
    }

    for algorithm in KemAlgorithm::ALL.iter().copied() {
        let seed = marked(algorithm.seed_len(), 0x55);
        let expanded = match algorithm {
            KemAlgorithm::MlKem768 => {
                let pair = mlkem768::generate_key_pair(seed[..].try_into().unwrap());
                inside(pair.sk())
            }
            KemAlgorithm::MlKem1024 => {
                let pair = mlkem1024::generate_key_pair(seed[..].try_into().unwrap());
                inside(pair.sk())
            }
            KemAlgorithm::XWing => seed[..MARK].try_into().unwrap(),
        };
        for sought in [&seed[..], &expanded[..]] {
            let opens = || {
                let key = DecapsulationKey::from_seed(algorithm, &seed).unwrap();
                let (sent, secret) = provider.encapsulate(key.encapsulation_key()).unwrap();
                assert!(provider.decapsulate(&key, &sent).unwrap() == secret);
            };
            assert_eq!(left(sought, opens), 0, "{algorithm}");
        }
    }

    for algorithm in AeadAlgorithm::ALL.iter().copied() {
        let bytes = marked(32, 0x2b);
        let key = AeadKey::from_bytes(algorithm, &bytes).unwrap();
        let made = || drop(AeadKey::from_bytes(algorithm, &bytes).unwrap());
        assert_eq!(left(&bytes, made), 0, "the key of {algorithm}");
        let sealed = provider.seal(&key, b"aad", &plain).unwrap();
        let opens = || drop(provider.open(&key, b"aad", &sealed).unwrap());
        assert_eq!(left(&plain, opens), 0, "what {algorithm} opened");
        let refused = || assert!(provider.open(&key, b"other", &sealed).is_err());
        assert_eq!(left(&plain, refused), 0, "what {algorithm} did not open");
        let seals = || drop(provider.seal(&key, b"aad", &plain).unwrap());
        assert_eq!(left(&plain, seals), 0, "what {algorithm} sealed");
    }

    let root = marked(32, 0x73);
    let hex: String = root.iter().map(|byte| format!("{byte:02x}")).collect();
    let read = || drop(RootKey::from_hex(&hex).unwrap());
    assert_eq!(left(&root, read), 0, "a root key");
    let root = RootKey::from_hex(&hex).unwrap();
    let secret = secret();
    for algorithm in WrapAlgorithm::ALL.iter().copied() {
        let wraps = || {
            let wrapped = root.wrap(&provider, algorithm, "test", &secret).unwrap();
            assert!(root.unwrap("test", &wrapped).unwrap() == secret);
            assert!(root.unwrap("other", &wrapped).is_err());
        };
        assert_eq!(left(&plain, wraps), 0, "{algorithm}");
    }
}
