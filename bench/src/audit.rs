//! Durable evidence against the disk it is synced to.

mod proofs;

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use creto_audit::{Journal as _, RecordClass};
use creto_state_sqlite::{Database, SqliteJournal};
use creto_types::{Evidence, IdSource, OrgId, SystemClock, SystemIds, SystemRandom, Timestamp};

use crate::report::{Entry, Report};
use crate::sample::Sample;

const CALLERS: usize = 64;
const APPENDS_EACH: usize = 500;

pub(crate) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    appends(report)?;
    proofs::run(report)
}

fn appends(report: &mut Report) -> Result<(), Box<dyn Error>> {
    if !report.wants("audit/append") && !report.wants("audit/append_latency") {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let sync = syncs(directory.path())?;
    // About 512 bytes as a leaf.
    let filler = serde_json::json!({ "filler": "x".repeat(320) });
    let database = Database::open(&directory.path().join("bench.db"))?;
    let journal = Arc::new(SqliteJournal::new(database));
    let ids = SystemIds::new(Arc::new(SystemClock::new()), Arc::new(SystemRandom));
    let org: OrgId = (&ids as &dyn IdSource).next();
    let runtime = tokio::runtime::Runtime::new()?;
    let start = Instant::now();
    let sample = runtime.block_on(async {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (journal, filler) = (Arc::clone(&journal), filler.clone());
                tokio::spawn(async move {
                    let mut took = Vec::with_capacity(APPENDS_EACH);
                    for _ in 0..APPENDS_EACH {
                        let start = Instant::now();
                        let appended = journal
                            .append(RecordClass::Evidence, vec![record(org, filler.clone())])
                            .await;
                        appended.map_err(|error| error.to_string())?;
                        took.push(start.elapsed());
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
        Ok::<Sample, String>(sample)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let appends = f64::from(u32::try_from(CALLERS * APPENDS_EACH)?);
    let sync = sync.micros().median;
    let peer = "4 KiB fdatasync";
    report.add(Entry::rate("audit/append", appends / seconds).beside(peer, 1_000_000.0 / sync));
    let entry = Entry::latency("audit/append_latency", "us", sample.micros());
    report.add(entry.beside(peer, sync));
    Ok(())
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
