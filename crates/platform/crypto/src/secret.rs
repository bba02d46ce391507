//! Bytes that must not linger, leak or be compared carelessly.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::zeroize_bytes;

/// Secret bytes: zeroized on drop, redacted in `Debug`, compared in constant
/// time.
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes over, in the allocation they are in.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Copies the bytes.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes. The name is there to be noticed in review.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The whole allocation is wiped, with what was cut off or never used. In bulk:
/// `Vec`'s own wiping goes byte by byte, which takes longer than the cipher did.
impl Drop for Secret {
    fn drop(&mut self) {
        self.0.resize(self.0.capacity(), 0);
        zeroize_bytes(&mut self.0);
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
