//! What is refused, and how that is said.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::json;

use crate::world::{World, publish};

#[tokio::test]
async fn a_problem_says_what_where_and_whether_to_try_again() {
    let world = World::new().await;
    let body = json!({ "name": "x", "colour": "red" });
    let answer = world.post("/v1/principals", &world.owner, body).await;
    assert_eq!(answer.problem(), (400, "invalid_body".to_owned()));
    let problem = answer.json();
    assert_eq!(problem["type"], "urn:creto:error:invalid_body");
    assert_eq!(problem["title"], "Invalid body");
    assert_eq!(problem["class"], "permanent");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("unknown field `colour`"), "{detail}");

    // A field deep inside is named by its path.
    let body = json!({
        "delegatee": "bot", "rights": [{ "action": "*", "resource": 7 }],
        "expires_at": "2027-01-01T00:00:00Z",
    });
    let answer = world.post("/v1/delegations", &world.owner, body).await;
    assert_eq!(answer.problem().1, "invalid_body");
    assert_eq!(answer.json()["field"], "rights[0].resource");

    // What may be of several kinds says which.
    for (member, value, kinds) in [
        (
            "resource",
            json!(7),
            "a name, or an object with `type` and `id`",
        ),
        ("context", json!({ "x": 1.5 }), "a whole number"),
        ("context", json!({ "x": null }), "a list of texts"),
    ] {
        let mut body = json!({ "action": "x", "resource": "y", "units": 1 });
        body[member] = value;
        let answer = world.post("/v1/actions", &world.agent, body).await;
        assert_eq!(answer.problem(), (400, "invalid_body".to_owned()));
        let problem = answer.json();
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains(kinds) && !detail.contains("untagged"),
            "{detail}"
        );
    }

    // And one that the governor refuses.
    let body = json!({ "action": "x", "resource": "y", "units": 0 });
    let answer = world.post("/v1/actions", &world.agent, body).await;
    assert_eq!(answer.problem(), (400, "invalid_request".to_owned()));
    assert_eq!(answer.json()["field"], "units");
}

#[tokio::test]
async fn paths_methods_queries_and_media_types_are_checked() {
    let world = World::new().await;
    let owner = &world.owner;
    let answer = world.get("/v1/nothing", owner).await;
    assert_eq!(answer.problem(), (404, "route_not_found".to_owned()));
    let answer = world.post("/v1/self", owner, json!({})).await;
    assert_eq!(answer.problem(), (405, "method_not_allowed".to_owned()));
    assert!(answer.header(header::ALLOW).contains("GET"));

    for path in ["/v1/principals?limit=0", "/v1/principals?limit=501"] {
        let answer = world.get(path, owner).await;
        assert_eq!(
            answer.problem(),
            (400, "invalid_request".to_owned()),
            "{path}"
        );
        assert_eq!(answer.json()["field"], "limit");
    }
    let answer = world.get("/v1/principals?sort=name", owner).await;
    assert_eq!(answer.problem(), (400, "invalid_query".to_owned()));
    assert!(answer.body.contains("sort"), "{}", answer.body);
    let answer = world.get("/v1/oversight/requests?state=odd", owner).await;
    assert_eq!(answer.json()["field"], "state");
    let answer = world.get("/v1/actions/act_1", owner).await;
    assert_eq!(answer.json()["field"], "id");
    let missing = "/v1/invoices/inv_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e";
    assert_eq!(
        world.get(missing, owner).await.problem(),
        (404, "not_found".to_owned())
    );
    let waits = "/v1/oversight/requests/ovr_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e?wait_seconds=51";
    assert_eq!(
        world.get(waits, owner).await.json()["field"],
        "wait_seconds"
    );

    let bearer = format!("Bearer {owner}");
    let plain = Request::post("/v1/principals").header(header::AUTHORIZATION, &bearer);
    let answer = world
        .send(plain.body(Body::from("{\"name\":\"x\"}")).unwrap())
        .await;
    assert_eq!(answer.problem(), (415, "unsupported_media_type".to_owned()));
    let junk = Request::post("/v1/principals")
        .header(header::AUTHORIZATION, &bearer)
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    let answer = world
        .send(junk.body(Body::from("{\"name\":\"x\"} x")).unwrap())
        .await;
    assert_eq!(answer.problem(), (400, "invalid_body".to_owned()));
}

#[tokio::test]
async fn a_secret_that_is_no_text_is_not_quoted_back() {
    let world = World::new().await;
    for value in [json!(8_675_309), json!(-8.675_309e12), json!([8_675_309])] {
        let body = json!({ "name": "deploy-key", "value": value });
        let answer = world.post("/v1/secrets", &world.owner, body).await;
        assert_eq!(answer.problem(), (400, "invalid_body".to_owned()));
        assert_eq!(answer.json()["field"], "value");
        assert!(!answer.body.contains("8675309"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_body_has_a_limit() {
    let world = World::new().await;
    let body = publish(json!({ "text": "x".repeat(1024 * 1024) }));
    let answer = world.post("/v1/actions", &world.agent, body).await;
    assert_eq!(answer.problem(), (413, "body_too_large".to_owned()));
    let body = publish(json!({ "text": "x".repeat(100 * 1024) }));
    let answer = world.post("/v1/actions", &world.agent, body).await;
    assert_eq!(
        answer.json()["field"],
        "args",
        "within the body's limit, over the governor's"
    );
}

#[tokio::test]
async fn a_key_repeats_an_answer_and_refuses_another_request() {
    let world = World::new().await;
    let send = async |name: &str, keys: &[&str]| {
        let mut request = Request::post("/v1/principals")
            .header(header::AUTHORIZATION, format!("Bearer {}", world.owner))
            .header(header::CONTENT_TYPE, "application/json");
        for key in keys {
            request = request.header("Idempotency-Key", *key);
        }
        let body = json!({ "name": name }).to_string();
        world.send(request.body(Body::from(body)).unwrap()).await
    };
    let first = send("one", &["k"]).await;
    assert_eq!(first.status, StatusCode::CREATED);
    let again = send("one", &["k"]).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    let other = send("two", &["k"]).await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused".to_owned()));
    let taken = send("one", &[]).await;
    assert_eq!(taken.problem(), (409, "principal_exists".to_owned()));
    for keys in [&["a", "b"][..], &["with space"], &[""]] {
        let answer = send("three", keys).await;
        assert_eq!(
            answer.problem(),
            (400, "invalid_request".to_owned()),
            "{keys:?}"
        );
    }
}
