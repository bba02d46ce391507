//! Where private keys at rest are wrapped: a root key that a port keeps, and under it
//! the wrapping keys of each organization.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use creto_types::OrgId;
use parking_lot::RwLock;
use zeroize::Zeroizing;

use crate::root_key::ROOT_LEN;
use crate::{CryptoError, CryptoProvider, InForce, RootKey, Secret, WrapAlgorithm, WrappedKey};

/// Who keeps the root key. It never leaves: a device that wraps and unwraps by itself
/// fits as well as a key in this process ([`LocalKeystore`]).
///
/// Asked once for each wrapping key of an organization, and for the private keys of
/// those that have none yet; never while a request is decided.
pub trait Keystore: Send + Sync + 'static {
    /// Encrypts a secret so that only the same `purpose` opens it again.
    fn wrap(
        &self,
        algorithm: WrapAlgorithm,
        purpose: &str,
        secret: &Secret,
    ) -> Result<WrappedKey, CryptoError>;

    /// Decrypts what [`Keystore::wrap`] made for the same purpose.
    fn unwrap(&self, purpose: &str, wrapped: &WrappedKey) -> Result<Secret, CryptoError>;
}

/// The root key in this process, from a file or the environment.
pub struct LocalKeystore {
    root: RootKey,
    provider: Arc<dyn CryptoProvider>,
}

impl LocalKeystore {
    /// Wraps under this key.
    #[must_use]
    pub fn new(root: RootKey, provider: Arc<dyn CryptoProvider>) -> Self {
        Self { root, provider }
    }
}

impl Keystore for LocalKeystore {
    fn wrap(
        &self,
        algorithm: WrapAlgorithm,
        purpose: &str,
        secret: &Secret,
    ) -> Result<WrappedKey, CryptoError> {
        self.root
            .wrap(self.provider.as_ref(), algorithm, purpose, secret)
    }

    fn unwrap(&self, purpose: &str, wrapped: &WrappedKey) -> Result<Secret, CryptoError> {
        self.root.unwrap(purpose, wrapped)
    }
}

impl fmt::Debug for LocalKeystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKeystore").finish_non_exhaustive()
    }
}

/// A wrapping key of an organization at rest, itself wrapped under the root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappingKey {
    /// Counts from 1; the highest wraps what is new.
    pub version: u32,
    /// The key.
    pub wrapped: WrappedKey,
}

impl WrappingKey {
    /// What the wrapping key of an organization is bound to under the root key.
    #[must_use]
    pub fn purpose(org: OrgId, version: u32) -> String {
        format!("creto/keystore/{org}/wrapping/{version}")
    }

    /// The same key under another root key.
    pub fn rewrap(
        &self,
        org: OrgId,
        from: &dyn Keystore,
        to: &dyn Keystore,
    ) -> Result<Self, CryptoError> {
        let purpose = Self::purpose(org, self.version);
        let secret = from.unwrap(&purpose, &self.wrapped)?;
        Ok(Self {
            version: self.version,
            wrapped: to.wrap(self.wrapped.algorithm(), &purpose, &secret)?,
        })
    }
}

/// The wrapping keys of every organization, ready for use.
///
/// What an organization has from before it had a wrapping key is under the root key
/// itself, and stays readable.
pub struct KeyRing {
    keystore: Arc<dyn Keystore>,
    provider: Arc<dyn CryptoProvider>,
    algorithms: InForce,
    keys: RwLock<HashMap<OrgId, BTreeMap<u32, Arc<RootKey>>>>,
}

impl KeyRing {
    /// No keys but the root. New ones and what they wrap are by the algorithm for new
    /// objects; those that are accepted are opened.
    #[must_use]
    pub fn new(
        keystore: Arc<dyn Keystore>,
        provider: Arc<dyn CryptoProvider>,
        algorithms: InForce,
    ) -> Self {
        Self {
            keystore,
            provider,
            algorithms,
            keys: RwLock::default(),
        }
    }

