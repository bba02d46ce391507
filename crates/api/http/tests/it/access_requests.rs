//! Requesting access: AuthZEN Access Request and Approval Profile.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use creto_types::Clock as _;
use serde_json::{Value, json};

use crate::world::{Answer, World};

const EVALUATION: &str = "/access/v1/evaluation";
const EVALUATIONS: &str = "/access/v1/evaluations";
const REQUESTS: &str = "/access/v1/requests";

fn publishing() -> Value {
    json!({
        "subject": { "type": "agent", "id": "bot" },
        "action": { "name": "release.publish" },
        "resource": { "type": "Resource", "id": "repo:creto" },
    })
}

/// The evaluation with this denial, as it is requested.
fn requesting(evaluation: &Value, denied: &Value) -> Value {
    let mut body = evaluation.clone();
    body["context"] = json!({ "business_justification": "the fix is due" });
    let context = &denied["context"];
    body["denial"] = json!({
        "evaluation_id": context["evaluation_id"],
        "evaluated_at": context["evaluated_at"],
        "reason": context["reason"],
        "request_context": context["access_request"]["request_context"],
        "template": context["access_request"]["template"],
    });
    body
}

/// The evaluation with the approval that a completed task gave.
fn approved(evaluation: &Value, task: &Value) -> Value {
    let mut body = evaluation.clone();
    body["context"] = json!({ "approval": task["result"]["approval"] });
    body
}

const PROFILE: &str = "urn:openid:authzen:access-request:error:";

impl World {
    async fn evaluate(&self, body: Value) -> Value {
        let answer = self.post(EVALUATION, &self.agent, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()
    }

    async fn keyed(&self, path: &str, key: &str, body: &Value) -> Answer {
        let request = Request::post(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.agent))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", key);
        self.send(request.body(Body::from(body.to_string())).unwrap())
            .await
    }

