//! Verdicts are remembered, and nothing that may change is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use creto_authz::{
    Action, Authz, AuthzConfig, CheckRequest, CompiledPolicies, ContextValue, Decision, ResourceRef,
};
use creto_nhi::test_util::{resume, suspend};
use creto_types::{Clock, ManualClock, Timestamp};
use parking_lot::Mutex;

use crate::world::{World, at, code, question, sources};

const REPO: &str = "repo:creto";
const PERMIT_ALL: &str = "permit (principal, action, resource);";

#[test]
fn a_verdict_is_evaluated_once_and_by_one() {
    let world = World::with(PERMIT_ALL);
    let (bound, repo) = (world.bind(world.bot()), ResourceRef::resource(REPO));
    let read = Action::named("history.read");
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                assert!(world.authz.check(&bound, &read, &repo, 1).is_allowed());
            });
        }
    });
    assert_eq!(world.authz.counters().evaluated, 1);
    assert_eq!(
        world.quota.asked.lock().len(),
        8,
        "quota is asked each time"
    );
    assert_eq!(world.quota.given_back.load(Ordering::SeqCst), 8);

    // A second binding of the same chain finds it; another resource, action or
    // chain does not.
    let identity = Arc::clone(bound.identity());
    let again = world.authz.bind(identity);
    assert!(world.authz.check(&again, &read, &repo, 1).is_allowed());
    assert_eq!(world.authz.counters().evaluated, 1);
    let other = ResourceRef::resource("repo:other");
    let draft = Action::named("changelog.draft");
    let owner = world.bind(world.owner());
    assert!(world.authz.check(&bound, &read, &other, 1).is_allowed());
    assert!(world.authz.check(&bound, &draft, &repo, 1).is_allowed());
    assert!(world.authz.check(&owner, &read, &repo, 1).is_allowed());
    assert_eq!(world.authz.counters().evaluated, 4);
}

