//! A secret goes from standard input to the one agent it is leased to, and nowhere else.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use creto_client::{Client, ClientError};
use creto_types::Timestamp;
use serde_json::{Value, json};

use crate::harness::{
    Server, Site, code, creto, delegation, good, granted, now, program, refused, said, set,
};

/// The two versions of the secret, as nothing else reads by chance.
const FIRST: &str = "first_!7f91c2";
const SECOND: &str = "second_!0b5e44";

/// The starter schema declares the actions; one policy is all an organization writes.
const POLICY: &str = r#"
@id("deploy-keys")
permit (principal, action == Creto::Action::"secret.read", resource)
unless { resource == Creto::Resource::"secret:unpermitted" };
"#;

/// Runs the program with a text on its standard input.
fn fed(dir: &Path, words: &[&str], input: &str) -> Output {
    let mut child = Command::new(program())
        .env_remove("CRETO_CONFIG")
        .env_remove("CRETO_SERVER")
        .env_remove("CRETO_CREDENTIAL_FILE")
        .current_dir(dir)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn put(dir: &Path, name: &str, value: &str) -> Value {
    let words = ["--json", "secret", "put", name];
    let output = fed(dir, &words, &format!("{value}\n"));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!said(&output).contains(value), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Leases a secret to a delegation, with further words; gives the lease.
fn lease(dir: &Path, name: &str, delegation: &str, more: &[&str]) -> Value {
    let head = [
        "--json",
        "secret",
        "lease",
        name,
        "--delegation",
        delegation,
    ];
    let words = [&head[..], more].concat();
    serde_json::from_str(&good(dir, &words)).unwrap()
}

fn read(agent: &Client, name: &str) -> Result<Value, ClientError> {
    agent.post(&format!("/v1/secrets/{name}/read"), &json!({}))
}

fn value(agent: &Client, name: &str) -> String {
    let answer = read(agent, name).unwrap();
    let value = answer["value"].as_str();
    value.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// The records of a kind that lie in the log.
fn records(server: &Server, kind: &str) -> Vec<Value> {
    let owner = server.owner();
    (0..10_000)
        .map_while(|leaf| owner.get(&format!("/v1/audit/leaves/{leaf}")).ok())
        .map(|answer| answer["record"].clone())
        .filter(|record| record["kind"] == kind)
        .collect()
}

/// Every file of a server: its log, its data and the evidence.
fn files(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap();
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files(&path),
                false => vec![path],
            }
        })
        .collect()
}

fn nowhere_on_disk(server: &Server) {
    for path in files(server.path()) {
        let bytes = fs::read(&path).unwrap();
        for value in [FIRST, SECOND] {
            let found = bytes.windows(value.len()).any(|at| at == value.as_bytes());
            assert!(!found, "{} holds a secret", path.display());
        }
    }
}

/// A server whose log keeps every line there is, with a rule for secrets.
fn serving() -> Server {
    let site = Site::new();
    site.configure(|table| set(table, &["server", "log_filter"], "trace"));
    fs::write(site.path().join("policies/secrets.cedar"), POLICY).unwrap();
    good(site.path(), &["policy", "validate", "policies"]);
    site.start()
}

fn rights(to: &str) -> Value {
    let mut body = delegation(to, "1.00");
    body["rights"] = json!([{"action": "secret.read", "resource": "secret:*"}]);
    body
}

/// A planner below the owner and a worker below that, and an outsider beside them; all
/// may read secrets by their rights.
fn agents(server: &Server) -> [String; 3] {
    for name in ["planner", "worker", "outsider"] {
        server.make_agent(name);
    }
    let planner = granted(&server.owner(), &rights("planner"));
    let worker = granted(&server.agent(&planner), &rights("worker"));
    let outsider = granted(&server.owner(), &rights("outsider"));
    [planner, worker, outsider]
}

