//! The token endpoint, as a client of OAuth sees it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};

use crate::world::{Answer, World};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const FORM: &str = "application/x-www-form-urlencoded";

/// What these parameters need no escapes for.
fn form(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

async fn post(world: &World, body: String) -> Answer {
    let request = Request::post("/oauth/token").header(header::CONTENT_TYPE, FORM);
    world.send(request.body(Body::from(body)).unwrap()).await
}

async fn exchange(world: &World, token: &str, more: &[(&str, &str)]) -> Answer {
    let mut parameters = vec![
        ("grant_type", GRANT),
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    parameters.extend(more);
    post(world, form(&parameters)).await
}

/// The refusal's status, OAuth's word and Creto's.
fn refusal(answer: &Answer) -> (u16, String, String) {
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    let body = answer.json();
    let description = body["error_description"].as_str().unwrap();
    let plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
    assert!(
        !description.is_empty() && description.bytes().all(plain),
        "{description}"
    );
    assert_eq!(body["request_id"], answer.header("x-request-id"));
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (answer.status.as_u16(), text("error"), text("code"))
}

fn token_of(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_agent_exchanges_its_token_for_one_of_an_instance() {
    let world = World::new().await;
    let more = [("creto_instance", "pod-1"), ("creto_ttl_seconds", "600")];
    let answer = exchange(&world, &world.agent, &more).await;
    let token = token_of(&answer);
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    let body = answer.json();
    let members: Vec<&str> = body
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(members.len(), 4, "{members:?}");
    assert_eq!(body["issued_token_type"], ACCESS_TOKEN);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 600);

    let whoami = world.get("/v1/self", &token).await.json();
    assert_eq!(whoami["name"], "bot");
    let id = whoami["spiffe_id"].as_str().unwrap();
    assert!(id.ends_with("/agent/bot/pod-1"), "{id}");

    // Never for longer than the token that was given, and for no other instance.
    world.clock.advance(Duration::from_secs(100));
    let answer = exchange(&world, &token, &[("requested_token_type", JWT)]).await;
    let again = token_of(&answer);
    assert_eq!(answer.json()["issued_token_type"], JWT);
    assert_eq!(answer.json()["expires_in"], 500);
    let whoami = world.get("/v1/self", &again).await.json();
    assert_eq!(whoami["spiffe_id"], id);
    let other = exchange(&world, &token, &[("creto_instance", "pod-2")]).await;
    let (status, error, code) = refusal(&other);
    assert_eq!(
        (status, &*error, &*code),
        (400, "invalid_request", "instance_bound")
    );

    // An actor's token says which instance acts, and bounds the new one.
    let actor = [("actor_token", &*token), ("actor_token_type", JWT)];
    let answer = exchange(&world, &world.agent, &actor).await;
    assert_eq!(answer.json()["expires_in"], 500);
    let acting = token_of(&answer);
    let whoami = world.get("/v1/self", &acting).await.json();
    assert_eq!(whoami["spiffe_id"], id);
    let actor = [("actor_token", &*world.owner), ("actor_token_type", JWT)];
    let answer = exchange(&world, &world.agent, &actor).await;
    assert_eq!(refusal(&answer).2, "forbidden");

    // Revocation ends all of them at once.
    let path = format!("/v1/delegations/{}/revoke", world.link);
    world.post(&path, &world.owner, json!({})).await;
    for token in [&token, &again, &acting] {
        let answer = world.get("/v1/self", token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let (status, error, code) = refusal(&exchange(&world, token, &[]).await);
        assert_eq!(
            (status, &*error, &*code),
            (400, "invalid_request", "delegation_revoked")
        );
    }
}

#[tokio::test]
async fn what_is_asked_is_honoured_or_refused_in_the_words_of_oauth() {
    let world = World::new().await;
    let agent = &*world.agent;
    for (more, error) in [
        (&[("scope", "release.publish")][..], "invalid_scope"),
        (&[("resource", "https://api.example")], "invalid_target"),
        (&[("audience", "another")], "invalid_target"),
        (
            &[(
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:saml2",
            )],
            "invalid_request",
        ),
        (&[("actor_token", agent)], "invalid_request"),
        (&[("actor_token_type", JWT)], "invalid_request"),
        (
            &[("actor_token", "nonsense"), ("actor_token_type", JWT)],
            "invalid_request",
        ),
        (&[("subject_token_type", JWT)], "invalid_request"),
        (&[("creto_instance", "Pod")], "invalid_request"),
        (&[("creto_ttl_seconds", "soon")], "invalid_request"),
        (&[("creto_ttl_seconds", "0")], "invalid_request"),
    ] {
        let answer = exchange(&world, agent, more).await;
        let (status, told, _) = refusal(&answer);
        assert_eq!((status, &*told), (400, error), "{more:?}");
        assert!(answer.headers.get(header::WWW_AUTHENTICATE).is_none());
    }
    // An empty parameter counts as absent, an unknown one is ignored.
    for more in [
        &[("scope", ""), ("audience", "creto")][..],
        &[("client_id", "x")],
    ] {
        token_of(&exchange(&world, agent, more).await);
    }

    let subject = ("subject_token", agent);
    let kind = ("subject_token_type", ACCESS_TOKEN);
    for (parameters, error) in [
        (&[subject, kind][..], "invalid_request"),
        (
            &[("grant_type", "client_credentials")],
            "unsupported_grant_type",
        ),
        (&[("grant_type", GRANT), kind], "invalid_request"),
        (&[("grant_type", GRANT), subject], "invalid_request"),
        (
            &[("grant_type", GRANT), subject, ("subject_token_type", "x")],
            "invalid_request",
        ),
        (&[], "invalid_request"),
    ] {
        let answer = post(&world, form(parameters)).await;
        assert_eq!(refusal(&answer).1, error, "{parameters:?}");
    }
    for (token, code) in [
        ("nonsense", "invalid_token"),
        (&*world.owner, "invalid_identity_request"),
    ] {
        let (status, error, told) = refusal(&exchange(&world, token, &[]).await);
        assert_eq!((status, &*error, &*told), (400, "invalid_request", code));
    }

    // A JSON body is no form, and a client is nobody here.
    let json = Request::post("/oauth/token").header(header::CONTENT_TYPE, "application/json");
    let answer = world.send(json.body(Body::from("{}")).unwrap()).await;
    assert_eq!(refusal(&answer).1, "invalid_request");
    for credential in ["Basic YTpi", "Bearer x"] {
        let request = Request::post("/oauth/token")
            .header(header::CONTENT_TYPE, FORM)
            .header(header::AUTHORIZATION, credential);
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        let (status, error, _) = refusal(&answer);
        assert_eq!((status, &*error), (401, "invalid_client"));
        assert!(answer.headers.get(header::WWW_AUTHENTICATE).is_some());
    }
    let get = Request::get("/oauth/token").body(Body::empty()).unwrap();
    assert_eq!(world.send(get).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_sandbox_exchanges_nothing() {
    let world = World::new().await;
    let caller = world.governor.authenticate(&world.agent).unwrap();
    let body = form(&[
        ("grant_type", GRANT),
        ("subject_token", &world.agent),
        ("subject_token_type", ACCESS_TOKEN),
    ]);
    let request = Request::post("/oauth/token")
        .extension(caller)
        .header(header::CONTENT_TYPE, FORM);
    let answer = world.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(refusal(&answer).2, "credential_in_sandbox");
}

#[tokio::test]
async fn who_asks_too_often_is_told_to_slow_down() {
    let world = World::new().await;
    let caller = world.governor.authenticate(&world.agent).unwrap();
    let unknown = "act_00000000000000000000000000000000".parse().unwrap();
    // Four times the burst of a thousand.
    for _ in 0..4_000 {
        let settled = world.governor.settle(&caller, unknown, 1, None).await;
        settled.expect_err("there is none");
    }
    let refused = exchange(&world, &world.agent, &[]).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refusal(&refused).1, "slow_down");
    assert!(refused.headers.get(header::RETRY_AFTER).is_some());
}

#[tokio::test]
async fn the_trust_bundle_is_public() {
    let world = World::new().await;
    let answer = world.get("/.well-known/spiffe-bundle.json", "").await;
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");
    let bundle: Value = answer.json();
    assert_eq!(bundle["keys"][0]["use"], "jwt-svid");
    assert_eq!(bundle["keys"].as_array().unwrap().len(), 1);
    assert!(bundle["spiffe_sequence"].is_u64() && bundle["spiffe_refresh_hint"].is_u64());
}
