//! Policies, authority and limits decide nothing together that no moment had together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use creto_authz::{Action, CheckRequest, ResourceRef};
use creto_governor::PublishPoliciesRequest;
use creto_types::PrincipalName;

use crate::exactness::{
    ASKED, Links, Outcome, because, limit, links, of_decision, policies, set, with_schema,
};
use crate::world::World;

const CALLERS: u64 = 2;
const ROUNDS: u64 = 8;

/// Looked at by each check that they permit, which therefore takes longer than the changes
/// that are made during it.
const LOOKED_AT: u64 = 600;

fn slow_policies() -> PublishPoliciesRequest {
    let never = |place| {
        format!(
            "@id(\"never{place}\") forbid (principal, action, resource) \
             when {{ context.units == {place} }};\n"
        )
    };
    let mut text: String = (0..LOOKED_AT).map(never).collect();
    text.push_str("@id(\"v0\") permit (principal, action, resource);");
    with_schema(text, "many to look at")
}

/// What takes away the callers' right, while limits change.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Policies,
    Suspension,
}

/// A check that reserves, or the question what it would say.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Check,
    Would,
}

/// Whether the limit always has room for what is asked while the callers have the right to
/// it, or never.
#[derive(Clone, Copy, Debug)]
enum Room {
    Always,
    Never,
}

impl Room {
    /// The limits of a round: while the callers have the right, and while they do not.
    fn limits(self, round: u64) -> (u64, u64) {
        let (small, big) = (limit(2 * round), limit(2 * round + 1));
        match self {
            Self::Always => (big, small),
            Self::Never => (small, big),
        }
    }
}

#[derive(Default)]
struct Callers {
    stop: AtomicBool,
    /// How often the limit answered, because they had the right.
    entitled: AtomicU64,
    /// How often they had not.
    refused: AtomicU64,
}

impl Callers {
    fn ask(&self, world: &World, links: &Links, caller: u64, asked: Asked) -> Vec<Outcome> {
        let action = Action::named("history.read");
        let mut seen = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            // A remembered answer leaves no time for a change.
            let repo = ResourceRef::resource(format!("repo:{caller}.{}", seen.len()));
            // Of those who stand below `lead`.
            let bound = links.bound.first().expect("one of them");
            let decision = match asked {
                Asked::Check => world.authz.check(bound, &action, &repo, ASKED),
                Asked::Would => {
                    let request = CheckRequest {
                        action: &action,
                        resource: &repo,
                        units: ASKED,
                        reserve: true,
                        context: &[],
                        approval: None,
                    };
                    world.authz.would(bound, &request)
                }
            };
            let outcome = of_decision(decision);
            let count = match outcome {
                Outcome::Allowed(_) | Outcome::Exceeded(..) => &self.entitled,
                _ => &self.refused,
            };
            count.fetch_add(1, Ordering::SeqCst);
            seen.push(outcome);
        }
        seen
    }
}

/// Until it was counted as often again as there are callers, or one of them is gone.
async fn more(count: &AtomicU64, threads: &[JoinHandle<Vec<Outcome>>]) {
    let until = count.load(Ordering::SeqCst) + CALLERS;
    while count.load(Ordering::SeqCst) < until && !threads.iter().any(JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
}

/// The right is taken away, the limit becomes another and the same again, the right is
/// given back: each change begins when the one before has returned. So nobody has both
/// the right and the other limit.
async fn never_both(world: &Arc<World>, links: &Arc<Links>, by: By, asked: Asked, room: Room) {
    let (governor, owner) = (&world.governor, &world.owner);
    let lead: PrincipalName = "lead".parse().expect("a name");
    let slow = world.authz.policies(owner.org()).expect("are published");
    let limited = async |most| {
        let done = governor.set_limit(owner, set(most), None).await;
        done.expect("is set");
    };
    limited(room.limits(0).0).await;

    let callers = Arc::new(Callers::default());
    let threads: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (callers, world, links) =
                (Arc::clone(&callers), Arc::clone(world), Arc::clone(links));
            std::thread::spawn(move || callers.ask(&world, &links, caller, asked))
        })
        .collect();
    for round in 1..=ROUNDS {
        more(&callers.entitled, &threads).await;
        let (with, without) = room.limits(round);
        match by {
            By::Policies => {
                let done = governor.publish_policies(owner, policies(2 * round + 1), None);
                done.await.expect("publishes");
            }
            By::Suspension => {
                let done = governor.suspend_principal(owner, &lead, because(), None);
                done.await.expect("suspends");
            }
        }
        limited(without).await;
        // What began with the right has come to the limit by now.
        more(&callers.refused, &threads).await;
        limited(with).await;
        match by {
            // Compiled before: it would take most of the time.
            By::Policies => world.authz.publish(owner.org(), Arc::clone(&slow)),
            By::Suspension => {
                let done = governor.resume_principal(owner, &lead, because(), None);
                done.await.expect("resumes");
            }
        }
    }
    more(&callers.entitled, &threads).await;
    callers.stop.store(true, Ordering::SeqCst);
    for thread in threads {
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        for outcome in joined.expect("is waited for").expect("answers") {
            let possible = match (&outcome, room) {
                (Outcome::Allowed(_), Room::Always) | (Outcome::Exceeded(..), Room::Never) => true,
                (Outcome::Denied(_), _) => by == By::Policies,
                (Outcome::Suspended, _) => by == By::Suspension,
                _ => false,
            };
            assert!(possible, "{outcome:?} {by:?} {asked:?} {room:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_replaced_is_never_joined_with_a_limit_that_was_set_later() {
    let world = Arc::new(World::paced(1_000_000_000).await);
    let links = Arc::new(links(&world).await);
    let published = world
        .governor
        .publish_policies(&world.owner, slow_policies(), None);
    published.await.expect("publishes");
    for by in [By::Policies, By::Suspension] {
        for asked in [Asked::Check, Asked::Would] {
            for room in [Room::Always, Room::Never] {
                never_both(&world, &links, by, asked, room).await;
            }
        }
    }
}
