//! What the oracle promises, case by case.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use creto_consensus::memory::{Failure, MemoryOrder, MemoryWindow};
use creto_consensus::{
    LocalOracle, OracleConfig, OracleError, TimestampOracle as _, TimestampOracleExt as _,
    WindowStore as _, conformance, keep_time,
};
use creto_errors::{Class, Classify as _};

use crate::{START_MS, World, config, instant};

#[tokio::test]
async fn memory_keeps_the_contract() {
    conformance::bound_only_rises(&MemoryWindow::new()).await;
    let empty = || MemoryOrder::new(Arc::default());
    let order = empty();
    conformance::order_is_dense(&|| Arc::new(order.open())).await;
    conformance::a_replay_orders_nothing(&empty().open()).await;
    let order = empty();
    conformance::an_older_epoch_is_fenced(&|| Arc::new(order.open())).await;
}

#[tokio::test]
async fn the_bound_is_durable_before_a_timestamp_below_it_is_out() {
    let world = World::new();
    let oracle = world.open().await.unwrap();
    let first = oracle.next().await.unwrap();
    assert_eq!((first.millis(), first.logical()), (START_MS, 0));
    let bound = world.store.upper_bound().await.unwrap();
    assert_eq!(bound, Some(START_MS + 1_000));
    // No write until the window is used up.
    for _ in 0..999 {
        world.clock.advance(Duration::from_millis(1));
        oracle.next().await.unwrap();
    }
    assert_eq!(world.store.raises(), 1);
    world.clock.advance(Duration::from_millis(1));
    let next = oracle.next().await.unwrap();
    assert_eq!(next.millis(), START_MS + 1_000);
    assert_eq!(world.store.raises(), 2);
    assert!(world.store.upper_bound().await.unwrap() > Some(next.millis()));
}

#[tokio::test]
async fn a_failed_write_gives_no_timestamp_and_is_tried_again() {
    for failure in [Failure::NotApplied, Failure::Applied] {
        let world = World::new();
        let oracle = world.open().await.unwrap();
        world.store.fail_next(failure);
        assert!(matches!(oracle.next().await, Err(OracleError::Store(_))));
        // The clock may have stepped between the two.
        world.clock.step_wall_to(instant(START_MS - 3));
        let first = oracle.next().await.unwrap();
        assert!(Some(first.millis()) < world.store.upper_bound().await.unwrap());
    }
}

#[tokio::test]
async fn restarts_rise_and_do_not_run_away_from_the_clock() {
    let world = World::new();
    let mut last = None;
    for _ in 0..100 {
        let oracle = world.open().await.unwrap();
        let next = oracle.next().await.unwrap();
        assert!(Some(next) > last);
        last = Some(next);
        world.clock.advance(Duration::from_millis(1));
    }
    let now = START_MS + 100;
    assert!(last.unwrap().millis() <= now + 1_000 + 100);
    world.clock.advance(Duration::from_secs(2));
    let oracle = world.open().await.unwrap();
    assert_eq!(oracle.next().await.unwrap().millis(), now + 2_000);
}

#[tokio::test]
async fn a_small_step_back_freezes_the_wall_part() {
    let world = World::new();
    let oracle = world.open().await.unwrap();
    let before = oracle.next().await.unwrap();
    world.clock.step_wall_to(instant(START_MS - 4_000));
    for n in 1..1_000_u32 {
        let next = oracle.next().await.unwrap();
        assert_eq!((next.millis(), next.logical()), (before.millis(), n));
    }
    world.clock.step_wall_to(instant(START_MS + 1));
    assert_eq!(oracle.next().await.unwrap().millis(), START_MS + 1);
}

#[tokio::test]
async fn a_large_step_back_is_refused_until_the_clock_is_right_again() {
    let world = World::new();
    let oracle = world.open().await.unwrap();
    oracle.next().await.unwrap();
    world.clock.step_wall_to(instant(START_MS - 6_000));
    let error = oracle.next().await.unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("clock_stepped_back", Class::Security)
    );
    // A restart is no way around it.
    assert!(matches!(
        world.open().await,
        Err(OracleError::ClockStepped { .. })
    ));
    world.clock.step_wall_to(instant(START_MS));
    oracle.next().await.unwrap();
}

