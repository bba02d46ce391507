//! The keys of a live log are replaced, with an overlap, over restarts and failures.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use creto_audit::conformance::org;
use creto_audit::{
    Audit, Checkpointed, FormerLogKeys, LogKeySource as _, LogKeys, NoteVerifier, TileStore as _,
};
use creto_tlog::{Checkpoint, Note};
use creto_types::LeafIndex;

use crate::World;
use crate::bundle::{verify, verify_as, whole};
use crate::log::{CORRUPT, code, expect_whole, root_of};
use crate::monitors::files;

/// Two verifier keys: of one pair.
pub(crate) type Pair = [NoteVerifier; 2];

/// The pair in force. Asks the source and not the log.
pub(crate) fn pair(audit: &Audit) -> Pair {
    let keys = audit.verifier_keys(org(1)).unwrap();
    keys.map(|key| NoteVerifier::parse(&key).unwrap())
}

/// Replaces the keys and takes the new ones into use. Gives both pairs, the old one first.
pub(crate) async fn replaced(world: &World, audit: &Audit) -> [Pair; 2] {
    let old = pair(audit);
    world.keys.replace(org(1));
    audit.rekey(org(1)).await.unwrap();
    [old, pair(audit)]
}

pub(crate) async fn retired(world: &World, audit: &Audit) {
    world.keys.retire(org(1));
    audit.rekey(org(1)).await.unwrap();
}

/// That the note has one good line of each of these keys in this order, and no other.
fn expect_lines(note: &[u8], pairs: &[&Pair]) {
    let note = Note::parse(note).unwrap();
    let keys: Vec<&NoteVerifier> = pairs.iter().flat_map(|pair| pair.iter()).collect();
    assert_eq!(note.signatures().len(), keys.len(), "{note}");
    for (key, line) in keys.into_iter().zip(note.signatures()) {
        let mut alone = Note::new(note.text()).unwrap();
        alone.add_line(line.clone());
        assert!(key.verifies(&alone), "{note}");
    }
}

async fn stored(world: &World) -> Vec<u8> {
    let note = world.tiles.get(org(1), "checkpoint").await.unwrap();
    note.unwrap()
}

/// What is published is what the log says it is, covers everything, and has these lines.
async fn expect_published(world: &World, head: &Checkpointed, pairs: &[&Pair]) {
    expect_whole(world, org(1), head).await;
    assert_eq!(stored(world).await, head.note);
    expect_lines(&head.note, pairs);
}

/// A world with a log of 300 leaves.
async fn grown() -> (World, Arc<Audit>) {
    let world = World::new();
    world.commit(org(1), 300).await;
    let audit = world.open().await.unwrap();
    (world, audit)
}

#[tokio::test]
async fn keys_are_replaced_with_an_overlap_while_the_log_grows() {
    let (world, audit) = grown().await;
    let old = pair(&audit);
    let before = audit.checkpoint(org(1)).await.unwrap();
    expect_published(&world, &before, &[&old]).await;

    // Until it is told, the log goes on with the keys that it has.
    world.keys.replace(org(1));
    let new = pair(&audit);
    assert_ne!(new[0].to_string(), old[0].to_string());
    world.commit(org(1), 1).await;
    let untold = audit.checkpoint(org(1)).await.unwrap();
    expect_published(&world, &untold, &[&old]).await;

    let told = audit.rekey(org(1)).await.unwrap();
    assert_eq!((told.size, told.root), (untold.size, untold.root));
    expect_published(&world, &told, &[&new, &old]).await;
    // There is nothing to do a second time.
    assert_eq!(audit.rekey(org(1)).await.unwrap(), told);
    assert_eq!(audit.checkpoint(org(1)).await.unwrap(), told);

    world.commit(org(1), 250).await;
    let between = audit.checkpoint(org(1)).await.unwrap();
    expect_published(&world, &between, &[&new, &old]).await;

    // Leaves that are new are covered too.
    world.commit(org(1), 1).await;
    world.keys.retire(org(1));
    let alone = audit.rekey(org(1)).await.unwrap();
    expect_published(&world, &alone, &[&new]).await;
    world.commit(org(1), 300).await;
    let after = audit.checkpoint(org(1)).await.unwrap();
    expect_published(&world, &after, &[&new]).await;

    let heads = [before, untold, told, between, alone, after];
    for pair in heads.windows(2) {
        let [from, to] = [&pair[0], &pair[1]];
        let proof = audit.consistency(org(1), from.size, Some(to.size)).await;
        let proof = proof.unwrap();
        assert_eq!(*proof.from_root.as_bytes(), from.root);
        assert_eq!(*proof.to_root.as_bytes(), to.root);
    }
}

