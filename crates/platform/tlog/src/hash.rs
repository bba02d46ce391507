//! The hashes of RFC 6962, section 2.1.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::CheckpointError;

/// A SHA-256 value of the tree. Its text is the base64 that checkpoints use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; Self::LEN]);

impl Hash {
    /// The bytes of SHA-256.
    pub const LEN: usize = 32;

    /// The hash with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = CheckpointError::Malformed { what: "hash" };
        let bytes = STANDARD.decode(text).map_err(|_| malformed.clone())?;
        bytes.try_into().map(Self).map_err(|_| malformed)
    }
}

/// Hashing with the SHA-256 that the caller brings.
///
/// A plain function pointer, so that the crate needs no provider and a hasher
/// is a word that is copied freely.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    sha256: fn(&[u8]) -> [u8; Hash::LEN],
}

impl Hasher {
    /// Domain separation, RFC 6962, section 2.1.
    const LEAF: u8 = 0x00;
    const NODE: u8 = 0x01;

    /// Hashes with this SHA-256.
    #[must_use]
    pub const fn new(sha256: fn(&[u8]) -> [u8; Hash::LEN]) -> Self {
        Self { sha256 }
    }

    /// The root of the empty tree.
    #[must_use]
    pub fn empty(self) -> Hash {
        self.raw(&[])
    }

    /// The hash of a leaf.
    #[must_use]
    pub fn leaf(self, entry: &[u8]) -> Hash {
        let mut input = Vec::with_capacity(1 + entry.len());
        input.push(Self::LEAF);
        input.extend_from_slice(entry);
        self.raw(&input)
    }

    /// The hash of an inner node.
    #[must_use]
    pub fn node(self, left: &Hash, right: &Hash) -> Hash {
        let mut input = [Self::NODE; 1 + 2 * Hash::LEN];
        for (to, from) in input
            .iter_mut()
            .skip(1)
            .zip(left.0.iter().chain(right.0.iter()))
        {
            *to = *from;
        }
        self.raw(&input)
    }

    /// SHA-256 of the bytes, with no prefix.
    #[must_use]
    pub fn raw(self, bytes: &[u8]) -> Hash {
        Hash((self.sha256)(bytes))
    }

    /// The root over perfect subtrees, largest first: they are joined from the
    /// right, as RFC 6962 splits them. The empty list is the empty tree.
    pub(crate) fn join(self, subtrees: &[Hash]) -> Hash {
        let mut from_right = subtrees.iter().rev();
        let Some(last) = from_right.next() else {
            return self.empty();
        };
        from_right.fold(*last, |right, left| self.node(left, &right))
    }

    /// The root of `hashes` as the leaves of a tree of their own.
    pub(crate) fn root_of(self, hashes: &[Hash]) -> Hash {
        self.join(&self.perfect_parts(hashes))
    }

    /// The roots of the perfect subtrees that `hashes` fall apart into.
    pub(crate) fn perfect_parts(self, hashes: &[Hash]) -> Vec<Hash> {
        let mut parts = Vec::new();
        let mut rest = hashes;
        while !rest.is_empty() {
            // The largest power of two that fits.
            let (perfect, tail) = rest.split_at(1 << rest.len().ilog2());
            parts.push(self.perfect(perfect));
            rest = tail;
        }
        parts
    }

    /// The root of a power of two of hashes.
    fn perfect(self, hashes: &[Hash]) -> Hash {
        let mut row = hashes.to_vec();
        while row.len() > 1 {
            row = row
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => self.node(left, right),
                    // A power of two halves without remainder.
                    rest => self.join(rest),
                })
                .collect();
        }
        self.join(&row)
    }
}
