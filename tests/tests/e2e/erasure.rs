//! A person's records are erased, and every proof holds as before.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::harness::{Server, code, creto, said};

const REASON: &str = "because-of-what-carol-saw";

fn done(server: &Server, words: &[&str]) -> String {
    let output = creto(server.path(), words);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    said(&output)
}

fn json(server: &Server, words: &[&str]) -> Value {
    let words: Vec<_> = ["--json"].iter().chain(words).copied().collect();
    serde_json::from_str(&done(server, &words)).unwrap()
}

fn refused(output: &Output, code: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    assert!(said(output).contains(code), "{}", said(output));
}

fn found_below(dir: &Path, text: &str) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return found_below(&path, text);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[test]
fn a_person_is_erased_and_every_proof_holds() {
    let mut server = Server::fresh();
    let (planner, _) = server.chain("1.00");
    let words = [
        "human",
        "create",
        "carol",
        "--role",
        "operator",
        "--out",
        "carol.credential",
    ];
    done(&server, &words);
    let suspended = json(
        &server,
        &[
            "--credential",
            "carol.credential",
            "agent",
            "suspend",
            "worker",
            "--reason",
            REASON,
        ],
    );
    let leaf = suspended["leaf"].as_u64().unwrap();
    let path = format!("/v1/audit/leaves/{leaf}");
    let before = server.owner().get(&path).unwrap();
    assert_eq!(before["record"]["actor"], "carol");
    assert_eq!(before["record"]["body"]["reason"], REASON);
    done(&server, &["audit", "export", "before"]);
    let by_carol = ["audit", "search", "--agent", "carol"];
    assert!(
        !json(&server, &by_carol)["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    let erase = ["subject", "erase", "carol", "--reason", "asked for it"];
    refused(&creto(server.path(), &erase), "principal_not_suspended");
    done(&server, &["human", "suspend", "carol", "--reason", "left"]);
    let agent = server.agent(&planner);
    let body = serde_json::json!({ "reason": "mine" });
    assert_eq!(
        code(agent.post("/v1/subjects/carol/erase", &body)),
        "forbidden"
    );
    refused(
        &creto(
            server.path(),
            &["subject", "erase", "planner", "--reason", "no"],
        ),
        "a person is expected",
    );
    let erased = json(&server, &erase);
    let pseudonym = erased["subject"].as_str().unwrap().to_owned();
    refused(
        &creto(server.path(), &erase),
        "no such record of this person",
    );

    for _ in 0..2 {
        let after = server.owner().get(&path).unwrap();
        assert_eq!(after["withheld"], "erased");
        assert_eq!(after["opening"], Value::Null);
        assert_eq!(after["record"]["subject"], *pseudonym);
        assert_eq!(after["record"]["actor"], Value::Null);
        assert_eq!(after["leaf"], before["leaf"]);
        assert!(!found_below(&server.path().join("data"), REASON));
        assert_eq!(json(&server, &by_carol)["items"], serde_json::json!([]));
        let listed = json(
            &server,
            &["audit", "search", "--kind", "principal.suspended"],
        );
        let listed = listed["items"].as_array().unwrap();
        assert!(listed.len() >= 2);
        assert!(listed.iter().all(|item| item["withheld"] == "erased"));
        server.kill_and_restart();
    }
    done(&server, &["audit", "export", "after"]);
    let verified = json(&server, &["verify", "after"]);
    let of_carol = verified["unread"]["erased"].as_u64().unwrap();
    assert!(of_carol >= 3, "{verified}");
    assert_eq!(verified["unread"]["expired"], 0);
    assert!(done(&server, &["verify", "after"]).contains(&format!("{of_carol} records")));
    // What was taken away before is whole.
    let verified = json(&server, &["verify", "before"]);
    assert_eq!(verified["unread"]["erased"], 0);

    // The proof of the leaf holds, and what was shown before is what it commits to.
    let number = leaf.to_string();
    let prove = creto(
        server.path(),
        &["audit", "prove", &number, "--leaf-to", "leaf.json"],
    );
    fs::write(server.path().join("leaf.proof"), &prove.stdout).unwrap();
    let key = json(&server, &["audit", "keys"])["ed25519"].clone();
    let opening = server.path().join("leaf.opening");
    fs::write(&opening, before["opening"].to_string()).unwrap();
    let check = [
        "audit",
        "check-proof",
        "leaf.proof",
        "--leaf",
        "leaf.json",
        "--opening",
        "leaf.opening",
        "--key",
        key.as_str().unwrap(),
    ];
    let proven = json(&server, &check);
    assert_eq!(proven["record"], before["record"]);
    let other = server.owner().get("/v1/audit/leaves/0").unwrap();
    fs::write(&opening, other["opening"].to_string()).unwrap();
    refused(&creto(server.path(), &check), "opening_other_leaf");
    let words = ["audit", "prove", &number, "--opening-to", "none"];
    refused(&creto(server.path(), &words), "opening_absent");
}
