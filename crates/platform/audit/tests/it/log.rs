//! From the journal to proofs, over failures, restarts and contradictions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use creto_audit::conformance::{org, record};
use creto_audit::memory::MemoryJournal;
use creto_audit::{
    Audit, AuditConfig, AuditError, Checkpointed, Journal, LogKeySource as _, RecordClass,
    StoredRecord,
};
use creto_crypto::{Signature, SignatureAlgorithm, sha256};
use creto_errors::{Class, Classify as _};
use creto_tlog::{
    Checkpoint, Frontier, Hash, Hasher, InclusionProof, Note, NoteKey, verify_inclusion,
};
use creto_types::{Evidence, LeafIndex, OrgId, StoreError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::{World, config};

const HASHER: Hasher = Hasher::new(sha256);

/// The root that the journal leads to.
pub(crate) async fn root_of(world: &World, org: OrgId, size: u64) -> [u8; 32] {
    let mut frontier = Frontier::new(HASHER);
    for leaf in world.journal.read(org, 0, size as usize).await.unwrap() {
        frontier.push(HASHER.leaf(&leaf));
    }
    assert_eq!(frontier.size(), size);
    *frontier.root().as_bytes()
}

pub(crate) async fn expect_whole(world: &World, org: OrgId, head: &Checkpointed) {
    let size = world.journal.size(org).await.unwrap();
    assert_eq!(head.size, size);
    assert_eq!(head.root, root_of(world, org, size).await);
}

pub(crate) fn code(result: Result<impl Sized, AuditError>) -> (&'static str, Class) {
    match result {
        Ok(_) => panic!("this must fail"),
        Err(error) => (error.code(), error.class()),
    }
}

pub(crate) const CORRUPT: (&str, Class) = ("log_corrupt", Class::Security);

#[tokio::test]
async fn every_leaf_is_proved_to_a_stranger() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 300).await;
    world.commit(org(2), 1).await;
    let head = audit.checkpoint(org(1)).await.unwrap();
    expect_whole(&world, org(1), &head).await;
    let keys = world.keys.keys(org(1)).unwrap();
    let origin = format!("creto.example/log/{}", org(1));
    for index in [0, 1, 255, 256, 299] {
        let leaf = audit.prove(org(1), LeafIndex(index)).await.unwrap();
        let proof: InclusionProof = leaf.proof.parse().unwrap();
        assert_eq!(proof.checkpoint.encode(), leaf.checkpoint);
        let text = proof.checkpoint.text();
        let plain = keys.ed25519.verifying_key();
        let note_key =
            NoteKey::ed25519(HASHER, &origin, plain.as_bytes().try_into().unwrap()).unwrap();
        let line = &proof.checkpoint.signatures()[0];
        assert_eq!(
            (line.name.as_str(), line.key_id),
            (note_key.name(), note_key.id())
        );
        let signature =
            Signature::from_bytes(SignatureAlgorithm::Ed25519, &line.signature).unwrap();
        plain.verify(b"", text.as_bytes(), &signature).unwrap();
        assert_eq!(proof.checkpoint.signatures().len(), 2);
        let checkpoint: Checkpoint = text.parse().unwrap();
        assert_eq!(checkpoint.origin, origin);
        let hash = HASHER.leaf(&leaf.bytes);
        verify_inclusion(
            HASHER,
            &hash,
            index,
            checkpoint.size,
            &proof.hashes,
            &checkpoint.root,
        )
        .unwrap();
    }
    let missing = audit.prove(org(1), LeafIndex(300)).await;
    assert_eq!(code(missing).0, "unknown_leaf");
    let other = audit.prove(org(2), LeafIndex(1)).await;
    assert_eq!(code(other).0, "unknown_leaf");
}