/// A clock that does something when it is read.
struct Meddling {
    clock: ManualClock,
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Clock for Meddling {
    fn now(&self) -> Timestamp {
        let then = self.then.lock().take();
        if let Some(then) = then {
            then();
        }
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

/// Who suspends, then forbids, then resumes, does not see what was permitted before.
#[test]
fn policies_and_liveness_are_of_one_moment() {
    let world = World::empty();
    let clock = Arc::new(Meddling {
        clock: ManualClock::new(at("2026-05-01T00:00:00Z")),
        then: Mutex::default(),
    });
    let authz = Arc::new(Authz::new(
        world.recording(),
        Arc::<Meddling>::clone(&clock),
        AuthzConfig::default(),
    ));
    let compiled = |text| CompiledPolicies::compile(&sources(text)).unwrap();
    let forbidding = compiled("forbid (principal, action, resource);");
    authz.publish(world.org, compiled(PERMIT_ALL));
    let bound = authz.bind(Arc::new(world.bot()));
    let (read, repo) = (Action::named("history.read"), ResourceRef::resource(REPO));
    assert!(authz.check(&bound, &read, &repo, 1).is_allowed());

    suspend(bound.identity(), "bot", at("2026-05-01T00:00:00Z"));
    assert_eq!(
        code(authz.check(&bound, &read, &repo, 1)),
        "principal_suspended"
    );
    let (meddler, identity) = (Arc::clone(&authz), Arc::clone(bound.identity()));
    let org = world.org;
    *clock.then.lock() = Some(Box::new(move || {
        meddler.publish(org, forbidding);
        resume(&identity, "bot");
    }));
    assert_eq!(code(authz.check(&bound, &read, &repo, 1)), "policy_forbids");
    assert!(clock.then.lock().is_none(), "it was read in between");
}

/// A denial, too, has its text made for whoever asks.
#[test]
fn a_remembered_denial_reads_like_the_first() {
    let world =
        World::with(r#"@id("no") @reason("not here") forbid (principal, action, resource);"#);
    let (bound, repo) = (world.bind(world.bot()), ResourceRef::resource(REPO));
    let read = Action::named("history.read");
    let first = world.authz.check(&bound, &read, &repo, 1);
    let second = world.authz.check(&bound, &read, &repo, 1);
    assert_eq!(world.authz.counters().evaluated, 1);
    assert_eq!(first, second);
    assert_eq!(code(second), "policy_forbids");
}

#[test]
fn what_policies_read_is_in_the_key() {
    let world = World::with(
        r#"
        permit (principal, action == Creto::Action::"history.read", resource)
        when { context.units < 3 };
        permit (principal, action == Creto::Action::"network_egress", resource)
        when { context.protocol == "tls" };
        "#,
    );
    let bound = world.bind(world.bot());
    let (repo, host) = (ResourceRef::resource(REPO), ResourceRef::host("a.test"));
    let read = Action::named("history.read");
    let egress = Action::named("network_egress");
    for _ in 0..2 {
        for (units, allowed) in [(1, true), (2, true), (3, false)] {
            let decision = world.authz.check(&bound, &read, &repo, units);
            assert_eq!(decision.is_allowed(), allowed, "{units}");
        }
        for (port, protocol) in [(443, "tls"), (8443, "tls"), (443, "http")] {
            let context = [
                ("port", ContextValue::Long(port)),
                ("protocol", ContextValue::Text(protocol)),
            ];
            let decision = world.authz.ask(&bound, &question(&egress, &host, &context));
            assert_eq!(decision.is_allowed(), protocol == "tls");
        }
    }
    // Three numbers of units and two protocols; no policy reads the port.
    assert_eq!(world.authz.counters().evaluated, 5);

    // A value that the schema does not have is refused, remembered or not.
    let surplus = [
        ("port", ContextValue::Long(443)),
        ("protocol", ContextValue::Text("tls")),
        ("surplus", ContextValue::Bool(true)),
    ];
    let decision = world.authz.ask(&bound, &question(&egress, &host, &surplus));
    assert_eq!(code(decision), "invalid_request");
}

#[test]
fn approvals_and_errors_are_not_remembered() {
    let world = World::with(
        r#"
        permit (principal, action, resource);
        @id("ask") @oversight("x") forbid (principal, action == Creto::Action::"release.publish", resource)
        unless { context.oversight.approved };
        permit (principal, action == Creto::Action::"history.read", resource)
        when { context.units * 9223372036854775807 > 0 };
        "#,
    );
    let (bound, repo) = (world.bind(world.bot()), ResourceRef::resource(REPO));
    let publish = Action::named("release.publish");
    let held = world.authz.ask(&bound, &question(&publish, &repo, &[]));
    let Decision::RequiresOversight {
        held_by, oversight, ..
    } = held
    else {
        panic!("{held:?}");
    };
    let approval = creto_authz::Approval::Given { held_by, oversight };
    let approved = CheckRequest {
        approval: Some(&approval),
        ..question(&publish, &repo, &[])
    };
    for evaluated in 2..4 {
        assert!(world.authz.ask(&bound, &approved).is_allowed());
        assert_eq!(world.authz.counters().evaluated, evaluated);
    }
    let still = world.authz.ask(&bound, &question(&publish, &repo, &[]));
    assert!(!still.is_allowed(), "an approval opens nothing to others");
    assert_eq!(world.authz.counters().evaluated, 3);

    let read = Action::named("history.read");
    for evaluated in 4..6 {
        let failed = world.authz.check(&bound, &read, &repo, 2);
        assert_eq!(code(failed), "policy_error");
        assert_eq!(world.authz.counters().evaluated, evaluated);
    }
}

/// However many names an attacker makes up, short or long, what is remembered stays as
/// much as configured, and right.
#[test]
fn made_up_names_only_push_out() {
    const ROOM: u64 = 64;
    const NAMES: u64 = 2_000;
    let world = World::remembering(AuthzConfig {
        remembered: usize::try_from(ROOM).unwrap(),
    });
    world.publish(
        world.org,
        r#"permit (principal, action, resource == Creto::Resource::"repo:creto");"#,
    );
    let bound = world.bind(world.bot());
    let read = Action::named("history.read");
    let repo = ResourceRef::resource(REPO);
    for padding in ["", &"x".repeat(40)] {
        let ask_all = || {
            let before = world.authz.counters().evaluated;
            for number in 0..NAMES {
                let made_up = ResourceRef::resource(format!("repo:{padding}{number}"));
                assert!(!world.authz.check(&bound, &read, &made_up, 1).is_allowed());
            }
            world.authz.counters().evaluated - before
        };
        assert_eq!(ask_all(), NAMES);
        assert!(ask_all() >= NAMES - ROOM, "no more than that is remembered");
        assert!(world.authz.check(&bound, &read, &repo, 1).is_allowed());
    }
    let before = world.authz.counters().evaluated;
    assert!(world.authz.check(&bound, &read, &repo, 1).is_allowed());
    assert_eq!(world.authz.counters().evaluated, before, "it is remembered");
    let long = ResourceRef::resource("y".repeat(10_000));
    assert!(!world.authz.check(&bound, &read, &long, 1).is_allowed());
}

/// Once `suspend` or `resume` has returned, every check that starts later knows.
#[test]
fn suspension_is_exact_under_load() {
    let world = World::with(PERMIT_ALL);
    let repo = ResourceRef::resource(REPO);
    let bound = world.bind(world.bot());
    let read = Action::named("history.read");
    // Even while nothing changes; 0 modulo 4 while in good standing.
    let epoch = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let judged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let before = epoch.load(Ordering::SeqCst);
                    let decision = world.authz.check(&bound, &read, &repo, 1);
                    if before.is_multiple_of(2) && before == epoch.load(Ordering::SeqCst) {
                        assert_eq!(decision.is_allowed(), before.is_multiple_of(4));
                        judged.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for round in 0..200 {
            epoch.fetch_add(1, Ordering::SeqCst);
            if round % 2 == 0 {
                suspend(bound.identity(), "planner", at("2026-05-01T00:00:00Z"));
            } else {
                resume(bound.identity(), "planner");
            }
            epoch.fetch_add(1, Ordering::SeqCst);
            let target = judged.load(Ordering::SeqCst) + 2;
            while judged.load(Ordering::SeqCst) < target {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
}