    /// A new wrapping key for an organization, after those it has. It is used once it
    /// was added, which is for when it is durable.
    pub fn draft(&self, org: OrgId) -> Result<WrappingKey, CryptoError> {
        let version = self.version(org).unwrap_or(0).saturating_add(1);
        let mut bytes = Zeroizing::new([0_u8; ROOT_LEN]);
        self.provider.random(bytes.as_mut());
        let wrapped = self.keystore.wrap(
            self.algorithms.now().wrapping.for_new(),
            &WrappingKey::purpose(org, version),
            &Secret::copy_of(bytes.as_ref()),
        )?;
        Ok(WrappingKey { version, wrapped })
    }

    /// Opens a wrapping key and takes it into use: the highest version wraps what is
    /// new.
    pub fn add(&self, org: OrgId, key: &WrappingKey) -> Result<(), CryptoError> {
        self.algorithms
            .now()
            .wrapping
            .check(key.wrapped.algorithm())?;
        let purpose = WrappingKey::purpose(org, key.version);
        let secret = self.keystore.unwrap(&purpose, &key.wrapped)?;
        let opened = Arc::new(RootKey::from_secret(secret)?);
        let mut keys = self.keys.write();
        keys.entry(org).or_default().insert(key.version, opened);
        Ok(())
    }

    /// Forgets the wrapping keys before this version.
    pub fn retire_before(&self, org: OrgId, version: u32) {
        if let Some(keys) = self.keys.write().get_mut(&org) {
            keys.retain(|known, _| *known >= version);
        }
    }

    /// The version that wraps what is new; `None` while that is the root key.
    #[must_use]
    pub fn version(&self, org: OrgId) -> Option<u32> {
        let keys = self.keys.read();
        keys.get(&org)?.keys().next_back().copied()
    }

    /// Encrypts a private key of the organization for storage.
    pub fn wrap(
        &self,
        org: OrgId,
        purpose: &str,
        secret: &Secret,
    ) -> Result<WrappedKey, CryptoError> {
        let algorithm = self.algorithms.now().wrapping.for_new();
        let newest = {
            let keys = self.keys.read();
            keys.get(&org)
                .and_then(|keys| keys.last_key_value())
                .map(|(version, key)| (*version, Arc::clone(key)))
        };
        match newest {
            None => self.keystore.wrap(algorithm, purpose, secret),
            Some((version, key)) => {
                let wrapped = key.wrap(self.provider.as_ref(), algorithm, purpose, secret)?;
                Ok(wrapped.under(version))
            }
        }
    }

    /// Decrypts a private key of the organization.
    pub fn unwrap(
        &self,
        org: OrgId,
        purpose: &str,
        wrapped: &WrappedKey,
    ) -> Result<Secret, CryptoError> {
        self.algorithms.now().wrapping.check(wrapped.algorithm())?;
        let Some(version) = wrapped.version() else {
            return self.keystore.unwrap(purpose, wrapped);
        };
        let key = self
            .keys
            .read()
            .get(&org)
            .and_then(|keys| keys.get(&version))
            .map(Arc::clone)
            .ok_or(CryptoError::WrappingKeyMissing { version })?;
        key.unwrap(purpose, wrapped)
    }

