//! Texts that go deep, or stand for much: refused, or good for all that is done with them.

use creto_authz::{CompiledPolicies, Decision, PolicySources};
use creto_errors::Classify as _;

use crate::world::{World, sources};

fn code(sources: &PolicySources) -> &'static str {
    match CompiledPolicies::compile(sources) {
        Ok(_) => "good",
        Err(error) => error.code(),
    }
}

fn policy(condition: &str) -> PolicySources {
    sources(&format!(
        "permit (principal, action, resource) when {{ {condition} }};"
    ))
}

fn schema(more: &str) -> PolicySources {
    let mut sources = policy("true");
    let text = format!("namespace Creto {{ {more} }}");
    sources.schema.push(("more.cedarschema".to_owned(), text));
    sources
}

fn repeated(count: usize, line: impl Fn(usize) -> String) -> String {
    (1..=count).map(line).collect()
}

/// An overflow of the stack is no panic: it would take the process with it.
#[test]
fn what_goes_too_deep_is_refused() {
    for deep in [
        format!("{}true{}", "(!".repeat(200), ")".repeat(200)),
        format!("{}1{} == [1]", "[".repeat(200), "]".repeat(200)),
        format!("{}true{}", "(".repeat(100_000), ")".repeat(100_000)),
        vec!["context.units > 1"; 60_000].join(" || "),
        format!("context{}", ".units".repeat(300_000)),
        format!("{}1 == 1", "if true then 1 else ".repeat(50_000)),
    ] {
        assert_eq!(code(&policy(&deep)), "policy_syntax", "{deep:.40}");
    }
    let sets = |count| {
        format!(
            "type T = {}Long{};",
            "Set<".repeat(count),
            ">".repeat(count)
        )
    };
    assert_eq!(code(&schema(&sets(2_000))), "policy_schema_invalid");
}

/// A few hundred bytes that stand for more than memory holds.
#[test]
fn what_stands_for_too_much_is_refused() {
    let doubled = |count| {
        let types = repeated(count, |n| {
            format!("type T{n} = {{ a: T{below}, b: T{below} }};", below = n - 1)
        });
        schema(&format!(
            "type T0 = Long; {types} entity Z = {{ x: T{count} }};"
        ))
    };
    assert_eq!(code(&doubled(10)), "good");
    assert_eq!(code(&doubled(40)), "policy_schema_invalid");
    let parents = |count| {
        let types = repeated(count, |n| format!("entity E{n} in [E{}];", n - 1));
        schema(&format!("entity E0; {types}"))
    };
    assert_eq!(code(&parents(30)), "good");
    assert_eq!(code(&parents(3_000)), "policy_schema_invalid");
    let groups = |count| {
        let groups = repeated(count, |n| format!("action g{n} in [g{}];", n - 1));
        schema(&format!("action g0; {groups}"))
    };
    assert_eq!(code(&groups(30)), "good");
    assert_eq!(code(&groups(3_000)), "policy_schema_invalid");
    let types = repeated(400, |n| format!("entity E{n};"));
    let all: Vec<String> = (1..=400).map(|n| format!("E{n}")).collect();
    let all = all.join(", ");
    let pairs = format!("action many appliesTo {{ principal: [{all}], resource: [{all}] }};");
    assert_eq!(
        code(&schema(&format!("{types} {pairs}"))),
        "policy_schema_invalid"
    );
}

/// As many actions as there may be are served, and the one that does not fit is found.
#[test]
fn many_actions_are_loaded_in_time_that_grows_with_them() {
    let actions = |count, last: &str| {
        let context = "oversight: Oversight, units: Long";
        let actions = repeated(count, |n| {
            let context = if n == count { last } else { context };
            format!(
                "action a{n} appliesTo {{ principal: [Human, Agent], resource: [Resource], \
                 context: {{ {context} }} }};"
            )
        });
        schema(&actions)
    };
    let fits = "oversight: Oversight, units: Long";
    assert_eq!(code(&actions(1_900, fits)), "good");
    assert_eq!(code(&actions(300, "units: Long")), "policy_schema_unfit");
    assert_eq!(code(&actions(2_100, fits)), "policy_schema_invalid");
}

/// What is accepted is compiled, asked and dropped on a thread such as others have, and an
/// error in the midst of it is found.
#[test]
fn the_deepest_that_is_accepted_is_good_for_everything() {
    let nested = format!("{}true{}", "(!(!(".repeat(9), ")))".repeat(9));
    let wide = |term: &str| {
        let mut terms = vec!["context.units > 1000"; 320];
        terms[160] = term;
        terms.join(" || ")
    };
    let members = format!("{} || true", vec!["[1].contains(1)"; 240].join(" && "));
    for deep in [nested, wide("context.units == 1"), members] {
        let world = World::with(&format!(
            "permit (principal, action, resource) when {{ {deep} }};"
        ));
        let decision = world.ask(world.bot(), "history.read", "repo:creto");
        assert!(
            matches!(decision, Decision::Allow { .. }),
            "{deep:.40} {decision:?}"
        );
        world.publish(world.org, "permit (principal, action, resource);");
    }
    assert_eq!(code(&policy(&wide("context.nope == 1"))), "policy_invalid");
}
