//! Witnesses: what they cosign, and how a log has its checkpoints cosigned.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use creto_audit::conformance::{org, record};
use creto_audit::{
    AskedWitness, Audit, CosignatureType, Journal as _, LogKeySource as _, NoteVerifier,
    RecordClass, Witness, WitnessAnswer, WitnessClient, WitnessError, WitnessKey, WitnessStore,
};
use creto_crypto::AwsLcProvider;
use creto_errors::Classify as _;
use creto_tlog::{AddCheckpoint, Checkpoint, Cosignature, Hash, Note, NoteSignature};
use creto_types::{LeafIndex, ManualClock, SeededRandom, StoreError, Timestamp};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::World;
use crate::bundle::whole;

pub(crate) const NOW: i64 = 1_700_000_100;

/// What a witness remembers, and whether it can.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) kept: Mutex<HashMap<String, Vec<u8>>>,
    failing: AtomicBool,
    /// Fails, and what was to be written is there all the same.
    undurable: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
#[error("this write was made to fail")]
struct Injected;

#[async_trait]
impl WitnessStore for Memory {
    async fn get(&self, origin: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.kept.lock().get(origin).cloned())
    }

    async fn put(&self, origin: &str, checkpoint: Vec<u8>) -> Result<(), StoreError> {
        if self.failing.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable(Box::new(Injected)));
        }
        self.kept.lock().insert(origin.to_owned(), checkpoint);
        if self.undurable.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable(Box::new(Injected)));
        }
        Ok(())
    }
}

pub(crate) const KINDS: [CosignatureType; 2] = CosignatureType::ALL;

/// By which a witness of this seed signs: tests with two have one of each.
fn kind(seed: u64) -> CosignatureType {
    KINDS[usize::try_from(seed % 2).unwrap()]
}

pub(crate) fn made(seed: u64, name: &str, kind: CosignatureType) -> WitnessKey {
    let provider = Arc::new(AwsLcProvider::new(Arc::new(SeededRandom::new(seed))));
    WitnessKey::generate(name, kind, provider).unwrap().0
}

/// The verifier key of a witness that has one.
pub(crate) fn own(witness: &Witness) -> NoteVerifier {
    let keys = witness.verifier_keys();
    assert_eq!(keys.len(), 1);
    NoteVerifier::parse(&keys[0]).unwrap()
}

pub(crate) fn witness_over(memory: &Arc<Memory>, seed: u64, logs: &[String]) -> Witness {
    let clock = ManualClock::new(Timestamp::from_second(NOW).unwrap());
    let logs: Vec<_> = logs
        .iter()
        .map(|log| NoteVerifier::parse(log).unwrap())
        .collect();
    let name = format!("witness.example/w{seed}");
    let keys = [made(seed, &name, kind(seed))];
    Witness::new(keys, logs, memory.clone(), Arc::new(clock))
}

/// The request that brings a witness from `old` leaves to what is published.
pub(crate) async fn request(audit: &Audit, old: u64) -> AddCheckpoint {
    let head = audit.checkpoint(org(1)).await.unwrap();
    let proof = audit.consistency(org(1), old, None).await.unwrap();
    AddCheckpoint {
        old,
        proof: proof.hashes,
        checkpoint: Note::parse(&head.note).unwrap(),
    }
}

pub(crate) async fn code(witness: &Witness, request: &AddCheckpoint) -> &'static str {
    match witness.add_checkpoint(&request.to_string()).await {
        Ok(line) => panic!("cosigned: {line}"),
        Err(error) => error.code(),
    }
}

