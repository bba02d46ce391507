//! What is done over the failing file layer, and what has to hold afterwards.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use creto_audit::conformance::record;
use creto_audit::{
    Audit, AuditConfig, AuditError, FormerLogKeys, Journal as _, LogKeySource, LogKeys,
    NoteVerifier, RecordClass, StoredRecord, TileStore, leaf_bytes,
};
use creto_crypto::{AwsLcProvider, LocalKeystore, RootKey, sha256};
use creto_errors::Classify;
use creto_governor::{Erasure, SubjectStore as _};
use creto_nhi::{Nhi, NhiConfig, NhiError, PrincipalType};
use creto_state_sqlite::{Database, SqliteJournal, SqliteNhi, SqliteSubjects};
use creto_tiles_fs::FsTiles;
use creto_tlog::{Checkpoint, Frontier, Hasher, Note};
use creto_types::{
    Commit, Evidence, LeafIndex, ManualClock, OrgId, PrincipalName, Receipt, SeededRandom,
    StoreError, SystemIds, Timestamp,
};

const HASHER: Hasher = Hasher::new(sha256);

/// How often something is tried again before the work counts as stuck. The layer fails
/// for a few calls at most.
const TRIES: usize = 30;

/// Two verifier keys: of one pair of keys of the log.
type Pair = [String; 2];

/// The log's keys are those of the organization, as in the server.
struct Keys(Arc<Nhi>);

impl LogKeySource for Keys {
    fn keys(&self, org: OrgId) -> Result<LogKeys, AuditError> {
        let signers = self.0.log_signers(org).map_err(|error| AuditError::Keys {
            org,
            source: Box::new(error),
        })?;
        Ok(LogKeys {
            ed25519: signers.ed25519,
            composite: signers.composite,
            evidence: signers.evidence,
            former: signers
                .former
                .map(|(ed25519, composite)| FormerLogKeys { ed25519, composite }),
        })
    }
}

/// The faults are those of files: of all that identities need, only the store fails.
fn of_store(error: NhiError) -> AuditError {
    match error {
        NhiError::Store(error) => error.into(),
        error => panic!("{error}"),
    }
}

/// One opening of everything that keeps the log.
struct Opened {
    org: OrgId,
    nhi: Arc<Nhi>,
    subjects: SqliteSubjects,
    journal: Arc<SqliteJournal>,
    tiles: Arc<FsTiles>,
    audit: Arc<Audit>,
}

impl Opened {
    /// Each opening has a seed of its own: keys that are made in it are not those that
    /// were made in another one.
    async fn open(dir: &Path, seed: u64) -> Result<Self, AuditError> {
        let db = Database::open(&dir.join("state.db"))?;
        let clock = ManualClock::new(Timestamp::from_second(1_700_000_000).unwrap());
        let clock = Arc::new(clock);
        let random = Arc::new(SeededRandom::new(seed));
        let provider = Arc::new(AwsLcProvider::new(random.clone()));
        let root = RootKey::from_hex(&"7".repeat(64)).unwrap();
        let nhi = Nhi::open(
            Arc::new(SqliteNhi::new(db.clone())),
            provider.clone(),
            Arc::new(LocalKeystore::new(root, provider)),
            Arc::new(SystemIds::new(clock.clone(), random)),
            clock.clone(),
            NhiConfig::new("creto.example"),
        )
        .await
        .map_err(of_store)?;
        let org = match nhi.organizations().first() {
            Some(organization) => organization.id,
            None => found(&nhi).await.map_err(of_store)?,
        };
        let subjects = SqliteSubjects::new(db.clone());
        // As at every start: what an erasure left in files ends.
        subjects.settle().await?;
        let journal = Arc::new(SqliteJournal::new(db));
        let tiles = Arc::new(FsTiles::open(&dir.join("log"))?);
        let config = AuditConfig {
            origin_prefix: "creto.example/log".to_owned(),
            batch_size: 2,
            // Nothing happens but what is asked for, so each run makes the same calls.
            flush_interval: Duration::from_secs(3_600),
        };
        let audit = Audit::open(
            journal.clone(),
            tiles.clone(),
            Arc::new(Keys(nhi.clone())),
            clock,
            config,
        );
        let audit = audit.await?;
        Ok(Self {
            org,
            nhi,
            subjects,
            journal,
            tiles,
            audit,
        })
    }

    /// The checkpoint that everybody can read now.
    async fn visible(&self) -> Option<Checkpoint> {
        let note = published(&self.tiles, self.org).await?;
        Some(note.text().parse().unwrap())
    }

    /// A commit with this record.
    fn commit(&self, n: u64) -> Commit {
        Commit::of(record(self.org, n))
    }

