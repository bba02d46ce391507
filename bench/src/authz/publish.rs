//! Policies in great number: loading them, and putting them in force under load.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use creto_authz::CompiledPolicies;
use nix::sys::resource::{UsageWho, getrusage};

use super::hot::{action, sixteen_each};
use super::world::{World, policies};
use crate::peers::Peers;
use crate::report::{Entry, Report};
use crate::ticks::Ticks;

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

/// The longest decision of one thread while another compiles 10,000 policies from text
/// and puts them in force, over and over. Beside it what the machine itself does to a
/// thread: the longest while the other compiles as much and publishes nothing, and while
/// it sleeps. How often the deciding thread waited for the other tells the two apart
/// where their longest do not. Two threads on two processors.
pub(super) fn pause(report: &mut Report) -> Result<(), Box<dyn Error>> {
    const PAUSE: &str = "authz/publish_pause";
    const WAITS: &str = "authz/publish_pause/waits";
    const CALL: &str = "authz/publish/10000";
    if ![PAUSE, WAITS, CALL].iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    let world = World::with_policies(1 << 10, MANY)?;
    let sources = policies(MANY);
    let asked = sixteen_each(&world, 1 << 10);
    let action = action();
    // What one thread's decisions take while this one does something else.
    let deciding = |meanwhile: &mut dyn FnMut()| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let handle = scope.spawn(|| {
                let mut ticks = Ticks::new();
                let before = waits()?;
                for number in (0..asked.count()).cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    ticks.time(|| asked.check(number, &world.authz, &action));
                }
                Ok::<_, std::io::Error>((ticks.summary(), waits()? - before))
            });
            meanwhile();
            stop.store(true, Ordering::Relaxed);
            handle.join().expect("no panic")
        })
    };
    let (quiet, _) = deciding(&mut || std::thread::sleep(Duration::from_secs(1)))?;
    let mut refused = None;
    let (compiling, _) = deciding(&mut || {
        for _ in 0..5 {
            refused = CompiledPolicies::compile(&sources).err();
        }
    })?;
    let mut calls = Ticks::new();
    let (busy, waited) = deciding(&mut || {
        for _ in 0..5 {
            match CompiledPolicies::compile(&sources) {
                Ok(set) => {
                    let set = Arc::new(set);
                    calls.time(|| world.authz.publish(world.org, set));
                }
                Err(error) => refused = Some(error),
            }
        }
    })?;
    if let Some(error) = refused {
        return Err(error.into());
    }
    let entry = Entry::longest(PAUSE, "ns", busy);
    let entry = entry.beside("longest while the same is only compiled", compiling.max);
    report.add(entry.beside("longest while nothing else runs", quiet.max));
    report.add(Entry::each(WAITS, "times", waited as f64));
    report.add(Entry::latency(CALL, "ns", calls.summary()));
    Ok(())
}