#[tokio::test]
async fn a_log_is_cosigned_as_far_as_it_continues_what_was_cosigned() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    let memory = Arc::new(Memory::default());
    let keys = audit.verifier_keys(org(1)).unwrap();
    let witness = witness_over(&memory, 1, &keys[..1]);
    let own = own(&witness);
    assert!(own.is_cosigner());

    let mut old = 0;
    for count in [7, 1, 260] {
        world.commit(org(1), count).await;
        let request = request(&audit, old).await;
        let line = witness.add_checkpoint(&request.to_string()).await.unwrap();
        assert!(line.starts_with("\u{2014} witness.example/w1 ") && line.ends_with('\n'));
        let cosigned = request.checkpoint.with_lines(&line).unwrap();
        assert!(own.verifies(&cosigned));
        let signature = &cosigned.signatures().last().unwrap().signature;
        let time = Cosignature::parse(kind(1), signature).unwrap().time;
        assert_eq!(time, u64::try_from(NOW).unwrap());
        // The lines of the log are as good as before.
        for key in &keys {
            assert!(NoteVerifier::parse(key).unwrap().verifies(&cosigned));
        }
        old += count;
    }

    // The same again is cosigned again, for a log that lost the answer.
    let same = request(&audit, old).await;
    assert!(witness.add_checkpoint(&same.to_string()).await.is_ok());
    // A size that is not the last one: the answer says which was.
    for wrong in [0, 7, 267] {
        let request = request(&audit, wrong).await;
        let error = witness.add_checkpoint(&request.to_string()).await;
        assert!(matches!(error, Err(WitnessError::Conflict { size: 268 })));
    }
    // After a restart it knows as much.
    let restarted = witness_over(&memory, 1, &keys[..1]);
    let from_start = request(&audit, 0).await;
    assert_eq!(code(&restarted, &from_start).await, "witness_conflict");
    assert!(restarted.add_checkpoint(&same.to_string()).await.is_ok());
}

#[tokio::test]
async fn what_does_not_continue_or_is_not_signed_is_refused() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    let memory = Arc::new(Memory::default());
    let keys = audit.verifier_keys(org(1)).unwrap();
    let witness = witness_over(&memory, 1, &keys);
    world.commit(org(1), 7).await;
    let first = request(&audit, 0).await;
    witness.add_checkpoint(&first.to_string()).await.unwrap();
    let kept = memory.kept.lock().clone();
    world.commit(org(1), 4).await;
    let good = request(&audit, 7).await;

    for place in 0..good.proof.len() {
        let mut bad = good.clone();
        bad.proof.remove(place);
        assert_eq!(code(&witness, &bad).await, "witness_inconsistent");
    }
    let mut bad = good.clone();
    bad.proof.push(Hash::from_bytes([1; 32]));
    assert_eq!(code(&witness, &bad).await, "witness_inconsistent");
    let mut bad = good.clone();
    bad.old = 12;
    assert_eq!(code(&witness, &bad).await, "witness_old_size");
    let mut bad = good.clone();
    bad.checkpoint = Note::new(good.checkpoint.text()).unwrap();
    let own = own(&witness);
    assert!(!own.verifies(&bad.checkpoint));
    assert_eq!(
        witness
            .add_checkpoint(&bad.to_string())
            .await
            .unwrap_err()
            .code(),
        "note_without_signatures"
    );
    assert!(witness.add_checkpoint("").await.is_err());

    // A line that only claims to be of the log's key.
    let head: Checkpoint = good.checkpoint.text().parse().unwrap();
    let other = Checkpoint::new(head.origin.clone(), 11, Hash::from_bytes([3; 32]));
    let mut forged = Note::new(&other.to_string()).unwrap();
    for line in good.checkpoint.signatures() {
        forged.add_line(line.clone());
    }
    let mut bad = good.clone();
    bad.checkpoint = forged;
    assert_eq!(code(&witness, &bad).await, "note_bad_signature");
    // Of another key of the same name, which it does not know.
    let mut bad = good.clone();
    bad.checkpoint = Note::new(good.checkpoint.text()).unwrap();
    for line in good.checkpoint.signatures() {
        bad.checkpoint.add_line(NoteSignature {
            key_id: line.key_id ^ 1,
            ..line.clone()
        });
    }
    assert_eq!(code(&witness, &bad).await, "witness_not_signed");

    // A log it was not told of.
    let stranger = witness_over(&memory, 2, &audit.verifier_keys(org(2)).unwrap());
    assert_eq!(code(&stranger, &good).await, "witness_unknown_log");
    assert_eq!(*memory.kept.lock(), kept, "nothing of it is remembered");

    // What cannot be remembered is not signed.
    memory.failing.store(true, Ordering::SeqCst);
    assert!(witness.add_checkpoint(&good.to_string()).await.is_err());
    memory.failing.store(false, Ordering::SeqCst);
    witness.add_checkpoint(&good.to_string()).await.unwrap();

    // What is there and may not last is written again first.
    memory.undurable.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(witness.add_checkpoint(&good.to_string()).await.is_err());
    }
    memory.undurable.store(false, Ordering::SeqCst);

    // What is remembered and cannot be read is not written over.
    memory.kept.lock().insert(head.origin, b"rubbish".to_vec());
    assert_eq!(code(&witness, &good).await, "witness_memory");
}

