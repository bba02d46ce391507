//! Tokens bound to a key, over HTTP: what a client that speaks DPoP (RFC 9449) is told.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::{Accepted, AllowedAlgorithms, HolderAlgorithm};
use creto_nhi::test_util::Holder;
use creto_types::Clock as _;
use serde_json::{Value, json};

use crate::world::{Answer, HOST, World};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

fn at_host(path: &str) -> String {
    format!("http://{HOST}{path}")
}

/// A token of the agent that is bound to this key.
async fn bound_to(world: &World, holder: &Holder) -> String {
    let body = json!({ "delegation": world.link, "jkt": holder.jkt() });
    let answer = world.post("/v1/tokens", &world.owner, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert_eq!(answer.json()["jkt"], json!(holder.jkt()));
    answer.json()["token"].as_str().unwrap().to_owned()
}

fn proof(world: &World, holder: &Holder, (method, path): (&str, &str), token: &str) -> String {
    let nonce = world.governor.proof_nonce();
    let uri = at_host(path);
    holder.proof((method, &uri), Some(token), &nonce, world.clock.now())
}

async fn get(world: &World, path: &str, scheme: &str, token: &str, proofs: &[&str]) -> Answer {
    let mut request = Request::get(path).header(header::AUTHORIZATION, format!("{scheme} {token}"));
    for proof in proofs {
        request = request.header("DPoP", *proof);
    }
    world.send(request.body(Body::empty()).unwrap()).await
}

/// The header of a proof by what no version of this server knows.
fn of_another_algorithm(holder: &Holder) -> Value {
    let mut header = holder.header();
    header["alg"] = json!("PS512");
    header
}

/// The challenge of the scheme.
fn challenge(answer: &Answer) -> String {
    let all = answer.headers.get_all(header::WWW_AUTHENTICATE).iter();
    let mut dpop = all
        .map(|value| value.to_str().unwrap())
        .filter(|value| value.starts_with("DPoP "));
    let found = dpop.next().unwrap_or_default().to_owned();
    assert!(dpop.next().is_none());
    found
}

#[tokio::test]
async fn a_bound_token_takes_a_proof_of_every_request() {
    let world = World::new().await;
    let holder = Holder::new(1);
    let token = bound_to(&world, &holder).await;
    let whoami = ("GET", "/v1/self");
    let good = proof(&world, &holder, whoami, &token);
    let answer = get(&world, "/v1/self", "DPoP", &token, &[&good]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.json()["jkt"], json!(holder.jkt()));
    assert_eq!(answer.header("dpop-nonce"), world.governor.proof_nonce());

    let again = get(&world, "/v1/self", "DPoP", &token, &[&good]).await;
    assert_eq!(again.problem(), (401, "dpop_proof_replayed".to_owned()));
    assert_eq!(
        challenge(&again),
        "DPoP realm=\"creto\", error=\"invalid_dpop_proof\", algs=\"ES256 Ed25519 EdDSA\""
    );
    // An algorithm that is unknown is named, in a proof and in a token.
    let nonce = world.governor.proof_nonce();
    let claims = holder.claims(
        ("GET", &at_host("/v1/self")),
        Some(&token),
        &nonce,
        world.clock.now(),
    );
    let unknown = holder.sign(&of_another_algorithm(&holder), &claims);
    let answer = get(&world, "/v1/self", "DPoP", &token, &[&unknown]).await;
    assert_eq!(answer.problem(), (401, "unknown_algorithm".to_owned()));
    assert!(answer.body.contains("`PS512`"), "{}", answer.body);
    assert!(challenge(&answer).contains("error=\"invalid_dpop_proof\""));
    let (_, rest) = token.split_once('.').unwrap();
    let header = json!({"alg": "PS512", "kid": "x", "typ": "at+jwt"}).to_string();
    let other = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
    let answer = get(&world, "/v1/self", "Bearer", &other, &[]).await;
    assert_eq!(answer.problem(), (401, "unknown_algorithm".to_owned()));
    assert!(answer.body.contains("`PS512`"), "{}", answer.body);
    // The query is of no concern to a proof, the path is.
    let good = proof(&world, &holder, whoami, &token);
    let answer = get(&world, "/v1/limits?limit=1", "DPoP", &token, &[&good]).await;
    assert_eq!(answer.problem().1, "invalid_dpop_proof");
    let good = proof(&world, &holder, ("GET", "/v1/limits"), &token);
    let answer = get(&world, "/v1/limits?limit=1", "DPoP", &token, &[&good]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);

    let prove = |request| proof(&world, &holder, request, &token);
    let elsewhere = |uri: &str| {
        let nonce = world.governor.proof_nonce();
        holder.proof(("GET", uri), Some(&token), &nonce, world.clock.now())
    };
    for (proofs, code) in [
        (vec![], "dpop_proof_required"),
        (vec![String::new()], "invalid_dpop_proof"),
        (vec![token.clone()], "invalid_dpop_proof"),
        (vec![prove(whoami), prove(whoami)], "invalid_dpop_proof"),
        (vec![prove(("POST", "/v1/self"))], "invalid_dpop_proof"),
        (vec![prove(("get", "/v1/self"))], "invalid_dpop_proof"),
        (vec![prove(("GET", "/v1/selves"))], "invalid_dpop_proof"),
        (vec![elsewhere("/v1/self")], "invalid_dpop_proof"),
        (
            vec![elsewhere("https://127.0.0.1:1/v1/self")],
            "invalid_dpop_proof",
        ),
        (
            vec![elsewhere("http://evil.example/v1/self")],
            "invalid_dpop_proof",
        ),
        (
            vec![proof(&world, &Holder::new(2), whoami, &token)],
            "dpop_key_mismatch",
        ),
        (
            vec![proof(&world, &holder, whoami, &world.agent)],
            "invalid_dpop_proof",
        ),
    ] {
        let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
        let answer = get(&world, "/v1/self", "DPoP", &token, &proofs).await;
        assert_eq!(answer.problem(), (401, code.to_owned()), "{proofs:?}");
        assert!(!answer.header("dpop-nonce").is_empty());
        assert!(challenge(&answer).contains("error=\""));
    }
    for uri in ["http://LOCALHOST:1/v1/self?x#y", "http://[::1]:1/v1/%73elf"] {
        let answer = get(&world, "/v1/self", "DPoP", &token, &[&elsewhere(uri)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_schemes_are_not_mixed_up() {
    let world = World::new().await;
    let holder = Holder::new(1);
    let token = bound_to(&world, &holder).await;
    let prove = |token: &str| proof(&world, &holder, ("GET", "/v1/self"), token);

    // A stolen token is of no use, with the right proof beside it neither.
    let bearer = get(&world, "/v1/self", "Bearer", &token, &[]).await;
    assert_eq!(bearer.problem(), (401, "dpop_proof_required".to_owned()));
    assert!(challenge(&bearer).contains("error=\"invalid_token\""));
    let bearer = get(&world, "/v1/self", "Bearer", &token, &[&prove(&token)]).await;
    assert_eq!(bearer.problem(), (401, "dpop_proof_required".to_owned()));
    // A bearer token is none of DPoP.
    let unbound = get(
        &world,
        "/v1/self",
        "DPoP",
        &world.agent,
        &[&prove(&world.agent)],
    )
    .await;
    assert_eq!(unbound.problem(), (401, "dpop_token_not_bound".to_owned()));
    // Nobody is challenged twice over by one who brings nothing.
    let request = Request::get("/v1/self").body(Body::empty()).unwrap();
    let answer = world.send(request).await;
    assert_eq!(answer.problem().1, "unauthenticated");
    assert_eq!(
        challenge(&answer),
        "DPoP realm=\"creto\", algs=\"ES256 Ed25519 EdDSA\""
    );
    assert_eq!(
        answer.header(header::WWW_AUTHENTICATE),
        "Bearer realm=\"creto\""
    );
    assert_eq!(
        answer.header("dpop-nonce"),
        "",
        "only who speaks it is told"
    );
}

#[tokio::test]
async fn the_first_proof_is_answered_with_a_nonce() {
    let world = World::new().await;
    let holder = Holder::new(1);
    let token = bound_to(&world, &holder).await;
    let request = ("GET", at_host("/v1/self"));
    let request = (request.0, request.1.as_str());
    let mut claims = holder.claims(request, Some(&token), "", world.clock.now());
    claims.as_object_mut().unwrap().remove("nonce");
    let first = holder.sign(&holder.header(), &claims);
    let answer = get(&world, "/v1/self", "DPoP", &token, &[&first]).await;
    assert_eq!(answer.problem(), (401, "use_dpop_nonce".to_owned()));
    assert!(challenge(&answer).contains("error=\"use_dpop_nonce\""));
    let nonce = answer.header("dpop-nonce").to_owned();
    let second = holder.proof(request, Some(&token), &nonce, world.clock.now());
    let answer = get(&world, "/v1/self", "DPoP", &token, &[&second]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

async fn exchange(world: &World, token: &str, proof: Option<&str>, more: &str) -> Answer {
    let form =
        format!("grant_type={GRANT}&subject_token={token}&subject_token_type={ACCESS_TOKEN}{more}");
    let mut request = Request::post("/oauth/token")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(proof) = proof {
        request = request.header("DPoP", proof);
    }
    world.send(request.body(Body::from(form)).unwrap()).await
}

#[tokio::test]
async fn the_token_endpoint_binds_and_keeps_bound() {
    let world = World::new().await;
    let (holder, child) = (Holder::new(1), Holder::new(2));
    let nonce = world.governor.proof_nonce();
    let here = at_host("/oauth/token");
    let prove = |holder: &Holder| holder.proof(("POST", &here), None, &nonce, world.clock.now());
    let used = prove(&holder);
    let answer = exchange(&world, &world.agent, Some(&used), "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.json()["token_type"], "DPoP");
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let good = proof(&world, &holder, ("GET", "/v1/self"), &token);
    let whoami = get(&world, "/v1/self", "DPoP", &token, &[&good]).await;
    assert_eq!(whoami.json()["jkt"], json!(holder.jkt()));

    // RFC 6749, section 5.2, and RFC 9449, sections 5 and 8.
    let without = holder.sign(
        &holder.header(),
        &json!({"jti": "x", "htm": "POST", "htu": here, "iat": world.clock.now().as_second()}),
    );
    let unknown = holder.sign(&of_another_algorithm(&holder), &json!({}));
    for (token, proof, error, code) in [
        (&token, None, "invalid_request", "dpop_proof_required"),
        (
            &token,
            Some(&used),
            "invalid_dpop_proof",
            "dpop_proof_replayed",
        ),
        (&token, Some(&without), "use_dpop_nonce", "use_dpop_nonce"),
        (
            &token,
            Some(&unknown),
            "invalid_dpop_proof",
            "unknown_algorithm",
        ),
        (
            &token,
            Some(&prove(&child)),
            "invalid_request",
            "dpop_key_mismatch",
        ),
        (
            &world.agent,
            Some(&token),
            "invalid_dpop_proof",
            "invalid_dpop_proof",
        ),
    ] {
        let answer = exchange(&world, token, proof.map(String::as_str), "").await;
        let told = answer.json();
        let told = (
            told["error"].as_str().unwrap(),
            told["code"].as_str().unwrap(),
        );
        assert_eq!((answer.status.as_u16(), told), (400, (error, code)));
        assert_eq!(answer.header("dpop-nonce").is_empty(), proof.is_none());
    }

    // It stays bound: to the same key, or to that of an instance.
    let answer = exchange(
        &world,
        &token,
        Some(&prove(&holder)),
        "&creto_instance=pod-1",
    )
    .await;
    assert_eq!(answer.json()["token_type"], "DPoP", "{}", answer.body);
    let more = format!("&creto_instance=pod-2&creto_jkt={}", child.jkt());
    let answer = exchange(&world, &token, Some(&prove(&holder)), &more).await;
    let moved = answer.json()["access_token"].as_str().unwrap().to_owned();
    let by_child = proof(&world, &child, ("GET", "/v1/self"), &moved);
    let whoami = get(&world, "/v1/self", "DPoP", &moved, &[&by_child]).await;
    assert_eq!(whoami.json()["jkt"], json!(child.jkt()), "{}", whoami.body);
    let by_parent = proof(&world, &holder, ("GET", "/v1/self"), &moved);
    let refused = get(&world, "/v1/self", "DPoP", &moved, &[&by_parent]).await;
    assert_eq!(refused.problem().1, "dpop_key_mismatch");
    let wrong = exchange(&world, &world.agent, None, "&creto_jkt=x").await;
    assert_eq!(wrong.json()["code"], "invalid_request");
}

#[tokio::test]
async fn a_person_who_renews_a_bound_credential_gets_a_bound_one() {
    let world = World::new().await;
    let holder = Holder::new(1);
    let body = json!({ "jkt": holder.jkt() });
    let answer = world.post("/v1/tokens", &world.owner, body).await;
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let request = |proof: &str| {
        Request::post("/v1/tokens")
            .header(header::AUTHORIZATION, format!("DPoP {token}"))
            .header("DPoP", proof)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from("{}"))
            .unwrap()
    };
    let good = proof(&world, &holder, ("POST", "/v1/tokens"), &token);
    let answer = world.send(request(&good)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert_eq!(answer.json()["jkt"], json!(holder.jkt()));
}

/// A person beside the owner, by a credential that is bound to a key or to none.
async fn person(world: &World, name: &str, holder: Option<&Holder>) -> String {
    let body = json!({ "name": name, "role": "owner", "jkt": holder.map(Holder::jkt) });
    let answer = world.post("/v1/humans", &world.owner, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert_eq!(answer.json()["jkt"], json!(holder.map(Holder::jkt)));
    answer.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_persons_credential_is_bound_when_it_is_issued_or_renewed() {
    let world = World::new().await;
    let (holder, other) = (Holder::new(1), Holder::new(2));
    let first = person(&world, "carol", Some(&holder)).await;
    let whoami = ("GET", "/v1/self");
    let good = proof(&world, &holder, whoami, &first);
    let answer = get(&world, "/v1/self", "DPoP", &first, &[&good]).await;
    assert_eq!(answer.json()["jkt"], json!(holder.jkt()), "{}", answer.body);
    let bearer = world.get("/v1/self", &first).await;
    assert_eq!(bearer.problem().1, "dpop_proof_required");

    let renew = async |body: Value| {
        let path = "/v1/humans/carol/credential";
        let answer = world.post(path, &world.owner, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        let told = answer.json();
        (
            told["token"].as_str().unwrap().to_owned(),
            told["jkt"].clone(),
        )
    };
    let (second, jkt) = renew(json!({ "jkt": other.jkt() })).await;
    assert_eq!(jkt, json!(other.jkt()));
    let good = proof(&world, &holder, whoami, &first);
    let ended = get(&world, "/v1/self", "DPoP", &first, &[&good]).await;
    assert_eq!(ended.problem().1, "token_superseded");
    let good = proof(&world, &other, whoami, &second);
    let answer = get(&world, "/v1/self", "DPoP", &second, &[&good]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let (third, jkt) = renew(json!({})).await;
    assert_eq!(jkt, Value::Null);
    assert_eq!(world.get("/v1/self", &third).await.status, StatusCode::OK);
    for path in ["/v1/humans", "/v1/humans/carol/credential"] {
        let mut body = json!({ "jkt": "x" });
        if path == "/v1/humans" {
            body = json!({ "name": "dave", "role": "owner", "jkt": "x" });
        }
        let refused = world.post(path, &world.owner, body).await;
        assert_eq!(refused.problem(), (400, "invalid_request".to_owned()));
    }
    assert_eq!(world.get("/v1/self", &third).await.status, StatusCode::OK);
}

/// A browser has no key: see decision 0022.
#[tokio::test]
async fn a_bound_credential_begins_no_session() {
    let world = World::new().await;
    let bound = person(&world, "carol", Some(&Holder::new(1))).await;
    let unbound = person(&world, "dave", None).await;
    for (credential, begins) in [(&bound, false), (&unbound, true)] {
        let request = Request::get("/oversight").body(Body::empty()).unwrap();
        let form = world.send(request).await;
        let cookie = form.header(header::SET_COOKIE).split(';').next().unwrap();
        let token = cookie.strip_prefix("creto_login=").unwrap();
        assert!(form.body.contains(token), "the form repeats its cookie");
        let fields = format!("form_token={token}&next=/oversight&credential={credential}");
        let request = Request::post("/oversight/login")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::COOKIE, cookie);
        let answer = world.send(request.body(Body::from(fields)).unwrap()).await;
        let mut cookies = answer.headers.get_all(header::SET_COOKIE).iter();
        let session = cookies.any(|set| set.to_str().unwrap().starts_with("creto_session="));
        assert_eq!(session, begins, "{}", answer.body);
        let status = if begins { 303 } else { 401 };
        assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
        assert_eq!(answer.body.contains("bound to a key"), !begins);
    }
}

#[tokio::test]
async fn whoever_sends_too_many_proofs_is_told_when_there_is_room() {
    let world = World::new().await;
    let holder = Holder::new(1);
    let token = bound_to(&world, &holder).await;
    let org = world.governor.authenticate(&world.owner).unwrap().org();
    creto_nhi::test_util::use_up_proofs(&world.nhi, org, &"bot".parse().unwrap());
    let good = proof(&world, &holder, ("GET", "/v1/self"), &token);
    let answer = get(&world, "/v1/self", "DPoP", &token, &[&good]).await;
    assert_eq!(answer.problem(), (429, "dpop_too_many_proofs".to_owned()));
    assert_eq!(
        challenge(&answer),
        "",
        "nothing is wrong with the credential"
    );
    let wait: u64 = answer.header(header::RETRY_AFTER).parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let here = at_host("/oauth/token");
    let nonce = world.governor.proof_nonce();
    let good = holder.proof(("POST", &here), None, &nonce, world.clock.now());
    let answer = exchange(&world, &token, Some(&good), "").await;
    assert_eq!(answer.json()["code"], "dpop_too_many_proofs");
    assert_eq!(answer.status.as_u16(), 429, "{}", answer.body);
    assert_eq!(answer.header(header::RETRY_AFTER), wait.to_string());

    world.clock.advance(std::time::Duration::from_secs(wait));
    let good = proof(&world, &holder, ("GET", "/v1/self"), &token);
    let answer = get(&world, "/v1/self", "DPoP", &token, &[&good]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

/// What is told to clients is what is read, also after it changed.
#[tokio::test]
async fn clients_learn_the_algorithms_of_proofs_that_are_accepted_now() {
    let world = World::new().await;
    let holder = Holder::new(1);
    let token = bound_to(&world, &holder).await;
    let ask = async || {
        let good = proof(&world, &holder, ("GET", "/v1/self"), &token);
        get(&world, "/v1/self", "DPoP", &token, &[&good]).await
    };
    assert_eq!(ask().await.status, StatusCode::OK);
    world.algorithms.replace(AllowedAlgorithms {
        holder: Accepted::new([HolderAlgorithm::Es256]),
        ..AllowedAlgorithms::default()
    });
    let refused = ask().await;
    assert_eq!(refused.problem(), (401, "algorithm_not_allowed".to_owned()));
    assert_eq!(
        challenge(&refused),
        "DPoP realm=\"creto\", error=\"invalid_dpop_proof\", algs=\"ES256\""
    );
    for about in ["authorization-server", "protected-resource"] {
        let path = format!("/.well-known/oauth-{about}");
        let told = world.get(&path, "").await.json();
        assert_eq!(told["dpop_signing_alg_values_supported"], json!(["ES256"]));
    }
}

#[tokio::test]
async fn clients_learn_what_is_spoken_here() {
    let world = World::new().await;
    let answer = world
        .get("/.well-known/oauth-authorization-server", "")
        .await;
    let told: Value = answer.json();
    assert_eq!(told["issuer"], at_host(""));
    assert_eq!(told["token_endpoint"], at_host("/oauth/token"));
    assert_eq!(told["grant_types_supported"], json!([GRANT]));
    let algorithms = json!(["ES256", "Ed25519", "EdDSA"]);
    assert_eq!(told["dpop_signing_alg_values_supported"], algorithms);
    let answer = world.get("/.well-known/oauth-protected-resource", "").await;
    let told: Value = answer.json();
    assert_eq!(told["resource"], at_host(""));
    assert_eq!(told["dpop_signing_alg_values_supported"], algorithms);
    assert_eq!(told["dpop_bound_access_tokens_required"], false);
    let described = world.get("/openapi.json", "").await.json();
    let schemes = &described["components"]["securitySchemes"];
    assert_eq!(schemes["dpop"]["scheme"], "dpop");
    assert_eq!(schemes["proof"]["name"], "DPoP");
}
