//! What a check costs as policies and agents grow in number. Beside each entry
//! stands the one it is to be as fast as.

use std::error::Error;

use creto_authz::Bound;

use super::hot::{Hot, hits, sixteen_each};
use super::world::World;
use crate::report::{Entry, Report};

/// Questions that are asked, where they do not grow in number too.
const HOT: usize = 1 << 10;

pub(super) fn run(report: &mut Report, line: f64) -> Result<(), Box<dyn Error>> {
    policies(report)?;
    agents(report, line)
}

/// Of so many policies, remembered.
fn policies(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let name = |count| format!("authz/check/policies/{count}");
    let counts = [10, 100, 1_000, 10_000];
    if !counts.iter().any(|count| report.wants(&name(*count))) {
        return Ok(());
    }
    let mut least = None;
    for count in counts {
        let world = World::with_policies(HOT, count)?;
        let sample = hits(&world.authz, &sixteen_each(&world, HOT), 1);
        let least = least.get_or_insert(sample.median);
        let entry = Entry::latency(&name(count), "ns", sample);
        report.add(entry.beside("with 10 policies", *least));
    }
    Ok(())
}

/// Of so many bound agents, each of which decided: as many hot as ever, spread over
/// all of them; and all of them hot.
fn agents(report: &mut Report, line: f64) -> Result<(), Box<dyn Error>> {
    let name = |of: &str| format!("authz/check/agents/{of}");
    let sizes = [(1 << 10, "1k"), (1 << 15, "32k"), (1 << 20, "1m")];
    let all = |of: &str| name(of) + "/all_hot";
    if !sizes
        .iter()
        .any(|(_, of)| report.wants(&name(of)) || report.wants(&all(of)))
    {
        return Ok(());
    }
    let mut least = None;
    for (count, of) in sizes {
        let world = World::with_policies(count, 10)?;
        let bound: Vec<Bound> = (0..count).map(|number| world.agent(number)).collect();
        let asked = Hot::new(&world, bound.iter().cloned(), 1);
        let every = count / HOT;
        let hot = Hot::new(&world, bound.iter().step_by(every).cloned(), 1);
        let beside = "with 1,024 agents";
        let sample = hits(&world.authz, &hot, 1);
        let least = *least.get_or_insert(sample.median);
        let entry = Entry::latency(&name(of), "ns", sample);
        report.add(entry.beside(beside, least));
        if every > 1 {
            let entry = Entry::latency(&all(of), "ns", hits(&world.authz, &asked, 1));
            let entry = entry.beside(beside, least);
            report.add(entry.beside("a line of memory", line));
        }
    }
    Ok(())
}
