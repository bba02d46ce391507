//! Whole checks: found again, and evaluated anew.

use std::cell::RefCell;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

use creto_authz::{Action, Decision, ResourceRef};

use super::hot::{at_random_with, hits, sixteen_each};
use super::world::{World, policies, with_attributes};
use crate::peers::Peers;
use crate::report::{Entry, Report};
use crate::ticks::Summary;

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
            for peer in peers.with(10, *threads)?.iter() {
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
        // The same, and each action has a policy that looks at every principal.
        let attributes = format!("{name}/attributes");
        for (name, threads, policies) in [
            (name.to_owned(), 1, policies(count)),
            (format!("{name}/2t"), 2, policies(count)),
            (attributes, 1, with_attributes(policies(count))),
        ] {
            if !report.wants(&name) {
                continue;
            }
            let world = World::with(1 << 10, &policies)?;
            let mut entry = Entry::latency(&name, "ns", missed(&world, threads));
            // What remembers does not decide.
            for peer in peers.with(count, threads)?.iter() {
                if !peer.name.ends_with("remembered") {
                    entry = entry.beside_engine(&peer.name, peer.median);
                }
            }
            report.add(entry);
        }
    }
    Ok(())
}

/// Each call asks about a resource nobody asked about before.
fn missed(world: &World, threads: u64) -> Summary {
    let (authz, bound) = (&world.authz, world.agent(0));
    let before = authz.counters().evaluated;
    let actions: Vec<_> = (0..8)
        .map(|number| Action::named(&format!("act.{number}")))
        .collect();
    let asked = AtomicUsize::new(0);
    // The name of the resource is there before the call is timed.
    thread_local! {
        static NEXT: RefCell<Option<ResourceRef>> = const { RefCell::new(None) };
    }
    let summary = at_random_with(
        threads,
        actions.len(),
        |_| {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            let resource = ResourceRef::resource(format!("new:{number}"));
            NEXT.with_borrow_mut(|next| *next = Some(resource));
        },
        |place| {
            NEXT.with_borrow(|next| {
                let resource = next.as_ref().expect("was made");
                authz.check(&bound, &actions[place], resource, 1)
            })
        },
        Decision::is_allowed,
    );
    let evaluated = authz.counters().evaluated - before;
    let asked = u64::try_from(asked.into_inner()).expect("64 bits");
    assert_eq!(evaluated, asked, "every call evaluates");
    summary
}
