//! Policies in great number: loading them, and putting them in force under load.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use creto_authz::{CompiledPolicies, PolicyError};
use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};

use super::hot::{action, sixteen_each};
use super::world::{World, policies};
use crate::peers::Peers;
use crate::report::{Entry, Report};
use crate::ticks::{Summary, Ticks, histogram};

const MANY: usize = 10_000;

/// From text to what decides: parsed, strictly validated, sliced.
pub(super) fn load(report: &mut Report, peers: &Peers) -> Result<(), Box<dyn Error>> {
    const NAME: &str = "authz/load/10000";
    if !report.wants(NAME) {
        return Ok(());
    }
    let sources = policies(MANY);
    let mut ticks = Ticks::new();
    for _ in 0..5 {
        ticks.time(|| CompiledPolicies::compile(&sources))?;
    }
    let mut entry = Entry::latency(NAME, "ns", ticks.summary());
    for peer in peers.with(MANY, 1)?.iter() {
        if !peer.name.ends_with("remembered") {
            entry = entry.beside_engine(&peer.name, peer.load);
        }
    }
    report.add(entry);
    Ok(())
}

/// How often this thread gave its processor up by itself, as it does to wait for another.
fn waits() -> std::io::Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok(usage.voluntary_context_switches().unsigned_abs())
}

/// What one thread's decisions took over some rounds.
struct Decisions {
    all: Histogram<u64>,
    /// The longest of each round.
    longest: Histogram<u64>,
    waits: u64,
}

impl Decisions {
    fn none() -> Self {
        Self {
            all: histogram(),
            longest: histogram(),
            waits: 0,
        }
    }

    /// One round: another thread runs `decide` until this one is done with `meanwhile`.
    fn round(
        &mut self,
        mut decide: impl FnMut(usize) + Send,
        meanwhile: impl FnOnce() -> Result<(), PolicyError>,
    ) -> Result<(), Box<dyn Error>> {
        let stop = AtomicBool::new(false);
        let (round, waits) = std::thread::scope(|scope| {
            let handle = scope.spawn(|| {
                let mut ticks = Ticks::new();
                let before = waits()?;
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    ticks.time(|| decide(number));
                }
                Ok::<_, std::io::Error>((ticks.histogram, waits()? - before))
            });
            let done = meanwhile();
            stop.store(true, Ordering::Relaxed);
            let decided = handle.join().expect("no panic");
            done.map_err(Box::<dyn Error>::from)
                .and_then(|()| Ok(decided?))
        })?;
        self.longest.saturating_record(round.max());
        self.all.add(&round)?;
        self.waits += waits;
        Ok(())
    }

    /// The median of the rounds' longest.
    fn longest(&self) -> f64 {
        Summary::of(&self.longest, 1.0).median
    }
}

/// The longest decision of one thread while another compiles 10,000 policies from text
/// and puts them in force. Beside it what the machine itself does to a thread: the longest
/// while the other compiles as much and publishes nothing, and while it sleeps. What the
/// machine does comes and goes, so the three take turns and the median round counts. How
/// often the deciding thread waited for the other tells a pause of ours from the
/// machine's. Two threads on two processors.
pub(super) fn pause(report: &mut Report) -> Result<(), Box<dyn Error>> {
    const PAUSE: &str = "authz/publish_pause";
    const WAITS: &str = "authz/publish_pause/waits";
    const CALL: &str = "authz/publish/10000";
    const ROUNDS: usize = 9;
    if ![PAUSE, WAITS, CALL].iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    let world = World::with_policies(1 << 10, MANY)?;
    let sources = policies(MANY);
    let asked = sixteen_each(&world, 1 << 10);
    let action = action();
    let decide = |number: usize| {
        black_box(asked.check(number % asked.count(), &world.authz, &action));
    };
    let [mut quiet, mut compiling, mut busy] = [(); 3].map(|()| Decisions::none());
    let mut calls = Ticks::new();
    for _ in 0..ROUNDS {
        quiet.round(decide, || {
            std::thread::sleep(Duration::from_millis(500));
            Ok(())
        })?;
        compiling.round(decide, || CompiledPolicies::compile(&sources).map(drop))?;
        busy.round(decide, || {
            let set = Arc::new(CompiledPolicies::compile(&sources)?);
            calls.time(|| world.authz.publish(world.org, set));
            Ok(())
        })?;
    }
    let entry = Entry::longest(PAUSE, "ns", busy.longest(), Summary::of(&busy.all, 1.0));
    let entry = entry.beside(
        "longest while the same is only compiled",
        compiling.longest(),
    );
    report.add(entry.beside("longest while nothing else runs", quiet.longest()));
    report.add(Entry::each(WAITS, "times", busy.waits as f64));
    report.add(Entry::latency(CALL, "ns", calls.summary()));
    Ok(())
}
