//! The order of a check, and what each step refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use creto_authz::{
    Action, CheckRequest, ContextValue, Decision, Exceeded, LimitScope, PolicyIds, Refusal,
    ResourceRef, TooFast,
};
use creto_nhi::test_util::{changed, suspend};
use creto_nhi::{DelegationLink, Hop, LinkStatus, PrincipalType};

use crate::world::{World, at, code, denial, ids, name, question, usd};

const REPO: &str = "repo:creto";
const PERMIT_ALL: &str = "permit (principal, action, resource);";

#[test]
fn the_starter_set_lets_the_release_bot_work() {
    let world = World::starter();
    for action in ["history.read", "changelog.draft"] {
        let decision = world.ask(world.bot(), action, REPO);
        let Decision::Allow { policies, hold } = decision else {
            panic!("{decision:?}");
        };
        assert_eq!(ids(&policies), ["release-work"]);
        assert_eq!(hold.unwrap().cost(), Some(usd("0.25")));
    }
    let (code, text, _) = denial(world.ask(world.bot(), "history.read", "repo:other"));
    assert_eq!(code, "no_policy_permits");
    assert!(
        text.contains("history.read") && text.contains("repo:other"),
        "{text}"
    );

    for (port, protocol) in [(0, "dns"), (80, "http"), (443, "tls")] {
        let decision = world.connect(world.bot(), "releases.example.test", port, protocol);
        assert!(decision.is_allowed(), "{decision:?}");
    }
    let closed = [
        ("unlisted.example.test", 0, "dns"),
        ("192.0.2.1", 80, "http"),
        ("releases.example.test", 22, "tcp"),
        ("a.releases.example.test", 80, "http"),
    ];
    for (host, port, protocol) in closed {
        let decision = world.connect(world.bot(), host, port, protocol);
        assert_eq!(denial(decision).0, "no_policy_permits", "{host}");
    }
}

