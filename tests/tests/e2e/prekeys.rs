//! A prekey goes to one taker, however many ask and however often the server dies.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Server, Site, code, creto, delegation, good, granted, python, refused, said, set,
};

const POLICY: &str = r#"
@id("prekeys")
permit (
  principal,
  action in [Creto::Action::"prekey.publish", Creto::Action::"prekey.take"],
  resource
);
"#;

/// What `guarded` publishes a human looks at first.
const GUARDED: &str = r#"
@id("guarded")
@oversight("prekeys")
@reason("what it is told is told to nobody else")
forbid (principal, action == Creto::Action::"prekey.publish", resource)
when { resource.id == "prekey:inbox" } unless { context.oversight.approved };
"#;

/// A server with new prekeys of this algorithm, where `inbox` publishes and `outbox`
/// takes; gives their delegations and the SPIFFE id of `inbox`. Their tokens lie in files.
fn serving(algorithm: &str) -> (Server, [String; 2], String) {
    serving_under(algorithm, POLICY)
}

fn serving_under(algorithm: &str, policy: &str) -> (Server, [String; 2], String) {
    let site = Site::new();
    site.configure(|table| set(table, &["crypto", "kem", "new"], algorithm));
    fs::write(site.path().join("policies/prekeys.cedar"), policy).unwrap();
    good(site.path(), &["policy", "validate", "policies"]);
    let server = site.start();
    let dir = server.path();
    let links = ["inbox", "outbox"].map(|name| {
        server.make_agent(name);
        let mut body = delegation(name, "1.00");
        body["rights"] = json!([{"action": "prekey.*", "resource": "prekey:*"}]);
        let link = granted(&server.owner(), &body);
        let file = format!("{name}.token");
        good(dir, &["agent", "token", &link, "--out", &file]);
        link
    });
    let own = creto(dir, &["--credential", "inbox.token", "--json", "self"]);
    let own: Value = serde_json::from_slice(&own.stdout).unwrap();
    let id = own["spiffe_id"].as_str().unwrap().to_owned();
    (server, links, id)
}