/// Two histories of one log, both signed by its keys.
/// Hedged signatures of one text are all different, and each costs a verification. Eight are
/// tried; the ninth rejects the note though it is as good as the others.
#[tokio::test]
async fn of_nine_good_lines_under_one_key_the_ninth_is_refused() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    let keys = audit.verifier_keys(org(1)).unwrap();
    world.commit(org(1), 5).await;
    let mut request = request(&audit, 0).await;
    let signer = world.keys.keys(org(1)).unwrap().composite;
    let name = NoteVerifier::parse(&keys[1]).unwrap().name().to_owned();
    let key_id = request.checkpoint.signatures()[1].key_id;
    let line = |note: &Note| NoteSignature {
        name: name.clone(),
        key_id,
        signature: signer
            .sign(b"creto/checkpoint/v1", note.text().as_bytes())
            .unwrap()
            .as_bytes()
            .to_vec(),
    };
    // One is there already.
    for _ in 1..8 {
        let another = line(&request.checkpoint);
        request.checkpoint.add_line(another);
    }
    // The same line again is not another one.
    let again = request.checkpoint.signatures()[1].clone();
    let repeated = request
        .checkpoint
        .with_lines(&format!("{again}\n"))
        .unwrap();
    assert_eq!(repeated.signatures().len(), 1 + 9);
    let witness = witness_over(&Arc::new(Memory::default()), 1, &keys);
    for checkpoint in [request.checkpoint.clone(), repeated] {
        let request = AddCheckpoint {
            checkpoint,
            ..request.clone()
        };
        let cosigned = witness_over(&Arc::new(Memory::default()), 1, &keys)
            .add_checkpoint(&request.to_string())
            .await;
        cosigned.unwrap();
    }
    let ninth = line(&request.checkpoint);
    request.checkpoint.add_line(ninth);
    assert_eq!(code(&witness, &request).await, "note_bad_signature");
}

#[tokio::test]
async fn the_second_history_of_a_log_is_refused() {
    let [one, two] = [World::new(), World::new()];
    let two = World {
        keys: one.keys.clone(),
        ..two
    };
    let (first, second) = (one.open().await.unwrap(), two.open().await.unwrap());
    one.commit(org(1), 5).await;
    // Another first leaf.
    let record = record(org(1), 99);
    two.journal
        .append(RecordClass::Evidence, vec![record])
        .await
        .unwrap();
    two.commit(org(1), 4).await;

    let memory = Arc::new(Memory::default());
    let keys = first.verifier_keys(org(1)).unwrap();
    assert_eq!(keys, second.verifier_keys(org(1)).unwrap());
    let witness = witness_over(&memory, 1, &keys);
    let of_first = request(&first, 0).await;
    witness.add_checkpoint(&of_first.to_string()).await.unwrap();
    let other_root = request(&second, 5).await;
    assert_eq!(code(&witness, &other_root).await, "witness_conflict");
    two.commit(org(1), 4).await;
    let other_growth = request(&second, 5).await;
    assert_eq!(code(&witness, &other_growth).await, "witness_inconsistent");
    one.commit(org(1), 1).await;
    let honest = request(&first, 5).await;
    witness.add_checkpoint(&honest.to_string()).await.unwrap();
}

