//! Questions that are asked again and again.

use std::sync::Barrier;
use std::time::Instant;

use creto_authz::{Action, Authz, Bound, Decision, ResourceRef};

use super::BUDGET;
use super::world::World;
use crate::ticks::{Summary, Ticks};

/// A xorshift generator: an order that no prefetcher knows, the same on every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed))
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).expect("64 bits") % most
    }
}

/// The questions of a hot set: each agent about each resource.
pub(super) struct Hot {
    agents: Vec<Bound>,
    resources: Vec<ResourceRef>,
}

/// What every question is about.
pub(super) fn action() -> Action {
    Action::named("act.0")
}

impl Hot {
    /// So many resources for each agent. Every question was asked once.
    pub(super) fn new(world: &World, agents: impl IntoIterator<Item = Bound>, each: usize) -> Self {
        let resource = |number| ResourceRef::resource(format!("res:{number}"));
        let hot = Self {
            agents: agents.into_iter().collect(),
            resources: (0..each).map(resource).collect(),
        };
        for number in 0..hot.count() {
            let decision = hot.check(number, &world.authz, &action());
            assert!(
                matches!(decision, Decision::Allow { hold: Some(_), .. }),
                "{decision:?}"
            );
        }
        hot
    }

    pub(super) fn count(&self) -> usize {
        self.agents.len() * self.resources.len()
    }

    pub(super) fn check(&self, number: usize, authz: &Authz, action: &Action) -> Decision {
        let (agent, resource) = (number / self.resources.len(), number % self.resources.len());
        authz.check(&self.agents[agent], action, &self.resources[resource], 1)
    }
}

/// So many questions, sixteen of each agent, as when many agents work on a few things
/// each.
pub(super) fn sixteen_each(world: &World, questions: usize) -> Hot {
    Hot::new(
        world,
        (0..questions / 16).map(|agent| world.agent(agent)),
        16,
    )
}

/// What the call takes on so many threads at once; it is given a number at random
/// below `most`, and what it returns is dropped outside of the timing.
pub(super) fn at_random<T>(
    threads: u64,
    most: usize,
    call: impl Fn(usize) -> T + Sync,
    good: impl Fn(&T) -> bool + Sync,
) -> Summary {
    at_random_with(threads, most, |_| {}, call, good)
}

/// The same, with something to be made for each call that is not timed.
pub(super) fn at_random_with<T>(
    threads: u64,
    most: usize,
    before: impl Fn(usize) + Sync,
    call: impl Fn(usize) -> T + Sync,
    good: impl Fn(&T) -> bool + Sync,
) -> Summary {
    let start = Barrier::new(usize::try_from(threads).expect("few"));
    let histograms: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let (start, before, call, good) = (&start, &before, &call, &good);
                scope.spawn(move || {
                    let mut ticks = Ticks::new();
                    let mut numbers = Numbers::new(thread + 1);
                    start.wait();
                    let until = Instant::now() + BUDGET;
                    while Instant::now() < until {
                        for _ in 0..4_096 {
                            let place = numbers.below(most);
                            before(place);
                            let answer = ticks.time(|| call(place));
                            assert!(good(&answer), "the answer changed");
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
    let mut all = crate::ticks::histogram();
    for histogram in histograms {
        all.add(histogram).expect("the same bounds");
    }
    Summary::of(&all, 1.0)
}

/// What a check of these questions takes. Whoever acts keeps the reservation; here it
/// is given back.
pub(super) fn hits(authz: &Authz, hot: &Hot, threads: u64) -> Summary {
    let action = action();
    at_random(
        threads,
        hot.count(),
        |place| hot.check(place, authz, &action),
        Decision::is_allowed,
    )
}
