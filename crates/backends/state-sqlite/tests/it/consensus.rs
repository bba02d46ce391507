//! The timestamp bound, by its port's contract and over a restart.

use std::sync::Arc;
use std::time::Duration;

use creto_consensus::{
    LocalOracle, OracleConfig, TimestampOracleExt as _, WindowStore as _, conformance,
};
use creto_state_sqlite::{Database, SqliteWindow};
use creto_types::{ManualClock, Timestamp};

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
