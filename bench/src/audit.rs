//! Durable evidence against the disk it is synced to, and against the hash of its leaves.

mod proofs;

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use creto_audit::{Journal as _, RecordClass};
use creto_state_sqlite::{Database, SqliteJournal};
use creto_types::{Evidence, IdSource, OrgId, SystemClock, SystemIds, SystemRandom, Timestamp};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::report::{Entry, Report};
use crate::sample::Sample;

/// Callers that each wait for their record before they append the next one.
const CALLERS: usize = 512;
const APPENDS_EACH: usize = 1_000;

/// What a group of this many records has to bring to the disk in one sync.
const LEAF: usize = 512;

/// Where the cost of an append is looked at again, and the appends looked at.
const MILLION: u64 = 1_000_000;
const FAR: u64 = 10 * MILLION;

pub(crate) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    appending(report)?;
    proofs::run(report)
}

fn appending(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let wanted = ["audit/append", "audit/append_latency"];
    let far = report.asks_for("audit/append_10m");
    if !far && !wanted.iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let sync = syncs(directory.path())?;
    let bare = bare_groups(directory.path())?;
    let database = Database::open(&directory.path().join("bench.db"))?;
    let journal = Arc::new(SqliteJournal::new(database));
    let ids = SystemIds::new(Arc::new(SystemClock::new()), Arc::new(SystemRandom));
    let org: OrgId = (&ids as &dyn IdSource).next();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (rate, sample) = runtime.block_on(appends(&journal, org, filler, || ()))?;
    let sync = sync.micros().median;
    let hashes = hashes();
    report.add(
        Entry::rate("audit/append", rate)
            .beside("fdatasync of the bytes alone, 512 a sync", bare)
            .beside("4 KiB fdatasync", 1_000_000.0 / sync)
            .beside("SHA-256 of 512 bytes", hashes),
    );
    let entry = Entry::latency("audit/append_latency", "us", sample.micros());
    report.add(entry.beside("4 KiB fdatasync", sync));
    // Minutes and gigabytes: not for whoever asks for what else begins so.
    if far {
        let at = |leaves| {
            let leaves = fill(&runtime, &journal, org, leaves)?;
            put_away(directory.path())?;
            let (rate, _) = runtime.block_on(appends(&journal, org, filler, || ()))?;
            eprintln!("  at {leaves} leaves: {rate:.1} 1/s");
            Ok::<f64, Box<dyn Error>>(rate)
        };
        let (first, last) = (at(MILLION)?, at(FAR)?);
        report.add(Entry::rate("audit/append_10m", last).beside("at one million", first));
    }
    Ok(())
}

/// Appends of such records a second, and how long each took. Once one is acknowledged that is
/// told.
async fn appends(
    journal: &Arc<SqliteJournal>,
    org: OrgId,
    body: fn() -> serde_json::Value,
    acknowledged: impl Fn() + Clone + Send + 'static,
) -> Result<(f64, Sample), Box<dyn Error>> {
    let start = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (journal, acknowledged) = (Arc::clone(journal), acknowledged.clone());
            tokio::spawn(async move {
                let mut took = Vec::with_capacity(APPENDS_EACH);
                for _ in 0..APPENDS_EACH {
                    let start = Instant::now();
                    let appended = journal
                        .append(RecordClass::Evidence, vec![record(org, body())])
                        .await;
                    appended.map_err(|error| error.to_string())?;
                    took.push(start.elapsed());
                    acknowledged();
                }
                Ok::<Vec<Duration>, String>(took)
            })
        })
        .collect();
    let mut sample = Sample::new();
    for caller in callers {
        for took in caller.await.map_err(|error| error.to_string())?? {
            sample.add(took);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let appends = f64::from(u32::try_from(CALLERS * APPENDS_EACH)?);
    Ok((appends / seconds, sample))
}

/// Appends in large batches until the log is this long.
fn fill(
    runtime: &tokio::runtime::Runtime,
    journal: &Arc<SqliteJournal>,
    org: OrgId,
    to: u64,
) -> Result<u64, Box<dyn Error>> {
    runtime.block_on(async {
        let mut size = journal.size(org).await?;
        while size < to {
            let batch = (0..1_024).map(|_| record(org, filler())).collect();
            size += u64::try_from(journal.append(RecordClass::Evidence, batch).await?.len())?;
        }
        Ok(size)
    })
}

/// Waits until all that was written is on the disk, and gives the memory back that the
/// system keeps it in. Otherwise what was filled in before would be measured: on its way to the
/// disk, and by the memory it takes. A virtual machine has to ask its host for pages that it
/// did not use before, which takes longer than all the rest of an append.
fn put_away(directory: &Path) -> Result<(), Box<dyn Error>> {
    for file in std::fs::read_dir(directory)? {
        let file = File::open(file?.path())?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

/// Leaves a second when a group's bytes are written to a plain file and synced, and
/// nothing else is done.
fn bare_groups(directory: &Path) -> Result<f64, Box<dyn Error>> {
    let file = File::create(directory.join("bare"))?;
    let group = vec![7_u8; CALLERS * LEAF];
    let mut at = 0;
    let mut syncs = 0_u32;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        file.write_all_at(&group, at)?;
        file.sync_data()?;
        // As long as the engine's log of writes gets.
        at = (at + u64::try_from(group.len())?) % (16 << 20);
        syncs += 1;
    }
    let leaves = f64::from(syncs) * f64::from(u32::try_from(CALLERS)?);
    Ok(leaves / start.elapsed().as_secs_f64())
}

fn hashes() -> f64 {
    let leaf = [7_u8; LEAF];
    let sample = Sample::time(Duration::from_millis(500), 64, || {
        std::hint::black_box(creto_crypto::sha256(std::hint::black_box(&leaf)));
    });
    1_000_000.0 / sample.micros().median
}

pub(crate) fn syncs(directory: &Path) -> Result<Sample, Box<dyn Error>> {
    let mut file = File::create(directory.join("sync"))?;
    let mut failed = None;
    let sample = Sample::time(Duration::from_secs(2), 1, || {
        let written = file.write_all(&[0; 4096]).and_then(|()| file.sync_data());
        if let Err(error) = written {
            failed = Some(error);
        }
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(sample),
    }
}

/// As a body, about 512 bytes as a leaf.
fn filler() -> serde_json::Value {
    serde_json::json!({ "filler": "x".repeat(320) })
}

fn record(org: OrgId, body: serde_json::Value) -> Evidence {
    Evidence {
        org,
        kind: "bench.appended".to_owned(),
        at: Timestamp::UNIX_EPOCH,
        actor: "bench".parse().expect("a name"),
        action_id: None,
        body,
    }
}
