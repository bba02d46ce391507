//! What the search index holds, and under which keys.

use std::path::Path;
use std::sync::Arc;

use creto_audit::conformance::{org, record};
use creto_audit::{
    IndexKeys as _, Journal as _, RecordClass, Sealer, SearchField, SearchIndex as _, SearchTag,
    SearchTerm,
};
use creto_nhi::test_util::{World, commit};
use creto_state_sqlite::{Database, SqliteIndex, SqliteIndexKeys, SqliteJournal, SqliteNhi};
use creto_types::{Evidence, LeafIndex, OrgId};
use serde_json::json;

use crate::payloads::found_in_files;
use crate::sqlite;

/// What a record says, by the field that it is found by.
const SAID: [(SearchField, &str); 5] = [
    (SearchField::Agent, "hidden-agent"),
    (SearchField::Member, "hidden-member"),
    (SearchField::Action, "hidden.action"),
    (SearchField::Resource, "hidden-resource"),
    (SearchField::Outcome, "hidden-outcome"),
];

fn terms() -> Vec<SearchTerm> {
    let said = SAID.into_iter();
    said.map(|(field, value)| SearchTerm::new(field, value))
        .collect()
}

async fn tags(db: &Arc<Database>, org: OrgId) -> Vec<SearchTag> {
    let keys = SqliteIndexKeys::new(Arc::clone(db));
    keys.key(org).await.unwrap().tags(&terms())
}

/// One leaf, and the index of it.
async fn indexed(path: &Path) -> Arc<Database> {
    let db = Database::open(path).unwrap();
    let journal = SqliteJournal::new(Arc::clone(&db));
    let said = Evidence {
        actor: "hidden-agent".parse().unwrap(),
        body: json!({
            "delegatee": "hidden-member",
            "action": "hidden.action",
            "resource": "hidden-resource",
            "outcome": "hidden-outcome",
        }),
        ..record(org(1), 0)
    };
    let append = journal.append(RecordClass::Evidence, vec![said]);
    append.await.unwrap();
    let index = SqliteIndex::new(Arc::clone(&db));
    let tags = tags(&db, org(1)).await;
    assert_eq!(index.extend(org(1), 0, vec![tags]).await.unwrap(), 1);
    db
}

#[tokio::test]
async fn no_value_is_readable_and_each_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let first = {
        let db = indexed(&path).await;
        tags(&db, org(1)).await
    };
    let db = Database::open(&path).unwrap();
    let index = SqliteIndex::new(Arc::clone(&db));
    assert_eq!(tags(&db, org(1)).await, first);
    for (tag, (_, value)) in first.iter().zip(SAID) {
        let found = index.find(org(1), 0..1, vec![*tag], 9).await.unwrap();
        assert_eq!(found.leaves, [LeafIndex(0)], "{value}");
        assert!(found_in_files(dir.path(), &tag.tag), "{value}");
        assert!(!found_in_files(dir.path(), value.as_bytes()), "{value}");
    }
    // What is the same in another organization is not seen to be.
    let other = tags(&db, org(2)).await;
    assert!(other.iter().all(|tag| !first.contains(tag)));
    drop((index, db));

    // Without the root key there is no key of the index.
    let db = Database::open_with(&path, Sealer::for_tests_with("2", "A256GCM")).unwrap();
    assert!(SqliteIndexKeys::new(db).key(org(1)).await.is_err());
}

/// A stored value would have to be as long as a tag, and no text.
#[tokio::test]
async fn the_table_takes_nothing_but_tags() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    drop(indexed(&path).await);
    let raw = rusqlite::Connection::open(&path).unwrap();
    for value in ["'hidden-agent'", "'sixteen-in-text-'", "x'68696464656e'"] {
        let insert =
            format!("INSERT INTO search (log, field, tag, leaf) VALUES (1, 1, {value}, 7)");
        assert!(raw.execute(&insert, []).is_err(), "{value}");
    }
    let columns: String = raw
        .query_row(
            "SELECT group_concat(name || ' ' || type) FROM pragma_table_info('search')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(columns, "log INTEGER,field INTEGER,tag BLOB,leaf INTEGER");
}

/// The key is what it was, whatever it lies under.
#[tokio::test]
async fn tags_outlive_the_wrapping_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let open = || Database::open(&path).unwrap();
    let store = |db| Arc::new(SqliteNhi::new(db));
    let db = open();
    let mut world = World::on(store(Arc::clone(&db))).await;
    let org = world.organization("alice").await;
    let before = tags(&db, org).await;
    let under = || {
        let raw = rusqlite::Connection::open(&path).unwrap();
        let query = "SELECT json_extract(private, '$.key') FROM subjects WHERE person = ''";
        let version: i64 = raw.query_row(query, [], |row| row.get(0)).unwrap();
        version
    };
    assert_eq!(under(), 1);
    let draft = world.nhi.draft_rotation(org).unwrap();
    let rotated = world
        .nhi
        .commit_rotation(draft, commit(org, "keys.rotated"));
    rotated.await.unwrap();
    world.nhi.rewrap_keys(org).await.unwrap();
    let retiring = world.nhi.retiring(org).unwrap();
    let retired = world
        .nhi
        .retire_keys(org, retiring, commit(org, "keys.retired"));
    retired.await.unwrap();
    assert_eq!(under(), 2);
    assert_eq!(tags(&db, org).await, before);
    world.store = Arc::new(creto_nhi::memory::MemoryNhiStore::new());
    world.restart().await;
    drop(db);
    assert_eq!(tags(&open(), org).await, before);
}

/// An index from before tags is in no file any more, and is made again from the first leaf
/// on.
#[tokio::test]
async fn an_index_of_values_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    drop(indexed(&path).await);
    sqlite(
        &path,
        "PRAGMA secure_delete = ON;
         DROP TABLE search;
         CREATE TABLE search (
             log INTEGER NOT NULL, field INTEGER NOT NULL, value TEXT NOT NULL,
             leaf INTEGER NOT NULL, PRIMARY KEY (log, field, value, leaf)
         ) STRICT, WITHOUT ROWID;
         WITH RECURSIVE counted (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counted LIMIT 20000)
         INSERT INTO search SELECT 1, 1, 'said-in-clear-' || n, n FROM counted;
         DELETE FROM search WHERE leaf % 3 = 0;
         PRAGMA user_version = 30",
    );
    assert!(found_in_files(dir.path(), b"said-in-clear-"));
    let db = Database::open(&path).unwrap();
    assert!(!found_in_files(dir.path(), b"said-in-clear-"));
    let index = SqliteIndex::new(Arc::clone(&db));
    assert_eq!(index.covered(org(1)).await.unwrap(), 0);
    let tags = tags(&db, org(1)).await;
    let find = index.find(org(1), 0..1, tags.clone(), 9);
    assert_eq!(find.await.unwrap().leaves, []);
    index.extend(org(1), 0, vec![tags.clone()]).await.unwrap();
    let find = index.find(org(1), 0..1, tags, 9);
    assert_eq!(find.await.unwrap().leaves, [LeafIndex(0)]);
}
