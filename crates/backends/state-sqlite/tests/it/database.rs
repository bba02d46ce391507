//! Group commit, isolation of failures, single ownership, restart.

use std::sync::Arc;

use creto_audit::{Journal as _, RecordClass, conformance};
use creto_state_sqlite::{Database, SqliteJournal};
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
    // All of it is in the one file.
    assert!(!dir.path().join("state.db-wal").exists());
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_does_not_wait_for_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(&dir.path().join("state.db")).unwrap();
    scratch(&db).await;
    insert(&db, 1).await.unwrap();
    let (started, begun) = std::sync::mpsc::channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let writer = Arc::clone(&db);
    let writing = tokio::spawn(async move {
        let work = writer.write(move |tx| {
            let changed = tx.execute("INSERT INTO scratch (n) VALUES (2)", []);
            changed.map_err(|e| StoreError::Unavailable(Box::new(e)))?;
            started.send(()).unwrap();
            wait.recv().unwrap();
            Ok(())
        });
        work.await
    });
    begun.recv().unwrap();
    // In the middle of a transaction: what was acknowledged is read, and no more.
    assert_eq!(count(&db).await, 1);
    go_on.send(()).unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(count(&db).await, 2);
}

#[tokio::test]
async fn the_log_of_writes_does_not_grow_with_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let journal = SqliteJournal::new(Database::open(&path).unwrap());
    let mut record = conformance::record(conformance::org(1), 0);
    record.body = "x".repeat(60_000).into();
    let mut written = 0;
    for _ in 0..120 {
        let batch = vec![record.clone(); 10];
        written += 10 * 60_000;
        journal.append(RecordClass::Trace, batch).await.unwrap();
    }
    let log = std::fs::metadata(dir.path().join("state.db-wal")).unwrap();
    // Twice 16 MiB at most until it is begun anew, and what framing adds.
    assert!(log.len() < 36 << 20, "{} bytes of {written}", log.len());
}
