//! A line under a known key that is not by it: whoever knows the key rejects the note, be a
//! good line where it may.

use std::sync::Arc;

use creto_audit::conformance::org;
use creto_audit::{AlarmKind, Cosigners, Memory, NoteVerifier, Patience, Watch, check_proof};
use creto_errors::Classify as _;
use creto_tlog::{AddCheckpoint, InclusionProof, Note, NoteSignature};
use creto_types::LeafIndex;

use crate::World;
use crate::monitors::{alarm, grown, key};
use crate::watches::{at, witness};
use crate::witnesses::{self, code, request, witness_over};

/// The note with a changed copy of one of its lines, before all of them and after.
fn with_changed(note: &Note, place: usize) -> [Note; 2] {
    let mut changed = note.signatures()[place].clone();
    *changed.signature.last_mut().unwrap() ^= 1;
    let of = |lines: Vec<&NoteSignature>| {
        let mut with = Note::new(note.text()).unwrap();
        for line in lines {
            with.add_line(line.clone());
        }
        with
    };
    let lines = note.signatures().iter();
    [
        of([&changed].into_iter().chain(lines.clone()).collect()),
        of(lines.chain([&changed]).collect()),
    ]
}

#[tokio::test]
async fn a_witness_refuses_a_bad_line_of_a_log_it_knows() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    let keys = audit.verifier_keys(org(1)).unwrap();
    world.commit(org(1), 7).await;
    let good = request(&audit, 0).await;
    for place in 0..2 {
        let memory = Arc::new(witnesses::Memory::default());
        let knows = witness_over(&memory, 1, &keys);
        for checkpoint in with_changed(&good.checkpoint, place) {
            let bad = AddCheckpoint {
                checkpoint,
                ..good.clone()
            };
            assert_eq!(code(&knows, &bad).await, "note_bad_signature");
            // Who does not know the key passes its lines over.
            let other = witness_over(&Arc::default(), 2, &keys[1 - place..][..1]);
            other.add_checkpoint(&bad.to_string()).await.unwrap();
        }
        assert!(memory.kept.lock().is_empty());
        knows.add_checkpoint(&good.to_string()).await.unwrap();
    }
}

#[tokio::test]
async fn a_proof_with_a_bad_line_of_a_known_key_shows_nothing() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 7).await;
    let own = key(&world).await;
    let [(first, first_key), (_, second_key)] = [1, 2].map(|seed| witness(seed, &own));
    let asked = request(&audit, 0).await.to_string();
    let line = first.add_checkpoint(&asked).await.unwrap();
    let leaf = audit.prove(org(1), LeafIndex(3)).await.unwrap();
    let proof: InclusionProof = leaf.proof.parse().unwrap();
    let note = proof.checkpoint.with_lines(&line).unwrap();
    let check = |checkpoint: Note, witnesses: &[NoteVerifier]| {
        let proof = InclusionProof {
            checkpoint,
            ..proof.clone()
        };
        check_proof(&proof.to_string(), &leaf.bytes, &own, witnesses, 0)
            .map(|proven| proven.cosigned_by.len())
            .map_err(|error| error.code())
    };
    let (first, second) = ([first_key], [second_key]);
    let bad = Err("note_bad_signature");
    assert_eq!(check(note.clone(), &first), Ok(1));
    for checkpoint in with_changed(&note, 0) {
        assert_eq!(check(checkpoint, &[]), bad);
    }
    // The log's other key is not known here.
    for checkpoint in with_changed(&note, 1) {
        assert_eq!(check(checkpoint, &first), Ok(1));
    }
    for checkpoint in with_changed(&note, 2) {
        assert_eq!(check(checkpoint.clone(), &first), bad);
        assert_eq!(check(checkpoint, &second), Ok(0));
    }
}

#[tokio::test]
async fn a_bad_line_of_a_known_key_raises_an_alarm() {
    let world = World::new();
    let own = key(&world).await;
    let files = grown(&world, 7).await;
    let (witness, cosigner) = witness(1, &own);
    let asked = request(&world.open().await.unwrap(), 0).await;
    let line = witness.add_checkpoint(&asked.to_string()).await.unwrap();
    let note = asked.checkpoint.with_lines(&line).unwrap();
    let cosigners = Cosigners::new(vec![cosigner], None).unwrap();
    let look = |note: &Note, without: Option<&str>| {
        let mut files = files.clone();
        files.0.insert("checkpoint".to_owned(), note.encode());
        without.map(|path| files.0.remove(path).unwrap());
        let mut memory = Memory::default();
        let watch = Watch::new(&files, Some(&own), false, &cosigners, Patience::default());
        let looked = watch.look(&mut memory, &at("a", 0));
        let untouched = serde_json::to_string(&Memory::default()).unwrap();
        let touched = serde_json::to_string(&memory).unwrap() != untouched;
        (looked.map(|looked| looked.cosigned_by.len()), touched)
    };
    assert!(matches!(look(&note, None), (Ok(1), true)));
    for note in with_changed(&note, 1) {
        assert!(matches!(look(&note, None), (Ok(1), true)));
    }
    for (place, without) in [(0, None), (2, None), (2, Some("tile/0/000.p/7"))] {
        for note in with_changed(&note, place) {
            let (looked, touched) = look(&note, without);
            assert_eq!(alarm(looked).kind, AlarmKind::BadSignature);
            assert!(!touched, "nothing of it is remembered");
        }
    }
}

#[tokio::test]
async fn a_good_line_that_is_repeated_is_one_line() {
    let world = World::new();
    let own = key(&world).await;
    let note = Note::parse(&grown(&world, 7).await.0["checkpoint"]).unwrap();
    let again = format!("{}\n", note.signatures()[0]).repeat(20);
    assert!(own.verifies(&note.with_lines(&again).unwrap()));
    for note in with_changed(&note, 0) {
        assert!(!own.verifies(&note));
    }
}
