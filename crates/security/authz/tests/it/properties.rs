//! Against a second, plain use of Cedar: the same policies, one full evaluation
//! per member of the chain, entities written out by hand as JSON.

use cedar_policy::{
    Authorizer, Context, Decision as CedarDecision, Entities, EntityUid, PolicySet, Request, Schema,
};
use creto_authz::{Action, CheckRequest, CompiledPolicies, Decision, PolicySources, ResourceRef};
use creto_types::Clock as _;
use proptest::prelude::*;

use crate::world::{World, sources};

#[derive(Clone, Debug)]
struct Rule {
    permit: bool,
    annotated: bool,
    principal: usize,
    action: usize,
    resource: usize,
    condition: usize,
}

const PRINCIPALS: [&str; 8] = [
    r#"principal in Creto::Organization::"ORG""#,
    r#"principal is Creto::Agent in Creto::Organization::"ORG""#,
    "principal",
    "principal is Creto::Agent",
    r#"principal == Creto::Agent::"bot""#,
    r#"principal == Creto::Human::"owner""#,
    r#"principal == Creto::Agent::"stranger""#,
    r#"principal is Creto::Human"#,
];
const ACTIONS: [&str; 4] = [
    r#"action in [Creto::Action::"release.publish", Creto::Action::"release.publish"]"#,
    "action",
    r#"action == Creto::Action::"history.read""#,
    r#"action in [Creto::Action::"history.read", Creto::Action::"release.publish"]"#,
];
const RESOURCES: [&str; 4] = [
    r#"resource is Creto::Resource in Creto::Organization::"ORG""#,
    "resource",
    r#"resource == Creto::Resource::"repo:a""#,
    "resource is Creto::Resource",
];
const CONDITIONS: [&str; 11] = [
    "",
    r#"when { principal is Creto::Agent && principal.owner.name == "owner" }"#,
    r#"when { resource.id like "*:a" }"#,
    r#"when { action in [Creto::Action::"history.read"] }"#,
    r#"when { principal in Creto::Organization::"ORG" && context == context }"#,
    "when { context.units < 3 }",
    "unless { context.oversight.approved }",
    r#"when { principal has depth && principal.depth < 2 }"#,
    r#"when { principal.name like "*o*" } unless { context.oversight.approved }"#,
    "when { context.oversight.approved }",
    // Fails for five units.
    "when { context.units * 2305843009213693951 > 0 } unless { context.oversight.approved }",
];

fn rule() -> impl Strategy<Value = Rule> {
    (
        prop::bool::weighted(0.6),
        prop::bool::weighted(0.7),
        0..PRINCIPALS.len(),
        0..ACTIONS.len(),
        0..RESOURCES.len(),
        0..CONDITIONS.len(),
    )
        .prop_map(
            |(permit, annotated, principal, action, resource, condition)| Rule {
                permit,
                annotated: annotated && !permit,
                principal,
                action,
                resource,
                condition,
            },
        )
}

/// Mostly on top of a policy that permits everything, so that all outcomes come.
fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let all = Rule {
        permit: true,
        annotated: false,
        principal: 0,
        action: 0,
        resource: 0,
        condition: 0,
    };
    (
        prop::bool::weighted(0.7),
        proptest::collection::vec(rule(), 1..7),
    )
        .prop_map(move |(open, mut rules)| {
            if open {
                rules.insert(0, all.clone());
            }
            rules
        })
}

fn text(rules: &[Rule]) -> String {
    let one = |rule: &Rule| {
        format!(
            "{} {} ({}, {}, {}) {};\n",
            if rule.annotated {
                r#"@oversight("k")"#
            } else {
                ""
            },
            if rule.permit { "permit" } else { "forbid" },
            PRINCIPALS[rule.principal],
            ACTIONS[rule.action],
            RESOURCES[rule.resource],
            CONDITIONS[rule.condition],
        )
    };
    let text: String = rules.iter().map(one).collect();
    // The ids of worlds are seeded, so every one has the same organization.
    text.replace("ORG", &World::empty().org.to_string())
}

/// What plain Cedar says to one principal.
struct Plain {
    allowed: bool,
    reasons: Vec<String>,
    failed: bool,
}

