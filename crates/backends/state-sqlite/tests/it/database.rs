//! Group commit, isolation of failures, single ownership, restart.

use std::sync::Arc;

use creto_state_sqlite::Database;
use creto_types::StoreError;

async fn scratch(db: &Database) {
    db.write(|tx| {
        tx.execute_batch("CREATE TABLE scratch (n INTEGER PRIMARY KEY) STRICT")
            .map_err(|e| StoreError::Unavailable(Box::new(e)))
    })
    .await
    .unwrap();
}

async fn insert(db: &Database, n: i64) -> Result<(), StoreError> {
    db.write(move |tx| {
        tx.execute("INSERT INTO scratch (n) VALUES (?1)", [n])
            .map(|_| ())
            .map_err(|e| StoreError::Unavailable(Box::new(e)))
    })
    .await
}

async fn count(db: &Database) -> i64 {
    db.read(|c| {
        c.query_row("SELECT count(*) FROM scratch", [], |row| row.get(0))
            .map_err(|e| StoreError::Unavailable(Box::new(e)))
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_job_takes_nothing_else_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(&dir.path().join("state.db")).unwrap();
    scratch(&db).await;
    let jobs: Vec<_> = (0..200)
        .map(|i| {
            let db = Arc::clone(&db);
            // Every value twice: one of each pair must fail.
            tokio::spawn(async move { insert(&db, i / 2).await.is_ok() })
        })
        .collect();
    let mut succeeded = 0;
    for job in jobs {
        succeeded += i64::from(job.await.unwrap());
    }
    assert_eq!(succeeded, 100);
    assert_eq!(count(&db).await, 100);
}

#[tokio::test]
async fn a_second_owner_is_refused_and_a_later_one_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let db = Database::open(&path).unwrap();
    scratch(&db).await;
    insert(&db, 7).await.unwrap();
    assert!(matches!(
        Database::open(&path),
        Err(StoreError::InUse { .. })
    ));
    drop(db);
    assert_eq!(count(&Database::open(&path).unwrap()).await, 1);
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(&dir.path().join("state.db")).unwrap();
    scratch(&db).await;
    let result = db
        .read(|c| {
            c.execute("INSERT INTO scratch (n) VALUES (1)", [])
                .map_err(|e| StoreError::Unavailable(Box::new(e)))
        })
        .await;
    assert!(result.is_err());
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    drop(Database::open(&path).unwrap());
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", 9_999).unwrap();
    drop(raw);
    assert!(matches!(
        Database::open(&path),
        Err(StoreError::Corrupt { .. })
    ));
}
