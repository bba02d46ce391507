//! A log that strangers follow is given other keys.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;

use crate::algorithms::reload;
use crate::harness::{creto, python, said, set};
use crate::transparency::{Public, answer, good, text, until};

/// The log's own signature lines.
fn lines(note: &str, origin: &str) -> usize {
    let line = format!("\u{2014} {origin} ");
    note.lines()
        .filter(|shown| shown.starts_with(&line))
        .count()
}

fn refused(dir: &Path, words: &[&str], code: &str) {
    let (status, error) = answer(dir, words);
    assert_eq!(
        (status, &error["error"]["code"]),
        (Some(1), &code.into()),
        "{error}"
    );
}

/// A proof of the first leaf checks under this key.
fn proven(dir: &Path, number: u8, key: &str) {
    let (leaf, proof) = (format!("{number}.json"), format!("{number}.tlog-proof"));
    let printed = creto(dir, &["audit", "prove", "1", "--leaf-to", &leaf]);
    assert!(printed.status.success(), "{}", said(&printed));
    std::fs::write(dir.join(&proof), printed.stdout).unwrap();
    let words = [
        "audit",
        "check-proof",
        &proof,
        "--leaf",
        &leaf,
        "--key",
        key,
    ];
    let (status, proven) = answer(dir, &words);
    assert_eq!(status, Some(0), "{proven}");
}

#[test]
fn a_followed_log_is_given_other_keys_and_nobody_is_left_behind() {
    let mut public = Public::new(0);
    let dir = public.server.path().to_owned();
    let size = public.grow(2, "before");
    public.cosigned(size);
    let old = public.key.clone();
    let follows = |public: &Public, key: &str| {
        let (status, looked) = public.watch(&["--key", key]);
        assert_eq!(status, Some(0), "{looked}");
    };
    follows(&public, &old);
    good(&dir, &["audit", "export", "first"]);

    let retire = ["crypto", "retire", "--log", "--reason", "all have them"];
    refused(&dir, &retire, "not_found");
    let rotate = ["crypto", "rotate", "--log", "--reason", "the yearly one"];
    let rotated = good(&dir, &rotate);
    for purpose in ["log_ed25519", "log_composite", "evidence"] {
        assert_ne!(rotated["kids"][purpose], rotated["former_kids"][purpose]);
    }
    refused(&dir, &rotate, "log_keys_not_retired");
    let keys = good(&dir, &["audit", "keys"]);
    let (new, origin) = (text(&keys, "ed25519"), text(&keys, "origin"));
    assert_ne!(new, old);
    assert_eq!(keys["former"]["ed25519"], old.as_str());

    // Everybody goes on, over a stop in the middle too: whoever knows the old key, as the
    // witness does, and whoever knows the new one.
    for round in 0..2 {
        let size = public.grow(1, &format!("besides-{round}"));
        let note = public.cosigned(size);
        assert_eq!(lines(&note, &origin), 4, "{note}");
        for key in [&old, &new] {
            follows(&public, key);
            proven(&dir, round, key);
            for file in [format!("{round}.json"), format!("{round}.tlog-proof")] {
                std::fs::remove_file(dir.join(file)).unwrap();
            }
        }
        public.server.kill_and_restart();
    }
    good(&dir, &["audit", "export", "second"]);

    let retired = good(&dir, &retire);
    assert_eq!(
        retired["kids"]["log_ed25519"],
        rotated["former_kids"]["log_ed25519"]
    );
    refused(&dir, &retire, "not_found");
    for round in 0..2 {
        let size = public.grow(1, &format!("after-{round}"));
        let note = until("a checkpoint by the new keys alone", || {
            let note = public.checkpoint()?;
            let covers = note.lines().nth(1)?.parse::<u64>().ok()? >= size;
            (covers && lines(&note, &origin) == 2).then_some(note)
        });
        assert!(!note.contains("witness.example"), "{note}");
        if round == 0 {
            // What it remembers is by both.
            let (status, alarm) = public.watch(&["--key", &old]);
            assert_eq!(status, Some(3), "{alarm}");
            assert_eq!(alarm["alarm"]["kind"], "bad_signature", "{alarm}");
        }
        follows(&public, &new);
        public.server.kill_and_restart();
    }
    let keys = good(&dir, &["audit", "keys"]);
    assert_eq!(text(&keys, "ed25519"), new);
    assert!(keys.get("former").is_none(), "{keys}");

    // What was exported holds its own keys.
    good(&dir, &["audit", "export", "third"]);
    for bundle in ["first", "second", "third"] {
        good(&dir, &["verify", bundle]);
    }
}