    /// Replaces the keys of the log, if those of an earlier rotation do not sign besides.
    /// Nothing is committed when that was done already and only the answer was lost.
    async fn rotate(&self, n: u64) -> Result<Option<Receipt>, NhiError> {
        if !self.nhi.former_log_keys(self.org)?.is_empty() {
            return Ok(None);
        }
        let draft = self.nhi.draft_log_rotation(self.org)?;
        let committed = self.nhi.commit_log_rotation(draft, self.commit(n)).await;
        committed.map(Some)
    }

    /// Ends the keys that the last rotation replaced, likewise.
    async fn retire(&self, n: u64) -> Result<Option<Receipt>, NhiError> {
        let former = self.nhi.former_log_keys(self.org)?;
        if former.is_empty() {
            return Ok(None);
        }
        let retired = self
            .nhi
            .retire_log_keys(self.org, former, self.commit(n))
            .await;
        retired.map(Some)
    }

    /// Destroys the key of what the person's record says, unless that is done.
    async fn erase(&self, n: u64) -> Result<Option<Receipt>, StoreError> {
        let (org, person) = (self.org, person());
        let Some(subject) = self.subjects.subject(org, &person).await? else {
            return Ok(None);
        };
        let erasure = Erasure {
            org,
            person,
            subject,
        };
        let erased = self.subjects.erase(erasure, self.commit(n)).await;
        erased.map(Some)
    }

    fn pair(&self) -> Pair {
        self.audit.verifier_keys(self.org).unwrap()
    }

    fn former(&self) -> Option<Pair> {
        self.audit.former_verifier_keys(self.org).unwrap()
    }
}

/// Founds the organization, without a record: places of records are counted from 0.
async fn found(nhi: &Nhi) -> Result<OrgId, NhiError> {
    let draft = nhi.draft_organization("Example", "owner".parse().unwrap())?;
    let org = draft.organization().id;
    nhi.commit_organization(draft, Commit::default()).await?;
    Ok(org)
}

/// Who was there before a run, did one thing, and is suspended.
fn person() -> PrincipalName {
    "carol".parse().unwrap()
}

/// The number of that one thing, and of no other.
const HERS: u64 = 77;

/// The record of this number.
fn numbered(org: OrgId, n: u64) -> Evidence {
    let record = record(org, n);
    match n {
        HERS => Evidence {
            actor: person(),
            ..record
        },
        _ => record,
    }
}

async fn published(tiles: &FsTiles, org: OrgId) -> Option<Note> {
    let note = tiles.get(org, "checkpoint").await.unwrap()?;
    Some(Note::parse(&note).unwrap())
}

/// Whether somebody who knows these keys takes the note for the log's.
fn signed_by(note: &Note, pair: &Pair) -> bool {
    let holds = |key: &String| NoteVerifier::parse(key).unwrap().verifies(note);
    pair.iter().all(holds)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

async fn again<T, E: Classify>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    for _ in 0..TRIES {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => say(&format!("failed {what} {}", error.code())),
        }
    }
    panic!("{what} fails for ever");
}

/// Two openings of the store, each with evidence, trace and a checkpoint. In the first one
/// the keys of the log are replaced and a person is erased, in the second the former keys are
/// retired. Says on
/// standard output what it was told, when it was told.
pub(crate) fn run(dir: &Path, first: u64) {
    for first in [first, first + 10] {
        // With its runtime goes whatever still works in the background, and then the
        // store is closed.
        crate::runtime().block_on(session(dir, first));
    }
    say("done");
}

async fn session(dir: &Path, first: u64) {
    let log = again("open", async || Opened::open(dir, first + 1).await).await;
    say(&format!("keys {} {}", log.org, log.pair().join(" ")));
    for n in [first, first + 1] {
        let leaf = again("append", async || append(&log, &[n]).await);
        say(&format!("evidence {} {n}", leaf.await[0]));
    }
    let n = first + 2;
    again("trace", async || {
        let traced = log.audit.trace(record(log.org, n)).await;
        // Refused while an earlier batch fails, which is tried again by this.
        log.audit.flush().await?;
        traced
    })
    .await;
    say(&format!("trace {n}"));
    other_keys(&log, first + 5).await;
    let pair = [first + 3, first + 4];
    let leaves = again("append", async || append(&log, &pair).await);
    for (leaf, n) in leaves.await.iter().zip(pair) {
        say(&format!("evidence {leaf} {n}"));
    }
    say("erasing");
    let erased = again("erase", async || log.erase(first + 6).await).await;
    say("erased");
    if let Some(leaf) = erased.and_then(|receipt| receipt.leaf()) {
        say(&format!("evidence {leaf} {}", first + 6));
    }
    signed_anew("checkpoint", &log, async || {
        log.audit.checkpoint(log.org).await
    })
    .await;
}

