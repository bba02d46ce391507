//! Tokens of the real program, verified by a library of somebody else's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use creto_client::read_credential;
use serde_json::{Value, json};

use crate::harness::{Server, creto, python, said, set};

/// PyPI's `cryptography` and `PyJWT`, in a process of their own.
pub(crate) struct Jose {
    child: Child,
    tasks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Jose {
    pub(crate) fn new() -> Self {
        let mut child = python("jose_side.py", "jwt")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            tasks: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn ask(&mut self, task: &Value) -> Value {
        writeln!(self.tasks.as_mut().unwrap(), "{task}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("gave up on {task}: {error}"))
    }

    /// Makes a key; gives its thumbprint.
    pub(crate) fn key(&mut self, name: &str, algorithm: &str) -> String {
        let made = self.ask(&json!({ "do": "key", "name": name, "alg": algorithm }));
        made["jkt"].as_str().unwrap().to_owned()
    }

    /// A proof of one request by a key that was made.
    pub(crate) fn proof(
        &mut self,
        name: &str,
        (method, url): (&str, &str),
        token: Option<&str>,
        nonce: Option<&str>,
    ) -> String {
        let made = self.ask(&json!({
            "do": "proof", "name": name, "method": method, "url": url, "token": token,
            "nonce": nonce,
        }));
        made["proof"].as_str().unwrap().to_owned()
    }
}

impl Drop for Jose {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.tasks = None;
        let _ = self.child.wait();
    }
}

fn token(server: &Server, delegation: &str) -> String {
    let body = json!({ "delegation": delegation, "instance": "pod-1" });
    let issued = server.owner().post("/v1/tokens", &body).unwrap();
    issued["token"].as_str().unwrap().to_owned()
}

/// Another letter at this place of a part of a token. The last letter of a part may carry
/// bits of no meaning, so it is never that one.
fn tampered(token: &str, part: usize, at: usize) -> String {
    let mut parts: Vec<String> = token.split('.').map(ToOwned::to_owned).collect();
    let old = parts[part].as_bytes()[at];
    let new = if old == b'A' { "B" } else { "A" };
    parts[part].replace_range(at..=at, new);
    parts.join(".")
}

/// Every signature that the token's algorithm has is found to hold, by both lists of keys
/// that the server publishes, and none over anything else.
fn checked(server: &Server, jose: &mut Jose, token: &str, halves: &[&str]) -> Value {
    let stranger = server.stranger();
    let mut claims = Value::Null;
    for place in ["/.well-known/jwks.json", "/.well-known/spiffe-bundle.json"] {
        let keys = stranger.get(place).unwrap();
        let mut verify = |token: &str| {
            jose.ask(&json!({
                "do": "verify", "token": token, "keys": keys,
            }))
        };
        let found = verify(token);
        let held = found["holds"].as_object().unwrap();
        let names: Vec<&str> = held.keys().map(String::as_str).collect();
        assert_eq!(names, halves, "{found}");
        assert!(held.values().all(|holds| *holds == json!(true)), "{found}");
        claims = found["claims"].clone();

        let altered = verify(&tampered(token, 1, 100));
        let held = altered["holds"].as_object().unwrap();
        assert!(
            held.values().all(|holds| *holds == json!(false)),
            "{altered}"
        );
        for (at, half) in [(100, "ML-DSA-65"), (4_450, "Ed25519")] {
            let Some(_) = held.get(half) else { continue };
            let forged = verify(&tampered(token, 2, at));
            for (name, holds) in forged["holds"].as_object().unwrap() {
                assert_eq!(*holds, json!(name != half), "{at}: {forged}");
            }
        }
    }
    claims
}

#[test]
fn a_token_is_verified_by_a_library_of_somebody_elses() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let mut jose = Jose::new();
    let issued = token(&server, &worker);
    let both = ["ML-DSA-65", "Ed25519"];
    let claims = checked(&server, &mut jose, &issued, &both);
    let acting = claims["act"]["sub"].as_str().unwrap();
    assert!(acting.ends_with("/agent/worker/pod-1"), "{claims}");
    assert!(
        claims["act"]["act"]["sub"]
            .as_str()
            .unwrap()
            .ends_with("/agent/planner")
    );
    assert!(claims["sub"].as_str().unwrap().ends_with("/human/owner"));
    assert!(claims["exp"].as_i64() > claims["iat"].as_i64());
    let owner = read_credential(&server.path().join("data/owner.credential")).unwrap();
    checked(&server, &mut jose, owner.expose(), &both);

    // An organization that was moved to ML-DSA-65 alone, whole.
    server.stop();
    server.configure(|table| set(table, &["crypto", "signatures", "new"], "ML-DSA-65"));
    server.restart();
    let words = ["crypto", "rotate", "--reason", "another algorithm"];
    let output = creto(server.path(), &words);
    assert!(output.status.success(), "{}", said(&output));
    let alone = token(&server, &worker);
    checked(&server, &mut jose, &alone, &["ML-DSA-65"]);
    // The former key is still among those published.
    checked(&server, &mut jose, &issued, &both);
}
