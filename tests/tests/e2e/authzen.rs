//! AuthZEN on the real program, with and without a client of somebody else's.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::{Server, creto, delegation, granted, python, said};

/// An answer as it came over the wire.
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// Who calls, with what the usual client does not show: headers.
struct Raw {
    listen: String,
    token: String,
}

impl Raw {
    fn of(server: &Server, link: &str) -> Self {
        let config = std::fs::read_to_string(server.path().join("creto.toml")).unwrap();
        let config: toml::Table = toml::from_str(&config).unwrap();
        let issued = server
            .owner()
            .post("/v1/tokens", &json!({ "delegation": link }))
            .unwrap();
        Self {
            listen: config["server"]["listen"].as_str().unwrap().to_owned(),
            token: issued["token"].as_str().unwrap().to_owned(),
        }
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.listen).unwrap();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.listen,
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        stream
            .write_all(format!("{request}\r\n{body}").as_bytes())
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    fn post_with(&self, path: &str, more: &[(&str, &str)], body: &Value) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        headers.extend(more);
        self.send("POST", path, &headers, &body.to_string())
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body)
    }

    fn get(&self, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        self.send("GET", path, &[("Authorization", &bearer)], "")
    }
}

fn asks(action: &str, resource: &str) -> Value {
    json!({
        "subject": { "type": "agent", "id": "worker" },
        "action": { "name": action },
        "resource": { "type": "Resource", "id": resource },
    })
}

/// The path of an address of this server.
fn path(url: &Value) -> String {
    let url = url.as_str().unwrap().strip_prefix("http://").unwrap();
    url[url.find('/').unwrap()..].to_owned()
}

#[test]
fn questions_are_answered_as_actions_are() {
    let server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let caller = Raw::of(&server, &worker);
    // All that a client has to know beforehand.
    let metadata = caller.send("GET", "/.well-known/authzen-configuration", &[], "");
    assert_eq!(metadata.status, 200);
    assert_eq!(metadata.header("content-type"), Some("application/json"));
    let decision_point = metadata.body["policy_decision_point"].as_str().unwrap();
    assert_eq!(decision_point, format!("http://{}", caller.listen));
    let evaluation = path(&metadata.body["access_evaluation_endpoint"]);
    let evaluations = path(&metadata.body["access_evaluations_endpoint"]);

    for (action, resource) in [
        ("history.read", "repo:creto"),
        ("history.read", "repo:other"),
        ("release.publish", "repo:creto"),
        ("payroll.run", "repo:creto"),
    ] {
        let answer = caller.post(&evaluation, &asks(action, resource));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let body = json!({ "action": action, "resource": resource, "args": {} });
        let done = server.agent(&worker).post("/v1/actions", &body).unwrap();
        assert_eq!(answer.body["decision"], done["outcome"] == "allow");
        assert_eq!(answer.body["context"]["outcome"], done["outcome"]);
        assert_eq!(answer.body["context"]["reason"], done["reason"]["code"]);
    }

    let batch = |semantic: Option<&str>| {
        let resource = |id: &str| json!({ "resource": { "type": "Resource", "id": id } });
        let mut body = json!({
            "subject": { "type": "agent", "id": "worker" },
            "action": { "name": "history.read" },
            "evaluations": [
                resource("repo:creto"), resource("repo:other"),
                { "subject": { "type": "agent", "id": "planner" },
                  "resource": { "type": "Resource", "id": "repo:creto" } },
                resource("repo:creto"),
            ],
        });
        if let Some(semantic) = semantic {
            body["options"] = json!({ "evaluations_semantic": semantic });
        }
        let answer = caller.post(&evaluations, &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["evaluations"].as_array().unwrap().clone()
    };
    let decisions = |semantic| -> Vec<bool> {
        let answers = batch(semantic);
        let decisions = answers.iter().map(|one| one["decision"].as_bool().unwrap());
        decisions.collect()
    };
    assert_eq!(decisions(None), [true, false, false, true]);
    assert_eq!(decisions(Some("execute_all")), [true, false, false, true]);
    assert_eq!(decisions(Some("deny_on_first_deny")), [true, false]);
    assert_eq!(decisions(Some("permit_on_first_permit")), [true]);
    let unanswered = batch(None)[2]["context"]["error"].clone();
    assert_eq!(unanswered["status"], 403);
    assert_eq!(unanswered["code"], "forbidden");
}

#[test]
fn requests_keep_their_names_and_errors_say_what_is_wrong() {
    let server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let caller = Raw::of(&server, &worker);
    let named = [("X-Request-ID", "bfe9eb29-ab87-4ca3-be83-a1d5d8305716")];
    let good = asks("history.read", "repo:creto");
    let mut anothers = good.clone();
    anothers["subject"]["id"] = json!("planner");
    let mut open = good.clone();
    open.as_object_mut().unwrap().remove("resource");
    let evaluation = "/access/v1/evaluation";
    for (body, status, code, field) in [
        (&good, 200, "", ""),
        (&open, 400, "invalid_body", ""),
        (&json!({ "subject": [] }), 400, "invalid_body", "subject"),
        (&anothers, 403, "forbidden", ""),
    ] {
        let answer = caller.post_with(evaluation, &named, body);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(answer.header("x-request-id"), Some(named[0].1));
        if status == 200 {
            continue;
        }
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.body["code"], code);
        assert_eq!(answer.body["status"], status);
        assert_eq!(answer.body["type"], format!("urn:creto:error:{code}"));
        if !field.is_empty() {
            assert_eq!(answer.body["field"], field, "{}", answer.body);
        }
        // The server's own name of it is what its log has.
        let own = answer.body["request_id"].as_str().unwrap();
        assert!(own.starts_with("req_"), "{own}");
    }
    let bearer = format!("Bearer {}", caller.token);
    let plain = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "text/plain"),
        named[0],
    ];
    let answer = caller.send("POST", evaluation, &plain, &good.to_string());
    assert_eq!(
        (answer.status, answer.header("x-request-id")),
        (415, Some(named[0].1))
    );
    let nobody = [("Content-Type", "application/json"), named[0]];
    let answer = caller.send("POST", evaluation, &nobody, &good.to_string());
    assert_eq!(
        (answer.status, answer.header("x-request-id")),
        (401, Some(named[0].1))
    );
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"creto\"")
    );
    let answer = caller.post(evaluation, &good);
    assert!(answer.header("x-request-id").unwrap().starts_with("req_"));
}

