//! Records are found by what they say, whatever becomes of the keys, and the index says it
//! to nobody who has the database alone.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, code, good, said};

const RESOURCE: &str = "repo:hidden-7f91c2";
const SECRET: &str = "hidden-0b5e44";

/// What is searched for, and how many records say it. Nothing that follows says any of it.
const ASKED: [(&[&str], usize); 7] = [
    (&["--agent", "worker", "--kind", "action.decided"], 1),
    (&["--member", "planner", "--outcome", "deny"], 1),
    (&["--action", "history.read"], 1),
    (&["--resource", RESOURCE], 1),
    (&["--resource", SECRET], 1),
    (&["--outcome", "deny"], 1),
    (&["--kind", "secret.refused"], 1),
];

fn found(server: &Server, words: &[&str]) -> usize {
    let words = [&["--json", "audit", "search"], words].concat();
    let answer: Value = serde_json::from_str(&good(server.path(), &words)).unwrap();
    assert_eq!(answer["searched"], answer["size"], "{answer}");
    answer["items"].as_array().unwrap().len()
}

fn every_field_finds(server: &Server) {
    for (words, count) in ASKED {
        assert_eq!(found(server, words), count, "{words:?}");
    }
}

/// Runs this on the database, as whoever has the file would.
fn python(server: &Server, script: &str, words: &[&str]) -> String {
    let answer = Command::new("python3")
        .args(["-c", script])
        .arg(server.path().join("data/creto.db"))
        .args(words)
        .output()
        .unwrap();
    assert!(answer.status.success(), "{}", said(&answer));
    said(&answer).trim().to_owned()
}

/// How many rows of the index there are of a leaf, but that of its kind. Every row of it
/// is looked at: it has a tag and nothing else.
fn rows(server: &Server, leaf: u64) -> usize {
    let script = "
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    rows = db.execute('SELECT * FROM search').fetchall()
assert rows
for log, field, tag, leaf in rows:
    assert isinstance(tag, bytes) and len(tag) == 16, tag
    assert not any(word.encode()[:16] in tag for word in sys.argv[3:]), tag
print(sum(leaf == int(sys.argv[2]) and field != 6 for _, field, _, leaf in rows))
";
    let leaf = leaf.to_string();
    let words = [
        &leaf,
        "worker",
        "planner",
        "carol",
        "history.read",
        RESOURCE,
        SECRET,
    ];
    python(server, script, &words).parse().unwrap()
}

/// The tables that have this text anywhere.
fn tables_with(server: &Server, text: &str) -> String {
    let script = "
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    names = [row[0] for row in db.execute(\"SELECT name FROM sqlite_schema WHERE type = 'table'\")]
    found = [name for name in names if any(
        sys.argv[2].encode() in (cell if isinstance(cell, bytes) else str(cell).encode())
        for row in db.execute(f'SELECT * FROM {name}') for cell in row)]
print(' '.join(found))
";
    python(server, script, &[text])
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
fn records_are_found_whatever_becomes_of_the_keys() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    let work = json!({ "action": "history.read", "resource": RESOURCE, "args": {}, "units": 1 });
    let decided = agent.post("/v1/actions", &work).unwrap();
    assert_eq!(decided["outcome"], "deny", "{decided}");
    let read = agent.post(&format!("/v1/secrets/{SECRET}/read"), &json!({}));
    assert_eq!(code(read), "not_found");
    let create = ["human", "create", "carol", "--role", "operator"];
    let create = [&create[..], &["--out", "carol.credential"]].concat();
    good(server.path(), &create);
    server.make_agent("spare");
    let suspend = ["--json", "--credential", "carol.credential"];
    let suspend = [
        &suspend[..],
        &["agent", "suspend", "spare", "--reason", "r"],
    ]
    .concat();
    let suspended: Value = serde_json::from_str(&good(server.path(), &suspend)).unwrap();
    let by_carol = suspended["leaf"].as_u64().unwrap();
    let agent_carol = ["--agent", "carol", "--kind", "principal.suspended"];

    let look = |server: &Server| {
        every_field_finds(server);
        assert_eq!(found(server, &agent_carol), 1);
        assert!(rows(server, by_carol) > 0);
        // The answer of the server, which is kept for an idempotency key, names it.
        assert_eq!(tables_with(server, RESOURCE), "replies");
        assert!(!found_below(&server.path().join("data"), SECRET));
    };
    look(&server);
    server.kill_and_restart();
    look(&server);
    good(server.path(), &["crypto", "rotate", "--reason", "r"]);
    look(&server);
    let retire = ["crypto", "retire", "--reason", "r", "--now"];
    good(server.path(), &retire);
    server.stop();
    good(server.path(), &["init", "--renew-credential"]);
    server.restart();
    look(&server);
    server.stop();
    good(server.path(), &["crypto", "rotate-root"]);
    server.restart();
    look(&server);

    // Carol's own records are found no more, and all others as before.
    let suspend = ["human", "suspend", "carol", "--reason", "left"];
    good(server.path(), &suspend);
    let erase = ["subject", "erase", "carol", "--reason", "asked for it"];
    good(server.path(), &erase);
    for _ in 0..400 {
        if rows(&server, by_carol) == 0 {
            break;
        }
        sleep(Duration::from_millis(25));
    }
    for _ in 0..2 {
        assert_eq!(rows(&server, by_carol), 0);
        assert_eq!(found(&server, &agent_carol), 0);
        every_field_finds(&server);
        server.kill_and_restart();
    }
}

/// An index of an older file is made anew, and finds the same.
#[test]
fn an_index_that_was_dropped_is_made_again() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    let work = json!({ "action": "history.read", "resource": RESOURCE, "args": {}, "units": 1 });
    agent.post("/v1/actions", &work).unwrap();
    let read = agent.post(&format!("/v1/secrets/{SECRET}/read"), &json!({}));
    assert_eq!(code(read), "not_found");
    every_field_finds(&server);
    server.stop();
    let older = "
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    db.executescript('''
        DROP TABLE search;
        CREATE TABLE search (log, field, value, leaf);
        INSERT INTO search VALUES (1, 1, 'worker', 0);
        PRAGMA user_version = 30;
    ''')
";
    python(&server, older, &[]);
    server.restart();
    every_field_finds(&server);
    assert_eq!(rows(&server, u64::MAX >> 1), 0);
    let export = ["audit", "export", "bundle", "--member", "planner"];
    good(server.path(), &export);
}
