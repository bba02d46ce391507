//! Verifying proofs against tree heads, after RFC 9162, sections 2.1.3.2 and
//! 2.1.4.2, whose trees are those of RFC 6962.

use crate::{Hash, Hasher, ProofError};

/// Whether the proof shows that the leaf with this hash is at `index` of the
/// tree with this size and root.
pub fn verify_inclusion(
    hasher: Hasher,
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::IndexOutside { index, size });
    }
    let mut walk = Walk::new(index, size - 1);
    let mut computed = *leaf;
    for sibling in proof {
        computed = match walk.step()? {
            Side::Left => hasher.node(sibling, &computed),
            Side::Right => hasher.node(&computed, sibling),
        };
    }
    walk.finish()?;
    same(root, computed)
}

/// Whether the proof shows that the tree with the old size and root is a prefix
/// of the one with the new size and root.
pub fn verify_consistency(
    hasher: Hasher,
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::SizeShrinks {
            old: old_size,
            new: new_size,
        });
    }
    if old_size == 0 || old_size == new_size {
        if !proof.is_empty() {
            return Err(ProofError::WrongLength);
        }
        let expected = if old_size == 0 {
            hasher.empty()
        } else {
            *new_root
        };
        return same(&expected, *old_root);
    }
    // A perfect old tree is a node of the new one; its root starts the proof.
    let (start, rest) = if old_size.is_power_of_two() {
        (*old_root, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or(ProofError::WrongLength)?;
        (*first, rest)
    };
    let mut walk = Walk::new(old_size - 1, new_size - 1);
    walk.skip_right_turns();
    let (mut old, mut new) = (start, start);
    for sibling in rest {
        match walk.step()? {
            Side::Left => {
                old = hasher.node(sibling, &old);
                new = hasher.node(sibling, &new);
            }
            Side::Right => new = hasher.node(&new, sibling),
        }
    }
    walk.finish()?;
    same(old_root, old)?;
    same(new_root, new)
}

fn same(expected: &Hash, computed: Hash) -> Result<(), ProofError> {
    if *expected == computed {
        Ok(())
    } else {
        Err(ProofError::WrongRoot {
            expected: *expected,
            computed,
        })
    }
}

/// On which side of the path the next sibling lies.
enum Side {
    Left,
    Right,
}

/// The climb from a node to the root: `fn` and `sn` of RFC 9162.
struct Walk {
    here: u64,
    last: u64,
}

impl Walk {
    const fn new(here: u64, last: u64) -> Self {
        Self { here, last }
    }

    fn climb(&mut self) {
        self.here >>= 1;
        self.last >>= 1;
    }

    /// Step 4 of section 2.1.4.2.
    fn skip_right_turns(&mut self) {
        while self.here & 1 == 1 {
            self.climb();
        }
    }

    fn step(&mut self) -> Result<Side, ProofError> {
        if self.last == 0 {
            return Err(ProofError::WrongLength);
        }
        let side = if self.here & 1 == 1 || self.here == self.last {
            while self.here & 1 == 0 && self.here != 0 {
                self.climb();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.climb();
        Ok(side)
    }

    fn finish(&self) -> Result<(), ProofError> {
        if self.last == 0 {
            Ok(())
        } else {
            Err(ProofError::WrongLength)
        }
    }
}