    /// Requests access to publish; gives the task.
    async fn requested(&self) -> Value {
        let denied = self.evaluate(publishing()).await;
        let body = requesting(&publishing(), &denied);
        let answer = self.post(REQUESTS, &self.agent, body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        let task = answer.json();
        assert_eq!(task["task"]["status"], "pending");
        assert_eq!(task.get("result"), None);
        let place = task["task"]["status_endpoint"].as_str().unwrap();
        assert_eq!(answer.header(header::LOCATION), place);
        task
    }

    async fn status(&self, task: &Value) -> Value {
        let id = task["task"]["id"].as_str().unwrap();
        let answer = self.get(&format!("{REQUESTS}/{id}"), &self.agent).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()
    }

    async fn decide(&self, task: &Value, verdict: &str) {
        let id = task["task"]["id"].as_str().unwrap();
        let path = format!("/v1/oversight/requests/{id}/{verdict}");
        let reason = json!({ "reason": "as agreed" });
        let answer = self.post(&path, &self.owner, reason).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }

    /// An access request that is refused, with the profile's type.
    async fn refused(&self, body: &Value) -> (u16, String) {
        let answer = self.post(REQUESTS, &self.agent, body.clone()).await;
        let problem = answer.json();
        let kind = problem["type"].as_str().unwrap();
        let name = kind.strip_prefix(PROFILE).unwrap_or(kind);
        (answer.status.as_u16(), name.to_owned())
    }
}

#[tokio::test]
async fn an_approval_lets_the_action_through_once() {
    let world = World::new().await;
    let task = world.requested().await;
    let id = task["task"]["id"].as_str().unwrap();

    // The human sees who asks for what, and why.
    let path = format!("/v1/oversight/requests/{id}");
    let shown = world.get(&path, &world.owner).await.json();
    assert_eq!(shown["action"], "release.publish");
    assert_eq!(
        shown["args"],
        json!({ "context": { "business_justification": "the fix is due" } })
    );
    let review = task["task"]["links"]["review"].as_str().unwrap();
    assert!(
        review.ends_with(&format!("/oversight/requests/{id}")),
        "{review}"
    );

    world.decide(&task, "approve").await;
    let done = world.status(&task).await;
    assert_eq!(done["task"]["status"], "approved");
    assert_eq!(done["task"]["display"]["description"], "as agreed");
    let result = &done["result"];
    assert_eq!(result["mode"], "reevaluate");
    assert_eq!(result["approval"]["id"], id);
    assert!(result["approval"]["approved_until"].is_string(), "{result}");
    // The owner may see it, and not use it.
    let owners = world
        .get(&format!("{REQUESTS}/{id}"), &world.owner)
        .await
        .json();
    assert_eq!(owners["task"]["status"], "approved");
    assert!(owners["result"]["approval"].get("state").is_none());

    let before = world.evaluate(publishing()).await;
    assert_eq!(before["decision"], false, "without the approval");
    let yes = world.evaluate(approved(&publishing(), &done)).await;
    assert_eq!(yes["decision"], true, "{yes}");
    assert_eq!(yes["context"]["approval"]["id"], id);
    let action = yes["context"]["action_id"].as_str().unwrap();
    assert!(yes["context"]["reserved_until"].is_string(), "{yes}");
    let used = world.status(&task).await;
    assert_eq!(used["task"]["status"], "approved", "and stays so");
    let title = used["task"]["display"]["title"].as_str().unwrap();
    assert!(title.ends_with("approved, and used"), "{title}");

    let again = world.evaluate(approved(&publishing(), &done)).await;
    assert_eq!(again["decision"], false);
    assert_eq!(again["context"]["reason"], "grant_used");
    assert!(again["context"].get("approval").is_none());
    // It was the action itself: recorded, reserved, to be settled.
    let path = format!("/v1/actions/{action}/settle");
    let settled = world.post(&path, &world.agent, json!({ "units": 1 })).await;
    assert_eq!(settled.status, StatusCode::OK, "{}", settled.body);
}

#[tokio::test]
async fn an_approval_covers_what_was_shown_and_nothing_else() {
    let world = World::new().await;
    let task = world.requested().await;
    world.decide(&task, "approve").await;
    let done = world.status(&task).await;

    let mut more = approved(&publishing(), &done);
    more["action"]["properties"] = json!({ "units": 2 });
    let mut elsewhere = approved(&publishing(), &done);
    elsewhere["resource"]["id"] = json!("repo:other");
    let mut another_context = approved(&publishing(), &done);
    another_context["context"]["port"] = json!(1);
    for body in [more, elsewhere, another_context] {
        let no = world.evaluate(body).await;
        assert_eq!(no["decision"], false, "{no}");
        assert_eq!(no["context"]["reason"], "grant_action_mismatch", "{no}");
    }
    let mut made_up = approved(&publishing(), &done);
    made_up["context"]["approval"]["state"]["grant"] = json!("grt_none");
    let mut named = approved(&publishing(), &done);
    named["context"]["approval"] = json!({ "id": task["task"]["id"] });
    for body in [made_up, named] {
        let no = world.evaluate(body).await;
        assert_eq!(no["context"]["reason"], "grant_unknown", "{no}");
    }

    for (path, body, status) in [
        (EVALUATION, json!({ "approval": {} }), 400),
        (EVALUATION, json!({ "approval": true }), 400),
    ] {
        let mut given = approved(&publishing(), &done);
        for (name, value) in body.as_object().unwrap() {
            given["context"][name] = value.clone();
        }
        let answer = world.post(path, &world.agent, given).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    }
    let refused = world
        .post(EVALUATION, &world.owner, approved(&publishing(), &done))
        .await;
    assert_eq!(refused.problem(), (403, "forbidden".to_owned()));

    // A batch uses nothing up.
    let batch = json!({ "evaluations": [approved(&publishing(), &done)] });
    let answer = world.post(EVALUATIONS, &world.agent, batch).await.json();
    let error = &answer["evaluations"][0]["context"]["error"];
    assert_eq!(error["field"], "context", "{answer}");
    let yes = world.evaluate(approved(&publishing(), &done)).await;
    assert_eq!(yes["decision"], true, "{yes}");
}

/// AuthZEN 1.0, section 7.1: without a batch it is a single evaluation in every respect.
#[tokio::test]
async fn a_batch_that_is_none_uses_an_approval_as_a_single_evaluation_does() {
    let world = World::new().await;
    for (key, empty) in [("none", None), ("empty", Some(json!([])))] {
        let task = world.requested().await;
        world.decide(&task, "approve").await;
        let mut body = approved(&publishing(), &world.status(&task).await);
        if let Some(empty) = empty {
            body["evaluations"] = empty;
        }
        let yes = world.keyed(EVALUATIONS, key, &body).await.json();
        assert_eq!(yes["decision"], true, "{yes}");
        assert_eq!(yes["context"]["approval"]["id"], task["task"]["id"]);
        assert!(yes["context"]["action_id"].is_string(), "{yes}");
        let again = world.keyed(EVALUATIONS, key, &body).await.json();
        assert_eq!(again["context"]["action_id"], yes["context"]["action_id"]);
        let used = world.post(EVALUATIONS, &world.agent, body).await.json();
        assert_eq!(used["context"]["reason"], "grant_used", "{used}");
    }
}

#[tokio::test]
async fn an_approved_action_that_a_limit_refuses_says_which() {
    let world = World::new().await;
    // More than the budget of one dollar.
    let mut much = publishing();
    much["action"]["properties"] = json!({ "units": 5 });
    let denied = world.evaluate(much.clone()).await;
    let body = requesting(&much, &denied);
    let task = world.post(REQUESTS, &world.agent, body).await.json();
    world.decide(&task, "approve").await;
    let using = approved(&much, &world.status(&task).await);
    let no = world.evaluate(using.clone()).await;
    assert_eq!(no["decision"], false, "{no}");
    let context = &no["context"];
    assert_eq!(context["reason"], "budget_exceeded");
    let usd = |amount: &str| json!({ "amount": amount, "currency": "USD" });
    let quota = &context["quota"];
    assert_eq!(quota["scope"], "delegation", "{no}");
    assert_eq!(quota["delegation"], world.link);
    assert_eq!(quota["limit"], usd("1.00"));
    assert_eq!(quota["requested"], usd("1.25"));
    assert_eq!(context.get("retry_after_ms"), None, "a total never resets");

    let rate = json!({ "scope": { "agent": "bot" }, "per_second": 1, "burst": 1 });
    let set = world.post("/v1/rates", &world.owner, rate).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.body);
    let read = json!({ "action": "history.read", "resource": "repo:creto" });
    world.post("/v1/actions", &world.agent, read).await;
    let no = world.evaluate(using).await;
    let waits_longest = &no["context"]["reason"];
    assert_eq!(waits_longest, "budget_exceeded", "{no}");
    let mut reading = publishing();
    reading["action"] = json!({ "name": "history.read" });
    let no = world.evaluate(reading).await;
    let context = &no["context"];
    assert_eq!(context["reason"], "rate_limited", "{no}");
    assert_eq!(context["rate"]["principal"], "bot");
    assert_eq!(context["retry_after_ms"], 1_000);
}

