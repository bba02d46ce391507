//! A witness and a monitor beside the log, each with what it remembers in files of its own:
//! a witness that forgot would cosign a second history, a monitor would take one for the
//! first.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use creto_audit::memory::{MemoryJournal, MemoryTiles};
use creto_audit::{
    AskedWitness, Audit, CosignatureType, Journal as _, Memory, NoteVerifier, RecordClass,
    TileStore as _, Witness, WitnessAnswer, WitnessClient, WitnessError, WitnessKey,
    WitnessStore as _,
};
use creto_crypto::AwsLcProvider;
use creto_errors::Classify as _;
use creto_server::{AlarmKind, Looked, Patience, TransparencyError, WatchError, WatchOptions};
use creto_tiles_fs::{FsTiles, FsWitness, KeptFile};
use creto_tlog::{AddCheckpoint, Checkpoint, Note};
use creto_types::{ManualClock, SeededRandom, StoreError};

use crate::opened::{Opened, now, numbered, open_log};
use crate::told::{TRIES, Told, again, append, once_free, say, say_tree};

/// How long a cosignature is waited for before the witness is asked anew.
const PATIENCE: usize = 100;
const STEP: Duration = Duration::from_millis(2);

/// The same one each time.
fn witness_key() -> WitnessKey {
    let random = Arc::new(SeededRandom::new(4_242));
    let provider = Arc::new(AwsLcProvider::new(random));
    WitnessKey::generate("witness.example/w", CosignatureType::MlDsa44, provider)
        .unwrap()
        .0
}

fn cosigner() -> String {
    witness_key().verifier_key()
}

fn open_witness(dir: &Path, log: &Opened) -> Result<Witness, StoreError> {
    let store = Arc::new(FsWitness::open(&dir.join("witness"))?);
    let keys = log.pair().map(|key| NoteVerifier::parse(&key).unwrap());
    let clock = Arc::new(ManualClock::new(now()));
    Ok(Witness::new([witness_key()], keys, store, clock))
}

fn tree(note: &Note) -> Checkpoint {
    note.text().parse().unwrap()
}

/// A witness without a network in between, which says what it cosigned. What it fails at it is
/// asked again, as the log does after a pause.
struct Near(Witness);

#[async_trait]
impl WitnessClient for Near {
    async fn add_checkpoint(&self, request: String) -> Result<WitnessAnswer, String> {
        for _ in 0..TRIES {
            match self.0.add_checkpoint(&request).await {
                Ok(lines) => {
                    let asked: AddCheckpoint = request.parse().unwrap();
                    say_tree("cosigned", &tree(&asked.checkpoint));
                    return Ok(WitnessAnswer::Cosigned(lines));
                }
                Err(WitnessError::Conflict { size }) => return Ok(WitnessAnswer::Conflict(size)),
                Err(error) => say(&format!("failed witness {}", error.code())),
            }
        }
        Err("it fails for ever".to_owned())
    }
}

impl Opened {
    /// From now on the witness is asked, without whom nobody is shown a checkpoint.
    fn ask(&self, witness: Witness) {
        let key = NoteVerifier::parse(&cosigner()).unwrap();
        let client = Arc::new(Near(witness));
        let asked = vec![AskedWitness { key, client }];
        self.audit.ask_witnesses(asked, 1);
    }

    /// Waits until the newest checkpoint is cosigned, and what strangers are shown. Numbers
    /// from `n` on are of records that have the witness asked anew after a failure: by itself
    /// the log waits for longer.
    async fn cosigned(&self, n: u64) -> Checkpoint {
        let key = NoteVerifier::parse(&cosigner()).unwrap();
        for n in (n..).take(TRIES) {
            for _ in 0..PATIENCE {
                let head = again("checkpoint", async || self.audit.checkpoint(self.org).await);
                if key.verifies(&Note::parse(&head.await.note).unwrap()) {
                    let public = async || self.audit.public_checkpoint(self.org).await;
                    let public = again("public", public).await.unwrap();
                    return tree(&Note::parse(&public).unwrap());
                }
                tokio::time::sleep(STEP).await;
            }
            append(self, &[n]).await;
        }
        panic!("nobody cosigns");
    }

    /// Looks at the log as its monitor does.
    async fn watch(&self, dir: &Path) -> Result<Looked, TransparencyError> {
        let public = self.audit.public_checkpoint(self.org).await.unwrap();
        let files = dir.join("log").join(self.org.to_string());
        watch(self, dir, &|path| match path {
            "checkpoint" => public.clone(),
            path => std::fs::read(files.join(path)).ok(),
        })
    }
}

/// What `creto audit watch --once` does, with a log that serves these files.
fn watch(
    log: &Opened,
    dir: &Path,
    files: &(dyn Fn(&str) -> Option<Vec<u8>> + Sync),
) -> Result<Looked, TransparencyError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let [key, _] = log.pair();
    let options = WatchOptions {
        url: format!("http://{address}"),
        key: Some(key),
        state: dir.join("watched"),
        entries: true,
        witnesses: vec![cosigner()],
        quorum: None,
        patience: Patience::default(),
    };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((connection, _)) = listener.accept() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                answer(connection, files);
            }
        });
        let looked = creto_server::watch(&options);
        ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(address));
        looked
    })
}

/// One request of one connection.
fn answer(mut connection: TcpStream, files: &(dyn Fn(&str) -> Option<Vec<u8>> + Sync)) {
    let mut lines = BufReader::new(&connection).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let path = first.split(' ').nth(1).unwrap().trim_start_matches('/');
    // Headers end with an empty line.
    lines.find(String::is_empty);
    let (status, body) = match files(path) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(&body).unwrap();
}