    /// Whether this would be wrapped otherwise if it were new.
    #[must_use]
    pub fn is_old(&self, org: OrgId, wrapped: &WrappedKey) -> bool {
        wrapped.version() != self.version(org)
            || wrapped.algorithm() != self.algorithms.now().wrapping.for_new()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use creto_types::SeededRandom;

    use super::*;
    use crate::{Allowed, AllowedAlgorithms, AwsLcProvider};

    const AES: WrapAlgorithm = WrapAlgorithm::HkdfSha256Aes256Gcm;
    const CHACHA: WrapAlgorithm = WrapAlgorithm::HkdfSha256ChaCha20Poly1305;

    fn provider() -> Arc<dyn CryptoProvider> {
        Arc::new(AwsLcProvider::new(Arc::new(SeededRandom::new(3))))
    }

    fn keystore(digit: &str) -> Arc<dyn Keystore> {
        let root = RootKey::from_hex(&digit.repeat(64)).unwrap();
        Arc::new(LocalKeystore::new(root, provider()))
    }

    fn wrapping(wrapping: Allowed<WrapAlgorithm>) -> InForce {
        InForce::new(AllowedAlgorithms {
            wrapping,
            ..AllowedAlgorithms::default()
        })
    }

    fn ring(digit: &str, new: WrapAlgorithm) -> KeyRing {
        let allowed = Allowed::new(new, [AES, CHACHA]).unwrap();
        KeyRing::new(keystore(digit), provider(), wrapping(allowed))
    }

    fn orgs() -> [OrgId; 2] {
        [
            "org_019b76daa800770db259e4e1cb631c66",
            "org_019b76daa800770db259e4e1cb631c67",
        ]
        .map(|id| id.parse().unwrap())
    }

    #[test]
    fn each_version_opens_what_it_wrapped_until_it_is_retired() {
        let ([org, other], ring) = (orgs(), ring("1", AES));
        let secret = Secret::new(vec![9; 32]);
        let under_root = ring.wrap(org, "p", &secret).unwrap();
        assert_eq!(under_root.version(), None);
        let first = ring.draft(org).unwrap();
        ring.add(org, &first).unwrap();
        let under_first = ring.wrap(org, "p", &secret).unwrap();
        let second = ring.draft(org).unwrap();
        assert_eq!((first.version, second.version), (1, 2));
        // Not yet in use.
        assert_eq!(ring.wrap(org, "p", &secret).unwrap().version(), Some(1));
        ring.add(org, &second).unwrap();
        let under_second = ring.wrap(org, "p", &secret).unwrap();
        assert_eq!(under_second.version(), Some(2));
        for wrapped in [&under_root, &under_first, &under_second] {
            assert_eq!(ring.unwrap(org, "p", wrapped).unwrap(), secret);
            assert!(ring.unwrap(org, "q", wrapped).is_err());
        }
        assert!(ring.is_old(org, &under_first) && !ring.is_old(org, &under_second));
        ring.retire_before(org, 2);
        assert_eq!(
            ring.unwrap(org, "p", &under_first),
            Err(CryptoError::WrappingKeyMissing { version: 1 })
        );
        // Of one organization nothing opens with the keys of another.
        assert!(ring.unwrap(other, "p", &under_second).is_err());
        assert_eq!(ring.add(other, &second), Err(CryptoError::OpenFailed));
    }

    #[test]
    fn a_wrapping_key_moves_to_another_root_alone() {
        let [org, _] = orgs();
        let old = ring("1", CHACHA);
        let key = old.draft(org).unwrap();
        old.add(org, &key).unwrap();
        let wrapped = old.wrap(org, "p", &Secret::new(vec![9; 32])).unwrap();
        let moved = key
            .rewrap(org, keystore("1").as_ref(), keystore("2").as_ref())
            .unwrap();
        assert_eq!(old.add(org, &moved), Err(CryptoError::OpenFailed));
        let new = ring("2", AES);
        assert_eq!(new.add(org, &key), Err(CryptoError::OpenFailed));
        new.add(org, &moved).unwrap();
        assert_eq!(new.unwrap(org, "p", &wrapped).unwrap().expose(), [9; 32]);
    }

    #[test]
    fn an_algorithm_that_is_not_accepted_opens_nothing() {
        let [org, _] = orgs();
        let both = ring("1", CHACHA);
        let key = both.draft(org).unwrap();
        let wrapped = both.wrap(org, "p", &Secret::new(vec![9; 32])).unwrap();
        let strict = KeyRing::new(keystore("1"), provider(), wrapping(Allowed::only(AES)));
        let refused = |error| matches!(error, CryptoError::AlgorithmNotAllowed { .. });
        assert!(refused(strict.add(org, &key).unwrap_err()));
        assert!(refused(strict.unwrap(org, "p", &wrapped).unwrap_err()));
    }
}