/// A log without leaves has keys as well, and a log that nobody has opened.
#[tokio::test]
async fn a_log_that_is_empty_or_closed_is_signed_anew() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    let empty = audit.checkpoint(org(1)).await.unwrap();
    let [old, new] = replaced(&world, &audit).await;
    expect_lines(&empty.note, &[&old]);
    let again = audit.checkpoint(org(1)).await.unwrap();
    assert_eq!(again.size, 0);
    expect_published(&world, &again, &[&new, &old]).await;

    // No leaf of it makes the next process open it.
    drop(audit);
    world.keys.retire(org(1));
    let audit = world.open().await.unwrap();
    expect_lines(&stored(&world).await, &[&new, &old]);
    let head = audit.rekey(org(1)).await.unwrap();
    expect_published(&world, &head, &[&new]).await;
}

#[tokio::test]
async fn nothing_but_the_checkpoint_is_written() {
    let (world, audit) = grown().await;
    let mut before = files(&world).await;
    world.keys.replace(org(1));
    // A second write would fail.
    world.tiles.fail_puts(1, 1, false);
    audit.rekey(org(1)).await.unwrap();
    let mut after = files(&world).await;
    assert_ne!(before.0.remove("checkpoint"), after.0.remove("checkpoint"));
    assert_eq!(before.0, after.0);
    // It is still to come.
    world.commit(org(1), 1).await;
    assert!(audit.checkpoint(org(1)).await.is_err());
}

#[tokio::test]
async fn one_key_of_a_pair_may_be_replaced_alone() {
    let (world, audit) = grown().await;
    let old = pair(&audit);
    let before = world.keys.keys(org(1)).unwrap();
    world.keys.replace(org(1));
    let keys = LogKeys {
        ed25519: before.ed25519,
        ..world.keys.keys(org(1)).unwrap()
    };
    world.keys.set(org(1), keys);
    for _ in 0..2 {
        let new = pair(&audit);
        let head = audit.rekey(org(1)).await.unwrap();
        let note = Note::parse(&head.note).unwrap();
        assert_eq!(note.signatures().len(), 3, "no key has two lines");
        for key in old.iter().chain(&new) {
            assert!(key.verifies(&note));
        }
        world.open().await.unwrap();
    }
}

/// Each way from one state of the keys to the next, with a process that ends there.
#[tokio::test]
async fn a_restart_at_any_point_goes_on() {
    for more in [0, 3] {
        // Changed, and the process ends before it is told.
        let (world, audit) = grown().await;
        let old = pair(&audit);
        drop(audit);
        world.keys.replace(org(1));
        world.commit(org(1), more).await;
        expect_lines(&stored(&world).await, &[&old]);
        let audit = world.open().await.unwrap();
        let new = pair(&audit);
        // Opening is enough.
        expect_lines(&stored(&world).await, &[&new, &old]);
        let head = audit.checkpoint(org(1)).await.unwrap();
        expect_published(&world, &head, &[&new, &old]).await;

        // Within the overlap nothing is to be signed anew.
        drop(audit);
        let before = stored(&world).await;
        let audit = world.open().await.unwrap();
        assert_eq!(stored(&world).await, before);
        drop(audit);
        world.commit(org(1), more).await;
        let audit = world.open().await.unwrap();
        let head = audit.checkpoint(org(1)).await.unwrap();
        expect_published(&world, &head, &[&new, &old]).await;

        // Retired, and the process ends before it is told.
        drop(audit);
        world.keys.retire(org(1));
        world.commit(org(1), more).await;
        let audit = world.open().await.unwrap();
        let head = audit.checkpoint(org(1)).await.unwrap();
        expect_published(&world, &head, &[&new]).await;

        // Retired and told.
        drop(audit);
        let before = stored(&world).await;
        let audit = world.open().await.unwrap();
        assert_eq!(stored(&world).await, before);
        world.commit(org(1), 1).await;
        let head = audit.checkpoint(org(1)).await.unwrap();
        expect_published(&world, &head, &[&new]).await;
    }
}

/// The one write fails, applied or not: the same process goes on, and the next one.
#[tokio::test]
async fn a_failure_of_the_write_is_made_good() {
    for applied in [false, true] {
        for restart in [false, true] {
            let (world, mut audit) = grown().await;
            let old = pair(&audit);
            world.keys.replace(org(1));
            let new = pair(&audit);
            world.tiles.fail_puts(0, 1, applied);
            assert!(audit.rekey(org(1)).await.is_err());
            let written: &[&Pair] = if applied { &[&new, &old] } else { &[&old] };
            expect_lines(&stored(&world).await, written);
            if restart {
                audit = world.open().await.unwrap();
            }
            // Also without being told again.
            let head = audit.checkpoint(org(1)).await.unwrap();
            expect_published(&world, &head, &[&new, &old]).await;
        }
    }
}

