//! The log over HTTP: to its owner, and to strangers.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use creto_audit::conformance::record;
use creto_audit::{Journal as _, NoteVerifier, RecordClass};
use creto_types::OrgId;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::world::World;

/// The organization, whose log has this many leaves.
pub(crate) async fn with_leaves(world: &World, count: u64) -> OrgId {
    let org = world.governor.authenticate(&world.owner).unwrap().org();
    let records = (0..count).map(|n| record(org, n)).collect();
    world
        .journal
        .append(RecordClass::Evidence, records)
        .await
        .unwrap();
    org
}

#[tokio::test]
async fn the_owner_is_shown_that_the_log_only_grew() {
    let world = World::new().await;
    with_leaves(&world, 300).await;
    let path = "/v1/audit/consistency?from=7";
    let answer = world.get(path, &world.owner).await.json();
    assert_eq!((&answer["from"], &answer["to"]), (&7.into(), &300.into()));
    let hashes = answer["hashes"].as_array().unwrap();
    assert!(hashes.len() > 4, "{answer}");
    let checkpoint = answer["checkpoint"].as_str().unwrap();
    assert_eq!(checkpoint.lines().nth(2), answer["to_root"].as_str());
    let between = world
        .get("/v1/audit/consistency?from=0&to=1", &world.owner)
        .await;
    assert_eq!(between.json()["hashes"], Value::Array(Vec::new()));

    for (query, problem) in [
        ("from=2&to=1", (404, "unknown_log_size")),
        ("from=301", (404, "unknown_log_size")),
        ("from=-1", (400, "invalid_query")),
        ("to=1", (400, "invalid_query")),
        ("from=1&size=2", (400, "invalid_query")),
    ] {
        let path = format!("/v1/audit/consistency?{query}");
        let (status, code) = world.get(&path, &world.owner).await.problem();
        assert_eq!((status, code.as_str()), problem, "{query}");
    }
    let agent = world.get(path, &world.agent).await;
    assert_eq!(agent.problem(), (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn the_keys_are_for_everybody_who_has_a_credential() {
    let world = World::new().await;
    let org = with_leaves(&world, 1).await;
    let mut answers = Vec::new();
    for token in [&world.owner, &world.agent] {
        answers.push(world.get("/v1/audit/keys", token).await.json());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0]["origin"], format!("creto.test/log/{org}"));
    for name in ["ed25519", "composite"] {
        let key = NoteVerifier::parse(answers[0][name].as_str().unwrap()).unwrap();
        assert_eq!(answers[0]["origin"], key.name());
    }
}

/// What a stranger is answered.
struct Shown {
    status: StatusCode,
    media: String,
    caching: String,
    body: Vec<u8>,
}

async fn ask(router: &Router, method: Method, path: &str) -> Shown {
    let request = Request::builder().method(method).uri(path);
    let response = router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let header = |name: header::HeaderName| {
        let value = response.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    Shown {
        status: response.status(),
        media: header(header::CONTENT_TYPE),
        caching: header(header::CACHE_CONTROL),
        body: response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec(),
    }
}

#[tokio::test]
async fn strangers_read_the_public_files_and_nothing_else() {
    let world = World::new().await;
    let org = with_leaves(&world, 300).await;
    let hashes = creto_http::monitoring(world.audit.clone(), false);
    // Nothing is made for a stranger.
    let none = ask(&hashes, Method::GET, &format!("/log/{org}/checkpoint")).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    assert_eq!(none.caching, "no-store");
    let head = world.audit.checkpoint(org).await.unwrap();

    let all = creto_http::monitoring(world.audit.clone(), true);
    for router in [&hashes, &all] {
        let shown = ask(router, Method::GET, &format!("/log/{org}/checkpoint")).await;
        assert_eq!(shown.status, StatusCode::OK);
        assert_eq!(shown.body, head.note);
        assert_eq!(shown.media, "text/plain; charset=utf-8");
        assert_eq!(shown.caching, "no-cache");
        for (path, len) in [("0/000", 256), ("0/001.p/44", 44), ("1/000.p/1", 1)] {
            let shown = ask(router, Method::GET, &format!("/log/{org}/tile/{path}")).await;
            assert_eq!(shown.status, StatusCode::OK, "{path}");
            assert_eq!(shown.body.len(), len * 32);
            assert_eq!(shown.media, "application/octet-stream");
            assert!(shown.caching.contains("immutable"), "{}", shown.caching);
        }
        for path in [
            "/",
            "/v1/audit/checkpoint",
            "/v1/self",
            "/healthz",
            &format!("/log/{org}"),
            &format!("/log/{org}/witnessed"),
            &format!("/log/{org}/tile/0/002"),
            &format!("/log/{org}/tile/0/0"),
            &format!("/log/{org}/tile/../checkpoint"),
            "/log/org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7f/checkpoint",
            "/log/../checkpoint",
            "/log/nonsense/tile/0/000",
        ] {
            let shown = ask(router, Method::GET, path).await;
            assert_eq!(shown.status, StatusCode::NOT_FOUND, "{path}");
            assert_eq!(shown.caching, "no-store", "{path}");
        }
        let posted = ask(router, Method::POST, &format!("/log/{org}/checkpoint")).await;
        assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    let path = format!("/log/{org}/tile/entries/000");
    assert_eq!(
        ask(&hashes, Method::GET, &path).await.status,
        StatusCode::FORBIDDEN
    );
    let entries = ask(&all, Method::GET, &path).await;
    assert_eq!(entries.status, StatusCode::OK);
    let first = usize::from(u16::from_be_bytes([entries.body[0], entries.body[1]]));
    let leaf: Value = serde_json::from_slice(&entries.body[2..2 + first]).unwrap();
    assert_eq!(leaf["index"], 0);
}

#[tokio::test]
async fn the_owner_finds_records_page_by_page() {
    let world = World::new().await;
    with_leaves(&world, 3).await;
    let find = async |query: &str| {
        let path = format!("/v1/audit/records?{query}");
        world.get(&path, &world.owner).await.json()
    };
    let query = "agent=release-bot&member=release-bot&kind=resource.read&resource=doc%2F%C3%A9";
    let first = find(&format!("{query}&limit=2")).await;
    let items = first["items"].as_array().unwrap();
    assert_eq!((items.len(), &first["next"]), (2, &"1".into()), "{first}");
    assert_eq!((&first["searched"], &first["size"]), (&3.into(), &3.into()));
    assert_eq!(
        (&items[0]["leaf"], &items[0]["record"]["body"]["n"]),
        (&2.into(), &2.into())
    );
    let second = find(&format!("{query}&limit=2&after=1")).await;
    assert_eq!(second["items"][0]["leaf"], 0);
    assert_eq!(second["next"], Value::Null);
    for query in ["outcome=deny", "action=x", "since=2100-01-01T00:00:00Z"] {
        assert_eq!(
            find(query).await["items"],
            Value::Array(Vec::new()),
            "{query}"
        );
    }

    for query in [
        "limit=0",
        "limit=101",
        "after=x",
        "since=yesterday",
        "who=bot",
        "agent=",
    ] {
        let path = format!("/v1/audit/records?{query}");
        let answer = world.get(&path, &world.owner).await;
        assert_eq!(
            answer.status,
            StatusCode::BAD_REQUEST,
            "{query}: {}",
            answer.body
        );
    }
    let agent = world.get("/v1/audit/records", &world.agent).await;
    assert_eq!(agent.problem(), (403, "forbidden".to_owned()));
}