/// What is before a run.
pub(crate) async fn begin(dir: &Path, log: &Opened) {
    log.ask(open_witness(dir, log).unwrap());
    log.cosigned(0).await;
    log.watch(dir).await.unwrap();
}

/// Twice: the log grows, a witness cosigns it, strangers are shown it, a monitor looks.
pub(crate) async fn session(dir: &Path) {
    let log = again("open", async || Opened::open(dir, 101).await).await;
    let witness = again("witness", async || open_witness(dir, &log)).await;
    log.ask(witness);
    // What is there is cosigned before there is more: each run makes the same calls.
    log.cosigned(1_000).await;
    for n in [100, 101] {
        append(&log, &[n]).await;
        let shown = log.cosigned(100 * n).await;
        say_tree("shown", &shown);
        let looked = again("watch", async || log.watch(dir).await).await;
        let seen = looked.observation;
        say(&format!("watched {} {}", seen.size, seen.root));
    }
}

/// What is remembered, and what strangers are shown.
pub(crate) struct Kept {
    witness: Checkpoint,
    monitor: Checkpoint,
}

/// What lies in the files before anything is opened is not behind what was acknowledged.
pub(crate) async fn kept(dir: &Path, told: &Told) -> Kept {
    let org = told.org().unwrap();
    let tiles = FsTiles::open(&dir.join("log")).unwrap();
    let shown = tiles.get(org, "witnessed").await.unwrap().unwrap();
    let shown = Note::parse(&shown).unwrap();
    let key = NoteVerifier::parse(&cosigner()).unwrap();
    assert!(key.verifies(&shown), "{shown}");
    let shown = tree(&shown);

    let path = dir.join("witness");
    let store = once_free(async || FsWitness::open(&path)).await;
    let witness = store.get(&shown.origin).await.unwrap().unwrap();
    let witness = tree(&Note::parse(&witness).unwrap());
    drop(store);

    let memory = KeptFile::new(&dir.join("watched")).get().unwrap().unwrap();
    let memory: Memory = serde_json::from_slice(&memory).unwrap();
    let seen = memory.seen().unwrap();
    let monitor = tree(&Note::parse(seen.checkpoint.as_bytes()).unwrap());
    assert_eq!(seen.entries, monitor.size);

    for (word, kept) in [
        ("shown", &shown),
        ("cosigned", &witness),
        ("watched", &monitor),
    ] {
        assert_eq!(kept.origin, shown.origin);
        for (size, root) in told.trees(word) {
            assert!(
                kept.size >= size,
                "{word} {size}, and {} is kept",
                kept.size
            );
            assert!(
                kept.size > size || kept.root.to_string() == root,
                "{word} {size}"
            );
        }
    }
    // The witness remembers before it signs, and nothing is shown that it did not sign.
    assert!(witness.size >= shown.size);
    Kept { witness, monitor }
}

/// Another history by the same keys, of so many leaves.
async fn fork(log: &Opened, size: u64) -> (Arc<Audit>, Arc<MemoryTiles>) {
    let (journal, tiles) = (Arc::new(MemoryJournal::new()), Arc::new(MemoryTiles::new()));
    let records = (5_000..5_000 + size).map(|n| numbered(log.org, n));
    let appended = journal.append(RecordClass::Evidence, records.collect());
    appended.await.unwrap();
    let audit = open_log(journal, tiles.clone(), &log.nhi).await.unwrap();
    (audit, tiles)
}

/// Neither is led to another history, nor back, and both go on with this one.
pub(crate) async fn expect_on(dir: &Path, log: &Opened, roots: &[String], kept: Kept) {
    let Kept { witness, monitor } = kept;
    for kept in [&witness, &monitor] {
        let root = &roots[usize::try_from(kept.size).unwrap()];
        assert_eq!(kept.root.to_string(), *root, "the tree of {}", kept.size);
    }
    let opened = once_free(async || open_witness(dir, log)).await;
    for size in [witness.size - 1, witness.size, witness.size + 1] {
        let (other, tiles) = fork(log, size).await;
        let head = other.checkpoint(log.org).await.unwrap();
        for old in [0, size.min(witness.size), witness.size] {
            let proof = match old <= size {
                true => other.consistency(log.org, old, None).await.unwrap().hashes,
                false => Vec::new(),
            };
            let request = AddCheckpoint {
                old,
                proof,
                checkpoint: Note::parse(&head.note).unwrap(),
            };
            let answer = opened.add_checkpoint(&request.to_string()).await;
            let refused = matches!(
                answer,
                Err(WitnessError::Conflict { .. }
                    | WitnessError::OldBeyondNew { .. }
                    | WitnessError::Inconsistent(_))
            );
            assert!(refused, "{old} to another {size}: {answer:?}");
        }
        let mut files = BTreeMap::new();
        for path in tiles.paths(log.org) {
            let bytes = tiles.get(log.org, &path).await.unwrap().unwrap();
            files.insert(path, bytes);
        }
        let looked = watch(log, dir, &|path| files.get(path).cloned());
        let expected = match size < monitor.size {
            true => AlarmKind::Shrunk,
            false => AlarmKind::Fork,
        };
        match looked {
            Err(TransparencyError::Watch(WatchError::Alarm(alarm))) => {
                assert_eq!(alarm.kind, expected, "{alarm}");
            }
            looked => panic!("another {size} is no alarm: {looked:?}"),
        }
    }
    log.ask(opened);
    let shown = log.cosigned(11_000).await;
    assert!(shown.size > witness.size);
    let looked = log.watch(dir).await.unwrap();
    assert_eq!(looked.observation.before, monitor.size);
    assert_eq!(looked.observation.size, shown.size);
}
