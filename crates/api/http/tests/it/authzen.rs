//! AuthZEN Authorization API 1.0.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};

use crate::world::{Answer, HOST, World};

const EVALUATION: &str = "/access/v1/evaluation";
const EVALUATIONS: &str = "/access/v1/evaluations";

fn asks(subject: &Value, action: &str, id: &str) -> Value {
    json!({
        "subject": subject,
        "action": { "name": action },
        "resource": { "type": "Resource", "id": id },
    })
}

fn agent(id: &str) -> Value {
    json!({ "type": "agent", "id": id })
}

impl World {
    async fn ask(&self, token: &str, body: Value) -> Value {
        let answer = self.post(EVALUATION, token, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");
        answer.json()
    }

    async fn another_delegation(&self, to: &str) -> String {
        let body = json!({
            "delegatee": to,
            "rights": [{ "action": "history.read", "resource": "repo:*" }],
            "expires_at": "2026-03-01T13:00:00Z",
        });
        let made = self.post("/v1/delegations", &self.owner, body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        made.json()["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn one_decision_is_that_of_the_action_itself() {
    let world = World::new().await;
    let me = agent("bot");
    let yes = world
        .ask(&world.agent, asks(&me, "history.read", "repo:creto"))
        .await;
    assert_eq!(yes["decision"], true, "{yes}");
    assert_eq!(yes["context"]["outcome"], "allow");
    assert_eq!(yes["context"]["reason"], "permitted");
    assert!(yes["context"]["policy_ids"][0].is_string(), "{yes}");

    for (action, id, code) in [
        ("history.read", "repo:other", "no_policy_permits"),
        ("can_read", "repo:creto", "unknown_action"),
    ] {
        let no = world.ask(&world.agent, asks(&me, action, id)).await;
        assert_eq!(no["decision"], false, "{no}");
        assert_eq!(no["context"]["outcome"], "deny");
        assert_eq!(no["context"]["reason"], code);
        assert!(no["context"]["reason_user"]["en"].is_string(), "{no}");
        let body = json!({ "action": action, "resource": id });
        let submitted = world.post("/v1/actions", &world.agent, body).await.json();
        assert_eq!(submitted["reason"]["code"], code);
    }

    let mut typed = asks(&me, "history.read", "repo:creto");
    typed["resource"]["type"] = json!("Creto::Resource");
    assert_eq!(world.ask(&world.agent, typed).await["decision"], true);
    let mut typed = asks(&me, "history.read", "repo:creto");
    typed["resource"]["type"] = json!("document");
    let no = world.ask(&world.agent, typed).await;
    assert_eq!(no["context"]["reason"], "invalid_request", "{no}");
}

#[tokio::test]
async fn what_a_human_has_to_approve_is_a_denial_that_says_so() {
    let world = World::new().await;
    let body = asks(&agent("bot"), "release.publish", "repo:creto");
    let held = world.ask(&world.agent, body).await;
    assert_eq!(held["decision"], false, "{held}");
    let context = &held["context"];
    assert_eq!(context["outcome"], "requires_oversight");
    assert_eq!(context["reason"], "needs_approval");
    assert_eq!(context["policy_ids"], json!(["publish-needs-a-human"]));
    let access = &context["access_request"];
    assert_eq!(
        access["endpoint"],
        format!("http://{HOST}/access/v1/requests")
    );
    assert_eq!(access["template"], "release");
    assert_eq!(access["reason"], "human_approval_required");
    assert_eq!(context["evaluated_at"], "2026-03-01T12:00:00Z");
    assert_eq!(access["expires_at"], "2026-03-01T12:10:00Z");
    let id = context["evaluation_id"].as_str().unwrap();
    assert!(id.starts_with("evl_"), "{id}");

    // Only the subject itself asks a human.
    let body = asks(&agent("bot"), "release.publish", "repo:creto");
    let held = world.ask(&world.owner, body).await;
    assert_eq!(held["context"]["outcome"], "requires_oversight");
    for absent in ["access_request", "evaluation_id", "evaluated_at"] {
        assert!(held["context"].get(absent).is_none(), "{held}");
    }
    // With a context as without.
    world.publish_tickets().await;
    let close = json!({
        "subject": agent("bot"),
        "action": { "name": "ticket.close", "properties": { "units": 1 } },
        "resource": { "type": "Ticket", "id": "7" },
    });
    let mut with_context = close.clone();
    with_context["context"] = json!({ "country": "DE" });
    let mut with_units = close.clone();
    with_units["context"] = json!({ "units": 1 });
    for body in [close, with_units, with_context] {
        let held = world.ask(&world.agent, body.clone()).await;
        let context = &held["context"];
        assert_eq!(context["outcome"], "requires_oversight", "{held}");
        for name in ["access_request", "evaluation_id", "evaluated_at"] {
            assert!(context.get(name).is_some(), "{name} of {body}");
        }
    }
    // Nobody was asked, and nothing was written.
    let waiting = world.get("/v1/oversight/requests", &world.owner).await;
    assert_eq!(waiting.json()["items"], json!([]));
}

#[tokio::test]
async fn a_question_reserves_and_records_nothing() {
    let world = World::new().await;
    let balance = async || {
        let me = world.get("/v1/self", &world.agent).await.json();
        let leaves = world.get("/v1/audit/checkpoint", &world.owner).await.body;
        let size = leaves.lines().nth(1).unwrap().to_owned();
        (me["chain"][0]["balance"].clone(), size)
    };
    let before = balance().await;
    for n in 0..5 {
        let body = asks(&agent("bot"), "history.read", &format!("repo:{n}"));
        world.ask(&world.agent, body).await;
    }
    assert_eq!(balance().await, before);
}

#[tokio::test]
async fn an_agent_asks_about_itself_and_the_owner_about_everybody() {
    let world = World::new().await;
    let me = world.get("/v1/self", &world.agent).await.json();
    let mut mine = agent(me["spiffe_id"].as_str().unwrap());
    mine["properties"] = json!({ "delegation": world.link, "department": ["x"] });
    for token in [&world.agent, &world.owner] {
        let yes = world
            .ask(token, asks(&mine, "history.read", "repo:creto"))
            .await;
        assert_eq!(yes["decision"], true, "{yes}");
    }

    for other in [
        json!({ "type": "human", "id": "alice" }),
        json!({ "type": "human", "id": "bot" }),
        json!({ "type": "user", "id": "bot" }),
        agent("nobody"),
        json!({ "type": "agent", "id": "bot", "properties": {
            "delegation": "lnk_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e" } }),
    ] {
        let body = asks(&other, "history.read", "repo:creto");
        let refused = world.post(EVALUATION, &world.agent, body).await;
        assert_eq!(refused.problem(), (403, "forbidden".to_owned()), "{other}");
    }

    let alice = json!({ "type": "human", "id": "alice" });
    let publish = asks(&alice, "release.publish", "repo:creto");
    assert_eq!(world.ask(&world.owner, publish).await["decision"], true);
    for nobody in [
        agent("nobody"),
        agent("no body"),
        json!({ "type": "user", "id": "bot" }),
    ] {
        let no = world
            .ask(&world.owner, asks(&nobody, "history.read", "repo:creto"))
            .await;
        assert_eq!(no["context"]["reason"], "unknown_subject", "{no}");
        assert_eq!(no["decision"], false);
    }
    let made = json!({ "name": "idle" });
    world.post("/v1/principals", &world.owner, made).await;
    let no = world
        .ask(
            &world.owner,
            asks(&agent("idle"), "history.read", "repo:creto"),
        )
        .await;
    assert_eq!(no["context"]["reason"], "no_delegation", "{no}");
}

#[tokio::test]
async fn of_several_delegations_one_is_chosen() {
    let world = World::new().await;
    let second = world.another_delegation("bot").await;
    let body = asks(&agent("bot"), "release.publish", "repo:creto");
    let refused = world.post(EVALUATION, &world.owner, body.clone()).await;
    assert_eq!(refused.problem(), (400, "delegation_ambiguous".to_owned()));
    // The agent itself acts by the one of its token.
    let held = world.ask(&world.agent, body.clone()).await;
    assert_eq!(held["context"]["outcome"], "requires_oversight");

    let by = |delegation: &str| {
        let mut body = body.clone();
        body["subject"]["properties"] = json!({ "delegation": delegation });
        body
    };
    let held = world.ask(&world.owner, by(&world.link)).await;
    assert_eq!(held["context"]["outcome"], "requires_oversight");
    let no = world.ask(&world.owner, by(&second)).await;
    assert_eq!(no["context"]["reason"], "right_not_delegated");

    let revoke = format!("/v1/delegations/{second}/revoke");
    world.post(&revoke, &world.owner, json!({})).await;
    let held = world.ask(&world.owner, body.clone()).await;
    assert_eq!(
        held["context"]["outcome"], "requires_oversight",
        "one is left"
    );
    let revoke = format!("/v1/delegations/{}/revoke", world.link);
    world.post(&revoke, &world.owner, json!({})).await;
    let no = world.ask(&world.owner, body.clone()).await;
    assert_eq!(no["context"]["reason"], "delegation_revoked", "{no}");

    for (delegation, status) in [("x", 400), ("lnk_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e", 404)] {
        let refused = world.post(EVALUATION, &world.owner, by(delegation)).await;
        assert_eq!(refused.problem().0, status, "{delegation}");
    }
}

#[tokio::test]
async fn units_and_context_reach_the_decision() {
    let world = World::new().await;
    let mut body = asks(&agent("bot"), "history.read", "repo:creto");
    for (units, status) in [
        (1_u64, 200),
        (1_000_000_000, 200),
        (0, 400),
        (1_000_000_001, 400),
    ] {
        body["action"]["properties"] = json!({ "units": units });
        let answer = world.post(EVALUATION, &world.agent, body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    }
    body["action"] = json!({ "name": "history.read" });
    body["context"] = json!({ "oversight": true });
    let refused = world.post(EVALUATION, &world.agent, body.clone()).await;
    assert_eq!(refused.problem(), (400, "invalid_request".to_owned()));
    assert_eq!(refused.json()["field"], "context");
    // What the schema does not declare, no policy can mean.
    body["context"] = json!({ "time": "2026-03-01T12:00:00Z" });
    let no = world.ask(&world.agent, body.clone()).await;
    assert_eq!(no["context"]["reason"], "invalid_request", "{no}");

    let egress = |protocol: &str| {
        json!({
            "subject": agent("bot"),
            "action": { "name": "network_egress" },
            "resource": { "type": "Host", "id": "releases.example.test" },
            "context": { "port": 443, "protocol": protocol },
        })
    };
    assert_eq!(
        world.ask(&world.agent, egress("tls")).await["decision"],
        true
    );
    assert_eq!(
        world.ask(&world.agent, egress("tcp")).await["decision"],
        false
    );
}

#[tokio::test]
async fn a_batch_is_answered_in_order_and_as_far_as_it_goes() {
    let world = World::new().await;
    let batch = |semantic: Option<&str>| {
        let mut body = json!({
            "subject": agent("bot"),
            "action": { "name": "history.read" },
            "evaluations": [
                { "resource": { "type": "Resource", "id": "repo:creto" } },
                { "resource": { "type": "Resource", "id": "repo:other" } },
                { "resource": { "type": "Resource", "id": "repo:creto" },
                  "subject": agent("somebody") },
                { "resource": { "type": "Resource", "id": "repo:creto" } },
            ],
        });
        if let Some(semantic) = semantic {
            body["options"] = json!({ "evaluations_semantic": semantic });
        }
        body
    };
    let ask = async |body: Value| {
        let answer = world.post(EVALUATIONS, &world.agent, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()
    };
    let decisions = |answer: &Value| -> Vec<bool> {
        let items = answer["evaluations"].as_array().unwrap().iter();
        items
            .map(|item| item["decision"].as_bool().unwrap())
            .collect()
    };
    for semantic in [None, Some("execute_all")] {
        let all = ask(batch(semantic)).await;
        assert_eq!(decisions(&all), [true, false, false, true], "{all}");
        assert!(all.get("decision").is_none());
        let failed = &all["evaluations"][2]["context"];
        assert_eq!(failed["error"]["status"], 403, "{failed}");
        assert_eq!(failed["error"]["code"], "forbidden");
        assert!(failed.get("outcome").is_none());
    }
    let and = ask(batch(Some("deny_on_first_deny"))).await;
    assert_eq!(decisions(&and), [true, false]);
    let or = ask(batch(Some("permit_on_first_permit"))).await;
    assert_eq!(decisions(&or), [true]);

    let mut failing = batch(Some("deny_on_first_deny"));
    failing["evaluations"].as_array_mut().unwrap().remove(1);
    assert_eq!(
        decisions(&ask(failing).await),
        [true, false],
        "an error denies"
    );

    for single in [json!(null), json!([])] {
        let mut body = asks(&agent("bot"), "history.read", "repo:creto");
        body["evaluations"] = single;
        let one = ask(body).await;
        assert_eq!(one["decision"], true, "{one}");
        assert!(one.get("evaluations").is_none());
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_as_a_whole() {
    let world = World::new().await;
    let send = async |path: &str, body: &str, media_type: &str| -> Answer {
        let request = Request::post(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", world.agent))
            .header(header::CONTENT_TYPE, media_type)
            .body(Body::from(body.to_owned()));
        world.send(request.unwrap()).await
    };
    let json = "application/json";
    let cut = r#"{"subject":{"type":"agent","id":"bot"},"action":{"name":"x"}}"#;
    let item = r#"{"action":{"name":"x"},"evaluations":[{"subject":{"type":"agent","id":"b"}}]}"#;
    for (path, body, field) in [
        (EVALUATION, "", ""),
        (EVALUATION, "{", ""),
        (EVALUATION, "[]", ""),
        (EVALUATION, cut, "resource"),
        (EVALUATIONS, cut, "resource"),
        (EVALUATIONS, item, "evaluations[0].resource"),
    ] {
        let answer = send(path, body, json).await;
        assert_eq!(answer.problem(), (400, "invalid_body".to_owned()), "{body}");
        if !field.is_empty() {
            let problem = answer.json();
            let said = format!("{} {}", problem["field"], problem["detail"]);
            assert!(said.contains(field), "{problem}");
        }
    }
    let answer = send(EVALUATION, "{}", "text/plain").await;
    assert_eq!(answer.problem().0, 415);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let deep = cut.replace("}}", &format!("}},\"resource\":{{\"type\":{deep}}}}}"));
    assert_eq!(
        send(EVALUATION, &deep, json).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn an_answer_carries_the_callers_name_for_its_request() {
    let world = World::new().await;
    let id = "bfe9eb29-ab87-4ca3-be83-a1d5d8305716";
    for (token, status) in [(world.agent.as_str(), 200), ("nonsense", 401)] {
        let body = asks(&agent("bot"), "history.read", "repo:creto");
        let request = Request::post(EVALUATION)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("X-Request-ID", id)
            .body(Body::from(body.to_string()));
        let answer = world.send(request.unwrap()).await;
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(answer.header("x-request-id"), id);
    }
    let unnamed = world
        .post(
            EVALUATION,
            &world.agent,
            asks(&agent("bot"), "history.read", "x"),
        )
        .await;
    assert!(unnamed.header("x-request-id").starts_with("req_"));
}

#[tokio::test]
async fn metadata_names_the_endpoints_under_the_host_that_was_asked() {
    let world = World::new().await;
    for host in ["127.0.0.1:1", "localhost:1"] {
        let request = Request::get("/.well-known/authzen-configuration")
            .header(header::HOST, host)
            .body(Body::empty());
        let answer = world.send(request.unwrap()).await;
        assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");
        assert_eq!(
            answer.json(),
            json!({
                "policy_decision_point": format!("http://{host}"),
                "access_evaluation_endpoint": format!("http://{host}/access/v1/evaluation"),
                "access_evaluations_endpoint": format!("http://{host}/access/v1/evaluations"),
                "access_request_endpoint": format!("http://{host}/access/v1/requests"),
                "capabilities": ["urn:openid:authzen:capability:access-request"],
            })
        );
    }
}

/// The question is whether the action would be allowed, budget and rate included, and
/// asking takes nothing of either.
#[tokio::test]
async fn what_no_budget_covers_is_no() {
    let world = World::new().await;
    let me = agent("bot");
    let limit = json!({ "scope": { "agent": "bot" }, "limit": { "units": 3 }, "window": "daily" });
    let set = world.post("/v1/limits", &world.owner, limit).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.body);
    let asking = |units: u64| {
        let mut body = asks(&me, "history.read", "repo:creto");
        body["action"]["properties"] = json!({ "units": units });
        body
    };
    for _ in 0..4 {
        let no = world.ask(&world.agent, asking(4)).await;
        assert_eq!(no["decision"], false, "{no}");
        let context = &no["context"];
        assert_eq!(context["outcome"], "quota_exceeded");
        assert_eq!(context["reason"], "limit_exceeded");
        assert_eq!(
            context["quota"],
            json!({
                "scope": "agent", "principal": "bot",
                "limit": { "units": 3 }, "used": { "units": 0 },
                "reserved": { "units": 0 }, "requested": { "units": 4 },
                "resets_at": "2026-03-02T00:00:00Z",
            })
        );
        assert_eq!(context.get("retry_after_ms"), None, "it never fits: {no}");
        assert_eq!(context.get("rate"), None);
    }
    let yes = world.ask(&world.agent, asking(1)).await;
    assert_eq!(yes["decision"], true, "{yes}");
    for absent in ["quota", "rate", "retry_after_ms"] {
        assert_eq!(yes["context"].get(absent), None, "{yes}");
    }

    // The figures are those that the action itself is answered with.
    let read =
        |units: u64| json!({ "action": "history.read", "resource": "repo:creto", "units": units });
    let done = world.post("/v1/actions", &world.agent, read(1)).await;
    assert_eq!(done.json()["outcome"], "allow", "{}", done.body);
    let no = world.ask(&world.agent, asking(3)).await;
    let action = world
        .post("/v1/actions", &world.agent, read(3))
        .await
        .json();
    assert_eq!(
        no["context"]["quota"]["used"],
        json!({ "units": 1 }),
        "{no}"
    );
    assert_eq!(
        no["context"]["retry_after_ms"], 43_200_000,
        "until midnight"
    );
    for same in ["quota", "retry_after_ms"] {
        assert_eq!(no["context"][same], action[same], "{same}");
    }
    let batch = json!({ "evaluations": [asking(3)] });
    let batch = world.post(EVALUATIONS, &world.agent, batch).await.json();
    let quota = &batch["evaluations"][0]["context"]["quota"];
    assert_eq!(*quota, action["quota"]);
}

#[tokio::test]
async fn what_comes_too_fast_is_no_and_says_whose_and_how_long() {
    let world = World::new().await;
    let rate = json!({ "scope": { "agent": "bot" }, "per_second": 1, "burst": 1 });
    let set = world.post("/v1/rates", &world.owner, rate).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.body);
    let read = json!({ "action": "history.read", "resource": "repo:creto" });
    let done = world.post("/v1/actions", &world.agent, read).await;
    assert_eq!(done.json()["outcome"], "allow", "{}", done.body);
    let body = asks(&agent("bot"), "history.read", "repo:creto");
    let no = world.ask(&world.agent, body).await;
    assert_eq!(no["decision"], false, "{no}");
    let context = &no["context"];
    assert_eq!(context["outcome"], "rate_limited");
    assert_eq!(context["reason"], "rate_limited");
    assert_eq!(
        context["rate"],
        json!({ "scope": "agent", "principal": "bot" })
    );
    assert_eq!(context["retry_after_ms"], 1_000);
    assert_eq!(context.get("quota"), None);
    // A rate of one action is named, when it is the one to wait for.
    let rate = json!({
        "scope": { "agent": "bot" }, "event": "history.read", "per_minute": 1, "burst": 1
    });
    let set = world.post("/v1/rates", &world.owner, rate).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.body);
    world.clock.advance(std::time::Duration::from_secs(1));
    let read = json!({ "action": "history.read", "resource": "repo:creto" });
    let done = world.post("/v1/actions", &world.agent, read.clone()).await;
    assert_eq!(done.json()["outcome"], "allow", "{}", done.body);
    let named = json!({ "scope": "agent", "principal": "bot", "event": "history.read" });
    let body = asks(&agent("bot"), "history.read", "repo:creto");
    let no = world.ask(&world.agent, body).await;
    assert_eq!(no["context"]["rate"], named, "{no}");
    let message = "too many actions of agent bot for `history.read`; try again in 60s";
    assert_eq!(no["context"]["reason_user"]["en"], message);
    let refused = world.post("/v1/actions", &world.agent, read).await.json();
    assert_eq!(refused["rate"], named, "{refused}");
    assert_eq!(refused["reason"]["message"], message);
}
