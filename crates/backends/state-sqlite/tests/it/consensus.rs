//! The timestamp bound and the order of commits, by their ports' contracts and over
//! restarts.

use std::sync::Arc;
use std::time::Duration;

use creto_audit::{Journal as _, RecordClass};
use creto_consensus::{
    LocalOracle, OracleConfig, Sequencer as _, TimestampOracleExt as _, WindowStore as _,
    conformance,
};
use creto_state_sqlite::{Database, SqliteJournal, SqliteSequencer, SqliteWindow};
use creto_types::{Commit, ManualClock, StoreError, Timestamp};

#[tokio::test]
async fn keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let window = SqliteWindow::new(Database::open(&path).unwrap());
    conformance::bound_only_rises(&window).await;
    let highest = window.upper_bound().await.unwrap();
    drop(window);
    let reopened = SqliteWindow::new(Database::open(&path).unwrap());
    assert_eq!(reopened.upper_bound().await.unwrap(), highest);
}

#[tokio::test]
async fn timestamps_rise_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let clock = Arc::new(ManualClock::new(
        Timestamp::from_second(1_700_000_000).unwrap(),
    ));
    let mut last = None;
    for _ in 0..3 {
        let store = Arc::new(SqliteWindow::new(Database::open(&path).unwrap()));
        let oracle = LocalOracle::open(store, clock.clone(), OracleConfig::default())
            .await
            .unwrap();
        for _ in 0..10 {
            let next = oracle.next().await.unwrap();
            assert!(Some(next) > last);
            last = Some(next);
        }
        clock.advance(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn the_order_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dense.db");
    conformance::order_is_dense(&|| Arc::new(SqliteSequencer::new(Database::open(&path).unwrap())))
        .await;
    let path = dir.path().join("keyed.db");
    let keyed = SqliteSequencer::new(Database::open(&path).unwrap());
    conformance::a_replay_orders_nothing(&keyed).await;
    let path = dir.path().join("fenced.db");
    conformance::an_older_epoch_is_fenced(&|| {
        // Whoever removes the lock lets a second process in.
        let _ = std::fs::remove_file(dir.path().join("fenced.db.lock"));
        Arc::new(SqliteSequencer::new(Database::open(&path).unwrap()))
    })
    .await;
}

/// Every port writes through the same door.
#[tokio::test]
async fn whoever_lost_the_file_writes_nothing_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let old = Database::open(&path).unwrap();
    let window = SqliteWindow::new(Arc::clone(&old));
    let journal = SqliteJournal::new(Arc::clone(&old));
    window.raise(1_000).await.unwrap();
    std::fs::remove_file(dir.path().join("state.db.lock")).unwrap();
    let new = Database::open(&path).unwrap();
    assert!(new.epoch() > old.epoch());

    let refused = window.raise(2_000).await;
    assert!(
        matches!(refused, Err(StoreError::Fenced { .. })),
        "{refused:?}"
    );
    let org = creto_audit::conformance::org(1);
    let record = creto_audit::conformance::record(org, 1);
    let refused = journal.append(RecordClass::Trace, vec![record]).await;
    assert!(
        matches!(refused, Err(StoreError::Fenced { .. })),
        "{refused:?}"
    );
    let found = SqliteWindow::new(Arc::clone(&new)).upper_bound().await;
    assert_eq!(found.unwrap(), Some(1_000));
    assert_eq!(SqliteJournal::new(new).size(org).await.unwrap(), 0);
}

/// Neither without the other.
#[tokio::test]
async fn a_bound_is_raised_with_the_record_of_why_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    assert_eq!(Database::timestamp_bound(&path).unwrap(), None);
    assert!(!path.exists(), "looking makes no file");
    let database = Database::open(&path).unwrap();
    let window = SqliteWindow::new(Arc::clone(&database));
    let journal = SqliteJournal::new(Arc::clone(&database));
    let org = creto_audit::conformance::org(1);
    let commits = || vec![Commit::of(creto_audit::conformance::record(org, 1))];
    window.raise_with(1_000, commits()).await.unwrap();
    assert_eq!(journal.size(org).await.unwrap(), 1);
    let refused = window.raise_with(1_000, commits()).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })));
    assert_eq!(journal.size(org).await.unwrap(), 1);

    let owned = Database::timestamp_bound(&path);
    assert!(matches!(owned, Err(StoreError::InUse { .. })), "{owned:?}");
    let epoch = database.epoch();
    drop((window, journal, database));
    assert_eq!(Database::timestamp_bound(&path).unwrap(), Some(1_000));
    // To look is not to open.
    let next = Database::open(&path).unwrap().epoch();
    assert_eq!(next.as_u64(), epoch.as_u64() + 1);
    // A file from before there were timestamps has none.
    let old = dir.path().join("old.db");
    std::fs::write(&old, "").unwrap();
    assert_eq!(Database::timestamp_bound(&old).unwrap(), None);
}

/// A log that was begun before leaves had timestamps goes on with them.
#[tokio::test]
async fn leaves_without_a_timestamp_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(&dir.path().join("state.db")).unwrap();
    let org = creto_audit::conformance::org(1);
    db.write(move |tx| {
        tx.execute(
            "INSERT INTO logs (number, org) VALUES (1, ?1)",
            [org.to_string()],
        )
        .and_then(|_| {
            tx.execute(
                "INSERT INTO journal (place, kind, bytes) VALUES (1 << 40, 'k', x'7b7d')",
                [],
            )
        })
        .map_err(|e| StoreError::Unavailable(Box::new(e)))
    })
    .await
    .unwrap();
    let event = creto_audit::conformance::record(org, 1);
    let ordered = SqliteSequencer::new(Arc::clone(&db))
        .order(Commit::of(event))
        .await
        .unwrap();
    assert_eq!((ordered[0].place.0, ordered[0].ts.logical()), (1, 0));
    let leaves = SqliteJournal::new(db).read(org, 0, 10).await.unwrap();
    assert_eq!(leaves[0], b"{}");
    let text = format!("\"ts\":\"{}\"", ordered[0].ts);
    assert!(
        String::from_utf8(leaves[1].clone())
            .unwrap()
            .contains(&text)
    );
}
