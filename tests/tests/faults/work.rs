//! What is done over the failing file layer, and what has to hold afterwards.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use creto_audit::conformance::{org, record};
use creto_audit::{
    Audit, AuditConfig, AuditError, Journal as _, LogKeySource, LogKeys, RecordClass, StoredRecord,
    TileStore, leaf_bytes,
};
use creto_crypto::{
    AwsLcProvider, CryptoProvider as _, LocalSigner, SignatureAlgorithm, Signer, sha256,
};
use creto_errors::Classify as _;
use creto_state_sqlite::{Database, SqliteJournal};
use creto_tiles_fs::FsTiles;
use creto_tlog::{Checkpoint, Frontier, Hasher, Note};
use creto_types::{LeafIndex, ManualClock, OrgId, SeededRandom, Timestamp};

const HASHER: Hasher = Hasher::new(sha256);

/// How often something is tried again before the work counts as stuck. The layer fails
/// for a few calls at most.
const TRIES: usize = 30;

/// The same keys in every process.
struct Keys(LogKeys);

impl Keys {
    fn new() -> Self {
        let provider = Arc::new(AwsLcProvider::new(Arc::new(SeededRandom::new(7))));
        let signer = |algorithm| -> Arc<dyn Signer> {
            let key = provider.generate_signing_key(algorithm).unwrap();
            Arc::new(LocalSigner::new(key, provider.clone()))
        };
        Self(LogKeys {
            ed25519: signer(SignatureAlgorithm::Ed25519),
            composite: signer(SignatureAlgorithm::MlDsa65Ed25519),
            evidence: signer(SignatureAlgorithm::MlDsa65Ed25519),
            former: None,
        })
    }
}

impl LogKeySource for Keys {
    fn keys(&self, _: OrgId) -> Result<LogKeys, AuditError> {
        Ok(self.0.clone())
    }
}

/// One opening of everything that keeps the log.
struct Opened {
    journal: Arc<SqliteJournal>,
    tiles: Arc<FsTiles>,
    audit: Arc<Audit>,
}

impl Opened {
    async fn open(dir: &Path, keys: &Arc<Keys>) -> Result<Self, AuditError> {
        let db = Database::open(&dir.join("state.db"))?;
        let journal = Arc::new(SqliteJournal::new(db));
        let tiles = Arc::new(FsTiles::open(&dir.join("log"))?);
        let clock = ManualClock::new(Timestamp::from_second(1_700_000_000).unwrap());
        let config = AuditConfig {
            origin_prefix: "creto.example/log".to_owned(),
            batch_size: 2,
            // Nothing happens but what is asked for, so each run makes the same calls.
            flush_interval: Duration::from_secs(3_600),
        };
        let audit = Audit::open(
            journal.clone(),
            tiles.clone(),
            keys.clone(),
            Arc::new(clock),
            config,
        );
        let audit = audit.await?;
        Ok(Self {
            journal,
            tiles,
            audit,
        })
    }

    /// The checkpoint that everybody can read now.
    async fn visible(&self) -> Option<Checkpoint> {
        let note = self.tiles.get(org(1), "checkpoint").await.unwrap()?;
        Some(Note::parse(&note).unwrap().text().parse().unwrap())
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

async fn again<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, AuditError>) -> T {
    for _ in 0..TRIES {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => say(&format!("failed {what} {}", error.code())),
        }
    }
    panic!("{what} fails for ever");
}

/// Two openings of the store, each with evidence, trace and a checkpoint; says on
/// standard output what it was told, when it was told.
pub(crate) fn run(dir: &Path, first: u64) {
    let keys = Arc::new(Keys::new());
    for first in [first, first + 10] {
        // With its runtime goes whatever still works in the background, and then the
        // store is closed.
        crate::runtime().block_on(session(dir, &keys, first));
    }
    say("done");
}

async fn session(dir: &Path, keys: &Arc<Keys>, first: u64) {
    let log = again("open", async || Opened::open(dir, keys).await).await;
    for n in [first, first + 1] {
        let leaf = again("append", async || {
            let records = vec![record(org(1), n)];
            Ok(log.journal.append(RecordClass::Evidence, records).await?)
        });
        let leaf = leaf.await;
        say(&format!("evidence {} {n}", leaf[0]));
    }
    let n = first + 2;
    again("trace", async || {
        let traced = log.audit.trace(record(org(1), n)).await;
        // Refused while an earlier batch fails, which is tried again by this.
        log.audit.flush().await?;
        traced
    })
    .await;
    say(&format!("trace {n}"));
    let pair = [first + 3, first + 4];
    let leaves = again("append", async || {
        let records = pair.map(|n| record(org(1), n)).into();
        Ok(log.journal.append(RecordClass::Evidence, records).await?)
    });
    for (leaf, n) in leaves.await.iter().zip(pair) {
        say(&format!("evidence {leaf} {n}"));
    }
    again("checkpoint", async || {
        let outcome = log.audit.checkpoint(org(1)).await;
        // Failed or not: whoever looked has seen it.
        if let Some(head) = log.visible().await {
            say(&format!("checkpoint {} {}", head.size, head.root));
        }
        outcome
    })
    .await;
}

