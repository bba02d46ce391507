//! HKDF (RFC 5869) with SHA-256, SHA-384 and SHA-512.

use aws_lc_rs::hkdf::{self, HKDF_SHA256, HKDF_SHA384, HKDF_SHA512, KeyType, Salt};

use crate::CryptoError;
use crate::algorithm::named;

/// A key derivation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KdfAlgorithm {
    /// HKDF with SHA-256.
    HkdfSha256,
    /// HKDF with SHA-384.
    HkdfSha384,
    /// HKDF with SHA-512.
    HkdfSha512,
}

named!(
    KdfAlgorithm,
    "key derivation",
    [HkdfSha256, HkdfSha384, HkdfSha512]
);

impl KdfAlgorithm {
    /// The name of RFC 5869's function with its hash.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HkdfSha256 => "HKDF-SHA256",
            Self::HkdfSha384 => "HKDF-SHA384",
            Self::HkdfSha512 => "HKDF-SHA512",
        }
    }

    /// The most bytes that one call gives: 255 times those of the hash (RFC 5869,
    /// section 2.3).
    #[must_use]
    pub const fn longest(self) -> usize {
        255 * match self {
            Self::HkdfSha256 => 32,
            Self::HkdfSha384 => 48,
            Self::HkdfSha512 => 64,
        }
    }

    /// Fills `output` with key material. `info` is the concatenation of its parts.
    pub fn derive(
        self,
        salt: &[u8],
        secret: &[u8],
        info: &[&[u8]],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        if output.len() > self.longest() {
            return Err(CryptoError::DerivedKeyTooLong {
                algorithm: self.as_str(),
                longest: self.longest(),
                got: output.len(),
            });
        }
        Salt::new(self.engine(), salt)
            .extract(secret)
            .expand(info, Bytes(output.len()))
            .and_then(|okm| okm.fill(output))
            .map_err(|_| CryptoError::Engine { operation: "HKDF" })
    }

    fn engine(self) -> hkdf::Algorithm {
        match self {
            Self::HkdfSha256 => HKDF_SHA256,
            Self::HkdfSha384 => HKDF_SHA384,
            Self::HkdfSha512 => HKDF_SHA512,
        }
    }
}

struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}
