//! A held action through the interface, from the question to the proof.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::world::{World, publish};

#[tokio::test]
async fn a_held_action_is_approved_used_once_and_proved() {
    let world = World::new().await;
    let args = json!({ "version": "1.0.0" });
    let id = world.held(args.clone()).await;
    let path = format!("/v1/oversight/requests/{id}");

    // The agent may look, and may not decide.
    let seen = world
        .get(&format!("{path}?wait_seconds=0"), &world.agent)
        .await;
    assert_eq!(seen.json()["state"], "pending");
    let own = world
        .post(&format!("{path}/approve"), &world.agent, json!({}))
        .await;
    assert_eq!(own.problem(), (403, "forbidden".to_owned()));

    let reason = json!({ "reason": "go" });
    let approved = world
        .post(&format!("{path}/approve"), &world.owner, reason)
        .await;
    assert_eq!(approved.json()["state"], "approved", "{}", approved.body);
    assert_eq!(
        approved.json()["grant"],
        Value::Null,
        "the grant is the agent's"
    );
    let again = world
        .post(&format!("{path}/deny"), &world.owner, json!({}))
        .await;
    assert_eq!(
        again.problem(),
        (409, "oversight_already_decided".to_owned())
    );

    let grant = world.get(&path, &world.agent).await.json()["grant"].clone();
    let with_grant = |args: Value| {
        let mut body = publish(args);
        body["grant"] = grant.clone();
        body
    };
    let submit = async |args: Value| {
        let answer = world
            .post("/v1/actions", &world.agent, with_grant(args))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()
    };
    let changed = submit(json!({ "version": "1.0.1" })).await;
    assert_eq!(changed["reason"]["code"], "grant_action_mismatch");
    let allowed = submit(args.clone()).await;
    assert_eq!(allowed["outcome"], "allow", "{allowed}");
    let twice = submit(args).await;
    assert_eq!(twice["reason"]["code"], "grant_used");

    let action = allowed["action_id"].as_str().unwrap();
    let settle = format!("/v1/actions/{action}/settle");
    let settled = world
        .post(&settle, &world.agent, json!({ "units": 1 }))
        .await;
    assert_eq!(settled.json()["state"], "settled", "{}", settled.body);
    let records = world
        .get(&format!("/v1/actions/{action}"), &world.owner)
        .await
        .json();
    assert_eq!(records["next"], Value::Null);
    assert_eq!(records["items"].as_array().unwrap().len(), 2, "{records}");

    // The end of a period is not part of it.
    world.clock.advance(std::time::Duration::from_secs(1));
    let usage = world.get("/v1/usage", &world.owner).await.json();
    assert_eq!(
        usage["total"],
        json!({ "amount": "0.25", "currency": "USD" })
    );
}

