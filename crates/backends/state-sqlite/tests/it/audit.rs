//! The journal, by its port's contract.

use std::sync::Arc;

use creto_audit::conformance::tag;
use creto_audit::{Journal as _, RecordClass, SearchField, SearchIndex as _, conformance};
use creto_state_sqlite::{Database, SqliteIndex, SqliteJournal};
use creto_types::StoreError;

#[tokio::test]
async fn keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| SqliteJournal::new(Database::open(&dir.path().join(name)).unwrap());
    conformance::journal_keeps_order(&open("a.db")).await;
    conformance::journal_batch_is_atomic(&open("b.db")).await;
    conformance::journal_concurrent_appends(Arc::new(open("c.db"))).await;
}

#[tokio::test]
async fn a_gap_in_the_journal_is_not_read_over() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(&dir.path().join("state.db")).unwrap();
    let journal = SqliteJournal::new(Arc::clone(&db));
    let org = conformance::org(1);
    let records = (0..5).map(|n| conformance::record(org, n)).collect();
    journal
        .append(RecordClass::Evidence, records)
        .await
        .unwrap();
    db.write(|tx| {
        tx.execute("DELETE FROM journal WHERE place = (1 << 40) + 2", [])
            .map_err(|e| StoreError::Unavailable(Box::new(e)))
    })
    .await
    .unwrap();
    assert!(matches!(
        journal.read(org, 0, 10).await,
        Err(StoreError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn the_search_index_keeps_the_contract_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let db = Database::open(&path).unwrap();
    let journal = SqliteJournal::new(Arc::clone(&db));
    for owner in [2, 1] {
        let owner = conformance::org(owner);
        let records = (0..10).map(|n| conformance::record(owner, n)).collect();
        journal.append(RecordClass::Trace, records).await.unwrap();
    }
    conformance::index_finds(&SqliteIndex::new(Arc::clone(&db))).await;
    drop((journal, db));

    let index = SqliteIndex::new(Database::open(&path).unwrap());
    assert_eq!(index.covered(conformance::org(1)).await.unwrap(), 10);
    let third = vec![tag(SearchField::Kind, "third")];
    let found = index.find(conformance::org(1), 0..10, third, 2).await;
    assert_eq!(found.unwrap().leaves, [9, 6].map(creto_types::LeafIndex));
}
