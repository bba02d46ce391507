//! Nothing without a credential.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use creto_http::{Auth, RouteInfo, routes};
use serde_json::json;

use crate::world::World;

fn path(route: &RouteInfo) -> String {
    let parts = route.path.split('/').map(|part| match part {
        "{index}" => "0",
        "{*path}" => "0/000",
        part if part.starts_with('{') => "some-id",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

fn request(route: &RouteInfo) -> axum::http::request::Builder {
    Request::builder()
        .method(route.method.parse::<Method>().unwrap())
        .uri(path(route))
}

#[tokio::test]
async fn every_route_that_is_not_public_answers_401() {
    let world = World::new().await;
    let mut public = Vec::new();
    for route in routes() {
        if route.auth == Auth::Public {
            public.push(route.path);
            let answer = world
                .send(request(&route).body(Body::empty()).unwrap())
                .await;
            assert_eq!(answer.status, StatusCode::OK, "{route:?}");
            continue;
        }
        if route.auth == Auth::Exchange {
            // Its answers are OAuth's: see `exchange.rs`.
            assert_eq!(route.path, "/oauth/token");
            continue;
        }
        for credential in [
            None,
            Some("Bearer nonsense"),
            Some("Basic YTpi"),
            Some("Bearer "),
        ] {
            let mut request = request(&route);
            if let Some(credential) = credential {
                request = request.header(header::AUTHORIZATION, credential);
            }
            let answer = world.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(
                answer.status,
                StatusCode::UNAUTHORIZED,
                "{route:?} {credential:?}"
            );
            let challenge = answer.header(header::WWW_AUTHENTICATE);
            assert_eq!(challenge, "Bearer realm=\"creto\"", "{route:?}");
        }
    }
    assert_eq!(
        public,
        [
            "/healthz",
            "/readyz",
            "/openapi.json",
            "/.well-known/jwks.json",
            "/.well-known/spiffe-bundle.json",
            "/.well-known/authzen-configuration"
        ],
        "what is public grows only on purpose"
    );
}

#[tokio::test]
async fn a_sandbox_is_its_own_credential_and_brings_no_other() {
    let world = World::new().await;
    let caller = world.governor.authenticate(&world.agent).unwrap();
    let bound = |path: &str| Request::get(path).extension(caller.clone());

    let answer = world
        .send(bound("/v1/self").body(Body::empty()).unwrap())
        .await;
    assert_eq!(answer.json()["name"], "bot");

    // The owner's token reached the sandbox: it opens nothing there.
    let stolen = format!("Bearer {}", world.owner);
    let request = bound("/v1/self").header(header::AUTHORIZATION, &stolen);
    let answer = world.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.problem(), (403, "credential_in_sandbox".to_owned()));

    for path in ["/oversight", "/oversight/requests/x"] {
        let request = bound(path).header(header::AUTHORIZATION, &stolen);
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.body.contains("page_in_sandbox"), "{}", answer.body);
    }
    let form = format!("credential={}", world.owner);
    let request = Request::post("/oversight/login")
        .extension(caller.clone())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = world.send(request.body(Body::from(form)).unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.headers.get(header::SET_COOKIE).is_none());
}

#[tokio::test]
async fn a_request_that_means_another_server_is_refused() {
    let world = World::new().await;
    let ask = |path: &str, host: &str| {
        Request::get(path)
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, format!("Bearer {}", world.owner))
    };
    for path in ["/v1/self", "/healthz", "/openapi.json", "/v1/nothing"] {
        let request = ask(path, "evil.example:1").body(Body::empty()).unwrap();
        let answer = world.send(request).await;
        assert_eq!(
            answer.problem(),
            (421, "misdirected_request".to_owned()),
            "{path}"
        );
    }
    let page = ask("/oversight", "evil.example:1");
    let answer = world.send(page.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
    assert!(answer.headers.get(header::SET_COOKIE).is_none());

    for host in ["127.0.0.1:1", "localhost:1", "[::1]:1"] {
        let request = ask("/v1/self", host).body(Body::empty()).unwrap();
        assert_eq!(world.send(request).await.status, StatusCode::OK, "{host}");
    }
    let nameless = Request::get("/healthz").body(Body::empty()).unwrap();
    let answer = world.send_unchanged(nameless).await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);

    // A sandbox reaches the API by a name of its own.
    let caller = world.governor.authenticate(&world.agent).unwrap();
    let request = Request::get("/v1/self")
        .header(header::HOST, "creto.internal")
        .extension(caller);
    let answer = world.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.json()["name"], "bot");
}

#[tokio::test]
async fn a_revoked_delegation_ends_its_tokens_at_once() {
    let world = World::new().await;
    assert_eq!(
        world.get("/v1/self", &world.agent).await.status,
        StatusCode::OK
    );
    let path = format!("/v1/delegations/{}/revoke", world.link);
    let answer = world.post(&path, &world.owner, json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let answer = world.get("/v1/self", &world.agent).await;
    assert_eq!(answer.problem(), (401, "delegation_revoked".to_owned()));
}

#[tokio::test]
async fn a_suspended_agent_is_nobody_until_it_is_resumed() {
    let world = World::new().await;
    let reason = || json!({"reason": "it loops"});
    let by_agent = world
        .post("/v1/principals/bot/resume", &world.agent, reason())
        .await;
    assert_eq!(by_agent.problem(), (403, "forbidden".to_owned()));
    let suspend = "/v1/principals/bot/suspend";
    for body in [json!({}), json!({"reason": ""}), json!({"why": "x"})] {
        let answer = world.post(suspend, &world.owner, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
    }
    let answer = world.post(suspend, &world.owner, reason()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let again = world.post(suspend, &world.owner, reason()).await;
    assert_eq!(
        again.problem(),
        (409, "principal_already_suspended".to_owned())
    );
    let answer = world.get("/v1/self", &world.agent).await;
    assert_eq!(answer.problem(), (401, "principal_suspended".to_owned()));
    let answer = world
        .post("/v1/principals/bot/resume", &world.owner, reason())
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let answer = world.get("/v1/self", &world.agent).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn metrics_are_for_the_owner() {
    let world = World::new().await;
    let answer = world.get("/metrics", &world.agent).await;
    assert_eq!(answer.problem(), (403, "forbidden".to_owned()));
    world.get("/v1/principals", &world.owner).await;
    let answer = world.get("/metrics", &world.owner).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.body.contains("/v1/principals"), "{}", answer.body);
    assert!(answer.body.ends_with("# EOF\n"));
}
