//! Suspended principals: who is stopped, until when, and how soon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use creto_nhi::test_util::{World, commit, name};
use creto_nhi::{AgentIdentity, LinkId, PrincipalType};
use creto_types::{Commit, OrgId, Timestamp};
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use crate::lifecycle::tricky;
use crate::{chained, code, crew};

async fn suspend(world: &World, org: OrgId, who: &str) -> Result<(), creto_nhi::NhiError> {
    let record = commit(org, "principal.suspended");
    let (who, at) = (name(who), world.now());
    world.nhi.suspend(org, &who, at, record).await.map(|_| ())
}

async fn resume(world: &World, org: OrgId, who: &str) -> Result<(), creto_nhi::NhiError> {
    let record = commit(org, "principal.resumed");
    world.nhi.resume(org, &name(who), record).await.map(|_| ())
}

#[tokio::test]
async fn everything_a_suspended_principal_stands_in_is_dead_until_it_is_resumed() {
    let (mut world, org, links) = chained().await;
    let identities = links.map(|link| world.nhi.identity_for_link(org, link).unwrap());
    let beside = world
        .delegate(org, world.request("alice", "helper", None))
        .await
        .unwrap();
    let beside = world.nhi.identity_for_link(org, beside).unwrap();
    let token = world.nhi.issue_token(&identities[2], None).unwrap().token;
    let epoch = beside.authority.epoch();

    suspend(&world, org, "worker").await.unwrap();
    assert!(beside.authority.epoch() > epoch, "readers are told");
    identities[0].live(world.now()).unwrap();
    beside.live(world.now()).unwrap();
    for identity in &identities[1..] {
        let error = identity.live(world.now()).unwrap_err();
        assert_eq!(error.to_string(), "`worker` is suspended");
        assert_eq!(code(identity.live(world.now())), "principal_suspended");
        assert_eq!(
            code(world.nhi.issue_token(identity, None)),
            "principal_suspended"
        );
    }
    assert_eq!(code(world.nhi.verify_token(&token)), "principal_suspended");

    world.restart().await;
    let standing = world.nhi.standing(org, &name("worker")).unwrap();
    assert!(standing.is_suspended());
    assert_eq!(standing.suspended_at(), Some(world.now()));
    assert_eq!(code(world.nhi.verify_token(&token)), "principal_suspended");
    let again = world.nhi.identity_for_link(org, links[2]).unwrap();
    let epoch = again.authority.epoch();
    resume(&world, org, "worker").await.unwrap();
    assert!(again.authority.epoch() > epoch, "readers are told");
    again.live(world.now()).unwrap();
    assert_eq!(standing.suspended_at(), None);
    world.nhi.verify_token(&token).unwrap();
    world.restart().await;
    world.nhi.verify_token(&token).unwrap();
}

#[tokio::test]
async fn a_suspended_human_takes_everything_below_along() {
    let (world, org) = crew().await;
    world.principal(org, "bob", PrincipalType::Human).await;
    let link = world
        .delegate(org, world.request("bob", "planner", None))
        .await
        .unwrap();
    let in_person = world.nhi.identity_for_human(org, &name("bob")).unwrap();
    let below = world.nhi.identity_for_link(org, link).unwrap();
    let alice = world.nhi.identity_for_human(org, &name("alice")).unwrap();
    suspend(&world, org, "bob").await.unwrap();
    for identity in [&in_person, &below] {
        assert_eq!(code(identity.live(world.now())), "principal_suspended");
    }
    alice.live(world.now()).unwrap();
    let request = world.request("bob", "worker", None);
    assert_eq!(
        code(world.nhi.draft_delegation(org, request)),
        "principal_suspended"
    );
}

#[tokio::test]
async fn nothing_is_delegated_from_through_or_to_a_suspended_principal() {
    let (world, org, [root, middle, _]) = chained().await;
    world.principal(org, "late", PrincipalType::Agent).await;
    let requests = [
        ("from", world.request("worker", "late", Some(middle))),
        ("to", world.request("alice", "worker", None)),
    ];
    let drafted = requests
        .clone()
        .map(|(_, request)| world.nhi.draft_delegation(org, request).unwrap());
    suspend(&world, org, "worker").await.unwrap();
    for (case, request) in requests {
        let refused = world.nhi.draft_delegation(org, request);
        assert_eq!(code(refused), "principal_suspended", "{case}");
    }
    for link in drafted {
        let refused = world.nhi.commit_delegation(link, Commit::default()).await;
        assert_eq!(code(refused), "principal_suspended");
    }
    resume(&world, org, "worker").await.unwrap();

    suspend(&world, org, "planner").await.unwrap();
    let through = world.request("worker", "late", Some(middle));
    let refused = world.nhi.draft_delegation(org, through);
    assert_eq!(code(refused), "principal_suspended", "through");
    let around = world.request("alice", "late", None);
    world.nhi.draft_delegation(org, around).unwrap();
    assert!(!world.nhi.link(org, root).unwrap().status.is_revoked());
}

