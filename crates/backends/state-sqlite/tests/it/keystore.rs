//! The keystore may be a slow device: no change waits for it.

use std::path::Path;
use std::sync::Arc;

use creto_audit::{AllowedAlgorithms, Journal as _, NotingKeystore, RecordClass, Sealer};
use creto_errors::{Class, Classify as _};
use creto_nhi::test_util::{Device, World, commit};
use creto_nhi::{NhiError, NhiStore};
use creto_state_sqlite::{Database, SqliteJournal, SqliteNhi};
use creto_types::{Evidence, OrgId, Timestamp};
use serde_json::json;

use crate::sqlite;

const PEOPLE: usize = 100;

fn open(path: &Path) -> (Arc<NotingKeystore>, Arc<dyn NhiStore>, SqliteJournal) {
    let (sealer, keystore) = Sealer::for_tests_noting();
    let db = Database::open_with(path, sealer).unwrap();
    let store = Arc::new(SqliteNhi::new(Arc::clone(&db)));
    (keystore, store, SqliteJournal::new(db))
}

/// How often it was asked, which was never within a change.
fn asked(keystore: &NotingKeystore) -> usize {
    let threads = keystore.asked();
    assert!(!threads.iter().any(|name| name == "creto-sqlite"));
    threads.len()
}

/// A record of each of so many people that had none.
async fn of_new_people(journal: &SqliteJournal, org: OrgId, group: &str) {
    let records = (0..PEOPLE).map(|n| Evidence {
        org,
        kind: "principal.created".to_owned(),
        at: Timestamp::UNIX_EPOCH,
        actor: "alice".parse().unwrap(),
        action_id: None,
        body: json!({ "kind": "human", "name": format!("{group}-{n}") }),
    });
    let appended = journal.append(RecordClass::Evidence, records.collect());
    appended.await.unwrap();
}

async fn read_by_all(journal: &SqliteJournal, org: OrgId) -> usize {
    let all = journal.records(org, 0, 1000).await.unwrap();
    assert!(all.iter().all(|stored| stored.read().is_ok()));
    all.len()
}

#[tokio::test]
async fn the_keystore_is_asked_at_starts_and_rotations_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (keystore, store, journal) = open(&path);
    let mut world = World::on(store).await;
    let org = world.organization("alice").await;
    assert_eq!(asked(&keystore), 1, "for the new organization's key");
    of_new_people(&journal, org, "first").await;
    assert_eq!(asked(&keystore), 0);

    let draft = world.nhi.draft_rotation(org).unwrap();
    let record = commit(org, "keys.rotated");
    world.nhi.commit_rotation(draft, record).await.unwrap();
    assert_eq!(asked(&keystore), 1, "for the newer one");
    of_new_people(&journal, org, "second").await;
    assert_eq!(asked(&keystore), 0);

    // Nothing is remembered of before: every key of a subject is unlocked.
    drop((world.nhi, world.store, journal));
    let (keystore, store, journal) = open(&path);
    assert_eq!(asked(&keystore), 2, "for both");
    let count = read_by_all(&journal, org).await;
    assert!(count > 2 * PEOPLE, "{count}");
    of_new_people(&journal, org, "third").await;
    assert_eq!(asked(&keystore), 0);

    world = World {
        store,
        ..World::new().await
    };
    world.restart().await;
    world.nhi.rewrap_keys(org).await.unwrap();
    let retiring = world.nhi.retiring(org).unwrap();
    let record = commit(org, "keys.retired");
    world.nhi.retire_keys(org, retiring, record).await.unwrap();
    drop((world.nhi, world.store, journal));
    let (keystore, _, journal) = open(&path);
    assert_eq!(asked(&keystore), 1, "for the one that is left");
    read_by_all(&journal, org).await;
    of_new_people(&journal, org, "fourth").await;
    assert_eq!(asked(&keystore), 0);
}

/// Everything is opened anew, under a device.
async fn start(path: &Path, device: &Arc<Device>) -> Result<(World, SqliteJournal), NhiError> {
    let db = Database::open_with(path, Sealer::for_tests_on(device.clone()))?;
    db.reads_what_is_stored().await?;
    let mut world = World {
        store: Arc::new(SqliteNhi::new(Arc::clone(&db))),
        ..World::new().await
    };
    world.nhi = world.reopen_on(device.clone()).await?;
    Ok((world, SqliteJournal::new(db)))
}

async fn rotate(world: &World, org: OrgId) -> Result<(), NhiError> {
    let draft = world.nhi.draft_rotation(org)?;
    let record = commit(org, "keys.rotated");
    world.nhi.commit_rotation(draft, record).await.map(drop)
}

/// By what the wrapping keys are wrapped, oldest first.
async fn names(world: &World) -> Vec<String> {
    let snapshot = world.store.load().await.unwrap();
    let keys = snapshot.organizations.into_iter().flat_map(|o| o.wrapping);
    keys.map(|key| key.wrapped.name().to_owned()).collect()
}

fn judged<T>(outcome: Result<T, NhiError>) -> (&'static str, Class) {
    let error = outcome.err().unwrap();
    (error.code(), error.class())
}

