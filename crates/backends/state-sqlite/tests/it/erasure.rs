//! Whoever is erased cannot be read any more, by nobody, in no file.

use std::path::Path;
use std::sync::Arc;

use creto_audit::conformance::tag;
use creto_audit::{
    Journal as _, RecordClass, SUBJECT_ERASED, SearchField, SearchIndex as _, Withheld, conformance,
};
use creto_governor::{Erasure, SubjectStore as _};
use creto_nhi::NhiStore as _;
use creto_state_sqlite::{Database, SqliteIndex, SqliteJournal, SqliteNhi, SqliteSubjects};
use creto_types::{
    Claim, Commit, Evidence, LeafIndex, OrgId, PrincipalName, StoreError, SubjectId,
};
use serde_json::json;

use crate::payloads::found_in_files;
use crate::sqlite;

const PEOPLE: usize = 60;

fn org() -> OrgId {
    conformance::org(1)
}

fn person(n: usize) -> PrincipalName {
    format!("person-{n}").parse().unwrap()
}

fn by(n: usize) -> Evidence {
    Evidence {
        actor: person(n),
        ..conformance::record(org(), n as u64)
    }
}

/// An organization of many people, each with some records, of whom one is suspended.
async fn world(path: &Path, suspended: usize) -> (SqliteJournal, SqliteSubjects, SqliteIndex) {
    drop(Database::open(path).unwrap());
    let at = "2026-01-01T00:00:00Z";
    let mut setup = format!(
        "INSERT INTO organizations (id, name, created_at, owner)
             VALUES ('{}', 'o', '{at}', 'person-0');",
        org()
    );
    for n in 0..PEOPLE {
        setup.push_str(&format!(
            "INSERT INTO principals (org, name, kind, spiffe_id, created_at, public, private)
                 VALUES ('{}', '{}', 'human', 's', '{at}', '{{}}', '{{}}');",
            org(),
            person(n)
        ));
    }
    setup.push_str(&format!(
        "INSERT INTO suspensions (org, principal, since) VALUES ('{}', '{}', '{at}');
         INSERT INTO replies (org, caller, key, request_digest, response, leaves)
             VALUES ('{0}', '{1}', 'k', x'00', '\"what-was-replied\"', '[]');",
        org(),
        person(suspended)
    ));
    sqlite(path, &setup);
    let db = Database::open(path).unwrap();
    let journal = SqliteJournal::new(db.clone());
    for _ in 0..2 {
        for n in 0..PEOPLE {
            let records = vec![by(n)];
            let appended = journal.append(RecordClass::Evidence, records).await;
            appended.unwrap();
        }
    }
    let index = SqliteIndex::new(db.clone());
    let tags = (0..2 * PEOPLE).map(|n| {
        let name = person(n % PEOPLE).to_string();
        vec![
            tag(SearchField::Agent, &name),
            tag(SearchField::Kind, "resource.read"),
        ]
    });
    index.extend(org(), 0, tags.collect()).await.unwrap();
    (journal, SqliteSubjects::new(db), index)
}

fn erased(subject: SubjectId) -> Evidence {
    Evidence {
        kind: SUBJECT_ERASED.to_owned(),
        actor: person(0),
        body: json!({ "subject": subject, "reason": "asked" }),
        ..conformance::record(org(), 0)
    }
}

async fn erasure(subjects: &SqliteSubjects, n: usize) -> Erasure {
    let subject = subjects.subject(org(), &person(n)).await.unwrap();
    Erasure {
        org: org(),
        person: person(n),
        subject: subject.unwrap(),
    }
}

/// Which leaves can be read, and that the others are erased.
async fn readable(journal: &SqliteJournal) -> Vec<usize> {
    let stored = journal.records(org(), 0, 2 * PEOPLE).await.unwrap();
    let mut readable = Vec::new();
    for (place, stored) in stored.into_iter().enumerate() {
        let record = stored.read().unwrap();
        match record.withheld() {
            None => readable.push(place),
            Some(why) => assert_eq!(why, Withheld::Erased),
        }
    }
    readable
}

async fn found(index: &SqliteIndex, field: SearchField, value: &str) -> Vec<u64> {
    let tags = vec![tag(field, value)];
    let found = index.find(org(), 0..1_000, tags, 1_000).await.unwrap();
    found.leaves.into_iter().map(|leaf| leaf.0).collect()
}

