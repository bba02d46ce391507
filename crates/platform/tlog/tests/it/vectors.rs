//! Vectors that others published.

use creto_tlog::{Frontier, Hash, ProofPlan, TileSet, verify_consistency, verify_inclusion};

use crate::{HASHER, hash, sha256};

/// Leaves and roots of Google's certificate-transparency
/// (`cpp/merkletree/merkle_tree_test.cc`), also in transparency-dev/merkle
/// `testonly/constants.go`.
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
/// `NodeHashes` there, by level and place.
const LEAF_1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const LEAF_4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const NODE_1_1: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const NODE_1_2: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
const NODE_1_3: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const NODE_2_1: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";

fn ct_leaves() -> Vec<Hash> {
    LEAVES
        .iter()
        .map(|text| HASHER.leaf(&hex::decode(text).unwrap()))
        .collect()
}

/// A tree of these leaves and all its tiles.
pub(crate) fn grow(leaves: &[Hash]) -> (Frontier, TileSet) {
    let mut frontier = Frontier::new(HASHER);
    let mut tiles = TileSet::new();
    for leaf in leaves {
        for (tile, bytes) in frontier.push(*leaf) {
            tiles.insert(tile, &bytes).unwrap();
        }
    }
    for (tile, bytes) in frontier.partial_tiles() {
        tiles.insert(tile, &bytes).unwrap();
    }
    (frontier, tiles)
}

#[test]
fn certificate_transparency_roots() {
    let leaves = ct_leaves();
    for (size, root) in ROOTS.iter().enumerate() {
        let (frontier, tiles) = grow(&leaves[..size]);
        assert_eq!(frontier.root(), hash(root), "size {size}");
        let from_tiles = ProofPlan::root(size as u64).resolve(HASHER, &tiles);
        assert_eq!(from_tiles.unwrap(), vec![hash(root)]);
    }
}

#[test]
fn certificate_transparency_inclusion_proofs() {
    let leaves = ct_leaves();
    let cases: [(u64, u64, &[&str]); 5] = [
        (0, 1, &[]),
        (0, 8, &[LEAF_1, NODE_1_1, NODE_2_1]),
        (5, 8, &[LEAF_4, NODE_1_3, ROOTS[4]]),
        (2, 3, &[ROOTS[2]]),
        (1, 5, &[ROOTS[1], NODE_1_1, LEAF_4]),
    ];
    for (index, size, expected) in cases {
        let (frontier, tiles) = grow(&leaves[..size as usize]);
        let plan = ProofPlan::inclusion(index, size).unwrap();
        let proof = plan.resolve(HASHER, &tiles).unwrap();
        let expected: Vec<Hash> = expected.iter().map(|text| hash(text)).collect();
        assert_eq!(proof, expected, "leaf {index} of {size}");
        let leaf = &leaves[index as usize];
        verify_inclusion(HASHER, leaf, index, size, &proof, &frontier.root()).unwrap();
    }
}

#[test]
fn certificate_transparency_consistency_proofs() {
    let leaves = ct_leaves();
    let cases: [(u64, u64, &[&str]); 4] = [
        (1, 1, &[]),
        (1, 8, &[LEAF_1, NODE_1_1, NODE_2_1]),
        (6, 8, &[NODE_1_2, NODE_1_3, ROOTS[4]]),
        (2, 5, &[NODE_1_1, LEAF_4]),
    ];
    for (old, new, expected) in cases {
        let (_, tiles) = grow(&leaves[..new as usize]);
        let plan = ProofPlan::consistency(old, new).unwrap();
        let proof = plan.resolve(HASHER, &tiles).unwrap();
        let expected: Vec<Hash> = expected.iter().map(|text| hash(text)).collect();
        assert_eq!(proof, expected, "{old} to {new}");
        let (old_root, new_root) = (hash(ROOTS[old as usize]), hash(ROOTS[new as usize]));
        verify_consistency(HASHER, old, &old_root, new, &new_root, &proof).unwrap();
    }
}

/// The accumulated vectors of draft-ietf-plants-merkle-tree-certs, appendix
/// "Subtree Test Vectors": every aligned range of a tree of 130 one-byte
/// entries, its root and every inclusion proof in it, under one SHA-256.
#[test]
fn merkle_tree_certs_accumulated_vectors() {
    let leaves: Vec<Hash> = (0..130_u8).map(|n| HASHER.leaf(&[n])).collect();
    let mut roots = String::new();
    let mut proofs = String::new();
    for end in 1..=leaves.len() {
        for start in 0..end {
            let len = end - start;
            if start % len.next_power_of_two() != 0 {
                continue;
            }
            let (frontier, tiles) = grow(&leaves[start..end]);
            let root = hex::encode(frontier.root().as_bytes());
            roots.push_str(&format!("[{start}, {end}) {root}\n"));
            for index in 0..len {
                let plan = ProofPlan::inclusion(index as u64, len as u64).unwrap();
                proofs.push_str(&format!("{} [{start}, {end})", start + index));
                for hash in plan.resolve(HASHER, &tiles).unwrap() {
                    proofs.push_str(&format!(" {}", hex::encode(hash.as_bytes())));
                }
                proofs.push('\n');
            }
        }
    }
    assert_eq!(
        hex::encode(sha256(roots.as_bytes())),
        "94a95384a8c69acea9b50d035a58285b3a777cb7a724005faa5e1f1e1190007f"
    );
    assert_eq!(
        hex::encode(sha256(proofs.as_bytes())),
        "ac2a8f989e44d99e399db448050ff5f19757df53cfb716aa81015d3955d8163f"
    );
}