/// Requests at the same time: each answer is a continuation of the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_and_remembering_are_one_step() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    let mut requests = Vec::new();
    for _ in 0..6 {
        world.commit(org(1), 1).await;
        requests.push(request(&audit, 0).await.to_string());
    }
    let memory = Arc::new(Memory::default());
    let keys = audit.verifier_keys(org(1)).unwrap();
    let witness = Arc::new(witness_over(&memory, 1, &keys));
    let asked: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let witness = Arc::clone(&witness);
            tokio::spawn(async move { witness.add_checkpoint(&request).await.is_ok() })
        })
        .collect();
    let mut cosigned = 0;
    for answer in asked {
        cosigned += usize::from(answer.await.unwrap());
    }
    assert_eq!(cosigned, 1, "only one of them was the first");
}

/// A witness in the same process, and what it is made to do wrong.
pub(crate) struct Near {
    witness: Witness,
    pub(crate) asked: AtomicUsize,
    pub(crate) away: AtomicBool,
    lies: Option<String>,
}

impl Near {
    pub(crate) fn new(memory: &Arc<Memory>, seed: u64, logs: &[String]) -> Arc<Self> {
        Arc::new(Self {
            witness: witness_over(memory, seed, logs),
            asked: AtomicUsize::new(0),
            away: AtomicBool::new(false),
            lies: None,
        })
    }

    pub(crate) fn asked(self: &Arc<Self>) -> AskedWitness {
        AskedWitness {
            key: own(&self.witness),
            client: self.clone(),
        }
    }
}

#[async_trait]
impl WitnessClient for Near {
    async fn add_checkpoint(&self, request: String) -> Result<WitnessAnswer, String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err("nobody is there".to_owned());
        }
        if let Some(lie) = &self.lies {
            return Ok(WitnessAnswer::Cosigned(lie.clone()));
        }
        Ok(match self.witness.add_checkpoint(&request).await {
            Ok(lines) => WitnessAnswer::Cosigned(lines),
            Err(WitnessError::Conflict { size }) => WitnessAnswer::Conflict(size),
            Err(error) => WitnessAnswer::Refused(error.to_string()),
        })
    }
}

