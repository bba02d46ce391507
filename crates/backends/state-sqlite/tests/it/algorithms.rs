//! Which algorithms stored things are of, and other lists put in force in between.

use std::path::Path;
use std::sync::Arc;

use creto_audit::{
    Allowed, AllowedAlgorithms, InForce, Journal as _, RecordClass, Sealer, conformance,
};
use creto_errors::Classify as _;
use creto_governor::{ListsAnswer, Resealed, SubjectStore as _};
use creto_nhi::PrincipalType;
use creto_nhi::test_util::{World, commit, name};
use creto_state_sqlite::{Database, SqliteJournal, SqliteNhi, SqliteSubjects};
use creto_types::{OrgId, StoreError, Timestamp};
use serde_json::{Value, json};

use crate::sqlite;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// Takes back what came with and after the table of ciphers.
const BEFORE_0026: &str = "DROP TABLE payload_ciphers; DROP TABLE secret_owners;
     DROP TABLE former_log_keys; ALTER TABLE secrets DROP COLUMN root;
     DROP TABLE algorithms_on_record; DROP TABLE search;
     CREATE TABLE search (log, field, value, leaf);
     PRAGMA user_version = 25";

fn lists(sealer: &Sealer) -> AllowedAlgorithms {
    AllowedAlgorithms::clone(&sealer.algorithms().now())
}

/// Lists that read this cipher alone.
fn only(cipher: &str) -> AllowedAlgorithms {
    lists(&Sealer::for_tests_only_with("1", cipher))
}

/// Appends one record that is sealed by this cipher.
async fn sealed_by(path: &Path, cipher: &str) {
    let db = Database::open_with(path, Sealer::for_tests_with("1", cipher)).unwrap();
    let records = vec![conformance::record(conformance::org(1), 7)];
    let journal = SqliteJournal::new(db);
    journal.append(RecordClass::Trace, records).await.unwrap();
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>, name: &str) {
    refused_as("algorithm_not_allowed", outcome, name);
}

fn refused_as<T: std::fmt::Debug>(code: &str, outcome: Result<T, StoreError>, name: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), code, "{error:?}");
    let why = creto_errors::chain(&error);
    assert!(why.contains(name), "{why}");
}

#[tokio::test]
async fn lists_without_the_cipher_of_a_payload_are_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    for cipher in ["A256GCM", "ChaCha20-Poly1305"] {
        sealed_by(&path, cipher).await;
    }
    let check = async |sealer| {
        let db = Database::open_with(&path, sealer).unwrap();
        db.reads_what_is_stored().await
    };
    for statements in ["", BEFORE_0026] {
        sqlite(&path, statements);
        check(Sealer::for_tests_with("1", "A256GCM")).await.unwrap();
        for (only, missing) in [
            ("A256GCM", "ChaCha20-Poly1305"),
            ("ChaCha20-Poly1305", "A256GCM"),
        ] {
            refused(check(Sealer::for_tests_only_with("1", only)).await, missing);
        }
    }
    // One that a later build has.
    sqlite(&path, "INSERT INTO payload_ciphers (name) VALUES ('New')");
    let new = check(Sealer::for_tests_with("1", "A256GCM")).await;
    refused_as("unknown_algorithm", new, "New");
}

#[tokio::test]
async fn nothing_is_on_record_where_nothing_was_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    drop(Database::open(&path).unwrap());
    sqlite(&path, BEFORE_0026);
    let db = Database::open(&path).unwrap();
    db.put_in_force(only("ChaCha20-Poly1305"), NOW)
        .await
        .unwrap();
}

#[tokio::test]
async fn lists_that_do_not_read_what_is_stored_are_not_put_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let sealer = Sealer::for_tests_with("1", "A256GCM");
    let in_force = sealer.algorithms().clone();
    let both = lists(&sealer);
    let db = Database::open_with(&path, sealer).unwrap();
    let journal = SqliteJournal::new(Arc::clone(&db));
    let org = conformance::org(1);
    let append = async || {
        let records = vec![conformance::record(org, 7)];
        journal.append(RecordClass::Trace, records).await.unwrap();
    };
    append().await;
    refused(
        db.put_in_force(only("ChaCha20-Poly1305"), NOW).await,
        "A256GCM",
    );
    assert_eq!(**in_force.now(), both);
    let chacha = lists(&Sealer::for_tests_with("1", "ChaCha20-Poly1305"));
    db.put_in_force(chacha.clone(), NOW).await.unwrap();
    assert_eq!(**in_force.now(), chacha);
    append().await;
    refused(
        db.put_in_force(only("A256GCM"), NOW).await,
        "ChaCha20-Poly1305",
    );
    for record in journal.records(org, 0, 9).await.unwrap() {
        assert!(record.read().unwrap().whole().is_some());
    }
}

