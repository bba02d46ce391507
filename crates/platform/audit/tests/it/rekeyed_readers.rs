//! Readers and witnesses of a log whose keys are replaced: each knows one pair.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use creto_audit::conformance::org;
use creto_audit::{
    AlarmKind, AskedWitness, LogReader as _, Monitor, NoteVerifier, TileStore as _, WitnessAnswer,
    WitnessClient, check_proof,
};
use creto_errors::Classify as _;
use creto_tlog::{Checkpoint, Hash, Note};
use creto_types::LeafIndex;

use crate::World;
use crate::monitors::{Files, alarm, files};
use crate::rekeys::{pair, replaced, retired};
use crate::watches::{Follower, at, witness};
use crate::witnesses::{Memory, Near, public_when, request};

#[tokio::test]
async fn a_proof_of_the_overlap_is_checked_with_either_pair() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 9).await;
    let proved = || audit.prove(org(1), LeafIndex(7));
    let before = proved().await.unwrap();
    let [old, new] = replaced(&world, &audit).await;
    let between = proved().await.unwrap();
    retired(&world, &audit).await;
    let after = proved().await.unwrap();
    let holds = |leaf: &creto_audit::LeafProof, key: &NoteVerifier| match check_proof(
        &leaf.proof,
        &leaf.bytes,
        key,
        &[],
        0,
    ) {
        Ok(proven) => {
            assert_eq!((proven.index, proven.size), (7, 9));
            true
        }
        Err(error) => {
            assert_eq!(error.code(), "proof_not_signed");
            false
        }
    };
    for (old, new) in old.iter().zip(&new) {
        assert_eq!(
            [&before, &between, &after].map(|p| holds(p, old)),
            [true, true, false]
        );
        assert_eq!(
            [&before, &between, &after].map(|p| holds(p, new)),
            [false, true, true]
        );
    }
}

/// The files of the log before, during and after an overlap, with leaves in each.
async fn three_times(world: &World) -> ([Files; 3], [NoteVerifier; 2], [NoteVerifier; 2]) {
    let audit = world.open().await.unwrap();
    world.commit(org(1), 5).await;
    audit.checkpoint(org(1)).await.unwrap();
    let before = files(world).await;
    let [old, new] = replaced(world, &audit).await;
    world.commit(org(1), 300).await;
    audit.checkpoint(org(1)).await.unwrap();
    let between = files(world).await;
    retired(world, &audit).await;
    world.commit(org(1), 2).await;
    audit.checkpoint(org(1)).await.unwrap();
    ([before, between, files(world).await], old, new)
}

#[tokio::test]
async fn a_monitor_follows_with_the_old_key_and_then_with_the_new_one() {
    let world = World::new();
    let ([before, between, after], old, new) = three_times(&world).await;
    for (old, new) in old.iter().zip(&new) {
        let look = |files: &Files, key, seen| Monitor::new(files, Some(key), true).look(seen);
        let (_, early) = look(&before, old, None).unwrap();
        let (observation, seen) = look(&between, old, Some(&early)).unwrap();
        assert_eq!((observation.before, observation.size), (5, 305));
        // What is remembered of the overlap is believed by either key.
        for key in [old, new] {
            assert_eq!(look(&between, key, Some(&seen)).unwrap().0.before, 305);
        }
        let (observation, seen) = look(&after, new, Some(&seen)).unwrap();
        assert_eq!((observation.before, observation.size), (305, 307));
        assert!(look(&after, new, Some(&seen)).is_ok());
        // Who begins within the overlap needs the new key alone.
        assert!(look(&between, new, None).is_ok());

        // Who kept the old key for too long, and who changed it too early.
        let found = alarm(look(&after, old, Some(&early)));
        assert_eq!(found.kind, AlarmKind::BadSignature);
        let early = look(&between, new, Some(&early)).unwrap_err();
        assert_eq!(early.code(), "watch_other_log");
    }
}

#[tokio::test]
async fn a_watch_goes_on_with_the_new_key_from_the_memory_of_the_overlap() {
    let world = World::new();
    let ([before, between, after], old, new) = three_times(&world).await;
    for (old, new) in old.iter().zip(&new) {
        let mut follower = Follower::new(old);
        follower.look(&before, &at("a", 0)).unwrap();
        follower.look(&between, &at("a", 1)).unwrap();
        follower.key = new.clone();
        let looked = follower.look(&after, &at("a", 2)).unwrap();
        assert_eq!(looked.observation.before, 305);
        assert_eq!(looked.observation.size, 307);
    }
}

