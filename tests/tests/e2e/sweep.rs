//! Timestamps and places in the log against real time, while the server is killed and
//! its clock stepped.
//!
//! Whatever was answered before something else was asked for has to stand before it: one
//! pass over all beginnings and ends finds where it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use creto_client::read_credential;
use creto_consensus::{OracleError, TimestampOracle as _};
use creto_grpc::RemoteOracle;
use creto_types::{Clock as _, HybridTimestamp, SystemClock};
use serde_json::{Value, json};

use crate::harness::{Server, Site, faketime, set};

/// Kills, unless `CRETO_SWEEP_KILLS` says how many.
const KILLS: u64 = 200;

/// Connections, and callers on each.
const CONNECTIONS: usize = 4;
const CALLERS: usize = 3;

/// Answers that have to come between two disturbances.
const ANSWERS: u64 = 40;

/// How far ahead of the machine's the server's clock may be set: what is tolerated is a
/// minute, and a window of a second may come on top.
const SMALL_MS: u64 = 50_000;

/// A step that is refused.
const LARGE_MS: i64 = 4_000_000;

/// How long nothing may come of anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// One call: when it began and ended, and the range of numbers that it was answered.
#[derive(Clone, Copy, Debug)]
struct Call {
    began: Duration,
    ended: Duration,
    first: u64,
    last: u64,
}

/// What is wrong with these calls: numbers that came twice, and numbers that are not
/// above one that was answered before they were asked for.
fn wrong(calls: &[Call]) -> Vec<String> {
    let mut found = Vec::new();
    let mut by_number = calls.to_vec();
    by_number.sort_by_key(|call| call.first);
    for pair in by_number.windows(2) {
        if pair[1].first <= pair[0].last {
            found.push(format!("twice: {pair:?}"));
        }
    }
    // At one instant beginnings come first: nothing says that they were later.
    let mut instants: Vec<(Duration, bool, &Call)> = calls
        .iter()
        .flat_map(|call| [(call.began, false, call), (call.ended, true, call)])
        .collect();
    instants.sort_by_key(|(at, ended, _)| (*at, *ended));
    let mut highest: Option<&Call> = None;
    // By their unique first numbers.
    let mut floors: BTreeMap<u64, &Call> = BTreeMap::new();
    for (_, ended, call) in instants {
        if !ended {
            if let Some(floor) = highest {
                floors.insert(call.first, floor);
            }
            continue;
        }
        if let Some(floor) = floors.remove(&call.first)
            && call.first <= floor.last
        {
            found.push(format!("fell: {call:?} after {floor:?}"));
        }
        if highest.is_none_or(|highest| highest.last < call.last) {
            highest = Some(call);
        }
    }
    found
}

#[test]
fn the_sweep_sees_what_is_wrong() {
    let call = |began, ended, first, last| Call {
        began: Duration::from_millis(began),
        ended: Duration::from_millis(ended),
        first,
        last,
    };
    let good = [
        call(0, 5, 10, 19),
        call(1, 6, 1, 9),
        call(5, 7, 20, 20),
        call(6, 6, 21, 30),
    ];
    assert_eq!(wrong(&good), [""; 0]);
    let mut bad = good.to_vec();
    bad.push(call(5, 9, 15, 15));
    assert!(wrong(&bad)[0].starts_with("twice"));
    let mut bad = good.to_vec();
    bad.push(call(7, 8, 0, 0));
    let found = wrong(&bad);
    assert!(
        found.len() == 1 && found[0].starts_with("fell"),
        "{found:?}"
    );
    // While another still runs, either may be the first.
    let mut good = good.to_vec();
    good.push(call(5, 8, 40, 50));
    good.push(call(7, 9, 31, 39));
    assert_eq!(wrong(&good), [""; 0]);
}

/// The clock under the server alone: the machine's, and what this file says.
struct Steps {
    file: PathBuf,
    /// Odd while the clock is wrong by more than is tolerated.
    turn: AtomicU64,
    /// When that changed, in milliseconds of the test.
    turned_ms: AtomicU64,
}

impl Steps {
    fn set(&self, ahead_ms: i64) {
        let new = self.file.with_extension("new");
        let seconds = Duration::from_millis(ahead_ms.unsigned_abs()).as_secs();
        let millis = ahead_ms.unsigned_abs() % 1_000;
        let sign = if ahead_ms < 0 { '-' } else { '+' };
        std::fs::write(&new, format!("{sign}{seconds}.{millis:03}\n")).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }

    fn turn(&self, now: Duration) {
        self.turn.fetch_add(1, Ordering::SeqCst);
        self.turned_ms.store(millis(now), Ordering::SeqCst);
    }