#[tokio::test]
async fn an_organization_lives_under_a_device() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let device = Arc::new(Device::new());
    let (world, journal) = start(&path, &device).await.unwrap();
    let org = world.organization("alice").await;
    of_new_people(&journal, org, "first").await;
    assert_eq!(names(&world).await, [Device::NAME]);

    drop((world, journal));
    let (world, journal) = start(&path, &device).await.unwrap();
    rotate(&world, org).await.unwrap();
    of_new_people(&journal, org, "second").await;
    assert_eq!(names(&world).await, [Device::NAME; 2]);
    world.nhi.rewrap_keys(org).await.unwrap();
    let retiring = world.nhi.retiring(org).unwrap();
    let record = commit(org, "keys.retired");
    world.nhi.retire_keys(org, retiring, record).await.unwrap();
    assert_eq!(names(&world).await, [Device::NAME]);

    // What is open stays so, whatever becomes of the device.
    device.is_away();
    of_new_people(&journal, org, "third").await;
    let away = ("keystore_unavailable", Class::Transient);
    assert_eq!(judged(rotate(&world, org).await), away);
    device.works();
    rotate(&world, org).await.unwrap();
    // Between the draft and the change: nothing is under a key that did not open.
    let draft = world.nhi.draft_rotation(org).unwrap();
    device.refuses();
    let refused = ("keystore_refused", Class::Security);
    let record = commit(org, "keys.rotated");
    let outcome = world.nhi.commit_rotation(draft, record).await;
    assert_eq!(judged(outcome), refused);
    assert_eq!(names(&world).await.len(), 2);
    let leaves = read_by_all(&journal, org).await;
    drop((world, journal));

    assert_eq!(judged(start(&path, &device).await), refused);
    device.is_away();
    assert_eq!(judged(start(&path, &device).await), away);
    device.works();
    let (world, journal) = start(&path, &device).await.unwrap();
    assert_eq!(read_by_all(&journal, org).await, leaves);
    drop((world, journal));

    // Another device has no such keys, and a key in a file no such way.
    let other = judged(start(&path, &Arc::new(Device::new())).await);
    assert_eq!(other, ("open_failed", Class::Security));
    let (sealer, _) = Sealer::for_tests_noting();
    let db = Database::open_with(&path, sealer).unwrap();
    let error = db.reads_what_is_stored().await.unwrap_err();
    assert_eq!(error.code(), "unknown_algorithm");
}

#[tokio::test]
async fn wrapping_keys_move_to_a_device_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let device = Arc::new(Device::new());
    let algorithm = AllowedAlgorithms::default().wrapping.for_new();
    let (local, store, journal) = open(&path);
    let mut world = World::on(store).await;
    let org = world.organization("alice").await;
    of_new_people(&journal, org, "first").await;
    rotate(&world, org).await.unwrap();
    let before = world.store.load().await.unwrap();
    let local_names = names(&world).await;

    let mut moved = Vec::new();
    for key in &before.organizations[0].wrapping {
        let there = key.rewrap(org, &*local, &*device, algorithm).unwrap();
        moved.push((org, there));
    }
    let back = moved.iter().map(|(org, key)| {
        let back = key.rewrap(*org, &*device, &*local, algorithm);
        (*org, back.unwrap())
    });
    let back: Vec<_> = back.collect();
    let records = vec![commit(org, "root_key.rotated")];
    world.store.replace_wrapping(moved, records).await.unwrap();
    drop((world, journal));

    let (sealer, _) = Sealer::for_tests_noting();
    let db = Database::open_with(&path, sealer).unwrap();
    let error = db.reads_what_is_stored().await.unwrap_err();
    assert_eq!(error.code(), "unknown_algorithm");
    drop(db);
    let (under, journal) = start(&path, &device).await.unwrap();
    assert_eq!(names(&under).await, [Device::NAME; 2]);
    read_by_all(&journal, org).await;
    of_new_people(&journal, org, "second").await;
    let records = vec![commit(org, "root_key.rotated")];
    under.store.replace_wrapping(back, records).await.unwrap();
    drop((under, journal));

    assert_eq!(
        judged(start(&path, &device).await),
        ("keystore_foreign", Class::Permanent)
    );
    let (_, store, journal) = open(&path);
    world = World {
        store,
        ..World::new().await
    };
    world.restart().await;
    assert_eq!(names(&world).await, local_names);
    read_by_all(&journal, org).await;
}

#[tokio::test]
async fn what_a_later_version_wrapped_is_told_by_the_name_of_its_algorithm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (_, store, journal) = open(&path);
    let world = World::on(store).await;
    world.organization("alice").await;
    drop((world, journal));
    for alg in ["HKDF-SHA3-256+A256GCM", "a device"] {
        let named = format!("json_set(wrapped, '$.alg', '{alg}')");
        sqlite(
            &path,
            &format!("UPDATE wrapping_keys SET wrapped = {named}"),
        );
        let (sealer, _) = Sealer::for_tests_noting();
        let error = Database::open_with(&path, sealer).unwrap_err();
        assert_eq!(error.code(), "unknown_algorithm", "{error:?}");
        assert!(creto_errors::chain(&error).contains(alg), "{error:?}");
    }
    let cut = "UPDATE wrapping_keys SET wrapped = json_remove(wrapped, '$.salt')";
    sqlite(&path, cut);
    let (sealer, _) = Sealer::for_tests_noting();
    let error = Database::open_with(&path, sealer).unwrap_err();
    assert_eq!(error.code(), "stored_data_corrupt", "{error:?}");
}
