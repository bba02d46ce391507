//! The log over a file layer that fails, at every call that writes, syncs or names.
//!
//! The layer is `shim.c`, compiled here and loaded into this binary, which is started
//! again for each run. What is done is in `work.rs`, what is checked afterwards in `check.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod check;
mod keys;
mod opened;
mod payloads;
mod told;
mod watching;
mod work;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use told::Told;
use work::Work;

/// Runs at a time: the machine's processors are shared with other tests.
const RUNS_AT_A_TIME: usize = 3;

/// How many calls lie between an error and the power cut after it, and for how many
/// calls the disk is full.
const GAP: usize = 5;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The work itself, in a process of its own: started by the sweep, and nothing to do
/// for anybody else.
#[test]
fn child() {
    if let Some(dir) = std::env::var_os("FAULT_DIR") {
        let name = std::env::var("FAULT_WORK").unwrap();
        let work = Work::ALL.into_iter().find(|work| work.name() == name);
        work::run(Path::new(&dir), work.unwrap());
    }
}

struct Bench {
    dir: tempfile::TempDir,
    shim: PathBuf,
    before: Told,
    runs: AtomicUsize,
}

impl Bench {
    fn new(work: Work) -> Self {
        // In memory where there is such a place: what a sync is for is kept by the shim.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let shim = dir.path().join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let compiled = Command::new("cc")
            .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .args([&shim, &source])
            .arg("-ldl")
            .status()
            .unwrap();
        assert!(compiled.success());
        std::fs::create_dir(dir.path().join("before")).unwrap();
        let before = runtime().block_on(work::prepare(&dir.path().join("before"), work));
        Self {
            dir,
            shim,
            before,
            runs: AtomicUsize::new(0),
        }
    }

    /// One run: a copy of the store (or none), the work with one fault, the check. Gives
    /// the kinds of the calls.
    fn run(&self, work: Work, mode: &str, at: usize) -> String {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let place = self.dir.path().join(number.to_string());
        let (data, aside) = (place.join("data"), place.join("aside"));
        for dir in [&place, &data, &aside] {
            std::fs::create_dir(dir).unwrap();
        }
        let mut told = Told::default();
        if work != Work::Creation {
            copy(&self.dir.path().join("before"), &data);
            told = self.before.clone();
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
            .env("LD_PRELOAD", &self.shim)
            .env("FAULT_DIR", &data)
            .env("FAULT_ASIDE", &aside)
            .env("FAULT_LOG", place.join("calls"))
            .env("FAULT_MODE", mode)
            .env("FAULT_AT", at.to_string())
            .env("FAULT_GAP", GAP.to_string())
            .env("FAULT_SEED", (at * 2 + 1).to_string())
            .env("FAULT_WORK", work.name())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        told.read(&said);
        let what = || {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("{mode} at {at} of {work:?}:\n{said}\n{errors}")
        };
        // Whoever survives the fault comes to the end; nothing but the fault kills.
        let survives = ["eio", "eio-applied", "enospc", "short"].contains(&mode);
        let killed = output.status.signal() == Some(9);
        assert!(told.has("done") || (killed && !survives), "{}", what());
        if mode == "enospc" {
            // The engine does not say why it cannot be opened, nor traces what they wait for.
            let vague = ["open store_unavailable", "trace trace_unavailable"];
            for failure in told.failures() {
                let clear = failure.ends_with(" storage_full");
                assert!(clear || vague.contains(&failure.as_str()), "{}", what());
            }
        }
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime().block_on(check::check(&data, &told, work));
        }));
        assert!(checked.is_ok(), "{}", what());
        let calls = std::fs::read_to_string(place.join("calls")).unwrap_or_default();
        std::fs::remove_dir_all(&place).unwrap();
        calls
    }

    /// Every fault of this kind, a few at a time.
    fn sweep(&self, faults: &[(Work, &str, usize)]) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..RUNS_AT_A_TIME {
                scope.spawn(|| {
                    while let Some((work, mode, at)) =
                        faults.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        self.run(*work, mode, *at);
                    }
                });
            }
        });
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// What fails how, and at which kinds of calls.
const MODES: [(&str, &str); 9] = [
    ("kill", "wsnt"),
    ("half", "w"),
    ("cut", "wsnt"),
    ("some", "wsnt"),
    ("eio", "wsnt"),
    ("eio-applied", "wsnt"),
    ("eio-cut", "wsnt"),
    ("enospc", "wnt"),
    ("short", "w"),
];

fn whatever_fails(work: Work) {
    let bench = Arc::new(Bench::new(work));
    let calls = bench.run(work, "count", 0);
    // That the layer sees what it is to see.
    for kind in ['w', 's', 'n'] {
        assert!(calls.contains(kind), "{calls}");
    }
    assert!(calls.len() > 50, "{calls}");
    let mut faults = Vec::new();
    for (mode, kinds) in MODES {
        // Of the hundreds of calls that make tables each is struck, and not in each mode.
        if work == Work::Creation && !["kill", "cut", "some", "eio", "enospc"].contains(&mode) {
            continue;
        }
        let points = (1..).zip(calls.chars());
        let points = points.filter(|(_, kind)| kinds.contains(*kind));
        faults.extend(points.map(|(at, _)| (work, mode, at)));
    }
    bench.sweep(&faults);
}

#[test]
fn whatever_fails_while_a_store_is_made() {
    whatever_fails(Work::Creation);
}

#[test]
fn whatever_fails_while_a_log_grows() {
    whatever_fails(Work::Log);
}

#[test]
fn whatever_fails_while_payloads_end() {
    whatever_fails(Work::Payloads);
}

#[test]
fn whatever_fails_while_a_log_is_watched() {
    whatever_fails(Work::Watching);
}