#[tokio::test]
async fn a_person_is_erased_in_every_file_and_nobody_else_is() {
    let who = 31;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (journal, subjects, index) = world(&path, who).await;
    let leaves = journal.read(org(), 0, 1_000).await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    let secret = "SELECT json_extract(private, '$.ciphertext') FROM subjects WHERE person = ?1";
    let key: String = raw
        .query_row(secret, [person(who).as_str()], |row| row.get(0))
        .unwrap();
    let other: String = raw
        .query_row(secret, [person(7).as_str()], |row| row.get(0))
        .unwrap();
    drop(raw);
    assert!(found_in_files(dir.path(), key.as_bytes()));
    assert!(found_in_files(dir.path(), b"what-was-replied"));

    let target = erasure(&subjects, who).await;
    let subject = target.subject;
    let commit = Commit::of(erased(subject));
    let receipt = subjects.erase(target, commit).await.unwrap();
    let leaf = LeafIndex(2 * PEOPLE as u64);
    assert_eq!(receipt.leaf(), Some(leaf));
    assert!(!found_in_files(dir.path(), key.as_bytes()));
    assert!(!found_in_files(dir.path(), b"what-was-replied"));
    assert!(found_in_files(dir.path(), other.as_bytes()));
    let rest: Vec<_> = (0..2 * PEOPLE).filter(|n| n % PEOPLE != who).collect();
    assert_eq!(readable(&journal).await, rest);
    // The tree is over the same leaves.
    assert_eq!(journal.read(org(), 0, 2 * PEOPLE).await.unwrap(), leaves);
    assert_eq!(subjects.subject(org(), &person(who)).await.unwrap(), None);

    // The index is not past the erasure yet, and may be given what was read before.
    assert!(!subjects.sweep().await.unwrap());
    let more = vec![vec![tag(SearchField::Kind, SUBJECT_ERASED)]];
    index.extend(org(), leaf.0, more).await.unwrap();
    assert!(subjects.sweep().await.unwrap());
    let name = person(who).to_string();
    assert_eq!(found(&index, SearchField::Agent, &name).await, [0_u64; 0]);
    // By the kind, which its leaf says, it is found as before.
    let all = found(&index, SearchField::Kind, "resource.read").await;
    assert_eq!(all.len(), 2 * PEOPLE);
    assert_eq!(found(&index, SearchField::Agent, "person-7").await, [67, 7]);

    // A record about the person that comes later is another subject's.
    let records = vec![by(who)];
    let append = journal.append(RecordClass::Evidence, records);
    append.await.unwrap();
    let anew = subjects.subject(org(), &person(who)).await.unwrap();
    assert!(anew.is_some_and(|anew| anew != subject));
    drop((journal, subjects, index));
    let db = Database::open(&path).unwrap();
    let journal = SqliteJournal::new(db.clone());
    assert_eq!(readable(&journal).await, rest);
    assert!(SqliteSubjects::new(db).sweep().await.unwrap());
}

#[tokio::test]
async fn what_is_refused_erases_nothing() {
    let who = 3;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (journal, subjects, _) = world(&path, who).await;
    let all: Vec<_> = (0..2 * PEOPLE).collect();
    let conflict = |outcome| match outcome {
        Err(StoreError::Conflict { what }) => what,
        other => panic!("{other:?}"),
    };
    // Somebody who is not suspended.
    let target = erasure(&subjects, 4).await;
    let commit = Commit::of(erased(target.subject));
    assert_eq!(conflict(subjects.erase(target, commit).await), "suspension");
    // The subject of another.
    let target = Erasure {
        subject: erasure(&subjects, 4).await.subject,
        ..erasure(&subjects, who).await
    };
    let commit = Commit::of(erased(target.subject));
    assert_eq!(conflict(subjects.erase(target, commit).await), "subject");
    // A commit that is refused.
    let target = erasure(&subjects, who).await;
    let claim = Claim {
        org: org(),
        token: "once".to_owned(),
    };
    let twice = Commit::of(erased(target.subject))
        .with_claim(claim.clone())
        .with_claim(claim);
    let refused = subjects.erase(target.clone(), twice).await;
    assert!(matches!(refused, Err(StoreError::AlreadyClaimed { .. })));
    assert_eq!(readable(&journal).await, all);
    assert_eq!(journal.size(org()).await.unwrap(), 2 * PEOPLE as u64);
    // What can be erased is erased once.
    let commit = Commit::of(erased(target.subject));
    subjects
        .erase(target.clone(), commit.clone())
        .await
        .unwrap();
    assert_eq!(conflict(subjects.erase(target, commit).await), "subject");
}

