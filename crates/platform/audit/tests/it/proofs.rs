//! A proof as a file, in the hands of somebody who has only keys.

use std::sync::Arc;

use creto_audit::conformance::org;
use creto_audit::{NoteVerifier, Witness, check_proof};
use creto_errors::Classify as _;
use creto_tlog::{InclusionProof, Note};
use creto_types::{LeafIndex, ManualClock, Timestamp};

use crate::World;
use crate::witnesses::{KINDS, Memory, made, own as own_key, request};

fn key(text: &str) -> NoteVerifier {
    NoteVerifier::parse(text).unwrap()
}

#[tokio::test]
async fn a_proof_is_checked_with_keys_alone() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 300).await;
    audit.checkpoint(org(1)).await.unwrap();
    let keys = audit.verifier_keys(org(1)).unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let witness = |seed| {
        let name = format!("witness.example/w{seed}");
        let own = made(seed, &name, KINDS[1]);
        let memory = Arc::new(Memory::default());
        Witness::new([own], [key(&keys[0])], memory, clock.clone())
    };
    let (first, second) = (witness(1), witness(2));
    let line = first
        .add_checkpoint(&request(&audit, 0).await.to_string())
        .await
        .unwrap();
    let leaf = audit.prove(org(1), LeafIndex(7)).await.unwrap();
    let mut proof: InclusionProof = leaf.proof.parse().unwrap();
    proof.checkpoint = proof.checkpoint.with_lines(&line).unwrap();
    let text = proof.to_string();
    let witnesses = [own_key(&first), own_key(&second)];

    for own in &keys {
        let own = key(own);
        let proven = check_proof(&text, &leaf.bytes, &own, &witnesses, 1).unwrap();
        assert_eq!(proven.origin, own.name());
        assert_eq!((proven.index, proven.size), (7, 300));
        assert_eq!(proven.cosigned_by, ["witness.example/w1"]);
        // Without witnesses, and with data that nobody vouches for.
        let extra = text.replacen("\nindex", "\nextra AAAA\nindex", 1);
        assert!(check_proof(&extra, &leaf.bytes, &own, &[], 0).is_ok());
    }

    let own = key(&keys[0]);
    let code = |text: &str, leaf: &[u8], own: &NoteVerifier, quorum| {
        check_proof(text, leaf, own, &witnesses, quorum)
            .unwrap_err()
            .code()
    };
    assert_eq!(code(&text, &leaf.bytes, &own, 2), "proof_not_cosigned");
    // One witness named twice is one.
    let twice = [own_key(&first), own_key(&first)];
    let error = check_proof(&text, &leaf.bytes, &own, &twice, 2).unwrap_err();
    assert_eq!(error.code(), "proof_not_cosigned");
    let other = key(&audit.verifier_keys(org(2)).unwrap()[0]);
    assert_eq!(code(&text, &leaf.bytes, &other, 0), "proof_other_log");
    assert_eq!(code(&text, b"another leaf", &own, 0), "proof_wrong_root");
    let elsewhere = text.replacen("index 7\n", "index 6\n", 1);
    assert_eq!(code(&elsewhere, &leaf.bytes, &own, 0), "proof_wrong_root");
    let unsigned = InclusionProof {
        checkpoint: {
            let mut note = Note::new(proof.checkpoint.text()).unwrap();
            note.add_line(proof.checkpoint.signatures()[1].clone());
            note
        },
        ..proof
    };
    assert_eq!(
        code(&unsigned.to_string(), &leaf.bytes, &own, 0),
        "proof_not_signed"
    );
    assert!(check_proof("", &leaf.bytes, &own, &[], 0).is_err());
}