/// A link that begins later may be passed on before; a dead one may not, and that
/// the chain begins later does not hide it.
#[tokio::test]
async fn a_chain_that_begins_later_hides_nothing_that_ended() {
    let (world, org) = crew().await;
    let mut later = world.request("alice", "planner", None);
    later.not_before = Some(world.after(60));
    let root = world.delegate(org, later).await.unwrap();
    let below = world
        .delegate(org, world.request("planner", "worker", Some(root)))
        .await
        .unwrap();
    let pass_on = || world.request("worker", "helper", Some(below));
    world.nhi.draft_delegation(org, pass_on()).unwrap();
    suspend(&world, org, "worker").await.unwrap();
    let refused = world.nhi.draft_delegation(org, pass_on());
    assert_eq!(code(refused), "principal_suspended");
    world
        .nhi
        .revoke(org, below, world.now(), Commit::default())
        .await
        .unwrap();
    let refused = world.nhi.draft_delegation(org, pass_on());
    assert_eq!(code(refused), "delegation_revoked");
}

#[tokio::test]
async fn what_cannot_be_suspended_says_why() {
    let (world, org) = crew().await;
    assert_eq!(world.nhi.owner(org).unwrap(), name("alice"));
    let epoch = |world: &World| {
        let alice = world.nhi.identity_for_human(org, &name("alice")).unwrap();
        alice.authority.epoch()
    };
    assert_eq!(
        code(suspend(&world, org, "alice").await),
        "owner_not_suspended"
    );
    assert_eq!(
        code(suspend(&world, org, "nobody").await),
        "unknown_principal"
    );
    assert_eq!(
        code(resume(&world, org, "nobody").await),
        "unknown_principal"
    );
    assert_eq!(
        code(suspend(&world, world.ids.next(), "planner").await),
        "unknown_organization"
    );
    assert_eq!(
        code(resume(&world, org, "planner").await),
        "principal_not_suspended"
    );
    suspend(&world, org, "planner").await.unwrap();
    let before = epoch(&world);
    assert_eq!(
        code(suspend(&world, org, "planner").await),
        "principal_already_suspended"
    );
    assert!(
        world
            .nhi
            .standing(org, &name("planner"))
            .unwrap()
            .is_suspended()
    );
    assert!(epoch(&world) >= before, "epochs never run backwards");
}

#[tokio::test]
async fn a_suspension_or_its_end_whose_answer_was_lost_takes_effect() {
    let (store, world, org, link) = tricky().await;
    let identity = world.nhi.identity_for_link(org, link).unwrap();
    store.mute.store(true, Ordering::SeqCst);
    let epoch = identity.authority.epoch();
    assert_eq!(
        code(suspend(&world, org, "planner").await),
        "store_unavailable"
    );
    assert_eq!(code(identity.live(world.now())), "principal_suspended");
    assert!(identity.authority.epoch() > epoch, "readers are told");
    assert_eq!(
        code(suspend(&world, org, "planner").await),
        "principal_already_suspended"
    );
    assert_eq!(
        code(resume(&world, org, "planner").await),
        "store_unavailable"
    );
    identity.live(world.now()).unwrap();
}

#[tokio::test]
async fn a_suspension_that_nobody_can_tell_of_counts_as_made_and_may_be_repeated() {
    let (store, world, org, link) = tricky().await;
    let identity = world.nhi.identity_for_link(org, link).unwrap();
    store.failing.store(true, Ordering::SeqCst);
    assert_eq!(
        code(suspend(&world, org, "planner").await),
        "store_unavailable"
    );
    identity.live(world.now()).unwrap();
    store.unreadable.store(true, Ordering::SeqCst);
    assert_eq!(
        code(suspend(&world, org, "planner").await),
        "store_unavailable"
    );
    assert_eq!(code(identity.live(world.now())), "principal_suspended");
    store.failing.store(false, Ordering::SeqCst);
    suspend(&world, org, "planner").await.unwrap();
    store.failing.store(true, Ordering::SeqCst);
    assert_eq!(
        code(resume(&world, org, "planner").await),
        "store_unavailable"
    );
    assert_eq!(code(identity.live(world.now())), "principal_suspended");
    store.failing.store(false, Ordering::SeqCst);
    resume(&world, org, "planner").await.unwrap();
    identity.live(world.now()).unwrap();
}

