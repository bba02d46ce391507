//! Nothing without a credential.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use creto_governor::Call;
use creto_http::{Auth, RouteInfo, routes};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::world::{Answer, World};

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
            "/.well-known/oauth-authorization-server",
            "/.well-known/oauth-protected-resource",
            "/.well-known/authzen-configuration"
        ],
        "what is public grows only on purpose"
    );
}

/// Every route for every role: refused before anything is read of it exactly where the
/// table says so, and never otherwise. A route that is in no table is nobody's.
#[tokio::test]
async fn every_route_is_allowed_to_the_roles_of_the_table() {
    let world = World::new().await;
    let mut tokens = Vec::new();
    for role in ["owner", "operator", "auditor", "approver"] {
        let body = json!({ "name": format!("the-{role}"), "role": role });
        let answer = world.post("/v1/humans", &world.owner, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        let token = answer.json()["token"].as_str().unwrap().to_owned();
        tokens.push((role, token));
    }
    for route in routes() {
        if let Auth::Public | Auth::Login = route.auth {
            continue;
        }
        let call = Call::of_operation(route.operation);
        let call = call.unwrap_or_else(|| panic!("{} has no row", route.operation));
        for (role, token) in &tokens {
            let request = request(&route)
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, "application/json");
            // Nothing that could be done, so that what is allowed changes nothing.
            let answer = world
                .send(request.body(Body::from("nothing")).unwrap())
                .await;
            let refused = answer.body.contains("which does not allow");
            assert_eq!(
                refused,
                !call.allows(role.parse().unwrap()),
                "{route:?} {role}: {}",
                answer.body
            );
            if refused {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{route:?} {role}");
            }
        }
    }
}

#[tokio::test]
async fn people_are_added_changed_and_stopped() {
    let world = World::new().await;
    let send = async |path: &str, token: &str, body| {
        let answer = world.post(path, token, body).await;
        (answer.status.as_u16(), answer.json())
    };
    let body = json!({ "name": "carol", "role": "auditor", "ttl_seconds": 600 });
    let (status, carol) = send("/v1/humans", &world.owner, body.clone()).await;
    assert_eq!((status, &carol["role"]), (201, &json!("auditor")));
    let token = carol["token"].as_str().unwrap();
    let who = world.get("/v1/self", token).await.json();
    assert_eq!(
        (&who["kind"], &who["role"]),
        (&json!("human"), &json!("auditor"))
    );
    let listed = world.get("/v1/principals", token).await.json();
    let listed = listed["items"].as_array().unwrap();
    let roles: Vec<_> = listed.iter().map(|one| &one["role"]).collect();
    assert!(roles.contains(&&json!("owner")) && roles.contains(&&json!("auditor")));

    for (path, body, refused) in [
        ("/v1/humans", body, (409, "principal_exists")),
        (
            "/v1/humans",
            json!({ "name": "dave", "role": "king" }),
            (400, "invalid_request"),
        ),
        (
            "/v1/humans/bot/role",
            json!({ "role": "owner", "reason": "no" }),
            (403, "principal_not_human"),
        ),
        (
            "/v1/humans/alice/role",
            json!({ "role": "auditor", "reason": "no" }),
            (409, "owner_keeps_role"),
        ),
        ("/v1/humans/alice/credential", json!({}), (403, "forbidden")),
    ] {
        let (status, answer) = send(path, &world.owner, body).await;
        assert_eq!(
            (status, answer["code"].as_str().unwrap()),
            refused,
            "{path}"
        );
    }

    let body = json!({ "role": "approver", "reason": "she decides now" });
    let (status, answer) = send("/v1/humans/carol/role", &world.owner, body).await;
    assert_eq!((status, &answer["role"]), (200, &json!("approver")));
    assert_eq!(
        world.get("/v1/principals", token).await.problem(),
        (403, "forbidden".to_owned())
    );
    let id = world.held(json!({ "version": "1" })).await;
    let path = format!("/v1/oversight/requests/{id}/approve");
    let (status, answer) = send(&path, token, json!({})).await;
    assert_eq!((status, &answer["decided_by"]), (200, &json!("carol")));

    let (status, answer) = send("/v1/humans/carol/credential", &world.owner, json!({})).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(world.get("/v1/self", token).await.status, 401);
    let token = answer["token"].as_str().unwrap();
    assert_eq!(world.get("/v1/self", token).await.status, 200);
    let body = json!({ "reason": "on leave" });
    let (status, _) = send("/v1/principals/carol/suspend", &world.owner, body).await;
    assert_eq!(status, 200);
    assert_ne!(world.get("/v1/self", token).await.status, 200);
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

/// A request whose head is let in now and whose body comes later: gives what lets it come,
/// once the head was let in.
async fn held_back(
    world: &Arc<World>,
    path: &'static str,
    token: &str,
    body: Value,
) -> (oneshot::Sender<()>, JoinHandle<Answer>) {
    let (reading, read) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let body = futures_util::stream::once(async move {
        reading.send(()).unwrap();
        released.await.unwrap();
        Ok::<_, std::convert::Infallible>(body.to_string())
    });
    let request = Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(body))
        .unwrap();
    let world = Arc::clone(world);
    let answer = tokio::spawn(async move { world.send(request).await });
    read.await.unwrap();
    (release, answer)
}

/// A stolen credential whose requests were let in before it ended does nothing after, and
/// least of all turns into one that holds.
#[tokio::test]
async fn a_body_that_is_held_back_outlives_no_credential() {
    let world = Arc::new(World::new().await);
    let carol = json!({ "name": "carol", "role": "owner" });
    let answer = world.post("/v1/humans", &world.owner, carol).await;
    let stolen = answer.json()["token"].as_str().unwrap().to_owned();
    let mut waiting = Vec::new();
    for (path, body) in [
        ("/v1/tokens", json!({})),
        ("/v1/tokens", json!({ "delegation": world.link })),
        ("/v1/humans", json!({ "name": "mallory", "role": "owner" })),
        ("/v1/principals", json!({ "name": "robot" })),
        ("/v1/humans/carol/credential", json!({})),
    ] {
        waiting.push((path, held_back(&world, path, &stolen, body).await));
    }
    let renewed = world.post("/v1/humans/carol/credential", &world.owner, json!({}));
    let renewed = renewed.await.json()["token"].as_str().unwrap().to_owned();
    for (path, (release, answer)) in waiting {
        release.send(()).unwrap();
        let refused = answer.await.unwrap();
        let told = refused.problem();
        assert_eq!(told, (401, "token_superseded".to_owned()), "{path}");
    }
    let people = world.get("/v1/principals", &renewed).await;
    assert_eq!(people.status, StatusCode::OK, "{}", people.body);
    assert!(!people.body.contains("mallory") && !people.body.contains("robot"));

    // With a credential that holds, the same waits and is done.
    let (release, answer) = held_back(&world, "/v1/tokens", &renewed, json!({})).await;
    release.send(()).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    let own = answer.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(world.get("/v1/self", &own).await.status, StatusCode::OK);
}