#[test]
fn revoked_expired_early_and_broken_chains_are_denied() {
    let world = World::with(PERMIT_ALL);
    let ask = |identity| denial(world.ask(identity, "history.read", REPO));

    for revoked in 0..2 {
        let mut bot = world.bot();
        bot.hops[revoked].status = Arc::new(LinkStatus::revoked(at("2026-04-30T00:00:00Z")));
        let (code, text, _) = ask(bot);
        assert_eq!(code, "delegation_revoked");
        let delegator = ["owner", "planner"][revoked];
        assert!(text.contains(&format!("ask {delegator} for")), "{text}");
    }

    let change = |hop: &Hop, change: &dyn Fn(&mut DelegationLink)| {
        let mut link = DelegationLink::clone(&hop.link);
        change(&mut link);
        Hop {
            link: Arc::new(link),
            status: Arc::clone(&hop.status),
        }
    };
    type Change<'a> = &'a dyn Fn(&mut DelegationLink);
    let cases: [(&str, Change<'_>); 5] = [
        ("delegation_not_yet_valid", &|link| {
            link.not_before = at("2026-05-02T00:00:00Z");
        }),
        ("delegation_expired", &|link| {
            link.expires_at = at("2026-05-01T00:00:00Z");
        }),
        ("chain_broken", &|link| link.parent = None),
        ("chain_broken", &|link| link.delegatee = name("someone")),
        ("chain_broken", &|link| link.org = world.ids.next()),
    ];
    for (expected, break_it) in cases {
        let mut bot = world.bot();
        bot.hops[1] = change(&bot.hops[1], break_it);
        assert_eq!(ask(bot).0, expected);
    }

    let bot = world.bot();
    let owner = world.owner();
    world.later(31 * 24 * 3_600);
    assert_eq!(ask(bot).0, "delegation_expired");
    assert_eq!(ask(owner).0, "delegation_expired");
    assert!(
        world.quota.asked.lock().is_empty(),
        "a denial reserves nothing"
    );
}

#[test]
fn every_link_must_cover_the_action() {
    let world = World::with(PERMIT_ALL);
    let wide = [("*", "*")];
    let narrow = [("history.*", "repo:creto"), ("changelog.draft", "repo:*")];
    for (above, below, refusing) in [
        (&wide[..], &narrow[..], "planner"),
        (&narrow, &wide, "owner"),
    ] {
        let planner = world.hop(None, "owner", "planner", above);
        let bot = world.hop(Some(&planner), "planner", "bot", below);
        let bot = world.identity("bot", PrincipalType::Agent, vec![planner, bot]);
        assert!(world.ask(bot.clone(), "history.read", REPO).is_allowed());
        assert!(
            world
                .ask(bot.clone(), "changelog.draft", "repo:x")
                .is_allowed()
        );
        for (action, resource) in [("release.publish", REPO), ("history.read", "repo:x")] {
            let (code, text, _) = denial(world.ask(bot.clone(), action, resource));
            assert_eq!(code, "right_not_delegated");
            assert!(text.contains(&format!("ask {refusing} for one")), "{text}");
        }
        let host = world.connect(bot, "releases.example.test", 80, "http");
        assert_eq!(code(host), "right_not_delegated");
    }
}

#[test]
fn an_agent_alone_has_no_authority_and_a_human_needs_policy_only() {
    let world = World::starter();
    let alone = world.identity("bot", PrincipalType::Agent, Vec::new());
    assert_eq!(
        code(world.ask(alone, "history.read", REPO)),
        "no_delegation"
    );
    assert!(world.ask(world.owner(), "history.read", REPO).is_allowed());
    assert!(
        world
            .ask(world.owner(), "release.publish", REPO)
            .is_allowed()
    );
    assert_eq!(
        code(world.ask(world.owner(), "history.read", "repo:x")),
        "no_policy_permits"
    );
}

#[test]
fn everyone_above_must_be_permitted_too() {
    let world = World::with(
        r#"
        permit (principal, action, resource) unless { principal.name == "planner" };
        "#,
    );
    let (code_below, text, _) = denial(world.ask(world.bot(), "history.read", REPO));
    assert_eq!(code_below, "no_policy_permits");
    assert!(text.contains("planner"), "{text}");

    world.publish(
        world.org,
        r#"
        permit (principal, action, resource);
        @id("not-the-owner") @reason("on leave")
        forbid (principal == Creto::Human::"owner", action, resource);
        "#,
    );
    let (code, text, policies) = denial(world.ask(world.bot(), "history.read", REPO));
    assert_eq!(code, "policy_forbids");
    assert!(text.ends_with(": on leave"), "{text}");
    assert_eq!(policies, ["not-the-owner"]);
}

#[test]
fn principals_carry_what_the_schema_says() {
    let world = World::with(
        r#"
        permit (principal is Creto::Agent, action == Creto::Action::"history.read", resource)
        when {
            principal.owner == Creto::Human::"owner"
            && (if principal.name == "bot" then principal.depth == 2 else principal.depth == 1)
            && resource.id like "repo:*"
            && context.units == 1
        };
        permit (principal is Creto::Human, action, resource) when { principal.name == "owner" };
        "#,
    );
    assert!(world.ask(world.bot(), "history.read", REPO).is_allowed());
    let by_org = format!(
        r#"permit (principal in Creto::Organization::"{}", action, resource);"#,
        world.org
    );
    world.publish(world.org, &by_org);
    assert!(world.ask(world.bot(), "history.read", REPO).is_allowed());
}

#[test]
fn an_agent_twice_in_its_chain_counts_at_its_lower_place() {
    let world = World::with(
        r#"permit (principal is Creto::Human, action, resource);
           permit (principal is Creto::Agent, action, resource)
           when { principal.name == "b" || principal.depth == 3 };"#,
    );
    let all = [("*", "*")];
    let first = world.hop(None, "owner", "a", &all);
    let second = world.hop(Some(&first), "a", "b", &all);
    let third = world.hop(Some(&second), "b", "a", &all);
    let a = world.identity("a", PrincipalType::Agent, vec![first, second, third]);
    assert!(world.ask(a, "history.read", REPO).is_allowed());
}

#[test]
fn organizations_are_judged_by_their_own_policies() {
    let world = World::with(PERMIT_ALL);
    let mut other = World::empty();
    assert_eq!(
        code(other.ask(other.bot(), "history.read", REPO)),
        "no_policies"
    );

    // Another organization in the same process, with nothing permitted.
    let theirs = world.ids.next();
    world.publish(theirs, r#"forbid (principal, action, resource);"#);
    assert!(world.ask(world.bot(), "history.read", REPO).is_allowed());
    other.org = theirs;
    let foreign = other.bot();
    assert_eq!(
        code(world.ask(foreign, "history.read", REPO)),
        "policy_forbids"
    );

    // A principal of one organization with the chain of another.
    let mut mixed = world.bot();
    mixed.org = theirs;
    assert_eq!(code(world.ask(mixed, "history.read", REPO)), "chain_broken");
}

#[test]
fn what_does_not_fit_the_schema_is_denied() {
    let world = World::with(PERMIT_ALL);
    let read = Action::named("history.read");
    let bound = world.bind(world.bot());
    let check = |request: CheckRequest<'_>| code(world.authz.ask(&bound, &request));
    let repo = ResourceRef::resource(REPO);
    let host = ResourceRef::host("releases.example.test");
    let odd = ResourceRef::new("Creto::Nothing", "x");

    assert_eq!(
        check(question(&Action::named("unheard.of"), &repo, &[])),
        "unknown_action"
    );
    assert_eq!(check(question(&read, &odd, &[])), "invalid_request");
    assert_eq!(check(question(&read, &host, &[])), "invalid_request");
    assert_eq!(
        check(question(&Action::named("network_egress"), &host, &[])),
        "invalid_request"
    );
    for value in [
        ("surplus", ContextValue::Bool(true)),
        ("units", ContextValue::Long(0)),
        ("oversight", ContextValue::Bool(true)),
    ] {
        let context = [value];
        let request = question(&read, &repo, &context);
        assert_eq!(check(request), "invalid_request", "{value:?}");
    }
    let many = CheckRequest {
        units: u64::MAX,
        ..question(&read, &repo, &[])
    };
    assert_eq!(check(many), "invalid_request");
}

/// Whoever asks learns which value it is, however many there are.
#[test]
fn what_of_a_context_does_not_fit_is_named() {
    let world = World::with(PERMIT_ALL);
    let bound = world.bind(world.bot());
    let connect = Action::named("network_egress");
    let host = ResourceRef::host("releases.example.test");
    let port = ("port", ContextValue::Long(443));
    let protocol = ("protocol", ContextValue::Text("tls"));
    let surplus = ("surplus", ContextValue::Bool(true));
    let contexts: [(&[_], &str); 4] = [
        (&[port], "it requires `protocol`, String"),
        (
            &[port, protocol, surplus],
            "it does not declare `surplus`; it declares `port`, `protocol`",
        ),
        (
            &[("port", ContextValue::Text("443")), protocol],
            "`port` is Long there, not String",
        ),
        (&[], "it requires `port`, Long"),
    ];
    for (context, said) in contexts {
        let request = question(&connect, &host, context);
        let (code, text, _) = denial(world.authz.ask(&bound, &request));
        assert_eq!(code, "invalid_request");
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn a_policy_that_cannot_be_evaluated_denies() {
    let world = World::with(
        r#"
        @id("all") permit (principal, action, resource);
        @id("overflows") permit (principal, action, resource)
        when { context.units * 9223372036854775807 > 0 };
        "#,
    );
    let repo = ResourceRef::resource(REPO);
    let read = Action::named("history.read");
    let bound = world.bind(world.bot());
    let request = CheckRequest {
        units: 2,
        ..question(&read, &repo, &[])
    };
    let (code, text, policies) = denial(world.authz.ask(&bound, &request));
    assert_eq!(code, "policy_error");
    assert_eq!(policies, ["overflows"]);
    assert!(text.contains("`overflows`"), "{text}");
    let counted = world.authz.counters();
    assert_eq!((counted.denied, counted.evaluated), (1, 1));
    assert_eq!(counted.denied_with("policy_error"), 1);
    assert_eq!(counted.denied_by.iter().sum::<u64>(), 1);
    let one = CheckRequest {
        units: 1,
        ..request
    };
    assert!(world.authz.ask(&bound, &one).is_allowed());
}

#[test]
fn quota_is_asked_last_and_only_for_an_action() {
    let world = World::starter();
    let repo = ResourceRef::resource(REPO);
    let bound = world.bind(world.bot());
    let pure = world.authz.ask(
        &bound,
        &question(&Action::named("history.read"), &repo, &[]),
    );
    assert!(matches!(pure, Decision::Allow { hold: None, .. }));
    // Evaluated, and remembered.
    for _ in 0..2 {
        for (action, resource) in [("history.read", "repo:x"), ("release.publish", REPO)] {
            let action = Action::named(action);
            let resource = ResourceRef::resource(resource);
            let denied = world.authz.check(&bound, &action, &resource, 1);
            assert!(!denied.is_allowed(), "{denied:?}");
        }
    }
    assert_eq!(world.authz.counters().evaluated, 3);
    assert!(world.quota.asked.lock().is_empty());

    let scope = LimitScope::Delegation {
        link: world.ids.next(),
        holder: name("planner"),
    };
    let exceeded = Box::new(Exceeded {
        scope: scope.clone(),
        is_budget: true,
        event: None,
        limit: usd("1").into(),
        used: usd("1").into(),
        reserved: usd("1").into(),
        requested: usd("0.25").into(),
        resets_at: None,
        retry_after: None,
    });
    let too_fast = Box::new(TooFast {
        scope,
        event: Some("history.read".to_owned()),
        retry_after: std::time::Duration::from_millis(7),
    });
    let permitting = PolicyIds::from(vec![creto_authz::PolicyId::from("release-work")]);
    let answers = [
        (
            Refusal::Exceeded(exceeded.clone()),
            Decision::QuotaExceeded {
                exceeded,
                policies: permitting.clone(),
            },
        ),
        (
            Refusal::RateLimited(too_fast.clone()),
            Decision::RateLimited {
                too_fast,
                policies: permitting,
            },
        ),
    ];
    for (answer, expected) in answers {
        *world.quota.refuse.lock() = Some(answer);
        // Whether its verdict was evaluated just now or is remembered.
        for _ in 0..2 {
            assert_eq!(world.ask(world.bot(), "history.read", REPO), expected);
        }
    }
    *world.quota.refuse.lock() = Some(Refusal::Refused {
        code: "ledger_is_away",
        text: "try later".to_owned(),
    });
    assert_eq!(
        code(world.ask(world.bot(), "history.read", REPO)),
        "ledger_is_away"
    );
    // What policies deny is denied by them, whatever else there is to say.
    let held = world.ask(world.bot(), "release.publish", REPO);
    assert!(
        matches!(held, Decision::RequiresOversight { .. }),
        "{held:?}"
    );
    *world.quota.refuse.lock() = None;
    assert!(world.ask(world.bot(), "history.read", REPO).is_allowed());
    let asked = world.quota.asked.lock();
    assert_eq!(asked.len(), 6);
    let (org, agent, units, hops) = &asked[0];
    assert_eq!(
        (*org, agent.as_str(), *units, *hops),
        (world.org, "bot", 1, 2)
    );
}

/// Limits are asked last. Policies that were replaced until then decide nothing by them,
/// nor does a chain that has ended.
#[test]
fn policies_authority_and_limits_are_of_one_moment() {
    let repo = ResourceRef::resource(REPO);
    let refusal = || Refusal::Refused {
        code: "limited",
        text: "later".to_owned(),
    };
    for remembered in [false, true] {
        for refuses in [None, Some(refusal())] {
            for pure in [false, true] {
                for ends in [false, true] {
                    let world = Arc::new(World::with(PERMIT_ALL));
                    // Only once policies name it has it a number to be remembered by.
                    let action = Action::named("history.read");
                    let bound = world.bind(world.bot());
                    let agent = Arc::clone(bound.identity());
                    if remembered {
                        for _ in 0..2 {
                            assert!(world.authz.check(&bound, &action, &repo, 1).is_allowed());
                        }
                        assert_eq!(world.authz.counters().evaluated, 1);
                    }
                    world.quota.asked.lock().clear();
                    world.quota.given_back.store(0, Ordering::SeqCst);
                    world.quota.refuse.lock().clone_from(&refuses);
                    let other = Arc::clone(&world);
                    *world.quota.meanwhile.lock() = Some(Box::new(move || {
                        if ends {
                            suspend(&agent, "bot", at("2026-05-01T00:00:00Z"));
                        } else {
                            other.publish(other.org, "forbid (principal, action, resource);");
                        }
                    }));
                    let request = question(&action, &repo, &[]);
                    let decision = if pure {
                        world.authz.would(&bound, &request)
                    } else {
                        world.authz.check(&bound, &action, &repo, 1)
                    };
                    let expected = if ends {
                        "principal_suspended"
                    } else {
                        "policy_forbids"
                    };
                    assert_eq!(code(decision), expected, "{remembered} {pure}");
                    assert!(world.quota.asked.lock().is_empty());
                    assert_eq!(world.quota.given_back.load(Ordering::SeqCst), 0);
                }
            }
        }
    }
}

/// What ends others' authority meanwhile costs no second evaluation.
#[test]
fn a_change_of_authority_leaves_what_policies_said() {
    for pure in [false, true] {
        let world = World::with(PERMIT_ALL);
        // Too long a name to be remembered.
        let repo = ResourceRef::resource(format!("{REPO}{}", "o".repeat(300)));
        let action = Action::named("history.read");
        let bound = world.bind(world.bot());
        let agent = Arc::clone(bound.identity());
        *world.quota.meanwhile.lock() = Some(Box::new(move || changed(&agent.authority)));
        let decision = if pure {
            world.authz.would(&bound, &question(&action, &repo, &[]))
        } else {
            world.authz.check(&bound, &action, &repo, 1)
        };
        assert!(decision.is_allowed(), "{decision:?}");
        assert!(world.quota.meanwhile.lock().is_none());
        assert_eq!(world.authz.counters().evaluated, 1);
        assert_eq!(world.quota.asked.lock().len(), usize::from(!pure));
    }
}

/// Once `publish` returns, no check that starts later sees the old policies.
#[test]
fn publishing_is_exact_under_load() {
    let world = World::with(PERMIT_ALL);
    let repo = ResourceRef::resource(REPO);
    let bound = world.bind(world.bot());
    let check = || {
        world.authz.ask(
            &bound,
            &question(&Action::named("history.read"), &repo, &[]),
        )
    };
    // Odd while policies are being changed; 0 modulo 4 while everything is
    // permitted, 2 modulo 4 while everything is forbidden.
    let epoch = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let judged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let before = epoch.load(Ordering::SeqCst);
                    let decision = check();
                    if before.is_multiple_of(2) && before == epoch.load(Ordering::SeqCst) {
                        assert_eq!(decision.is_allowed(), before.is_multiple_of(4));
                        judged.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for _ in 0..10 {
            for policies in ["forbid (principal, action, resource);", PERMIT_ALL] {
                epoch.fetch_add(1, Ordering::SeqCst);
                world.publish(world.org, policies);
                let settled = epoch.fetch_add(1, Ordering::SeqCst) + 1;
                assert_eq!(check().is_allowed(), settled.is_multiple_of(4));
                let target = judged.load(Ordering::SeqCst) + 2;
                while judged.load(Ordering::SeqCst) < target {
                    std::thread::yield_now();
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
}