fn until(at: &str) {
    let at: Timestamp = at.parse().unwrap();
    while now() < at {
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_leased_secret_reaches_its_agent_and_nobody_else_over_crashes_and_rotations() {
    let mut server = serving();
    let [planner, worker, outsider] = agents(&server);
    let dir = server.path().to_owned();

    assert_eq!(put(&dir, "deploy-key", FIRST)["version"], 1);
    put(&dir, "short", FIRST);
    put(&dir, "unpermitted", FIRST);
    let listed = good(&dir, &["secret", "list"]);
    assert!(listed.contains("deploy-key") && !listed.contains(FIRST));

    // Rights and policies alone give nothing.
    assert_eq!(
        code(read(&server.agent(&worker), "deploy-key")),
        "not_found"
    );
    let given = lease(&dir, "deploy-key", &worker, &[]);
    assert_eq!(given["agent"], "worker");
    lease(&dir, "unpermitted", &worker, &[]);
    let brief = lease(&dir, "short", &worker, &["--expires-in", "5s"]);
    assert_eq!(value(&server.agent(&worker), "short"), FIRST);

    // The agent reads it with a token of its own, alone on standard output.
    let token = ["agent", "token", &worker, "--out", "worker.token"];
    good(&dir, &token);
    let get = [
        "--credential",
        "worker.token",
        "secret",
        "get",
        "deploy-key",
    ];
    let output = creto(&dir, &get);
    assert_eq!(output.stdout, format!("{FIRST}\n").as_bytes());
    let own = good(&dir, &["--credential", "worker.token", "secret", "list"]);
    assert!(own.contains("deploy-key"), "{own}");
    let denied = read(&server.agent(&worker), "unpermitted").unwrap();
    assert_eq!(denied["decision"]["outcome"], "deny", "{denied}");
    assert!(denied.get("value").is_none(), "{denied}");

    // Nobody else, now or after a crash: who stands above, beside, or put it there.
    let others = |server: &Server| {
        for link in [&planner, &outsider] {
            assert_eq!(code(read(&server.agent(link), "deploy-key")), "not_found");
        }
        assert_eq!(code(read(&server.owner(), "deploy-key")), "forbidden");
        let stranger = read(&server.stranger(), "deploy-key");
        assert_eq!(code(stranger), "unauthenticated");
    };
    others(&server);
    server.kill_and_restart();
    others(&server);
    assert_eq!(creto(&dir, &get).stdout, format!("{FIRST}\n").as_bytes());

    // A lease ends at its instant, and stays ended.
    until(brief["expires_at"].as_str().unwrap());
    assert_eq!(code(read(&server.agent(&worker), "short")), "not_found");

    // Rotation, and the end of the old keys, leave it and its next version readable.
    let rotate = ["crypto", "rotate", "--reason", "the yearly one"];
    good(&dir, &rotate);
    assert_eq!(value(&server.agent(&worker), "deploy-key"), FIRST);
    assert_eq!(put(&dir, "deploy-key", SECOND)["version"], 2);
    let retire = ["crypto", "retire", "--reason", "moved", "--now"];
    good(&dir, &retire);
    server.stop();
    good(&dir, &["init", "--renew-credential"]);
    server.restart();
    server.kill_and_restart();
    refused(&dir, &get, "invalid_token");
    assert_eq!(value(&server.agent(&worker), "deploy-key"), SECOND);
    others(&server);

    // Taken back, it is ended at once and after a crash.
    let revoke = ["secret", "revoke", given["id"].as_str().unwrap()];
    good(&dir, &revoke);
    assert_eq!(
        code(read(&server.agent(&worker), "deploy-key")),
        "not_found"
    );
    refused(&dir, &revoke, "conflict");
    server.kill_and_restart();
    assert_eq!(
        code(read(&server.agent(&worker), "deploy-key")),
        "not_found"
    );
    assert_eq!(code(read(&server.agent(&worker), "short")), "not_found");
    assert!(good(&dir, &["secret", "leases"]).contains("worker"));

    // Everything that happened is on record, and no value is anywhere.
    for (kind, times) in [
        ("secret.put", 4),
        ("secret.leased", 3),
        ("secret.read", 5),
        ("secret.lease_revoked", 1),
    ] {
        let found = records(&server, kind);
        assert_eq!(found.len(), times, "{kind}: {found:?}");
    }
    let last = records(&server, "secret.read").pop().unwrap();
    assert_eq!(last["actor"], "worker", "{last}");
    assert_eq!(last["body"]["version"], 2, "{last}");
    assert_eq!(last["body"]["lease"], given["id"], "{last}");
    good(&dir, &["audit", "export", "evidence"]);
    good(&dir, &["verify", "evidence"]);
    server.stop();
    nowhere_on_disk(&server);
}

#[test]
fn a_reading_that_was_answered_is_on_record_after_a_crash() {
    let mut server = serving();
    let [_, worker, _] = agents(&server);
    let dir = server.path().to_owned();
    put(&dir, "deploy-key", FIRST);
    let given = lease(&dir, "deploy-key", &worker, &[]);
    let agent = server.agent(&worker);
    for round in 1..4_usize {
        let answer = read(&agent, "deploy-key").unwrap();
        server.kill_and_restart();
        let leaf = format!("/v1/audit/leaves/{}", answer["leaf"]);
        let record = server.owner().get(&leaf).unwrap()["record"].clone();
        assert_eq!(record["kind"], "secret.read", "{record}");
        assert_eq!(record["body"]["lease"], given["id"], "{record}");
        assert_eq!(record["action_id"], answer["decision"]["action_id"]);
        assert_eq!(records(&server, "secret.read").len(), round);
    }
    nowhere_on_disk(&server);
}

#[test]
fn the_starter_set_permits_nothing_of_secrets() {
    let server = Server::fresh();
    let [_, worker, _] = agents(&server);
    let dir = server.path().to_owned();
    put(&dir, "deploy-key", FIRST);
    lease(&dir, "deploy-key", &worker, &[]);
    let answer = read(&server.agent(&worker), "deploy-key").unwrap();
    assert_eq!(answer["decision"]["outcome"], "deny", "{answer}");
    let reason = &answer["decision"]["reason"]["code"];
    assert_eq!(reason, "no_policy_permits", "{answer}");
    assert!(answer.get("value").is_none(), "{answer}");
}

#[test]
fn a_secret_is_handed_over_by_an_owner_alone_and_stays_so_over_a_crash() {
    let mut server = serving();
    let [planner, worker, _] = agents(&server);
    let dir = server.path().to_owned();
    put(&dir, "deploy-key", FIRST);
    lease(&dir, "deploy-key", &worker, &[]);
    let operator = ["human", "create", "olga", "--role", "operator"];
    good(
        &dir,
        &[&operator[..], &["--out", "olga.credential"]].concat(),
    );
    let hand = ["secret", "hand-over", "deploy-key", "--to", "olga"];
    let by_olga = [&["--credential", "olga.credential"][..], &hand].concat();
    refused(&dir, &by_olga, "forbidden");
    let agent = server.agent(&planner);
    let path = "/v1/secrets/deploy-key/hand-over";
    let refusal = agent.post(path, &json!({ "to": "planner" }));
    assert_eq!(code(refusal), "forbidden");
    let said = good(
        &dir,
        &["secret", "hand-over", "deploy-key", "--to", "planner"],
    );
    assert!(said.contains("planner"), "{said}");
    for _ in 0..2 {
        let output = fed(&dir, &["secret", "put", "deploy-key"], SECOND);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(value(&server.agent(&worker), "deploy-key"), FIRST);
        server.kill_and_restart();
    }
    let back = good(
        &dir,
        &["secret", "hand-over", "deploy-key", "--to", "owner"],
    );
    assert!(back.contains("owner"), "{back}");
    put(&dir, "deploy-key", SECOND);
    assert_eq!(value(&server.agent(&worker), "deploy-key"), SECOND);
    let handed = records(&server, "secret.handed_over");
    assert_eq!(handed.len(), 2);
    assert_eq!(handed[0]["body"]["from"], "owner");
    assert_eq!(handed[0]["body"]["to"], "planner");
    good(&dir, &["audit", "export", "handed"]);
    good(&dir, &["verify", "handed"]);
}