#[tokio::test]
async fn what_was_committed_is_published_in_the_background() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    for round in 1..=3_u64 {
        world.commit(org(1), 2).await;
        audit.notify(org(1));
        loop {
            let note = audit.resource(org(1), "checkpoint").await.unwrap();
            let size = note.map_or(0, |note| {
                let note = Note::parse(&note).unwrap();
                note.text().parse::<Checkpoint>().unwrap().size
            });
            if size == 2 * round {
                break;
            }
            assert!(size < 2 * round);
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}

/// However long trace records may wait.
#[tokio::test]
async fn evidence_does_not_wait_for_trace_records() {
    let world = World::new();
    let slow = AuditConfig {
        flush_interval: Duration::from_secs(3_600),
        ..config()
    };
    let audit = world.open_over(world.journal.clone(), slow).await.unwrap();
    world.commit(org(1), 3).await;
    audit.notify(org(1));
    let published = async {
        while audit.public_checkpoint(org(1)).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(60), published).await.unwrap();
}

/// A journal to which something is added each time it is read.
struct Growing(Arc<MemoryJournal>);

#[async_trait]
impl Journal for Growing {
    async fn append(
        &self,
        class: RecordClass,
        records: Vec<Evidence>,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        self.0.append(class, records).await
    }

    async fn read(&self, org: OrgId, from: u64, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let more = vec![record(org, 0)];
        self.0.append(RecordClass::Evidence, more).await?;
        self.0.read(org, from, max).await
    }

    async fn records(
        &self,
        org: OrgId,
        from: u64,
        max: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        self.0.records(org, from, max).await
    }

    async fn size(&self, org: OrgId) -> Result<u64, StoreError> {
        self.0.size(org).await
    }

    async fn organizations(&self) -> Result<Vec<OrgId>, StoreError> {
        self.0.organizations().await
    }
}

#[tokio::test]
async fn a_steady_stream_of_leaves_does_not_put_the_checkpoint_off() {
    let world = World::new();
    let journal = Arc::new(Growing(world.journal.clone()));
    let audit = world.open_over(journal, config()).await.unwrap();
    world.commit(org(1), 3).await;
    let publish = audit.checkpoint(org(1));
    let head = timeout(Duration::from_secs(60), publish)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(head.size, 3);
    assert_eq!(audit.checkpoint(org(1)).await.unwrap().size, 4);
}

/// A journal whose leaves from `stuck` on cannot be read until it is let to.
struct Stuck {
    inner: Arc<MemoryJournal>,
    stuck: u64,
    gate: Semaphore,
    waiting: AtomicBool,
}

#[async_trait]
impl Journal for Stuck {
    async fn append(
        &self,
        class: RecordClass,
        records: Vec<Evidence>,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        self.inner.append(class, records).await
    }

    async fn read(&self, org: OrgId, from: u64, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        if from >= self.stuck {
            self.waiting.store(true, Ordering::SeqCst);
            let _turn = self.gate.acquire().await.unwrap();
        }
        self.inner.read(org, from, max).await
    }

    async fn records(
        &self,
        org: OrgId,
        from: u64,
        max: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        self.inner.records(org, from, max).await
    }

    async fn size(&self, org: OrgId) -> Result<u64, StoreError> {
        self.inner.size(org).await
    }

    async fn organizations(&self) -> Result<Vec<OrgId>, StoreError> {
        self.inner.organizations().await
    }
}

/// The writer is in the middle of its work and cannot go on.
#[tokio::test]
async fn a_reader_of_what_is_published_never_waits_for_the_writer() {
    let world = World::new();
    world.commit(org(1), 300).await;
    let journal = Arc::new(Stuck {
        inner: world.journal.clone(),
        stuck: 300,
        gate: Semaphore::new(1),
        waiting: AtomicBool::new(false),
    });
    let audit = world.open_over(journal.clone(), config()).await.unwrap();
    world.commit(org(1), 9).await;
    journal.gate.acquire().await.unwrap().forget();
    journal.waiting.store(false, Ordering::SeqCst);
    audit.notify(org(1));
    let read = async {
        while !journal.waiting.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        audit.prove(org(1), LeafIndex(7)).await.unwrap();
        let proof = audit.consistency(org(1), 3, Some(300)).await.unwrap();
        assert_eq!(proof.to, 300);
        assert!(audit.public_checkpoint(org(1)).await.unwrap().is_some());
    };
    timeout(Duration::from_secs(60), read).await.unwrap();
    journal.gate.add_permits(1);
    let proof = audit.prove(org(1), LeafIndex(308)).await.unwrap();
    assert_eq!(proof.index, LeafIndex(308));
}

#[tokio::test]
async fn only_log_files_are_served_and_partial_ones_make_way() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 200).await;
    audit.checkpoint(org(1)).await.unwrap();
    assert!(
        audit
            .resource(org(1), "tile/entries/000.p/200")
            .await
            .unwrap()
            .is_some()
    );
    world.commit(org(1), 100).await;
    audit.checkpoint(org(1)).await.unwrap();
    assert_eq!(
        world.tiles.paths(org(1)),
        [
            "checkpoint",
            "tile/0/000",
            "tile/0/001.p/44",
            "tile/1/000.p/1",
            "tile/entries/000",
            "tile/entries/001.p/44",
        ]
    );
    for path in ["", "keys", "../checkpoint", "tile/0/0", "tile/9/000"] {
        assert_eq!(audit.resource(org(1), path).await.unwrap(), None);
    }
    assert_eq!(audit.resource(org(2), "checkpoint").await.unwrap(), None);
}

