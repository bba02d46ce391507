//! Payloads end when they are old, and every proof holds as before.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, creto, delegation, draft, faketime, granted, in_seconds, said, set};

const DAY: u64 = 86_400;

fn done(server: &Server, words: &[&str]) -> Value {
    let words: Vec<_> = ["--json"].iter().chain(words).copied().collect();
    let output = creto(server.path(), &words);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn found(server: &Server, field: &str, value: &str) -> Vec<Value> {
    let found = done(server, &["audit", "search", field, value]);
    found["items"].as_array().unwrap().clone()
}

/// Waits until so many records of the kind are there.
fn until_recorded(server: &Server, kind: &str, count: usize) -> Vec<Value> {
    for _ in 0..400 {
        let found = found(server, "--kind", kind);
        if found.len() >= count {
            return found;
        }
        sleep(Duration::from_millis(25));
    }
    panic!("{count} of {kind} were not recorded");
}

#[test]
fn payloads_end_when_they_are_old_and_every_proof_holds() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    let mut long = delegation("worker", "1.00");
    long["expires_at"] = in_seconds(5 * DAY).into();
    let long = granted(&server.owner(), &long);
    let decided = draft(&agent).unwrap();
    let id = decided["action_id"].as_str().unwrap();
    let settle = format!("/v1/actions/{id}/settle");
    agent.post(&settle, &json!({ "units": 1 })).unwrap();
    let leaf = decided["leaf"].as_u64().unwrap();
    let path = format!("/v1/audit/leaves/{leaf}");
    let before = server.owner().get(&path).unwrap();
    assert_eq!(before["record"]["actor"], "worker");
    done(&server, &["invoice", "issue", "--from", "2020-01-01"]);
    done(&server, &["audit", "export", "before"]);

    server.stop();
    server.configure(|table| set(table, &["audit", "payload_retention_days"], 1));
    server.give("LD_PRELOAD", faketime());
    server.give("FAKETIME", "+3d".to_owned());
    server.give("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned());
    server.restart();
    let ended = until_recorded(&server, "payloads.expired", 1);
    let record = &ended[0]["record"];
    assert_eq!(record["actor"], "owner");
    assert_eq!(record["body"]["class"], "evidence");
    let through = record["body"]["through"].as_u64().unwrap();
    assert!(through > leaf);

    let agents = |server: &Server| found(server, "--agent", "worker").len();
    for _ in 0..400 {
        let now = server.owner().get(&path).unwrap();
        if now["withheld"] == "expired" && agents(&server) == 0 {
            break;
        }
        sleep(Duration::from_millis(25));
    }
    for _ in 0..2 {
        let after = server.owner().get(&path).unwrap();
        assert_eq!(after["withheld"], "expired");
        assert_eq!(after["record"]["actor"], Value::Null);
        assert_eq!(after["record"]["kind"], "action.decided");
        assert_eq!(after["leaf"], before["leaf"]);
        assert_eq!(agents(&server), 0);
        let kinds = found(&server, "--kind", "action.decided");
        assert!(kinds.iter().all(|item| item["withheld"] == "expired"));
        assert!(!kinds.is_empty());
        // Once a day, however often it is started.
        assert_eq!(found(&server, "--kind", "payloads.expired").len(), 1);
        server.stop();
        server.restart();
    }

    // Work goes on, by what was granted long ago as well.
    let mut far = delegation("worker", "1.00");
    far["expires_at"] = in_seconds(5 * DAY).into();
    let link = granted(&server.owner(), &far);
    let decided = draft(&server.agent(&link)).unwrap();
    assert_eq!(decided["outcome"], "allow");
    assert!(agents(&server) > 0);
    let below = draft(&server.agent(&long)).unwrap();
    let of_the_first = found(&server, "--member", "owner");
    assert!(
        of_the_first
            .iter()
            .any(|item| item["leaf"] == below["leaf"])
    );
    done(&server, &["audit", "export", "after"]);
    let verified = done(&server, &["verify", "after"]);
    // Grants are kept, for chains lead through them.
    let grants = found(&server, "--kind", "delegation.granted");
    assert!(
        grants.iter().all(|item| item["withheld"].is_null()),
        "{grants:?}"
    );
    assert_eq!(grants.len(), 4);
    assert_eq!(verified["unread"]["expired"], through + 1 - 3);
    assert_eq!(verified["unread"]["erased"], 0);
    assert!(verified["unchecked"].as_u64().unwrap() > 0);
    let whole = done(&server, &["verify", "before"]);
    assert_eq!(whole["unread"]["expired"], 0);
    assert_eq!(whole["unchecked"], 0);
    server.stop();
}
