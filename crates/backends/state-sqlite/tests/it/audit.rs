//! The journal, by its port's contract.

use std::sync::Arc;

use creto_audit::{Journal as _, RecordClass, conformance};
use creto_state_sqlite::{Database, SqliteJournal};
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
