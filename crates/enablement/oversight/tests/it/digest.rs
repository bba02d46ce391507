//! Any change of the action changes its digest.

use std::collections::BTreeMap;

use creto_oversight::{ActionDigest, HeldAction};
use proptest::prelude::*;
use serde_json::{Value, json};

fn held() -> HeldAction {
    HeldAction {
        org: "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e".parse().unwrap(),
        agent: "release-bot".parse().unwrap(),
        action: "release.publish".to_owned(),
        resource: "release:1.0".to_owned(),
        resource_type: None,
        context: serde_json::Map::new(),
        args: json!({"tag": "v1.0", "notes": ["a", "b"]}),
        units: 1,
        policy_id: "p".to_owned(),
        policy_digests: BTreeMap::new(),
    }
}

/// JSON with numbers that have one value only.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1_000_000_i64..1_000_000).prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".{0,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_held() -> impl Strategy<Value = HeldAction> {
    (
        any::<u64>(),
        "[a-z][a-z0-9-]{0,8}",
        ".{0,8}",
        ".{0,8}",
        proptest::option::of(".{0,8}"),
        proptest::collection::btree_map(".{0,4}", json_value(), 0..3),
        json_value(),
        0_u64..9_007_199_254_740_992,
        (
            ".{0,8}",
            proptest::collection::btree_map(".{0,4}", ".{0,4}", 0..3),
        ),
    )
        .prop_map(
            |(org, agent, action, resource, resource_type, context, args, units, policies)| {
                HeldAction {
                    org: format!("org_{org:032x}").parse().unwrap(),
                    agent: agent.parse().unwrap(),
                    action,
                    resource,
                    resource_type,
                    context: context.into_iter().collect(),
                    args,
                    units,
                    policy_id: policies.0,
                    policy_digests: policies.1,
                }
            },
        )
}

proptest! {
    #[test]
    fn every_field_counts(a in any_held(), b in any_held()) {
        let digest = a.digest().unwrap();
        // One field of `b` at a time.
        let variants = [
            HeldAction { org: b.org, ..a.clone() },
            HeldAction { agent: b.agent, ..a.clone() },
            HeldAction { action: b.action, ..a.clone() },
            HeldAction { resource: b.resource, ..a.clone() },
            HeldAction { resource_type: b.resource_type, ..a.clone() },
            HeldAction { context: b.context, ..a.clone() },
            HeldAction { args: b.args, ..a.clone() },
            HeldAction { units: b.units, ..a.clone() },
            HeldAction { policy_id: b.policy_id, ..a.clone() },
            HeldAction { policy_digests: b.policy_digests, ..a.clone() },
        ];
        for variant in variants {
            prop_assert_eq!(variant == a, variant.digest().unwrap() == digest, "{:?}", variant);
        }
    }

    #[test]
    fn a_digest_survives_its_text(a in any_held()) {
        let digest = a.digest().unwrap();
        prop_assert_eq!(digest.to_string().parse::<ActionDigest>(), Ok(digest));
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,80}") {
        let _ = text.parse::<ActionDigest>();
    }
}

#[test]
fn the_order_of_members_does_not_count() {
    let mut other = held();
    other.args = serde_json::from_str(r#"{"notes":["a","b"], "tag":"v1.0"}"#).unwrap();
    assert_eq!(held().digest().unwrap(), other.digest().unwrap());
    other.args["notes"] = json!(["b", "a"]);
    assert_ne!(held().digest().unwrap(), other.digest().unwrap());
}

/// The canonical bytes stand in `docs/formats/oversight.md`; so must the digest.
#[test]
fn known_answer() {
    assert_eq!(
        held().digest().unwrap().to_string(),
        "9b2992bf4ec3798ea702d5459f9b4196615e790e7cc8dc14bf5f1eb449f8b84b"
    );
}

#[test]
fn integers_that_would_be_rounded_are_refused() {
    let mut large = held();
    large.args = json!({"list": [{"amount": 9_007_199_254_740_993_u64}]});
    let error = large.digest().unwrap_err();
    assert!(error.to_string().contains("args.list[0].amount"), "{error}");
    large.args = json!({"amount": -9_007_199_254_740_993_i64});
    assert!(large.digest().is_err());
    large.args = json!({"amount": 9_007_199_254_740_991_u64});
    assert!(large.digest().is_ok());
    large.units = 9_007_199_254_740_992;
    assert!(large.digest().is_err());
}
