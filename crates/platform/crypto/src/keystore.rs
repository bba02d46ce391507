//! Where private keys at rest are wrapped: a root key that a port keeps, and under it
//! the wrapping keys of each organization.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use creto_types::OrgId;
use parking_lot::{Mutex, RwLock};
use zeroize::Zeroizing;

use crate::root_key::ROOT_LEN;
use crate::{CryptoError, CryptoProvider, InForce, RootKey, Secret, WrapAlgorithm, WrappedKey};

/// Who keeps the root key. It never leaves: a device that wraps and unwraps by itself
/// fits as well as a key in this process ([`LocalKeystore`]).
///
/// Asked at starts and at rotations alone, for each wrapping key of an organization; never
/// while a request is decided. What an organization has from before it had a wrapping key
/// is under the root key itself, and is asked for one by one.
///
/// Its calls block until they have an answer, which takes a device milliseconds: rotations
/// ask on threads for such, and at a start nobody waits. Were they asynchronous, everything
/// that opens a key would be, for the sake of a handful of calls in the life of a process.
/// A device bounds by itself how long it waits.
///
/// What cannot be reached now is [`CryptoError::KeystoreUnavailable`], a device that does
/// not let this process use the key [`CryptoError::KeystoreRefused`], what another kind of
/// keystore wrapped [`CryptoError::KeystoreForeign`], and what this one wrapped for another
/// purpose, or which was changed since, [`CryptoError::OpenFailed`].
pub trait Keystore: Send + Sync + 'static {
    /// Encrypts a secret so that only the same `purpose` opens it again. A keystore with a
    /// way of its own ([`WrappedKey::opaque`]) passes over `algorithm`.
    fn wrap(
        &self,
        algorithm: WrapAlgorithm,
        purpose: &str,
        secret: &Secret,
    ) -> Result<WrappedKey, CryptoError>;

    /// Decrypts what [`Keystore::wrap`] made for the same purpose.
    fn unwrap(&self, purpose: &str, wrapped: &WrappedKey) -> Result<Secret, CryptoError>;

    /// Whether it reads what bears this name ([`WrappedKey::name`]): its own, or that of an
    /// algorithm if it wraps by such. Says so by itself: a device is not asked. Which of
    /// the algorithms are accepted is not its to say.
    fn reads(&self, name: &str) -> bool;
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

    fn reads(&self, name: &str) -> bool {
        name.parse::<WrapAlgorithm>().is_ok()
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

    /// The same key under another root key, wrapped by this algorithm.
    pub fn rewrap(
        &self,
        org: OrgId,
        from: &dyn Keystore,
        to: &dyn Keystore,
        algorithm: WrapAlgorithm,
    ) -> Result<Self, CryptoError> {
        let purpose = Self::purpose(org, self.version);
        let secret = from.unwrap(&purpose, &self.wrapped)?;
        Ok(Self {
            version: self.version,
            wrapped: to.wrap(algorithm, &purpose, &secret)?,
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
    orgs: RwLock<HashMap<OrgId, Opened>>,
    /// The last draft of each organization, until it is added.
    drafts: Mutex<HashMap<OrgId, (WrappedKey, Arc<RootKey>)>>,
    /// Held while the keystore is asked: whoever waits finds what the first one opened.
    opening: Mutex<()>,
}

/// The wrapping keys of one organization.
#[derive(Default)]
struct Opened {
    /// Those before it were retired, and are not kept again.
    oldest: u32,
    /// By version, each with what it was opened from.
    keys: BTreeMap<u32, (WrappedKey, Arc<RootKey>)>,
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
            orgs: RwLock::default(),
            drafts: Mutex::default(),
            opening: Mutex::default(),
        }
    }

    /// Who keeps the root key.
    #[must_use]
    pub fn keystore(&self) -> &dyn Keystore {
        self.keystore.as_ref()
    }

    /// A new wrapping key for an organization, after those it has. It is used once it
    /// was added, which is for when it is durable.
    ///
    /// The keystore opens it once here: what it does not give back would be lost with
    /// everything under it, and an addition that follows a durable change has to succeed.
    pub fn draft(&self, org: OrgId) -> Result<WrappingKey, CryptoError> {
        let version = self.version(org).unwrap_or(0).saturating_add(1);
        let mut bytes = Zeroizing::new([0_u8; ROOT_LEN]);
        self.provider.random(bytes.as_mut());
        let drawn = RootKey::from_secret(Secret::copy_of(bytes.as_ref()))?;
        let wrapped = self.keystore.wrap(
            self.algorithms.now().wrapping.for_new(),
            &WrappingKey::purpose(org, version),
            &Secret::copy_of(bytes.as_ref()),
        )?;
        let key = WrappingKey { version, wrapped };
        let opened = self.open(org, &key)?;
        if opened != drawn {
            return Err(CryptoError::OpenFailed);
        }
        let draft = (key.wrapped.clone(), Arc::new(opened));
        self.drafts.lock().insert(org, draft);
        Ok(key)
    }

    fn open(&self, org: OrgId, key: &WrappingKey) -> Result<RootKey, CryptoError> {
        let purpose = WrappingKey::purpose(org, key.version);
        RootKey::from_secret(self.keystore.unwrap(&purpose, &key.wrapped)?)
    }

    /// Opens a wrapping key and takes it into use: the highest version wraps what is
    /// new. The keystore is not asked for one that is open.
    pub fn add(&self, org: OrgId, key: &WrappingKey) -> Result<(), CryptoError> {
        self.opened(org, key).map(drop)
    }

    fn opened(&self, org: OrgId, key: &WrappingKey) -> Result<Arc<RootKey>, CryptoError> {
        self.algorithms.now().check_wrapped(&key.wrapped)?;
        if let Some(known) = self.known(org, key) {
            return Ok(known);
        }
        let _one = self.opening.lock();
        if let Some(known) = self.known(org, key) {
            return Ok(known);
        }
        let drafted = {
            let mut drafts = self.drafts.lock();
            let is_it = drafts.get(&org).is_some_and(|(of, _)| *of == key.wrapped);
            is_it.then(|| drafts.remove(&org)).flatten()
        };
        let opened = match drafted {
            Some((_, opened)) => opened,
            None => Arc::new(self.open(org, key)?),
        };
        let mut orgs = self.orgs.write();
        let kept = orgs.entry(org).or_default();
        if key.version >= kept.oldest {
            let of = key.wrapped.clone();
            kept.keys.insert(key.version, (of, Arc::clone(&opened)));
        }
        Ok(opened)
    }

    /// The version alone does not say which key it is: a rotation that came to nothing had
    /// the one of the next.
    fn known(&self, org: OrgId, key: &WrappingKey) -> Option<Arc<RootKey>> {
        let orgs = self.orgs.read();
        let (of, opened) = orgs.get(&org)?.keys.get(&key.version)?;
        (*of == key.wrapped).then(|| Arc::clone(opened))
    }

    /// Forgets the wrapping keys before this version, and keeps none of them again.
    pub fn retire_before(&self, org: OrgId, version: u32) {
        let mut orgs = self.orgs.write();
        let kept = orgs.entry(org).or_default();
        kept.oldest = kept.oldest.max(version);
        kept.keys.retain(|known, _| *known >= version);
    }

    /// The version that wraps what is new; `None` while that is the root key.
    #[must_use]
    pub fn version(&self, org: OrgId) -> Option<u32> {
        let orgs = self.orgs.read();
        orgs.get(&org)?.keys.keys().next_back().copied()
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
            let orgs = self.orgs.read();
            orgs.get(&org)
                .and_then(|kept| kept.keys.last_key_value())
                .map(|(version, (_, key))| (*version, Arc::clone(key)))
        };
        match newest {
            None => self.keystore.wrap(algorithm, purpose, secret),
            Some((version, key)) => {
                let provider = self.provider.as_ref();
                key.wrap_under(Some(version), provider, algorithm, purpose, secret)
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
        self.algorithms.now().check_wrapped(wrapped)?;
        let Some(version) = wrapped.version() else {
            return self.keystore.unwrap(purpose, wrapped);
        };
        let key = self
            .orgs
            .read()
            .get(&org)
            .and_then(|kept| kept.keys.get(&version))
            .map(|(_, key)| Arc::clone(key))
            .ok_or(CryptoError::WrappingKeyMissing { version })?;
        key.unwrap(purpose, wrapped)
    }

    /// Encrypts under this wrapping key, whichever is the newest here; without one, under
    /// the root key.
    pub fn wrap_under(
        &self,
        org: OrgId,
        wrapping: Option<&WrappingKey>,
        purpose: &str,
        secret: &Secret,
    ) -> Result<WrappedKey, CryptoError> {
        let algorithm = self.algorithms.now().wrapping.for_new();
        let Some(wrapping) = wrapping else {
            return self.keystore.wrap(algorithm, purpose, secret);
        };
        let key = self.opened(org, wrapping)?;
        let (version, provider) = (Some(wrapping.version), self.provider.as_ref());
        key.wrap_under(version, provider, algorithm, purpose, secret)
    }

    /// Decrypts what names this wrapping key, or none.
    pub fn unwrap_under(
        &self,
        org: OrgId,
        wrapping: Option<&WrappingKey>,
        purpose: &str,
        wrapped: &WrappedKey,
    ) -> Result<Secret, CryptoError> {
        self.algorithms.now().check_wrapped(wrapped)?;
        let Some(version) = wrapped.version() else {
            return self.keystore.unwrap(purpose, wrapped);
        };
        let wrapping = wrapping
            .filter(|key| key.version == version)
            .ok_or(CryptoError::WrappingKeyMissing { version })?;
        self.opened(org, wrapping)?.unwrap(purpose, wrapped)
    }

    /// Whether this would be wrapped otherwise if it were new.
    #[must_use]
    pub fn is_old(&self, org: OrgId, wrapped: &WrappedKey) -> bool {
        let new = self.algorithms.now().wrapping.for_new();
        let of_another = wrapped.algorithm().is_some_and(|own| own != new);
        of_another || wrapped.version() != self.version(org)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use creto_types::SeededRandom;

    use super::*;
    use crate::{Algorithm as _, Allowed, AllowedAlgorithms, AwsLcProvider};

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

    /// Counts how often the root key is used.
    struct Counted(Arc<dyn Keystore>, AtomicUsize);

    impl Keystore for Counted {
        fn wrap(
            &self,
            algorithm: WrapAlgorithm,
            purpose: &str,
            secret: &Secret,
        ) -> Result<WrappedKey, CryptoError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.wrap(algorithm, purpose, secret)
        }

        fn unwrap(&self, purpose: &str, wrapped: &WrappedKey) -> Result<Secret, CryptoError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.unwrap(purpose, wrapped)
        }

        fn reads(&self, name: &str) -> bool {
            self.0.reads(name)
        }
    }

    #[test]
    fn the_keystore_is_asked_once_for_each_wrapping_key() {
        let [org, _] = orgs();
        let keystore = Arc::new(Counted(keystore("1"), AtomicUsize::new(0)));
        let asked = || keystore.1.swap(0, Ordering::SeqCst);
        let ring = KeyRing::new(keystore.clone(), provider(), wrapping(Allowed::only(AES)));
        let secret = Secret::new(vec![9; 32]);
        let [first, other] = [(); 2].map(|()| ring.draft(org).unwrap());
        // To wrap it, and whether it opens again.
        assert_eq!((first.version, other.version, asked()), (1, 1, 4));
        let wrapped = ring.wrap_under(org, Some(&first), "p", &secret).unwrap();
        assert_eq!((wrapped.version(), asked()), (Some(1), 1));
        for _ in 0..3 {
            let opened = ring.unwrap_under(org, Some(&first), "p", &wrapped);
            assert_eq!(opened.unwrap(), secret);
            ring.wrap_under(org, Some(&first), "q", &secret).unwrap();
            ring.add(org, &first).unwrap();
        }
        assert_eq!(asked(), 0);

        // Another key of the same version is another key.
        let refused = ring.unwrap_under(org, Some(&other), "p", &wrapped);
        assert_eq!((refused, asked()), (Err(CryptoError::OpenFailed), 0));

        // The one that is named, not the newest one; and no other in its place.
        let second = ring.draft(org).unwrap();
        // Nor for the draft that was made last.
        asked();
        ring.add(org, &second).unwrap();
        assert_eq!(asked(), 0);
        let named = ring.wrap_under(org, Some(&first), "p", &secret).unwrap();
        assert_eq!(named.version(), Some(1));
        for wrong in [None, Some(&second)] {
            assert_eq!(
                ring.unwrap_under(org, wrong, "p", &wrapped),
                Err(CryptoError::WrappingKeyMissing { version: 1 })
            );
        }

        // What was retired opens for who still has it, and is not kept again.
        ring.retire_before(org, 2);
        asked();
        for _ in 0..2 {
            let opened = ring.unwrap_under(org, Some(&first), "p", &wrapped);
            assert_eq!((opened.unwrap(), asked()), (secret.clone(), 1));
        }
        assert_eq!(ring.orgs.read()[&org].keys.len(), 1);
    }

    #[test]
    fn a_wrapping_key_moves_to_another_root_alone() {
        let [org, _] = orgs();
        let old = ring("1", CHACHA);
        let key = old.draft(org).unwrap();
        old.add(org, &key).unwrap();
        let wrapped = old.wrap(org, "p", &Secret::new(vec![9; 32])).unwrap();
        let (one, two) = (keystore("1"), keystore("2"));
        let moved = key.rewrap(org, one.as_ref(), two.as_ref(), AES).unwrap();
        let algorithms = (key.wrapped.algorithm(), moved.wrapped.algorithm());
        let expected = (Some(CHACHA), Some(AES));
        assert_eq!((algorithms, moved.version), (expected, key.version));
        assert_eq!(old.add(org, &moved), Err(CryptoError::OpenFailed));
        let new = ring("2", AES);
        assert_eq!(new.add(org, &key), Err(CryptoError::OpenFailed));
        new.add(org, &moved).unwrap();
        assert_eq!(new.unwrap(org, "p", &wrapped).unwrap().expose(), [9; 32]);
    }

    #[test]
    fn every_algorithm_moves_to_every_other() {
        let ([org, _], secret) = (orgs(), Secret::new(vec![9; 32]));
        for (old, new) in pairs() {
            let lists = wrapping(Allowed::only(old));
            let ring = KeyRing::new(keystore("1"), provider(), lists.clone());
            ring.add(org, &ring.draft(org).unwrap()).unwrap();
            let before = ring.wrap(org, "p", &secret).unwrap();
            let moved = |accepted: &[WrapAlgorithm]| AllowedAlgorithms {
                wrapping: Allowed::new(new, accepted.iter().copied()).unwrap(),
                ..AllowedAlgorithms::default()
            };
            lists.replace(moved(&[old, new]));
            assert!(ring.is_old(org, &before));
            ring.add(org, &ring.draft(org).unwrap()).unwrap();
            let after = ring.wrap(org, "p", &secret).unwrap();
            assert!(!ring.is_old(org, &after));
            let made = (before.algorithm(), after.algorithm());
            assert_eq!(made, (Some(old), Some(new)));
            for wrapped in [&before, &after] {
                assert_eq!(ring.unwrap(org, "p", wrapped).unwrap(), secret);
            }
            lists.replace(moved(&[new]));
            assert_eq!(ring.unwrap(org, "p", &after).unwrap(), secret);
            assert_eq!(
                ring.unwrap(org, "p", &before),
                Err(CryptoError::AlgorithmNotAllowed {
                    kind: WrapAlgorithm::KIND,
                    name: old.name(),
                })
            );
        }
    }

    /// Every algorithm with each of the others.
    fn pairs() -> impl Iterator<Item = (WrapAlgorithm, WrapAlgorithm)> {
        let all = || WrapAlgorithm::ALL.iter().copied();
        all()
            .flat_map(move |old| all().map(move |new| (old, new)))
            .filter(|(old, new)| old != new)
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
