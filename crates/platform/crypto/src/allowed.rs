//! Which algorithms are used and which are read: a decision of the deployment, not
//! of the object.
//!
//! An object says by which algorithm it was made. That alone never makes it
//! acceptable: whoever reads asks the list first, before any arithmetic.

use std::str::FromStr;

use crate::{
    AeadAlgorithm, Algorithm, CryptoError, HashAlgorithm, HolderAlgorithm, KemAlgorithm,
    SignatureAlgorithm, WrapAlgorithm, WrappedKey,
};

/// The algorithms of one kind. The one for new objects is always among those that
/// are read, so that nothing is made that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed<A> {
    new: A,
    accepted: Vec<A>,
}

impl<A: Algorithm> Allowed<A> {
    /// New objects by `new`; those of `accepted` are read.
    pub fn new(new: A, accepted: impl IntoIterator<Item = A>) -> Result<Self, CryptoError> {
        let allowed = Self {
            new,
            accepted: accepted.into_iter().collect(),
        };
        allowed.check(new)?;
        Ok(allowed)
    }

    /// One algorithm for everything.
    #[must_use]
    pub fn only(new: A) -> Self {
        Self {
            new,
            accepted: vec![new],
        }
    }

    /// By which new objects are made.
    #[must_use]
    pub const fn for_new(&self) -> A {
        self.new
    }

    /// Those that are read.
    #[must_use]
    pub fn accepted(&self) -> &[A] {
        &self.accepted
    }

    fn also(&mut self, name: &str) -> Result<(), CryptoError>
    where
        A: FromStr<Err = CryptoError>,
    {
        let algorithm = name.parse()?;
        if !self.accepted.contains(&algorithm) {
            self.accepted.push(algorithm);
        }
        Ok(())
    }

    /// The algorithm again if it is read here. A known one that is not is
    /// [`CryptoError::AlgorithmNotAllowed`].
    pub fn check(&self, algorithm: A) -> Result<A, CryptoError> {
        accepted(&self.accepted, algorithm)
    }
}

/// The algorithms of a kind by which others make what is read here, and nothing is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted<A>(Vec<A>);

impl<A: Algorithm> Accepted<A> {
    /// These are read.
    pub fn new(accepted: impl IntoIterator<Item = A>) -> Self {
        Self(accepted.into_iter().collect())
    }

    /// Every one that this build knows.
    #[must_use]
    pub fn all() -> Self {
        Self::new(A::ALL.iter().copied())
    }

    /// Those that are read.
    #[must_use]
    pub fn list(&self) -> &[A] {
        &self.0
    }

    /// As [`Allowed::check`].
    pub fn check(&self, algorithm: A) -> Result<A, CryptoError> {
        accepted(&self.0, algorithm)
    }
}

fn accepted<A: Algorithm>(list: &[A], algorithm: A) -> Result<A, CryptoError> {
    if list.contains(&algorithm) {
        Ok(algorithm)
    } else {
        Err(CryptoError::AlgorithmNotAllowed {
            kind: A::KIND,
            name: algorithm.name(),
        })
    }
}

/// The algorithms of every kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedAlgorithms {
    /// Of signatures and their keys.
    pub signature: Allowed<SignatureAlgorithm>,
    /// Of private keys at rest.
    pub wrapping: Allowed<WrapAlgorithm>,
    /// Of sealed data.
    pub aead: Allowed<AeadAlgorithm>,
    /// Of agreed secrets.
    pub kem: Allowed<KemAlgorithm>,
    /// Of digests that name their function.
    pub hash: Allowed<HashAlgorithm>,
    /// Of proofs of possession, which clients make.
    pub holder: Accepted<HolderAlgorithm>,
}

impl AllowedAlgorithms {
    /// Whether a wrapped key is by an algorithm that is read here. What a keystore wrapped
    /// in a way of its own is the keystore's to judge.
    pub fn check_wrapped(&self, wrapped: &WrappedKey) -> Result<(), CryptoError> {
        match wrapped.algorithm() {
            Some(algorithm) => self.wrapping.check(algorithm).map(drop),
            None => Ok(()),
        }
    }

