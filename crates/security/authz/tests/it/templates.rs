//! Templates and their links, and the time of a decision.

use creto_authz::{
    Action, Approval, CompiledPolicies, ContextValue, Decision, PolicySources, ResourceRef,
};
use creto_errors::Classify as _;

use crate::world::{World, code, ids, question, sources};

const TEMPLATE: &str = r#"@id("may-read") @reason("readers") permit (
  principal, action == Creto::Action::"history.read", resource == ?resource);
@id("stop") @oversight("k") forbid (principal == ?principal, action, resource)
unless { context.oversight.approved };"#;

fn with_links(links: &str) -> PolicySources {
    PolicySources {
        links: vec![("test.links.json".to_owned(), links.to_owned())],
        ..sources(TEMPLATE)
    }
}

fn world(links: &str) -> World {
    let world = World::empty();
    let policies = CompiledPolicies::compile(&with_links(links)).unwrap();
    world.authz.publish(world.org, policies);
    world
}

#[test]
fn a_template_says_nothing_until_it_is_linked() {
    let empty = world("");
    let decision = empty.ask(empty.bot(), "history.read", "repo:a");
    assert_eq!(code(decision), "no_policy_permits");

    let linked = world(
        r#"[{"template_id": "may-read", "link_id": "read-a",
             "args": {"?resource": "Creto::Resource::\"repo:a\""}},
            {"template_id": "stop", "link_id": "stop-bot",
             "args": {"?principal": "Creto::Agent::\"bot\""}}]"#,
    );
    let decision = linked.ask(linked.owner(), "history.read", "repo:a");
    let Decision::Allow { policies, .. } = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(ids(&policies), ["read-a"]);
    let decision = linked.ask(linked.bot(), "history.read", "repo:a");
    let Decision::RequiresOversight {
        held_by,
        policies,
        oversight,
    } = decision
    else {
        panic!("{decision:?}");
    };
    assert_eq!(
        (ids(&policies), oversight.as_str()),
        (vec!["stop-bot"], "k")
    );
    let given = Approval::Given { held_by, oversight };
    let lifts = |world: &World| world.ask_by(world.bot(), "history.read", "repo:a", Some(&given));
    assert!(lifts(&linked).is_allowed());
    // What a template says of one agent is not what it says of another.
    let other = world(
        r#"[{"template_id": "may-read", "link_id": "read-a",
             "args": {"?resource": "Creto::Resource::\"repo:a\""}},
            {"template_id": "stop", "link_id": "stop-bot",
             "args": {"?principal": "Creto::Agent::\"planner\""}}]"#,
    );
    let held = lifts(&other);
    assert!(
        matches!(held, Decision::RequiresOversight { .. }),
        "{held:?}"
    );
    let elsewhere = linked.ask(linked.owner(), "history.read", "repo:b");
    assert_eq!(code(elsewhere), "no_policy_permits");
    let policies = linked.authz.policies(linked.org).unwrap();
    let shown = &policies.report().policies[0];
    assert_eq!(shown.file, "test.links.json");
    assert_eq!(shown.reason.as_deref(), Some("readers"));
}

#[test]
fn a_link_that_cannot_be_used_is_refused() {
    let link = |template: &str, id: &str, args: &str| {
        format!(r#"[{{"template_id": "{template}", "link_id": "{id}", "args": {args}}}]"#)
    };
    let resource = r#"{"?resource": "Creto::Resource::\"a\""}"#;
    for bad in [
        "{".to_owned(),
        r#"[{"template_id": "may-read"}]"#.to_owned(),
        link("nope", "l", resource),
        link("may-read", "l", "{}"),
        link("may-read", "l", r#"{"?resource": "a b"}"#),
        link("may-read", "l", r#"{"?action": "Creto::Action::\"a\""}"#),
        link("may-read", "may-read", resource),
        link("may-read", "a+b", resource),
    ] {
        let error = CompiledPolicies::compile(&with_links(&bad)).unwrap_err();
        assert_eq!(error.code(), "policy_link_invalid", "{bad}");
        assert_eq!(error.findings()[0].file, "test.links.json");
    }
    // Right as a link, but not for the schema.
    let unfit = link("may-read", "l", r#"{"?resource": "Other::\"a\""}"#);
    let error = CompiledPolicies::compile(&with_links(&unfit)).unwrap_err();
    assert_eq!(error.code(), "policy_invalid");
}

#[test]
fn many_policies_are_validated_as_few_are() {
    let mut text = String::new();
    for number in 0..600 {
        text.push_str(&format!(
            "@id(\"p{number}\") permit (principal, action, resource == Creto::Resource::\"{number}\");\n"
        ));
    }
    let good = PolicySources {
        links: vec![(
            "t.links.json".to_owned(),
            r#"[{"template_id": "may-read", "link_id": "read-a",
                 "args": {"?resource": "Creto::Resource::\"repo:a\""}}]"#
                .to_owned(),
        )],
        ..sources(&format!("{TEMPLATE}{text}"))
    };
    let compiled = CompiledPolicies::compile(&good).unwrap();
    let report = compiled.report();
    assert_eq!(report.policies.len(), 601);
    assert_eq!(report.policies[599].line, Some(603));
    text.push_str("@id(\"bad\") permit (principal, action, resource) when { principal.age > 3 };");
    let error = CompiledPolicies::compile(&sources(&text)).unwrap_err();
    assert_eq!(error.code(), "policy_invalid");
    assert_eq!(error.findings()[0].policy.as_deref(), Some("bad"));
    assert_eq!(error.findings()[0].line, Some(601));
}

/// What policies permit there ends after ten seconds.
fn until_ten_seconds_passed() -> World {
    let mut set = sources(
        r#"permit (principal, action, resource)
           when { context.now < datetime("2026-05-01T00:00:10Z") };"#,
    );
    set.schema = vec![(
        "own.cedarschema".to_owned(),
        r#"namespace Creto {
             entity Organization;
             entity Human in [Organization] = { name: String };
             entity Agent in [Organization] = { name: String, owner: Human, depth: Long };
             entity Resource in [Organization] = { id: String };
             action wake appliesTo { principal: [Human, Agent], resource: [Resource],
               context: { oversight: { approved: Bool }, units: Long, now: datetime } };
           }"#
        .to_owned(),
    )];
    let world = World::empty();
    world
        .authz
        .publish(world.org, CompiledPolicies::compile(&set).unwrap());
    world
}

#[test]
fn the_engine_fills_in_the_time_where_an_action_declares_it() {
    let world = until_ten_seconds_passed();
    assert!(world.ask(world.bot(), "wake", "r").is_allowed());
    let action = Action::named("wake");
    let resource = ResourceRef::resource("r");
    let context = [("now", ContextValue::Text("2020-01-01"))];
    let request = question(&action, &resource, &context);
    let decision = world.authz.ask(&world.bind(world.bot()), &request);
    assert_eq!(
        code(decision),
        "invalid_request",
        "the time is the engine's"
    );
    world.later(10);
    let late = world.ask(world.bot(), "wake", "r");
    assert_eq!(code(late), "no_policy_permits");
}

#[test]
fn what_reads_the_time_is_not_remembered() {
    let world = until_ten_seconds_passed();
    let bound = world.bind(world.bot());
    let (action, resource) = (Action::named("wake"), ResourceRef::resource("r"));
    let ask = || world.authz.ask(&bound, &question(&action, &resource, &[]));
    assert!(ask().is_allowed());
    assert!(ask().is_allowed());
    world.later(10);
    assert_eq!(code(ask()), "no_policy_permits");
}