fn plain(
    world: &World,
    policies: &str,
    action: &str,
    resource: &str,
    units: u64,
    approved: bool,
) -> Vec<Plain> {
    let texts: Vec<String> = PolicySources::starter()
        .schema
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    // Two blocks of one namespace cannot stand in one file: join their bodies.
    let body = |text: &str| {
        let start = text.find('{').unwrap() + 1;
        text[start..text.rfind('}').unwrap()].to_owned()
    };
    let joined = format!(
        "namespace Creto {{ {} {} }}",
        body(&texts[0]),
        body(&texts[1])
    );
    let schema: Schema = joined.parse().unwrap();
    let set: PolicySet = policies.parse().unwrap();
    let uid =
        |kind: &str, id: &str| serde_json::json!({"type": format!("Creto::{kind}"), "id": id});
    let org = uid("Organization", &world.org.to_string());
    let agent = |name: &str, depth: u64| {
        serde_json::json!({
            "uid": uid("Agent", name),
            "attrs": {"name": name, "depth": depth, "owner": {"__entity": uid("Human", "owner")}},
            "parents": [org],
        })
    };
    let entities = serde_json::json!([
        {"uid": org, "attrs": {}, "parents": []},
        {"uid": uid("Human", "owner"), "attrs": {"name": "owner"}, "parents": [org]},
        agent("planner", 1),
        agent("bot", 2),
        {"uid": uid("Resource", resource), "attrs": {"id": resource}, "parents": [org]},
    ]);
    let entities = Entities::from_json_value(entities, Some(&schema)).unwrap();
    let action: EntityUid = format!(r#"Creto::Action::"{action}""#).parse().unwrap();
    let target: EntityUid = format!(r#"Creto::Resource::"{resource}""#).parse().unwrap();
    let context = serde_json::json!({"oversight": {"approved": approved}, "units": units});
    [
        r#"Creto::Human::"owner""#,
        r#"Creto::Agent::"planner""#,
        r#"Creto::Agent::"bot""#,
    ]
    .into_iter()
    .map(|principal| {
        let context = Context::from_json_value(context.clone(), None).unwrap();
        let request = Request::new(
            principal.parse().unwrap(),
            action.clone(),
            target.clone(),
            context,
            Some(&schema),
        )
        .unwrap();
        let response = Authorizer::new().is_authorized(&request, &set, &entities);
        Plain {
            allowed: response.decision() == CedarDecision::Allow,
            reasons: response
                .diagnostics()
                .reason()
                .map(ToString::to_string)
                .collect(),
            failed: response.diagnostics().errors().next().is_some(),
        }
    })
    .collect()
}

fn sorted(all: &[Plain], only: impl Fn(&Plain) -> bool) -> Vec<String> {
    let mut ids: Vec<String> = all
        .iter()
        .filter(|one| only(one))
        .flat_map(|one| one.reasons.clone())
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

/// The rule of oversight, written once more from its description.
fn expected(rules: &[Rule], without: &[Plain], with: &[Plain]) -> (&'static str, Vec<String>) {
    if without.iter().any(|one| one.failed) {
        return ("policy_error", Vec::new());
    }
    if without.iter().all(|one| one.allowed) {
        return ("allow", sorted(without, |_| true));
    }
    let annotated = |id: &str| {
        let position: usize = id.strip_prefix("policy").unwrap().parse().unwrap();
        rules[position].annotated
    };
    let forbids = sorted(without, |one| !one.allowed);
    let plain: Vec<String> = forbids
        .iter()
        .filter(|id| !annotated(id))
        .cloned()
        .collect();
    if !plain.is_empty() {
        return ("policy_forbids", plain);
    }
    if without
        .iter()
        .any(|one| !one.allowed && one.reasons.is_empty())
    {
        return ("no_policy_permits", Vec::new());
    }
    if with.iter().any(|one| one.failed) {
        return ("policy_error", Vec::new());
    }
    if with.iter().all(|one| one.allowed) {
        return ("requires_oversight", forbids);
    }
    let forbids = sorted(with, |one| !one.allowed);
    if forbids.is_empty() {
        ("no_policy_permits", forbids)
    } else {
        ("policy_forbids", forbids)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_check_equals_full_evaluations(
        rules in rules(),
        action in prop::sample::select(vec!["history.read", "release.publish"]),
        resource in prop::sample::select(vec!["repo:a", "repo:b"]),
        units in prop::sample::select(vec![1_u64, 2, 5]),
    ) {
        let policies = text(&rules);
        prop_assume!(CompiledPolicies::compile(&sources(&policies)).is_ok());
        let world = World::with(&policies);
        let without = plain(&world, &policies, action, resource, units, false);
        let with = plain(&world, &policies, action, resource, units, true);
        let target = ResourceRef::resource(resource);
        let action = Action::named(action);
        let request = CheckRequest { units, ..crate::world::question(&action, &target, &[]) };
        let decision = world.authz.ask(&world.bind(world.bot()), &request);
        // Asked again it may be remembered, and is the same.
        let again = world.authz.ask(&world.bind(world.bot()), &request);
        prop_assert_eq!(&again, &decision, "{}", policies);
        let (outcome, named) = match &decision {
            Decision::Allow { policies, .. } => ("allow", policies),
            Decision::Deny { reason, policies } => (reason.code, policies),
            Decision::RequiresOversight { policies, .. } => ("requires_oversight", policies),
            other => panic!("{other:?}"),
        };
        let (want, ids) = expected(&rules, &without, &with);
        prop_assert_eq!(outcome, want, "{}", policies);
        if want != "policy_error" {
            let named: Vec<String> = named.iter().map(ToString::to_string).collect();
            prop_assert_eq!(named, ids, "{}", policies);
        }

        // The approval that was asked for lets exactly this through.
        if let Decision::RequiresOversight { held_by, oversight, .. } = decision {
            let approval = creto_authz::Approval::Given { held_by, oversight };
            let approved = CheckRequest { approval: Some(&approval), ..request };
            prop_assert!(world.authz.ask(&world.bind(world.bot()), &approved).is_allowed());
        }
    }

    /// Whatever bytes a policy file holds: an answer, never a panic.
    #[test]
    fn any_text_is_answered(policy in ".{0,200}", schema in ".{0,200}") {
        let set = PolicySources {
            schema: vec![("s".to_owned(), schema)],
            policies: vec![("p".to_owned(), policy.clone())],
            ..PolicySources::default()
        };
        let _ = CompiledPolicies::compile(&set);
        let _ = CompiledPolicies::compile(&sources(&policy));
    }
}

proptest! {
    // Two sets are compiled for each.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// What is explained is what is decided, and the permit that is said to be missing
    /// is what is missing.
    #[test]
    fn an_explanation_is_true(
        rules in rules(),
        action in prop::sample::select(vec!["history.read", "release.publish"]),
        resource in prop::sample::select(vec!["repo:a", "repo:b"]),
        units in prop::sample::select(vec![1_u64, 2, 5]),
    ) {
        let policies = text(&rules);
        let world = World::with(&policies);
        let target = ResourceRef::resource(resource);
        let asked = Action::named(action);
        let request = CheckRequest { units, ..crate::world::question(&asked, &target, &[]) };
        let explain = |compiled: &CompiledPolicies| {
            compiled.explain(&world.bot(), &request, world.clock.reading())
        };
        let told = explain(&world.authz.policies(world.org).unwrap());
        let without = plain(&world, &policies, action, resource, units, false);
        let with = plain(&world, &policies, action, resource, units, true);
        let (want, ids) = expected(&rules, &without, &with);
        prop_assert_eq!(told.code.unwrap_or(told.outcome), want, "{}", policies);
        if want != "policy_error" {
            let named: Vec<String> = told.policies.iter().map(ToString::to_string).collect();
            prop_assert_eq!(named, ids, "{}", policies);
        }
        for (principal, cedar) in told.principals.iter().zip(&without) {
            let permitted = cedar.allowed && !cedar.failed;
            prop_assert_eq!(principal.permitted, permitted, "{} {}", principal.principal, policies);
        }
        let Some(missing) = told.missing else { return Ok(()) };
        let mended = sources(&format!("{policies}{}", missing.policy));
        let mended = explain(&CompiledPolicies::compile(&mended).unwrap());
        prop_assert_eq!(mended.missing, None, "{}", policies);
        let forbidden = told.principals.iter().flat_map(|principal| &principal.policies);
        let forbidden = forbidden
            .filter(|one| one.effect == "forbid")
            .any(|one| one.outcome == creto_authz::Outcome::Applies);
        if !forbidden {
            prop_assert_eq!(mended.outcome, "allow", "{}", policies);
        }
    }
}
