//! Instances of agents, exchanged tokens, and chains carried by their digest.

use std::time::Duration;

use creto_nhi::test_util::name;
use creto_nhi::{AgentIdentity, InstanceName, KeyPurpose, PrincipalType};
use serde_json::{Value, json};

use crate::tokens::{forge, part, sorted};
use crate::{chained, code};

fn instance(text: &str) -> InstanceName {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_actor_of_a_token_is_the_instance_and_the_rest_stays_as_it_was() {
    let (world, org, [.., last]) = chained().await;
    let identity = world.nhi.identity_for_link(org, last).unwrap();
    let one = identity.of_instance(instance("pod-1")).unwrap();
    let issued = world.nhi.issue_token(&one, None).unwrap();
    let id = |name: &str| format!("spiffe://creto.test/org/{org}/agent/{name}");
    let claims = part(&issued.token, 1);
    assert_eq!(
        claims["act"],
        json!({
            "sub": id("helper/pod-1"),
            "act": { "sub": id("worker"), "act": { "sub": id("planner") } }
        })
    );
    let verified = world.nhi.verify_token(&issued.token).unwrap();
    assert_eq!(verified.name, name("helper"));
    assert_eq!(verified.instance(), Some(&instance("pod-1")));
    assert_eq!(verified.spiffe_id(), id("helper"));
    assert_eq!(verified.acting_id(), id("helper/pod-1"));

    // Only who acts has an instance, and only in this form.
    let header = part(&issued.token, 0).to_string();
    let act = |sub: String, worker: String| {
        let mut claims = claims.clone();
        let prior = json!({ "act": { "sub": id("planner") }, "sub": worker });
        claims["act"] = json!({ "act": prior, "sub": sub });
        let claims = sorted(&claims);
        let forged = forge(&world, org, KeyPurpose::Issuer, &header, &claims);
        world.nhi.verify_token(&forged)
    };
    assert!(act(id("helper/pod-2"), id("worker")).is_ok());
    for (helper, worker) in [
        (id("helper/pod-1"), id("worker/pod-1")),
        (id("helper/"), id("worker")),
        (id("helper/POD"), id("worker")),
        (id("helper/.."), id("worker")),
        (id("helper/a/b"), id("worker")),
        (id("helperpod-1"), id("worker")),
        (id("worker/pod-1"), id("worker")),
    ] {
        assert_eq!(
            code(act(helper.clone(), worker)),
            "invalid_token",
            "{helper}"
        );
    }

    world
        .nhi
        .revoke(org, last, world.now(), Default::default())
        .await
        .unwrap();
    let dead = world.nhi.verify_token(&issued.token);
    assert_eq!(code(dead), "delegation_revoked");
}

#[tokio::test]
async fn an_exchanged_token_is_of_the_same_delegation_and_never_longer() {
    let (world, org, [root, ..]) = chained().await;
    let identity = world.nhi.identity_for_link(org, root).unwrap();
    let ttl = Some(Duration::from_secs(600));
    let held = world.nhi.issue_token(&identity, ttl).unwrap();
    let held = world.nhi.verify_token(&held.token).unwrap();
    let exchange = |held: &AgentIdentity, one: Option<&str>, seconds: Option<u64>| {
        let ttl = seconds.map(Duration::from_secs);
        world.nhi.exchange_token(held, one.map(instance), None, ttl)
    };

    let (_, issued) = exchange(&held, Some("pod-1"), None).unwrap();
    assert_eq!(issued.expires_at, world.after(600));
    let (_, issued) = exchange(&held, Some("pod-1"), Some(3_600)).unwrap();
    assert_eq!(issued.expires_at, world.after(600));
    let (_, issued) = exchange(&held, Some("pod-1"), Some(60)).unwrap();
    assert_eq!(issued.expires_at, world.after(60));
    let one = world.nhi.verify_token(&issued.token).unwrap();
    assert_eq!(one.link().unwrap().link.id, root);

    // What is bound stays bound, named or not.
    let (again, issued) = exchange(&one, None, None).unwrap();
    assert_eq!(again.instance(), Some(&instance("pod-1")));
    assert_eq!(issued.expires_at, world.after(60));
    assert_eq!(code(exchange(&one, Some("pod-2"), None)), "instance_bound");

    let alice = world.nhi.identity_for_human(org, &name("alice")).unwrap();
    let refused = "invalid_identity_request";
    assert_eq!(code(exchange(&alice, None, None)), refused);
    assert_eq!(code(alice.of_instance(instance("pod-1"))), refused);
    assert_eq!(code(exchange(&held, Some("pod-1"), Some(0))), refused);
    for bad in ["", "A", "a/b", "..", &"a".repeat(64)] {
        assert_eq!(code(bad.parse::<InstanceName>()), refused, "{bad}");
    }

    world
        .nhi
        .revoke(org, root, world.now(), Default::default())
        .await
        .unwrap();
    assert_eq!(code(exchange(&one, None, None)), "delegation_revoked");
}

/// The longest names there are, eight deep, with an instance.
async fn deepest(domain: &str) -> String {
    let world = creto_nhi::test_util::World::of_domain(domain).await;
    let long = |at: usize| format!("{at}{}", "n".repeat(62));
    let org = world.organization(&long(0)).await;
    let mut parent = None;
    for at in 1..=8 {
        world.principal(org, &long(at), PrincipalType::Agent).await;
        let request = world.request(&long(at - 1), &long(at), parent);
        parent = Some(world.delegate(org, request).await.unwrap());
    }
    let identity = world.nhi.identity_for_link(org, parent.unwrap()).unwrap();
    let one = identity.of_instance(instance(&"i".repeat(63))).unwrap();
    let token = world.nhi.issue_token(&one, None).unwrap().token;
    let verified = world.nhi.verify_token(&token).unwrap();
    assert_eq!(verified.hops.len(), 8);
    assert_eq!(verified.instance(), one.instance());

    let claims = part(&token, 1);
    if claims.get("creto_chain").is_some() {
        let header = part(&token, 0).to_string();
        let nobody = claims["act"]["sub"]
            .as_str()
            .unwrap()
            .replace("/agent/8", "/agent/7");
        let middle = verified.hops[6].link.id;
        for (claim, value) in [
            ("creto_chain", json!("A".repeat(43))),
            ("creto_chain", Value::Null),
            ("creto_link", json!(middle)),
            (
                "act",
                json!({ "act": claims["act"], "sub": claims["act"]["sub"] }),
            ),
            ("act", json!({ "sub": nobody })),
        ] {
            let mut changed = claims.clone();
            changed[claim] = value;
            let changed = sorted(&changed);
            let forged = forge(&world, org, KeyPurpose::Issuer, &header, &changed);
            assert_eq!(
                code(world.nhi.verify_token(&forged)),
                "invalid_token",
                "{claim}"
            );
        }
        let mut bare = claims.clone();
        bare.as_object_mut().unwrap().remove("creto_chain");
        let forged = forge(&world, org, KeyPurpose::Issuer, &header, &sorted(&bare));
        assert_eq!(code(world.nhi.verify_token(&forged)), "invalid_token");
    }
    token
}

#[tokio::test]
async fn a_token_fits_an_8_kib_header_at_depth_8_with_the_longest_names() {
    let short = deepest("creto.test").await;
    assert!(part(&short, 1).get("creto_chain").is_none());
    let long = deepest(&"d".repeat(255)).await;
    let claims = part(&long, 1);
    assert_eq!(claims["creto_chain"].as_str().unwrap().len(), 43);
    assert!(claims["act"].get("act").is_none());
    for token in [short, long] {
        let header = format!("Authorization: Bearer {token}");
        println!("{} bytes", header.len());
        assert!(header.len() <= 8_192, "{}", header.len());
    }
}

#[tokio::test]
async fn the_trust_bundle_has_the_keys_of_the_key_set_and_counts_its_changes() {
    let (mut world, org, [root, ..]) = chained().await;
    let sequence = |bundle: &Value| bundle["spiffe_sequence"].as_u64().unwrap();
    let mut seen = Vec::new();
    let look = |world: &creto_nhi::test_util::World| {
        let (bundle, keys) = (world.nhi.trust_bundle(), world.nhi.jwks());
        let (keys, mut listed) = (keys["keys"].clone(), bundle["keys"].clone());
        assert!(bundle["spiffe_refresh_hint"].as_u64().unwrap() > 0);
        for key in listed.as_array_mut().unwrap() {
            assert_eq!(key["use"], "jwt-svid");
            key["use"] = json!("sig");
        }
        assert_eq!(keys, listed);
        sequence(&bundle)
    };
    seen.push(look(&world));
    world.organization("mallory").await;
    seen.push(look(&world));
    for _ in 0..2 {
        let draft = world.nhi.draft_rotation(org).unwrap();
        world
            .nhi
            .commit_rotation(draft, Default::default())
            .await
            .unwrap();
        seen.push(look(&world));
    }
    world.nhi.rewrap_keys(org).await.unwrap();
    let retiring = world.nhi.retiring(org).unwrap();
    world
        .nhi
        .retire_keys(org, retiring, Default::default())
        .await
        .unwrap();
    seen.push(look(&world));
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    world.restart().await;
    assert_eq!(seen.last().copied(), Some(look(&world)));

    // The key that a token names is in the bundle.
    let identity = world.nhi.identity_for_link(org, root).unwrap();
    let token = world.nhi.issue_token(&identity, None).unwrap().token;
    let bundle = world.nhi.trust_bundle();
    let kid = part(&token, 0)["kid"].clone();
    assert!(
        bundle["keys"]
            .as_array()
            .unwrap()
            .iter()
            .any(|key| key["kid"] == kid)
    );
}