    /// Whether a refusal that came now may be the clock's. One that was on its way when
    /// the clock was put right counts with it.
    fn may_refuse(&self, now: Duration) -> bool {
        let since = millis(now).saturating_sub(self.turned_ms.load(Ordering::SeqCst));
        self.turn.load(Ordering::SeqCst) % 2 == 1 || since < 1_000
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// What all callers share.
struct Sweep {
    clock: SystemClock,
    steps: Steps,
    answers: AtomicU64,
    stepped_back: AtomicU64,
    stepped_forward: AtomicU64,
    over: AtomicBool,
    /// What a caller did not expect.
    failed: Mutex<Option<String>>,
}

impl Sweep {
    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// A refusal by the clock, when there may be one.
    fn refused(&self, message: &str) {
        if message.contains("clock_stepped_back") {
            self.stepped_back.fetch_add(1, Ordering::SeqCst);
        } else if message.contains("clock_stepped_forward") {
            self.stepped_forward.fetch_add(1, Ordering::SeqCst);
        } else if !message.contains("invalid_token") {
            // By a clock that is far behind the credential was issued in the future.
            self.fail(message);
        }
        if !self.steps.may_refuse(self.now()) {
            self.fail(message);
        }
    }

    fn fail(&self, message: &str) {
        self.failed
            .lock()
            .unwrap()
            .get_or_insert_with(|| message.to_owned());
    }

    /// Until it is so, or something failed.
    fn until(&self, what: &str, server: &Server, reached: impl Fn() -> bool) {
        let until = self.now() + PATIENCE;
        while !reached() {
            let failed = self.failed.lock().unwrap().clone();
            let log = || std::fs::read_to_string(server.path().join("server.log")).unwrap();
            if let Some(failed) = failed {
                panic!("{failed}\n{}", log());
            }
            assert!(self.now() < until, "no {what}:\n{}", log());
            sleep(Duration::from_millis(1));
        }
    }

    fn until_answers(&self, server: &Server) {
        let least = self.answers.load(Ordering::SeqCst) + ANSWERS;
        self.until("answers", server, || {
            self.answers.load(Ordering::SeqCst) >= least
        });
    }
}

/// A fixed sequence of numbers without a visible pattern (Knuth's MMIX multiplier).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Takes timestamps until the sweep is over.
async fn take(sweep: Arc<Sweep>, oracle: RemoteOracle, seed: u64) -> Vec<Call> {
    let mut numbers = Numbers(seed);
    let mut calls = Vec::new();
    while !sweep.over() {
        // Now and then so many that milliseconds run out.
        let most = if numbers.below(16) == 0 { 200_000 } else { 50 };
        let count = NonZeroU32::new(u32::try_from(numbers.below(most) + 1).unwrap()).unwrap();
        let began = sweep.now();
        match oracle.reserve(count).await {
            Ok(range) => {
                let ended = sweep.now();
                calls.push(Call {
                    began,
                    ended,
                    first: range.first().as_u64(),
                    last: range.last().as_u64(),
                });
                sweep.answers.fetch_add(1, Ordering::SeqCst);
            }
            Err(OracleError::Unreachable(_)) => tokio::time::sleep(Duration::from_millis(2)).await,
            Err(error) => {
                sweep.refused(&error.to_string());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
    calls
}

/// Has something recorded until the sweep is over; gives the leaves.
fn record(sweep: &Sweep, owner: &creto_client::Client) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut number = 0;
    while !sweep.over() {
        number += 1;
        let body = json!({"name": format!("agent-{number}"), "kind": "agent"});
        let began = sweep.now();
        match owner.post("/v1/principals", &body) {
            Ok(made) => {
                let ended = sweep.now();
                let leaf = made["leaf"].as_u64().unwrap();
                calls.push(Call {
                    began,
                    ended,
                    first: leaf,
                    last: leaf,
                });
            }
            Err(error) => match error.reported_code() {
                "server_unreachable" | "call_interrupted" => {}
                code => sweep.refused(code),
            },
        }
        sleep(Duration::from_millis(10));
    }
    calls
}

/// What the library of a killed process could not put away itself.
fn left_behind(process: u32) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        let _ = std::fs::remove_file(format!("/dev/shm/{name}{process}"));
    }
}

/// The leaves as the log has them: that their timestamps rise with their places.
fn leaves(server: &Server) -> BTreeSet<u64> {
    let owner = server.owner();
    let mut last: Option<HybridTimestamp> = None;
    let mut found = BTreeSet::new();
    for leaf in 0.. {
        let Ok(stored) = owner.get(&format!("/v1/audit/leaves/{leaf}")) else {
            break;
        };
        let ts: HybridTimestamp = stored["record"]["ts"].as_str().unwrap().parse().unwrap();
        assert!(last.is_none_or(|last| last < ts), "{last:?} {stored}");
        last = Some(ts);
        found.insert(leaf);
    }
    found
}

#[test]
fn time_never_runs_back_whatever_is_killed_or_stepped() {
    let kills = std::env::var("CRETO_SWEEP_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let grpc = listener.local_addr().unwrap();
    drop(listener);
    let mut site = Site::new();
    site.configure(|table| set(table, &["server", "grpc_listen"], grpc.to_string()));
    let steps = Steps {
        file: site.path().join("clock"),
        turn: AtomicU64::new(0),
        turned_ms: AtomicU64::new(0),
    };
    steps.set(0);
    for (name, value) in [
        ("LD_PRELOAD", faketime()),
        (
            "FAKETIME_TIMESTAMP_FILE",
            steps.file.to_str().unwrap().to_owned(),
        ),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ] {
        site.give(name, value);
    }
    let mut server = site.start();
    let credential = read_credential(&server.path().join("data/owner.credential")).unwrap();
    let sweep = Arc::new(Sweep {
        clock: SystemClock::new(),
        steps,
        answers: AtomicU64::new(0),
        stepped_back: AtomicU64::new(0),
        stepped_forward: AtomicU64::new(0),
        over: AtomicBool::new(false),
        failed: Mutex::new(None),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let entered = runtime.enter();
    let mut takers = Vec::new();
    for connection in 0..CONNECTIONS {
        let oracle = RemoteOracle::new(grpc, credential.expose()).unwrap();
        for caller in 0..CALLERS {
            let seed = u64::try_from(connection * CALLERS + caller).unwrap();
            takers.push(tokio::spawn(take(Arc::clone(&sweep), oracle.clone(), seed)));
        }
    }
    drop(entered);
    let recorder = {
        let (sweep, owner) = (Arc::clone(&sweep), server.owner());
        std::thread::spawn(move || record(&sweep, &owner))
    };

    let mut numbers = Numbers(kills);
    let mut small = |sweep: &Sweep| {
        let ahead = i64::try_from(numbers.below(SMALL_MS)).unwrap();
        sweep.steps.set(ahead);
        ahead
    };
    for kill in 0..kills {
        // Every fourth dies while it starts.
        if kill % 4 == 3 {
            sleep(Duration::from_millis(kill % 97));
        } else {
            sweep.until_answers(&server);
            let ahead = small(&sweep);
            sweep.until_answers(&server);
            let large = match kill % 20 {
                4 => Some((LARGE_MS, &sweep.stepped_forward)),
                14 => Some((-LARGE_MS, &sweep.stepped_back)),
                _ => None,
            };
            if let Some((step, refusals)) = large {
                let before = refusals.load(Ordering::SeqCst);
                sweep.steps.turn(sweep.now());
                sweep.steps.set(ahead + step);
                sweep.until("refusal by the clock", &server, || {
                    refusals.load(Ordering::SeqCst) > before
                });
                sweep.steps.set(ahead);
                sweep.steps.turn(sweep.now());
                sweep.until_answers(&server);
            }
        }
        let id = server.kill();
        left_behind(id);
        if kill % 3 == 0 {
            small(&sweep);
        }
        server.start_again();
    }
    sweep.until_answers(&server);
    sweep.over.store(true, Ordering::SeqCst);
    let calls: Vec<Call> = runtime.block_on(async {
        let mut all = Vec::new();
        for taker in takers {
            all.extend(taker.await.unwrap());
        }
        all
    });
    let recorded = recorder.join().unwrap();

    for (what, calls) in [("timestamps", &calls), ("places in the log", &recorded)] {
        let faults = wrong(calls);
        let few: Vec<_> = faults.iter().take(5).collect();
        assert!(few.is_empty(), "{} in {what}, {few:#?}", faults.len());
    }
    server.until_ready();
    let there = leaves(&server);
    let lost: Vec<&Call> = recorded
        .iter()
        .filter(|call| !there.contains(&call.first))
        .collect();
    assert!(lost.is_empty(), "acknowledged and not in the log: {lost:?}");
    let said = json!({
        "kills": kills,
        "answers": calls.len(),
        "timestamps": calls.iter().map(|call| call.last - call.first + 1).sum::<u64>(),
        "leaves": recorded.len(),
        "refused, clock too far ahead": sweep.stepped_forward.load(Ordering::SeqCst),
        "refused, clock too far back": sweep.stepped_back.load(Ordering::SeqCst),
        "duplicates": 0,
        "regressions": 0,
        "seconds": sweep.now().as_secs(),
    });
    println!("{said}");
    assert!(
        recorded.len() > usize::try_from(kills / 4).unwrap(),
        "{said}"
    );
    assert_ne!(said["answers"], Value::from(0));
}
