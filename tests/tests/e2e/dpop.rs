//! Tokens bound to a key, on the real program: proofs by a library of somebody else's,
//! the program's own client, a thief, and a process that is killed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::grpc::{Caller, serving};
use crate::harness::{Server, creto, creto_with, said, set};
use crate::tokens::Jose;

struct Answer {
    status: u16,
    /// Of the header `DPoP-Nonce`.
    nonce: Option<String>,
    body: Value,
}

impl Answer {
    fn code(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }
}

/// One request of somebody who knows HTTP and nothing else.
struct Web {
    listen: SocketAddr,
}

impl Web {
    fn of(server: &Server) -> Self {
        let listen = server.stranger().server().socket();
        Self { listen }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen)
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.listen,
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut stream = TcpStream::connect(self.listen).unwrap();
        let whole = format!("{request}\r\n{body}");
        stream.write_all(whole.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let nonce = lines
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("dpop-nonce"))
            .map(|(_, value)| value.to_owned());
        Answer {
            status: status.parse().unwrap(),
            nonce,
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    fn whoami(&self, scheme: &str, token: &str, proof: Option<&str>) -> Answer {
        let credential = format!("{scheme} {token}");
        let mut headers = vec![("Authorization", credential.as_str())];
        headers.extend(proof.map(|proof| ("DPoP", proof)));
        self.send("GET", "/v1/self", &headers, "")
    }

    /// As RFC 9449, section 8, has clients do it: a proof, and another with the nonce that
    /// the refusal tells.
    fn as_a_client(&self, jose: &mut Jose, key: &str, token: &str) -> (String, Answer) {
        let request = ("GET", self.url("/v1/self"));
        let request = (request.0, request.1.as_str());
        let first = jose.proof(key, request, Some(token), None);
        let told = self.whoami("DPoP", token, Some(&first));
        assert_eq!(told.code(), (401, "use_dpop_nonce"));
        let second = jose.proof(key, request, Some(token), told.nonce.as_deref());
        let answer = self.whoami("DPoP", token, Some(&second));
        (second, answer)
    }
}

fn bound(server: &Server, delegation: &str, jkt: &str) -> String {
    let body = json!({ "delegation": delegation, "jkt": jkt });
    let issued = server.owner().post("/v1/tokens", &body).unwrap();
    issued["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_stolen_token_is_of_no_use_and_a_proof_of_somebody_elses_library_is() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let web = Web::of(&server);
    let mut jose = Jose::new();
    for algorithm in ["ES256", "EdDSA"] {
        let jkt = jose.key("agent", algorithm);
        jose.key("thief", algorithm);
        let token = bound(&server, &worker, &jkt);
        let (proof, answer) = web.as_a_client(&mut jose, "agent", &token);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["jkt"], json!(jkt));

        // Who reads the request has the token and a used proof.
        assert_eq!(
            web.whoami("Bearer", &token, None).code(),
            (401, "dpop_proof_required")
        );
        assert_eq!(
            web.whoami("DPoP", &token, None).code(),
            (401, "dpop_proof_required")
        );
        let replayed = web.whoami("DPoP", &token, Some(&proof));
        assert_eq!(replayed.code(), (401, "dpop_proof_replayed"));
        let url = web.url("/v1/self");
        let nonce = replayed.nonce.as_deref();
        let theirs = jose.proof("thief", ("GET", &url), Some(&token), nonce);
        let stolen = web.whoami("DPoP", &token, Some(&theirs));
        assert_eq!(stolen.code(), (401, "dpop_key_mismatch"));

        // Also after a restart, where nothing of the former process is left.
        server.kill_and_restart();
        let replayed = web.whoami("DPoP", &token, Some(&proof));
        assert_eq!(replayed.code(), (401, "use_dpop_nonce"));
        let (_, answer) = web.as_a_client(&mut jose, "agent", &token);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[test]
fn an_exchange_binds_to_the_key_that_is_proven() {
    let server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let web = Web::of(&server);
    let mut jose = Jose::new();
    let jkt = jose.key("agent", "ES256");
    let issued = server
        .owner()
        .post("/v1/tokens", &json!({ "delegation": worker }));
    let bearer = issued.unwrap()["token"].as_str().unwrap().to_owned();
    let url = web.url("/oauth/token");
    let mut exchange = |token: &str, nonce: Option<&str>, more: &str| {
        let proof = jose.proof("agent", ("POST", &url), None, nonce);
        let headers = [
            ("DPoP", &*proof),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let form = format!(
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}\
             &subject_token_type=urn:ietf:params:oauth:token-type:jwt{more}"
        );
        web.send("POST", "/oauth/token", &headers, &form)
    };
    let told = exchange(&bearer, None, "");
    assert_eq!(
        (told.status, &told.body["error"]),
        (400, &json!("use_dpop_nonce"))
    );
    let nonce = told.nonce.unwrap();
    let answer = exchange(&bearer, Some(&nonce), "");
    assert_eq!(answer.body["token_type"], "DPoP", "{}", answer.body);
    let token = answer.body["access_token"].as_str().unwrap().to_owned();
    let answer = exchange(&token, Some(&nonce), "&creto_instance=pod-1");
    assert_eq!(answer.body["token_type"], "DPoP", "{}", answer.body);
    let instance = answer.body["access_token"].as_str().unwrap().to_owned();
    let (_, whoami) = web.as_a_client(&mut jose, "agent", &instance);
    assert_eq!(whoami.body["jkt"], json!(jkt));
    assert!(
        whoami.body["spiffe_id"]
            .as_str()
            .unwrap()
            .ends_with("/worker/pod-1")
    );
}

#[test]
fn the_command_line_makes_keys_and_proves_them() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let dir = server.path().to_owned();
    let good = |words: &[&str]| {
        let output = creto(&dir, words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        said(&output)
    };
    let made: Value =
        serde_json::from_str(&good(&["--json", "agent", "key", "--out", "a.key"])).unwrap();
    let jkt = made["jkt"].as_str().unwrap();
    let mode = std::fs::metadata(dir.join("a.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = creto(&dir, &["agent", "key", "--out", "a.key"]);
    assert!(said(&again).contains("file_exists"), "{}", said(&again));

    good(&[
        "agent",
        "token",
        &worker,
        "--bind-jkt",
        jkt,
        "--out",
        "a.token",
    ]);
    good(&[
        "agent",
        "token",
        &worker,
        "--bind-key",
        "a.key",
        "--out",
        "b.token",
    ]);
    good(&["agent", "key", "--out", "b.key"]);
    for token in ["a.token", "b.token"] {
        let text = good(&["--credential", token, "--dpop-key", "a.key", "self"]);
        assert!(text.contains(jkt), "{text}");
        for (words, code) in [
            (&["--credential", token, "self"][..], "dpop_proof_required"),
            (
                &["--credential", token, "--dpop-key", "b.key", "self"],
                "dpop_key_mismatch",
            ),
            (
                &["--credential", token, "--dpop-key", "a.token", "self"],
                "dpop_key_unusable",
            ),
        ] {
            let output = creto(&dir, words);
            assert!(said(&output).contains(code), "{words:?}: {}", said(&output));
        }
    }
    // People's credentials as well, when they are issued and when they are renewed.
    let words = ["human", "create", "carol", "--role", "auditor"];
    good(&[&words[..], &["--bind-jkt", jkt, "--out", "c.token"]].concat());
    let words = ["human", "credential", "carol", "--out", "d.token"];
    let bound = |token: &str| good(&["--credential", token, "--dpop-key", "a.key", "self"]);
    assert!(bound("c.token").contains(jkt));
    let told = good(&[&words[..], &["--bind-key", "a.key"]].concat());
    assert!(told.contains(jkt), "{told}");
    assert!(bound("d.token").contains(jkt));
    let output = creto(&dir, &["--credential", "d.token", "self"]);
    assert!(
        said(&output).contains("dpop_proof_required"),
        "{}",
        said(&output)
    );
    let variable = [
        ("CRETO_DPOP_KEY_FILE", "a.key"),
        ("CRETO_CREDENTIAL_FILE", "a.token"),
    ];
    let output = creto_with(&dir, &["self"], &variable);
    assert!(output.status.success(), "{}", said(&output));
    // Over pages of a list, a change, and a restart in between: a client that lives on.
    let client = server.agent_with(&dir.join("a.token"), &dir.join("a.key"));
    for _ in 0..3 {
        let answer = crate::harness::draft(&client).unwrap();
        assert_eq!(answer["outcome"], "allow", "{answer}");
    }
    server.kill_and_restart();
    let answer = crate::harness::draft(&client).unwrap();
    assert_eq!(answer["outcome"], "allow", "{answer}");
}

#[test]
fn where_it_is_demanded_agents_have_no_bearer_tokens() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let before = server.agent(&worker);
    before.get("/v1/self").unwrap();
    server.stop();
    server.configure(|table| {
        set(table, &["identity", "require_dpop"], true);
        let urls = vec![toml::Value::from("https://creto.example")];
        set(table, &["server", "external_urls"], urls);
    });
    server.restart();
    let refused = before.get("/v1/self").unwrap_err();
    assert_eq!(refused.reported_code(), "dpop_binding_required");
    let asked = server
        .owner()
        .post("/v1/tokens", &json!({ "delegation": worker }));
    assert_eq!(asked.unwrap_err().reported_code(), "dpop_binding_required");
    let told = server
        .stranger()
        .get("/.well-known/oauth-protected-resource");
    let told = told.unwrap();
    assert_eq!(told["dpop_bound_access_tokens_required"], true);
    assert_eq!(told["resource"], "https://creto.example");

    // A client beyond a proxy names what it sees.
    let web = Web::of(&server);
    let mut jose = Jose::new();
    let token = bound(&server, &worker, &jose.key("agent", "EdDSA"));
    let (_, answer) = web.as_a_client(&mut jose, "agent", &token);
    let nonce = answer.nonce.unwrap();
    for (url, status) in [
        ("https://creto.example/v1/self", 200),
        ("https://creto.example:443/v1/self?x=1", 200),
        ("http://creto.example/v1/self", 401),
        ("https://elsewhere.example/v1/self", 401),
    ] {
        let proof = jose.proof("agent", ("GET", url), Some(&token), Some(&nonce));
        let answer = web.whoami("DPoP", &token, Some(&proof));
        assert_eq!(answer.status, status, "{url}: {}", answer.body);
    }
}

#[test]
fn grpc_asks_for_the_same_proofs() {
    let (server, address) = serving();
    let (_, worker) = server.chain("1.00");
    let mut jose = Jose::new();
    let jkt = jose.key("agent", "ES256");
    let token = bound(&server, &worker, &jkt);
    let mut caller = Caller::of(&address.to_string());
    let url = format!("http://{address}/creto.authz.v1.Authz/Check");
    let request =
        json!({"action": "history.read", "resource": {"type": "Resource", "id": "repo:creto"}});
    let plain = json!({"method": "Check", "token": token, "request": request});
    assert_eq!(caller.refused(&plain).1, "dpop_proof_required");
    let with = |proof: &str| {
        let mut call = plain.clone();
        call["proof"] = json!(proof);
        call
    };
    let first = jose.proof("agent", ("POST", &url), Some(&token), None);
    let told = caller.call(&with(&first));
    assert_eq!(told["status"], "UNAUTHENTICATED", "{told}");
    let nonce = told["metadata"]["dpop-nonce"].as_str().unwrap();
    let proof = jose.proof("agent", ("POST", &url), Some(&token), Some(nonce));
    let answer = caller.call(&with(&proof));
    assert_eq!(answer["answer"]["outcome"], "OUTCOME_ALLOW", "{answer}");
    let replayed = caller.refused(&with(&proof));
    assert_eq!(replayed.0, "UNAUTHENTICATED");
    assert_eq!(replayed.1, "dpop_proof_replayed");
    let elsewhere = format!("http://{address}/creto.authz.v1.Authz/Submit");
    let proof = jose.proof("agent", ("POST", &elsewhere), Some(&token), Some(nonce));
    assert_eq!(caller.refused(&with(&proof)).1, "invalid_dpop_proof");
}
