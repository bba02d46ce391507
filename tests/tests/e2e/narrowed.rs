//! An auditor is given some records only, and what is given proves as much as all.

use serde_json::{Value, json};

use crate::harness::{Server, creto, draft, said};

fn done(server: &Server, words: &[&str]) -> Value {
    let words: Vec<_> = ["--json"].iter().chain(words).copied().collect();
    let output = creto(server.path(), &words);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_auditor_is_given_some_records_and_every_proof() {
    let server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    for _ in 0..3 {
        let decided = draft(&agent).unwrap();
        let id = decided["action_id"].as_str().unwrap();
        let settle = format!("/v1/actions/{id}/settle");
        agent.post(&settle, &json!({ "units": 1 })).unwrap();
    }
    done(&server, &["invoice", "issue", "--from", "2020-01-01"]);
    done(&server, &["audit", "export", "whole"]);
    let whole = done(&server, &["verify", "whole"]);
    assert_eq!(whole["unread"]["not_disclosed"], 0);
    assert_eq!(whole["filter"], Value::Null);

    for (dir, words, filter, disclosed, invoices) in [
        (
            "decisions",
            &["--agent", "worker", "--kind", "action.decided"][..],
            json!({ "agent": "worker", "kind": "action.decided" }),
            3,
            false,
        ),
        (
            "invoices",
            &[
                "--kind",
                "invoice.issued",
                "--since",
                "2020-01-01T00:00:00Z",
            ],
            json!({ "kind": "invoice.issued", "since": "2020-01-01T00:00:00Z" }),
            1,
            true,
        ),
        (
            "nothing",
            &["--until", "2020-01-01T00:00:00Z"],
            json!({ "until": "2020-01-01T00:00:00Z" }),
            0,
            false,
        ),
    ] {
        let words: Vec<_> = ["audit", "export", dir]
            .iter()
            .chain(words)
            .copied()
            .collect();
        done(&server, &words);
        let verified = done(&server, &["verify", dir]);
        assert_eq!(verified["filter"], filter);
        assert_eq!(verified["leaves"], whole["leaves"]);
        assert_eq!(verified["root"], whole["root"]);
        let leaves = verified["leaves"].as_u64().unwrap();
        let unread = verified["unread"]["not_disclosed"].as_u64().unwrap();
        assert_eq!(leaves - unread, disclosed, "{dir}");
        let attached = server.path().join(dir).join("attachments");
        assert_eq!(attached.join("invoices").exists(), invoices, "{dir}");
        assert!(!attached.join("policies").exists(), "{dir}");
    }
    let told = creto(server.path(), &["verify", "decisions"]);
    let told = said(&told);
    assert!(told.contains("agent=worker, kind=action.decided"), "{told}");
    assert!(told.contains("not disclosed"), "{told}");

    for (query, code) in [
        ("outcome=", "invalid_request"),
        ("whose=worker", "invalid_query"),
    ] {
        let refused = server.owner().get(&format!("/v1/audit/export?{query}"));
        assert_eq!(crate::harness::code(refused), code, "{query}");
    }
}
