//! gRPC, called by a client that others wrote: Python's `grpcio`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use creto_client::{Client, read_credential};
use serde_json::{Value, json};

use crate::harness::{Server, Site, creto, delegation, granted, python, said, set};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Somebody who calls.
pub(crate) struct Caller {
    child: Child,
    calls: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Caller {
    pub(crate) fn of(address: &str) -> Self {
        let mut child = python("grpc_caller.py", "grpc")
            .arg(address)
            .arg(repository().join("crates/api/proto/proto"))
            // A proxy of the machine's is not meant for the loopback address.
            .env("no_grpc_proxy", "*")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            calls: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    pub(crate) fn call(&mut self, call: &Value) -> Value {
        writeln!(self.calls.as_mut().unwrap(), "{call}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the caller gave up on {call}: {error}"));
        let id = said["metadata"]["x-request-id"]
            .as_str()
            .unwrap_or_default();
        assert!(id.starts_with("req_"), "{said}");
        said
    }

    fn ask(&mut self, token: &str, method: &str, request: Value) -> Value {
        let call = json!({"method": method, "token": token, "request": request});
        let mut said = self.call(&call);
        assert!(said.get("status").is_none(), "{said}");
        said["answer"].take()
    }

    /// The status, the product's own code and its class.
    pub(crate) fn refused(&mut self, call: &Value) -> (String, String, String) {
        let said = self.call(call);
        let info = &said["details"]["ErrorInfo"];
        assert_eq!(info["domain"], "creto", "{said}");
        assert_eq!(
            said["details"]["RequestInfo"]["requestId"],
            said["metadata"]["x-request-id"]
        );
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            text(&said["status"]),
            text(&info["metadata"]["code"]),
            text(&info["metadata"]["class"]),
        )
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.calls = None;
        let _ = self.child.wait();
    }
}

/// With gRPC on a port that the system chooses.
pub(crate) fn serving() -> (Server, SocketAddr) {
    let site = Site::new();
    site.configure(|table| set(table, &["server", "grpc_listen"], "127.0.0.1:0"));
    let server = site.start();
    let address = address(&server);
    (server, address)
}

/// The address that the server said when it started last.
fn address(server: &Server) -> SocketAddr {
    let log = std::fs::read_to_string(server.path().join("server.log")).unwrap();
    let mut said = log
        .lines()
        .filter_map(|line| line.strip_prefix("answering gRPC on "));
    let address = said.next_back();
    address
        .unwrap_or_else(|| panic!("not said: {log}"))
        .parse()
        .unwrap()
}

fn token(server: &Server, delegation: &str) -> String {
    let body = json!({ "delegation": delegation });
    let issued = server.owner().post("/v1/tokens", &body).unwrap();
    issued["token"].as_str().unwrap().to_owned()
}

/// An AuthZEN evaluation in the words of `CheckRequest`.
fn as_check(evaluation: &Value) -> Value {
    json!({
        "subject": {"type": evaluation["subject"]["type"], "id": evaluation["subject"]["id"]},
        "action": evaluation["action"]["name"],
        "resource": evaluation["resource"],
    })
}

/// The one decision, in the words of both.
fn same(check: &Value, evaluation: &Value) {
    let context = &evaluation["context"];
    // Protocol buffers leave out what is false or empty.
    let permitted = check.get("permitted").unwrap_or(&Value::Bool(false));
    assert_eq!(permitted, &evaluation["decision"], "{check} {evaluation}");
    let outcome = context["outcome"].as_str().unwrap().to_uppercase();
    assert_eq!(check["outcome"], format!("OUTCOME_{outcome}"));
    assert_eq!(check["reason"]["code"], context["reason"]);
    assert_eq!(check["reason"]["message"], context["reason_user"]["en"]);
    let none = json!([]);
    assert_eq!(
        check.get("policy_ids").unwrap_or(&none),
        &context["policy_ids"]
    );
    let held = check["outcome"] == "OUTCOME_REQUIRES_OVERSIGHT";
    assert_eq!(check["approval"].is_object(), held, "{check}");
    // AuthZEN offers it to whoever may request it alone.
    if let Some(offered) = context.get("access_request") {
        assert_eq!(check["approval"]["kind"], offered["template"], "{check}");
    }
}