/// Nothing is sealed for whom the key is gone, however the two race.
#[tokio::test]
async fn records_that_race_with_an_erasure_are_readable_or_before_it() {
    let who = 5;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (journal, subjects, _) = world(&path, who).await;
    let journal = Arc::new(journal);
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let journal = journal.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    let records = vec![by(who)];
                    let append = journal.append(RecordClass::Trace, records);
                    append.await.unwrap();
                }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let target = erasure(&subjects, who).await;
    let commit = Commit::of(erased(target.subject));
    let leaf = subjects.erase(target, commit).await.unwrap();
    let leaf = usize::try_from(leaf.leaf().unwrap().0).unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    let stored = journal.records(org(), 0, 1_000).await.unwrap();
    assert_eq!(stored.len(), 2 * PEOPLE + 201);
    for stored in &stored[leaf..] {
        assert!(stored.read().unwrap().whole().is_some());
    }
    for (place, stored) in stored[..leaf].iter().enumerate() {
        let of_person = place >= 2 * PEOPLE || place % PEOPLE == who;
        let gone = stored.read().unwrap().withheld() == Some(Withheld::Erased);
        assert_eq!(gone, of_person, "leaf {place}");
    }
}

/// Beside the log: what programs said, what was held for a human, and every answer that is
/// kept for an idempotency key, whoever asked.
#[tokio::test]
async fn what_is_kept_of_a_person_beside_the_log_goes_as_well() {
    let who = 5;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (journal, subjects, index) = world(&path, who).await;
    drop((journal, subjects, index));
    let (org, person, other) = (org(), person(who), person(6));
    let at = "2026-01-01T00:00:00Z";
    let links = [
        ("lnk_of_person", person.as_str(), None),
        ("lnk_below", "agent", Some("lnk_of_person")),
        ("lnk_of_other", other.as_str(), None),
    ];
    let mut setup = format!(
        "INSERT INTO principals (org, name, kind, spiffe_id, created_at, public, private)
             VALUES ('{org}', 'agent', 'agent', 's', '{at}', '{{}}', '{{}}');"
    );
    for (id, from, parent) in links {
        let parent = parent.map_or("NULL".to_owned(), |parent| format!("'{parent}'"));
        setup.push_str(&format!(
            "INSERT INTO delegations (org, id, delegator, delegatee, parent, signed)
                 VALUES ('{org}', '{id}', '{from}', 'agent', {parent}, '{{}}');"
        ));
    }
    for (id, link, running, said) in [
        ("sbx_1", "lnk_below", 0, "person-said"),
        ("sbx_2", "lnk_of_other", 0, "other-said"),
        ("sbx_3", "lnk_of_person", 1, "runs-still"),
    ] {
        let answer = json!({"delegation": link, "argv": [said], "stdout": said, "stderr": said});
        setup.push_str(&format!(
            "INSERT INTO sandboxes (org, id, running, answer)
                 VALUES ('{org}', '{id}', {running}, '{answer}');"
        ));
    }
    let digest = "ab".repeat(32);
    for (id, root, state, by, args) in [
        ("ovr_1", &person, "denied", &other, "null"),
        ("ovr_2", &other, "denied", &person, "{}"),
        ("ovr_3", &other, "denied", &other, "{}"),
    ] {
        setup.push_str(&format!(
            "INSERT INTO oversight_requests (org, id, action_id, agent, action, resource, args,
                 units, policy_id, digest, chain, oversight, created_at, expires_at, expires_ns,
                 state, decided_by, decided_at, reason)
             VALUES ('{org}', '{id}', '{id}', 'agent', 'a', '{id}-resource', '{args}', 1, 'p',
                 '{digest}', '[\"{root}\"]', 'o', '{at}', '{at}', 0, '{state}', '{by}', '{at}',
                 '{id}-reason');"
        ));
    }
    for (caller, key, response, leaf) in [
        ("agent", "1", json!("answer-of-person"), who),
        ("agent", "2", json!("answer-of-other"), 6),
        (
            other.as_str(),
            "3",
            json!({"chain": [person], "args": "held-of-person"}),
            6,
        ),
        (
            other.as_str(),
            "4",
            json!({"chain": [other], "args": "held-of-other"}),
            6,
        ),
    ] {
        setup.push_str(&format!(
            "INSERT INTO replies (org, caller, key, request_digest, response, leaves, day)
                 VALUES ('{org}', '{caller}', '{key}', x'00', '{response}', '[{leaf}]', 9);"
        ));
    }
    sqlite(&path, &setup);
    let db = Database::open(&path).unwrap();
    let identities = SqliteNhi::new(db.clone());
    let (subjects, index) = (SqliteSubjects::new(db.clone()), SqliteIndex::new(db));
    let target = erasure(&subjects, who).await;
    let commit = Commit::of(erased(target.subject));
    let leaf = subjects
        .erase(target, commit)
        .await
        .unwrap()
        .leaf()
        .unwrap();
    let more = vec![vec![tag(SearchField::Kind, SUBJECT_ERASED)]];
    index.extend(org, leaf.0, more).await.unwrap();
    // One runs still.
    assert!(!subjects.sweep().await.unwrap());
    assert!(found_in_files(dir.path(), b"runs-still"));
    // What goes is found by the name: who is resumed would lose what is done anew.
    let resumed = async || {
        let resumed = Evidence {
            kind: "principal.resumed".to_owned(),
            ..by(0)
        };
        identities
            .end_suspension(org, person.clone(), Commit::of(resumed))
            .await
    };
    let refused = resumed().await;
    assert!(
        matches!(refused, Err(StoreError::Conflict { what: "erasure" })),
        "{refused:?}"
    );
    sqlite(&path, "UPDATE sandboxes SET running = 0");
    assert!(subjects.sweep().await.unwrap());
    resumed().await.unwrap();
    for gone in [
        "person-said",
        "runs-still",
        "ovr_1-resource",
        "ovr_1-reason",
        "ovr_2-reason",
        "answer-of-person",
        "held-of-person",
    ] {
        assert!(!found_in_files(dir.path(), gone.as_bytes()), "{gone}");
    }
    for there in [
        "other-said",
        "ovr_2-resource",
        "ovr_3-reason",
        "answer-of-other",
        "held-of-other",
    ] {
        assert!(found_in_files(dir.path(), there.as_bytes()), "{there}");
    }
    let raw = rusqlite::Connection::open(&path).unwrap();
    let digests: i64 = raw
        .query_row(
            "SELECT count(*) FROM oversight_requests WHERE digest = ?1",
            [&digest],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(digests, 2, "a guess of what was held cannot be checked");
    drop(raw);

    // Answers have an end, the newer ones not yet.
    sqlite(&path, "UPDATE replies SET day = 10 WHERE key = '4'");
    let day = |day: i64| creto_types::Timestamp::from_second(day * 86_400).unwrap();
    subjects.forget_replies(day(10)).await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    let key: String = raw
        .query_row("SELECT key FROM replies", [], |row| row.get(0))
        .unwrap();
    assert_eq!(key, "4", "the only one left");
}