#[tokio::test]
async fn keys_that_cannot_be_had_leave_the_log_as_it_was() {
    let (world, audit) = grown().await;
    let old = pair(&audit);
    let before = audit.checkpoint(org(1)).await.unwrap();
    world.keys.replace(org(1));
    world.keys.be_away(true);
    let failed = audit.rekey(org(1)).await;
    assert_eq!(code(failed).0, "log_keys_unavailable");
    assert_eq!(audit.checkpoint(org(1)).await.unwrap(), before);
    world.commit(org(1), 5).await;
    let head = audit.checkpoint(org(1)).await.unwrap();
    expect_published(&world, &head, &[&old]).await;

    // Neither does a key of another algorithm.
    world.keys.be_away(false);
    let good = world.keys.keys(org(1)).unwrap();
    let former = good.former.clone().unwrap();
    let bad = [
        LogKeys {
            ed25519: good.composite.clone(),
            ..good.clone()
        },
        LogKeys {
            former: Some(FormerLogKeys {
                composite: former.ed25519.clone(),
                ..former
            }),
            ..good.clone()
        },
    ];
    for keys in bad {
        world.keys.set(org(1), keys);
        let failed = audit.rekey(org(1)).await;
        assert_eq!(code(failed).0, "log_key_wrong_algorithm");
        assert_eq!(audit.checkpoint(org(1)).await.unwrap(), head);
    }
    world.keys.set(org(1), good);
    let new = pair(&audit);
    let head = audit.rekey(org(1)).await.unwrap();
    expect_published(&world, &head, &[&new, &old]).await;
}

/// Puts a checkpoint of the same text with these lines of it in the place of the stored one.
fn with_lines(world: &World, places: &[usize], change: impl Fn(usize, &mut Vec<u8>)) {
    world.tiles.tamper(org(1), "checkpoint", |file| {
        let stored = Note::parse(file.as_ref().unwrap()).unwrap();
        let mut note = Note::new(stored.text()).unwrap();
        for place in places {
            let mut line = stored.signatures()[*place].clone();
            change(*place, &mut line.signature);
            note.add_line(line);
        }
        *file = Some(format!("{note}").into_bytes());
    });
}

#[tokio::test]
async fn a_line_of_a_known_key_has_to_hold() {
    for changed in 0..4 {
        let flip = |place, signature: &mut Vec<u8>| {
            if place == changed {
                *signature.last_mut().unwrap() ^= 1;
            }
        };
        let (world, audit) = grown().await;
        let [_, new] = replaced(&world, &audit).await;
        drop(audit);
        let good = stored(&world).await;
        with_lines(&world, &[0, 1, 2, 3], flip);
        assert_eq!(code(world.open().await), CORRUPT, "line {changed}");
        // The key of a line that is not known any more can say nothing.
        world.keys.retire(org(1));
        if changed < 2 {
            assert_eq!(code(world.open().await), CORRUPT, "line {changed}");
        } else {
            world.open().await.unwrap();
            assert_ne!(stored(&world).await, good);
            expect_lines(&stored(&world).await, &[&new]);
        }
    }
}

/// Lines of the checkpoint of an overlap: two of the pair in force, two of the former one.
#[tokio::test]
async fn a_stored_checkpoint_is_believed_by_a_whole_pair() {
    let refused: [&[usize]; 8] = [&[0], &[1], &[2], &[3], &[0, 3], &[1, 2], &[0, 2], &[1, 3]];
    for places in refused {
        let (world, audit) = grown().await;
        replaced(&world, &audit).await;
        drop(audit);
        with_lines(&world, places, |_, _| ());
        let before = stored(&world).await;
        assert_eq!(code(world.open().await), CORRUPT, "{places:?}");
        assert_eq!(stored(&world).await, before);
    }
    let accepted: [&[usize]; 5] = [&[0, 1], &[2, 3], &[0, 1, 3], &[3, 2, 1, 0], &[2, 3, 0]];
    for places in accepted {
        let (world, audit) = grown().await;
        let [old, new] = replaced(&world, &audit).await;
        drop(audit);
        with_lines(&world, places, |_, _| ());
        world.open().await.unwrap();
        // And has all lines again, in their order.
        expect_lines(&stored(&world).await, &[&new, &old]);
    }
    // The former pair alone counts no more once it is retired.
    let (world, audit) = grown().await;
    replaced(&world, &audit).await;
    drop(audit);
    with_lines(&world, &[2, 3], |_, _| ());
    world.keys.retire(org(1));
    assert_eq!(code(world.open().await), CORRUPT);
}