#[test]
fn the_answer_is_that_of_http() {
    let (server, address) = serving();
    let (_, worker) = server.chain("1.00");
    let token = token(&server, &worker);
    let agent = server.agent(&worker);
    let owner = read_credential(&server.path().join("data/owner.credential")).unwrap();
    let mut caller = Caller::of(&address.to_string());
    let evaluation = |id: &str, action: &str, resource: &str| {
        json!({
            "subject": {"type": "agent", "id": id},
            "action": {"name": action},
            "resource": {"type": "Resource", "id": resource},
        })
    };
    let questions = [
        evaluation("worker", "history.read", "repo:creto"),
        evaluation("worker", "history.read", "repo:other"),
        evaluation("worker", "release.publish", "repo:creto"),
        evaluation("worker", "network_egress", "repo:creto"),
        evaluation("worker", "no.such", "repo:creto"),
    ];
    let mut outcomes = Vec::new();
    for question in &questions {
        let there = agent.post("/access/v1/evaluation", question).unwrap();
        let here = caller.ask(&token, "Check", as_check(question));
        same(&here, &there);
        let offered = there["context"]["access_request"].is_object();
        assert_eq!(offered, here["approval"].is_object(), "{there}");
        let there = server
            .owner()
            .post("/access/v1/evaluation", question)
            .unwrap();
        let here = caller.ask(owner.expose(), "Check", as_check(question));
        same(&here, &there);
        outcomes.push(here["outcome"].as_str().unwrap().to_owned());
    }
    outcomes.sort();
    outcomes.dedup();
    assert_eq!(
        outcomes,
        [
            "OUTCOME_ALLOW",
            "OUTCOME_DENY",
            "OUTCOME_REQUIRES_OVERSIGHT"
        ],
        "the questions tell the outcomes apart"
    );

    let batch = json!({ "evaluations": questions });
    let there = agent.post("/access/v1/evaluations", &batch).unwrap();
    let checks: Vec<Value> = questions.iter().map(as_check).collect();
    let here = caller.ask(&token, "CheckBatch", json!({ "checks": checks }));
    let answers = there["evaluations"].as_array().unwrap();
    let items = here["items"].as_array().unwrap();
    assert_eq!(items.len(), answers.len());
    for (item, answer) in items.iter().zip(answers) {
        same(&item["answer"], answer);
    }
    let request = json!({"checks": checks, "rule": "BATCH_RULE_DENY_ON_FIRST_DENY"});
    let here = caller.ask(&token, "CheckBatch", request);
    assert_eq!(here["items"].as_array().unwrap().len(), 2);
}

fn refusal(status: &str, code: &str, class: &str) -> (String, String, String) {
    (status.to_owned(), code.to_owned(), class.to_owned())
}

fn spent(agent: &Client) -> Value {
    agent.get("/v1/self").unwrap()["chain"][1]["balance"].clone()
}

