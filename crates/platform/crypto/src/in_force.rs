//! The lists that are in force, for everything in the process that asks one.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{Algorithm, Allowed, AllowedAlgorithms, CryptoError, Keystore, WrapAlgorithm};

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
    /// Of what is under the root key itself, the names of its keystore among them.
    pub root: BTreeSet<String>,
    /// Of keys and secrets under the wrapping keys of organizations.
    pub wrapping: BTreeSet<String>,
    /// Of payloads of records.
    pub aead: BTreeSet<String>,
}

impl AllowedAlgorithms {
    /// Whether what is stored can be read by these lists and, where it is under the root
    /// key, by this keystore: the first name that is not among them is
    /// [`CryptoError::AlgorithmNotAllowed`], one that is known and that this keystore does
    /// not read [`CryptoError::KeystoreForeign`], one that neither this build nor the
    /// keystore knows [`CryptoError::UnknownAlgorithm`].
    pub fn read_all_of(
        &self,
        stored: &AlgorithmsInUse,
        keystore: &dyn Keystore,
    ) -> Result<(), CryptoError> {
        reads(&self.signature, &stored.signature)?;
        for name in &stored.root {
            let algorithm = name.parse::<WrapAlgorithm>();
            if keystore.reads(name) {
                algorithm.map_or(Ok(()), |known| self.wrapping.check(known).map(drop))?;
            } else {
                let name = name.clone();
                algorithm.and(Err(CryptoError::KeystoreForeign { name }))?;
            }
        }
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
    use crate::{AeadAlgorithm, Secret, SignatureAlgorithm, WrappedKey};

    use super::*;

    /// A keystore that can read what is called so, and is asked for nothing else.
    struct Reading(&'static str);

    impl Keystore for Reading {
        fn wrap(&self, _: WrapAlgorithm, _: &str, _: &Secret) -> Result<WrappedKey, CryptoError> {
            Err(CryptoError::OpenFailed)
        }

        fn unwrap(&self, _: &str, _: &WrappedKey) -> Result<Secret, CryptoError> {
            Err(CryptoError::OpenFailed)
        }

        fn reads(&self, name: &str) -> bool {
            name == self.0
        }
    }

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
            root: names(&["HKDF-SHA256+A256GCM"]),
            wrapping: names(&["HKDF-SHA256+A256GCM"]),
            aead: names(&["A256GCM"]),
        };
        let keystore = Reading("HKDF-SHA256+A256GCM");
        lists.read_all_of(&stored, &keystore).unwrap();
        stored.aead = names(&["A256GCM", "ChaCha20-Poly1305"]);
        let error = lists
            .read_all_of(&stored, &keystore)
            .unwrap_err()
            .to_string();
        assert!(error.contains("ChaCha20-Poly1305"), "{error}");
        stored.wrapping = names(&["HKDF-SHA256+ChaCha20-Poly1305"]);
        let error = lists
            .read_all_of(&stored, &keystore)
            .unwrap_err()
            .to_string();
        assert!(error.contains("HKDF-SHA256+ChaCha20-Poly1305"), "{error}");
        stored.signature = names(&[SignatureAlgorithm::MlDsa65.as_str()]);
        let error = lists
            .read_all_of(&stored, &keystore)
            .unwrap_err()
            .to_string();
        assert!(error.contains("`ML-DSA-65`"), "{error}");
        stored.signature = names(&["RS256"]);
        assert_eq!(
            lists.read_all_of(&stored, &keystore),
            Err(CryptoError::UnknownAlgorithm {
                name: "RS256".to_owned()
            })
        );
    }

    #[test]
    fn what_is_under_the_root_key_is_read_by_the_keystore_it_is_of() {
        let aes = "HKDF-SHA256+A256GCM";
        let under = |root: &str| AlgorithmsInUse {
            root: [root.to_owned()].into(),
            wrapping: [aes.to_owned()].into(),
            ..AlgorithmsInUse::default()
        };
        let lists = AllowedAlgorithms::default();
        let device = Reading("a device");
        lists.read_all_of(&under("a device"), &device).unwrap();
        let (name, unknown) = (aes.to_owned(), "another device".to_owned());
        assert_eq!(
            lists.read_all_of(&under(aes), &device),
            Err(CryptoError::KeystoreForeign { name })
        );
        for keystore in [device, Reading(aes)] {
            let name = unknown.clone();
            assert_eq!(
                lists.read_all_of(&under(&unknown), &keystore),
                Err(CryptoError::UnknownAlgorithm { name })
            );
        }
        // The lists are asked, too, where they have something to say.
        let chacha = "HKDF-SHA256+ChaCha20-Poly1305";
        let refused = lists.read_all_of(&under(chacha), &Reading(chacha));
        assert!(matches!(
            refused,
            Err(CryptoError::AlgorithmNotAllowed { .. })
        ));
        // And what is under wrapping keys is no keystore's.
        let stored = AlgorithmsInUse {
            wrapping: ["a device".to_owned()].into(),
            ..AlgorithmsInUse::default()
        };
        assert!(lists.read_all_of(&stored, &Reading("a device")).is_err());
    }
}
