//! What a link delegates, written as Cedar policies (docs/formats/delegation.md), decided by
//! Cedar's own authorizer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, Schema, ValidationMode,
    Validator,
};
use creto_crypto::{AwsLcProvider, CryptoProvider as _, SignatureAlgorithm, SigningKey};
use creto_nhi::test_util::hop;
use creto_nhi::{
    ChainError, DELEGATION_CONTEXT, DelegationLink, EscalationError, Hop, Right, SignedLink,
    verify_chain,
};
use creto_types::SeededRandom;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::world::World;

/// Names that patterns tell apart, with all that has a meaning in patterns, in Cedar's
/// strings or in its `like`.
const ACTIONS: [&str; 9] = [
    "fs",
    "fs.read",
    "fs.write",
    "fs.*",
    "net",
    "net.\"quoted\"",
    "net.\\back",
    "\u{fc}ber",
    "*",
];

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let names: Vec<String> = ACTIONS.iter().map(|name| quoted(name)).collect();
    let text = format!(
        "namespace Creto {{
           entity Agent;
           entity Resource = {{ id: String }};
           entity Host = {{ id: String }};
           action {} appliesTo {{ principal: [Agent], resource: [Resource, Host] }};
         }}",
        names.join(", ")
    );
    text.parse().unwrap()
});

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// The right as a policy for who holds it. None when the schema has no action that it
/// names: nothing can be asked that it would allow.
fn policy(holder: &str, right: &Right, actions: &[&str]) -> Option<String> {
    let action = if right.action.as_str() == "*" {
        "action".to_owned()
    } else {
        let named = actions.iter().filter(|name| right.action.matches(name));
        let named: Vec<String> = named
            .map(|name| format!("Creto::Action::{}", quoted(name)))
            .collect();
        if named.is_empty() {
            return None;
        }
        format!("action in [{}]", named.join(", "))
    };
    let when = match right.resource.as_str().strip_suffix('*') {
        Some("") => String::new(),
        Some(prefix) => format!(" when {{ resource.id like \"{}*\" }}", escaped(prefix)),
        None => format!(
            " when {{ resource.id == {} }}",
            quoted(right.resource.as_str())
        ),
    };
    let holder = quoted(holder);
    Some(format!(
        "permit (principal == Creto::Agent::{holder}, {action}, resource){when};\n"
    ))
}

/// The link as a policy set, which an organization could publish: it is strictly valid.
fn translated(link: &DelegationLink) -> PolicySet {
    let holder = link.delegatee.as_str();
    let policies = link.rights.iter();
    let text: String = policies
        .filter_map(|right| policy(holder, right, &ACTIONS))
        .collect();
    let set: PolicySet = text
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {text}"));
    let validated = Validator::new(SCHEMA.clone()).validate(&set, ValidationMode::Strict);
    assert!(validated.validation_passed(), "{validated}: {text}");
    set
}

fn uid(kind: &str, id: &str) -> EntityUid {
    let kind = format!("Creto::{kind}").parse().unwrap();
    EntityUid::from_type_name_and_id(kind, cedar_policy::EntityId::new(id))
}

/// What Cedar says to the holder.
fn permits(set: &PolicySet, holder: &str, action: &str, kind: &str, resource: &str) -> bool {
    let resource_uid = uid(kind, resource);
    let entities = serde_json::json!([
        {"uid": {"type": "Creto::Agent", "id": holder}, "attrs": {}, "parents": []},
        {
            "uid": {"type": format!("Creto::{kind}"), "id": resource},
            "attrs": {"id": resource},
            "parents": [],
        },
    ]);
    let entities = Entities::from_json_value(entities, Some(&SCHEMA)).unwrap();
    let request = Request::new(
        uid("Agent", holder),
        uid("Action", action),
        resource_uid,
        Context::empty(),
        Some(&SCHEMA),
    );
    let answer = Authorizer::new().is_authorized(&request.unwrap(), set, &entities);
    assert_eq!(answer.diagnostics().errors().count(), 0);
    answer.decision() == Decision::Allow
}

/// Texts over few letters, so that one is often the beginning of another; each of them has
/// a meaning somewhere.
fn resource() -> impl Strategy<Value = String> {
    const LETTERS: [&str; 10] = [
        "a",
        "b",
        ":",
        "*",
        "\"",
        "\\",
        "?",
        "\u{e9}",
        "e\u{301}",
        "\u{1f980}",
    ];
    proptest::collection::vec(prop::sample::select(LETTERS.to_vec()), 0..4)
        .prop_map(|letters| letters.concat())
}

/// The text itself, or the texts that begin with the beginning of it.
fn pattern(texts: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (texts, 0_usize..12, any::<bool>()).prop_map(|(text, length, whole)| {
        let text: String = text.chars().filter(|c| *c != '*').collect();
        if whole && !text.is_empty() {
            return text;
        }
        text.chars().take(length).chain(['*']).collect()
    })
}

fn right() -> impl Strategy<Value = Right> {
    let action = prop::sample::select(ACTIONS.to_vec()).prop_map(ToOwned::to_owned);
    (pattern(action), pattern(resource()))
        .prop_map(|(action, resource)| Right::parse(&action, &resource).unwrap())
}

