//! The contracts of [`Journal`] and [`TileStore`] as tests. Every backend runs
//! them on an empty store.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a conformance suite is test code: it fails by panicking"
)]

use std::sync::Arc;

use creto_crypto::Secret;
use creto_types::{Evidence, HybridTimestamp, LeafIndex, OrgId, Timestamp};

use crate::{
    Found, IndexKey, Journal, RecordClass, SearchField, SearchIndex, SearchTag, SearchTerm,
    TileStore, leaf_bytes,
};

/// The organization with this number.
#[must_use]
pub fn org(n: u8) -> OrgId {
    format!("org_{:032x}", 0x0192_0000_u64 + u64::from(n))
        .parse()
        .unwrap()
}

/// A record of that organization.
#[must_use]
pub fn record(org: OrgId, n: u64) -> Evidence {
    Evidence {
        org,
        kind: "resource.read".to_owned(),
        at: Timestamp::from_second(1_700_000_000).unwrap(),
        actor: "release-bot".parse().unwrap(),
        action_id: None,
        body: serde_json::json!({ "n": n, "resource": "doc/é" }),
    }
}

/// Places count up per organization, timestamps rise with them although everything
/// happened in one instant, a batch is one transaction, and reading gives back the leaves.
pub async fn journal_keeps_order(journal: &dyn Journal) {
    assert_eq!(journal.organizations().await.unwrap(), []);
    assert_eq!(journal.size(org(1)).await.unwrap(), 0);
    assert!(journal.read(org(1), 0, 10).await.unwrap().is_empty());
    let batch = vec![record(org(1), 0), record(org(2), 1), record(org(1), 2)];
    let places = journal.append(RecordClass::Trace, batch).await.unwrap();
    assert_eq!(places, [0, 0, 1].map(LeafIndex));
    let places = journal
        .append(RecordClass::Evidence, vec![record(org(1), 3)])
        .await
        .unwrap();
    assert_eq!(places, [LeafIndex(2)]);
    assert_eq!(
        journal.append(RecordClass::Trace, vec![]).await.unwrap(),
        []
    );
    assert_eq!(journal.size(org(1)).await.unwrap(), 3);
    assert_eq!(journal.size(org(2)).await.unwrap(), 1);
    assert_eq!(journal.organizations().await.unwrap(), [org(1), org(2)]);
    let record = |place: u32, class, n| {
        let ts = HybridTimestamp::from_parts(1_700_000_000_000, place).unwrap();
        let bytes = leaf_bytes(LeafIndex(place.into()), ts, class, &record(org(1), n)).unwrap();
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()
    };
    let expected = [
        record(0, RecordClass::Trace, 0),
        record(1, RecordClass::Trace, 2),
        record(2, RecordClass::Evidence, 3),
    ];
    let leaves = journal.read(org(1), 0, 10).await.unwrap();
    let stored = journal.records(org(1), 0, 10).await.unwrap();
    let beside: Vec<_> = stored.iter().map(|stored| stored.leaf.clone()).collect();
    assert_eq!(beside, leaves);
    let records: Vec<_> = stored
        .iter()
        .map(|stored| stored.read().unwrap().whole().unwrap())
        .collect();
    assert_eq!(records, expected);
    assert_eq!(
        journal.read(org(1), 1, 1).await.unwrap(),
        leaves.get(1..2).unwrap()
    );
    assert_eq!(
        journal.records(org(1), 1, 1).await.unwrap(),
        stored.get(1..2).unwrap()
    );
    for from in [3, u64::MAX] {
        assert!(journal.read(org(1), from, 10).await.unwrap().is_empty());
        assert!(journal.records(org(1), from, 10).await.unwrap().is_empty());
    }
}

/// A record that cannot be a leaf takes its batch with it.
pub async fn journal_batch_is_atomic(journal: &dyn Journal) {
    let mut long = record(org(1), 1);
    long.body = serde_json::Value::String("x".repeat(70_000));
    let batch = vec![record(org(1), 0), long];
    assert!(journal.append(RecordClass::Trace, batch).await.is_err());
    assert_eq!(journal.size(org(1)).await.unwrap(), 0);
}

/// Concurrent appends leave no gap and no place twice.
pub async fn journal_concurrent_appends(journal: Arc<dyn Journal>) {
    let tasks: Vec<_> = (0..40_u64)
        .map(|n| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                let batch = vec![record(org(1), n), record(org(1), n)];
                journal.append(RecordClass::Trace, batch).await.unwrap()
            })
        })
        .collect();
    let mut places = Vec::new();
    for task in tasks {
        let pair = task.await.unwrap();
        assert!(pair.is_sorted());
        places.extend(pair);
    }
    places.sort();
    let expected: Vec<_> = (0..80).map(LeafIndex).collect();
    assert_eq!(places, expected);
}

