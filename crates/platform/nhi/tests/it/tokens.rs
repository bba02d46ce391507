//! Tokens: what they carry, and everything that is not one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_errors::{Class, Classify};
use creto_nhi::test_util::{World, name};
use creto_nhi::{Authority, KeyPurpose, LinkId, PrincipalType};
use creto_types::OrgId;
use serde_json::{Value, json};

use crate::{chained, code};

fn token(world: &World, org: OrgId, link: LinkId) -> String {
    let identity = world.nhi.identity_for_link(org, link).unwrap();
    world.nhi.issue_token(&identity, None).unwrap().token
}

pub(crate) fn part(token: &str, index: usize) -> Value {
    let text = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

/// The object with its members in canonical order, so that nothing but their
/// values can be wrong. What is nested stays as it is.
pub(crate) fn sorted(object: &Value) -> String {
    let members: BTreeMap<String, &Value> = object
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.clone(), value))
        .collect();
    serde_json::to_string(&members).unwrap()
}

/// A token of any header and claims, signed by one of the organization's keys.
pub(crate) fn forge(
    world: &World,
    org: OrgId,
    purpose: KeyPurpose,
    header: &str,
    claims: &str,
) -> String {
    let input = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signer = world.nhi.signer(org, purpose).unwrap();
    let signature = signer.sign(b"", input.as_bytes()).unwrap();
    format!("{input}.{}", signature.to_base64url())
}

#[tokio::test]
async fn a_token_carries_the_chain() {
    let (world, org, [_, middle, last]) = chained().await;
    let identity = world.nhi.identity_for_link(org, last).unwrap();
    let issued = world
        .nhi
        .issue_token(&identity, Some(Duration::from_secs(600)))
        .unwrap();
    assert_eq!(issued.expires_at, world.after(600));
    let header = part(&issued.token, 0);
    assert_eq!(header["alg"], "ML-DSA-65-Ed25519");
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!(header["kid"], world.nhi.jwks()["keys"][0]["kid"]);
    let claims = part(&issued.token, 1);
    let id = |kind: &str, name: &str| format!("spiffe://creto.test/org/{org}/{kind}/{name}");
    assert_eq!(claims["iss"], format!("spiffe://creto.test/org/{org}"));
    assert_eq!(claims["sub"], id("human", "alice"));
    assert_eq!(claims["aud"], "creto");
    assert_eq!(claims["creto_link"], last.to_string());
    assert_eq!(
        claims["act"],
        json!({
            "sub": id("agent", "helper"),
            "act": { "sub": id("agent", "worker"), "act": { "sub": id("agent", "planner") } }
        })
    );

    let verified = world.nhi.verify_token(&issued.token).unwrap();
    assert_eq!(verified.name, name("helper"));
    assert_eq!(verified.token_id, Some(issued.id));
    assert_eq!(verified.expires_at, issued.expires_at);
    assert_eq!(verified.hops.len(), 3);
    assert_eq!(verified.hops[1].link.id, middle);
    assert_eq!(verified.root(), &name("alice"));
    assert!(!format!("{issued:?}").contains(&issued.token));
}

/// RFC 8693, section 4.1, for alice -> planner -> release-bot.
#[tokio::test]
async fn the_exact_claims_of_a_chain_of_two() {
    let (world, org) = crate::crew().await;
    world
        .principal(org, "release-bot", PrincipalType::Agent)
        .await;
    let planner = world
        .delegate(org, world.request("alice", "planner", None))
        .await
        .unwrap();
    let bot = world
        .delegate(org, world.request("planner", "release-bot", Some(planner)))
        .await
        .unwrap();
    let identity = world.nhi.identity_for_link(org, bot).unwrap();
    let issued = world.nhi.issue_token(&identity, None).unwrap();
    let payload = issued.token.split('.').nth(1).unwrap();
    let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let base = format!("spiffe://creto.test/org/{org}");
    assert_eq!(
        payload,
        format!(
            concat!(
                r#"{{"act":{{"act":{{"sub":"{base}/agent/planner"}},"#,
                r#""sub":"{base}/agent/release-bot"}},"aud":"creto","#,
                r#""creto_link":"{bot}","creto_org":"{org}","exp":1767229200,"#,
                r#""iat":1767225600,"iss":"{base}","jti":"{jti}","#,
                r#""sub":"{base}/human/alice"}}"#,
            ),
            base = base,
            bot = bot,
            org = org,
            jti = issued.id,
        )
    );
}

