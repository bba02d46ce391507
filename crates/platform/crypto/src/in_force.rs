//! The lists that are in force, for everything in the process that asks one.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{Algorithm, Allowed, AllowedAlgorithms, CryptoError};

/// The lists that are in force. Every clone is of the same lists: another one is in force
/// for all of them at once, and whoever asks never waits.
#[derive(Clone, Debug)]
pub struct InForce(Arc<ArcSwap<AllowedAlgorithms>>);

impl InForce {
    /// These lists, until others are put in their place.
    #[must_use]
    pub fn new(algorithms: AllowedAlgorithms) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(algorithms)))
    }

    /// What is in force at this moment. What is done in several steps asks once: from one
    /// step to the next other lists may be in force.
    #[must_use]
    pub fn now(&self) -> impl Deref<Target = Arc<AllowedAlgorithms>> + use<> {
        self.0.load()
    }

    /// Puts other lists in force. Whether what is stored can be read by them is for the
    /// caller to know: see [`AllowedAlgorithms::read_all_of`].
    pub fn replace(&self, algorithms: AllowedAlgorithms) {
        self.0.store(Arc::new(algorithms));
    }
}

impl Default for InForce {
    fn default() -> Self {
        Self::new(AllowedAlgorithms::default())
    }
}

impl From<AllowedAlgorithms> for InForce {
    fn from(algorithms: AllowedAlgorithms) -> Self {
        Self::new(algorithms)
    }
}

/// Of which algorithms something is stored that cannot be used without them, by the names
/// that stand in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlgorithmsInUse {
    /// Of keys by which something is signed or verified.
    pub signature: BTreeSet<String>,
    /// Of keys and secrets at rest.
    pub wrapping: BTreeSet<String>,
    /// Of payloads of records.
    pub aead: BTreeSet<String>,
}

impl AllowedAlgorithms {
    /// Whether what is stored can be read by these lists: the first name that is not
    /// among them is [`CryptoError::AlgorithmNotAllowed`], one that this build does not
    /// know [`CryptoError::UnknownAlgorithm`].
    pub fn read_all_of(&self, stored: &AlgorithmsInUse) -> Result<(), CryptoError> {
        reads(&self.signature, &stored.signature)?;
        reads(&self.wrapping, &stored.wrapping)?;
        reads(&self.aead, &stored.aead)
    }
}

fn reads<A>(allowed: &Allowed<A>, names: &BTreeSet<String>) -> Result<(), CryptoError>
where
    A: Algorithm + FromStr<Err = CryptoError>,
{
    for name in names {
        allowed.check(name.parse()?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{AeadAlgorithm, SignatureAlgorithm};

    use super::*;

    #[test]
    fn every_clone_has_the_lists_that_were_put_in_force_last() {
        let one = InForce::default();
        let other = one.clone();
        let before = Arc::clone(&other.now());
        one.replace(AllowedAlgorithms {
            aead: Allowed::only(AeadAlgorithm::ChaCha20Poly1305),
            ..AllowedAlgorithms::default()
        });
        let chacha = AeadAlgorithm::ChaCha20Poly1305;
        assert_eq!(other.now().aead.for_new(), chacha);
        // Who asked before goes on with what it was told.
        assert!(before.aead.check(chacha).is_err());
    }

    #[test]
    fn lists_that_leave_out_what_is_stored_are_told_by_its_name() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let lists = AllowedAlgorithms::default();
        let mut stored = AlgorithmsInUse {
            signature: names(&["Ed25519", "ML-DSA-65-Ed25519"]),
            wrapping: names(&["HKDF-SHA256+A256GCM"]),
            aead: names(&["A256GCM"]),
        };
        lists.read_all_of(&stored).unwrap();
        stored.aead = names(&["A256GCM", "ChaCha20-Poly1305"]);
        let error = lists.read_all_of(&stored).unwrap_err().to_string();
        assert!(error.contains("ChaCha20-Poly1305"), "{error}");
        stored.wrapping = names(&["HKDF-SHA256+ChaCha20-Poly1305"]);
        let error = lists.read_all_of(&stored).unwrap_err().to_string();
        assert!(error.contains("HKDF-SHA256+ChaCha20-Poly1305"), "{error}");
        stored.signature = names(&[SignatureAlgorithm::MlDsa65.as_str()]);
        let error = lists.read_all_of(&stored).unwrap_err().to_string();
        assert!(error.contains("`ML-DSA-65`"), "{error}");
        stored.signature = names(&["RS256"]);
        assert_eq!(
            lists.read_all_of(&stored),
            Err(CryptoError::UnknownAlgorithm {
                name: "RS256".to_owned()
            })
        );
    }
}
