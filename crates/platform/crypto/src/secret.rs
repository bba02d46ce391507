//! Bytes that must not linger, leak or be compared carelessly.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Secret bytes: zeroized on drop, redacted in `Debug`, compared in constant
/// time.
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// Takes the bytes over and wipes what it was given.
    #[must_use]
    pub fn new(mut bytes: Vec<u8>) -> Self {
        // `into_boxed_slice` may move the bytes and leave the old allocation
        // behind unwiped, so they are copied and the original is wiped here.
        let secret = Self(Zeroizing::new(bytes.as_slice().into()));
        bytes.zeroize();
        secret
    }

    /// Copies the bytes.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes. The name is there to be noticed in review.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self::copy_of(self.expose())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.0.ct_eq(&other.0))
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_length_alone() {
        let secret = Secret::new(vec![0xAB; 5]);
        assert_eq!(format!("{secret:?}"), "Secret(5 bytes)");
        assert_eq!(secret, Secret::copy_of(&[0xAB; 5]));
        assert_ne!(secret, Secret::copy_of(&[0xAB; 4]));
    }
}
