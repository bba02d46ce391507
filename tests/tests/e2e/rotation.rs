//! An organization moves to other keys, other algorithms and another root key.

use std::fs;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use creto_client::{Client, ClientError};
use serde_json::{Value, json};

use crate::harness::{Server, Site, creto_with, good, refused, said, set};

fn rotate(server: &Server) -> Value {
    let words = ["--json", "crypto", "rotate", "--reason", "the yearly one"];
    serde_json::from_str(&good(server.path(), &words)).unwrap()
}

/// One unit of work that costs nothing.
fn work(agent: &Client) -> Result<Value, ClientError> {
    let body =
        json!({ "action": "history.read", "resource": "repo:creto", "args": {}, "units": 1 });
    agent.post("/v1/actions", &body)
}

fn allowed(agent: &Client) {
    let answer = work(agent).unwrap();
    assert_eq!(answer["outcome"], "allow", "{answer}");
}

fn algorithms(server: &Server) -> Vec<String> {
    let keys = server.stranger().get("/.well-known/jwks.json").unwrap();
    let keys = keys["keys"].as_array().unwrap().iter();
    keys.map(|key| key["alg"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_live_organization_moves_to_another_algorithm_without_a_failed_request() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let old = server.agent(&worker);
    allowed(&old);
    server.stop();
    server.configure(|table| {
        let new = "ML-DSA-65";
        set(table, &["crypto", "signatures", "new"], new);
        let wrapping = "HKDF-SHA256+ChaCha20-Poly1305";
        set(table, &["crypto", "key_wrapping", "new"], wrapping);
        set(table, &["crypto", "sealing", "new"], "ChaCha20-Poly1305");
    });
    server.restart();
    assert_eq!(algorithms(&server), ["ML-DSA-65-Ed25519"]);

    // Agents work, and new tokens are issued, while keys are rotated again and again.
    let done = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let first = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    allowed(&old);
                    allowed(&server.agent(&worker));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let first = rotate(&server);
        rotate(&server);
        rotate(&server);
        let so_far = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) < so_far + 4 {
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        first
    });
    assert_eq!(first["issuer"], "ML-DSA-65");
    assert_eq!(first["wrapping"], "HKDF-SHA256+ChaCha20-Poly1305");
    assert_eq!(first["wrapping_version"], 2);
    let four = ["ML-DSA-65", "ML-DSA-65-Ed25519", "ML-DSA-65", "ML-DSA-65"];
    assert_eq!(algorithms(&server), four);

    server.kill_and_restart();
    allowed(&old);
    let new = server.agent(&worker);
    allowed(&new);
    let retire = ["crypto", "retire", "--reason", "moved"];
    refused(server.path(), &retire, "issuer_in_use");
    allowed(&old);

    // All the keys of before end, with the tokens they signed, the owner's among them.
    let retire = ["crypto", "retire", "--reason", "moved", "--now"];
    good(server.path(), &retire);
    for _ in 0..2 {
        assert_eq!(work(&old).unwrap_err().reported_code(), "invalid_token");
        allowed(&new);
        assert_eq!(algorithms(&server), ["ML-DSA-65"]);
        server.kill_and_restart();
    }
    refused(server.path(), &["agent", "list"], "invalid_token");
    server.stop();
    good(server.path(), &["init", "--renew-credential"]);
    server.restart();
    good(server.path(), &["agent", "list"]);
    allowed(&new);
    good(server.path(), &["audit", "export", "evidence"]);
    good(server.path(), &["verify", "evidence"]);
}

/// By what the wrapping keys are wrapped.
fn under_the_root(server: &Server) -> String {
    let ask = "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as db:\n    \
               rows = db.execute(\"SELECT DISTINCT json_extract(wrapped, '$.alg') \
               FROM wrapping_keys\")\n    print(','.join(row[0] for row in rows))";
    let answer = std::process::Command::new("python3")
        .args(["-c", ask])
        .arg(server.path().join("data/creto.db"))
        .output()
        .unwrap();
    String::from_utf8(answer.stdout).unwrap().trim().to_owned()
}

