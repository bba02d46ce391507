//! Signing without holding the key: the port that a device, a service or a
//! locally held key stands behind.

use std::fmt;
use std::sync::Arc;

use crate::{CryptoError, CryptoProvider, Signature, SigningKey, VerifyingKey};

/// Something that signs with one key.
pub trait Signer: Send + Sync + 'static {
    /// The public half, of the algorithm it signs with.
    fn verifying_key(&self) -> &VerifyingKey;

    /// Signs `message` in `context`. A context separates the uses of one key:
    /// what was signed in one never verifies in another.
    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Signature, CryptoError>;
}

/// A key in this process.
pub struct LocalSigner {
    key: SigningKey,
    provider: Arc<dyn CryptoProvider>,
}

impl LocalSigner {
    /// Signs with this key.
    #[must_use]
    pub fn new(key: SigningKey, provider: Arc<dyn CryptoProvider>) -> Self {
        Self { key, provider }
    }
}

impl Signer for LocalSigner {
    fn verifying_key(&self) -> &VerifyingKey {
        self.key.verifying_key()
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Signature, CryptoError> {
        self.provider.sign(&self.key, context, message)
    }
}

impl fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSigner")
            .field("key", &self.key)
            .finish()
    }
}
