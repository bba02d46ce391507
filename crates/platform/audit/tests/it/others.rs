//! The log's proofs under the eyes of `ct-merkle`, which shares nothing with this
//! workspace but RFC 6962.

use creto_audit::Journal as _;
use creto_audit::conformance::org;
use creto_tlog::{Checkpoint, Hash, InclusionProof};
use creto_types::LeafIndex;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, RootHash};
use sha2::Sha256;

use crate::World;

const LEAVES: u64 = 600;

fn root(hash: &Hash, size: u64) -> RootHash<Sha256> {
    RootHash::new((*hash.as_bytes()).into(), size)
}

fn bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

#[tokio::test]
async fn another_implementation_agrees_on_every_size_and_every_leaf() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    // Published now and then, as a log grows.
    for count in [1, 99, 156, 44, 300] {
        world.commit(org(1), count).await;
        audit.checkpoint(org(1)).await.unwrap();
    }
    let leaves = world
        .journal
        .read(org(1), 0, LEAVES as usize)
        .await
        .unwrap();
    assert_eq!(leaves.len() as u64, LEAVES);
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut roots = Vec::new();
    for leaf in leaves {
        tree.push(leaf);
        roots.push(tree.root());
    }
    let whole = tree.root();

    for from in 1..LEAVES {
        let proof = audit.consistency(org(1), from, Some(LEAVES)).await.unwrap();
        let old = root(&proof.from_root, from);
        assert!(old == roots[from as usize - 1], "the root of {from}");
        assert!(root(&proof.to_root, LEAVES) == whole);
        let hashes = bytes(&proof.hashes);
        let made = tree.prove_consistency((LEAVES - from) as usize);
        assert_eq!(made.as_bytes(), hashes, "from {from}");
        let given = ConsistencyProof::try_from_bytes(hashes.clone()).unwrap();
        whole.verify_consistency(&old, &given).unwrap();
        // It is not one that agrees with everything.
        let mut changed = hashes;
        changed[7] ^= 1;
        let changed = ConsistencyProof::try_from_bytes(changed).unwrap();
        assert!(whole.verify_consistency(&old, &changed).is_err());
    }

    for index in 0..LEAVES {
        let leaf = audit.prove(org(1), LeafIndex(index)).await.unwrap();
        let proof: InclusionProof = leaf.proof.parse().unwrap();
        let checkpoint: Checkpoint = proof.checkpoint.text().parse().unwrap();
        let signed = root(&checkpoint.root, checkpoint.size);
        assert!(signed == whole);
        let hashes = bytes(&proof.hashes);
        let made = tree.prove_inclusion(index as usize);
        assert_eq!(made.as_bytes(), hashes, "leaf {index}");
        let given = ct_merkle::InclusionProof::try_from_bytes(hashes).unwrap();
        signed.verify_inclusion(&leaf.bytes, index, &given).unwrap();
        let other = [leaf.bytes.as_slice(), b" "].concat();
        assert!(signed.verify_inclusion(&other, index, &given).is_err());
    }
}