#[test]
fn another_root_key_opens_everything_and_a_killed_change_is_finished() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    let change = ["crypto", "rotate-root"];
    refused(server.path(), &change, "store_in_use");
    server.stop();
    let path = server.path().join("data/root.key");
    let next = server.path().join("data/root.key.next");
    let read = || fs::read_to_string(&path).unwrap();
    let first = read();

    // Killed before anything was moved: the key it had made is of no use.
    fs::copy(&path, &next).unwrap();
    fs::write(&next, "ab".repeat(32)).unwrap();
    // And one of another time, while it was being written.
    let unfinished = server
        .path()
        .join("data/root.key.next.0123456789abcdef.tmp");
    fs::write(&unfinished, "cd".repeat(32)).unwrap();
    let wrapping = "HKDF-SHA384+A256GCM";
    server.configure(|table| set(table, &["crypto", "key_wrapping", "new"], wrapping));
    let said = good(server.path(), &change);
    assert!(said.contains("changed"), "{said}");
    assert_eq!(under_the_root(&server), wrapping);
    assert!(!unfinished.exists());
    let second = read();
    assert_ne!(first, second);
    assert!(!second.contains("abab") && !next.exists());
    server.restart();
    allowed(&agent);
    server.stop();

    // Killed after everything was moved: the key it had made is the right one.
    fs::copy(&path, &next).unwrap();
    fs::write(&path, &first).unwrap();
    refused(server.path(), &["serve"], "root_key_unfinished");
    let said = good(server.path(), &change);
    assert!(said.contains("brought to its end"), "{said}");
    assert_eq!(read(), second);
    server.restart();
    allowed(&agent);
    allowed(&server.agent(&worker));
    server.stop();

    // The old one opens nothing any more.
    fs::write(&path, &first).unwrap();
    refused(server.path(), &["serve"], "open_failed");
    fs::write(&path, &second).unwrap();
    server.restart();
    rotate(&server);
    good(server.path(), &["audit", "export", "evidence"]);
    good(server.path(), &["verify", "evidence"]);
}

#[test]
fn the_root_key_may_come_from_the_environment() {
    let site = Site::new();
    let path = site.path().join("data/root.key");
    let old = fs::read_to_string(&path).unwrap().trim().to_owned();
    fs::remove_file(&path).unwrap();
    let named = |site: &Site, key: &str| {
        let reference = format!("${{CRETO_TEST_ROOT_KEY:-{key}}}");
        site.configure(|table| set(table, &["identity", "root_key"], reference));
    };
    named(&site, &old);
    refused(
        site.path(),
        &["crypto", "rotate-root"],
        "root_key_elsewhere",
    );
    let new = "5c".repeat(32);
    let words = ["crypto", "rotate-root", "--new-key-env", "THE_NEW_KEY"];
    for state in ["changed", "brought to its end"] {
        let output = creto_with(site.path(), &words, &[("THE_NEW_KEY", &new)]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains(state), "{}", said(&output));
        assert!(!said(&output).contains(&new));
    }
    refused(site.path(), &["serve"], "open_failed");
    named(&site, &new);
    let server = site.start();
    good(server.path(), &["agent", "list"]);
    assert!(
        !fs::read_to_string(server.path().join("server.log"))
            .unwrap()
            .contains(&new)
    );
}

/// Where nothing lies under a wrapping key, all of it lies under the root key itself: that
/// no wrapping key is under the old one says nothing then.
#[test]
fn a_root_key_by_reference_is_not_taken_for_changed_where_nothing_was_moved() {
    let site = Site::new();
    let path = site.path().join("data/root.key");
    let old = fs::read_to_string(&path).unwrap().trim().to_owned();
    fs::remove_file(&path).unwrap();
    let reference = format!("${{CRETO_TEST_ROOT_KEY:-{old}}}");
    site.configure(|table| set(table, &["identity", "root_key"], reference));
    let forget = "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as db:\n    \
                  db.execute('DELETE FROM wrapping_keys')";
    let forgot = std::process::Command::new("python3")
        .args(["-c", forget])
        .arg(site.path().join("data/creto.db"))
        .status();
    assert!(forgot.unwrap().success());
    let words = ["crypto", "rotate-root", "--new-key-env", "THE_NEW_KEY"];
    let output = creto_with(site.path(), &words, &[("THE_NEW_KEY", &"5c".repeat(32))]);
    assert!(
        !said(&output).contains("brought to its end"),
        "{}",
        said(&output)
    );
}

/// What the process holds must not reach a disk by a crash.
#[test]
fn a_server_writes_no_core() {
    let server = Server::fresh();
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"]);
}
