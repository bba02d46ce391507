//! The demo itself: every step of the scenario, undisturbed and with the server
//! killed between every two steps. Needs what sandboxes need; `creto doctor` says
//! what a machine lacks.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use crate::harness::{creto, said};

/// Steps that the README speaks of, beside the work of the release itself.
const PROMISED: [&str; 10] = [
    "a secret is lent to planner alone",
    "reviewer signs, a stranger verifies",
    "reviewer's signing key is rotated",
    "reviewer's former key is revoked",
    "courier's token is bound to its key",
    "courier takes reviewer's prekeys",
    "owner revokes reviewer for ever",
    "a stranger follows the log",
    "carol leaves and is erased",
    "evidence is exported and verified offline",
];

/// Kinds of records that such steps leave.
const RECORDED: &[&str] = &[
    "identity.signed",
    "principal.key_rotated",
    "principal.key_revoked",
    "token.issued",
    "prekeys.published",
    "prekey.taken",
    "principal.revoked",
    "subject.erased",
];

/// The kinds of the records in a bundle, read without the program.
fn recorded(evidence: &Path) -> HashSet<String> {
    let mut kinds = HashSet::new();
    let mut pending = vec![evidence.join("tile/entries")];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let inside = std::fs::read_dir(&path).unwrap();
            pending.extend(inside.map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let mut rest = &bytes[..];
        while let Some((length, tail)) = rest.split_first_chunk::<2>() {
            let (entry, tail) = tail.split_at(u16::from_be_bytes(*length).into());
            let record: Value = serde_json::from_slice(entry).unwrap();
            kinds.insert(record["kind"].as_str().unwrap().to_owned());
            rest = tail;
        }
    }
    kinds
}

fn plays(extra: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("demo-run");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut words = vec!["demo", "--repo", repository.to_str().unwrap()];
    words.extend(["--dir", run.to_str().unwrap()]);
    words.extend(extra);
    let result = creto(dir.path(), &words);
    assert_eq!(result.status.code(), Some(0), "{}", said(&result));

    let report = std::fs::read(run.join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.len() >= 40, "{} steps", steps.len());
    let readme = std::fs::read_to_string(repository.join("README.md")).unwrap();
    let shown = readme
        .lines()
        .filter(|line| line.starts_with("ok  "))
        .count();
    let counted = format!("(shortened: {shown} of its {} steps)", steps.len());
    assert!(
        readme.contains(&counted),
        "the README does not say: {counted}"
    );
    for step in steps {
        assert_eq!(step["outcome"], step["expected"], "{step}");
    }
    for promised in PROMISED {
        let shown = steps.iter().any(|step| step["name"] == promised);
        assert!(shown, "no step is called: {promised}");
    }
    let on_record = recorded(&run.join("evidence"));
    for kind in RECORDED {
        assert!(on_record.contains(*kind), "no {kind} in the evidence");
    }
    // The evidence outlives the server and verifies by itself.
    let evidence = run.join("evidence");
    let verified = creto(dir.path(), &["verify", evidence.to_str().unwrap()]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    let root = report["root"].as_str().unwrap();
    assert!(said(&verified).contains(root), "{}", said(&verified));
}

#[test]
fn every_step_ends_as_it_should() {
    plays(&[]);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed_between_steps() {
    plays(&["--kill-between-steps"]);
}

#[test]
fn a_foreign_directory_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let words = [
        "demo",
        "--repo",
        repository.to_str().unwrap(),
        "--dir",
        dir.path().to_str().unwrap(),
    ];
    let result = creto(dir.path(), &words);
    assert_eq!(result.status.code(), Some(1), "{}", said(&result));
    assert!(dir.path().join("thesis.txt").exists());
}