/// The public checkpoint once it is as it should be.
pub(crate) async fn public_when(audit: &Audit, good: impl Fn(&Note, &Checkpoint) -> bool) -> Note {
    let wait = async {
        loop {
            if let Some(bytes) = audit.public_checkpoint(org(1)).await.unwrap() {
                let note = Note::parse(&bytes).unwrap();
                let checkpoint: Checkpoint = note.text().parse().unwrap();
                if good(&note, &checkpoint) {
                    return note;
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap()
}

async fn public_size(audit: &Audit) -> Option<u64> {
    let bytes = audit.public_checkpoint(org(1)).await.unwrap()?;
    let note = Note::parse(&bytes).unwrap();
    Some(note.text().parse::<Checkpoint>().unwrap().size)
}

#[tokio::test]
async fn a_published_checkpoint_is_cosigned_in_the_background() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    let keys = audit.verifier_keys(org(1)).unwrap();
    let memory = Arc::new(Memory::default());
    let near = Near::new(&memory, 1, &keys);
    let asked = near.asked();
    audit.ask_witnesses(vec![asked.clone()], 0);
    for count in [3, 300] {
        world.commit(org(1), count).await;
        let head = audit.checkpoint(org(1)).await.unwrap();
        let note = public_when(&audit, |note, _| asked.key.verifies(note)).await;
        assert_eq!(note.text().parse::<Checkpoint>().unwrap().size, head.size);
        assert_eq!(note.signatures().len(), 3);
        // Whoever asks for a proof gets the lines too.
        let leaf = audit.prove(org(1), LeafIndex(0)).await.unwrap();
        assert!(asked.key.verifies(&Note::parse(&leaf.checkpoint).unwrap()));
        assert!(leaf.proof.ends_with(&note.to_string()));
    }
    // What lies at the log's own path, and what is exported, has its two lines.
    let stored = audit.resource(org(1), "checkpoint").await.unwrap().unwrap();
    assert_eq!(Note::parse(&stored).unwrap().signatures().len(), 2);
    let bundle = whole(&audit, Vec::new()).await.unwrap();
    let exported = Note::parse(&bundle["checkpoint"]).unwrap();
    assert_eq!(exported.signatures().len(), 2);

    // A restart asks from the start, is told the size, and goes on.
    drop(audit);
    let audit = world.open().await.unwrap();
    audit.ask_witnesses(vec![asked.clone()], 0);
    world.commit(org(1), 1).await;
    audit.notify(org(1));
    let good = |note: &Note, head: &Checkpoint| head.size == 304 && asked.key.verifies(note);
    public_when(&audit, good).await;
}

#[tokio::test]
async fn a_quorum_holds_the_public_checkpoint_back_and_nothing_else() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    let keys = audit.verifier_keys(org(1)).unwrap();
    let memories: Vec<Arc<Memory>> = (0..3).map(|_| Arc::default()).collect();
    let near: Vec<_> = (1..)
        .zip(&memories)
        .map(|(seed, memory)| Near::new(memory, seed, &keys))
        .collect();
    near[2].away.store(true, Ordering::SeqCst);
    audit.ask_witnesses(near.iter().map(Near::asked).collect(), 2);
    assert_eq!(public_size(&audit).await, None);
    world.commit(org(1), 3).await;
    audit.notify(org(1));
    public_when(&audit, |_, head| head.size == 3).await;

    near[1].away.store(true, Ordering::SeqCst);
    world.commit(org(1), 2).await;
    // The log itself goes on, and shows its owner what it has.
    assert_eq!(audit.checkpoint(org(1)).await.unwrap().size, 5);
    let before = near[1].asked.load(Ordering::SeqCst);
    while near[1].asked.load(Ordering::SeqCst) == before {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(public_size(&audit).await, Some(3));

    // With the next checkpoint the witness that was away catches up.
    near[1].away.store(false, Ordering::SeqCst);
    world.commit(org(1), 2).await;
    audit.notify(org(1));
    public_when(&audit, |_, head| head.size == 7).await;

    // Others than those who signed do not count.
    drop(audit);
    let audit = world.open().await.unwrap();
    audit.ask_witnesses(vec![near[0].asked(), near[2].asked()], 2);
    assert_eq!(public_size(&audit).await, None);
}

#[tokio::test]
async fn an_answer_without_a_good_signature_counts_for_nothing() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    let keys = audit.verifier_keys(org(1)).unwrap();
    world.commit(org(1), 3).await;
    let first = request(&audit, 0).await;
    let memory = Arc::new(Memory::default());
    let witness = witness_over(&memory, 1, &keys);
    // A good line of another checkpoint, a line that is none, and far too many.
    let old = witness.add_checkpoint(&first.to_string()).await.unwrap();
    world.commit(org(1), 1).await;
    for lie in [old.clone(), "thanks\n".to_owned(), old.repeat(10_000)] {
        let near = Arc::new(Near {
            witness: witness_over(&memory, 1, &keys),
            asked: AtomicUsize::new(0),
            away: AtomicBool::new(false),
            lies: Some(lie),
        });
        let audit = world.open().await.unwrap();
        audit.ask_witnesses(vec![near.asked()], 1);
        let asked = async {
            while near.asked.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(20), asked).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(public_size(&audit).await, None);
    }
}

/// A log that has lost leaves is told so by its witness, and shows nothing new.
#[tokio::test]
async fn a_log_that_was_set_back_is_not_cosigned() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 9).await;
    let keys = audit.verifier_keys(org(1)).unwrap();
    let memory = Arc::new(Memory::default());
    let near = Near::new(&memory, 1, &keys);
    audit.ask_witnesses(vec![near.asked()], 1);
    audit.notify(org(1));
    public_when(&audit, |_, head| head.size == 9).await;
    drop(audit);

    let set_back = World {
        keys: world.keys.clone(),
        ..World::new()
    };
    set_back.commit(org(1), 4).await;
    let audit = set_back.open().await.unwrap();
    audit.checkpoint(org(1)).await.unwrap();
    let before = near.asked.load(Ordering::SeqCst);
    audit.ask_witnesses(vec![near.asked()], 1);
    while near.asked.load(Ordering::SeqCst) == before {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(public_size(&audit).await, None);
    let kept = memory.kept.lock().values().next().unwrap().clone();
    let kept: Checkpoint = Note::parse(&kept).unwrap().text().parse().unwrap();
    assert_eq!(kept.size, 9);
}