async fn append(log: &Opened, numbers: &[u64]) -> Result<Vec<LeafIndex>, AuditError> {
    let records = numbers.iter().map(|n| numbered(log.org, *n)).collect();
    let leaves = log.journal.append(RecordClass::Evidence, records).await;
    Ok(leaves?)
}

/// Brings the log to a checkpoint, and says what whoever looked has seen, also after a
/// failure.
async fn signed_anew<T>(
    what: &str,
    log: &Opened,
    mut attempt: impl AsyncFnMut() -> Result<T, AuditError>,
) {
    again(what, async || {
        let outcome = attempt().await;
        if let Some(head) = log.visible().await {
            say(&format!("checkpoint {} {}", head.size, head.root));
        }
        outcome
    })
    .await;
}

/// Other keys for the log, or the end of the former ones, in the order in which the server
/// does it.
async fn other_keys(log: &Opened, n: u64) {
    let rekey = async || log.audit.rekey(log.org).await;
    let done = if log.former().is_none() {
        let rotated = again("rotate", async || log.rotate(n).await).await;
        say(&format!("rotated {}", log.pair().join(" ")));
        signed_anew("rekey", log, rekey).await;
        say("rekeyed");
        rotated
    } else {
        // What is found after the former ones have ended is by keys that are there.
        signed_anew("rekey", log, rekey).await;
        say("retiring");
        let retired = again("retire", async || log.retire(n).await).await;
        say("retired");
        signed_anew("rekey", log, rekey).await;
        say("alone");
        retired
    };
    if let Some(leaf) = done.and_then(|receipt| receipt.leaf()) {
        say(&format!("evidence {leaf} {n}"));
    }
}

/// What a process said before it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    org: Option<OrgId>,
    /// Place and number of each acknowledged record.
    evidence: Vec<(u64, u64)>,
    trace: Vec<u64>,
    checkpoints: Vec<(u64, String)>,
    erasing: bool,
    erased: bool,
    keys: ToldKeys,
    pub(crate) failures: Vec<String>,
    pub(crate) done: bool,
}

/// How far the change of the log's keys was acknowledged.
#[derive(Clone, Debug, Default)]
struct ToldKeys {
    before: Option<Pair>,
    after: Option<Pair>,
    rekeyed: bool,
    retiring: bool,
    retired: bool,
    alone: bool,
}

impl Told {
    pub(crate) fn read(&mut self, output: &str) {
        let pair = |ed25519: &str, composite: &str| Some([ed25519, composite].map(str::to_owned));
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
                ["keys", org, ed25519, composite] => {
                    self.org = Some(org.parse().unwrap());
                    if self.keys.before.is_none() {
                        self.keys.before = pair(ed25519, composite);
                    }
                }
                ["rotated", ed25519, composite] => self.keys.after = pair(ed25519, composite),
                ["erasing"] => self.erasing = true,
                ["erased"] => self.erased = true,
                ["rekeyed"] => self.keys.rekeyed = true,
                ["retiring"] => self.keys.retiring = true,
                ["retired"] => self.keys.retired = true,
                ["alone"] => self.keys.alone = true,
                ["failed", what, code] => self.failures.push(format!("{what} {code}")),
                ["done"] => self.done = true,
                _ => {}
            }
        }
    }
}

impl ToldKeys {
    /// What lies there for everybody, before anything is opened: whoever knows the keys of
    /// before can read it until their end was begun, and whoever knows the new ones can as
    /// soon as they were told.
    fn expect_readable(&self, note: &Note) {
        let signed = |pair: &Option<Pair>| pair.as_ref().map(|pair| signed_by(note, pair));
        assert!(
            self.retiring || signed(&self.before) != Some(false),
            "who knows the keys of before is lost: {note}"
        );
        if self.rekeyed {
            assert_eq!(signed(&self.after), Some(true), "{note}");
        }
        if self.alone {
            assert_eq!(signed(&self.before), Some(false), "{note}");
        }
    }

    /// The keys that were acknowledged are those of the store.
    fn expect_stored(&self, log: &Opened) {
        let (in_force, former) = (log.pair(), log.former());
        if let Some(after) = &self.after {
            assert_eq!(in_force, *after, "the rotation was acknowledged");
        }
        if self.retired {
            assert_eq!(former, None, "the end of the former keys was acknowledged");
        }
        if self.before.is_some() && !self.retiring {
            let of_before = former.as_ref().unwrap_or(&in_force);
            assert_eq!(Some(of_before), self.before.as_ref());
        }
    }
}