#[tokio::test]
async fn lists_come_in_pages_that_join_up() {
    let world = World::new().await;
    for n in 0..5 {
        let body = json!({ "name": format!("agent-{n}") });
        world.post("/v1/principals", &world.owner, body).await;
    }
    let mut names = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/principals?limit=3{after}");
        let page = world.get(&path, &world.owner).await.json();
        for item in page["items"].as_array().unwrap() {
            names.push(item["name"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let expected = [
        "agent-0", "agent-1", "agent-2", "agent-3", "agent-4", "alice", "bot",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn requests_for_a_human_are_listed_as_far_as_an_answer_goes() {
    let world = World::new().await;
    let mut made = Vec::new();
    for n in 0..20 {
        // About as large as arguments may be.
        let args = json!({ "n": n, "text": "x".repeat(60 * 1024) });
        made.push(world.held(args).await);
    }
    made.sort_unstable();
    let read = async |query: &str| {
        let (mut ids, mut pages) = (Vec::new(), Vec::new());
        let mut after = String::new();
        loop {
            let path = format!("/v1/oversight/requests?{query}{after}");
            let answer = world.get(&path, &world.agent).await;
            assert_eq!(
                answer.header(axum::http::header::CONTENT_TYPE),
                "application/json"
            );
            assert!(answer.body.len() < 1_100_000, "{}", answer.body.len());
            let page = answer.json();
            let items = page["items"].as_array().unwrap();
            pages.push(items.len());
            for item in items {
                assert_eq!(item["args"]["text"].as_str().unwrap().len(), 60 * 1024);
                ids.push(item["id"].as_str().unwrap().to_owned());
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(ids, made, "{query}: every request, once");
        pages
    };
    let pages = read("limit=50").await;
    assert!(pages.len() == 2 && pages[0] > 10, "{pages:?}");
    assert_eq!(read("limit=10").await, [10, 10]);
    assert_eq!(read("limit=7&state=pending").await, [7, 7, 6]);
    assert_eq!(read("limit=1").await, [1; 20]);

    let list = "/v1/oversight/requests?state=denied";
    let none = world.get(list, &world.agent).await.json();
    assert_eq!(none, json!({ "items": [], "next": null }));
    for limit in [0, 51] {
        let path = format!("/v1/oversight/requests?limit={limit}");
        let answer = world.get(&path, &world.agent).await;
        assert_eq!(answer.problem(), (400, "invalid_request".to_owned()));
    }
}

#[tokio::test]
async fn an_agent_waits_for_so_many_decisions_and_no_more() {
    let world = World::new().await;
    let mut last = String::new();
    for n in 0..creto_oversight::PENDING_LIMIT {
        last = world.held(json!({ "n": n })).await;
    }
    let more = publish(json!({ "n": -1 }));
    let answer = world.post("/v1/actions", &world.agent, more).await;
    assert_eq!(
        answer.problem(),
        (429, "oversight_too_many_pending".to_owned())
    );
    let path = format!("/v1/oversight/requests/{last}/deny");
    let denied = world.post(&path, &world.owner, json!({})).await;
    assert_eq!(denied.status, StatusCode::OK, "{}", denied.body);
    world.held(json!({ "n": -1 })).await;
}

#[tokio::test]
async fn a_grant_is_for_the_delegation_that_was_shown() {
    let world = World::new().await;
    let id = world.held(json!({})).await;
    let path = format!("/v1/oversight/requests/{id}");
    let approve = format!("{path}/approve");
    world.post(&approve, &world.owner, json!({})).await;
    let grant = world.get(&path, &world.agent).await.json()["grant"].clone();
    let mut body = publish(json!({}));
    body["grant"] = grant;

    let delegation = json!({
        "delegatee": "bot",
        "rights": [{ "action": "*", "resource": "*" }],
        "expires_at": "2026-03-02T00:00:00Z",
    });
    let made = world
        .post("/v1/delegations", &world.owner, delegation)
        .await;
    let request = json!({ "delegation": made.json()["id"] });
    let made = world.post("/v1/tokens", &world.owner, request).await;
    let other = made.json()["token"].as_str().unwrap().to_owned();

    let refused = world.post("/v1/actions", &other, body.clone()).await.json();
    assert_eq!(refused["reason"]["code"], "grant_other_delegation");
    // Without the grant it is asked anew, and not pointed to the other's request.
    let asked = world.post("/v1/actions", &other, publish(json!({}))).await;
    assert_eq!(asked.json()["outcome"], "requires_oversight");
    assert_ne!(asked.json()["oversight"]["request_id"], json!(id));
    let allowed = world.post("/v1/actions", &world.agent, body).await.json();
    assert_eq!(allowed["outcome"], "allow", "{allowed}");
}

#[tokio::test]
async fn what_this_server_cannot_do_is_said() {
    let world = World::new().await;
    let body = json!({ "delegation": world.link, "argv": ["true"] });
    let answer = world.post("/v1/sandboxes", &world.owner, body).await;
    assert_eq!(answer.problem(), (501, "unsupported".to_owned()));
}
