//! The demo itself: every step of the scenario, undisturbed and with the server
//! killed between every two steps. Needs what sandboxes need; `creto doctor` says
//! what a machine lacks.

use std::path::Path;

use serde_json::Value;

use crate::harness::{creto, said};

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
    assert!(steps.len() >= 20, "{} steps", steps.len());
    for step in steps {
        assert_eq!(step["outcome"], step["expected"], "{step}");
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
