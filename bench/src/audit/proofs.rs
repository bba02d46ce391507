//! How soon a leaf is in the public log, and what a proof costs in a large one.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use creto_audit::{
    Audit, AuditConfig, AuditError, Journal as _, LogKeySource, LogKeys, RecordClass,
    SearchIndex as _,
};
use creto_crypto::{AwsLcProvider, CryptoProvider as _, LocalSigner, SignatureAlgorithm, Signer};
use creto_state_sqlite::{Database, SqliteIndex, SqliteIndexKeys, SqliteJournal};
use creto_tiles_fs::FsTiles;
use creto_tlog::ProofPlan;
use creto_types::{
    IdSource, LeafIndex, OrgId, Randomness, SeededRandom, SystemClock, SystemIds, SystemRandom,
};
use tokio::runtime::Runtime;

use crate::audit::record;
use crate::memory;
use crate::report::{Entry, Report};
use crate::sample::Sample;

/// What a leaf may take from durable to public (the requirement's), in microseconds.
const INCLUDED_WITHIN: f64 = 250_000.0;

const INCLUSIONS: u32 = 200;

/// Who keeps appending while inclusions are timed under load.
const BUSY_CALLERS: usize = 16;

const MILLION: u64 = 1_000_000;

/// Records of one transaction, and leaves of one checkpoint, while a log is filled.
const BATCH: u64 = 10_000;
const CHECKPOINT: u64 = 100_000;

const PROOFS: u32 = 20_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

pub(crate) fn run(report: &mut Report) -> Outcome<()> {
    for (name, callers) in [
        ("audit/inclusion", 0),
        ("audit/inclusion/busy", BUSY_CALLERS),
    ] {
        if report.wants(name) {
            inclusion(report, name, callers)?;
        }
    }
    if report.wants("audit/append/served") || report.wants("audit/index") {
        served(report)?;
    }
    let ten = report.wants("audit/proof_10m") || report.wants("audit/log_memory");
    if ten || report.wants("audit/proof_1m") {
        proofs(report, ten)?;
    }
    Ok(())
}

/// The log of one organization on the product's own stores.
struct Site {
    directory: tempfile::TempDir,
    runtime: Runtime,
    database: Arc<Database>,
    journal: Arc<SqliteJournal>,
    tiles: Arc<FsTiles>,
    keys: Arc<Keys>,
    audit: Arc<Audit>,
    org: OrgId,
}

/// A log that is not open yet.
async fn open(
    journal: &Arc<SqliteJournal>,
    tiles: &Arc<FsTiles>,
    keys: &Arc<Keys>,
) -> Result<Arc<Audit>, AuditError> {
    // As the server's configuration has it when it says nothing.
    let config = AuditConfig {
        origin_prefix: "creto.bench/log".to_owned(),
        batch_size: 100,
        flush_interval: Duration::from_secs(1),
    };
    let clock = Arc::new(SystemClock::new());
    Audit::open(journal.clone(), tiles.clone(), keys.clone(), clock, config).await
}

struct Keys(LogKeys);

impl LogKeySource for Keys {
    fn keys(&self, _: OrgId) -> Result<LogKeys, AuditError> {
        Ok(self.0.clone())
    }
}

fn keys() -> Outcome<Keys> {
    let provider = Arc::new(AwsLcProvider::new(Arc::new(SystemRandom)));
    let signer = |algorithm| -> Outcome<Arc<dyn Signer>> {
        let key = provider.generate_signing_key(algorithm)?;
        Ok(Arc::new(LocalSigner::new(key, provider.clone())))
    };
    Ok(Keys(LogKeys {
        ed25519: signer(SignatureAlgorithm::Ed25519)?,
        composite: signer(SignatureAlgorithm::MlDsa65Ed25519)?,
        evidence: signer(SignatureAlgorithm::MlDsa65Ed25519)?,
        former: None,
    }))
}