/// The tree is the same one, and the memory takes the lines of both pairs all the same.
#[tokio::test]
async fn an_overlap_without_a_leaf_is_remembered_too() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 5).await;
    audit.checkpoint(org(1)).await.unwrap();
    let mut follower = Follower::new(&pair(&audit)[0]);
    follower.look(&files(&world).await, &at("a", 0)).unwrap();
    let [_, new] = replaced(&world, &audit).await;
    follower.look(&files(&world).await, &at("a", 1)).unwrap();
    retired(&world, &audit).await;
    follower.key = new[1].clone();
    let looked = follower.look(&files(&world).await, &at("a", 2)).unwrap();
    assert_eq!((looked.observation.before, looked.observation.size), (5, 5));
}

#[tokio::test]
async fn a_witness_that_knows_one_pair_cosigns_in_the_overlap() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 5).await;
    let old = pair(&audit);
    let (first, cosigned_by) = witness(1, &old[0]);
    let early = request(&audit, 0).await;
    first.add_checkpoint(&early.to_string()).await.unwrap();
    let [_, new] = replaced(&world, &audit).await;
    let (second, _) = witness(2, &new[1]);
    world.commit(org(1), 300).await;
    for (witness, size) in [(&first, 5), (&second, 0)] {
        let request = request(&audit, size).await;
        assert_eq!(request.checkpoint.signatures().len(), 4);
        let lines = witness.add_checkpoint(&request.to_string()).await.unwrap();
        let cosigned = request.checkpoint.with_lines(&lines).unwrap();
        assert_eq!(cosigned.signatures().len(), 5);
        assert_eq!(cosigned_by.verifies(&cosigned), size == 5);
    }
    retired(&world, &audit).await;
    let late = request(&audit, 305).await;
    assert!(second.add_checkpoint(&late.to_string()).await.is_ok());
    let error = first.add_checkpoint(&late.to_string()).await.unwrap_err();
    assert_eq!(error.code(), "witness_not_signed");
}

fn verifies(note: &Note, pair: &[NoteVerifier; 2]) -> bool {
    pair.iter().all(|key| key.verifies(note))
}

async fn witnessed(world: &World) -> Note {
    let bytes = world.tiles.get(org(1), "witnessed").await.unwrap().unwrap();
    Note::parse(&bytes).unwrap()
}

