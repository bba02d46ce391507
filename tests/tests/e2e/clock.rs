//! A clock that is far ahead when something starts is believed by nobody who was not told.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Server, creto_with, faketime, good, in_seconds, now, recorded, said, set};

const DAY: u64 = 86_400;

/// The environment of a clock that is this far ahead.
fn ahead(days: u64) -> [(&'static str, String); 3] {
    [
        ("LD_PRELOAD", faketime()),
        ("FAKETIME", format!("+{days}d")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

fn run(dir: &Path, days: u64, words: &[&str]) -> (Option<i32>, String) {
    let clock = ahead(days);
    let clock: Vec<_> = clock.iter().map(|(name, v)| (*name, v.as_str())).collect();
    let output = creto_with(dir, words, &clock);
    (output.status.code(), said(&output))
}

/// Everything in the data directory that is kept.
fn kept(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut left = vec![dir.join("data")];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => all.push((path.display().to_string(), std::fs::read(path).unwrap())),
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_clock_far_ahead_at_a_start_is_refused_and_changes_nothing() {
    let mut server = Server::fresh();
    server.make_agent("before");
    let dir = server.path().to_owned();
    server.stop();
    let before = kept(&dir);
    let until_yesterday = (now() - Duration::from_secs(DAY)).to_string();
    let short = in_seconds(39 * DAY);
    for words in [
        &["serve"][..],
        &["serve", "--accept-clock", &until_yesterday],
        &["serve", "--accept-clock", &short],
        &["crypto", "rotate-root"],
        &["init", "--renew-credential"],
    ] {
        let (status, text) = run(&dir, 40, words);
        assert_eq!(status, Some(1), "{words:?}: {text}");
        for part in [
            "clock_ahead_at_start",
            ", 39 days before",
            "than the 30 days",
            "start the server once with `--accept-clock ",
        ] {
            assert!(text.contains(part), "{words:?}: {text}");
        }
        assert_eq!(kept(&dir), before, "{words:?}");
    }
    let (status, usage) = run(&dir, 40, &["serve", "--accept-clock", "yes"]);
    assert_eq!(status, Some(2), "{usage}");
    // Put right, it goes on as if nothing had been.
    server.restart();
    server.make_agent("after");
    server.kill();

    // One that was killed left what counts in another file.
    let (status, text) = run(&dir, 40, &["serve"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("clock_ahead_at_start"), "{text}");
    server.restart();
    server.make_agent("last");
}

#[test]
fn a_clock_that_is_right_is_accepted_once_and_that_is_recorded() {
    let mut server = Server::fresh();
    server.make_agent("before");
    server.stop();
    server.configure(|table| set(table, &["audit", "payload_retention_days"], 1));
    for (name, value) in ahead(40) {
        server.give(name, value);
    }
    let until = in_seconds(40 * DAY + 3_600);
    server.restart_with(&["--accept-clock", &until]);
    let accepted = recorded(&server, "clock.accepted");
    assert_eq!(accepted.len(), 1);
    let record = &accepted[0]["record"];
    assert_eq!(record["actor"], "owner");
    let time = |field: &str| -> creto_types::Timestamp {
        record["body"][field].as_str().unwrap().parse().unwrap()
    };
    let slept = time("clock").duration_since(time("newest")).as_secs();
    assert!((39 * 86_400..=40 * 86_400).contains(&slept), "{slept}");
    assert_eq!(time("until").to_string(), until);
    assert_eq!(record["body"]["max_downtime_seconds"], 30 * DAY);
    assert_eq!(
        record["at"].as_str().map(|at| &at[..10]),
        Some(&time("clock").to_string()[..10])
    );
    server.make_agent("after");
    // Nothing ends yet by a clock that was believed on somebody's word.
    let log = std::fs::read_to_string(server.path().join("server.log")).unwrap();
    assert!(log.contains("and was accepted"), "{log}");
    assert!(recorded(&server, "payloads.expired").is_empty());
    server.stop();

    // The time goes on from there: nothing is accepted a second time.
    server.restart_with(&["--accept-clock", &until]);
    server.stop();
    server.restart();
    assert_eq!(recorded(&server, "clock.accepted").len(), 1);
    for _ in 0..400 {
        if !recorded(&server, "payloads.expired").is_empty() {
            break;
        }
        sleep(Duration::from_millis(25));
    }
    assert!(!recorded(&server, "payloads.expired").is_empty());
    good(server.path(), &["audit", "export", "bundle"]);
    good(server.path(), &["verify", "bundle"]);
}

#[test]
fn for_how_long_nothing_may_run_is_configured() {
    let mut server = Server::fresh();
    server.stop();
    let limit = |server: &Server, days: i64| {
        server.configure(|table| set(table, &["consensus", "max_downtime_days"], days));
    };
    limit(&server, 0);
    let (_, text) = run(server.path(), 0, &["config", "check"]);
    assert!(text.contains("max_downtime_days"), "{text}");
    limit(&server, 10);
    let (_, text) = run(server.path(), 12, &["serve"]);
    assert!(text.contains("than the 10 days"), "{text}");
    limit(&server, 50);
    for (name, value) in ahead(40) {
        server.give(name, value);
    }
    server.restart();
    assert!(recorded(&server, "clock.accepted").is_empty());
}