impl Site {
    fn new() -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let runtime = Runtime::new()?;
        let clock = Arc::new(SystemClock::new());
        let ids = SystemIds::new(clock, Arc::new(SystemRandom));
        let database = Database::open(&directory.path().join("bench.db"))?;
        let journal = Arc::new(SqliteJournal::new(Arc::clone(&database)));
        let tiles = Arc::new(FsTiles::open(&directory.path().join("log"))?);
        let keys = Arc::new(keys()?);
        let audit = runtime.block_on(open(&journal, &tiles, &keys))?;
        Ok(Self {
            directory,
            runtime,
            database,
            journal,
            tiles,
            keys,
            audit,
            org: (&ids as &dyn IdSource).next(),
        })
    }

    fn path(&self, tile: &str) -> std::path::PathBuf {
        let log = self.directory.path().join("log");
        log.join(self.org.to_string()).join(tile)
    }

    /// Appends until the log has `size` leaves, all of them public.
    fn fill(&self, size: u64) -> Outcome<()> {
        self.runtime.block_on(async {
            let mut have = self.journal.size(self.org).await?;
            while have < size {
                let batch = BATCH.min(size - have);
                let records = (have..have + batch)
                    .map(|n| record(self.org, serde_json::json!({ "n": n })))
                    .collect();
                self.journal.append(RecordClass::Evidence, records).await?;
                have += batch;
                if have.is_multiple_of(CHECKPOINT) || have == size {
                    self.audit.checkpoint(self.org).await?;
                }
            }
            Ok(())
        })
    }
}

/// What a record of a decision says, as long as the records of other measurements.
fn decision() -> serde_json::Value {
    serde_json::json!({
        "agent": "release-bot", "delegation": "lnk_019b76daa800770db259e4e1cb631c66",
        "action": "deploy.run", "resource": { "type": "Env", "id": "production" },
        "outcome": "allow", "filler": "x".repeat(170),
    })
}

