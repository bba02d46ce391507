//! Limits that are set while agents work.

use creto_client::Client;
use serde_json::{Value, json};

use crate::harness::{Server, Site, code, creto, draft, refused, said, set as configured};

fn set(who: &Client, body: &Value) -> Value {
    who.post("/v1/limits", body).unwrap()
}

fn listed(server: &Server, id: &str) -> Value {
    let all = server.owner().get("/v1/limits").unwrap();
    let items = all["items"].as_array().unwrap();
    items.iter().find(|item| item["id"] == id).unwrap().clone()
}

fn units(limit: &Value, part: &str) -> u64 {
    limit["balance"][part]["units"].as_u64().unwrap()
}

fn settle(agent: &Client, allowed: &Value, units: u64) -> Value {
    let id = allowed["action_id"].as_str().unwrap();
    let body = json!({ "units": units });
    agent
        .post(&format!("/v1/actions/{id}/settle"), &body)
        .unwrap()
}

#[test]
fn a_limit_holds_is_lowered_in_use_and_survives_a_kill() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    let first = draft(&agent).unwrap();
    settle(&agent, &first, 1);

    let body = json!({
        "scope": {"agent": "worker"}, "event": "changelog.draft",
        "limit": {"units": 3}, "window": "monthly", "time_zone": "Europe/Berlin",
    });
    let limit = set(&server.owner(), &body);
    let id = limit["id"].as_str().unwrap().to_owned();
    assert_eq!(draft(&agent).unwrap()["outcome"], "allow");
    let open = draft(&agent).unwrap();
    let refused = draft(&agent).unwrap();
    assert_eq!(refused["outcome"], "quota_exceeded", "{refused}");
    assert_eq!(refused["reason"]["code"], "limit_exceeded");
    let quota = &refused["quota"];
    assert_eq!(quota["scope"], "agent");
    assert_eq!(quota["principal"], "worker");
    assert_eq!(quota["event"], "changelog.draft");
    assert_eq!(quota["limit"], json!({"units": 3}));
    assert_eq!(quota["used"], json!({"units": 3}));
    assert_eq!(quota["requested"], json!({"units": 1}));
    let resets: creto_types::Timestamp = quota["resets_at"].as_str().unwrap().parse().unwrap();
    let wait = refused["retry_after_ms"].as_u64().unwrap();
    let until = resets.duration_since(crate::harness::now());
    let off = i128::from(wait) - until.as_millis();
    assert!((0..60_000).contains(&off), "{wait} ms to {resets}");

    // Lowered below what is used: the same limit, and nothing more passes.
    let lowered = set(
        &server.owner(),
        &json!({
            "scope": {"agent": "worker"}, "event": "changelog.draft",
            "limit": {"units": 2}, "window": "monthly", "time_zone": "Europe/Berlin",
        }),
    );
    assert_eq!(lowered["id"], id);
    settle(&agent, &open, 0);
    assert_eq!(draft(&agent).unwrap()["outcome"], "quota_exceeded");

    let before = listed(&server, &id);
    assert_eq!((units(&before, "used"), units(&before, "reserved")), (1, 1));
    server.kill_and_restart();
    assert_eq!(
        listed(&server, &id),
        before,
        "the counters are the ledger's"
    );
    let agent = server.agent(&worker);
    assert_eq!(draft(&agent).unwrap()["outcome"], "quota_exceeded");
    let path = format!("/v1/limits/{id}/remove");
    server.owner().post(&path, &json!({})).unwrap();
    assert_eq!(draft(&agent).unwrap()["outcome"], "allow");
}