/// What nothing on record took away was lost, and is not called erased or expired.
#[tokio::test]
async fn a_payload_that_is_lost_is_no_payload_that_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (journal, ..) = world(&path, 3).await;
    sqlite(
        &path,
        "UPDATE journal SET sealed = NULL WHERE place = (1 << 40) + 4",
    );
    let read = journal.records(org(), 0, 4).await;
    assert_eq!(read.unwrap().len(), 4);
    let lost = journal.records(org(), 4, 1).await;
    assert!(matches!(lost, Err(StoreError::Corrupt { .. })), "{lost:?}");
    let raw = rusqlite::Connection::open(&path).unwrap();
    let nulled = raw.execute("UPDATE subjects SET person = NULL, private = NULL", []);
    assert!(nulled.is_err());
}

/// A process may be killed right behind the commit of an erasure.
#[tokio::test]
async fn the_next_start_empties_the_log_of_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (journal, ..) = world(&path, 3).await;
    // As the files of a process that was killed.
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        if !file.file_name().to_string_lossy().ends_with(".lock") {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    drop(journal);
    let log = copy.path().join("state.db-wal");
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    let db = Database::open(&copy.path().join("state.db")).unwrap();
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
    let all = SqliteJournal::new(db).records(org(), 0, 1_000).await;
    assert_eq!(all.unwrap().len(), 2 * PEOPLE);
}
