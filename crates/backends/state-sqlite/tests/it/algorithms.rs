//! Which algorithms stored things are of, and other lists put in force in between.

use std::path::Path;
use std::sync::Arc;

use creto_audit::{
    Allowed, AllowedAlgorithms, InForce, Journal as _, RecordClass, Sealer, conformance,
};
use creto_errors::Classify as _;
use creto_nhi::PrincipalType;
use creto_nhi::test_util::{World, commit, name};
use creto_state_sqlite::{Database, SqliteJournal, SqliteNhi};
use creto_types::StoreError;

use crate::sqlite;

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
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), "algorithm_not_allowed", "{error:?}");
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
    let before_there_was_a_table =
        "DROP TABLE payload_ciphers; DROP TABLE secret_owners; PRAGMA user_version = 25";
    for statements in ["", before_there_was_a_table] {
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
    sqlite(&path, "INSERT INTO payload_ciphers VALUES ('New')");
    refused(check(Sealer::for_tests_with("1", "A256GCM")).await, "New");
}

#[tokio::test]
async fn nothing_is_on_record_where_nothing_was_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    drop(Database::open(&path).unwrap());
    sqlite(
        &path,
        "DROP TABLE payload_ciphers; DROP TABLE secret_owners; PRAGMA user_version = 25",
    );
    let db = Database::open(&path).unwrap();
    db.put_in_force(only("ChaCha20-Poly1305")).await.unwrap();
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
    refused(db.put_in_force(only("ChaCha20-Poly1305")).await, "A256GCM");
    assert_eq!(**in_force.now(), both);
    let chacha = lists(&Sealer::for_tests_with("1", "ChaCha20-Poly1305"));
    db.put_in_force(chacha.clone()).await.unwrap();
    assert_eq!(**in_force.now(), chacha);
    append().await;
    refused(db.put_in_force(only("A256GCM")).await, "ChaCha20-Poly1305");
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
    db.put_in_force(wider.clone()).await.unwrap();
    let draft = |name_of| {
        let (nhi, kind) = (&world.nhi, PrincipalType::Agent);
        nhi.draft_principal(org, name(name_of), kind).unwrap()
    };
    let (late, rotation) = (draft("late"), world.nhi.draft_rotation(org).unwrap());
    db.put_in_force(defaults.clone()).await.unwrap();
    let conflict = |error: creto_nhi::NhiError| assert_eq!(error.code(), "conflict", "{error:?}");
    let added = world.nhi.commit_principal(late, commit(org, "added"));
    conflict(added.await.unwrap_err());
    let rotated = world.nhi.commit_rotation(rotation, commit(org, "rotated"));
    conflict(rotated.await.unwrap_err());

    // And once it is stored, the lists that do not have it are refused.
    db.put_in_force(wider).await.unwrap();
    let added = world
        .nhi
        .commit_principal(draft("early"), commit(org, "added"));
    added.await.unwrap();
    refused(db.put_in_force(defaults).await, "ML-DSA-65");
}
