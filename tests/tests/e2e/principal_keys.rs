//! A signing key is replaced without anything failing, and ended with all that it signed.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Server, Site, code, creto, delegation, draft, granted, said};

const POLICY: &str = r#"
@id("reviews")
permit (
  principal,
  action == Creto::Action::"identity.sign",
  resource == Creto::Resource::"signature:review"
);
"#;

fn good(dir: &Path, words: &[&str]) -> String {
    let output = creto(dir, words);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    said(&output)
}

fn refused(dir: &Path, words: &[&str], code: &str) {
    let output = creto(dir, words);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains(code), "{}", said(&output));
}

/// A server with the chain to `worker`, and `reviewer`, which may sign and whose SPIFFE id
/// is given.
fn serving() -> (Server, [String; 2], String) {
    let site = Site::new();
    fs::write(site.path().join("policies/signing.cedar"), POLICY).unwrap();
    good(site.path(), &["policy", "validate", "policies"]);
    let server = site.start();
    let (planner, worker) = server.chain("1.00");
    server.make_agent("reviewer");
    let mut body = delegation("reviewer", "1.00");
    body["rights"] = json!([{"action": "identity.sign", "resource": "*"}]);
    let link = granted(&server.owner(), &body);
    let dir = server.path();
    good(dir, &["agent", "token", &link, "--out", "reviewer.token"]);
    let own = creto(dir, &["--credential", "reviewer.token", "--json", "self"]);
    let own: Value = serde_json::from_slice(&own.stdout).unwrap();
    let id = own["spiffe_id"].as_str().unwrap().to_owned();
    fs::write(dir.join("report"), "reviewed\n").unwrap();
    (server, [planner, worker], id)
}

fn sign(dir: &Path, out: &str) {
    let words = ["--credential", "reviewer.token", "sign", "report"];
    let how = ["--purpose", "review", "--out", out];
    good(dir, &[&words[..], &how[..]].concat());
}

#[test]
fn a_key_is_replaced_and_then_ended_over_crashes_and_the_log_bears_it_out() {
    let (mut server, [planner, worker], reviewer) = serving();
    let dir = server.path().to_owned();
    let planner_id = reviewer.replace("/reviewer", "/planner");
    let agent = server.agent(&worker);
    draft(&agent).unwrap();
    sign(&dir, "first.sig");
    for name in ["planner", "reviewer"] {
        let told = good(&dir, &["agent", "rotate-key", name, "--reason", "yearly"]);
        assert!(told.contains("revoke-key"), "{told}");
    }
    server.kill_and_restart();

    // Both keys are known, and what the first one signed holds.
    let keys = |id: &str| -> Value {
        let shown = creto(&dir, &["--json", "agent", "keys", id]);
        serde_json::from_slice(&shown.stdout).unwrap()
    };
    let verify = |file: &'static str| {
        let words = ["verify-signature", file, "report", "--signer"];
        [&words[..], &[&reviewer, "--purpose", "review"]].concat()
    };
    for id in [&planner_id, &reviewer] {
        let known = keys(id);
        assert_eq!(known["keys"][0]["state"], "present", "{known}");
        assert_eq!(known["keys"][1]["state"], "former", "{known}");
        assert_eq!(known["keys"][1]["version"], 1, "{known}");
    }
    assert_eq!(keys("planner"), keys(&planner_id), "by its name too");
    refused(&dir, &["agent", "keys", "nobody"], "not_found");
    let shown = good(&dir, &["agent", "keys", &planner_id]);
    assert!(shown.contains("former"), "{shown}");
    draft(&agent).unwrap();
    good(&dir, &verify("first.sig"));
    sign(&dir, "second.sig");
    good(&dir, &verify("second.sig"));

    for (name, id) in [("planner", &planner_id), ("reviewer", &reviewer)] {
        let kid = keys(id)["keys"][1]["kid"].as_str().unwrap().to_owned();
        let words = [
            "agent",
            "revoke-key",
            "--reason",
            "leaked",
            name,
            "--",
            &kid,
        ];
        good(&dir, &words);
        refused(&dir, &words, "key_already_revoked");
    }
    for _ in 0..2 {
        assert_eq!(code(draft(&agent)), "delegation_key_revoked");
        let owner = server.owner();
        let body = json!({ "delegation": worker });
        assert_eq!(
            code(owner.post("/v1/tokens", &body)),
            "delegation_key_revoked"
        );
        for (link, state) in [(&planner, "active"), (&worker, "revoked")] {
            let found = owner.get(&format!("/v1/delegations/{link}")).unwrap();
            assert_eq!(found["state"], state);
        }
        refused(&dir, &verify("first.sig"), "signed_by_revoked_key");
        good(&dir, &verify("second.sig"));
        let known = keys(&reviewer);
        assert_eq!(known["keys"].as_array().unwrap().len(), 1, "{known}");
        assert_eq!(known["revoked_keys"][0]["state"], "revoked", "{known}");
        server.kill_and_restart();
    }
    // A file of keys that was fetched since tells the same, without a server.
    good(
        &dir,
        &["agent", "keys", &reviewer, "--out", "reviewer.keys"],
    );
    let offline = |file| [&verify(file)[..], &["--keys", "reviewer.keys"]].concat();
    refused(&dir, &offline("first.sig"), "signed_by_revoked_key");
    good(&dir, &offline("second.sig"));

    good(
        &dir,
        &["human", "rotate-key", "owner", "--reason", "yearly"],
    );
    good(&dir, &["audit", "export", "evidence"]);
    good(&dir, &["verify", "evidence"]);
}