/// A write fails at every possible place; the same process goes on, and so does
/// one that starts after a kill there.
#[tokio::test]
async fn a_failure_at_any_write_loses_nothing() {
    for (first, applied) in [(1, false), (1, true), (256, false), (256, true)] {
        for failing in 0..7 {
            let world = World::new();
            world.commit(org(1), first).await;
            let audit = world.open().await.unwrap();
            let before = audit.checkpoint(org(1)).await.unwrap();
            world.commit(org(1), 300).await;
            world.tiles.fail_puts(failing, 1, applied);
            if audit.checkpoint(org(1)).await.is_err() {
                let published = audit.resource(org(1), "checkpoint").await.unwrap();
                // The checkpoint is the last write of all.
                let last = failing == 5;
                assert_eq!(published == Some(before.note), !(applied && last));
                let killed = world.open().await.unwrap();
                expect_whole(&world, org(1), &killed.checkpoint(org(1)).await.unwrap()).await;
            }
            world.tiles.fail_puts(0, 0, false);
            expect_whole(&world, org(1), &audit.checkpoint(org(1)).await.unwrap()).await;
            drop(audit);
            let audit = world.open().await.unwrap();
            expect_whole(&world, org(1), &audit.checkpoint(org(1)).await.unwrap()).await;
        }
    }
}

#[tokio::test]
async fn a_restart_publishes_what_the_journal_is_ahead_by() {
    let world = World::new();
    for count in [1, 254, 1, 1, 600] {
        world.commit(org(1), count).await;
        let audit = world.open().await.unwrap();
        // Published by opening alone.
        let note = audit.resource(org(1), "checkpoint").await.unwrap().unwrap();
        let head = audit.checkpoint(org(1)).await.unwrap();
        assert_eq!(note, head.note);
        expect_whole(&world, org(1), &head).await;
        prove_some(&audit, org(1), head.size).await;
    }
}

async fn prove_some(audit: &Audit, org: OrgId, size: u64) {
    for index in [0, size / 2, size - 1] {
        audit.prove(org, LeafIndex(index)).await.unwrap();
    }
}

/// A world with a published log of 300 leaves.
async fn published() -> World {
    let world = World::new();
    world.commit(org(1), 300).await;
    let audit = world.open().await.unwrap();
    audit.checkpoint(org(1)).await.unwrap();
    world
}

