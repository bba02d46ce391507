//! What is done over the failing file layer, and on what it is begun.

use std::path::Path;

use creto_audit::RecordClass;
use creto_nhi::PrincipalType;
use creto_tlog::Checkpoint;
use creto_types::Commit;

use crate::keys::other_keys;
use crate::opened::{HERS, OLD, Opened, now, numbered, person};
use crate::told::{Told, again, append, say, signed_anew};
use crate::{payloads, watching};

/// What is done in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A store is made, and its log begins.
    Creation,
    /// The log grows and is signed, and has its keys replaced.
    Log,
    /// Payloads end, or are sealed anew.
    Payloads,
    /// A witness and a monitor follow the log.
    Watching,
}

impl Work {
    pub(crate) const ALL: [Self; 4] = [Self::Creation, Self::Log, Self::Payloads, Self::Watching];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Creation => "creation",
            Self::Log => "log",
            Self::Payloads => "payloads",
            Self::Watching => "watching",
        }
    }
}

/// Says on standard output what it was told, when it was told.
pub(crate) fn run(dir: &Path, work: Work) {
    // With its runtime goes whatever still works in the background, and then the store is
    // closed.
    fn alone(work: impl Future<Output = ()>) {
        crate::runtime().block_on(work);
    }
    match work {
        Work::Creation => alone(creation(dir)),
        Work::Log => {
            alone(log(dir, 100));
            alone(log(dir, 110));
        }
        Work::Payloads => alone(payloads::session(dir)),
        Work::Watching => alone(watching::session(dir)),
    }
    say("done");
}

async fn opened(dir: &Path, first: u64) -> Opened {
    again("open", async || Opened::open(dir, first + 1).await).await
}

fn say_keys(log: &Opened) {
    say(&format!("keys {} {}", log.org, log.pair().join(" ")));
}

async fn creation(dir: &Path) {
    let log = opened(dir, 100).await;
    say_keys(&log);
    append(&log, &[100]).await;
    checkpoint(&log).await;
}

/// An opening of the store, with evidence, trace and a checkpoint. In the first one the keys of
/// the log are replaced, in the second the former keys are retired.
async fn log(dir: &Path, first: u64) {
    let log = opened(dir, first).await;
    say_keys(&log);
    for n in [first, first + 1] {
        append(&log, &[n]).await;
    }
    let n = first + 2;
    again("trace", async || {
        let traced = log.audit.trace(numbered(log.org, n)).await;
        // Refused while an earlier batch fails, which is tried again by this.
        log.audit.flush().await?;
        traced
    })
    .await;
    say(&format!("trace {n}"));
    other_keys(&log, first + 5).await;
    append(&log, &[first + 3, first + 4]).await;
    // Some that may share a transaction.
    let [one, two, three] = [[first + 6], [first + 7], [first + 8]];
    tokio::join!(append(&log, &one), append(&log, &two), append(&log, &three));
    checkpoint(&log).await;
}

async fn checkpoint(log: &Opened) {
    signed_anew("checkpoint", log, async || {
        log.audit.checkpoint(log.org).await
    })
    .await;
}

/// The leaves of a full tile.
const TILE: u64 = 256;

/// The store as it is before a run: a few leaves, published, cosigned and looked at. Where the
/// log is to grow it is a few leaves short of a full tile, so that one is written and the
/// partial ones before it go. Gives what was said of it.
pub(crate) async fn prepare(dir: &Path, work: Work) -> Told {
    let log = Opened::open(dir, 5_555).await.unwrap();
    let mut lines = vec![format!("keys {} {}", log.org, log.pair().join(" "))];
    let kind = PrincipalType::Human;
    let draft = log.nhi.draft_principal(log.org, person(), kind).unwrap();
    let added = log.nhi.commit_principal(draft, Commit::default());
    added.await.unwrap();
    let carol = person();
    let suspended = log.nhi.suspend(log.org, &carol, now(), Commit::default());
    suspended.await.unwrap();
    for n in (0..OLD).chain([HERS, 10, 11]) {
        let class = match n == OLD - 1 {
            true => RecordClass::Trace,
            false => RecordClass::Evidence,
        };
        let leaf = log.append(class, &[n]).await.unwrap()[0];
        lines.push(format!("evidence {leaf} {n}"));
    }
    log.audit.checkpoint(log.org).await.unwrap();
    if work == Work::Log {
        let Checkpoint { size, .. } = log.visible().await.unwrap();
        let numbers: Vec<u64> = (1_000 + size..1_000 + TILE - 4).collect();
        let leaves = log.append(RecordClass::Evidence, &numbers).await.unwrap();
        let leaves = leaves.iter().zip(&numbers);
        lines.extend(leaves.map(|(leaf, n)| format!("evidence {leaf} {n}")));
        log.audit.checkpoint(log.org).await.unwrap();
    }
    let Checkpoint { size, root, .. } = log.visible().await.unwrap();
    watching::begin(dir, &log).await;
    for word in ["checkpoint", "cosigned", "shown", "watched"] {
        lines.push(format!("{word} {size} {root}"));
    }
    drop(log);
    lines.extend(payloads::in_files(dir));
    let mut told = Told::default();
    told.read(&lines.join("\n"));
    told
}