fn rights() -> impl Strategy<Value = Vec<Right>> {
    proptest::collection::vec(right(), 1..5)
}

/// Texts that were drawn, and those that the patterns tell apart most closely: what they
/// name, and the nearest beside it.
fn asked(drawn: Vec<String>, rights: &[&Right]) -> Vec<String> {
    let mut all = drawn;
    for right in rights {
        let fixed = right.resource.as_str().trim_end_matches('*');
        let mut shorter = fixed.to_owned();
        shorter.pop();
        all.extend([fixed.to_owned(), format!("{fixed}a"), shorter]);
    }
    all
}

fn below(world: &World, parent: Option<&Hop>, from: &str, to: &str, rights: Vec<Right>) -> Hop {
    hop(world.org, world.ids.next(), parent, from, to, rights, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_link_in_cedar_allows_what_the_link_allows(
        rights in rights(),
        drawn in proptest::collection::vec(resource(), 1..5),
        host in any::<bool>(),
    ) {
        let hop = below(&World::empty(), None, "owner", "worker", rights);
        let set = translated(&hop.link);
        // Rights name ids, of whatever type.
        let kind = if host { "Host" } else { "Resource" };
        let named: Vec<&Right> = hop.link.rights.iter().collect();
        for resource in asked(drawn, &named) {
            for action in ACTIONS {
                let cedar = permits(&set, "worker", action, kind, &resource);
                let link = hop.link.allows(action, &resource);
                prop_assert_eq!(cedar, link, "{} on {:?}: {}", action, resource, set);
            }
            prop_assert!(!permits(&set, "stranger", "fs.read", kind, &resource));
        }
    }
}

/// Two links by one key, as somebody who has only them and the key would verify them.
fn accepted(key: &SigningKey, links: &[&Hop]) -> bool {
    let provider = AwsLcProvider::new(Arc::new(SeededRandom::new(1)));
    let signed = links.iter().map(|hop| {
        let link = DelegationLink::clone(&hop.link);
        let message = link.signing_bytes().unwrap();
        let signature = provider.sign(key, DELEGATION_CONTEXT, &message).unwrap();
        SignedLink {
            link: link.into(),
            signature,
        }
    });
    let signed: Vec<SignedLink> = signed.collect();
    match verify_chain(&signed, &|_, _| Some(key.verifying_key().clone())) {
        Ok(()) => true,
        Err(ChainError::Escalation { source, .. }) => {
            assert!(matches!(source, EscalationError::Rights { .. }), "{source}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_chain_that_is_accepted_only_shrinks_in_cedar() {
    let provider = AwsLcProvider::new(Arc::new(SeededRandom::new(2)));
    let algorithm = SignatureAlgorithm::MlDsa65Ed25519;
    let key = provider.generate_signing_key(algorithm).unwrap();
    let world = World::empty();
    let taken = AtomicU32::new(0);
    let config = Config {
        cases: 512,
        failure_persistence: None,
        ..Config::default()
    };
    let drawn = (
        rights(),
        rights(),
        proptest::collection::vec(resource(), 1..4),
        any::<prop::sample::Index>(),
    );
    TestRunner::new(config)
        .run(&drawn, |(above, mut asked_for, drawn, kept)| {
            // One right alone is accepted often enough for the test to mean something.
            let only = kept.index(asked_for.len());
            asked_for.swap(0, only);
            asked_for.truncate(1 + only % 2);
            let parent = below(&world, None, "owner", "planner", above);
            let child = below(&world, Some(&parent), "planner", "worker", asked_for);
            if !accepted(&key, &[&parent, &child]) {
                return Ok(());
            }
            taken.fetch_add(1, Ordering::Relaxed);
            let (held, given) = (translated(&parent.link), translated(&child.link));
            let named: Vec<&Right> = parent
                .link
                .rights
                .iter()
                .chain(&child.link.rights)
                .collect();
            for resource in asked(drawn, &named) {
                for action in ACTIONS {
                    for kind in ["Resource", "Host"] {
                        prop_assert!(
                            !permits(&given, "worker", action, kind, &resource)
                                || permits(&held, "planner", action, kind, &resource),
                            "{} on {:?}: {} below {}",
                            action,
                            resource,
                            given,
                            held
                        );
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    let taken = taken.into_inner();
    assert!(taken >= 40, "only {taken} children were accepted");
}

/// The text of the document, word for word.
#[test]
fn the_example_of_the_document() {
    let right = |action, resource| Right::parse(action, resource).unwrap();
    let actions = ["fs.read", "fs.write", "net.connect"];
    let policy = |right| policy("worker", &right, &actions);
    let page = include_str!("../../../../../docs/formats/delegation.md");
    for right in [
        right("fs.write", "repo:*"),
        right("fs.*", "repo:changelog"),
        right("*", "*"),
    ] {
        let policy = policy(right).unwrap();
        assert!(page.contains(policy.trim()), "{policy}");
    }
    assert_eq!(policy(right("mail.*", "*")), None);
}