/// One identity of each of the two wrongs: standings of somebody else, or none.
#[tokio::test]
async fn an_identity_without_the_standings_of_its_chain_is_not_live() {
    let (world, org, [root, middle, _]) = chained().await;
    let root = world.nhi.identity_for_link(org, root).unwrap();
    let middle = world.nhi.identity_for_link(org, middle).unwrap();
    for standing in [Arc::clone(&root.standing), Arc::new([])] {
        let forged = AgentIdentity {
            standing,
            ..(*middle).clone()
        };
        assert_eq!(code(forged.live(world.now())), "chain_broken");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Suspend(usize),
    Resume(usize),
    Revoke(usize),
    /// To an agent, by one of the links there are or as the owner.
    Delegate {
        to: usize,
        by: Option<usize>,
    },
    Restart,
}

const AGENTS: [&str; 4] = ["a0", "a1", "a2", "a3"];

fn step() -> impl Strategy<Value = Step> {
    let agent = 0..AGENTS.len();
    prop_oneof![
        3 => agent.clone().prop_map(Step::Suspend),
        3 => agent.clone().prop_map(Step::Resume),
        1 => any::<usize>().prop_map(Step::Revoke),
        9 => (agent, proptest::option::weighted(0.8, any::<usize>()))
            .prop_map(|(to, by)| Step::Delegate { to, by }),
        1 => proptest::strategy::Just(Step::Restart),
    ]
}

/// What should be, kept in the plainest way.
#[derive(Default)]
struct Model {
    /// Delegator, delegatee and parent of each link.
    links: BTreeMap<LinkId, (String, String, Option<LinkId>)>,
    revoked: BTreeSet<LinkId>,
    suspended: BTreeSet<String>,
}

impl Model {
    fn live(&self, link: LinkId) -> bool {
        let (delegator, delegatee, parent) = &self.links[&link];
        !self.revoked.contains(&link)
            && !self.suspended.contains(delegator)
            && !self.suspended.contains(delegatee)
            && parent.is_none_or(|parent| self.live(parent))
    }

    fn names(&self, link: LinkId) -> Vec<&str> {
        let (delegator, delegatee, parent) = &self.links[&link];
        let mut names = parent.map_or_else(Vec::new, |parent| self.names(parent));
        names.extend([delegator.as_str(), delegatee]);
        names
    }
}

#[test]
fn live_means_that_nothing_above_is_suspended_or_revoked() {
    let runtime = Runtime::new().unwrap();
    let accepted = AtomicU64::new(0);
    let config = Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&proptest::collection::vec(step(), 1..32), |steps| {
            runtime.block_on(async {
                let mut world = World::new().await;
                let org = world.organization("alice").await;
                for agent in AGENTS {
                    world.principal(org, agent, PrincipalType::Agent).await;
                }
                let mut model = Model::default();
                let mut held: BTreeMap<LinkId, Arc<AgentIdentity>> = BTreeMap::new();
                for step in steps {
                    let ids: Vec<LinkId> = model.links.keys().copied().collect();
                    match step {
                        Step::Suspend(who) => {
                            let done = suspend(&world, org, AGENTS[who]).await;
                            assert_eq!(
                                done.is_ok(),
                                model.suspended.insert(AGENTS[who].to_owned())
                            );
                        }
                        Step::Resume(who) => {
                            let done = resume(&world, org, AGENTS[who]).await;
                            assert_eq!(done.is_ok(), model.suspended.remove(AGENTS[who]));
                        }
                        Step::Revoke(_) if ids.is_empty() => {}
                        Step::Revoke(which) => {
                            let id = ids[which % ids.len()];
                            let done = world.nhi.revoke(org, id, world.now(), Commit::default());
                            assert_eq!(done.await.is_ok(), model.revoked.insert(id));
                        }
                        Step::Delegate { to, by } => {
                            let parent =
                                by.filter(|_| !ids.is_empty()).map(|by| ids[by % ids.len()]);
                            let from = parent.map_or("alice", |id| model.links[&id].1.as_str());
                            let from = from.to_owned();
                            let may = match parent {
                                None => !model.suspended.contains(AGENTS[to]),
                                Some(parent) => {
                                    model.live(parent)
                                        && !model.suspended.contains(AGENTS[to])
                                        && !model.names(parent).contains(&AGENTS[to])
                                }
                            };
                            let made = world
                                .delegate(org, world.request(&from, AGENTS[to], parent))
                                .await;
                            assert_eq!(made.is_ok(), may, "{made:?}");
                            if let Ok(id) = made {
                                accepted.fetch_add(1, Ordering::Relaxed);
                                let link = (from, AGENTS[to].to_owned(), parent);
                                model.links.insert(id, link);
                                held.insert(id, world.nhi.identity_for_link(org, id).unwrap());
                            }
                        }
                        Step::Restart => {
                            world.restart().await;
                            for (id, identity) in &mut held {
                                *identity = world.nhi.identity_for_link(org, *id).unwrap();
                            }
                        }
                    }
                    for (id, identity) in &held {
                        let fresh = world.nhi.identity_for_link(org, *id).unwrap();
                        for identity in [identity, &fresh] {
                            assert_eq!(identity.live(world.now()).is_ok(), model.live(*id));
                        }
                    }
                }
            });
            Ok(())
        })
        .unwrap();
    let accepted = accepted.into_inner();
    assert!(accepted >= 48, "only {accepted} delegations were made");
}

