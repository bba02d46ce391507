//! That one state of a log continues another, asked of the log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use creto_audit::conformance::org;
use creto_audit::{Journal as _, NoteVerifier, TileStore as _};
use creto_crypto::sha256;
use creto_errors::Classify as _;
use creto_tlog::{Checkpoint, Frontier, Hasher, Note, verify_consistency};
use creto_types::LeafIndex;

use crate::World;

const HASHER: Hasher = Hasher::new(sha256);

/// Sizes between two checkpoints too: they have no tiles of their own.
#[tokio::test]
async fn any_two_sizes_are_shown_to_continue_each_other() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    for count in [5, 250, 45, 300] {
        world.commit(org(1), count).await;
        audit.checkpoint(org(1)).await.unwrap();
    }
    let mut frontier = Frontier::new(HASHER);
    let mut roots = vec![frontier.root()];
    for leaf in world.journal.read(org(1), 0, 600).await.unwrap() {
        frontier.push(HASHER.leaf(&leaf));
        roots.push(frontier.root());
    }
    for (from, to) in [
        (0, 0),
        (0, 600),
        (1, 2),
        (3, 5),
        (4, 257),
        (255, 256),
        (256, 600),
        (299, 599),
        (511, 513),
        (600, 600),
    ] {
        let proof = audit.consistency(org(1), from, Some(to)).await.unwrap();
        assert_eq!((proof.from, proof.to), (from, to));
        let [old, new] = [from, to].map(|size| roots[size as usize]);
        assert_eq!((proof.from_root, proof.to_root), (old, new), "{from} {to}");
        verify_consistency(HASHER, from, &old, to, &new, &proof.hashes).unwrap();
        let note = Note::parse(&proof.checkpoint).unwrap();
        let checkpoint: Checkpoint = note.text().parse().unwrap();
        assert_eq!((checkpoint.size, checkpoint.root), (600, roots[600]));
    }
    // Without a later size it is the newest, which is made for it.
    world.commit(org(1), 1).await;
    let proof = audit.consistency(org(1), 600, None).await.unwrap();
    assert_eq!((proof.to, proof.from_root), (601, roots[600]));
    for (from, to) in [(2, Some(1)), (0, Some(602)), (602, None), (u64::MAX, None)] {
        let error = audit.consistency(org(1), from, to).await.unwrap_err();
        assert_eq!(error.code(), "unknown_log_size", "{from} {to:?}");
    }
}

/// A tile that was changed leads to no proof, rather than to one that is wrong.
#[tokio::test]
async fn a_proof_that_does_not_hold_is_not_handed_out() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 300).await;
    audit.checkpoint(org(1)).await.unwrap();
    world.tiles.tamper(org(1), "tile/0/001.p/44", |tile| {
        tile.as_mut().unwrap()[40 * 32] ^= 1;
    });
    let error = audit.consistency(org(1), 100, Some(300)).await.unwrap_err();
    assert_eq!(error.code(), "log_corrupt");
    assert!(audit.prove(org(1), LeafIndex(297)).await.is_err());
}

/// Both lines of a checkpoint verify with the keys that the log hands out.
#[tokio::test]
async fn the_keys_handed_out_verify_the_checkpoint() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 3).await;
    let head = audit.checkpoint(org(1)).await.unwrap();
    let note = Note::parse(&head.note).unwrap();
    let texts = audit.verifier_keys(org(1)).unwrap();
    let others = audit.verifier_keys(org(2)).unwrap();
    for (place, text) in texts.iter().enumerate() {
        let key = NoteVerifier::parse(text).unwrap();
        assert_eq!(key.to_string(), *text);
        assert_eq!(key.name(), format!("creto.example/log/{}", org(1)));
        assert!(!key.is_cosigner());
        assert!(key.verifies(&note));
        // Its own line and no other.
        let mut without = Note::new(note.text()).unwrap();
        for line in note.signatures().iter().skip(1 - place).take(1) {
            without.add_line(line.clone());
        }
        assert!(!key.verifies(&without), "{text}");
        let other = NoteVerifier::parse(&others[place]).unwrap();
        assert!(!other.verifies(&note));
    }
    assert!(texts[0].contains("+A"), "type 0x01: {}", texts[0]);
    let stored = world.tiles.get(org(1), "checkpoint").await.unwrap();
    assert_eq!(stored, Some(head.note));
}

#[test]
fn a_key_that_cannot_be_checked_with_is_refused() {
    for (text, code) in [
        ("nonsense", "note_verifier_key"),
        // Type 0x02, which nothing here has a name for.
        (&unknown_type(2), "note_key_type"),
        (&unknown_type(0xff), "note_key_type"),
    ] {
        assert_eq!(
            NoteVerifier::parse(text).unwrap_err().code(),
            code,
            "{text}"
        );
    }
    // Type 0x01 with half a key.
    assert!(NoteVerifier::parse(&unknown_type(1)).is_err());
}

/// A verifier key whose id is right, of this type, with 16 bytes of key.
fn unknown_type(kind: u8) -> String {
    let encoded = [&[kind][..], &[7; 16]].concat();
    let digest = sha256(&[b"name\n", encoded.as_slice()].concat());
    let id = hex::encode(&digest[..4]);
    let encoded = STANDARD.encode(encoded);
    format!("name+{id}+{encoded}")
}