fn generate(dir: &Path, out: &str, more: &[&str]) -> Value {
    let words = [
        "--credential",
        "inbox.token",
        "--json",
        "prekeys",
        "generate",
        "--out",
        out,
    ];
    let output = creto(dir, &[&words[..], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn left(server: &Server, id: &str) -> u64 {
    let path = format!("/v1/prekeys?spiffe_id={id}");
    let answer = server.owner().get(&path).unwrap();
    answer["one_time"].as_u64().unwrap()
}

/// The ids of the keys that serve once, of every `prekey.taken` in the log.
fn taken(server: &Server) -> Vec<String> {
    let owner = server.owner();
    (0..10_000)
        .map_while(|leaf| owner.get(&format!("/v1/audit/leaves/{leaf}")).ok())
        .map(|answer| answer["record"].clone())
        .filter(|record| record["kind"] == "prekey.taken")
        .filter(|record| record["body"]["kind"] == "one_time")
        .map(|record| record["body"]["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_stranger_agrees_on_a_secret_with_the_owner_of_the_private_half() {
    let (mut server, [_, outbox], id) = serving("ML-KEM-768");
    let dir = server.path().to_owned();
    let published = generate(&dir, "private.json", &["--one-time", "2"]);
    assert_eq!(
        published["published"]["one_time"].as_array().unwrap().len(),
        2
    );
    let mode = fs::metadata(dir.join("private.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    server.kill_and_restart();
    assert_eq!(left(&server, &id), 2);
    let shown = good(&dir, &["--credential", "inbox.token", "prekeys", "left"]);
    assert!(shown.contains("ML-KEM-768"), "{shown}");

    good(&dir, &["agent", "keys", &id, "--out", "inbox.keys"]);
    let take = |out: &str, more: &[&str]| {
        let words = [
            "--credential",
            "outbox.token",
            "prekeys",
            "take",
            &id,
            "--out",
            out,
        ];
        good(&dir, &[&words[..], more].concat())
    };
    assert!(take("1", &["--keys", "inbox.keys"]).contains("one_time"));
    assert!(take("2", &[]).contains("one_time"));
    assert!(take("3", &[]).contains("last_resort"));
    let read = |file: &str| -> Value {
        serde_json::from_slice(&fs::read(dir.join(file)).unwrap()).unwrap()
    };
    assert_ne!(read("1")["id"], read("2")["id"]);
    for prekey in ["1", "2", "3"] {
        let output = python("prekey_client.py", "cryptography")
            .current_dir(&dir)
            .args([prekey, "inbox.keys", "private.json"])
            .output()
            .unwrap();
        assert_eq!(said(&output).trim(), "agreed");
    }

    // By the keys of somebody else none is taken.
    let keys = fs::read_to_string(dir.join("inbox.keys")).unwrap();
    fs::write(
        dir.join("other.keys"),
        keys.replace("/agent/inbox", "/agent/outbox"),
    )
    .unwrap();
    let words = [
        "--credential",
        "outbox.token",
        "prekeys",
        "take",
        &id,
        "--keys",
        "other.keys",
    ];
    refused(&dir, &words, "signed_by_another");

    // Nobody keeps private halves of what was not published, nor loses any before.
    let words = [
        "--credential",
        "inbox.token",
        "prekeys",
        "generate",
        "--out",
    ];
    refused(
        &dir,
        &[&words[..], &["private.json"]].concat(),
        "file_exists",
    );
    let unread = ["late.json", "--algorithm", "ML-KEM-1024"];
    refused(
        &dir,
        &[&words[..], &unread].concat(),
        "algorithm_not_allowed",
    );
    assert!(!dir.join("late.json").exists());

    // As many as may wait, and no more; the one of last resort only when it is asked.
    let more = generate(&dir, "more.json", &["--keep-last-resort"]);
    assert_eq!(more["published"]["one_time"].as_array().unwrap().len(), 100);
    assert!(more["published"].get("last_resort").is_none(), "{more}");
    assert_eq!(left(&server, &id), 100);
    let none = ["none.json", "--one-time", "1"];
    refused(&dir, &[&words[..], &none].concat(), "invalid_request");

    // Of somebody suspended none is given out.
    good(
        &dir,
        &["agent", "suspend", "inbox", "--reason", "looked into"],
    );
    let body = json!({ "owner": id });
    let suspended = server.agent(&outbox).post("/v1/prekeys/take", &body);
    assert_eq!(code(suspended), "prekey_owner_suspended");
    server.kill_and_restart();
    let suspended = server.agent(&outbox).post("/v1/prekeys/take", &body);
    assert_eq!(code(suspended), "prekey_owner_suspended");
    assert_eq!(left(&server, &id), 100);
    good(&dir, &["audit", "export", "evidence"]);
    good(&dir, &["verify", "evidence"]);
}

#[test]
fn prekeys_that_wait_for_a_human_are_kept_and_published_with_the_grant() {
    let (mut server, [inbox, _], id) = serving_under("X-Wing", &format!("{POLICY}{GUARDED}"));
    let dir = server.path().to_owned();
    let said_of = |words: &[&str], status: i32| {
        let words = [&["--credential", "inbox.token", "prekeys"], words].concat();
        let output = creto(&dir, &words);
        assert_eq!(output.status.code(), Some(status), "{}", said(&output));
        said(&output)
    };
    let held = said_of(&["generate", "--out", "private.json", "--one-time", "3"], 1);
    assert!(held.contains("requires_oversight"), "{held}");
    let then = "creto prekeys publish --keys private.json --grant GRANT";
    assert!(held.contains(then), "{held}");
    let request = held.lines().find_map(|line| line.strip_prefix("request"));
    let request = request.unwrap().trim();
    assert_eq!(left(&server, &id), 0);
    let publish = ["publish", "--keys", "private.json"];
    assert!(said_of(&publish, 1).contains(request), "the same request");
    good(&dir, &["approve", request]);
    server.kill_and_restart();
    let path = format!("/v1/oversight/requests/{request}");
    let seen = server.agent(&inbox).get(&path).unwrap();
    let grant = seen["grant"].as_str().unwrap();
    let with_grant = [&publish[..], &["--grant", grant]].concat();
    let published = said_of(&with_grant, 0);
    assert!(published.contains("private.json"), "{published}");
    assert_eq!(left(&server, &id), 3);
    // Once more it does no harm, and the private halves stay.
    assert!(said_of(&with_grant, 1).contains("conflict"));
    assert!(dir.join("private.json").exists());
    good(&dir, &["audit", "export", "evidence"]);
    good(&dir, &["verify", "evidence"]);
}

/// Four takers at once, and the server is killed under them five times.
#[test]
fn no_prekey_is_given_out_twice_over_kills() {
    const TAKERS: usize = 4;
    const KILLS: usize = 5;
    let (mut server, [_, outbox], id) = serving("X-Wing");
    let dir = server.path().to_owned();
    generate(&dir, "private.json", &[]);
    let given = Mutex::new(Vec::new());
    for round in 0..=KILLS {
        let agent = server.agent(&outbox);
        thread::scope(|scope| {
            for _ in 0..TAKERS {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let answer = agent.post("/v1/prekeys/take", &json!({ "owner": id }));
                        // The server died: whatever it was about to give stays taken or not.
                        let Ok(answer) = answer else { return };
                        let prekey = &answer["prekey"];
                        let kind = prekey["kind"]
                            .as_str()
                            .unwrap_or_else(|| panic!("{answer}"));
                        if kind == "one_time" {
                            let id = prekey["id"].as_str().unwrap().to_owned();
                            given.lock().unwrap().push(id);
                        }
                    }
                });
            }
            if round < KILLS {
                thread::sleep(Duration::from_millis(
                    30 + 25 * u64::try_from(round).unwrap(),
                ));
                server.kill();
            }
        });
        if round < KILLS {
            server.restart();
        }
    }
    let given = given.into_inner().unwrap();
    let distinct: HashSet<&String> = given.iter().collect();
    assert_eq!(distinct.len(), given.len(), "given out twice");
    assert!(given.len() >= 10, "{}", given.len());
    // What is gone is on record, once each; what was given is among it.
    let recorded = taken(&server);
    let on_record: HashSet<&String> = recorded.iter().collect();
    assert_eq!(on_record.len(), recorded.len());
    assert!(distinct.is_subset(&on_record));
    let gone = u64::try_from(recorded.len()).unwrap();
    assert_eq!(left(&server, &id), 100 - gone);

    // The rest is taken, and then the last resort serves.
    let agent = server.agent(&outbox);
    let take = || {
        agent
            .post("/v1/prekeys/take", &json!({ "owner": id }))
            .unwrap()
    };
    for _ in gone..100 {
        let answer = take();
        let id = answer["prekey"]["id"].as_str().unwrap().to_owned();
        assert_eq!(answer["prekey"]["kind"], "one_time", "{answer}");
        assert!(!on_record.contains(&id));
    }
    assert_eq!(take()["prekey"]["kind"], "last_resort");
    assert_eq!(taken(&server).len(), 100);
    good(&dir, &["audit", "export", "evidence"]);
    good(&dir, &["verify", "evidence"]);
}
