//! A log that strangers follow is given other keys.

use std::path::Path;

use crate::harness::{creto, said};
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