/// A key that is drafted before other lists are in force and stored after would be
/// readable by nobody.
#[tokio::test]
async fn what_was_made_by_an_algorithm_that_is_gone_meanwhile_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::for_tests();
    let in_force: InForce = sealer.algorithms().clone();
    let defaults = lists(&sealer);
    let db = Database::open_with(&dir.path().join("state.db"), sealer).unwrap();
    let mut world = World::on(Arc::new(SqliteNhi::new(Arc::clone(&db)))).await;
    let org = world.organization("alice").await;
    world.nhi = world.reopen_under(in_force).await.unwrap();
    let all = ["ML-DSA-65", "ML-DSA-65-Ed25519", "Ed25519"].map(|name| name.parse().unwrap());
    let wider = AllowedAlgorithms {
        signature: Allowed::new(all[0], all).unwrap(),
        ..defaults.clone()
    };
    db.put_in_force(wider.clone(), NOW).await.unwrap();
    let draft = |name_of| {
        let (nhi, kind) = (&world.nhi, PrincipalType::Agent);
        nhi.draft_principal(org, name(name_of), kind).unwrap()
    };
    let (late, rotation) = (draft("late"), world.nhi.draft_rotation(org).unwrap());
    db.put_in_force(defaults.clone(), NOW).await.unwrap();
    let conflict = |error: creto_nhi::NhiError| assert_eq!(error.code(), "conflict", "{error:?}");
    let added = world.nhi.commit_principal(late, commit(org, "added"));
    conflict(added.await.unwrap_err());
    let rotated = world.nhi.commit_rotation(rotation, commit(org, "rotated"));
    conflict(rotated.await.unwrap_err());

    // And once it is stored, the lists that do not have it are refused.
    db.put_in_force(wider, NOW).await.unwrap();
    let added = world
        .nhi
        .commit_principal(draft("early"), commit(org, "added"));
    added.await.unwrap();
    refused(db.put_in_force(defaults, NOW).await, "ML-DSA-65");
}

/// Payloads move to another cipher, and the one of before may go when none is left, whosever
/// they are.
#[tokio::test]
async fn payloads_move_to_the_new_cipher_and_the_old_one_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let orgs = [conformance::org(1), conformance::org(2)];
    let sealer = Sealer::for_tests_with("1", "A256GCM");
    let db = Database::open_with(&path, sealer).unwrap();
    let journal = SqliteJournal::new(Arc::clone(&db));
    for org in orgs {
        let records = (0..300).map(|n| conformance::record(org, n)).collect();
        let append = journal.append(RecordClass::Trace, records);
        append.await.unwrap();
    }
    let chacha = lists(&Sealer::for_tests_with("1", "ChaCha20-Poly1305"));
    let subjects = SqliteSubjects::new(Arc::clone(&db));
    let nothing = subjects.reseal(orgs[0]).await.unwrap().sealed;
    assert_eq!(nothing, 0, "all are of the one for new ones");
    db.put_in_force(chacha.clone(), NOW).await.unwrap();
    let before = journal.read(orgs[0], 0, 300).await.unwrap();
    assert_eq!(subjects.reseal(orgs[0]).await.unwrap().sealed, 300);
    assert_eq!(subjects.reseal(orgs[0]).await.unwrap().sealed, 0);
    // The other organization has some yet.
    refused(
        db.put_in_force(only("ChaCha20-Poly1305"), NOW).await,
        "A256GCM",
    );
    assert_eq!(subjects.reseal(orgs[1]).await.unwrap().sealed, 300);
    db.put_in_force(only("ChaCha20-Poly1305"), NOW)
        .await
        .unwrap();
    for org in orgs {
        let records = journal.records(org, 0, 300).await.unwrap();
        assert_eq!(records.len(), 300);
        for (record, n) in records.iter().zip(0..) {
            let read = record.read().unwrap();
            assert_eq!(read.whole().unwrap()["body"]["n"], n);
        }
    }
    assert_eq!(journal.read(orgs[0], 0, 300).await.unwrap(), before);
}

