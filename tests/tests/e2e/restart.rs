//! What was acknowledged survives SIGKILL, and a repeated call is the same call.

use creto_client::Client;
use serde_json::{Value, json};

use crate::harness::{Server, code, delegation};

/// The whole answer to a call with this idempotency key.
fn again(agent: &Client, path: &str, body: &Value, key: &str) -> Value {
    agent.post_with_key(path, body, key).unwrap()
}

#[test]
fn the_same_key_gives_the_same_answer_after_a_crash() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    let owner = server.owner();

    let action = json!({
        "action": "changelog.draft", "resource": "repo:creto", "args": {"n": 1}, "units": 2,
    });
    let submitted = again(&agent, "/v1/actions", &action, "submit-1");
    let path = format!(
        "/v1/actions/{}/settle",
        submitted["action_id"].as_str().unwrap()
    );
    let units = json!({"units": 1});
    let settled = again(&agent, &path, &units, "settle-1");
    let principal = json!({"name": "third", "kind": "agent"});
    let made = again(&owner, "/v1/principals", &principal, "make-1");
    let link = delegation("third", "0.10");
    let granted = again(&owner, "/v1/delegations", &link, "grant-1");

    server.kill_and_restart();
    let (agent, owner) = (server.agent(&worker), server.owner());
    assert_eq!(again(&agent, "/v1/actions", &action, "submit-1"), submitted);
    assert_eq!(again(&agent, &path, &units, "settle-1"), settled);
    assert_eq!(again(&owner, "/v1/principals", &principal, "make-1"), made);
    assert_eq!(again(&owner, "/v1/delegations", &link, "grant-1"), granted);

    // The same key for anything else is refused, and is nothing to anybody else.
    let mut other = action.clone();
    other["args"]["n"] = json!(2);
    for (path, body) in [
        ("/v1/actions", &other),
        (path.as_str(), &json!({"units": 2})),
    ] {
        let key = if path == "/v1/actions" {
            "submit-1"
        } else {
            "settle-1"
        };
        assert_eq!(
            code(agent.post_with_key(path, body, key)),
            "idempotency_key_reused"
        );
    }
    let usage = owner.get("/v1/usage").unwrap();
    assert_eq!(usage["lines"][0]["units"], 1, "{usage}");
}

#[test]
fn a_decision_and_its_evidence_survive_together() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    for round in 0..3 {
        let agent = server.agent(&worker);
        let body = json!({
            "action": "changelog.draft", "resource": "repo:creto",
            "args": {"round": round}, "units": 1,
        });
        let answer = agent.post("/v1/actions", &body).unwrap();
        assert_eq!(answer["outcome"], "allow", "{answer}");
        server.kill_and_restart();
        let leaf = answer["leaf"].as_u64().unwrap();
        let stored = server
            .owner()
            .get(&format!("/v1/audit/leaves/{leaf}"))
            .unwrap();
        assert_eq!(stored["index"], leaf);
        assert_eq!(
            stored["record"]["action_id"], answer["action_id"],
            "{stored}"
        );
        let path = format!(
            "/v1/actions/{}/settle",
            answer["action_id"].as_str().unwrap()
        );
        let settled = server
            .agent(&worker)
            .post(&path, &json!({"units": 1}))
            .unwrap();
        assert_eq!(settled["state"], "settled");
    }
}

#[test]
fn a_held_action_waits_over_a_crash() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let body = json!({
        "action": "release.publish", "resource": "repo:creto",
        "args": {"version": "1.0.0"}, "units": 1,
    });
    let held = server.agent(&worker).post("/v1/actions", &body).unwrap();
    let id = held["oversight"]["request_id"].as_str().unwrap();
    server.kill_and_restart();
    let path = format!("/v1/oversight/requests/{id}");
    server
        .owner()
        .post(&format!("{path}/approve"), &json!({}))
        .unwrap();
    server.kill_and_restart();

    let agent = server.agent(&worker);
    let request = agent.get(&path).unwrap();
    assert_eq!(request["state"], "approved");
    let mut granted = body.clone();
    granted["grant"] = request["grant"].clone();
    let mut changed = granted.clone();
    changed["args"]["version"] = json!("1.0.1");
    let answer = agent.post("/v1/actions", &changed).unwrap();
    assert_eq!(
        answer["reason"]["code"], "grant_action_mismatch",
        "{answer}"
    );
    assert_eq!(
        agent.post("/v1/actions", &granted).unwrap()["outcome"],
        "allow"
    );
    server.kill_and_restart();
    let answer = server.agent(&worker).post("/v1/actions", &granted).unwrap();
    assert_eq!(answer["reason"]["code"], "grant_used", "{answer}");
}
