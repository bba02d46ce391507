//! Why-not answers name what is missing, and it is what is missing.

use creto_authz::{Action, CompiledPolicies, Explanation, Outcome, ResourceRef, Unfit};
use creto_types::Clock as _;

use crate::world::{World, question, sources};

fn explain(world: &World, policies: &str, action: &str, resource: &str) -> Explanation {
    let compiled = CompiledPolicies::compile(&sources(policies)).unwrap();
    let action = Action::named(action);
    let resource = ResourceRef::resource(resource);
    compiled.explain(
        &world.bot(),
        &question(&action, &resource, &[]),
        world.clock.reading(),
    )
}

#[test]
fn a_missing_permit_is_named_and_would_do() {
    let world = World::empty();
    let policies = r#"
      @id("a") permit (principal, action == Creto::Action::"history.read",
                       resource == Creto::Resource::"repo:a");
      @id("owners") permit (principal is Creto::Human, action, resource);
      @id("few") permit (principal, action, resource) when { context.units < 1 };
      @id("far") permit (principal == Creto::Agent::"x",
                         action == Creto::Action::"release.publish",
                         resource == Creto::Resource::"repo:z");"#;
    let why = explain(&world, policies, "history.read", "repo:b");
    assert_eq!((why.outcome, why.code), ("deny", Some("no_policy_permits")));
    let permitted: Vec<bool> = why.principals.iter().map(|one| one.permitted).collect();
    assert_eq!(permitted, [true, false, false]);
    let planner = &why.principals[1];
    assert_eq!(planner.principal, r#"Creto::Agent::"planner""#);
    assert_eq!(planner.policies.len(), 1);
    assert_eq!(planner.policies[0].outcome, Outcome::ConditionFalse);
    let missing = why.missing.unwrap();
    assert_eq!(
        missing.principals,
        [r#"Creto::Agent::"planner""#, r#"Creto::Agent::"bot""#]
    );
    let near: Vec<(&str, &[Unfit])> = missing
        .nearest
        .iter()
        .map(|near| (near.id.as_str(), near.unfit.as_slice()))
        .collect();
    assert_eq!(
        near,
        [
            ("a", &[Unfit::Resource][..]),
            ("owners", &[Unfit::Principal][..]),
            ("few", &[Unfit::Condition][..]),
        ]
    );
    let mended = format!("{policies}\n{}", missing.policy);
    let now = explain(&world, &mended, "history.read", "repo:b");
    assert_eq!((now.outcome, now.missing), ("allow", None));
}

#[test]
fn what_forbids_and_what_fails_is_named() {
    let world = World::empty();
    let policies = r#"@id("all") permit (principal, action, resource);
      @id("no") forbid (principal is Creto::Agent, action, resource);"#;
    let why = explain(&world, policies, "history.read", "repo:b");
    assert_eq!(why.code, Some("policy_forbids"));
    assert_eq!(why.missing, None);
    assert!(why.principals[0].permitted && !why.principals[2].permitted);
    // What would still be missing without the policy that forbids it.
    let policies = r#"@id("humans") permit (principal is Creto::Human, action, resource);
      @id("no") forbid (principal == Creto::Agent::"bot", action, resource);"#;
    let why = explain(&world, policies, "history.read", "repo:b");
    assert_eq!(why.code, Some("policy_forbids"));
    let missing = why.missing.unwrap();
    assert_eq!(
        missing.principals,
        [r#"Creto::Agent::"planner""#, r#"Creto::Agent::"bot""#]
    );
    let policies = r#"@id("bad") permit (principal, action, resource)
      when { context.units + 9223372036854775807 > 0 };"#;
    let why = explain(&world, policies, "history.read", "repo:b");
    assert_eq!(why.code, Some("policy_error"));
    assert_eq!(why.principals[0].policies[0].outcome, Outcome::Error);
    assert!(why.principals[0].policies[0].error.is_some());
    let why = explain(&world, policies, "nope", "repo:b");
    assert_eq!(why.code, Some("unknown_action"));
    assert_eq!(why.principals, []);
    let json = serde_json::to_value(&why).unwrap();
    assert_eq!(json["outcome"], "deny");
}

#[test]
fn what_a_human_may_lift_is_told_from_what_is_missing() {
    let world = World::empty();
    let policies = r#"@id("all") permit (principal, action, resource);
      @id("held") @oversight("release")
      forbid (principal is Creto::Agent, action, resource)
      unless { context.oversight.approved };"#;
    let why = explain(&world, policies, "history.read", "repo:b");
    assert_eq!(why.outcome, "requires_oversight");
    assert_eq!(why.oversight.as_deref(), Some("release"));
    let held: Vec<&str> = why.policies.iter().map(|id| id.as_str()).collect();
    assert_eq!((held, why.missing), (vec!["held"], None));
    assert!(why.principals[0].permitted && !why.principals[1].permitted);
}