#[tokio::test]
async fn a_human_has_a_token_without_a_chain() {
    let (world, org, _) = chained().await;
    let identity = world.nhi.identity_for_human(org, &name("alice")).unwrap();
    let issued = world.nhi.issue_token(&identity, None).unwrap();
    let claims = part(&issued.token, 1);
    assert_eq!(
        claims["sub"],
        format!("spiffe://creto.test/org/{org}/human/alice")
    );
    assert!(claims.get("act").is_none());
    assert!(claims.get("creto_link").is_none());
    let verified = world.nhi.verify_token(&issued.token).unwrap();
    assert_eq!(verified.name, name("alice"));
    assert!(verified.hops.is_empty());
    assert_eq!(
        code(world.nhi.identity_for_human(org, &name("planner"))),
        "principal_not_human"
    );
}

#[tokio::test]
async fn tokens_expire_with_themselves_and_with_their_chain() {
    let (world, org, [root, ..]) = chained().await;
    let token = token(&world, org, root);
    world.clock.advance(Duration::from_secs(3_599));
    world.nhi.verify_token(&token).unwrap();
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(code(world.nhi.verify_token(&token)), "token_expired");

    let short = creto_nhi::DelegationRequest {
        expires_at: world.after(10),
        ..world.request("alice", "planner", None)
    };
    let short = world.delegate(org, short).await.unwrap();
    let identity = world.nhi.identity_for_link(org, short).unwrap();
    let issued = world.nhi.issue_token(&identity, None).unwrap();
    assert_eq!(issued.expires_at, world.after(10));
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(code(world.nhi.verify_token(&issued.token)), "token_expired");
    assert_eq!(
        code(world.nhi.issue_token(&identity, None)),
        "delegation_expired"
    );
}

#[tokio::test]
async fn a_life_out_of_its_limits_is_refused() {
    let (world, org, [root, ..]) = chained().await;
    let identity = world.nhi.identity_for_link(org, root).unwrap();
    for seconds in [0, 24 * 60 * 60 + 1] {
        assert_eq!(
            code(
                world
                    .nhi
                    .issue_token(&identity, Some(Duration::from_secs(seconds)))
            ),
            "invalid_identity_request"
        );
    }
}

#[tokio::test]
async fn a_revocation_in_the_middle_kills_tokens_and_identities_below_at_once() {
    let (world, org, [root, middle, last]) = chained().await;
    let identity = world.nhi.identity_for_link(org, last).unwrap();
    let below = token(&world, org, last);
    let above = token(&world, org, root);
    world.nhi.verify_token(&below).unwrap();
    let at = world.after(5);
    world
        .nhi
        .revoke(org, middle, at, Default::default())
        .await
        .unwrap();
    assert_eq!(
        identity.live(world.now()),
        Err(creto_nhi::IdentityError::Revoked { link: middle })
    );
    assert_eq!(identity.hops[1].status.revoked_at(), Some(at));
    assert_eq!(code(world.nhi.verify_token(&below)), "delegation_revoked");
    assert_eq!(
        code(world.nhi.issue_token(&identity, None)),
        "delegation_revoked"
    );
    world.nhi.verify_token(&above).unwrap();
    assert_eq!(
        code(
            world
                .nhi
                .revoke(org, middle, world.now(), Default::default())
                .await
        ),
        "delegation_already_revoked"
    );
}

#[tokio::test]
async fn every_altered_character_is_noticed() {
    let (world, org, [root, ..]) = chained().await;
    let good = token(&world, org, root);
    for at in (0..good.len()).step_by(11).chain([good.len() - 1]) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = match bytes[at] {
            b'A' => b'B',
            _ => b'A',
        };
        let bad = String::from_utf8(bytes).unwrap();
        if bad == good {
            continue;
        }
        let error = world.nhi.verify_token(&bad).unwrap_err();
        // The name of the algorithm is in the header.
        let in_header = at < good.find('.').unwrap();
        let told =
            error.code() == "invalid_token" || in_header && error.code() == "unknown_algorithm";
        assert!(told && error.class() == Class::Security, "{at}: {error}");
    }
}

