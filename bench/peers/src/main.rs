//! Asks other engines, in their own languages, for one principal what the benchmarks
//! ask Creto for a whole chain: `creto-bench-peers POLICIES MILLISECONDS THREADS` prints
//! what each takes to decide and to load so many policies, as JSON, in nanoseconds. Each
//! thread has an engine of its own, so that none waits for another.
//!
//! The policies are those of `bench/src/authz/world.rs`. The first of each action
//! permits it to everyone for at most 100 units of what is not secret; the others
//! permit or forbid it to one principal on one resource. Everything is prepared
//! before it is timed: parsed, compiled, inputs built where the engine takes them
//! built.

mod casbin;
mod rego;
#[path = "../../src/ticks.rs"]
mod ticks;

use std::error::Error;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ticks::{Summary, Ticks};

/// What is asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    principal: &'static str,
    action: &'static str,
    resource: &'static str,
    units: i32,
    allowed: bool,
}

/// The first is what is measured: it is allowed, and nothing may forbid it. The
/// others show that the engine judges all of what it was given; they need 100
/// policies.
const QUESTIONS: [Question; 5] = [
    question("bot", "act.0", "res:1", 1, true),
    question("bot", "act.0", "secret:1", 1, false),
    question("bot", "act.0", "res:1", 101, false),
    // Policy 16 permits `act.0` beyond the condition; 24 forbids it within it.
    question("other-16", "act.0", "other:8", 101, true),
    question("other-24", "act.0", "other:12", 1, false),
];

const fn question(
    principal: &'static str,
    action: &'static str,
    resource: &'static str,
    units: i32,
    allowed: bool,
) -> Question {
    Question {
        principal,
        action,
        resource,
        units,
        allowed,
    }
}

/// One of the policies that name one principal and one resource.
struct Named {
    forbids: bool,
    principal: String,
    action: String,
    resource: String,
}

/// The actions that are permitted to everyone.
fn open(count: usize) -> impl Iterator<Item = String> {
    (0..count.min(8)).map(|number| format!("act.{number}"))
}

fn named(count: usize) -> impl Iterator<Item = Named> {
    (8..count).map(|number| Named {
        forbids: number % 3 == 0,
        principal: format!("other-{number}"),
        action: format!("act.{}", number % 8),
        resource: format!("other:{}", number / 2),
    })
}

/// An engine with its policies.
trait Engine {
    fn name(&self) -> &'static str;
    /// Decides the question of this place in [`QUESTIONS`].
    fn decide(&mut self, question: usize) -> bool;
}

type Load<'a> = &'a (dyn Fn() -> Result<Box<dyn Engine>, Box<dyn Error>> + Sync);

/// One engine's timings: of loading, and of deciding.
struct Timed {
    name: &'static str,
    load: Summary,
    deciding: Ticks,
}

/// What one thread sees. Deciding starts when all threads have loaded.
fn timed(count: usize, budget: Duration, start: &Barrier, load: Load<'_>) -> Result<Timed, String> {
    let mut loading = Ticks::new();
    let loaded = loading.time(load).map_err(|error| error.to_string());
    start.wait();
    let mut engine = loaded?;
    let name = engine.name();
    let known = if count < 100 { 3 } else { QUESTIONS.len() };
    for (place, question) in QUESTIONS.iter().enumerate().take(known) {
        if engine.decide(place) != question.allowed {
            return Err(format!("{name} decides otherwise: {question:?}"));
        }
    }
    let mut deciding = Ticks::new();
    let until = Instant::now() + budget;
    while Instant::now() < until {
        let allowed = deciding.time(|| engine.decide(0));
        if !allowed {
            return Err(format!("{name} changed its mind"));
        }
    }
    let load = loading.summary();
    Ok(Timed {
        name,
        load,
        deciding,
    })
}

/// What an engine takes, in nanoseconds.
fn measured(
    count: usize,
    budget: Duration,
    threads: usize,
    load: Load<'_>,
) -> Result<Value, Box<dyn Error>> {
    let start = Barrier::new(threads);
    let mut timings = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| timed(count, budget, &start, load)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("no engine panics"))
            .collect::<Result<Vec<_>, _>>()
    })?
    .into_iter();
    let mut all = timings.next().ok_or("at least one thread")?;
    for other in timings {
        all.deciding.histogram.add(&other.deciding.histogram)?;
    }
    let Summary { median, p99, max } = all.deciding.summary();
    Ok(json!({
        "name": all.name,
        "median": median,
        "p99": p99,
        "max": max,
        "load": all.load.median,
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |what| -> Result<u64, Box<dyn Error>> {
        let usage = "usage: creto-bench-peers POLICIES MILLISECONDS THREADS";
        let text = arguments.next().ok_or(usage)?;
        text.parse()
            .map_err(|error| format!("{what}: {error}; {usage}").into())
    };
    let count = usize::try_from(number("POLICIES")?)?;
    let budget = Duration::from_millis(number("MILLISECONDS")?);
    let threads = usize::try_from(number("THREADS")?)?;
    if count < 8 {
        return Err("at least 8 policies: one for each action".into());
    }
    let found = [
        measured(count, budget, threads, &|| rego::rules(count))?,
        measured(count, budget, threads, &|| rego::data(count))?,
        measured(count, budget, threads, &|| casbin::asked(count))?,
        measured(count, budget, threads, &|| casbin::remembered(count))?,
    ];
    println!("{}", json!(found));
    Ok(())
}