/// The algorithms of the lines of these keys, each of which a stranger's library checked.
fn checked(note: &str, keys: &[&str]) -> Vec<String> {
    let mut stranger = python("note_side.py", "cryptography")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = json!({ "note": note, "keys": keys }).to_string();
    let mut input = stranger.stdin.take().unwrap();
    input.write_all(asked.as_bytes()).unwrap();
    drop(input);
    let output = stranger.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

/// Ends the keys that a principal had before the one that it signs with.
fn forget_former_keys(dir: &Path, name: &str) {
    let keys = good(dir, &["agent", "keys", name]);
    for key in keys["keys"].as_array().unwrap() {
        if key["state"] != "present" {
            let kid = text(key, "kid");
            let revoke = ["agent", "revoke-key", name, &kid, "--reason", "moved"];
            good(dir, &revoke);
        }
    }
}

#[test]
fn a_followed_log_moves_to_ml_dsa_alone_and_nothing_is_composite_any_more() {
    const COMPOSITE: &str = "ML-DSA-65-Ed25519";
    const ML_DSA: &str = "ML-DSA-65";
    let mut public = Public::new(0);
    let dir = public.server.path().to_owned();
    let size = public.grow(1, "before");
    let both = |dir: &Path| {
        let keys = good(dir, &["audit", "keys"]);
        [text(&keys, "ed25519"), text(&keys, "composite")]
    };
    let old = both(&dir);
    let note = public.cosigned(size);
    let witness = public.witness_key.clone();
    let three = ["Ed25519", COMPOSITE, "cosigned by ML-DSA-44"];
    assert_eq!(checked(&note, &[&old[0], &old[1], &witness]), three);

    public
        .server
        .configure(|table| set(table, &["crypto", "signatures", "new"], ML_DSA));
    reload(&public.server, &public.server.owner());
    let rotate = ["crypto", "rotate", "--log", "--reason", "ML-DSA alone"];
    let rotated = good(&dir, &rotate);
    let algorithms =
        json!({ "log_ed25519": "Ed25519", "log_composite": ML_DSA, "evidence": ML_DSA });
    assert_eq!(rotated["algorithms"], algorithms);
    assert!(rotated.get("configuration_differs").is_none(), "{rotated}");
    let new = both(&dir);
    let size = public.grow(1, "between");
    let note = public.cosigned(size);
    let four = ["Ed25519", ML_DSA, "Ed25519", COMPOSITE];
    let all = [&*new[0], &*new[1], &*old[0], &*old[1]];
    assert_eq!(checked(&note, &all), four);
    // The second line alone is enough to follow it by.
    let by_second = new[1].clone();
    let (status, looked) = public.watch(&["--key", &by_second]);
    assert_eq!(status, Some(0), "{looked}");
    proven(&dir, 9, &by_second);
    good(
        &dir,
        &["crypto", "retire", "--log", "--reason", "they have it"],
    );

    // It leaves the list when nothing is left of it: not before.
    let without = |public: &Public| {
        public.server.configure(|table| {
            let accepted = vec![ML_DSA, "Ed25519"];
            set(table, &["crypto", "signatures", "accepted"], accepted);
        });
    };
    without(&public);
    let now = reload(&public.server, &public.server.owner());
    let refused = &now["reload"]["refused"];
    assert_eq!(refused["code"], "algorithm_not_allowed", "{now}");
    good(&dir, &["crypto", "rotate", "--reason", "moved"]);
    let everybody = ["crypto", "rotate", "--principals", "--reason", "moved"];
    let moved = good(&dir, &everybody);
    for principal in moved["rotated"].as_array().unwrap() {
        forget_former_keys(&dir, &text(principal, "principal"));
    }
    good(&dir, &["crypto", "retire", "--reason", "moved", "--now"]);
    public.server.stop();
    good(&dir, &["init", "--renew-credential"]);
    public.server.restart();

    let size = public.grow(1, "after");
    let note = until("a checkpoint by the new keys alone", || {
        let note = public.checkpoint()?;
        let covers = note.lines().nth(1)?.parse::<u64>().ok()? >= size;
        covers.then_some(note)
    });
    assert_eq!(checked(&note, &all), ["Ed25519", ML_DSA]);
    let (status, looked) = public.watch(&["--key", &by_second]);
    assert_eq!(status, Some(0), "{looked}");
    good(&dir, &["audit", "export", "evidence"]);
    let (status, refused) = answer(&dir, &["verify", "evidence"]);
    assert_eq!(status, Some(1), "{refused}");
    let accept = ["verify", "evidence", "--accept", ML_DSA];
    good(&dir, &accept);
}