/// Appends while the log is signed and published and the search index follows, as in the
/// server, which does both on the same two processors.
fn served(report: &mut Report) -> Outcome<()> {
    let bare = Site::new()?;
    let appended = super::appends(&bare.journal, bare.org, decision, || ());
    let (without, _) = bare.runtime.block_on(appended)?;
    drop(bare);
    let site = Site::new()?;
    let (rate, indexed) = site.runtime.block_on(async {
        let index = Arc::new(SqliteIndex::new(site.database.clone()));
        let keys = Arc::new(SqliteIndexKeys::new(site.database.clone()));
        site.audit.index_with(index.clone(), keys);
        let (audit, org) = (Arc::clone(&site.audit), site.org);
        let start = Instant::now();
        let notify = move || audit.notify(org);
        let (rate, _) = super::appends(&site.journal, org, decision, notify).await?;
        let size = site.journal.size(org).await?;
        while index.covered(org).await? < size {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Outcome::Ok((rate, size as f64 / start.elapsed().as_secs_f64()))
    })?;
    let entry = Entry::rate("audit/append/served", rate);
    report.add(entry.beside("without the log and its index", without));
    let entry = Entry::rate("audit/index", indexed);
    report.add(entry.beside("appends meanwhile", rate));
    Ok(())
}

/// From the acknowledgement of a leaf to the public checkpoint that covers it.
fn inclusion(report: &mut Report, name: &str, callers: usize) -> Outcome<()> {
    let site = Site::new()?;
    let mut sample = Sample::new();
    site.runtime.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..callers)
            .map(|_| {
                let (stop, org) = (Arc::clone(&stop), site.org);
                let (journal, audit) = (Arc::clone(&site.journal), Arc::clone(&site.audit));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let records = vec![record(org, serde_json::json!({ "busy": true }))];
                        let appended = journal.append(RecordClass::Evidence, records).await;
                        appended.map_err(|error| error.to_string())?;
                        audit.notify(org);
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        let random = SeededRandom::new(11);
        for _ in 0..INCLUSIONS {
            // At any moment between two checkpoints.
            let pause = Duration::from_millis(drawn(&random) % 100);
            tokio::time::sleep(pause).await;
            let records = vec![record(site.org, serde_json::json!({ "timed": true }))];
            let places = site.journal.append(RecordClass::Evidence, records).await?;
            let start = Instant::now();
            site.audit.notify(site.org);
            let place = places.first().map_or(0, |place| place.0);
            while site.public_size().await? <= place {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            sample.add(start.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        for caller in busy {
            caller.await??;
        }
        Outcome::Ok(())
    })?;
    let entry = Entry::latency(name, "us", sample.micros());
    report.add(entry.beside("the 250 ms it may take", INCLUDED_WITHIN));
    Ok(())
}

impl Site {
    /// What a stranger reads: the second line of the checkpoint.
    async fn public_size(&self) -> Outcome<u64> {
        let Some(note) = self.audit.public_checkpoint(self.org).await? else {
            return Ok(0);
        };
        let note = String::from_utf8(note)?;
        Ok(note.lines().nth(1).unwrap_or_default().parse()?)
    }
}

fn drawn(random: &SeededRandom) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Inclusion proofs of random leaves, and what the program keeps allocated, at a million
/// leaves and at ten.
fn proofs(report: &mut Report, ten: bool) -> Outcome<()> {
    let mut small = None;
    memory::start();
    let site = Site::new()?;
    for (name, size) in [
        ("audit/proof_1m", MILLION),
        ("audit/proof_10m", 10 * MILLION),
    ] {
        if size > MILLION && !ten {
            break;
        }
        eprintln!("  filling a log with {size} leaves");
        site.fill(size)?;
        let (proofs, bare) = {
            let (proofs, bare) = time_proofs(&site, size)?;
            (proofs.micros(), bare.micros().median)
        };
        // The samples are given back: what is counted is the log's.
        let kept = memory::live();
        let entry = Entry::latency(name, "us", proofs);
        report.add(entry.beside("reading its tiles, bare", bare));
        match small {
            None => small = Some(kept),
            Some(small) => {
                let entry = Entry::each("audit/log_memory", "B", kept);
                report.add(entry.beside("at 1,000,000 leaves", small));
                opening(report, &site, size)?;
            }
        }
    }
    memory::stop();
    Ok(())
}

/// A start reads the whole journal, and compares every file with what it leads to.
fn opening(report: &mut Report, site: &Site, size: u64) -> Outcome<()> {
    let start = Instant::now();
    let opened = site
        .runtime
        .block_on(open(&site.journal, &site.tiles, &site.keys))?;
    let seconds = start.elapsed().as_secs_f64();
    drop(opened);
    eprintln!("  opened in {seconds:.1} s");
    let entry = Entry::rate("audit/open_10m", size as f64 / seconds);
    report.add(entry.beside("SHA-256 of 512 bytes", super::hashes()));
    Ok(())
}

fn time_proofs(site: &Site, size: u64) -> Outcome<(Sample, Sample)> {
    let random = SeededRandom::new(size);
    let (mut proofs, mut bare) = (Sample::new(), Sample::new());
    site.runtime.block_on(async {
        for _ in 0..PROOFS {
            let index = drawn(&random) % size;
            let start = Instant::now();
            let proof = site.audit.prove(site.org, LeafIndex(index)).await?;
            proofs.add(start.elapsed());
            black_box(proof);
        }
        Outcome::Ok(())
    })?;
    for _ in 0..PROOFS {
        let plan = ProofPlan::inclusion(drawn(&random) % size, size)?;
        let paths: Vec<_> = plan
            .tiles()
            .iter()
            .map(|tile| site.path(&tile.to_string()))
            .collect();
        let start = Instant::now();
        for path in &paths {
            black_box(std::fs::read::<&Path>(path)?);
        }
        bare.add(start.elapsed());
    }
    Ok((proofs, bare))
}
