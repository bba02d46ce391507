//! The contracts of [`WindowStore`] and [`Sequencer`] as tests. Every backend runs them on
//! an empty store.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a conformance suite is test code: it fails by panicking"
)]

use std::sync::Arc;

use creto_types::{Commit, Evidence, Idempotency, LeafIndex, OrgId, StoreError, Timestamp, Turn};

use crate::{Sequenced, Sequencer, WindowStore};

/// The bound starts absent, only rises, and is read back.
pub async fn bound_only_rises(store: &dyn WindowStore) {
    assert_eq!(store.upper_bound().await.unwrap(), None);
    store.raise(1_000).await.unwrap();
    assert_eq!(store.upper_bound().await.unwrap(), Some(1_000));
    for refused in [1_000, 999, 0] {
        assert!(matches!(
            store.raise(refused).await,
            Err(StoreError::Conflict { .. })
        ));
    }
    assert_eq!(store.upper_bound().await.unwrap(), Some(1_000));
    // The last millisecond a timestamp can say.
    let highest = u64::MAX >> 18;
    store.raise(highest).await.unwrap();
    assert_eq!(store.upper_bound().await.unwrap(), Some(highest));
}

/// Something that happened in the organization with this number, at this second.
fn event(org: u8, second: i64) -> Evidence {
    let org: OrgId = format!("org_{:032x}", 0x0192_0000_u64 + u64::from(org))
        .parse()
        .unwrap();
    Evidence {
        org,
        kind: "resource.read".to_owned(),
        at: Timestamp::from_second(second).unwrap(),
        actor: "release-bot".parse().unwrap(),
        action_id: None,
        body: serde_json::json!({ "second": second }),
    }
}

/// A commit of these.
fn of(events: Vec<Evidence>) -> Commit {
    Commit {
        evidence: events,
        ..Commit::default()
    }
}

fn places(ordered: &[Sequenced]) -> Vec<u64> {
    ordered.iter().map(|one| one.place.0).collect()
}

/// Places are dense per organization over batches, concurrent calls and openings, and
/// timestamps rise with them whatever the events' own instants are.
///
/// `open` opens the same store anew.
pub async fn order_is_dense(open: &dyn Fn() -> Arc<dyn Sequencer>) {
    let first = open();
    let batch = vec![event(1, 50), event(2, 50), event(1, 40), event(1, 50)];
    let ordered = first.order(of(batch)).await.unwrap();
    assert_eq!(places(&ordered), [0, 0, 1, 2]);
    assert!(first.order(of(Vec::new())).await.unwrap().is_empty());
    let mut last = ordered[3];
    assert!(ordered[0].ts < ordered[2].ts && ordered[2].ts < last.ts);
    assert!(ordered.iter().all(|one| one.epoch == first.epoch()));

    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let first = Arc::clone(&first);
            tokio::spawn(async move { first.order(of(vec![event(1, n), event(1, 100 - n)])).await })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        let pair = task.await.unwrap().unwrap();
        assert_eq!(pair[0].place.0 + 1, pair[1].place.0, "one transaction");
        all.extend(pair);
    }
    all.sort_by_key(|one| one.place);
    assert_eq!(places(&all), (3..83).collect::<Vec<_>>());
    for one in all {
        assert!(one.ts > last.ts, "{one:?} after {last:?}");
        last = one;
    }

    let epoch = first.epoch();
    drop(first);
    let second = open();
    assert!(second.epoch() > epoch);
    let after = second.order(of(vec![event(1, 0)])).await.unwrap();
    assert_eq!(after[0].place, LeafIndex(83));
    assert!(after[0].ts > last.ts);
    assert_eq!(after[0].epoch, second.epoch());
    let told = second.timestamps(after[0].org, LeafIndex(82), 10).await;
    assert_eq!(told.unwrap(), [last.ts, after[0].ts], "read back");
    let told = second.timestamps(after[0].org, LeafIndex(84), 10).await;
    assert!(told.unwrap().is_empty());
}

/// The same key orders nothing a second time, and tells where it did.
pub async fn a_replay_orders_nothing(sequencer: &dyn Sequencer) {
    let keyed = |seconds: [i64; 2]| {
        let events = seconds.map(|second| event(1, second)).to_vec();
        let record = Idempotency {
            org: events[0].org,
            caller: events[0].actor.clone(),
            key: "once".to_owned(),
            request_digest: [7; 32],
            response: serde_json::json!({ "events": 2 }),
            turn: Turn::default(),
        };
        of(events).with_idempotency(Some(record))
    };
    let ordered = sequencer.order(keyed([1, 2])).await.unwrap();
    assert_eq!(places(&ordered), [0, 1]);
    let again = sequencer.order(keyed([3, 4])).await;
    let Err(StoreError::Replayed(reply)) = again else {
        panic!("{again:?}");
    };
    assert_eq!(reply.leaves, [LeafIndex(0), LeafIndex(1)]);
    let next = sequencer.order(of(vec![event(1, 5)])).await.unwrap();
    assert_eq!(places(&next), [2], "nothing came between");
}

/// An opening that was followed by another changes nothing any more.
///
/// `open` opens the same store anew, although the one before is still open.
pub async fn an_older_epoch_is_fenced(open: &dyn Fn() -> Arc<dyn Sequencer>) {
    let old = open();
    assert_eq!(
        places(&old.order(of(vec![event(1, 1)])).await.unwrap()),
        [0],
        "alone it writes"
    );
    let new = open();
    for _ in 0..2 {
        let refused = old.order(of(vec![event(1, 2), event(2, 2)])).await;
        let Err(StoreError::Fenced { own, newest }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((own, newest), (old.epoch().as_u64(), new.epoch().as_u64()));
        let ordered = new.order(of(vec![event(1, 3)])).await.unwrap();
        assert_eq!(ordered.len(), 1);
    }
    let ordered = new.order(of(vec![event(1, 4), event(2, 4)])).await.unwrap();
    assert_eq!(places(&ordered), [3, 0], "what was refused left no trace");
}