#[tokio::test]
async fn a_missing_file_is_made_again_and_a_changed_one_is_refused() {
    for path in [
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ] {
        let world = published().await;
        world.tiles.tamper(org(1), path, |file| *file = None);
        let audit = world.open().await.unwrap();
        assert!(audit.resource(org(1), path).await.unwrap().is_some());
        drop(audit);
        world
            .tiles
            .tamper(org(1), path, |file| file.as_mut().unwrap()[3] ^= 1);
        assert_eq!(code(world.open().await), CORRUPT, "{path}");
    }
}

#[tokio::test]
async fn a_journal_that_tells_another_history_is_refused() {
    type Change = fn(&mut Vec<Vec<u8>>);
    let changes: [Change; 5] = [
        |log| log.truncate(299),
        |log| log.swap(7, 8),
        |log| log[12].push(b' '),
        |log| {
            log[298] = String::from_utf8(log[298].clone())
                .unwrap()
                .replace("resource.read", "resource.seen")
                .into_bytes();
        },
        |log| {
            log.remove(0);
            log.push(Vec::new());
        },
    ];
    for change in changes {
        let world = published().await;
        world.journal.tamper(org(1), change);
        assert_eq!(code(world.open().await), CORRUPT);
        // Neither with the tiles gone: the signed root decides.
        for path in world.tiles.paths(org(1)) {
            if path != "checkpoint" {
                world.tiles.tamper(org(1), &path, |file| *file = None);
            }
        }
        assert_eq!(code(world.open().await), CORRUPT);
        assert_eq!(world.tiles.paths(org(1)), ["checkpoint"]);
    }
}

#[tokio::test]
async fn a_checkpoint_that_does_not_verify_is_refused() {
    for change in [
        |text: String| text.replacen("300", "299", 1),
        |text: String| text.replacen("creto.example", "creto.exbmple", 1),
        |text: String| text.lines().take(5).map(|l| format!("{l}\n")).collect(),
        |_| String::new(),
    ] {
        let world = published().await;
        world.tiles.tamper(org(1), "checkpoint", |file| {
            let text = String::from_utf8(file.take().unwrap()).unwrap();
            *file = Some(change(text).into_bytes());
        });
        assert_eq!(code(world.open().await), CORRUPT);
    }
    // Nor one that other keys signed.
    let mut world = published().await;
    world.keys = crate::Keys::new(8);
    assert_eq!(code(world.open().await), CORRUPT);
}

#[tokio::test]
async fn a_leaf_of_another_log_is_never_signed() {
    let world = World::new();
    world.commit(org(2), 1).await;
    let stolen = world.journal.read(org(2), 0, 1).await.unwrap();
    let audit = world.open().await.unwrap();
    world.journal.tamper(org(1), |log| log.extend(stolen));
    assert_eq!(code(audit.checkpoint(org(1)).await), CORRUPT);
    assert_eq!(audit.resource(org(1), "checkpoint").await.unwrap(), None);
}

#[tokio::test]
async fn an_empty_log_has_the_empty_root() {
    let audit = World::new().open().await.unwrap();
    let head = audit.checkpoint(org(1)).await.unwrap();
    assert_eq!(head.size, 0);
    assert_eq!(Hash::from_bytes(head.root), HASHER.empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_from_many_callers_only_grow() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (world, audit) = (world.clone(), audit.clone());
            tokio::spawn(async move {
                let mut last = 0;
                for _ in 0..10 {
                    world.commit(org(1), 3).await;
                    audit.notify(org(1));
                    let head = audit.checkpoint(org(1)).await.unwrap();
                    assert!(head.size >= last + 3);
                    assert_eq!(head.root, root_of(&world, org(1), head.size).await);
                    last = head.size;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    expect_whole(&world, org(1), &audit.checkpoint(org(1)).await.unwrap()).await;
}
