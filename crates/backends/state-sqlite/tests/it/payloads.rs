//! Payloads lie sealed beside their leaves, each under the key of whose record it is.

use std::path::Path;

use creto_audit::{Journal as _, RecordClass, Sealer, conformance};
use creto_consensus::Sequencer as _;
use creto_errors::Classify as _;
use creto_governor::CommitStore as _;
use creto_state_sqlite::{Database, SqliteGovernor, SqliteJournal, SqliteSequencer};
use creto_types::{Commit, Evidence, OrgId, StoreError, SubjectId};
use serde_json::{Value, json};

use crate::sqlite;

const SECRET: &str = "what-nobody-may-read-in-the-files";

fn record(org: OrgId, kind: &str, actor: &str, body: Value) -> Evidence {
    Evidence {
        kind: kind.to_owned(),
        actor: actor.parse().unwrap(),
        body,
        ..conformance::record(org, 0)
    }
}

fn subject(leaf: &[u8]) -> SubjectId {
    let leaf: Value = serde_json::from_slice(leaf).unwrap();
    leaf["subject"].as_str().unwrap().parse().unwrap()
}

/// Whether any file of the database has these bytes.
pub(crate) fn found_in_files(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        content.windows(bytes.len()).any(|window| window == bytes)
    })
}

/// By whichever way a record gets into the journal.
#[tokio::test]
async fn no_payload_is_readable_in_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let org = conformance::org(1);
    let secret = |n: u64| record(org, "k", "hidden-actor", json!({ "n": n, "text": SECRET }));
    let db = Database::open(&path).unwrap();
    let journal = SqliteJournal::new(db.clone());
    let append = journal.append(RecordClass::Trace, vec![secret(0)]);
    append.await.unwrap();
    let commits = SqliteGovernor::new(db.clone());
    commits.commit(Commit::of(secret(1))).await.unwrap();
    let sequencer = SqliteSequencer::new(db.clone());
    sequencer.order(Commit::of(secret(2))).await.unwrap();
    assert!(found_in_files(dir.path(), b"commitment"));
    assert!(!found_in_files(dir.path(), SECRET.as_bytes()));
    assert!(!found_in_files(dir.path(), b"hidden-actor"));
    drop((journal, commits, sequencer, db));
    let journal = SqliteJournal::new(Database::open(&path).unwrap());
    for (stored, n) in journal.records(org, 0, 9).await.unwrap().iter().zip(0..) {
        let whole = stored.read().unwrap().whole().unwrap();
        assert_eq!(whole["body"], json!({ "n": n, "text": SECRET }));
        assert_eq!(whole["actor"], "hidden-actor");
    }
}

/// Another cipher for new payloads leaves the old ones readable; another root key none.
#[tokio::test]
async fn payloads_are_read_by_the_cipher_they_name_and_the_key_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let org = conformance::org(1);
    for new in ["A256GCM", "ChaCha20-Poly1305", "A256GCM"] {
        let db = Database::open_with(&path, Sealer::for_tests_with("1", new)).unwrap();
        let journal = SqliteJournal::new(db);
        let records = vec![conformance::record(org, 7)];
        let appended = journal.append(RecordClass::Evidence, records);
        let leaf = appended.await.unwrap()[0];
        let all = journal.records(org, 0, 9).await.unwrap();
        assert_eq!(all.len() as u64, leaf.0 + 1);
        for stored in all {
            assert!(stored.read().unwrap().whole().is_some());
        }
    }
    let journal = SqliteJournal::new(
        Database::open_with(&path, Sealer::for_tests_with("2", "A256GCM")).unwrap(),
    );
    let refused = journal.records(org, 0, 9).await;
    assert!(
        matches!(refused, Err(StoreError::Corrupt { .. })),
        "{refused:?}"
    );
    // The tree needs no payload.
    assert_eq!(journal.read(org, 0, 9).await.unwrap().len(), 3);
    drop(journal);

    // A cipher that is accepted no more is no corruption, and comes back when it is.
    let only = Sealer::for_tests_only_with("1", "ChaCha20-Poly1305");
    let journal = SqliteJournal::new(Database::open_with(&path, only).unwrap());
    let refused = journal.records(org, 0, 9).await.unwrap_err();
    assert_eq!(refused.code(), "algorithm_not_allowed", "{refused:?}");
    assert!(journal.records(org, 1, 1).await.is_ok());
    drop(journal);
    sqlite(
        &path,
        "UPDATE journal SET sealed = CAST(x'034e6577' || substr(sealed, 9) AS BLOB) WHERE place % 8 = 0",
    );
    let both = Sealer::for_tests_with("1", "A256GCM");
    let journal = SqliteJournal::new(Database::open_with(&path, both).unwrap());
    let refused = journal.records(org, 0, 1).await.unwrap_err();
    assert_eq!(refused.code(), "unknown_algorithm", "{refused:?}");
}

