//! The decision: a chain of three with a budget on each hop and a rate, found again
//! and evaluated anew, beside Cedar.

mod world;

use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use cedar_policy::{Authorizer, Context, Entities, EntityUid, PolicySet, Request};
use creto_authz::{Action, Authz, Bound, CompiledPolicies, Decision, ResourceRef};
use hdrhistogram::Histogram;

use crate::report::{Peer, Report};
use crate::sample::Summary;
use world::{World, policies};

const BUDGET: Duration = Duration::from_secs(3);

/// Timings of single calls by the processor's ticks, less what reading them costs.
struct Ticks {
    clock: quanta::Clock,
    empty: u64,
    histogram: Histogram<u64>,
}

impl Ticks {
    fn new() -> Self {
        let clock = quanta::Clock::new();
        let mut histogram = Histogram::new_with_max(60_000_000_000, 3).expect("valid bounds");
        for _ in 0..1_000_000 {
            let start = clock.raw();
            let took = clock.delta_as_nanos(start, clock.raw());
            histogram.saturating_record(took);
        }
        let empty = histogram.value_at_quantile(0.5);
        histogram.reset();
        Self {
            clock,
            empty,
            histogram,
        }
    }

    fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = self.clock.raw();
        let value = call();
        let took = self.clock.delta_as_nanos(start, self.clock.raw());
        self.histogram
            .saturating_record(took.saturating_sub(self.empty));
        value
    }

    fn summary(&self) -> Summary {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64;
        Summary {
            median: at(0.5),
            p99: at(0.99),
        }
    }
}

/// A question of the hot set. The resources are shared: a caller has the name it
/// asks about at hand, and what is measured is not its cold memory.
struct Asked {
    bound: Bound,
    resource: Arc<ResourceRef>,
}

pub(crate) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let cedar = cedar(10)?;
    let peer = |value| Peer {
        name: "cedar-policy, one principal",
        value,
    };
    for (keys, one, two) in [
        (1 << 10, "authz/check/1k", "authz/check/1k/2t"),
        (1 << 16, "authz/check/64k", "authz/check/64k/2t"),
        (1 << 20, "authz/check/1m", "authz/check/1m/2t"),
    ] {
        let world = World::new(keys)?;
        world
            .authz
            .publish(world.org, CompiledPolicies::compile(&policies(10))?);
        let asked = hot_set(&world, keys);
        let action = Action::named("act.0");
        for question in &asked {
            assert_allowed(&world.authz, question, &action);
        }
        report.latency(
            one,
            "ns",
            hits(&world.authz, &asked, &action, 1),
            peer(cedar),
        );
        report.latency(
            two,
            "ns",
            hits(&world.authz, &asked, &action, 2),
            peer(cedar),
        );
    }
    for (count, name) in [
        (10, "authz/miss/10"),
        (100, "authz/miss/100"),
        (1_000, "authz/miss/1000"),
        (10_000, "authz/miss/10000"),
    ] {
        let world = World::new(1 << 10)?;
        world
            .authz
            .publish(world.org, CompiledPolicies::compile(&policies(count))?);
        report.latency(name, "ns", misses(&world, count), peer(self::cedar(count)?));
    }
    load(report)?;
    publish_pause(report)
}

/// Sixteen resources an agent, as when many agents work on a few things each.
fn hot_set(world: &World, keys: usize) -> Vec<Asked> {
    let resources: Vec<_> = (0..16)
        .map(|number| Arc::new(ResourceRef::resource(format!("res:{number}"))))
        .collect();
    (0..keys / 16)
        .map(|agent| world.agent(agent))
        .flat_map(|bound| {
            resources.iter().map(move |resource| Asked {
                bound: bound.clone(),
                resource: Arc::clone(resource),
            })
        })
        .collect()
}

fn assert_allowed(authz: &Authz, question: &Asked, action: &Action) {
    let decision = authz.check(&question.bound, action, &question.resource, 1);
    assert!(
        matches!(decision, Decision::Allow { hold: Some(_), .. }),
        "{decision:?}"
    );
}

/// Visits the questions in an order that no prefetcher knows.
fn hits(authz: &Authz, asked: &[Asked], action: &Action, threads: u64) -> Summary {
    let start = Barrier::new(usize::try_from(threads).expect("few"));
    let histograms: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let start = &start;
                scope.spawn(move || {
                    let mut ticks = Ticks::new();
                    let mut at = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(thread + 1);
                    start.wait();
                    let until = Instant::now() + BUDGET;
                    while Instant::now() < until {
                        for _ in 0..4_096 {
                            at ^= at << 13;
                            at ^= at >> 7;
                            at ^= at << 17;
                            let place = usize::try_from(at >> 11).expect("64 bits") % asked.len();
                            let question = &asked[place];
                            // Dropped outside of the timing: whoever acts keeps it.
                            let decision = ticks.time(|| {
                                authz.check(&question.bound, action, &question.resource, 1)
                            });
                            assert!(decision.is_allowed(), "{decision:?}");
                        }
                    }
                    ticks.histogram
                })
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join().expect("no thread panics"))
            .collect()
    });
    let mut all = Ticks::new();
    for histogram in histograms {
        all.histogram.add(histogram).expect("the same bounds");
    }
    all.summary()
}

