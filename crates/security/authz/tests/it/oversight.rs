//! A human is asked exactly when the approval would let the action through.

use creto_authz::{Approval, Decision};
use creto_nhi::PrincipalType;

use crate::world::{World, code, denial, ids};

const REPO: &str = "repo:creto";
const PERMIT: &str = "permit (principal, action, resource);";

fn held(id: &str, kind: &str, when: &str) -> String {
    format!(
        r#"@id("{id}") @oversight("{kind}")
           forbid (principal, action, resource) {when} unless {{ context.oversight.approved }};"#
    )
}

/// The policy id, the annotation's value and all policies.
fn question(decision: Decision) -> (String, String, Vec<String>) {
    match decision {
        Decision::RequiresOversight {
            held_by,
            oversight,
            policies,
        } => (
            held_by.policy_id().to_string(),
            oversight,
            policies.iter().map(ToString::to_string).collect(),
        ),
        other => panic!("expected RequiresOversight, got {other:?}"),
    }
}

#[test]
fn publishing_waits_for_a_human() {
    let world = World::starter();
    let ask = |approved| world.ask_with(world.bot(), "release.publish", REPO, approved);
    let (policy, oversight, policies) = question(ask(None));
    assert_eq!(policy, "publish-needs-a-human");
    assert_eq!(oversight, "release");
    assert_eq!(policies, std::slice::from_ref(&policy));
    assert!(world.quota.asked.lock().is_empty(), "nothing is reserved");

    let Decision::Allow { policies, .. } = ask(Some(&policy)) else {
        panic!("the approval lifts it");
    };
    assert_eq!(ids(&policies), ["release-work"]);
    assert_eq!(world.quota.asked.lock().len(), 1);
    let elsewhere = world.ask_with(world.bot(), "release.publish", "repo:x", Some(&policy));
    assert_eq!(code(elsewhere), "no_policy_permits");
}

#[test]
fn an_approval_does_not_stand_in_for_rights_or_life() {
    let world = World::starter();
    let policy = Some("publish-needs-a-human");
    let hop = world.hop(None, "owner", "bot", &[("history.read", "*")]);
    let bot = world.identity("bot", PrincipalType::Agent, vec![hop]);
    let decision = world.ask_with(bot, "release.publish", REPO, policy);
    assert_eq!(code(decision), "right_not_delegated");
    let bot = world.bot();
    world.later(31 * 24 * 3_600);
    let decision = world.ask_with(bot, "release.publish", REPO, policy);
    assert_eq!(code(decision), "delegation_expired");
}

#[test]
fn an_annotated_forbid_where_nothing_permits_is_a_denial() {
    for policies in [
        held("h", "k", ""),
        // A permit for someone else, or for the owner alone.
        held("h", "k", "") + r#"permit (principal == Creto::Human::"owner", action, resource);"#,
        held("h", "k", "") + r#"permit (principal is Creto::Agent, action, resource);"#,
    ] {
        let world = World::with(&policies);
        for approved in [None, Some("h")] {
            let decision = world.ask_with(world.bot(), "history.read", REPO, approved);
            assert_eq!(code(decision), "no_policy_permits", "{policies}");
        }
    }
}

#[test]
fn a_plain_forbid_beside_an_annotated_one_is_a_denial() {
    for plain in [
        r#"@id("plain") forbid (principal, action, resource);"#,
        // Even one that the approval would lift: it asked for none.
        r#"@id("plain") forbid (principal, action, resource)
           unless { context.oversight.approved };"#,
        // And one that stands only in the way of someone above.
        r#"@id("plain") forbid (principal == Creto::Human::"owner", action, resource);"#,
    ] {
        let world = World::with(&format!("{PERMIT} {} {plain}", held("h", "k", "")));
        for approved in [None, Some("h"), Some("plain"), Some("h+plain")] {
            let (code, _, policies) =
                denial(world.ask_with(world.bot(), "history.read", REPO, approved));
            assert_eq!(code, "policy_forbids");
            assert_eq!(policies, ["plain"], "the plain one is named");
        }
    }
}

#[test]
fn a_forbid_that_only_an_approval_wakes_is_a_denial() {
    let woken = r#"@id("woken") forbid (principal, action, resource)
                   when { context.oversight.approved };"#;
    let world = World::with(&format!("{PERMIT} {} {woken}", held("h", "k", "")));
    for approved in [None, Some("h")] {
        let (code, _, policies) =
            denial(world.ask_with(world.bot(), "history.read", REPO, approved));
        assert_eq!(code, "policy_forbids");
        assert_eq!(policies, ["woken"]);
    }
}

#[test]
fn an_annotated_forbid_that_no_approval_lifts_is_a_denial() {
    let world = World::with(&format!(
        r#"{PERMIT} @id("stuck") @oversight("k") forbid (principal, action, resource);"#
    ));
    let warnings = &world.authz.policies(world.org).unwrap();
    let warnings = &warnings.report().warnings;
    assert!(
        warnings
            .iter()
            .any(|w| w.policy.as_deref() == Some("stuck"))
    );
    for approved in [None, Some("stuck")] {
        let decision = world.ask_with(world.bot(), "history.read", REPO, approved);
        assert_eq!(code(decision), "policy_forbids");
    }
}

