//! A file is signed with a key that no agent ever has, and a stranger checks it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{
    Server, Site, code, creto, delegation, good, granted, python, refused, said, set,
};

const POLICY: &str = r#"
@id("reviews")
permit (
  principal,
  action == Creto::Action::"identity.sign",
  resource == Creto::Resource::"signature:review"
);
"#;

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
    let output = python("signature_client.py", "cryptography")
        .current_dir(dir)
        .args([signature, "reviewer.keys", file])
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
            "--accept",
            algorithm,
        ];
        if algorithm == "ML-DSA-65" {
            refused(&dir, &online[..7], "algorithm_not_allowed");
        }
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
                "--accept",
                algorithm,
            ];
            refused(&dir, &words, code);
        };
        check("other", &id, "review", "signature_invalid");
        check("report", &id, "release", "signed_for_another_purpose");
        let other = id.replace("reviewer", "planner");
        check("report", &other, "review", "signed_by_another");
        let text = fs::read_to_string(dir.join("report.sig")).unwrap();
        // What a later version signs with is named, and its keys beside ours harm nobody.
        let named = format!("\"alg\": \"{algorithm}\"");
        let later = text.replace(&named, "\"alg\": \"ML-DSA-87\"");
        assert_ne!(later, text);
        fs::write(dir.join("report.sig"), later).unwrap();
        check("report", &id, "review", "unknown_algorithm");
        fs::write(dir.join("report.sig"), &text).unwrap();
        let keys = fs::read_to_string(dir.join("reviewer.keys")).unwrap();
        let mut keys: Value = serde_json::from_str(&keys).unwrap();
        let later = json!({"kty": "AKP", "alg": "ML-DSA-87", "kid": "later", "pub": "AA"});
        keys["keys"].as_array_mut().unwrap().insert(0, later);
        fs::write(dir.join("reviewer.keys"), keys.to_string()).unwrap();
        assert!(good(&dir, &offline).contains("valid"));
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
        good(&dir, &["verify", "evidence", "--accept", algorithm]);
    }
}

/// What is too long to be sent is signed by its digest, by functions that the server
/// accepts, and a stranger computes the same.
#[test]
fn a_long_file_is_signed_by_its_digest() {
    let (mut server, link, id) = serving("ML-DSA-65-Ed25519");
    let dir = server.path().to_owned();
    let long: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(dir.join("long"), &long).unwrap();
    fs::write(dir.join("longer"), [&long[..], b"!"].concat()).unwrap();
    good(&dir, &["agent", "keys", &id, "--out", "reviewer.keys"]);
    let sign = |more: &[&str]| {
        let words = ["--credential", "reviewer.token", "--json", "sign", "long"];
        creto(&dir, &[&words[..], &["--purpose", "review"], more].concat())
    };
    let whole = sign(&[]);
    assert!(said(&whole).contains("invalid_request"), "{}", said(&whole));
    let check_by = |signature: &str, file: &str, also: &[&str]| {
        let words = ["verify-signature", signature, file, "--signer", &id];
        let more = ["--purpose", "review", "--keys", "reviewer.keys", "--json"];
        creto(&dir, &[&words[..], &more, also].concat())
    };
    let check = |signature: &str, file: &str| {
        let also = ["--accept", "sha3-256", "--accept", "blake3"];
        check_by(signature, file, &also)
    };
    for function in ["sha-256", "sha-384", "sha-512"] {
        let out = format!("{function}.sig");
        let answer = sign(&["--digest", function, "--out", &out]);
        assert_eq!(answer.status.code(), Some(0), "{}", said(&answer));
        let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
        let digest = answer["signed"]["digest"].as_str().unwrap();
        assert!(digest.starts_with(&format!("{function}:")), "{digest}");
        let made = record(&server, &answer["leaf"]);
        assert_eq!(made["body"]["digest"], digest, "{made}");
        let checked = check(&out, "long");
        assert!(said(&checked).contains(digest), "{}", said(&checked));
        assert!(said(&check(&out, "longer")).contains("signature_invalid"));
        assert_eq!(stranger(&dir, &out, "long"), "valid");
        assert_eq!(stranger(&dir, &out, "longer"), "invalid");
    }

    let reviewer = server.agent(&link);
    let twice = |digest: &Value| {
        let body = json!({"purpose": "review", "digest": digest});
        reviewer.post_with_key("/v1/signatures", &body, "the-answer-was-lost")
    };
    let named: Value = serde_json::from_slice(&fs::read(dir.join("sha-256.sig")).unwrap()).unwrap();
    let first = twice(&named["digest"]).unwrap();

    // By configuration alone, and then the digests of what is signed whole are of it too.
    let refused = sign(&["--digest", "sha3-256"]);
    assert!(
        said(&refused).contains("algorithm_not_allowed"),
        "{}",
        said(&refused)
    );
    assert!(said(&sign(&["--digest", "md5"])).contains("md5"));
    server.stop();
    server.configure(|table| {
        set(table, &["crypto", "digests", "new"], "sha3-256");
        let accepted: Vec<toml::Value> = vec!["sha3-256".into(), "blake3".into()];
        set(table, &["crypto", "digests", "accepted"], accepted);
    });
    server.restart();
    for function in ["sha3-256", "blake3"] {
        let out = format!("{function}.sig");
        let answer = sign(&["--digest", function, "--out", &out]);
        assert_eq!(answer.status.code(), Some(0), "{}", said(&answer));
        assert!(said(&check(&out, "long")).contains("\"valid\": true"));
        assert!(said(&check(&out, "longer")).contains("signature_invalid"));
        let by_default = check_by(&out, "long", &[]);
        assert!(said(&by_default).contains("algorithm_not_allowed"));
    }
    assert_eq!(stranger(&dir, "sha3-256.sig", "long"), "valid");
    assert_eq!(
        twice(&named["digest"]).unwrap(),
        first,
        "it was answered before"
    );
    let gone = sign(&["--digest", "sha-256"]);
    assert!(
        said(&gone).contains("algorithm_not_allowed"),
        "{}",
        said(&gone)
    );
    fs::write(dir.join("long"), "short").unwrap();
    let answer = sign(&[]);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let made = record(&server, &answer["leaf"]);
    let digest = made["body"]["digest"].as_str().unwrap();
    assert!(digest.starts_with("sha3-256:"), "{made}");
    good(&dir, &["audit", "export", "evidence"]);
    good(&dir, &["verify", "evidence"]);
}
