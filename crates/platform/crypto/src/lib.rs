//! Cryptography as a value: one provider, few algorithms, every object naming
//! its own.
//!
//! What this crate promises:
//!
//! - **Signatures** are the composite ML-DSA-65 + Ed25519 of
//!   draft-ietf-lamps-pq-composite-sigs (`id-MLDSA65-Ed25519-SHA512`,
//!   [`COMPOSITE_OID`]), ML-DSA-65 alone (FIPS 204), or plain Ed25519 where a
//!   format asks for it. A composite signature verifies only if *both* halves do,
//!   so a break of either algorithm alone forges nothing.
//! - **Sealing** is AES-256-GCM or ChaCha20-Poly1305 with a random nonce and bound
//!   associated data; [`RootKey`] wraps private keys for storage under a fresh key
//!   each time.
//! - **Recognition**: [`MacKey`] is HMAC-SHA-256 with a key that one process makes
//!   and keeps, for what it gives out and gets back, or that is derived, for what is
//!   kept to be found again.
//! - **Key agreement** is ML-KEM-768, ML-KEM-1024 (FIPS 203) or X-Wing.
//! - **Digests** are SHA-2, SHA3-256 or BLAKE3; keys are derived by HKDF.
//! - **Possession**: a [`HolderKey`] of somebody else's verifies what JOSE libraries
//!   sign, ECDSA on P-256 or Ed25519; nothing of ours is signed by such.
//! - Every key, signature, ciphertext and digest carries its algorithm; an unknown
//!   name, bytes of the wrong length or of another algorithm are refused before any
//!   arithmetic. Which of the known ones are used and read is the deployment's to
//!   say: [`AllowedAlgorithms`], and to change while everything runs: [`InForce`].
//! - Secret bytes are zeroized on drop, never shown by `Debug`, and compared in
//!   constant time.
//!
//! What it is not: a toolbox. There is no raw block cipher, no unauthenticated
//! mode, and no way to check one half of a composite signature.
//!
//! Verification needs public data only and no provider: see
//! [`VerifyingKey::verify`]. Formats are described in
//! `docs/formats/keys-and-tokens.md`.

mod aead;
mod algorithm;
mod allowed;
mod composite;
mod encoding;
mod error;
mod hash;
mod holder;
mod in_force;
mod kdf;
mod kem;
mod keystore;
mod mac;
mod mldsa;
mod mlkem;
mod provider;
mod root_key;
mod secret;
mod signature;
mod signer;
mod unknown;
mod wrapped;
mod xwing;

pub use aead::{AeadAlgorithm, AeadKey, Sealed};
pub use algorithm::Algorithm;
pub use allowed::{Accepted, Allowed, AllowedAlgorithms};
pub use composite::COMPOSITE_OID;
pub use error::{CryptoError, RootKeyError};
pub use hash::{Digest, HashAlgorithm, Hasher, sha256, sha256_of, sha512};
pub use holder::{HolderAlgorithm, HolderKey, Thumbprint};
pub use in_force::{AlgorithmsInUse, InForce};
pub use kdf::KdfAlgorithm;
pub use kem::{DecapsulationKey, EncapsulationKey, KemAlgorithm, KemCiphertext};
pub use keystore::{KeyRing, Keystore, LocalKeystore, WrappingKey};
pub use mac::{MAC_LENGTH, MacKey};
pub use provider::{AwsLcProvider, CryptoProvider};
pub use root_key::{RootKey, WrapAlgorithm};
pub use secret::Secret;
pub use signature::{Signature, SignatureAlgorithm, SigningKey, VerifyingKey};
pub use signer::{LocalSigner, Signer};
pub use unknown::unknown_algorithm;
pub use wrapped::WrappedKey;
