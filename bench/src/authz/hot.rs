//! Questions that are asked again and again.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use creto_authz::{Action, Authz, Bound, Decision, ResourceRef};

use super::BUDGET;
use super::world::World;
use crate::ticks::{Summary, Ticks};

/// A xorshift generator: an order that no prefetcher knows, the same on every run.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed))
    }

    pub(super) fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).expect("64 bits") % most
    }
}

/// A question of the hot set. The resources are shared: a caller has the name it
/// asks about at hand, and what is measured is not its cold memory.
pub(super) struct Asked {
    pub(super) bound: Bound,
    resource: Arc<ResourceRef>,
}

/// What every question is about.
pub(super) fn action() -> Action {
    Action::named("act.0")
}

fn resource(number: usize) -> Arc<ResourceRef> {
    Arc::new(ResourceRef::resource(format!("res:{number}")))
}

impl Asked {
    /// About a resource of its own.
    pub(super) fn one(bound: Bound) -> Self {
        Self {
            bound,
            resource: resource(0),
        }
    }

    pub(super) fn check(&self, authz: &Authz, action: &Action) -> Decision {
        authz.check(&self.bound, action, &self.resource, 1)
    }

    pub(super) fn assert_allowed(&self, authz: &Authz) {
        let decision = self.check(authz, &action());
        assert!(
            matches!(decision, Decision::Allow { hold: Some(_), .. }),
            "{decision:?}"
        );
    }
}

/// Sixteen resources an agent, as when many agents work on a few things each.
pub(super) fn sixteen_each(world: &World, keys: usize) -> Vec<Asked> {
    let resources: Vec<_> = (0..16).map(resource).collect();
    let asked: Vec<_> = (0..keys / 16)
        .map(|agent| world.agent(agent))
        .flat_map(|bound| {
            resources.iter().map(move |resource| Asked {
                bound: bound.clone(),
                resource: Arc::clone(resource),
            })
        })
        .collect();
    for question in &asked {
        question.assert_allowed(&world.authz);
    }
    asked
}

/// One resource an agent, the same for all.
pub(super) fn one_each(world: &World, bounds: impl Iterator<Item = Bound>) -> Vec<Asked> {
    let resource = resource(0);
    let asked: Vec<_> = bounds
        .map(|bound| Asked {
            bound,
            resource: Arc::clone(&resource),
        })
        .collect();
    for question in &asked {
        question.assert_allowed(&world.authz);
    }
    asked
}

/// What the call takes on so many threads at once; it is given a number at random
/// below `most`, and what it returns is dropped outside of the timing. Each number is
/// shown to `ahead` one call earlier: whoever asks has read what it asks with.
pub(super) fn at_random<T>(
    threads: u64,
    most: usize,
    ahead: impl Fn(usize) + Sync,
    call: impl Fn(usize) -> T + Sync,
    good: impl Fn(&T) -> bool + Sync,
) -> Summary {
    let start = Barrier::new(usize::try_from(threads).expect("few"));
    let histograms: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let (start, ahead, call, good) = (&start, &ahead, &call, &good);
                scope.spawn(move || {
                    let mut ticks = Ticks::new();
                    let mut numbers = Numbers::new(thread + 1);
                    let mut place = 0;
                    start.wait();
                    let until = Instant::now() + BUDGET;
                    while Instant::now() < until {
                        for _ in 0..4_096 {
                            let next = numbers.below(most);
                            ahead(next);
                            let answer = ticks.time(|| call(place));
                            assert!(good(&answer), "the answer changed");
                            place = next;
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
pub(super) fn hits(authz: &Authz, asked: &[Asked], threads: u64) -> Summary {
    let action = action();
    at_random(
        threads,
        asked.len(),
        |place| {
            black_box(Arc::as_ptr(&asked[place].resource));
        },
        |place| asked[place].check(authz, &action),
        Decision::is_allowed,
    )
}