#[tokio::test]
async fn a_large_step_ahead_is_refused_and_leaves_nothing_behind() {
    let world = World::new();
    let oracle = world.open().await.unwrap();
    let before = oracle.next().await.unwrap();
    let bound = world.store.upper_bound().await.unwrap();
    for ahead_ms in [5_001, 31_536_000_000] {
        world.clock.step_wall_to(instant(START_MS + ahead_ms));
        for _ in 0..3 {
            let error = oracle.next().await.unwrap_err();
            assert_eq!(
                (error.code(), error.class()),
                ("clock_stepped_forward", Class::Security)
            );
        }
        assert_eq!(world.store.upper_bound().await.unwrap(), bound);
    }
    // Put right, it goes on as if nothing had been.
    world.clock.step_wall_to(instant(START_MS));
    let next = oracle.next().await.unwrap();
    assert_eq!(
        (next.millis(), next.logical()),
        (START_MS, before.logical() + 1)
    );
    world.open().await.unwrap().next().await.unwrap();
}

#[tokio::test]
async fn time_that_passes_is_no_step_however_long_nobody_asked() {
    let world = World::new();
    let oracle = world.open().await.unwrap();
    oracle.next().await.unwrap();
    world.clock.advance(Duration::from_secs(86_400));
    let next = oracle.next().await.unwrap();
    assert_eq!(next.millis(), START_MS + 86_400_000);
    // Nor is it one to come back from a step back.
    world
        .clock
        .step_wall_to(instant(START_MS + 86_400_000 - 4_000));
    oracle.next().await.unwrap();
    world
        .clock
        .step_wall_to(instant(START_MS + 86_400_000 + 4_000));
    let next = oracle.next().await.unwrap();
    assert_eq!(next.millis(), START_MS + 86_404_000);
}

#[tokio::test]
async fn any_step_that_was_followed_can_be_taken_back_at_once() {
    let world = World::new();
    let oracle = world.open().await.unwrap();
    world.clock.step_wall_to(instant(START_MS + 5_000));
    let ahead = oracle.next().await.unwrap();
    assert_eq!(ahead.millis(), START_MS + 5_000);
    world.clock.step_wall_to(instant(START_MS));
    assert!(oracle.next().await.unwrap() > ahead);
}

#[tokio::test]
async fn a_clock_that_was_believed_at_a_start_may_be_put_right() {
    let world = World::new();
    world.open().await.unwrap().next().await.unwrap();
    let year = 31_536_000_000;
    world.clock.step_wall_to(instant(START_MS + year));
    let believing = OracleConfig {
        max_downtime: Duration::from_secs(366 * 86_400),
        ..config()
    };
    let opened = LocalOracle::open(world.store.clone(), world.clock.clone(), believing).await;
    let wrong = opened.unwrap();
    let last = wrong.next().await.unwrap();
    assert_eq!(last.millis(), START_MS + year);
    drop(wrong);

    world.clock.step_wall_to(instant(START_MS));
    assert!(matches!(
        world.open().await,
        Err(OracleError::ClockStepped { .. })
    ));
    let told = OracleConfig {
        max_backward_step: Duration::from_secs(366 * 86_400),
        ..config()
    };
    let opened = LocalOracle::open(world.store.clone(), world.clock.clone(), told.clone()).await;
    let oracle = opened.unwrap();
    let mut before = last;
    for _ in 0..1_000 {
        let next = oracle.next().await.unwrap();
        assert!(next > before);
        before = next;
    }
    assert!(before.millis() <= START_MS + year + 1_000);
    drop(oracle);
    let opened = LocalOracle::open(world.store.clone(), world.clock.clone(), told).await;
    assert!(opened.unwrap().next().await.unwrap() > before);
}

/// How long nothing ran nobody can tell; that it was for ever is not believed.
#[tokio::test]
async fn a_start_believes_a_clock_as_far_as_nothing_can_have_run() {
    // A fresh store has nothing that the clock could be ahead of.
    let world = World::new();
    world.clock.step_wall_to(instant(START_MS * 2));
    world.open().await.unwrap().next().await.unwrap();

    let world = World::new();
    world.open().await.unwrap().next().await.unwrap();
    let bound = world.store.upper_bound().await.unwrap();
    let furthest = bound.unwrap() + 30 * 86_400_000;
    for wrong in [furthest + 1, START_MS * 2] {
        world.clock.step_wall_to(instant(wrong));
        let error = world.open().await.unwrap_err();
        assert_eq!(
            (error.code(), error.class()),
            ("clock_ahead_at_start", Class::Security)
        );
        assert_eq!(world.store.upper_bound().await.unwrap(), bound);
    }
    // 2023-11-14T22:13:20Z, a second of window, and 30 days.
    world.clock.step_wall_to(instant(furthest + 1));
    let said = world.open().await.unwrap_err().to_string();
    for part in [
        "says 2023-12-14T22:13:21.001Z",
        "is of 2023-11-14T22:13:21Z, 30 days before",
        "--accept-clock 2023-12-14T23:13:21Z",
    ] {
        assert!(said.contains(part), "{said}");
    }
    world.clock.step_wall_to(instant(furthest));
    world.open().await.unwrap().next().await.unwrap();
}

