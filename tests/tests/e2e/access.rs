//! Nothing works without a credential, and each works for its holder only.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use creto_client::{ClientError, read_credential};
use creto_config::Secret;
use serde_json::json;

use crate::harness::{Server, Site, creto, said};

const READS: [&str; 19] = [
    "/v1/self",
    "/v1/principals",
    "/v1/delegations",
    "/v1/actions/act_00000000000000000000000000000000",
    "/v1/oversight/requests",
    "/access/v1/requests/ovr_00000000000000000000000000000000",
    "/v1/usage",
    "/v1/invoices",
    "/v1/limits",
    "/v1/rates",
    "/v1/policies",
    "/v1/policies/current",
    "/v1/policies/1",
    "/v1/policies/shadow",
    "/v1/sandboxes",
    "/v1/audit/checkpoint",
    "/v1/audit/leaves/0",
    "/v1/audit/export",
    "/metrics",
];

/// What agents may ask for but owners decide.
const OWNERS: [(&str, &str); 9] = [
    ("/v1/policies", r#"{"files": {}, "reason": "mine"}"#),
    (
        "/v1/policies/rollback",
        r#"{"version": 1, "reason": "mine"}"#,
    ),
    ("/v1/policies/follow-directory", r#"{"reason": "mine"}"#),
    ("/v1/policies/validate", r#"{"files": {}}"#),
    (
        "/v1/policies/dry-run",
        r#"{"files": {}, "since": "2020-01-01T00:00:00Z"}"#,
    ),
    (
        "/v1/policies/explain",
        r#"{"action": "history.read", "resource": "repo:creto"}"#,
    ),
    ("/v1/policies/shadow", r#"{"files": {}}"#),
    ("/v1/policies/shadow/stop", "{}"),
    (
        "/access/v1/evaluation",
        r#"{"subject": {"type": "agent", "id": "planner"}, "action": {"name": "history.read"},
            "resource": {"type": "Resource", "id": "repo:creto"}}"#,
    ),
];

const CHANGES: [&str; 22] = [
    "/v1/principals",
    "/v1/principals/worker/suspend",
    "/v1/principals/worker/resume",
    "/v1/principals/worker/revoke",
    "/v1/principals/worker/keys/rotate",
    "/v1/principals/worker/keys/revoke",
    "/v1/delegations",
    "/v1/delegations/lnk_00000000000000000000000000000000/revoke",
    "/v1/tokens",
    "/v1/actions",
    "/v1/actions/act_00000000000000000000000000000000/settle",
    "/v1/actions/act_00000000000000000000000000000000/release",
    "/v1/oversight/requests/ovr_00000000000000000000000000000000/approve",
    "/v1/oversight/requests/ovr_00000000000000000000000000000000/deny",
    "/v1/invoices",
    "/v1/sandboxes",
    "/v1/sandboxes/sbx_00000000000000000000000000000000/kill",
    "/v1/limits",
    "/v1/limits/lim_00000000000000000000000000000000/remove",
    "/v1/rates",
    "/access/v1/evaluations",
    "/access/v1/requests",
];

#[test]
fn nothing_works_without_a_credential() {
    let server = Server::fresh();
    let forged = Secret::new("eyJhbGciOiJub25lIn0.e30.".to_owned()).unwrap();
    let callers = [
        server.stranger(),
        server.stranger().with_credential(forged).unwrap(),
    ];
    for caller in callers {
        let status = |result: Result<(), ClientError>, what: &str| match result {
            Ok(()) => panic!("{what} was answered"),
            Err(error) => error.problem().map_or(0, |problem| problem.status),
        };
        for path in READS {
            assert_eq!(
                status(caller.get_bytes(path).map(drop), path),
                401,
                "{path}"
            );
        }
        let owners = OWNERS.map(|(path, _)| path);
        for path in CHANGES.into_iter().chain(owners) {
            let body = json!({});
            assert_eq!(
                status(caller.post(path, &body).map(drop), path),
                401,
                "{path}"
            );
        }
    }
    for open in [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/.well-known/jwks.json",
        "/.well-known/authzen-configuration",
    ] {
        assert!(server.stranger().get_bytes(open).is_ok(), "{open}");
    }
}

#[test]
fn a_renewed_credential_ends_every_earlier_one() {
    let site = Site::new();
    let renewed = || {
        let before = read_credential(&site.credential()).unwrap();
        let output = creto(site.path(), &["init", "--renew-credential"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        before
    };
    // At once, so that the tokens may well be of the same second.
    let earlier = [renewed(), renewed()];
    let server = site.start();
    for old in earlier {
        let old = server.stranger().with_credential(old).unwrap();
        let refused = old.get("/v1/self").unwrap_err();
        assert_eq!(refused.problem().map(|problem| problem.status), Some(401));
        assert_eq!(refused.reported_code(), "token_superseded");
    }
    assert_eq!(server.owner().get("/v1/self").unwrap()["kind"], "human");
}

#[test]
fn an_agent_does_not_do_the_owners_work() {
    let server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    let refused = |result: Result<_, ClientError>, what: &str| match result {
        Ok(_) => panic!("an agent may {what}"),
        Err(error) => {
            let status = error.problem().map_or(0, |problem| problem.status);
            assert!(status == 403 || status == 404, "{what}: {error}");
        }
    };
    let post = |path: &str, body| agent.post(path, &body);
    refused(
        post("/v1/principals", json!({"name": "mine", "kind": "agent"})),
        "add agents",
    );
    for change in ["suspend", "resume", "revoke", "keys/rotate"] {
        let path = format!("/v1/principals/planner/{change}");
        refused(post(&path, json!({"reason": "mine"})), change);
    }
    refused(
        post(
            "/v1/principals/planner/keys/revoke",
            json!({"kid": "k", "reason": "mine"}),
        ),
        "revoke a key",
    );
    refused(agent.get("/v1/principals"), "list principals");
    refused(agent.get("/v1/delegations"), "list delegations");
    refused(agent.get("/v1/audit/export"), "export the log");
    refused(
        post("/v1/tokens", json!({})),
        "renew the owner's credential",
    );
    refused(
        post("/v1/invoices", json!({"from": "2020-01-01T00:00:00Z"})),
        "issue invoices",
    );
    refused(
        post(
            "/v1/sandboxes",
            json!({"delegation": worker, "argv": ["/usr/bin/true"]}),
        ),
        "run programs",
    );
    for (path, body) in OWNERS {
        refused(post(path, serde_json::from_str(body).unwrap()), path);
    }
    for path in ["", "/current", "/1", "/shadow"] {
        let path = format!("/v1/policies{path}");
        refused(agent.get(&path), &path);
    }
    let me = agent.get("/v1/self").unwrap();
    assert_eq!(me["name"], "worker");
    assert_eq!(me["kind"], "agent");
}

#[test]
fn an_agent_cannot_approve_what_it_asks_for() {
    let server = Server::fresh();
    let (planner, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    let body = json!({
        "action": "release.publish", "resource": "repo:creto",
        "args": {"version": "1"}, "units": 1,
    });
    let answer = agent.post("/v1/actions", &body).unwrap();
    assert_eq!(answer["outcome"], "requires_oversight", "{answer}");
    let id = answer["oversight"]["request_id"].as_str().unwrap();
    for caller in [&agent, &server.agent(&planner)] {
        for verdict in ["approve", "deny"] {
            let path = format!("/v1/oversight/requests/{id}/{verdict}");
            assert!(caller.post(&path, &json!({})).is_err(), "{verdict}");
        }
    }
    let path = format!("/v1/oversight/requests/{id}");
    let request = server.owner().get(&path).unwrap();
    assert_eq!(request["state"], "pending");
    assert_eq!(request["args"], json!({"version": "1"}));
}

#[test]
fn the_command_line_answers_with_its_exit_status() {
    let server = Server::fresh();
    let good = creto(server.path(), &["self"]);
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    assert!(said(&good).contains("owner"), "{}", said(&good));

    let empty = creto(server.path(), &["delegate", "list"]);
    assert_eq!(empty.status.code(), Some(0));
    assert!(
        said(&empty).contains("No delegations yet"),
        "{}",
        said(&empty)
    );

    let refused = creto(
        server.path(),
        &["revoke", "lnk_00000000000000000000000000000000"],
    );
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("code: not_found"),
        "{}",
        said(&refused)
    );

    let wrong = creto(server.path(), &["delegate", "create"]);
    assert_eq!(wrong.status.code(), Some(2));

    let elsewhere = creto(server.path(), &["--server", "http://192.0.2.1:80", "self"]);
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(
        said(&elsewhere).contains("server_address_refused"),
        "{}",
        said(&elsewhere)
    );
}

#[test]
fn a_token_goes_to_a_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let words = ["agent", "token", &worker, "--out", "worker.token"];
    let issued = creto(server.path(), &words);
    assert_eq!(issued.status.code(), Some(0), "{}", said(&issued));
    let file = server.path().join("worker.token");
    let token = std::fs::read_to_string(&file).unwrap();
    assert!(
        !said(&issued).contains(token.trim()),
        "the token was printed"
    );
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let me = creto(
        server.path(),
        &["--credential", "worker.token", "--json", "self"],
    );
    assert!(said(&me).contains("\"worker\""), "{}", said(&me));
    let again = creto(server.path(), &words);
    assert_eq!(again.status.code(), Some(1), "a token file was overwritten");

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = creto(server.path(), &["--credential", "worker.token", "self"]);
    assert_eq!(open.status.code(), Some(1));
    assert!(
        said(&open).contains("credential_unusable"),
        "{}",
        said(&open)
    );
    let none = creto(server.path(), &["agent", "token", &worker]);
    assert_eq!(
        none.status.code(),
        Some(2),
        "a token is printed on request only"
    );
}

#[test]
fn a_refusal_arrives_although_the_body_comes_late() {
    let server = Server::fresh();
    let config = std::fs::read_to_string(server.path().join("creto.toml")).unwrap();
    let config: toml::Table = toml::from_str(&config).unwrap();
    let listen = config["server"]["listen"].as_str().unwrap();
    let mut stream = TcpStream::connect(listen).unwrap();
    let head = format!(
        "POST /v1/actions HTTP/1.1\r\nHost: {listen}\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A connection that was reset takes the first byte and fails at the second.
    for late in [b"{", b"}"] {
        std::thread::sleep(Duration::from_millis(200));
        stream.write_all(late).unwrap();
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}