    /// The same, which reads objects of this algorithm as well. For whoever verifies by
    /// hand what a deployment made: it has no configuration.
    ///
    /// # Errors
    ///
    /// [`CryptoError::UnknownAlgorithm`] when no signature, key encapsulation or digest is
    /// called so.
    pub fn reading_also(mut self, name: &str) -> Result<Self, CryptoError> {
        let signature = self.signature.also(name);
        let kem = self.kem.also(name);
        signature.or(kem).or(self.hash.also(name))?;
        Ok(self)
    }
}

/// Composite signatures, and Ed25519 where a format outside asks for it; X-Wing for
/// secrets, and ML-KEM-768 alone beside it; SHA-2 for digests; of proofs all; the rest one each.
impl Default for AllowedAlgorithms {
    fn default() -> Self {
        Self {
            signature: Allowed {
                new: SignatureAlgorithm::MlDsa65Ed25519,
                accepted: vec![
                    SignatureAlgorithm::MlDsa65Ed25519,
                    SignatureAlgorithm::Ed25519,
                ],
            },
            wrapping: Allowed::only(WrapAlgorithm::HkdfSha256Aes256Gcm),
            aead: Allowed::only(AeadAlgorithm::Aes256Gcm),
            kem: Allowed {
                new: KemAlgorithm::XWing,
                accepted: vec![KemAlgorithm::XWing, KemAlgorithm::MlKem768],
            },
            hash: Allowed {
                new: HashAlgorithm::Sha256,
                accepted: vec![
                    HashAlgorithm::Sha256,
                    HashAlgorithm::Sha384,
                    HashAlgorithm::Sha512,
                ],
            },
            holder: Accepted::all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use creto_errors::{Class, Classify as _};

    use super::*;

    #[test]
    fn what_is_not_listed_is_refused_by_name() {
        let allowed = AllowedAlgorithms::default();
        let error = allowed
            .signature
            .check(SignatureAlgorithm::MlDsa65)
            .unwrap_err();
        assert_eq!(error.code(), "algorithm_not_allowed");
        assert_eq!(error.class(), Class::Security);
        assert_eq!(
            error.to_string(),
            "the signature algorithm `ML-DSA-65` is not allowed here"
        );
        assert!(allowed.aead.check(AeadAlgorithm::ChaCha20Poly1305).is_err());
        assert!(allowed.kem.check(KemAlgorithm::MlKem1024).is_err());
        assert!(allowed.hash.check(HashAlgorithm::Blake3).is_err());
        let one = Accepted::new([HolderAlgorithm::Ed25519]);
        assert!(one.check(HolderAlgorithm::Ed25519).is_ok());
        assert_eq!(
            one.check(HolderAlgorithm::Es256).unwrap_err().to_string(),
            "the proof algorithm `ES256` is not allowed here"
        );
    }

    #[test]
    fn whoever_verifies_by_hand_adds_algorithms_by_their_names() {
        let read = ["ML-DSA-65", "ML-KEM-1024", "blake3", "Ed25519"]
            .iter()
            .try_fold(AllowedAlgorithms::default(), |lists, name| {
                lists.reading_also(name)
            });
        let read = read.unwrap();
        assert!(read.signature.check(SignatureAlgorithm::MlDsa65).is_ok());
        assert!(read.kem.check(KemAlgorithm::MlKem1024).is_ok());
        assert!(read.hash.check(HashAlgorithm::Blake3).is_ok());
        assert!(read.hash.check(HashAlgorithm::Sha3_256).is_err());
        let defaults = AllowedAlgorithms::default();
        assert_eq!(read.signature.for_new(), defaults.signature.for_new());
        for unknown in ["RS256", "", "A256GCM"] {
            let refused = AllowedAlgorithms::default().reading_also(unknown);
            assert_eq!(refused.unwrap_err().code(), "unknown_algorithm");
        }
    }

    #[test]
    fn what_is_made_can_be_read() {
        let allowed = AllowedAlgorithms::default();
        allowed
            .signature
            .check(allowed.signature.for_new())
            .unwrap();
        allowed.wrapping.check(allowed.wrapping.for_new()).unwrap();
        allowed.kem.check(allowed.kem.for_new()).unwrap();
        assert!(matches!(
            Allowed::new(KemAlgorithm::XWing, [KemAlgorithm::MlKem768]),
            Err(CryptoError::AlgorithmNotAllowed {
                kind: "key encapsulation",
                name: "X-Wing"
            })
        ));
    }
}