/// Each call asks about a resource nobody asked about before.
fn misses(world: &World, count: usize) -> Summary {
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

fn load(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let sources = policies(10_000);
    let text: String = sources.policies.iter().map(|(_, text)| &**text).collect();
    let mut ticks = Ticks::new();
    let mut parse = Ticks::new();
    for _ in 0..5 {
        ticks.time(|| CompiledPolicies::compile(&sources))?;
        parse.time(|| text.parse::<PolicySet>().map_err(Box::new))?;
    }
    report.latency(
        "authz/load/10000",
        "ns",
        ticks.summary(),
        Peer {
            name: "cedar-policy, parsing alone",
            value: parse.summary().median,
        },
    );
    Ok(())
}

/// The longest time between two decisions of one thread while another publishes
/// 10,000 policies over and over; beside it the longest without publishing, which
/// is what the machine itself does to a thread. Two threads on two processors.
fn publish_pause(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let world = World::new(1 << 10)?;
    let compiled: Vec<_> = (0..6)
        .map(|_| CompiledPolicies::compile(&policies(10_000)))
        .collect::<Result<_, _>>()?;
    let mut compiled: Vec<Arc<CompiledPolicies>> = compiled.into_iter().map(Arc::new).collect();
    let first = compiled.pop().ok_or("six sets")?;
    world.authz.publish(world.org, first);
    let asked = hot_set(&world, 1 << 10);
    let action = Action::named("act.0");
    let stop = AtomicBool::new(false);
    let decide = || {
        let mut longest = Ticks::new();
        let mut at = 0;
        while !stop.load(Ordering::Relaxed) {
            let question = &asked[at % asked.len()];
            longest.time(|| {
                world
                    .authz
                    .check(&question.bound, &action, &question.resource, 1)
            });
            at += 1;
        }
        longest.histogram.max()
    };
    let quiet = std::thread::scope(|scope| {
        let handle = scope.spawn(decide);
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        handle.join().expect("no panic")
    });
    stop.store(false, Ordering::Relaxed);
    let mut calls = Ticks::new();
    let busy = std::thread::scope(|scope| {
        let handle = scope.spawn(decide);
        for set in compiled {
            std::thread::sleep(Duration::from_millis(200));
            calls.time(|| world.authz.publish(world.org, set));
        }
        stop.store(true, Ordering::Relaxed);
        handle.join().expect("no panic")
    });
    report.latency(
        "authz/publish_pause",
        "ns",
        Summary {
            median: busy as f64,
            p99: busy as f64,
        },
        Peer {
            name: "longest without publishing",
            value: quiet as f64,
        },
    );
    eprintln!("publish call: {} ns", calls.summary().median);
    Ok(())
}

/// One bare evaluation by Cedar, for one principal, of as many policies.
fn cedar(count: usize) -> Result<f64, Box<dyn Error>> {
    let sources = policies(count);
    let text: String = sources.policies.iter().map(|(_, text)| &**text).collect();
    let set: PolicySet = text.parse()?;
    let entities = Entities::from_json_value(
        serde_json::json!([
            {"uid": {"type": "Creto::Agent", "id": "bot"},
             "attrs": {"name": "bot", "depth": 3}, "parents": []},
            {"uid": {"type": "Creto::Resource", "id": "res:1"},
             "attrs": {"id": "res:1"}, "parents": []},
        ]),
        None,
    )?;
    let authorizer = Authorizer::new();
    let uid = |text: &str| text.parse::<EntityUid>().map_err(Box::new);
    let request = Request::new(
        uid("Creto::Agent::\"bot\"")?,
        uid("Creto::Action::\"act.0\"")?,
        uid("Creto::Resource::\"res:1\"")?,
        Context::from_json_value(
            serde_json::json!({"oversight": {"approved": false}, "units": 1}),
            None,
        )?,
        None,
    )?;
    let mut ticks = Ticks::new();
    let until = Instant::now() + BUDGET / 3;
    while Instant::now() < until {
        black_box(ticks.time(|| authorizer.is_authorized(&request, &set, &entities)));
    }
    Ok(ticks.summary().median)
}
