//! Which perfect subtrees a root or a proof is made of.
//!
//! RFC 6962 splits a tree of `n` leaves at the largest power of two below `n`.
//! Every hash of a proof is therefore the root of a range of leaves that falls
//! apart into a few perfect subtrees, each of which lies in one tile.

use std::collections::BTreeSet;

use crate::{Hash, Hasher, ProofError, Tile, TileError, TileSet};

/// The root of the perfect subtree over the leaves
/// `index << level .. (index + 1) << level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// The height above the leaves.
    pub level: u32,
    /// The place among the nodes of this level.
    pub index: u64,
}

/// The tiles a proof (or a root) needs and how to make it from them: plan,
/// fetch [`ProofPlan::tiles`] from wherever they lie, then
/// [`ProofPlan::resolve`]. So this crate needs no I/O to make proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofPlan {
    size: u64,
    /// One list of subtrees per hash of the proof.
    hashes: Vec<Vec<Node>>,
}

impl ProofPlan {
    /// The root of the tree, as a "proof" of one hash.
    #[must_use]
    pub fn root(size: u64) -> Self {
        Self {
            size,
            hashes: vec![subtrees(0, size)],
        }
    }

    /// `PATH(index, D[size])` of RFC 6962, section 2.1.1.
    pub fn inclusion(index: u64, size: u64) -> Result<Self, ProofError> {
        if index >= size {
            return Err(ProofError::IndexOutside { index, size });
        }
        let (mut low, mut high) = (0, size);
        let mut hashes = Vec::new();
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                hashes.push(subtrees(middle, high));
                high = middle;
            } else {
                hashes.push(subtrees(low, middle));
                low = middle;
            }
        }
        hashes.reverse();
        Ok(Self { size, hashes })
    }

    /// `PROOF(old, D[new])` of RFC 6962, section 2.1.2. From the empty tree and
    /// from the tree itself the proof is empty.
    pub fn consistency(old: u64, new: u64) -> Result<Self, ProofError> {
        if old > new {
            return Err(ProofError::SizeShrinks { old, new });
        }
        let mut hashes = Vec::new();
        if old > 0 {
            let (mut low, mut high) = (0, new);
            // Whether the old root is the root of what is left, and so known.
            let mut known = true;
            while old != high {
                let middle = low + split(high - low);
                if old <= middle {
                    hashes.push(subtrees(middle, high));
                    high = middle;
                } else {
                    hashes.push(subtrees(low, middle));
                    low = middle;
                    known = false;
                }
            }
            if !known {
                hashes.push(subtrees(low, high));
            }
        }
        hashes.reverse();
        Ok(Self { size: new, hashes })
    }

    /// The root of the first `old` leaves, from the tiles of the tree of `new` leaves,
    /// as a "proof" of one hash.
    pub fn prefix_root(old: u64, new: u64) -> Result<Self, ProofError> {
        if old > new {
            return Err(ProofError::SizeShrinks { old, new });
        }
        Ok(Self {
            size: new,
            hashes: vec![subtrees(0, old)],
        })
    }

    /// The tiles to fetch, each as wide as it is in a tree of this size.
    #[must_use]
    pub fn tiles(&self) -> BTreeSet<Tile> {
        self.hashes
            .iter()
            .flatten()
            .map(|node| Tile::of_node(*node, self.size))
            .collect()
    }

    /// The hashes of the proof, from tiles.
    pub fn resolve(&self, hasher: Hasher, tiles: &TileSet) -> Result<Vec<Hash>, TileError> {
        self.hashes
            .iter()
            .map(|nodes| {
                let roots = nodes
                    .iter()
                    .map(|node| tiles.node(hasher, *node, self.size))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(hasher.join(&roots))
            })
            .collect()
    }
}

/// The largest power of two below `n`, for `n` of at least two.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// The perfect subtrees of a range that RFC 6962's splitting reaches: its start
/// is a multiple of every power of two in its length.
fn subtrees(low: u64, high: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut start = low;
    while start < high {
        let level = (high - start).ilog2();
        nodes.push(Node {
            level,
            index: start >> level,
        });
        start += 1 << level;
    }
    nodes
}