/// What cannot be opened is not lost, and keeps its cipher in the list.
#[tokio::test]
async fn a_payload_that_cannot_be_opened_keeps_its_cipher() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let org = conformance::org(1);
    sealed_by(&path, "A256GCM").await;
    sealed_by(&path, "A256GCM").await;
    sqlite(
        &path,
        "UPDATE journal SET sealed = CAST(substr(sealed, 1, 40) || x'00' AS BLOB)
         WHERE place % 8 = 0",
    );
    let sealer = Sealer::for_tests_with("1", "ChaCha20-Poly1305");
    let db = Database::open_with(&path, sealer).unwrap();
    let subjects = SqliteSubjects::new(Arc::clone(&db));
    let resealed = subjects.reseal(org).await.unwrap();
    let one_each = Resealed {
        sealed: 1,
        unread: 1,
    };
    assert_eq!(resealed, one_each);
    refused(
        db.put_in_force(only("ChaCha20-Poly1305"), NOW).await,
        "A256GCM",
    );
}

/// What is refused changes nothing, also when it is the commit that fails.
#[tokio::test]
async fn lists_whose_change_was_not_committed_are_not_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::for_tests_with("1", "A256GCM");
    let in_force = sealer.algorithms().clone();
    let before = lists(&sealer);
    let db = Database::open_with(&dir.path().join("state.db"), sealer).unwrap();
    let chacha = lists(&Sealer::for_tests_with("1", "ChaCha20-Poly1305"));
    // The writer is busy until both of the others wait: they share a group.
    let busy = db.write(|_| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        Ok(())
    });
    // As on a full disk: what fails is the commit of the group, which the lists end.
    let spoilt = db.write(|change| {
        change
            .execute_batch(
                "PRAGMA defer_foreign_keys = ON;
                 INSERT INTO secret_owners (org, name, owner) VALUES ('no', 'no', 'no');",
            )
            .unwrap();
        Ok(())
    });
    let put = db.put_in_force(chacha, NOW);
    let (busy, spoilt, put) = tokio::join!(busy, spoilt, put);
    busy.unwrap();
    assert!(spoilt.is_err());
    assert!(put.is_err());
    assert_eq!(**in_force.now(), before, "refused, and in force");
}

/// However large payloads are, one step holds few of them, and goes on where it ended.
#[tokio::test]
async fn large_payloads_are_sealed_anew_a_few_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let org = conformance::org(1);
    let db = Database::open_with(
        &dir.path().join("state.db"),
        Sealer::for_tests_with("1", "A256GCM"),
    )
    .unwrap();
    let journal = SqliteJournal::new(Arc::clone(&db));
    for _ in 0..8 {
        let records = (0..16).map(|n| {
            let mut record = conformance::record(org, n);
            record.body = serde_json::json!({ "text": "x".repeat(60_000) });
            record
        });
        let appended = journal.append(RecordClass::Trace, records.collect());
        appended.await.unwrap();
    }
    let chacha = lists(&Sealer::for_tests_with("1", "ChaCha20-Poly1305"));
    db.put_in_force(chacha, NOW).await.unwrap();
    let subjects = SqliteSubjects::new(Arc::clone(&db));
    assert_eq!(subjects.reseal(org).await.unwrap().sealed, 128);
    assert_eq!(subjects.reseal(org).await.unwrap().sealed, 0);
    db.put_in_force(only("ChaCha20-Poly1305"), NOW)
        .await
        .unwrap();
}

/// Kind and body of each record of this log.
async fn bodies(journal: &SqliteJournal, org: OrgId) -> Vec<(String, Value)> {
    let records = journal.records(org, 0, 99).await.unwrap();
    let read = records.into_iter().map(|record| {
        let whole = record.read().unwrap().whole().unwrap().clone();
        let kind = whole["kind"].as_str().unwrap().to_owned();
        (kind, whole["body"].clone())
    });
    read.collect()
}

