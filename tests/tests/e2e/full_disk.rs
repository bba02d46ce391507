//! A disk that is full is said to be so, loses nothing, and needs no restart once it is
//! not.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use creto_client::Client;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::harness::{Site, code, creto, said};

/// Puts the directory, as it is, on a file system of its own of this many megabytes. It
/// is seen by this thread and what it starts, and goes with them.
fn on_a_small_disk(dir: &Path, megabytes: u32) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let before = dir.with_extension("before");
    std::fs::rename(dir, &before).unwrap();
    std::fs::create_dir(dir).unwrap();
    let size = format!("size={megabytes}m,mode=700");
    mount(
        Some("tmpfs"),
        dir,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(size.as_str()),
    )
    .unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(before.join("."))
        .arg(dir)
        .status()
        .unwrap();
    assert!(copied.success());
}

/// Takes all the room that is left.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for block in [64 * 1024, 4 * 1024] {
        while file.write_all(&vec![1; block]).is_ok() {}
    }
}

fn make(owner: &Client, name: &str) -> Result<Value, creto_client::ClientError> {
    let body = json!({"name": name, "kind": "agent"});
    owner.post_with_key("/v1/principals", &body, name)
}

/// That the agents there are are these, and no other.
fn assert_all(owner: &Client, made: &[String]) {
    let listed = owner.pages("/v1/principals").map(Result::unwrap);
    let mut names: Vec<String> = listed
        .filter(|principal| principal["kind"] == "agent")
        .map(|principal| principal["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    let mut made = made.to_vec();
    made.sort();
    assert_eq!(names, made);
}

#[test]
fn a_full_disk_is_said_so_loses_nothing_and_needs_no_restart() {
    let site = Site::new();
    let data = site.path().join("data");
    on_a_small_disk(&data, 24);
    let mut server = site.start();
    let owner = server.owner();
    make(&owner, "before").unwrap();
    let mut made = vec!["before".to_owned()];

    let filler = data.join("filler");
    fill(&filler);
    // What the files hold already is written to still.
    let refused = loop {
        let name = format!("agent-{}", made.len());
        match make(&owner, &name) {
            Ok(_) => made.push(name),
            Err(error) => break error,
        }
        assert!(made.len() < 5_000, "the disk is never full");
    };
    let problem = refused.problem().unwrap();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (503, "storage_full")
    );
    for _ in 0..5 {
        assert_eq!(code(make(&owner, "refused")), "storage_full");
    }
    // Reading goes on.
    assert_all(&owner, &made);

    std::fs::remove_file(&filler).unwrap();
    // With the key of the refused call: it was not made.
    let name = format!("agent-{}", made.len());
    make(&owner, &name).unwrap();
    made.push(name);
    make(&owner, "after").unwrap();
    made.push("after".to_owned());

    server.kill_and_restart();
    let owner = server.owner();
    assert_all(&owner, &made);
    make(&owner, "last").unwrap();
    server.kill();
    umount(&data).unwrap();
}

/// Runs a command that the full disk refuses, and checks that it says so and where.
fn refused(site: &Path, words: &[&str], at: &Path) {
    let output = creto(site, &[&["--json"], words].concat());
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    // Log lines stand before it.
    let error = said.find("{\n").unwrap_or_else(|| panic!("{said}"));
    let answer: Value = serde_json::from_str(&said[error..]).unwrap();
    assert_eq!(answer["error"]["code"], "storage_full", "{said}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("disk is full") && message.contains(at.to_str().unwrap()),
        "{message}"
    );
}

#[test]
fn what_is_started_on_a_full_disk_says_so_and_works_once_there_is_room() {
    let site = Site::new();
    let dir = site.path().to_owned();
    let data = dir.join("data");
    let server = site.start();
    let owner = server.owner();
    make(&owner, "before").unwrap();
    let made = ["before".to_owned()];
    let mut server = server;
    server.kill();
    on_a_small_disk(&data, 4);
    let (root, filler) = (data.join("root.key"), data.join("filler"));
    let root_key = std::fs::read(&root).unwrap();
    for left in [0, 4, 12, 32, 60] {
        fill(&filler);
        let file = File::options().write(true).open(&filler).unwrap();
        let size = file.metadata().unwrap().len();
        file.set_len(size - left * 1024).unwrap();
        refused(&dir, &["serve"], &data);
        refused(&dir, &["crypto", "rotate-root"], &data);
        refused(&dir, &["init", "--renew-credential"], &data);
        assert_eq!(std::fs::read(&root).unwrap(), root_key, "with {left} KiB");
        std::fs::remove_file(&filler).unwrap();
    }

    server.restart();
    assert_all(&server.owner(), &made);
    make(&server.owner(), "after").unwrap();
    server.stop();
    let rotated = creto(&dir, &["crypto", "rotate-root"]);
    assert!(rotated.status.success(), "{}", said(&rotated));
    server.restart();
    assert_all(&server.owner(), &["before".to_owned(), "after".to_owned()]);
    server.stop();

    // What cannot be made leaves nothing behind.
    let other = dir.join("other");
    std::fs::create_dir(&other).unwrap();
    let place = data.join("second");
    let words = [
        "init",
        "--org",
        "Second",
        "--data-dir",
        place.to_str().unwrap(),
    ];
    fill(&filler);
    for _ in 0..2 {
        refused(&other, &words, &place);
        assert!(!place.exists());
        assert_eq!(std::fs::read_dir(&other).unwrap().count(), 0);
    }
    std::fs::remove_file(&filler).unwrap();
    let founded = creto(&other, &words);
    assert!(founded.status.success(), "{}", said(&founded));
    umount(&data).unwrap();
}

/// What was made until then is gone, and once there is room the same command works.
#[test]
fn an_init_on_a_full_disk_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site");
    std::fs::create_dir(&site).unwrap();
    on_a_small_disk(&site, 1);
    let init = || creto(&site, &["init", "--org", "Test", "--owner", "owner"]);
    let ballast = site.join("ballast");
    // From where not even the policies fit, to where the database does not.
    for kilobytes in [1020, 1000, 960, 900, 700] {
        std::fs::write(&ballast, vec![1; kilobytes * 1024]).unwrap();
        let failed = init();
        assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
        assert!(said(&failed).contains("storage_full"), "{}", said(&failed));
        let left: Vec<_> = std::fs::read_dir(&site).unwrap().collect();
        assert_eq!(left.len(), 1, "{kilobytes} KiB taken: {left:?}");
    }
}
