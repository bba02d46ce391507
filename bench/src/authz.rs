//! The decision: a chain of three with a budget on each hop and a rate, found again
//! and evaluated anew, beside other engines; what it costs as policies and agents
//! grow in number, and what the counters cost alone.

mod cedar;
mod check;
mod flat;
mod hot;
mod publish;
mod quota;
mod world;

use std::error::Error;
use std::time::Duration;

pub(crate) use cedar::cedar;
pub(crate) use hot::Numbers;
pub(crate) use world::World;

use crate::lines::Ring;
use crate::memory;
use crate::peers::Peers;
use crate::report::{Entry, Report};

const BUDGET: Duration = Duration::from_secs(3);

pub(crate) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let peers = Peers::new()?;
    // First, while nothing that was given back lies about in the allocator.
    bound_agents(report)?;
    let line = memory_line(report);
    check::run(report, &peers, line)?;
    flat::run(report, line)?;
    quota::run(report)?;
    check::misses(report, &peers)?;
    publish::load(report, &peers)?;
    publish::pause(report)
}

/// What one more bound agent keeps in memory, averaged over many that share their
/// leads: its identity and handle, the counters of its budget and its rate, and its
/// entry in every table that it is found by. Each has decided once. A second entry adds
/// what a registry keeps whether it is bound or not: its link and its standing.
fn bound_agents(report: &mut Report) -> Result<(), Box<dyn Error>> {
    const NAME: &str = "authz/memory/bound_agent";
    const WITH_LINK: &str = "authz/memory/bound_agent/with_link";
    const BEFORE: usize = 1 << 10;
    const AGENTS: usize = 1 << 16;
    if !report.wants(NAME) && !report.wants(WITH_LINK) {
        return Ok(());
    }
    let world = World::with_policies(AGENTS, 10)?;
    let mut delegated = Vec::with_capacity(AGENTS);
    let mut bound = Vec::with_capacity(BEFORE + AGENTS);
    let mut bind = |agent| {
        let agent = world.bind(agent);
        hot::Hot::new(&world, [agent.clone()], 1);
        bound.push(agent);
    };
    (0..BEFORE).for_each(|number| bind(world.delegate(number)));
    let ((), links, linked) = memory::kept(|| {
        let numbers = BEFORE..BEFORE + AGENTS;
        delegated.extend(numbers.map(|number| world.delegate(number)));
    });
    let ((), live, resident) = memory::kept(|| delegated.drain(..).for_each(&mut bind));
    let each = |bytes: f64| bytes / AGENTS as f64;
    for (name, live, resident) in [
        (NAME, live, resident),
        (WITH_LINK, live + links, resident + linked),
    ] {
        let entry = Entry::each(name, "B", each(live));
        report.add(entry.beside("grown resident memory", each(resident)));
    }
    Ok(())
}

/// One line of main memory, read at random, each after the other: the limit of
/// whatever has more of them than caches hold.
fn memory_line(report: &mut Report) -> f64 {
    const NAME: &str = "machine/memory_line";
    const STEPS: u32 = 4_096;
    let ring = Ring::new();
    let mut at = 0;
    let sample = crate::sample::Sample::time(Duration::from_secs(1), 1, || {
        at = std::hint::black_box(ring.walk(at, STEPS));
    });
    let sample = sample.nanos().over(STEPS.into());
    report.add(Entry::latency(NAME, "ns", sample));
    sample.median
}
