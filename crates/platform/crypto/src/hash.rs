//! SHA-2 (FIPS 180-4), SHA3-256 (FIPS 202) and BLAKE3.

use std::fmt;
use std::io;
use std::str::FromStr;

use aws_lc_rs::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;

use crate::CryptoError;
use crate::algorithm::named;

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
    /// SHA3-256, 32 bytes.
    Sha3_256,
    /// BLAKE3, 32 bytes.
    Blake3,
}

named!(
    HashAlgorithm,
    "hash",
    [Sha256, Sha384, Sha512, Sha3_256, Blake3]
);

impl HashAlgorithm {
    /// The name of RFC 6920's registry; `blake3`, which it has not, as in multicodec.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
            Self::Sha3_256 => "sha3-256",
            Self::Blake3 => "blake3",
        }
    }

    /// Bytes of a digest.
    #[must_use]
    pub const fn output_len(self) -> usize {
        match self {
            Self::Sha256 | Self::Sha3_256 | Self::Blake3 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A hash value that says by which function it was made.
#[derive(Clone, Debug, Eq)]
pub struct Digest {
    algorithm: HashAlgorithm,
    bytes: Box<[u8]>,
}

/// A digest of data that comes in parts.
pub struct Hasher {
    algorithm: HashAlgorithm,
    state: State,
}

enum State {
    AwsLc(digest::Context),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// Of no data yet.
    #[must_use]
    pub fn new(algorithm: HashAlgorithm) -> Self {
        let aws_lc = |function| State::AwsLc(digest::Context::new(function));
        let state = match algorithm {
            HashAlgorithm::Sha256 => aws_lc(&digest::SHA256),
            HashAlgorithm::Sha384 => aws_lc(&digest::SHA384),
            HashAlgorithm::Sha512 => aws_lc(&digest::SHA512),
            HashAlgorithm::Sha3_256 => aws_lc(&digest::SHA3_256),
            HashAlgorithm::Blake3 => State::Blake3(Box::new(blake3::Hasher::new())),
        };
        Self { algorithm, state }
    }

    /// The next part.
    pub fn update(&mut self, part: &[u8]) {
        match &mut self.state {
            State::AwsLc(context) => context.update(part),
            State::Blake3(hasher) => {
                hasher.update(part);
            }
        }
    }

    /// Of all parts.
    #[must_use]
    pub fn finish(self) -> Digest {
        let bytes = match self.state {
            State::AwsLc(context) => Box::from(context.finish().as_ref()),
            State::Blake3(hasher) => Box::from(hasher.finalize().as_bytes().as_slice()),
        };
        Digest {
            algorithm: self.algorithm,
            bytes,
        }
    }
}

/// What is written is the next part. It never fails.
impl io::Write for Hasher {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.update(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm)
    }
}

impl Digest {
    /// Of the bytes.
    #[must_use]
    pub fn of(algorithm: HashAlgorithm, data: &[u8]) -> Self {
        // The state of BLAKE3 is large, and not needed for what is there as a whole.
        if algorithm == HashAlgorithm::Blake3 {
            return Self {
                algorithm,
                bytes: Box::from(blake3::hash(data).as_bytes().as_slice()),
            };
        }
        let mut hasher = Hasher::new(algorithm);
        hasher.update(data);
        hasher.finish()
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

/// Exactly what is displayed, so that one digest has one text.
impl FromStr for Digest {
    type Err = CryptoError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, digits) = text.split_once(':').ok_or(CryptoError::DigestForm)?;
        let algorithm: HashAlgorithm = name.parse()?;
        let lower = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 2 * algorithm.output_len() || !digits.bytes().all(lower) {
            return Err(CryptoError::DigestForm);
        }
        let bytes = hex::decode(digits).map_err(|_| CryptoError::DigestForm)?;
        Ok(Self {
            algorithm,
            bytes: bytes.into(),
        })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 of the bytes.
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    sha256_of(&[data])
}

/// SHA-256 of the parts, one after the other.
#[must_use]
pub fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    array(&digest::SHA256, parts)
}

/// SHA3-256 of the parts, one after the other.
pub(crate) fn sha3_256(parts: &[&[u8]]) -> [u8; 32] {
    array(&digest::SHA3_256, parts)
}

/// SHA-512 of the bytes.
#[must_use]
pub fn sha512(data: &[u8]) -> [u8; 64] {
    array(&digest::SHA512, &[data])
}

fn array<const N: usize>(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> [u8; N] {
    let digest = match parts {
        [whole] => digest::digest(algorithm, whole),
        _ => {
            let mut context = digest::Context::new(algorithm);
            parts.iter().for_each(|part| context.update(part));
            context.finish()
        }
    };
    digest
        .as_ref()
        .try_into()
        .expect("a digest has the length of its algorithm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Algorithm as _;

    /// Of the message `abc`: FIPS 180-4 and FIPS 202 examples; BLAKE3's is what its
    /// reference implementation (`b3sum`) prints.
    #[test]
    fn known_answers() {
        for (algorithm, expected) in [
            (
                HashAlgorithm::Sha256,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                HashAlgorithm::Sha384,
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
                 8086072ba1e7cc2358baeca134c825a7",
            ),
            (
                HashAlgorithm::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (
                HashAlgorithm::Sha3_256,
                "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
            ),
            (
                HashAlgorithm::Blake3,
                "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
            ),
        ] {
            let digest = Digest::of(algorithm, b"abc");
            assert_eq!(digest.to_string(), format!("{algorithm}:{expected}"));
            assert_eq!(digest.as_bytes().len(), algorithm.output_len());
            let mut parts = Hasher::new(algorithm);
            for part in [b"a".as_slice(), b"", b"bc"] {
                parts.update(part);
            }
            assert_eq!(parts.finish(), digest);
            assert_eq!(digest.to_string().parse(), Ok(digest.clone()));
            let json = serde_json::to_value(&digest).unwrap();
            assert_eq!(json, digest.to_string());
            assert_eq!(serde_json::from_value::<Digest>(json).unwrap(), digest);
        }
        let parts: [&[u8]; 3] = [b"a", b"", b"bc"];
        assert_eq!(
            sha3_256(&parts),
            Digest::of(HashAlgorithm::Sha3_256, b"abc").as_bytes()
        );
        assert_eq!(sha256_of(&parts), sha256(b"abc"));
    }

    #[test]
    fn a_digest_has_one_text() {
        let good = Digest::of(HashAlgorithm::Sha256, b"abc").to_string();
        for wrong in [
            good.to_uppercase(),
            good.replace("sha-256:", "sha-256:A"),
            good.replace("ba78", "BA78"),
            good.replace("sha-256", "sha-384"),
            format!("{good}00"),
            good.replace(':', ""),
            String::new(),
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
        assert_eq!(
            "md5:00".parse::<Digest>(),
            Err(CryptoError::UnknownAlgorithm {
                name: "md5".to_owned()
            })
        );
    }

    #[test]
    fn digests_of_two_functions_differ_even_with_equal_bytes() {
        for one in HashAlgorithm::ALL {
            for other in HashAlgorithm::ALL {
                let of = |algorithm: &HashAlgorithm| Digest {
                    algorithm: *algorithm,
                    bytes: Box::new([1; 32]),
                };
                assert_eq!(of(one) == of(other), one == other);
            }
        }
    }
}