#[test]
fn access_is_requested_approved_and_used_once() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let caller = Raw::of(&server, &worker);
    let metadata = caller.get("/.well-known/authzen-configuration").body;
    assert_eq!(
        metadata["capabilities"],
        json!(["urn:openid:authzen:capability:access-request"])
    );
    let publishing = asks("release.publish", "repo:creto");
    let request = |denied: &Value| {
        let context = &denied["context"];
        assert_eq!(denied["decision"], false, "{denied}");
        let mut body = publishing.clone();
        body["context"] = json!({ "business_justification": "the fix is due" });
        body["denial"] = json!({
            "evaluation_id": context["evaluation_id"],
            "evaluated_at": context["evaluated_at"],
            "reason": context["reason"],
            "request_context": context["access_request"]["request_context"],
        });
        body
    };
    let denied = caller.post("/access/v1/evaluation", &publishing).body;
    let endpoint = &denied["context"]["access_request"]["endpoint"];
    assert_eq!(*endpoint, metadata["access_request_endpoint"]);
    let endpoint = path(endpoint);

    // A denial is known to the process that gave it, and to nobody else.
    server.kill_and_restart();
    let stale = caller.post(&endpoint, &request(&denied));
    assert_eq!(stale.status, 400, "{}", stale.body);
    let profile = "urn:openid:authzen:access-request:error:";
    assert_eq!(
        stale.body["type"],
        format!("{profile}invalid_denial_binding")
    );
    assert_eq!(stale.body["code"], "denial_unbound");

    let denied = caller.post("/access/v1/evaluation", &publishing).body;
    let key = [("Idempotency-Key", "the-one")];
    let asked = caller.post_with(&endpoint, &key, &request(&denied));
    assert_eq!(asked.status, 202, "{}", asked.body);
    let status = path(&asked.body["task"]["status_endpoint"]);
    assert_eq!(
        asked.header("location"),
        asked.body["task"]["status_endpoint"].as_str()
    );
    assert_eq!(caller.get(&status).body["task"]["status"], "pending");
    let again = caller.post_with(&endpoint, &key, &request(&denied));
    assert_eq!(again.body["task"]["id"], asked.body["task"]["id"]);

    // The human sees it where every request is seen, and what is durable is durable.
    let id = asked.body["task"]["id"].as_str().unwrap();
    let shown = creto(server.path(), &["oversight", "show", id]);
    assert!(said(&shown).contains("the fix is due"), "{}", said(&shown));
    let approved = creto(server.path(), &["approve", id, "--reason", "as agreed"]);
    assert!(approved.status.success(), "{}", said(&approved));
    server.kill_and_restart();
    let done = caller.get(&status).body;
    assert_eq!(done["task"]["status"], "approved");
    assert_eq!(done["result"]["mode"], "reevaluate");

    let mut evaluation = publishing.clone();
    evaluation["context"] = json!({ "approval": done["result"]["approval"] });
    let yes = caller.post("/access/v1/evaluation", &evaluation).body;
    assert_eq!(yes["decision"], true, "{yes}");
    assert_eq!(yes["context"]["approval"]["id"], id);
    let no = caller.post("/access/v1/evaluation", &evaluation).body;
    assert_eq!(no["decision"], false);
    assert_eq!(no["context"]["reason"], "grant_used");
    let action = yes["context"]["action_id"].as_str().unwrap();
    let settled = caller.post(
        &format!("/v1/actions/{action}/settle"),
        &json!({ "units": 1 }),
    );
    assert_eq!(settled.status, 200, "{}", settled.body);
    // One record leads from the decision to the settlement.
    let records = creto(server.path(), &["--json", "audit", "action", action]);
    for kind in ["action.decided", "usage.settled"] {
        assert!(said(&records).contains(kind), "{}", said(&records));
    }

    // No human is asked twice over, and a denial is told.
    let denied = caller.post("/access/v1/evaluation", &publishing).body;
    let asked = caller.post(&endpoint, &request(&denied)).body;
    let id = asked["task"]["id"].as_str().unwrap();
    let refused = creto(server.path(), &["deny", id, "--reason", "not today"]);
    assert!(refused.status.success(), "{}", said(&refused));
    let told = caller.get(&path(&asked["task"]["status_endpoint"])).body;
    assert_eq!(told["task"]["status"], "denied");
    assert_eq!(told["task"]["display"]["description"], "not today");
    assert!(told.get("result").is_none(), "{told}");
}