#[tokio::test]
async fn the_task_of_a_typed_resource_names_its_type() {
    let world = World::new().await;
    world.publish_tickets().await;
    let mut close = publishing();
    close["action"]["name"] = json!("ticket.close");
    close["resource"] = json!({ "type": "Ticket", "id": "7" });
    let denied = world.evaluate(close.clone()).await;
    let body = requesting(&close, &denied);
    let answer = world.post(REQUESTS, &world.agent, body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    assert_eq!(
        answer.json()["task"]["display"]["title"],
        "ticket.close on Creto::Ticket 7 by bot: a human has to approve"
    );
}

/// What the evaluation said in its context is part of what is approved, and what is only
/// for the human to read is not part of what is decided.
#[tokio::test]
async fn an_approval_covers_the_context_of_the_evaluation() {
    let world = World::new().await;
    world.publish_tickets().await;
    let mut close = publishing();
    close["action"]["name"] = json!("ticket.close");
    close["resource"] = json!({ "type": "Ticket", "id": "7" });
    close["context"] = json!({ "country": "DE", "units": 2 });
    let denied = world.evaluate(close.clone()).await;
    let mut body = requesting(&close, &denied);
    assert_eq!(
        world.refused(&body).await,
        (400, "invalid_denial_binding".to_owned()),
        "without the evaluation's context"
    );
    for (country, units) in [("FR", 2), ("DE", 3)] {
        body["context"]["country"] = json!(country);
        body["context"]["units"] = json!(units);
        assert_eq!(
            world.refused(&body).await,
            (400, "invalid_denial_binding".to_owned()),
            "with another context"
        );
    }
    body["context"]["units"] = json!(2);
    let answer = world.post(REQUESTS, &world.agent, body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    let task = answer.json();
    let id = task["task"]["id"].as_str().unwrap();
    let path = format!("/v1/oversight/requests/{id}");
    let shown = world.get(&path, &world.owner).await.json();
    assert_eq!(shown["context"], json!({ "country": "DE" }));
    assert_eq!(
        shown["args"],
        json!({ "context": { "business_justification": "the fix is due" } })
    );

    world.decide(&task, "approve").await;
    let done = world.status(&task).await;
    let with = |country: &str| {
        let mut body = approved(&close, &done);
        body["context"]["country"] = json!(country);
        body["context"]["units"] = json!(2);
        body
    };
    let no = world.evaluate(with("FR")).await;
    assert_eq!(no["context"]["reason"], "grant_action_mismatch", "{no}");
    let yes = world.evaluate(with("DE")).await;
    assert_eq!(yes["decision"], true, "{yes}");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_its_key() {
    let world = World::new().await;
    let denied = world.evaluate(publishing()).await;
    let body = requesting(&publishing(), &denied);
    let first = world.keyed(REQUESTS, "one", &body).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.body);
    let again = world.keyed(REQUESTS, "one", &body).await;
    assert_eq!(again.json(), first.json());
    let mut other = body.clone();
    other["context"]["business_justification"] = json!("another");
    let refused = world.keyed(REQUESTS, "one", &other).await;
    assert_eq!(
        refused.problem(),
        (409, "idempotency_key_reused".to_owned())
    );
    assert_eq!(
        refused.json()["type"],
        format!("{PROFILE}duplicate_request")
    );
    // Without a key, what waits already is pointed to.
    let same = world.post(REQUESTS, &world.agent, body.clone()).await;
    assert_eq!(same.json()["task"]["id"], first.json()["task"]["id"]);

    let task = first.json();
    world.decide(&task, "approve").await;
    let late = world.keyed(REQUESTS, "one", &body).await;
    assert_eq!(late.status, StatusCode::CREATED, "it is decided already");
    let done = late.json();
    assert_eq!(done["task"]["status"], "approved");
    let using = approved(&publishing(), &done);
    let yes = world.keyed(EVALUATION, "two", &using).await.json();
    assert_eq!(yes["decision"], true, "{yes}");
    let again = world.keyed(EVALUATION, "two", &using).await.json();
    assert_eq!(again["context"]["action_id"], yes["context"]["action_id"]);
}

#[tokio::test]
async fn a_denial_is_bound_to_who_asked_for_what_and_lasts_ten_minutes() {
    let world = World::new().await;
    let denied = world.evaluate(publishing()).await;
    let body = requesting(&publishing(), &denied);
    let with = |pointer: &str, value: Value| {
        let mut changed = body.clone();
        *changed.pointer_mut(pointer).expect("is there") = value;
        changed
    };
    let context = "/denial/request_context";
    let given = body.pointer(context).unwrap().as_str().unwrap();
    let cut = &given[..given.len() - 2];
    for (changed, refusal) in [
        (
            with("/action/name", json!("changelog.draft")),
            "invalid_denial_binding",
        ),
        (
            with("/resource/id", json!("repo:other")),
            "invalid_denial_binding",
        ),
        (
            with(
                "/action",
                json!({ "name": "release.publish", "properties": { "units": 2 } }),
            ),
            "invalid_denial_binding",
        ),
        (
            with("/denial/evaluation_id", json!("evl_other")),
            "invalid_denial_binding",
        ),
        (with(context, json!(cut)), "invalid_denial_binding"),
        (with(context, json!("")), "invalid_denial_binding"),
        (with(context, json!(world.agent)), "invalid_denial_binding"),
    ] {
        assert_eq!(
            world.refused(&changed).await,
            (400, refusal.to_owned()),
            "{changed}"
        );
    }
    // A credential is no denial, and a denial is no credential.
    let answer = world.get("/v1/self", given).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let anothers = world.post(REQUESTS, &world.owner, body.clone()).await;
    assert_eq!(anothers.problem().0, 400, "it was denied to another caller");

    for unserved in ["items", "callback"] {
        let mut given = body.clone();
        given[unserved] = json!([]);
        let answer = world.post(REQUESTS, &world.agent, given).await;
        assert_eq!(answer.problem(), (400, "invalid_body".to_owned()));
        assert_eq!(answer.json()["field"], unserved);
    }
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(
        world.refused(&body).await,
        (410, "expired_denial".to_owned())
    );
    let waiting = world.get("/v1/oversight/requests", &world.owner).await;
    assert_eq!(waiting.json()["items"], json!([]), "nobody was asked");
}

#[tokio::test]
async fn denial_and_expiry_are_told_apart_and_unknown_tasks_are_unknown() {
    let world = World::new().await;
    let task = world.requested().await;
    world.decide(&task, "deny").await;
    let done = world.status(&task).await;
    assert_eq!(done["task"]["status"], "denied");
    assert_eq!(done["task"]["display"]["description"], "as agreed");
    assert!(done.get("result").is_none());

    let task = world.requested().await;
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(world.status(&task).await["task"]["status"], "expired");

    // An approval that ran out: the status is terminal, and the rest says it.
    let task = world.requested().await;
    world.decide(&task, "approve").await;
    let title = |task: &Value| {
        task["task"]["display"]["title"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    world.clock.advance(Duration::from_secs(59));
    let open = world.status(&task).await;
    assert!(title(&open).ends_with("approved; evaluate again"), "{open}");
    world.clock.advance(Duration::from_secs(1));
    let over = world.status(&task).await;
    assert!(
        title(&over).ends_with("approved, and not used in time"),
        "{over}"
    );
    assert_eq!(over["task"]["status"], "approved");
    let until = over["result"]["approval"]["approved_until"]
        .as_str()
        .unwrap();
    let until: creto_types::Timestamp = until.parse().unwrap();
    assert_eq!(until, world.clock.now());
    let no = world.evaluate(approved(&publishing(), &over)).await;
    assert_eq!(no["context"]["reason"], "grant_expired", "{no}");

    for id in ["ovr_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e", "x"] {
        let answer = world.get(&format!("{REQUESTS}/{id}"), &world.agent).await;
        assert_eq!(answer.problem(), (404, "not_found".to_owned()));
        assert_eq!(answer.json()["type"], format!("{PROFILE}unknown_task"));
    }
}

#[tokio::test]
async fn what_no_human_can_let_through_is_not_asked_for() {
    let world = World::new().await;
    // What the denial was for has changed by the time it is requested.
    let denied = world.evaluate(publishing()).await;
    let body = requesting(&publishing(), &denied);
    let starter = creto_governor::PolicyFiles::starter();
    let publish = async |change: &dyn Fn(&str) -> String| {
        let mut files = starter.files().clone();
        let text = change(&files["release.cedar"]);
        files.insert("release.cedar".to_owned(), text);
        files.remove("release.test.json");
        let request = json!({ "files": files, "reason": "changed" });
        let answer = world.post("/v1/policies", &world.owner, request).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    };
    publish(&|text| text.replace("@oversight(\"release\")", "")).await;
    assert_eq!(
        world.refused(&body).await,
        (400, "not_requestable".to_owned())
    );
    let me = async || world.get("/v1/self", &world.agent).await.json();
    let before = me().await;
    publish(&|text| text.replace("unless { context.oversight.approved }", "when { false }")).await;
    assert_eq!(
        world.refused(&body).await,
        (400, "not_requestable".to_owned())
    );
    assert_eq!(
        me().await["chain"][0]["balance"],
        before["chain"][0]["balance"],
        "what is allowed now was not asked for, and is given back"
    );
}
