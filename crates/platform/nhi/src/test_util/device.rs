//! A keystore as a device is one: keys stay within, and only it knows what it gave out.

use std::collections::HashMap;

use creto_crypto::{CryptoError, Keystore, Secret, WrapAlgorithm, WrappedKey};
use creto_types::{Randomness as _, SystemRandom};
use parking_lot::Mutex;

/// Keeps what it is given, and gives a handle for it.
#[derive(Default)]
pub struct Device {
    kept: Mutex<HashMap<[u8; 16], (String, Secret)>>,
    fails: Mutex<Option<CryptoError>>,
}

impl Device {
    /// What stands beside its handles.
    pub const NAME: &'static str = "test-device";

    /// With nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets it do its work.
    pub fn works(&self) {
        *self.fails.lock() = None;
    }

    /// From now on it cannot be reached.
    pub fn is_away(&self) {
        *self.fails.lock() = Some(CryptoError::KeystoreUnavailable {
            why: "it was unplugged".to_owned(),
        });
    }

    /// From now on it lets nobody use its keys.
    pub fn refuses(&self) {
        *self.fails.lock() = Some(CryptoError::KeystoreRefused {
            why: "the session was ended".to_owned(),
        });
    }

    fn answers(&self) -> Result<(), CryptoError> {
        self.fails.lock().clone().map_or(Ok(()), Err)
    }
}

impl Keystore for Device {
    fn wrap(
        &self,
        _: WrapAlgorithm,
        purpose: &str,
        secret: &Secret,
    ) -> Result<WrappedKey, CryptoError> {
        self.answers()?;
        let mut handle = [0; 16];
        SystemRandom.fill(&mut handle);
        let kept = (purpose.to_owned(), Secret::copy_of(secret.expose()));
        self.kept.lock().insert(handle, kept);
        WrappedKey::opaque(Self::NAME, &handle)
    }

    fn unwrap(&self, purpose: &str, wrapped: &WrappedKey) -> Result<Secret, CryptoError> {
        self.answers()?;
        let handle = wrapped.blob().filter(|_| self.reads(wrapped.name()));
        let handle = handle.ok_or_else(|| CryptoError::KeystoreForeign {
            name: wrapped.name().to_owned(),
        })?;
        let kept = self.kept.lock();
        match kept.get(handle) {
            Some((of, secret)) if of == purpose => Ok(Secret::copy_of(secret.expose())),
            _ => Err(CryptoError::OpenFailed),
        }
    }

    fn reads(&self, name: &str) -> bool {
        name == Self::NAME
    }
}