async fn witnessed_when(world: &World, good: impl Fn(&Note) -> bool) -> Note {
    let wait = async {
        loop {
            let note = witnessed(world).await;
            if good(&note) {
                return note;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap()
}

/// A cosignature is over the text, which stays: nobody is asked for it again.
#[tokio::test]
async fn cosignatures_stay_when_the_log_signs_anew() {
    for quorum in [0, 1] {
        let world = World::new();
        let audit = world.open().await.unwrap();
        world.commit(org(1), 5).await;
        let keys = audit.verifier_keys(org(1)).unwrap();
        let near = Near::new(&Arc::new(Memory::default()), 1, &keys);
        let cosigner = near.asked().key;
        audit.ask_witnesses(vec![near.asked()], quorum);
        audit.notify(org(1));
        public_when(&audit, |note, _| cosigner.verifies(note)).await;
        near.away.store(true, Ordering::SeqCst);

        let [old, new] = replaced(&world, &audit).await;
        for (pairs, lines) in [(vec![&new, &old], 5), (vec![&new], 3)] {
            // At once, and in the file soon.
            let shown = audit.public_checkpoint(org(1)).await.unwrap().unwrap();
            let head = audit.checkpoint(org(1)).await.unwrap();
            let leaf = audit.prove(org(1), LeafIndex(0)).await.unwrap();
            for note in [&shown, &head.note, &leaf.checkpoint] {
                let note = Note::parse(note).unwrap();
                assert_eq!(note.signatures().len(), lines, "{note}");
                assert!(cosigner.verifies(&note));
                assert!(pairs.iter().all(|pair| verifies(&note, pair)));
            }
            let stays = |note: &Note| {
                note.signatures().len() == lines && cosigner.verifies(note) && verifies(note, &new)
            };
            witnessed_when(&world, stays).await;
            if lines == 5 {
                retired(&world, &audit).await;
            }
        }
        // The log's own file has its own lines.
        let own = audit.resource(org(1), "checkpoint").await.unwrap().unwrap();
        assert_eq!(Note::parse(&own).unwrap().signatures().len(), 2);
    }
}

/// A witness that never answers.
struct Silent;

#[async_trait]
impl WitnessClient for Silent {
    async fn add_checkpoint(&self, _: String) -> Result<WitnessAnswer, String> {
        std::future::pending().await
    }
}

/// Neither in the file nor in what readers are shown, which with a quorum is an older tree.
#[tokio::test]
async fn a_witness_that_is_slow_does_not_hold_the_new_lines_back() {
    for (quorum, leaves) in [(0, 0), (1, 0), (1, 1)] {
        let world = World::new();
        let audit = world.open().await.unwrap();
        world.commit(org(1), 5).await;
        let keys = audit.verifier_keys(org(1)).unwrap();
        let near = Near::new(&Arc::new(Memory::default()), 1, &keys);
        let cosigner = near.asked().key;
        let (_, key) = witness(2, &pair(&audit)[0]);
        let silent = AskedWitness {
            key,
            client: Arc::new(Silent),
        };
        audit.ask_witnesses(vec![near.asked(), silent], quorum);
        audit.notify(org(1));
        public_when(&audit, |note, _| cosigner.verifies(note)).await;
        // The silent one is waited for by now.
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.commit(org(1), leaves).await;
        let [old, new] = replaced(&world, &audit).await;
        assert_eq!(witnessed(&world).await.signatures().len(), 5);
        let shown = audit.public_checkpoint(org(1)).await.unwrap().unwrap();
        let shown = Note::parse(&shown).unwrap();
        assert!(verifies(&shown, &old) && verifies(&shown, &new));
        assert!(cosigner.verifies(&shown));
    }
}

/// With a quorum strangers may be shown an older tree for long: with the keys of now.
#[tokio::test]
async fn what_a_quorum_holds_back_is_signed_anew_too() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 5).await;
    let keys = audit.verifier_keys(org(1)).unwrap();
    let near = Near::new(&Arc::new(Memory::default()), 1, &keys);
    let cosigner = near.asked().key;
    audit.ask_witnesses(vec![near.asked()], 1);
    audit.notify(org(1));
    public_when(&audit, |note, _| cosigner.verifies(note)).await;
    near.away.store(true, Ordering::SeqCst);
    world.commit(org(1), 300).await;
    audit.checkpoint(org(1)).await.unwrap();

    let [old, new] = replaced(&world, &audit).await;
    let both = |note: &Note, head: &Checkpoint| {
        head.size == 5 && verifies(note, &old) && verifies(note, &new)
    };
    let note = public_when(&audit, both).await;
    assert!(cosigner.verifies(&note));
    // A process that ends before it is told.
    drop(audit);
    world.keys.retire(org(1));
    let audit = world.open().await.unwrap();
    audit.ask_witnesses(vec![near.asked()], 1);
    let alone = |note: &Note, head: &Checkpoint| {
        head.size == 5 && !verifies(note, &old) && verifies(note, &new)
    };
    let note = public_when(&audit, alone).await;
    assert!(cosigner.verifies(&note));
    assert_eq!(note.signatures().len(), 3);
}

/// Somebody put a tree into the file that the log never had, signed by a key that was lost.
#[tokio::test]
async fn another_tree_is_not_signed_with_new_keys() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 305).await;
    audit.checkpoint(org(1)).await.unwrap();
    let memory = Arc::new(Memory::default());
    let near = Near::new(&memory, 1, &audit.verifier_keys(org(1)).unwrap());
    near.away.store(true, Ordering::SeqCst);
    let [old, new] = replaced(&world, &audit).await;
    let own: Checkpoint = Note::parse(&files(&world).await.get("checkpoint").unwrap().unwrap())
        .unwrap()
        .text()
        .parse()
        .unwrap();
    for size in [0, 5, 305, 400] {
        let other = Checkpoint::new(own.origin.clone(), size, Hash::from_bytes([3; 32]));
        let forged = Note::new(&other.to_string()).unwrap();
        let line = format!("\u{2014} {} {}\n", own.origin, "AAAABBBB");
        let forged = format!("{forged}{line}").into_bytes();
        world
            .tiles
            .tamper(org(1), "witnessed", |file| *file = Some(forged.clone()));
        let before = near.asked.load(Ordering::SeqCst);
        let audit = world.open().await.unwrap();
        audit.ask_witnesses(vec![near.asked()], 1);
        // The witness is asked after the file was looked at.
        while near.asked.load(Ordering::SeqCst) == before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let note = witnessed(&world).await;
        assert_eq!(note.encode(), forged);
        assert!(!verifies(&note, &new) && !verifies(&note, &old));
    }
}