static CHAIN: LazyLock<(World, OrgId, [LinkId; 3], Runtime)> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let (world, org, links) = runtime.block_on(chained());
    (world, org, links, runtime)
});

/// A reader that walks the flags only when the epoch has moved.
struct Reader {
    identity: Arc<AgentIdentity>,
    remembered: Option<(u64, bool)>,
}

impl Reader {
    fn live(&mut self, now: Timestamp) -> bool {
        let epoch = self.identity.authority.epoch();
        match self.remembered {
            Some((seen, live)) if seen == epoch => live,
            _ => {
                let live = self.identity.live(now).is_ok();
                self.remembered = Some((epoch, live));
                live
            }
        }
    }
}

/// Between the end of one call and the beginning of the next, every thread knows
/// what the first one did: by looking at the flags, and by the epoch.
#[test]
fn once_a_call_has_returned_no_thread_sees_the_state_before() {
    const ROUNDS: u64 = 400;
    let (world, org, links, runtime) = &*CHAIN;
    let now = world.now();
    // Even: live by a call that returned. Odd: dead by one. Moves only between
    // calls; 0 while a call is under way.
    let settled = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let compared = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (settled, done, compared) = (&settled, &done, &compared);
            scope.spawn(move || {
                let identity = world.nhi.identity_for_link(*org, links[2]).unwrap();
                let mut reader = Reader {
                    identity: Arc::clone(&identity),
                    remembered: None,
                };
                while !done.load(Ordering::SeqCst) {
                    let before = settled.load(Ordering::SeqCst);
                    let live = match thread % 2 {
                        0 => identity.live(now).is_ok(),
                        _ => reader.live(now),
                    };
                    let after = settled.load(Ordering::SeqCst);
                    if before != 0 && before == after {
                        assert_eq!(live, before % 2 == 0, "after call {before}");
                        compared.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        // Two principals of the chain in turn: what one ends the other's end does
        // not bring back.
        let mut call = 1;
        for _ in 0..ROUNDS {
            for (suspends, who, dead) in [
                (true, "worker", true),
                (true, "planner", true),
                (false, "worker", true),
                (false, "planner", false),
            ] {
                settled.store(0, Ordering::SeqCst);
                runtime.block_on(async {
                    if suspends {
                        suspend(world, *org, who).await.unwrap();
                    } else {
                        resume(world, *org, who).await.unwrap();
                    }
                });
                call += 2;
                settled.store(call - u64::from(!dead), Ordering::SeqCst);
                let seen = compared.load(Ordering::Relaxed);
                // Give the readers their turn while nothing is under way.
                while compared.load(Ordering::Relaxed) < seen + 4 {
                    std::thread::yield_now();
                }
            }
        }
        settled.store(0, Ordering::SeqCst);
        runtime.block_on(async {
            let revoked = world.nhi.revoke(*org, links[0], now, Commit::default());
            revoked.await.unwrap();
        });
        let last = call + 2;
        settled.store(last, Ordering::SeqCst);
        let seen = compared.load(Ordering::Relaxed);
        while compared.load(Ordering::Relaxed) < seen + 4 {
            std::thread::yield_now();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(compared.into_inner() >= 4 * ROUNDS);
}
