//! A file is signed with a key that no agent ever has, and a stranger checks it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Server, Site, code, creto, delegation, granted, said, set};

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

/// A server with a policy for reviews, and a reviewer that may sign anything by right;
/// gives its delegation and its SPIFFE id.
fn serving(algorithm: &str) -> (Server, String, String) {
    let site = Site::new();
    site.configure(|table| set(table, &["crypto", "signatures", "new"], algorithm));
    fs::write(site.path().join("policies/signing.cedar"), POLICY).unwrap();
    good(site.path(), &["policy", "validate", "policies"]);
    let server = site.start();
    server.make_agent("reviewer");
    let mut body = delegation("reviewer", "1.00");
    body["rights"] = json!([{"action": "identity.sign", "resource": "*"}]);
    let link = granted(&server.owner(), &body);
    let dir = server.path();
    good(dir, &["agent", "token", &link, "--out", "reviewer.token"]);
    let own = creto(dir, &["--credential", "reviewer.token", "--json", "self"]);
    let own: Value = serde_json::from_slice(&own.stdout).unwrap();
    let id = own["spiffe_id"].as_str().unwrap().to_owned();
    (server, link, id)
}

/// What an implementation that is not ours says of it.
fn stranger(dir: &Path, signature: &str, file: &str) -> String {
    let own = std::env::current_exe().unwrap();
    let packages = own.ancestors().nth(3).unwrap().join("test-python");
    assert!(
        packages.join("cryptography").is_dir(),
        "{} is missing; run scripts/setup.sh --test first",
        packages.display()
    );
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/signature_client.py");
    let output = Command::new("/usr/bin/python3")
        .current_dir(dir)
        .args([script, signature, "reviewer.keys", file])
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    said(&output).trim().to_owned()
}

fn record(server: &Server, leaf: &Value) -> Value {
    let path = format!("/v1/audit/leaves/{leaf}");
    server.owner().get(&path).unwrap()["record"].clone()
}

#[test]
fn a_signature_holds_for_a_stranger_and_is_on_record_after_a_crash() {
    for algorithm in ["ML-DSA-65-Ed25519", "ML-DSA-65"] {
        let (mut server, link, id) = serving(algorithm);
        let dir = server.path().to_owned();
        fs::write(dir.join("report"), "reviewed: \u{2713}\n").unwrap();
        fs::write(dir.join("other"), "reviewed: \u{2717}\n").unwrap();
        let sign = [
            "--credential",
            "reviewer.token",
            "--json",
            "sign",
            "report",
            "--purpose",
            "review",
            "--out",
            "report.sig",
        ];
        let answer = creto(&dir, &sign);
        assert_eq!(answer.status.code(), Some(0), "{}", said(&answer));
        // Before anything else is asked of it, the server dies.
        server.kill_and_restart();
        let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
        let made = record(&server, &answer["leaf"]);
        assert_eq!(made["kind"], "identity.signed", "{made}");
        assert_eq!(made["actor"], "reviewer", "{made}");
        assert_eq!(made["body"]["purpose"], "review", "{made}");
        assert_eq!(made["body"]["delegation"], link.as_str(), "{made}");
        assert_eq!(made["at"], answer["signed"]["signed_at"], "{made}");
        assert!(!made.to_string().contains("reviewed:"), "{made}");
        refused(&dir, &sign, "file_exists");

        // Whoever has the keys needs no server: neither ours nor ours to check with.
        good(&dir, &["agent", "keys", &id, "--out", "reviewer.keys"]);
        let online = [
            "verify-signature",
            "report.sig",
            "report",
            "--signer",
            &id,
            "--purpose",
            "review",
        ];
        assert!(good(&dir, &online).contains("valid"));
        server.kill();
        let offline = [&online[..], &["--keys", "reviewer.keys"]].concat();
        assert!(good(&dir, &offline).contains(algorithm));
        refused(&dir, &online, "server_unreachable");
        assert_eq!(stranger(&dir, "report.sig", "report"), "valid");
        assert_eq!(stranger(&dir, "report.sig", "other"), "invalid");

        // And says so when it is not what it should be.
        let check = |file: &str, signer: &str, purpose: &str, code: &str| {
            let words = [
                "verify-signature",
                "report.sig",
                file,
                "--signer",
                signer,
                "--purpose",
                purpose,
                "--keys",
                "reviewer.keys",
            ];
            refused(&dir, &words, code);
        };
        check("other", &id, "review", "signature_invalid");
        check("report", &id, "release", "signed_for_another_purpose");
        let other = id.replace("reviewer", "planner");
        check("report", &other, "review", "signed_by_another");
        let text = fs::read_to_string(dir.join("report.sig")).unwrap();
        fs::write(
            dir.join("report.sig"),
            text.replace("\"review\"", "\"release\""),
        )
        .unwrap();
        check("report", &id, "release", "signature_invalid");
        assert_eq!(stranger(&dir, "report.sig", "report"), "invalid");
        fs::write(dir.join("report.sig"), "{}").unwrap();
        check("report", &id, "review", "document_malformed");
        server.restart();

        // What is not permitted, and what ended, is not signed.
        let reviewer = server.agent(&link);
        let body = json!({"purpose": "payment", "message": "eA"});
        let denied = reviewer.post("/v1/signatures", &body).unwrap();
        assert_eq!(denied["decision"]["outcome"], "deny", "{denied}");
        assert!(denied.get("signed").is_none(), "{denied}");
        let body = json!({"purpose": "review", "message": "eA"});
        assert_eq!(
            code(server.owner().post("/v1/signatures", &body)),
            "forbidden"
        );
        good(
            &dir,
            &["agent", "suspend", "reviewer", "--reason", "looked into"],
        );
        assert_eq!(
            code(reviewer.post("/v1/signatures", &body)),
            "principal_suspended"
        );
        good(&dir, &["audit", "export", "evidence"]);
        good(&dir, &["verify", "evidence"]);
    }
}