/// `decern` is the client of another AuthZEN decision point, published on PyPI.
#[test]
fn a_client_of_somebody_elses_gets_its_answers() {
    let server = Server::fresh();
    let (planner, worker) = server.chain("1.00");
    server.make_agent("idle");
    granted(&server.agent(&planner), &delegation("idle", "0.10"));
    let caller = Raw::of(&server, &worker);
    let output = python("authzen_client.py", "decern")
        .env("AUTHZEN_URL", format!("http://{}", caller.listen))
        .env("AUTHZEN_TOKEN", &caller.token)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["read"]["allowed"], true, "{told}");
    assert_eq!(told["read"]["context"]["outcome"], "allow");
    assert_eq!(told["read_other"]["allowed"], false);
    assert_eq!(told["read_other"]["context"]["reason"], "no_policy_permits");
    assert_eq!(told["publish"]["allowed"], false);
    assert_eq!(told["publish"]["context"]["outcome"], "requires_oversight");
    assert_eq!(told["egress"]["context"]["reason"], "right_not_delegated");
    assert_eq!(told["anothers"]["status"], 403);
    assert_eq!(told["anothers"]["code"], "forbidden");
    assert_eq!(told["unauthenticated"]["status"], 401);
    assert_eq!(told["malformed"]["status"], 400);
    assert_eq!(told["malformed"]["code"], "invalid_body");
}