/// Files are kept apart by organization, replaced whole, and partial versions
/// go on request.
pub async fn tiles_are_kept(tiles: &dyn TileStore) {
    assert_eq!(tiles.get(org(1), "checkpoint").await.unwrap(), None);
    for (owner, path, text) in [
        (1, "checkpoint", "one"),
        (2, "checkpoint", "two"),
        (1, "tile/0/000.p/7", "partial"),
        (1, "tile/0/000.p/8", "wider"),
        (1, "tile/0/001.p/1", "next"),
        (2, "tile/0/000.p/7", "other"),
        (1, "tile/0/000", "full"),
        (1, "tile/entries/x001/234.p/3", "deep"),
        (1, "checkpoint", "three"),
        (1, "tile/0/002", ""),
    ] {
        tiles
            .put(org(owner), path, text.as_bytes().to_vec())
            .await
            .unwrap();
    }
    tiles.remove_partials(org(1), "tile/0/000").await.unwrap();
    tiles.remove_partials(org(1), "tile/0/000").await.unwrap();
    tiles.remove_partials(org(1), "tile/3/777").await.unwrap();
    for (owner, path, expected) in [
        (1, "checkpoint", Some("three")),
        (2, "checkpoint", Some("two")),
        (1, "tile/0/000", Some("full")),
        (1, "tile/0/000.p/7", None),
        (1, "tile/0/000.p/8", None),
        (1, "tile/0/001.p/1", Some("next")),
        (2, "tile/0/000.p/7", Some("other")),
        (1, "tile/entries/x001/234.p/3", Some("deep")),
        (1, "tile/0/002", Some("")),
        (3, "checkpoint", None),
        (1, "tile/0", None),
    ] {
        let found = tiles.get(org(owner), path).await.unwrap();
        let expected = expected.map(|text| text.as_bytes().to_vec());
        assert_eq!(found, expected, "{path}");
        // Among others it is the same.
        let paths = ["checkpoint", path, "tile/7/999", path].map(ToOwned::to_owned);
        let all = tiles.get_all(org(owner), paths.to_vec()).await.unwrap();
        assert_eq!(all.len(), 4, "{path}");
        assert_eq!(all.get(1), Some(&expected), "{path}");
        assert_eq!(all.get(2), Some(&None));
        assert_eq!(all.get(3), Some(&expected), "{path}");
    }
}

/// What an index is given of a term, under a key that everybody knows.
#[must_use]
pub fn tag(field: SearchField, value: &str) -> SearchTag {
    IndexKey::of(&Secret::new(vec![7; 32])).tag(&SearchTerm::new(field, value))
}

/// Leaves are found by their tags, newest first, in the span that is asked for, each log
/// for itself; an extension happens once, and only behind what is there. The journal has
/// ten leaves of the first organization and of the second.
pub async fn index_finds(index: &dyn SearchIndex) {
    use SearchField::{Agent, Kind};
    assert_eq!(index.covered(org(1)).await.unwrap(), 0);
    let leaf = |n: u64| {
        let agent = if n.is_multiple_of(2) { "even" } else { "odd" };
        let mut tags = vec![tag(Agent, agent), tag(Kind, "k")];
        if n.is_multiple_of(3) {
            tags.push(tag(Kind, "third"));
        }
        tags
    };
    let first: Vec<_> = (0..4).map(leaf).collect();
    assert_eq!(index.extend(org(1), 1, first.clone()).await.unwrap(), 0);
    for _ in 0..2 {
        assert_eq!(index.extend(org(1), 0, first.clone()).await.unwrap(), 4);
    }
    let rest = (4..10).map(leaf).collect();
    assert_eq!(index.extend(org(1), 4, rest).await.unwrap(), 10);
    assert_eq!(index.extend(org(2), 0, first).await.unwrap(), 4);
    assert_eq!(index.covered(org(2)).await.unwrap(), 4);

    let (even, third) = (tag(Agent, "even"), tag(Kind, "third"));
    for (owner, span, tags, max, leaves, rest) in [
        (1, 0..10, vec![even], 10, vec![8, 6, 4, 2, 0], None),
        (1, 0..10, vec![even], 2, vec![8, 6], Some(6)),
        (1, 0..6, vec![even], 10, vec![4, 2, 0], None),
        (1, 3..9, vec![even], 10, vec![8, 6, 4], None),
        (1, 0..10, vec![even, third], 10, vec![6, 0], None),
        (1, 0..10, vec![third, even], 1, vec![6], Some(6)),
        (1, 0..10, vec![], 3, vec![9, 8, 7], Some(7)),
        (1, 2..2, vec![], 3, vec![], None),
        (1, 0..10, vec![tag(Kind, "even")], 10, vec![], None),
        (1, 0..10, vec![even, tag(Agent, "odd")], 10, vec![], None),
        (2, 0..4, vec![even], 10, vec![2, 0], None),
        (3, 0..0, vec![even], 10, vec![], None),
    ] {
        let what = format!("{owner} {span:?} {tags:?} {max}");
        let found = index.find(org(owner), span, tags, max).await.unwrap();
        let leaves = leaves.into_iter().map(LeafIndex).collect();
        assert_eq!(found, Found { leaves, rest }, "{what}");
    }
}