#[test]
fn an_action_is_reserved_once_settled_and_held_to_its_budget() {
    let (mut server, at) = serving();
    let (_, worker) = server.chain("0.03");
    let token = token(&server, &worker);
    let agent = server.agent(&worker);
    let mut caller = Caller::of(&at.to_string());
    let draft = |units: &str, key: &str| {
        json!({
            "action": "changelog.draft", "resource": "repo:creto", "units": units,
            "args_json": "{\"from\": \"v1\"}", "idempotency_key": key,
        })
    };
    let first = caller.ask(&token, "Submit", draft("2", "one"));
    assert_eq!(first["outcome"], "OUTCOME_ALLOW", "{first}");
    assert_eq!(first["cost"], json!({"amount": "0.02", "currency": "USD"}));
    assert!(
        first["reserved_until"].is_string() && first["leaf"].is_string(),
        "{first}"
    );
    let balance = spent(&agent);
    assert_eq!(balance["reserved"]["amount"], "0.02", "{balance}");
    assert_eq!(caller.ask(&token, "Submit", draft("2", "one")), first);
    assert_eq!(spent(&agent), balance, "one key reserves once");
    let call = json!({"method": "Submit", "token": token, "request": draft("1", "one")});
    assert_eq!(
        caller.refused(&call),
        refusal("FAILED_PRECONDITION", "idempotency_key_reused", "permanent")
    );

    // The same key and request over HTTP is the same action.
    let there = agent
        .post_with_key(
            "/v1/actions",
            &json!({
                "action": "changelog.draft", "resource": "repo:creto", "units": 2,
                "args": {"from": "v1"},
            }),
            "one",
        )
        .unwrap();
    assert_eq!(there["action_id"], first["action_id"]);

    let refused = caller.ask(&token, "Submit", draft("2", "two"));
    assert_eq!(refused["outcome"], "OUTCOME_QUOTA_EXCEEDED", "{refused}");
    let body = json!({
        "action": "changelog.draft", "resource": "repo:creto", "units": 2, "args": {"from": "v1"},
    });
    let there = agent.post("/v1/actions", &body).unwrap();
    assert_eq!(refused["reason"]["code"], there["reason"]["code"]);
    let quota = &refused["quota"];
    assert_eq!(
        quota["subject"]["scope"], there["quota"]["scope"],
        "{refused} {there}"
    );
    assert_eq!(quota["subject"]["delegation"], worker.as_str());
    assert_eq!(quota["subject"]["principal"], "worker");
    for field in ["limit", "used", "requested"] {
        assert_eq!(quota[field]["money"], there["quota"][field], "{field}");
    }
    assert_eq!(quota["used"]["money"]["amount"], "0.02");

    // What was reserved over gRPC outlives the server, and is settled there.
    let settle = json!({"action_id": first["action_id"], "units": "1"});
    drop(caller);
    server.kill_and_restart();
    let mut caller = Caller::of(&address(&server).to_string());
    let settled = caller.ask(&token, "Settle", settle.clone());
    assert_eq!(settled["settlement"]["state"], "settled", "{settled}");
    assert_eq!(settled["settlement"]["cost"]["amount"], "0.01");
    let call = json!({"method": "Settle", "token": token, "request": settle});
    let (status, ..) = caller.refused(&call);
    assert_eq!(status, "FAILED_PRECONDITION");
    let balance = spent(&agent);
    assert_eq!(balance["used"]["amount"], "0.01", "{balance}");
    let one = caller.ask(&token, "Submit", draft("1", "three"));
    let release = json!({"action_id": one["action_id"]});
    let released = caller.ask(&token, "Release", release);
    assert_eq!(released["settlement"]["state"], "released");
    assert_eq!(spent(&agent), balance);
    drop(caller);
    server.stop();
}

#[test]
fn an_action_that_needs_a_human_goes_through_once_one_approved() {
    let (server, address) = serving();
    let (_, worker) = server.chain("1.00");
    let token = token(&server, &worker);
    let mut caller = Caller::of(&address.to_string());
    let mut request = json!({
        "action": "release.publish", "resource": "repo:creto",
        "args_json": "{\"version\": \"1.0.0\"}",
    });
    let held = caller.ask(&token, "Submit", request.clone());
    assert_eq!(held["outcome"], "OUTCOME_REQUIRES_OVERSIGHT", "{held}");
    let id = held["oversight"]["request_id"].as_str().unwrap();
    let path = format!("/v1/oversight/requests/{id}");
    let waiting = server.owner().get(&path).unwrap();
    assert_eq!(waiting["state"], "pending");
    assert_eq!(waiting["args"], json!({"version": "1.0.0"}));
    assert_eq!(waiting["digest"], held["oversight"]["digest"]);
    server
        .owner()
        .post(&format!("{path}/approve"), &json!({}))
        .unwrap();
    let approved = server.agent(&worker).get(&path).unwrap();
    request["grant"] = approved["grant"].clone();
    let mut other = request.clone();
    other["args_json"] = json!("{\"version\": \"2.0.0\"}");
    let denied = caller.ask(&token, "Submit", other);
    assert_eq!(denied["outcome"], "OUTCOME_DENY");
    assert_eq!(denied["reason"]["code"], "grant_action_mismatch");
    let done = caller.ask(&token, "Submit", request);
    assert_eq!(done["outcome"], "OUTCOME_ALLOW", "{done}");
}