#[tokio::test]
async fn the_header_decides_nothing() {
    let (world, org, [root, ..]) = chained().await;
    let good = token(&world, org, root);
    let claims = part(&good, 1).to_string();
    let kid = part(&good, 0)["kid"].as_str().unwrap().to_owned();
    let header = json!({ "alg": "ML-DSA-65-Ed25519", "kid": kid, "typ": "at+jwt" });
    let signed = |header: &str| forge(&world, org, KeyPurpose::Issuer, header, &claims);
    world
        .nhi
        .verify_token(&signed(&header.to_string()))
        .unwrap();

    let with = |key: &str, value: Value| {
        let mut header = header.clone();
        header[key] = value;
        sorted(&header)
    };
    let without = |key: &str| {
        let mut header = header.clone();
        header.as_object_mut().unwrap().remove(key);
        sorted(&header)
    };
    let refused = [
        with("alg", json!(["ML-DSA-65-Ed25519"])),
        with("typ", json!("JWT")),
        with("kid", json!("unknown")),
        with("jwk", json!({ "kty": "AKP" })),
        with("jku", json!("https://attacker.example/keys")),
        with("crit", json!(["exp"])),
        with("b64", json!(false)),
        without("alg"),
        without("kid"),
        without("typ"),
        format!(r#"{{"alg":"none","alg":"ML-DSA-65-Ed25519","kid":"{kid}","typ":"at+jwt"}}"#),
        "[]".to_owned(),
        format!(r#"["ML-DSA-65-Ed25519","{kid}","at+jwt"]"#),
        format!(r#"{{"kid":"{kid}","alg":"ML-DSA-65-Ed25519","typ":"at+jwt"}}"#),
        format!("{header} "),
        String::new(),
    ];
    for header in refused {
        assert_eq!(
            code(world.nhi.verify_token(&signed(&header))),
            "invalid_token",
            "{header}"
        );
    }
    for name in ["none", "HS256", "EdDSA", "ml-dsa-65-ed25519", ""] {
        let unknown = signed(&with("alg", json!(name)));
        let error = world.nhi.verify_token(&unknown).unwrap_err();
        assert_eq!(
            (error.code(), error.class()),
            ("unknown_algorithm", Class::Security)
        );
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
    }
    // One that is known and not accepted is named; nothing is computed with it.
    let known = signed(&with("alg", json!("ML-DSA-65")));
    let error = world.nhi.verify_token(&known).unwrap_err();
    assert_eq!(error.code(), "algorithm_not_allowed");
    assert_eq!(error.class(), Class::Security);
    let unsigned = good.rsplit_once('.').unwrap().0;
    for malformed in [
        String::new(),
        unsigned.to_owned(),
        format!("{unsigned}."),
        format!("{good}.{unsigned}"),
        format!("{good}="),
        format!(" {good}"),
        format!("{good}\n"),
        "a".repeat(16 * 1024 + 1),
    ] {
        assert_eq!(code(world.nhi.verify_token(&malformed)), "invalid_token");
    }
}

#[tokio::test]
async fn well_signed_claims_must_describe_the_registry() {
    let (world, org, [root, middle, _]) = chained().await;
    let other = world.organization("mallory").await;
    let good = token(&world, org, middle);
    let header = part(&good, 0).to_string();
    let claims = part(&good, 1);
    let verify = |claims: &Value| {
        let token = forge(&world, org, KeyPurpose::Issuer, &header, &sorted(claims));
        world.nhi.verify_token(&token)
    };
    verify(&claims).unwrap();
    let future = world.after(61).as_second();
    let agent = |name: &str| format!("spiffe://creto.test/org/{org}/agent/{name}");
    let alice = format!("spiffe://creto.test/org/{org}/human/alice");
    let changes = [
        ("sub", json!(agent("worker"))),
        ("sub", json!(agent("planner"))),
        (
            "sub",
            json!(format!("spiffe://creto.test/org/{other}/human/mallory")),
        ),
        // The chain cut, lengthened, out of order, or from its giver's side.
        ("act", json!({ "sub": agent("worker") })),
        ("act", json!({ "sub": agent("planner") })),
        (
            "act",
            json!({ "act": { "sub": agent("worker") }, "sub": agent("planner") }),
        ),
        (
            "act",
            json!({
                "act": { "act": { "sub": alice }, "sub": agent("planner") },
                "sub": agent("worker")
            }),
        ),
        (
            "act",
            json!({ "act": { "sub": alice }, "sub": agent("planner") }),
        ),
        (
            "act",
            json!({ "act": { "act": null, "sub": agent("planner") }, "sub": agent("worker") }),
        ),
        ("act", json!([agent("worker"), { "sub": agent("planner") }])),
        ("iss", json!(format!("spiffe://creto.test/org/{other}"))),
        ("iss", json!("https://issuer.example")),
        ("aud", json!("someone-else")),
        ("aud", json!(["creto"])),
        ("creto_org", json!(other)),
        ("creto_link", json!(root)),
        ("act", json!({ "sub": "spiffe://creto.test/nobody" })),
        ("act", Value::Null),
        ("iat", json!(future)),
        ("exp", json!("never")),
        ("exp", json!(i64::MAX)),
        ("jti", json!("1")),
        ("scope", json!("*")),
    ];
    for (claim, value) in changes {
        let mut changed = claims.clone();
        changed[claim] = value;
        assert_eq!(code(verify(&changed)), "invalid_token", "{claim}");
    }
    for claim in ["act", "creto_link"] {
        let mut without = claims.clone();
        without.as_object_mut().unwrap().remove(claim);
        assert_eq!(code(verify(&without)), "invalid_token", "{claim}");
    }
    // An agent without its link is nobody.
    let mut bare = claims.clone();
    bare.as_object_mut().unwrap().remove("creto_link");
    bare.as_object_mut().unwrap().remove("act");
    bare["sub"] = json!(agent("worker"));
    assert_eq!(code(verify(&bare)), "principal_not_human");
}

#[tokio::test]
async fn a_human_without_a_chain_has_no_actor_not_even_itself() {
    let (world, org, [root, ..]) = chained().await;
    let identity = world.nhi.identity_for_human(org, &name("alice")).unwrap();
    let good = world.nhi.issue_token(&identity, None).unwrap().token;
    let header = part(&good, 0).to_string();
    let alice = part(&good, 1)["sub"].clone();
    for (claim, value) in [
        ("act", json!({ "sub": alice })),
        ("act", Value::Null),
        ("creto_link", json!(root)),
        ("creto_link", Value::Null),
    ] {
        let mut claims = part(&good, 1);
        claims[claim] = value;
        let claims = sorted(&claims);
        let token = forge(&world, org, KeyPurpose::Issuer, &header, &claims);
        assert_eq!(code(world.nhi.verify_token(&token)), "invalid_token");
    }
}

#[tokio::test]
async fn no_other_key_signs_tokens() {
    let (world, org, [root, ..]) = chained().await;
    let other = world.organization("mallory").await;
    let good = token(&world, org, root);
    let (header, claims) = (part(&good, 0).to_string(), part(&good, 1).to_string());
    for (signer, purpose) in [
        (other, KeyPurpose::Issuer),
        (org, KeyPurpose::Evidence),
        (org, KeyPurpose::LogComposite),
        (org, KeyPurpose::LogEd25519),
    ] {
        let forged = forge(&world, signer, purpose, &header, &claims);
        assert_eq!(code(world.nhi.verify_token(&forged)), "invalid_token");
    }
    // A genuine key, of the other organization: it speaks for its own alone.
    let keys = world.nhi.jwks();
    let foreign = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["kid"] != part(&good, 0)["kid"])
        .unwrap();
    let mut header = part(&good, 0);
    header["kid"] = foreign["kid"].clone();
    let forged = forge(
        &world,
        other,
        KeyPurpose::Issuer,
        &header.to_string(),
        &claims,
    );
    assert_eq!(code(world.nhi.verify_token(&forged)), "invalid_token");
}

#[tokio::test]
async fn what_is_signed_comes_from_the_registry_not_from_the_caller() {
    let (world, org, [root, ..]) = chained().await;
    let genuine = world.nhi.identity_for_link(org, root).unwrap();
    let mut dressed_up = genuine.as_ref().clone();
    dressed_up.name = name("alice");
    dressed_up.authority = Arc::new(Authority::new("spiffe://creto.test/root".to_owned()));
    let issued = world.nhi.issue_token(&dressed_up, None).unwrap();
    let claims = part(&issued.token, 1);
    assert_eq!(claims["act"], json!({ "sub": genuine.spiffe_id() }));
}

#[tokio::test]
async fn the_key_set_has_public_members_only() {
    let (world, org, _) = chained().await;
    world.organization("mallory").await;
    let keys = world.nhi.jwks();
    let keys = keys["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    let issuer = world.nhi.signer(org, KeyPurpose::Issuer).unwrap();
    assert!(
        keys.iter()
            .any(|key| key["pub"] == issuer.verifying_key().to_base64url())
    );
    for key in keys {
        let members: Vec<&str> = key
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(members, ["kty", "alg", "kid", "use", "pub"]);
        assert_eq!(key["kty"], "AKP");
    }
}