/// A server of which nobody asks anything for a year was not down.
#[tokio::test]
async fn the_bound_follows_while_something_runs() {
    let world = World::new();
    let oracle = world.open().await.unwrap();
    let failures = AtomicUsize::new(0);
    let turn = Duration::from_millis(1);
    let keeping = keep_time(&oracle, turn, |_| {
        failures.fetch_add(1, Ordering::SeqCst);
    });
    let passing = async {
        for week in 0..52_u64 {
            if week == 7 {
                world.store.fail_next(Failure::NotApplied);
            }
            world.clock.advance(Duration::from_secs(7 * 86_400));
            let now = START_MS + (week + 1) * 7 * 86_400_000;
            while world.store.upper_bound().await.unwrap() <= Some(now) {
                tokio::time::sleep(turn).await;
            }
        }
    };
    tokio::select! {
        () = keeping => unreachable!("it goes on for ever"),
        passed = tokio::time::timeout(Duration::from_secs(60), passing) => passed.unwrap(),
    }
    assert_eq!(failures.load(Ordering::SeqCst), 1);
    drop(oracle);
    world.open().await.unwrap().next().await.unwrap();
}

#[tokio::test]
async fn a_millisecond_that_runs_out_flows_into_the_next() {
    let world = World::new();
    let oracle = world.open().await.unwrap();
    let most = NonZeroU32::new((1 << 18) - 1).unwrap();
    let first = oracle.reserve(most).await.unwrap();
    assert_eq!(first.count(), most);
    let across = oracle.reserve(NonZeroU32::new(3).unwrap()).await.unwrap();
    let parts: Vec<_> = across.iter().map(|t| (t.millis(), t.logical())).collect();
    assert_eq!(
        parts,
        [
            (START_MS, (1 << 18) - 1),
            (START_MS + 1, 0),
            (START_MS + 1, 1)
        ]
    );
    // More than a whole window at once.
    let huge = oracle.reserve(NonZeroU32::new(u32::MAX).unwrap()).await;
    // 16,384 milliseconds: further ahead than a step back may be.
    let range = huge.unwrap();
    assert_eq!(range.iter().take(2).count(), 2);
    assert!(matches!(
        oracle.next().await,
        Err(OracleError::ClockStepped { .. })
    ));
}

#[tokio::test]
async fn clocks_and_bounds_out_of_range_are_refused() {
    let world = World::new();
    world.clock.step_wall_to(creto_types::Timestamp::MIN);
    assert!(matches!(
        world.open().await,
        Err(OracleError::ClockOutOfRange)
    ));
    let world = World::new();
    world.store.raise(u64::MAX).await.unwrap();
    assert!(world.open().await.is_err());
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    let world = World::new();
    for config in [
        OracleConfig {
            window: Duration::from_micros(1),
            ..config()
        },
        OracleConfig {
            window: Duration::MAX,
            ..config()
        },
        OracleConfig {
            max_backward_step: Duration::from_millis(999),
            max_forward_step: Duration::ZERO,
            ..config()
        },
        OracleConfig {
            max_forward_step: Duration::from_millis(5_001),
            ..config()
        },
    ] {
        let opened = LocalOracle::open(world.store.clone(), world.clock.clone(), config).await;
        assert!(matches!(opened, Err(OracleError::Config { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_callers_get_distinct_rising_timestamps() {
    let world = World::new();
    let oracle = Arc::new(world.open().await.unwrap());
    let tasks: Vec<_> = (0..16_u32)
        .map(|caller| {
            let (oracle, clock) = (oracle.clone(), world.clock.clone());
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for n in 0..500_u32 {
                    if caller == 0 {
                        clock.advance(Duration::from_millis(7));
                    }
                    let count = NonZeroU32::new(1 + n % 3).unwrap();
                    mine.extend(oracle.reserve(count).await.unwrap().iter());
                }
                assert!(mine.is_sorted_by(|a, b| a < b));
                mine
            })
        })
        .collect();
    let mut all = BTreeSet::new();
    let mut handed_out = 0;
    for task in tasks {
        let mine = task.await.unwrap();
        handed_out += mine.len();
        all.extend(mine);
    }
    assert_eq!(all.len(), handed_out);
    let bound = world.store.upper_bound().await.unwrap().unwrap();
    assert!(all.last().unwrap().millis() < bound);
}