#[tokio::test]
async fn other_lists_are_in_every_log_before_they_are_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let sealer = Sealer::for_tests();
    let (in_force, defaults) = (sealer.algorithms().clone(), lists(&sealer));
    let db = Database::open_with(&path, sealer).unwrap();
    let world = World::on(Arc::new(SqliteNhi::new(Arc::clone(&db)))).await;
    let mut orgs = [
        world.organization("alice").await,
        world.organization("bob").await,
    ];
    orgs.sort();
    let journal = SqliteJournal::new(Arc::clone(&db));
    let changes = async |journal: &SqliteJournal, org| {
        let mut bodies = bodies(journal, org).await;
        bodies.retain(|(kind, _)| kind == "crypto.algorithms_changed");
        bodies.into_iter().map(|(_, body)| body).collect::<Vec<_>>()
    };
    // What they were founded under is no change.
    assert_eq!(db.record_in_force(NOW).await.unwrap(), []);
    let kems = AllowedAlgorithms {
        kem: Allowed::only("ML-KEM-1024".parse().unwrap()),
        ..defaults.clone()
    };
    assert_eq!(db.put_in_force(kems.clone(), NOW).await.unwrap(), orgs);
    assert_eq!(**in_force.now(), kems);
    assert_eq!(db.put_in_force(kems.clone(), NOW).await.unwrap(), []);
    let of = |lists| serde_json::to_value(ListsAnswer::of(lists)).unwrap();
    let first = json!({ "before": of(&defaults), "after": of(&kems) });
    for org in orgs {
        assert_eq!(changes(&journal, org).await, vec![first.clone()]);
    }

    // What is refused leaves nothing.
    let sizes = async |journal: &SqliteJournal| {
        let [one, two] = orgs.map(|org| journal.size(org));
        [one.await.unwrap(), two.await.unwrap()]
    };
    let before = sizes(&journal).await;
    refused(
        db.put_in_force(only("ChaCha20-Poly1305"), NOW).await,
        "A256GCM",
    );
    assert_eq!(sizes(&journal).await, before);
    assert_eq!(**in_force.now(), kems);

    // The next process has other lists.
    drop((journal, world, db));
    let db = Database::open_with(&path, Sealer::for_tests()).unwrap();
    let journal = SqliteJournal::new(Arc::clone(&db));
    assert_eq!(db.record_in_force(NOW).await.unwrap(), orgs);
    assert_eq!(db.record_in_force(NOW).await.unwrap(), []);
    let second = json!({ "before": of(&kems), "after": of(&defaults) });
    for org in orgs {
        let told = changes(&journal, org).await;
        assert_eq!(told, [first.clone(), second.clone()]);
    }

    // A log from before there were such records begins with one.
    drop((journal, db));
    sqlite(&path, "DELETE FROM algorithms_on_record");
    let db = Database::open_with(&path, Sealer::for_tests()).unwrap();
    let journal = SqliteJournal::new(Arc::clone(&db));
    assert_eq!(db.record_in_force(NOW).await.unwrap(), orgs);
    let third = json!({ "before": null, "after": of(&defaults) });
    assert_eq!(changes(&journal, orgs[1]).await, [first, second, third]);
}

/// A pair of keys that signs besides is as much in use as the one in force.
#[tokio::test]
async fn the_former_pair_of_a_log_keeps_its_algorithm_in_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::for_tests();
    let in_force: InForce = sealer.algorithms().clone();
    let defaults = lists(&sealer);
    let db = Database::open_with(&dir.path().join("state.db"), sealer).unwrap();
    let [ml_dsa, composite, ed25519] =
        ["ML-DSA-65", "ML-DSA-65-Ed25519", "Ed25519"].map(|name| name.parse().unwrap());
    let by = |new, accepted: &[_]| AllowedAlgorithms {
        signature: Allowed::new(new, accepted.iter().copied()).unwrap(),
        ..defaults.clone()
    };
    let all = [ml_dsa, composite, ed25519];
    let without = by(ml_dsa, &[ml_dsa, ed25519]);
    db.put_in_force(by(ml_dsa, &all), NOW).await.unwrap();
    let mut world = World::on(Arc::new(SqliteNhi::new(Arc::clone(&db)))).await;
    world.nhi = world.reopen_under(in_force).await.unwrap();
    let org = world.organization("alice").await;
    let (nhi, db) = (&world.nhi, &db);
    let put = async |lists| db.put_in_force(lists, NOW).await;
    let rotate = async |draft| nhi.commit_log_rotation(draft, commit(org, "rotated")).await;
    let retire = async || {
        let former = nhi.former_log_keys(org).unwrap();
        nhi.retire_log_keys(org, former, commit(org, "retired"))
            .await
            .unwrap();
    };

    // Drafted before other lists are in force, and stored after.
    put(by(composite, &all)).await.unwrap();
    let late = nhi.draft_log_rotation(org).unwrap();
    put(without.clone()).await.unwrap();
    assert_eq!(rotate(late).await.unwrap_err().code(), "conflict");

    put(by(composite, &all)).await.unwrap();
    rotate(nhi.draft_log_rotation(org).unwrap()).await.unwrap();
    retire().await;
    put(by(ml_dsa, &all)).await.unwrap();
    refused(put(without.clone()).await, "ML-DSA-65-Ed25519");
    rotate(nhi.draft_log_rotation(org).unwrap()).await.unwrap();
    refused(put(without.clone()).await, "ML-DSA-65-Ed25519");
    retire().await;
    put(without).await.unwrap();
}