#[test]
fn what_is_refused_says_why_in_the_words_of_google_rpc() {
    let (server, address) = serving();
    let (planner, worker) = server.chain("1.00");
    let token = token(&server, &worker);
    let mut caller = Caller::of(&address.to_string());
    let check = json!({"action": "history.read", "resource": {"id": "repo:creto"}});
    let call = |token: Option<&str>, method: &str, request: &Value| json!({"method": method, "token": token, "request": request});
    assert_eq!(
        caller.refused(&call(None, "Check", &check)),
        refusal("UNAUTHENTICATED", "unauthenticated", "security")
    );
    assert_eq!(
        caller.refused(&call(Some("nonsense"), "Submit", &json!({}))),
        refusal("UNAUTHENTICATED", "invalid_token", "security")
    );
    let mut about = check.clone();
    about["subject"] = json!({"type": "agent", "id": "planner"});
    assert_eq!(
        caller.refused(&call(Some(&token), "Check", &about)),
        refusal("PERMISSION_DENIED", "forbidden", "security")
    );
    let said = caller.call(&call(
        Some(&token),
        "Check",
        &json!({"action": "history.read"}),
    ));
    assert_eq!(said["status"], "INVALID_ARGUMENT", "{said}");
    assert_eq!(said["details"]["ErrorInfo"]["reason"], "INVALID_REQUEST");
    let violations = &said["details"]["BadRequest"]["fieldViolations"];
    assert_eq!(violations[0]["field"], "resource.id", "{said}");
    let many = json!({"checks": vec![check.clone(); 101]});
    let said = caller.call(&call(Some(&token), "CheckBatch", &many));
    assert_eq!(
        said["details"]["BadRequest"]["fieldViolations"][0]["field"],
        "checks"
    );
    let large = json!({"action": "history.read", "args_json": "x".repeat(2 * 1024 * 1024)});
    assert_eq!(
        caller.refused(&call(Some(&token), "Submit", &large)),
        refusal("OUT_OF_RANGE", "body_too_large", "permanent")
    );
    let missing = json!({"action_id": "act_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e"});
    assert_eq!(
        caller.refused(&call(Some(&token), "Release", &missing)),
        refusal("NOT_FOUND", "reservation_not_found", "permanent")
    );

    let path = format!("/v1/delegations/{planner}/revoke");
    server.owner().post(&path, &json!({})).unwrap();
    assert_eq!(
        caller.refused(&call(Some(&token), "Check", &check)),
        refusal("UNAUTHENTICATED", "delegation_revoked", "security")
    );
    let metrics = String::from_utf8(server.owner().get_bytes("/metrics").unwrap()).unwrap();
    let line = "creto_grpc_requests_total{method=\"/creto.authz.v1.Authz/Check\",code=\"PERMISSION_DENIED\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn an_agent_that_asks_too_fast_is_told_when_to_come_back() {
    let site = Site::new();
    site.configure(|table| {
        set(table, &["server", "grpc_listen"], "127.0.0.1:0");
        set(table, &["metering", "rate_per_second"], 1);
        set(table, &["metering", "burst"], 2);
    });
    let server = site.start();
    let address = address(&server);
    server.make_agent("planner");
    let link = granted(&server.owner(), &delegation("planner", "1.00"));
    let token = token(&server, &link);
    let mut caller = Caller::of(&address.to_string());
    let request = json!({"action": "changelog.draft", "resource": "repo:creto"});
    let limited = (0..100)
        .map(|_| caller.ask(&token, "Submit", request.clone()))
        .find(|answer| answer["outcome"] != "OUTCOME_ALLOW")
        .expect("the rate holds");
    assert_eq!(limited["outcome"], "OUTCOME_RATE_LIMITED", "{limited}");
    assert!(
        limited["retry_after"].as_str().unwrap().ends_with('s'),
        "{limited}"
    );

    let check = json!({"action": "history.read", "resource": {"id": "repo:creto"}});
    let call = json!({"method": "Check", "token": token, "request": check});
    let refused = (0..10_000)
        .map(|_| caller.call(&call))
        .find(|said| said.get("status").is_some())
        .expect("questions have a rate, too");
    assert_eq!(refused["status"], "RESOURCE_EXHAUSTED", "{refused}");
    assert_eq!(
        refused["details"]["ErrorInfo"]["metadata"]["code"],
        "too_many_requests"
    );
    assert!(
        refused["details"]["RetryInfo"]["retryDelay"].is_string(),
        "{refused}"
    );
}

