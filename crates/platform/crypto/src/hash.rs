//! SHA-256 and SHA-512 (FIPS 180-4).

use std::fmt;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HashAlgorithm {
    /// SHA-256, 32 bytes.
    #[serde(rename = "sha-256")]
    Sha256,
    /// SHA-512, 64 bytes.
    #[serde(rename = "sha-512")]
    Sha512,
}

impl HashAlgorithm {
    /// The name of RFC 6920's registry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha512 => "sha-512",
        }
    }
}

/// A hash value that says by which function it was made.
#[derive(Clone, Debug, Eq)]
pub struct Digest {
    algorithm: HashAlgorithm,
    bytes: Box<[u8]>,
}

impl Digest {
    pub(crate) fn new(algorithm: HashAlgorithm, bytes: &[u8]) -> Self {
        Self {
            algorithm,
            bytes: bytes.into(),
        }
    }

    /// The function.
    #[must_use]
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Constant-time in the bytes: digests of secrets are compared too.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && bool::from(self.bytes.ct_eq(&other.bytes))
    }
}

/// `sha-256:` and lower-case hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.algorithm.as_str())?;
        self.bytes
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// SHA-256 of the bytes.
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    array(&digest::SHA256, data)
}

/// SHA-512 of the bytes.
#[must_use]
pub fn sha512(data: &[u8]) -> [u8; 64] {
    array(&digest::SHA512, data)
}

fn array<const N: usize>(algorithm: &'static digest::Algorithm, data: &[u8]) -> [u8; N] {
    digest::digest(algorithm, data)
        .as_ref()
        .try_into()
        .expect("a digest has the length of its algorithm")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4 examples for the message `abc`.
    #[test]
    fn known_answers() {
        let shown = Digest::new(HashAlgorithm::Sha256, &sha256(b"abc")).to_string();
        assert_eq!(
            shown,
            "sha-256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let shown = Digest::new(HashAlgorithm::Sha512, &sha512(b"abc")).to_string();
        assert!(shown.starts_with("sha-512:ddaf35a193617abacc417349ae204131"));
    }

    #[test]
    fn digests_of_two_functions_differ_even_with_equal_bytes() {
        let a = Digest::new(HashAlgorithm::Sha256, &[1; 32]);
        let b = Digest::new(HashAlgorithm::Sha512, &[1; 32]);
        assert_ne!(a, b);
        assert_eq!(a, a.clone());
    }
}