/// A payload that is moved to another leaf opens there no more, even of the same subject.
#[tokio::test]
async fn a_payload_belongs_to_its_leaf() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let org = conformance::org(1);
    let journal = SqliteJournal::new(Database::open(&path).unwrap());
    let records = (0..2).map(|n| conformance::record(org, n)).collect();
    journal.append(RecordClass::Trace, records).await.unwrap();
    drop(journal);
    let swap = "UPDATE journal SET sealed = (SELECT sealed FROM journal ORDER BY place LIMIT 1)";
    sqlite(&path, swap);
    let journal = SqliteJournal::new(Database::open(&path).unwrap());
    let first = journal.records(org, 0, 1).await.unwrap();
    assert!(first[0].read().unwrap().whole().is_some());
    let second = journal.records(org, 1, 1).await;
    assert!(
        matches!(second, Err(StoreError::Corrupt { .. })),
        "{second:?}"
    );
}

/// Whose a record is follows from it and from the delegations that are stored.
#[tokio::test]
async fn a_record_is_of_the_person_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let org = conformance::org(1);
    drop(Database::open(&path).unwrap());
    let mut setup = format!(
        "INSERT INTO organizations (id, name, created_at, owner)
             VALUES ('{org}', 'o', '2026-01-01T00:00:00Z', 'alice');"
    );
    for (name, kind) in [
        ("alice", "human"),
        ("bob", "human"),
        ("planner", "agent"),
        ("bot", "agent"),
        ("idle", "agent"),
    ] {
        setup.push_str(&format!(
            "INSERT INTO principals (org, name, kind, spiffe_id, created_at, public, private)
                 VALUES ('{org}', '{name}', '{kind}', 's', '2026-01-01T00:00:00Z', '{{}}', '{{}}');"
        ));
    }
    for (id, delegator, delegatee, parent) in [
        ("l1", "bob", "planner", "NULL"),
        ("l2", "planner", "bot", "'l1'"),
    ] {
        setup.push_str(&format!(
            "INSERT INTO delegations (org, id, delegator, delegatee, parent, signed)
                 VALUES ('{org}', '{id}', '{delegator}', '{delegatee}', {parent}, '{{}}');"
        ));
    }
    setup.push_str(&format!(
        "INSERT INTO sandboxes (org, id, running, answer)
             VALUES ('{org}', 's1', 1, '{{\"delegation\":\"l2\"}}');"
    ));
    sqlite(&path, &setup);
    let db = Database::open(&path).unwrap();
    let journal = SqliteJournal::new(db.clone());
    let commits = SqliteGovernor::new(db);
    let cases = [
        ("alice", "k", "alice", json!({})),
        ("bob", "k", "bob", json!({})),
        (
            "bob",
            "action.decided",
            "bot",
            json!({ "delegations": ["l1", "l2"] }),
        ),
        ("bob", "secret.read", "bot", json!({ "delegation": "l2" })),
        (
            "bob",
            "egress.checked",
            "bot",
            json!({ "sandbox_id": "s1" }),
        ),
        (
            "bob",
            "delegation.granted",
            "planner",
            json!({ "link": { "parent": "l1" } }),
        ),
        (
            "bob",
            "delegation.refused",
            "planner",
            json!({ "parent": "l1" }),
        ),
        (
            "bob",
            "delegation.revoked",
            "planner",
            json!({ "id": "l2" }),
        ),
        ("bob", "role.set", "alice", json!({ "principal": "bob" })),
        (
            "bob",
            "principal.suspended",
            "alice",
            json!({ "principal": "bob" }),
        ),
        (
            "alice",
            "principal.suspended",
            "alice",
            json!({ "principal": "bot" }),
        ),
        (
            "bob",
            "principal.revoked",
            "alice",
            json!({ "principal": "bob" }),
        ),
        (
            "bob",
            "prekeys.published",
            "bot",
            json!({ "owner": "bot", "delegation": "l2" }),
        ),
        (
            "bob",
            "prekey.taken",
            "planner",
            json!({ "owner": "bot", "delegation": "l1" }),
        ),
        (
            "carol",
            "principal.created",
            "alice",
            json!({ "name": "carol", "kind": "human" }),
        ),
        (
            "alice",
            "principal.created",
            "alice",
            json!({ "name": "x", "kind": "agent" }),
        ),
        ("", "k", "idle", json!({})),
        ("", "k", "bot", json!({ "delegation": "l9" })),
        (
            "",
            "subject.erased",
            "alice",
            json!({ "subject": SubjectId::of_random([1; 16]) }),
        ),
    ];
    let mut seen: Vec<(&str, SubjectId)> = Vec::new();
    for (whose, kind, actor, body) in cases {
        let record = record(org, kind, actor, body);
        let sealed = vec![record.clone()];
        let first = journal.append(RecordClass::Trace, sealed).await.unwrap()[0];
        commits.commit(Commit::of(record)).await.unwrap();
        for stored in journal.read(org, first.0, 2).await.unwrap() {
            let subject = subject(&stored);
            match seen.iter().find(|(name, _)| *name == whose) {
                Some((_, known)) => assert_eq!(*known, subject, "{kind} is of {whose}"),
                None => {
                    let taken = seen.iter().any(|(_, known)| *known == subject);
                    assert!(!taken, "{kind} is of nobody but {whose}");
                    seen.push((whose, subject));
                }
            }
        }
    }
    assert_eq!(seen.len(), 4);
}