/// What a process said before it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Place and number of each acknowledged record.
    evidence: Vec<(u64, u64)>,
    trace: Vec<u64>,
    checkpoints: Vec<(u64, String)>,
    pub(crate) failures: Vec<String>,
    pub(crate) done: bool,
}

impl Told {
    pub(crate) fn read(&mut self, output: &str) {
        for line in output.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["evidence", leaf, n] => self
                    .evidence
                    .push((leaf.parse().unwrap(), n.parse().unwrap())),
                ["trace", n] => self.trace.push(n.parse().unwrap()),
                ["checkpoint", size, root] => self
                    .checkpoints
                    .push((size.parse().unwrap(), root.to_owned())),
                ["failed", what, code] => self.failures.push(format!("{what} {code}")),
                ["done"] => self.done = true,
                _ => {}
            }
        }
    }
}

/// Opens what was left, without any fault: all that was acknowledged is there, the tree
/// extends every checkpoint that anybody saw, and everything goes on.
pub(crate) async fn check(dir: &Path, told: &Told) {
    let keys = Arc::new(Keys::new());
    let log = Opened::open(dir, &keys).await.unwrap();
    let leaves = log.journal.read(org(1), 0, 1_000).await.unwrap();
    assert_eq!(log.journal.size(org(1)).await.unwrap(), leaves.len() as u64);
    let stored = log.journal.records(org(1), 0, 1_000).await.unwrap();
    let mut contents = stored.into_iter().map(|stored| stored.content);
    let mut numbers = Vec::new();
    let mut frontier = Frontier::new(HASHER);
    let mut roots = vec![frontier.root()];
    for (leaf, index) in leaves.iter().zip(0_u64..) {
        // Never without the payload that it commits to.
        let stored = StoredRecord {
            leaf: leaf.clone(),
            content: contents.next().unwrap(),
        };
        let read = stored.read().unwrap().whole().unwrap();
        let n = read["body"]["n"].as_u64().unwrap();
        let class = match read["class"].as_str().unwrap() {
            "trace" => RecordClass::Trace,
            _ => RecordClass::Evidence,
        };
        let ts = read["ts"].as_str().unwrap().parse().unwrap();
        let written = leaf_bytes(LeafIndex(index), ts, class, &record(org(1), n)).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(written, read, "leaf {index}");
        numbers.push(n);
        frontier.push(HASHER.leaf(leaf));
        roots.push(frontier.root());
    }
    for (leaf, n) in &told.evidence {
        let found = numbers.get(usize::try_from(*leaf).unwrap());
        assert_eq!(found, Some(n), "leaf {leaf} was acknowledged");
    }
    for n in &told.trace {
        assert!(numbers.contains(n), "trace {n} was acknowledged");
    }
    for (size, root) in &told.checkpoints {
        let found = roots.get(usize::try_from(*size).unwrap());
        let found = found.map(ToString::to_string);
        assert_eq!(found.as_ref(), Some(root), "checkpoint of {size}");
    }

    let more = vec![record(org(1), 9_999)];
    let leaf = log.journal.append(RecordClass::Evidence, more).await;
    let leaf = leaf.unwrap()[0];
    assert_eq!(leaf.0, leaves.len() as u64);
    let head = log.audit.checkpoint(org(1)).await.unwrap();
    assert_eq!(head.size, leaf.0 + 1);
    // Each proof is verified before it is given.
    for leaf in [LeafIndex(0), leaf] {
        log.audit.prove(org(1), leaf).await.unwrap();
    }
}

/// The store as it is before a run: a few leaves, published.
pub(crate) async fn prepare(dir: &Path) -> Told {
    let keys = Arc::new(Keys::new());
    let log = Opened::open(dir, &keys).await.unwrap();
    let mut told = Told::default();
    for n in 0..3 {
        let records = vec![record(org(1), n)];
        let leaf = log.journal.append(RecordClass::Evidence, records).await;
        told.evidence.push((leaf.unwrap()[0].0, n));
    }
    log.audit.checkpoint(org(1)).await.unwrap();
    let head = log.visible().await.unwrap();
    told.checkpoints.push((head.size, head.root.to_string()));
    told
}