/// A checkpoint that was signed anew is held against the journal as any other.
#[tokio::test]
async fn another_history_is_refused_in_the_overlap_too() {
    let (world, audit) = grown().await;
    replaced(&world, &audit).await;
    drop(audit);
    world.journal.tamper(org(1), |log| log.truncate(299));
    assert_eq!(code(world.open().await), CORRUPT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_appends_notices() {
    let (world, audit) = grown().await;
    let done = Arc::new(AtomicBool::new(false));
    let steps = Arc::new(AtomicUsize::new(0));
    let appenders: Vec<_> = (0..4)
        .map(|_| {
            let (world, audit) = (world.clone(), audit.clone());
            let (done, steps) = (done.clone(), steps.clone());
            tokio::spawn(async move {
                let (mut last, mut seen) = (0, BTreeSet::new());
                while !done.load(Ordering::SeqCst) {
                    world.commit(org(1), 2).await;
                    audit.notify(org(1));
                    let head = audit.checkpoint(org(1)).await.unwrap();
                    assert!(head.size >= last + 2);
                    assert_eq!(head.root, root_of(&world, org(1), head.size).await);
                    audit.prove(org(1), LeafIndex(head.size - 1)).await.unwrap();
                    seen.insert(Note::parse(&head.note).unwrap().signatures().len());
                    last = head.size;
                    steps.fetch_add(1, Ordering::SeqCst);
                }
                seen
            })
        })
        .collect();
    let mut size = 0;
    for _ in 0..3 {
        for change in [crate::Keys::replace, crate::Keys::retire] {
            change(&world.keys, org(1));
            // Two at once: neither puts older keys back.
            let (one, two) = tokio::join!(audit.rekey(org(1)), audit.rekey(org(1)));
            for head in [one.unwrap(), two.unwrap()] {
                assert!(head.size >= size);
                size = head.size;
            }
            let overlap = world.keys.keys(org(1)).unwrap().former.is_some();
            let note = Note::parse(&stored(&world).await).unwrap();
            assert_eq!(note.signatures().len(), if overlap { 4 } else { 2 });
            for key in pair(&audit) {
                assert!(key.verifies(&note));
            }
            // One of them at least begins a step and ends it with these keys.
            let until = steps.load(Ordering::SeqCst) + 9;
            while steps.load(Ordering::SeqCst) < until {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    done.store(true, Ordering::SeqCst);
    let mut seen = BTreeSet::new();
    for appender in appenders {
        seen.extend(appender.await.unwrap());
    }
    assert_eq!(seen, BTreeSet::from([2, 4]), "some fell into an overlap");
    let head = audit.checkpoint(org(1)).await.unwrap();
    expect_published(&world, &head, &[&pair(&audit)]).await;
    world.open().await.unwrap();
}

/// A bundle has one pair of keys, whatever the log is signed with.
#[tokio::test]
async fn a_bundle_has_the_lines_of_the_pair_in_force_alone() {
    let (world, audit) = grown().await;
    let export = || whole(&audit, Vec::new());
    let old = pair(&audit);
    let files = export().await.unwrap();
    expect_lines(&files["checkpoint"], &[&old]);
    let pinned = creto_crypto::sha256(&files["keys.json"]);

    // Not told yet: what is in force is in the bundle, and published with it.
    world.keys.replace(org(1));
    let new = pair(&audit);
    for told in [false, true] {
        if told {
            audit.rekey(org(1)).await.unwrap();
        }
        let files = export().await.unwrap();
        expect_lines(&stored(&world).await, &[&new, &old]);
        expect_lines(&files["checkpoint"], &[&new]);
        let report = verify(&files).unwrap();
        assert_eq!(report.size, 300);
        let text = str::from_utf8(&files["keys.json"]).unwrap();
        for (new, old) in new.iter().zip(&old) {
            assert!(text.contains(&new.to_string()) && !text.contains(&old.to_string()));
        }
        let trust = creto_audit::Trust::Pinned(pinned.to_vec());
        let findings = verify_as(&files, &trust).unwrap_err();
        assert_eq!(findings[0].place, "keys.json");
        // With all lines of the log it would be refused.
        let mut all = files.clone();
        all.insert("checkpoint".to_owned(), stored(&world).await);
        assert!(verify(&all).is_err());
    }
    world.commit(org(1), 1).await;
    world.keys.retire(org(1));
    let files = export().await.unwrap();
    expect_lines(&files["checkpoint"], &[&new]);
    expect_lines(&stored(&world).await, &[&new]);
    assert_eq!(verify(&files).unwrap().size, 301);
    let head: Checkpoint = Note::parse(&stored(&world).await)
        .unwrap()
        .text()
        .parse()
        .unwrap();
    assert_eq!(head.size, 301);
}

/// What cannot be published with the pair in force is not exported either.
#[tokio::test]
async fn a_bundle_without_the_lines_it_needs_is_not_made() {
    let (world, audit) = grown().await;
    world.keys.replace(org(1));
    world.tiles.fail_puts(0, 1, false);
    assert!(whole(&audit, Vec::new()).await.is_err());
    let files = whole(&audit, Vec::new()).await.unwrap();
    verify(&files).unwrap();
}
