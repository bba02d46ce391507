//! The keystore may be a slow device: no change waits for it.

use std::path::Path;
use std::sync::Arc;

use creto_audit::{Journal as _, NotingKeystore, RecordClass, Sealer};
use creto_nhi::NhiStore;
use creto_nhi::test_util::{World, commit};
use creto_state_sqlite::{Database, SqliteJournal, SqliteNhi};
use creto_types::{Evidence, OrgId, Timestamp};
use serde_json::json;

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
