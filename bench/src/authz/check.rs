//! Whole checks: found again, and evaluated anew.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use creto_authz::{Action, ResourceRef};

use super::BUDGET;
use super::hot::{hits, sixteen_each};
use super::world::World;
use crate::peers::Peers;
use crate::report::{Entry, Report};
use crate::ticks::{Summary, Ticks};

/// With the keys that fit a processor's nearest cache, a further one, and none.
pub(super) fn run(report: &mut Report, peers: &Peers, line: f64) -> Result<(), Box<dyn Error>> {
    for (keys, name) in [
        (1 << 10, "authz/check/1k"),
        (1 << 16, "authz/check/64k"),
        (1 << 20, "authz/check/1m"),
    ] {
        let both = [(1, name.to_owned()), (2, format!("{name}/2t"))];
        if !both.iter().any(|(_, name)| report.wants(name)) {
            continue;
        }
        let world = World::with_policies(keys, 10)?;
        let asked = sixteen_each(&world, keys);
        for (threads, name) in &both {
            if !report.wants(name) {
                continue;
            }
            let sample = hits(&world.authz, &asked, *threads);
            let mut entry = Entry::latency(name, "ns", sample);
            for peer in peers.with(10)?.iter() {
                entry = entry.beside_engine(&peer.name, peer.median);
            }
            report.add(entry.beside("a line of memory", line));
        }
    }
    Ok(())
}

/// With so many policies; others decide as many for one principal of the four.
pub(super) fn misses(report: &mut Report, peers: &Peers) -> Result<(), Box<dyn Error>> {
    for (count, name) in [
        (10, "authz/miss/10"),
        (100, "authz/miss/100"),
        (1_000, "authz/miss/1000"),
        (10_000, "authz/miss/10000"),
    ] {
        if !report.wants(name) {
            continue;
        }
        let world = World::with_policies(1 << 10, count)?;
        let mut entry = Entry::latency(name, "ns", missed(&world, count));
        // What remembers does not decide.
        for peer in peers.with(count)?.iter() {
            if !peer.name.ends_with("remembered") {
                entry = entry.beside_engine(&peer.name, peer.median);
            }
        }
        report.add(entry);
    }
    Ok(())
}

/// Each call asks about a resource nobody asked about before.
fn missed(world: &World, count: usize) -> Summary {
    let bound = world.agent(0);
    let before = world.authz.counters().evaluated;
    let mut ticks = Ticks::new();
    let mut asked = 0_u64;
    let until = Instant::now() + BUDGET;
    while Instant::now() < until {
        let action = Action::named(&format!("act.{}", asked % 8));
        let resource = ResourceRef::resource(format!("new:{asked}"));
        let decision = ticks.time(|| world.authz.check(&bound, &action, &resource, 1));
        black_box(decision);
        asked += 1;
    }
    let evaluated = world.authz.counters().evaluated - before;
    assert_eq!(evaluated, asked, "of {count} policies every call evaluates");
    ticks.summary()
}
