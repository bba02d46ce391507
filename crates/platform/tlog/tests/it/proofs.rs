//! Every proof of random trees verifies; every changed bit of one fails.

use creto_tlog::{Hash, ProofError, ProofPlan, verify_consistency, verify_inclusion};
use proptest::prelude::*;

use crate::vectors::grow;
use crate::{HASHER, leaves, naive};

fn flip(hash: &Hash, bit: usize) -> Hash {
    let mut bytes = *hash.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    Hash::from_bytes(bytes)
}

/// Trees small enough for every pair, around one full tile and beyond two.
fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![1_u64..40, 250_u64..262, 505_u64..1_200]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn inclusion(size in sizes(), index in any::<u64>(), bit in 0_usize..256) {
        let index = index % size;
        let leaves = leaves(size);
        let (frontier, tiles) = grow(&leaves);
        let root = frontier.root();
        prop_assert_eq!(root, naive::mth(&leaves));
        let proof = ProofPlan::inclusion(index, size).unwrap().resolve(HASHER, &tiles).unwrap();
        prop_assert_eq!(&proof, &naive::path(index as usize, &leaves));
        let leaf = leaves[index as usize];
        verify_inclusion(HASHER, &leaf, index, size, &proof, &root).unwrap();

        for at in 0..proof.len() {
            let mut changed = proof.clone();
            changed[at] = flip(&changed[at], bit);
            prop_assert!(verify_inclusion(HASHER, &leaf, index, size, &changed, &root).is_err());
            let mut shorter = proof.clone();
            shorter.remove(at);
            prop_assert!(verify_inclusion(HASHER, &leaf, index, size, &shorter, &root).is_err());
        }
        let mut longer = proof.clone();
        longer.push(root);
        prop_assert!(verify_inclusion(HASHER, &leaf, index, size, &longer, &root).is_err());
        prop_assert!(verify_inclusion(HASHER, &flip(&leaf, bit), index, size, &proof, &root).is_err());
        prop_assert!(verify_inclusion(HASHER, &leaf, index, size, &proof, &flip(&root, bit)).is_err());
        if size > 1 {
            let other = (index + 1) % size;
            prop_assert!(verify_inclusion(HASHER, &leaf, other, size, &proof, &root).is_err());
        }
    }

    #[test]
    fn consistency(new in sizes(), old in any::<u64>(), bit in 0_usize..256) {
        let old = old % new + 1;
        let leaves = leaves(new);
        let (frontier, tiles) = grow(&leaves);
        let (new_root, old_root) = (frontier.root(), naive::mth(&leaves[..old as usize]));
        let plan = ProofPlan::consistency(old, new).unwrap();
        let proof = plan.resolve(HASHER, &tiles).unwrap();
        prop_assert_eq!(&proof, &naive::proof(old as usize, &leaves));
        verify_consistency(HASHER, old, &old_root, new, &new_root, &proof).unwrap();

        for at in 0..proof.len() {
            let mut changed = proof.clone();
            changed[at] = flip(&changed[at], bit);
            prop_assert!(verify_consistency(HASHER, old, &old_root, new, &new_root, &changed).is_err());
            let mut shorter = proof.clone();
            shorter.remove(at);
            prop_assert!(verify_consistency(HASHER, old, &old_root, new, &new_root, &shorter).is_err());
        }
        let mut longer = proof.clone();
        longer.push(new_root);
        prop_assert!(verify_consistency(HASHER, old, &old_root, new, &new_root, &longer).is_err());
        let bad = flip(&old_root, bit);
        prop_assert!(verify_consistency(HASHER, old, &bad, new, &new_root, &proof).is_err());
        let bad = flip(&new_root, bit);
        prop_assert!(verify_consistency(HASHER, old, &old_root, new, &bad, &proof).is_err());
    }
}

/// Exhaustive where it is cheap: every leaf and every older size of every tree
/// up to 70 leaves.
#[test]
fn every_proof_of_small_trees() {
    for size in 1..=70_u64 {
        let leaves = leaves(size);
        let (frontier, tiles) = grow(&leaves);
        for n in 0..size {
            let proof = ProofPlan::inclusion(n, size)
                .unwrap()
                .resolve(HASHER, &tiles)
                .unwrap();
            verify_inclusion(
                HASHER,
                &leaves[n as usize],
                n,
                size,
                &proof,
                &frontier.root(),
            )
            .unwrap();
            let old = naive::mth(&leaves[..n as usize]);
            let proof = ProofPlan::consistency(n, size)
                .unwrap()
                .resolve(HASHER, &tiles)
                .unwrap();
            verify_consistency(HASHER, n, &old, size, &frontier.root(), &proof).unwrap();
            let plan = ProofPlan::prefix_root(n, size).unwrap();
            assert_eq!(plan.resolve(HASHER, &tiles).unwrap(), [old]);
        }
    }
}

#[test]
fn questions_without_an_answer_are_refused() {
    assert_eq!(
        ProofPlan::inclusion(3, 3),
        Err(ProofError::IndexOutside { index: 3, size: 3 })
    );
    assert_eq!(
        ProofPlan::consistency(4, 3),
        Err(ProofError::SizeShrinks { old: 4, new: 3 })
    );
    assert_eq!(
        ProofPlan::prefix_root(4, 3),
        Err(ProofError::SizeShrinks { old: 4, new: 3 })
    );
    let root = HASHER.empty();
    assert!(verify_inclusion(HASHER, &root, 0, 0, &[], &root).is_err());
    // Hostile sizes neither panic nor loop.
    let hashes = vec![root; 70];
    for size in [u64::MAX, 1 << 63] {
        assert!(verify_inclusion(HASHER, &root, size - 1, size, &hashes, &root).is_err());
        assert!(verify_consistency(HASHER, size - 1, &root, size, &root, &hashes).is_err());
        assert!(
            !ProofPlan::inclusion(size / 3, size)
                .unwrap()
                .tiles()
                .is_empty()
        );
        assert!(
            !ProofPlan::consistency(size / 3, size)
                .unwrap()
                .tiles()
                .is_empty()
        );
    }
}