#[test]
fn a_threshold_is_on_record_once_whatever_restarts_come_between() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let body = json!({
        "scope": "organization", "limit": {"units": 4}, "window": "total",
        "on_exceed": "allow_with_overage", "thresholds": [50, 100],
    });
    let limit = set(&server.owner(), &body);
    let thresholds = |server: &Server| {
        let mut found = Vec::new();
        for leaf in 0.. {
            let Ok(answer) = server.owner().get(&format!("/v1/audit/leaves/{leaf}")) else {
                break;
            };
            let record = &answer["record"];
            if record["kind"] == "limit.threshold" {
                assert_eq!(record["body"]["limit_id"], limit["id"]);
                found.push(record["body"]["threshold"].as_u64().unwrap());
            }
        }
        found
    };
    let until = |server: &Server, expected: &[u64]| {
        for _ in 0..400 {
            if thresholds(server) == expected {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{:?}", thresholds(server));
    };
    let agent = server.agent(&worker);
    draft(&agent).unwrap();
    draft(&agent).unwrap();
    until(&server, &[50]);
    server.kill_and_restart();
    let agent = server.agent(&worker);
    draft(&agent).unwrap();
    assert!(draft(&agent).unwrap().get("overage").is_none());
    until(&server, &[50, 100]);
    let over = draft(&agent).unwrap();
    assert_eq!(
        (&over["outcome"], &over["overage"]),
        (&json!("allow"), &json!(true))
    );
    let settled = settle(&agent, &over, 1);
    assert_eq!(settled["overage"], true);
    server.kill_and_restart();
    let agent = server.agent(&worker);
    let more = draft(&agent).unwrap();
    assert_eq!(more["overage"], true);
    until(&server, &[50, 100]);
}

#[test]
fn who_may_set_what() {
    let server = Server::fresh();
    let (planner, worker) = server.chain("1.00");
    let on = |delegation: &str, limit: &str| {
        json!({
            "scope": {"delegation": delegation}, "window": "total",
            "limit": {"amount": limit, "currency": "USD"},
        })
    };
    let (as_planner, as_worker) = (server.agent(&planner), server.agent(&worker));
    let own = as_planner.post("/v1/limits", &on(&worker, "0.02")).unwrap();
    assert_eq!(own["set_by"], "planner");
    let raised = as_planner.post("/v1/limits", &on(&worker, "1.00"));
    assert_eq!(raised.unwrap()["id"], own["id"]);
    let above = as_planner.post("/v1/limits", &on(&worker, "1.01"));
    assert_eq!(code(above), "invalid_request");
    for (who, body) in [
        (&as_worker, on(&worker, "0.5")),
        (&as_planner, on(&planner, "0.5")),
    ] {
        assert_eq!(code(who.post("/v1/limits", &body)), "not_found");
    }
    let of_org = json!({"scope": "organization", "limit": {"units": 1}, "window": "daily"});
    assert_eq!(code(as_planner.post("/v1/limits", &of_org)), "forbidden");
    // What the owner tightens, the delegator does not loosen.
    server
        .owner()
        .post("/v1/limits", &on(&worker, "0.01"))
        .unwrap();
    assert_eq!(
        code(as_planner.post("/v1/limits", &on(&worker, "1.00"))),
        "forbidden"
    );
    let refused = {
        assert_eq!(draft(&as_worker).unwrap()["outcome"], "allow");
        draft(&as_worker).unwrap()
    };
    assert_eq!(refused["quota"]["delegation"], worker);
    let rate = json!({"scope": "every_agent", "per_second": 1, "burst": 1});
    assert_eq!(code(as_planner.post("/v1/rates", &rate)), "forbidden");
}

#[test]
fn limits_and_rates_from_the_command_line() {
    let server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let run = |words: &[&str]| {
        let output = creto(server.path(), words);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&[
        "limit",
        "set",
        "5 units",
        "--agent",
        "worker",
        "--window",
        "daily",
        "--grace",
        "1 unit",
        "--time-zone",
        "Asia/Tokyo",
        "--thresholds",
        "50,100",
    ]);
    let list = run(&["limit", "list"]);
    assert!(
        list.contains("agent worker") && list.contains("5 units"),
        "{list}"
    );
    let json: Value = serde_json::from_str(&run(&["--json", "limit", "list"])).unwrap();
    let id = json["items"][0]["id"].as_str().unwrap().to_owned();
    run(&["limit", "remove", &id]);
    assert!(run(&["limit", "list"]).contains("No limits"));

    run(&[
        "rate",
        "set",
        "--agent",
        "worker",
        "--event",
        "changelog.draft",
        "--per-minute",
        "1",
        "--burst",
        "1",
    ]);
    let listed = run(&["rate", "list"]);
    assert!(listed.contains("changelog.draft"), "{listed}");
    assert!(listed.contains("1 a minute"), "{listed}");
    let both = json!({"scope": "organization", "per_second": 1, "per_hour": 1, "burst": 1});
    let none = json!({"scope": "organization", "burst": 1});
    for body in [both, none] {
        let refused = server.owner().post("/v1/rates", &body).unwrap_err();
        assert!(refused.to_string().contains("per_minute"), "{refused}");
    }
    let agent = server.agent(&worker);
    let answers: Vec<Value> = (0..3).map(|_| draft(&agent).unwrap()).collect();
    let limited = answers
        .iter()
        .find(|answer| answer["outcome"] == "rate_limited")
        .expect("one call a minute");
    assert_eq!(limited["rate"]["principal"], "worker");
    assert_eq!(limited["rate"]["event"], "changelog.draft");
    let wait = limited["retry_after_ms"].as_u64().unwrap();
    assert!((2_000..=60_000).contains(&wait), "{wait}");
}

/// Whoever counts connections no more ends what limits them first.
#[test]
fn a_limit_of_connections_is_not_left_uncounted() {
    let site = Site::new();
    let count = |counted: bool| {
        move |table: &mut toml::Table| {
            configured(table, &["runtime", "enabled"], true);
            configured(table, &["runtime", "egress", "counted"], counted);
        }
    };
    site.configure(count(false));
    let mut server = site.start();
    let body = json!({
        "scope": "organization", "event": "network_egress",
        "limit": {"units": 1}, "window": "total",
    });
    let uncounted = server.owner().post("/v1/limits", &body);
    assert_eq!(code(uncounted), "unsupported");

    server.stop();
    server.configure(count(true));
    server.restart();
    let limit = set(&server.owner(), &body);
    let id = limit["id"].as_str().unwrap();
    server.stop();
    server.configure(count(false));
    let why = refused(server.path(), &["serve"], "unsupported");
    for part in [id, "runtime.egress.counted"] {
        assert!(why.contains(part), "{part} in {why}");
    }

    server.configure(count(true));
    server.restart();
    let removal = format!("/v1/limits/{id}/remove");
    server.owner().post(&removal, &json!({})).unwrap();
    server.stop();
    server.configure(count(false));
    server.restart();
}