#[test]
fn an_approval_lifts_the_policy_it_was_asked_for_and_no_other() {
    let world = World::with(&format!("{PERMIT} {}", held("one", "k", "")));
    let wrong = world.ask_with(world.bot(), "history.read", REPO, Some("two"));
    assert_eq!(question(wrong).0, "one");

    // A second policy of the same kind came in after the approval.
    world.publish(
        world.org,
        &format!("{PERMIT} {}{}", held("one", "k", ""), held("two", "k", "")),
    );
    for approved in [None, Some("one"), Some("two"), Some("three")] {
        let decision = world.ask_with(world.bot(), "history.read", REPO, approved);
        let (policy, oversight, policies) = question(decision);
        assert_eq!(policy, "one+two");
        assert_eq!(oversight, "k");
        assert_eq!(policies, ["one", "two"]);
    }
    let both = world.ask_with(world.bot(), "history.read", REPO, Some("one+two"));
    assert!(both.is_allowed());

    // And the other way round: one of the two approved is gone since.
    world.publish(world.org, &format!("{PERMIT} {}", held("two", "k", "")));
    let both = world.ask_with(world.bot(), "history.read", REPO, Some("one+two"));
    assert!(both.is_allowed());
}

/// A name is taken again by whoever publishes next, and a policy without an `@id` is
/// named by its place.
#[test]
fn an_approval_lifts_what_a_policy_said_when_it_was_given() {
    let small = |below: u32, id: &str| {
        let when = format!("when {{ context.units < {below} }}");
        format!("{PERMIT} {}", held(id, "k", &when))
    };
    let world = World::with(&small(10, "one"));
    let asked = world.ask(world.bot(), "history.read", REPO);
    let Decision::RequiresOversight {
        held_by, oversight, ..
    } = asked
    else {
        panic!("{asked:?}");
    };
    let given = Approval::Given { held_by, oversight };
    let with = |given: &Approval| world.ask_by(world.bot(), "history.read", REPO, Some(given));
    assert!(with(&given).is_allowed());

    for other in [
        small(20, "one"),
        small(10, "two"),
        small(10, "one").replace("\"k\"", "\"other\""),
        small(10, "one").replace("@id", "@reason(\"new\") @id"),
    ] {
        world.publish(world.org, &other);
        assert!(!with(&given).is_allowed(), "{other}");
    }
    let moved = format!("// The same.\n\n{}", small(10, "one"));
    world.publish(world.org, &moved);
    assert!(with(&given).is_allowed(), "it says what it said");

    let nothing = Approval::Given {
        held_by: std::iter::empty().collect(),
        oversight: "k".to_owned(),
    };
    assert!(!with(&nothing).is_allowed());

    // What would be, were it approved: by its name, and its kind where that is known.
    for (oversight, lifted) in [(None, true), (Some("k"), true), (Some("other"), false)] {
        let supposed = Approval::Supposed {
            policies: "one".into(),
            oversight: oversight.map(str::to_owned),
        };
        assert_eq!(with(&supposed).is_allowed(), lifted, "{oversight:?}");
    }
}

#[test]
fn different_kinds_of_approval_for_one_action_are_a_denial() {
    let two = held("one", "release", "") + &held("two", "payment", "");
    let world = World::with(&format!("{PERMIT} {two}"));
    for approved in [None, Some("one"), Some("one+two")] {
        let (code, text, policies) =
            denial(world.ask_with(world.bot(), "history.read", REPO, approved));
        assert_eq!(code, "oversight_conflict");
        assert_eq!(policies, ["one", "two"]);
        assert!(text.contains("@oversight"), "{text}");
    }
}

#[test]
fn policies_that_hold_back_different_members_of_the_chain_add_up() {
    let at_owner = r#"when { principal is Creto::Human }"#;
    let at_bot = r#"when { principal is Creto::Agent && principal.depth == 2 }"#;
    let two = held("above", "k", at_owner) + &held("below", "k", at_bot);
    let world = World::with(&format!("{PERMIT} {two}"));
    let (policy, _, _) = question(world.ask(world.bot(), "history.read", REPO));
    assert_eq!(policy, "above+below");
    let (policy, _, _) = question(world.ask(world.owner(), "history.read", REPO));
    assert_eq!(policy, "above");
    let half = world.ask_with(world.bot(), "history.read", REPO, Some("below"));
    assert_eq!(question(half).0, "above+below");
}

#[test]
fn an_approval_that_is_not_needed_changes_nothing() {
    let world = World::with(PERMIT);
    assert!(
        world
            .ask_with(world.bot(), "history.read", REPO, Some("any"))
            .is_allowed()
    );
    // An approval is no permit.
    let world =
        World::with(r#"permit (principal, action, resource) when { context.oversight.approved };"#);
    for approved in [None, Some("any")] {
        let decision = world.ask_with(world.bot(), "history.read", REPO, approved);
        assert_eq!(code(decision), "no_policy_permits");
    }
}

#[test]
fn require_approval_is_another_name() {
    let world = World::with(&format!(
        r#"{PERMIT} @id("a") @requireApproval("k") forbid (principal, action, resource)
           unless {{ context.oversight.approved }};"#
    ));
    let (policy, oversight, _) = question(world.ask(world.bot(), "history.read", REPO));
    assert_eq!((policy.as_str(), oversight.as_str()), ("a", "k"));
}

#[test]
fn an_error_while_asking_about_the_approval_denies() {
    let world = World::with(&format!(
        r#"{PERMIT} {}
           @id("bad") forbid (principal, action, resource)
           when {{ context.oversight.approved && context.units + 9223372036854775807 < 0 }};"#,
        held("h", "k", "")
    ));
    for approved in [None, Some("h")] {
        let (code, _, policies) =
            denial(world.ask_with(world.bot(), "history.read", REPO, approved));
        assert_eq!(code, "policy_error");
        assert_eq!(policies, ["bad"]);
    }
}