/// Opens what was left, without any fault: all that was acknowledged is there, the tree
/// extends every checkpoint that anybody saw, and everything goes on.
pub(crate) async fn check(dir: &Path, told: &Told) {
    expect_readable(dir, told).await;
    let log = Opened::open(dir, 7_777).await.unwrap();
    told.keys.expect_stored(&log);
    let leaves = log.journal.read(log.org, 0, 1_000).await.unwrap();
    assert_eq!(
        log.journal.size(log.org).await.unwrap(),
        leaves.len() as u64
    );
    let stored = log.journal.records(log.org, 0, 1_000).await.unwrap();
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
        let whole = stored.read().unwrap().whole();
        let hers = told.evidence.contains(&(index, HERS));
        if hers {
            // Readable until its end is begun, and by nobody once it is acknowledged.
            assert!(whole.is_some() || told.erasing, "erased by nobody");
            assert!(
                whole.is_none() || !told.erased,
                "the erasure was acknowledged"
            );
        }
        frontier.push(HASHER.leaf(leaf));
        roots.push(frontier.root());
        let Some(read) = whole else {
            assert!(hers, "leaf {index} has lost its payload");
            numbers.push(HERS);
            continue;
        };
        let n = read["body"]["n"].as_u64().unwrap();
        let class = match read["class"].as_str().unwrap() {
            "trace" => RecordClass::Trace,
            _ => RecordClass::Evidence,
        };
        let ts = read["ts"].as_str().unwrap().parse().unwrap();
        let written = leaf_bytes(LeafIndex(index), ts, class, &numbered(log.org, n)).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(written, read, "leaf {index}");
        numbers.push(n);
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

    let leaf = append(&log, &[9_999]).await.unwrap()[0];
    assert_eq!(leaf.0, leaves.len() as u64);
    let head = log.audit.checkpoint(log.org).await.unwrap();
    assert_eq!(head.size, leaf.0 + 1);
    // Each proof is verified before it is given.
    for leaf in [LeafIndex(0), leaf] {
        log.audit.prove(log.org, leaf).await.unwrap();
    }
    expect_other_keys(&log).await;
    // Whether it was done before or is now.
    log.erase(10_002).await.unwrap();
    assert_eq!(log.erase(10_003).await.unwrap().map(drop), None);
}

async fn expect_readable(dir: &Path, told: &Told) {
    let log = dir.join("log");
    let Some((_, org)) = told.checkpoints.first().zip(told.org) else {
        return;
    };
    let tiles = FsTiles::open(&log).unwrap();
    let note = published(&tiles, org).await;
    told.keys.expect_readable(&note.unwrap());
}

/// The keys change as ever: the former ones end, and others come.
async fn expect_other_keys(log: &Opened) {
    let in_force = log.pair();
    log.retire(10_000).await.unwrap();
    let alone = log.audit.rekey(log.org).await.unwrap();
    log.rotate(10_001).await.unwrap().unwrap();
    let both = log.audit.rekey(log.org).await.unwrap();
    assert_eq!(log.former(), Some(in_force.clone()));
    for (head, pairs) in [
        (alone, vec![&in_force]),
        (both, vec![&log.pair(), &in_force]),
    ] {
        let note = Note::parse(&head.note).unwrap();
        assert_eq!(note.signatures().len(), 2 * pairs.len(), "{note}");
        assert!(
            pairs.into_iter().all(|pair| signed_by(&note, pair)),
            "{note}"
        );
    }
}

/// The store as it is before a run: a few leaves, published.
pub(crate) async fn prepare(dir: &Path) -> Told {
    let log = Opened::open(dir, 5_555).await.unwrap();
    let mut told = Told {
        org: Some(log.org),
        ..Told::default()
    };
    let draft = log
        .nhi
        .draft_principal(log.org, person(), PrincipalType::Human);
    let added = log.nhi.commit_principal(draft.unwrap(), Commit::default());
    added.await.unwrap();
    let at = Timestamp::from_second(1_700_000_000).unwrap();
    let carol = person();
    let suspended = log.nhi.suspend(log.org, &carol, at, Commit::default());
    suspended.await.unwrap();
    for n in [0, 1, 2, HERS] {
        let leaf = append(&log, &[n]).await.unwrap()[0];
        told.evidence.push((leaf.0, n));
    }
    log.audit.checkpoint(log.org).await.unwrap();
    let head = log.visible().await.unwrap();
    told.checkpoints.push((head.size, head.root.to_string()));
    told.keys.before = Some(log.pair());
    told
}
