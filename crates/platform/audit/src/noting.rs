//! A keystore of tests that notes who asks it.

use std::sync::Arc;

use creto_crypto::{
    CryptoError, CryptoProvider, Keystore, LocalKeystore, RootKey, Secret, WrapAlgorithm,
    WrappedKey,
};
use parking_lot::Mutex;

/// Notes the name of the thread at each question.
#[derive(Debug)]
pub struct NotingKeystore {
    inner: LocalKeystore,
    asked: Mutex<Vec<String>>,
}

impl NotingKeystore {
    pub(crate) fn new(root: RootKey, provider: Arc<dyn CryptoProvider>) -> Self {
        Self {
            inner: LocalKeystore::new(root, provider),
            asked: Mutex::default(),
        }
    }

    /// Which threads have asked since this was looked at last, once for each question.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }

    fn note(&self) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        self.asked.lock().push(name.to_owned());
    }
}

impl Keystore for NotingKeystore {
    fn wrap(
        &self,
        algorithm: WrapAlgorithm,
        purpose: &str,
        secret: &Secret,
    ) -> Result<WrappedKey, CryptoError> {
        self.note();
        self.inner.wrap(algorithm, purpose, secret)
    }

    fn unwrap(&self, purpose: &str, wrapped: &WrappedKey) -> Result<Secret, CryptoError> {
        self.note();
        self.inner.unwrap(purpose, wrapped)
    }

    fn reads(&self, name: &str) -> bool {
        self.inner.reads(name)
    }
}