fn digest(number: usize, n: usize) -> [u8; 32] {
    creto_crypto::sha256(format!("{number}-{n}").as_bytes())
}

/// Where the events of one answer stand, and their timestamps.
fn placed(ordered: &Value) -> Vec<(u64, u64)> {
    // Protocol buffers leave out what is zero, and write 64 bits as text.
    let number = |value: &Value| -> u64 { value.as_str().unwrap_or("0").parse().unwrap() };
    let first = number(&ordered["first"]);
    let timestamps = ordered["timestamps"].as_array().unwrap().iter();
    (first..).zip(timestamps.map(number)).collect()
}

/// Order of events of others, beside everything else that the log gets, over a kill: each
/// answer that was lost is told again, and the log that a stranger checks says the same.
#[test]
fn events_are_ordered_once_beside_other_work_and_over_a_kill() {
    let (mut server, at) = serving();
    let (_, worker) = server.chain("4.00");
    let owner = read_credential(&server.path().join("data/owner.credential")).unwrap();
    let call = |number: usize, events: usize| {
        let event = |n: usize| {
            // Bytes are base64 in JSON ("ProtoJSON Format").
            let sha256 = STANDARD.encode(digest(number, n));
            json!({"sha256": sha256, "label": format!("payment.{number}.{n}")})
        };
        let events: Vec<Value> = (0..events).map(event).collect();
        json!({
            "service": "Timestamps", "method": "Order", "token": owner.expose(),
            "request": {"events": events, "idempotency_key": format!("order-{number}")},
        })
    };
    let order = |caller: &mut Caller, number: usize| {
        let said = caller.call(&call(number, number % 5 + 1));
        assert!(said.get("status").is_none(), "{said}");
        placed(&said["answer"])
    };
    let address = at.to_string();
    let mut told: Vec<Vec<(u64, u64)>> = Vec::new();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..2)
            .map(|part| {
                let (order, address) = (&order, &address);
                scope.spawn(move || {
                    let mut caller = Caller::of(address);
                    let numbers = (0..40).filter(|number| number % 2 == part);
                    numbers
                        .map(|n| (n, order(&mut caller, n)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let agent = server.agent(&worker);
        let work = scope.spawn(move || {
            for _ in 0..60 {
                crate::harness::draft(&agent).unwrap();
            }
        });
        let mut all: Vec<_> = callers
            .into_iter()
            .flat_map(|caller| caller.join().unwrap())
            .collect();
        all.sort();
        told = all.into_iter().map(|(_, placed)| placed).collect();
        work.join().unwrap();
    });
    for (number, placed) in told.iter().enumerate() {
        assert_eq!(placed.len(), number % 5 + 1);
    }
    let mut every: Vec<_> = told.concat();
    every.sort_unstable();
    for pair in every.windows(2) {
        assert!(pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1, "{pair:?}");
    }

    server.kill_and_restart();
    let mut caller = Caller::of(&self::address(&server).to_string());
    for (number, placed) in told.iter().enumerate() {
        assert_eq!(order(&mut caller, number), *placed, "order-{number} again");
    }
    let later = order(&mut caller, told.len());
    assert!(later[0] > *every.last().unwrap(), "{later:?}");
    let mut again = call(0, 3);
    again["request"]["idempotency_key"] = json!("order-0");
    assert_eq!(caller.refused(&again).1, "idempotency_key_reused");
    told.push(later);
    drop(caller);

    // What a stranger finds: every event at its place, and nothing else of the kind.
    let exported = creto(server.path(), &["audit", "export", "evidence"]);
    assert!(exported.status.success(), "{}", said(&exported));
    let verified = creto(server.path(), &["verify", "evidence"]);
    assert!(verified.status.success(), "{}", said(&verified));
    let mut expected = Vec::new();
    for (number, placed) in told.iter().enumerate() {
        for (n, (place, ts)) in placed.iter().enumerate() {
            let at = creto_consensus::HybridTimestamp::from_u64(*ts).to_string();
            let (label, digest) = (format!("payment.{number}.{n}"), digest(number, n));
            expected.push((*place, at, label, hex::encode(digest)));
        }
    }
    expected.sort();
    let client = server.owner();
    let leaves = (0..).map_while(|n: u64| client.get(&format!("/v1/audit/leaves/{n}")).ok());
    let found: Vec<_> = leaves
        .map(|answer| answer["record"].clone())
        .filter(|leaf| leaf["kind"] == "event.ordered")
        .map(|leaf| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (
                leaf["index"].as_u64().unwrap(),
                text(&leaf["ts"]),
                text(&leaf["body"]["label"]),
                text(&leaf["body"]["sha256"]),
            )
        })
        .collect();
    assert_eq!(found, expected);
    server.stop();
}

#[test]
fn it_is_off_by_default_and_listens_on_an_address_of_its_own() {
    let site = Site::new();
    let checked = creto(site.path(), &["config", "check"]);
    assert!(
        said(&checked).contains("answers no gRPC"),
        "{}",
        said(&checked)
    );
    for listen in ["0.0.0.0:7181", "192.0.2.1:7181", "[::]:7181"] {
        site.configure(|table| set(table, &["server", "grpc_listen"], listen));
        for command in [&["serve"][..], &["config", "check"]] {
            let refused = creto(site.path(), command);
            assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
            let text = said(&refused);
            assert!(text.contains("listen_not_loopback"), "{text}");
            assert!(text.contains("server.grpc_listen"), "{text}");
        }
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    site.configure(|table| set(table, &["server", "grpc_listen"], address.as_str()));
    let refused = creto(site.path(), &["serve"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        said(&refused).contains("listen_failed"),
        "{}",
        said(&refused)
    );
    assert!(said(&refused).contains(&address), "{}", said(&refused));

    site.configure(|table| {
        let own = table["server"]["listen"].clone();
        set(table, &["server", "grpc_listen"], own);
    });
    let refused = creto(site.path(), &["config", "check"]);
    assert!(
        said(&refused).contains("server.grpc_listen"),
        "{}",
        said(&refused)
    );
    assert!(
        said(&refused).contains("config_value"),
        "{}",
        said(&refused)
    );
}

#[test]
fn the_api_s_own_port_speaks_no_http_2() {
    use std::io::Read as _;
    let (server, grpc) = serving();
    let listen = std::fs::read_to_string(server.path().join("creto.toml")).unwrap();
    let listen: toml::Table = toml::from_str(&listen).unwrap();
    let listen = listen["server"]["listen"].as_str().unwrap();
    let answer = |address: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        // The preface of HTTP/2 and an empty SETTINGS frame (RFC 9113, section 3.4).
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .unwrap();
        let mut head = [0; 4];
        stream.read_exact(&mut head).unwrap_or_default();
        head
    };
    // A SETTINGS frame: its length, and its type, 4.
    assert_eq!(answer(&grpc.to_string())[3], 4);
    let http = answer(listen);
    assert!(http == *b"HTTP" || http == [0; 4], "{http:?}");
}
