//! Events of others in the order of the log, and what a verifier says of their records.
#![allow(clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use async_trait::async_trait;
use creto_consensus::{Epoch, HybridTimestamp, Sequenced, Sequencer};
use creto_errors::Classify as _;
use creto_governor::{Event, HumanRequest, IdempotencyKey, RoleRequest};
use creto_types::{Commit, LeafIndex, OrgId, StoreError};
use serde_json::{Value, json};

use crate::world::World;

fn event(number: u8) -> Event {
    Event {
        sha256: [number; 32],
        label: format!("payment.{number}"),
    }
}

#[tokio::test]
async fn a_verifier_reads_the_records_of_ordered_events_strictly() {
    let world = World::new().await;
    let (governor, owner) = (&world.governor, &world.owner);
    // Who was an owner once counts: the record may lie behind that of the end.
    let carol = HumanRequest {
        name: "carol".parse().expect("a name"),
        role: "owner".to_owned(),
        ttl_seconds: None,
        jkt: None,
    };
    let carol = governor.add_human(owner, carol, None).await.expect("adds");
    let token = carol.token.expect("shown once");
    let by_carol = governor.authenticate(&token).expect("it is good");
    let ordered = governor.order_events(&by_carol, vec![event(1)], None).await;
    ordered.expect("orders");
    let role = RoleRequest {
        role: "auditor".to_owned(),
        reason: "done".to_owned(),
    };
    let name = "carol".parse().expect("a name");
    let changed = governor.set_role(owner, &name, role, None).await;
    changed.expect("changes");
    let ordered = governor.order_events(owner, vec![event(2)], None).await;
    ordered.expect("orders");
    world.check_records().await.expect("holds");

    let record =
        |actor: &str, body: Value| json!({ "kind": "event.ordered", "actor": actor, "body": body });
    let good = json!({ "sha256": "0a".repeat(32), "label": "payment.captured" });
    let read = |actor: &str, body: Value| {
        let mut checker = world.after_the_leaves();
        checker.leaf(LeafIndex(1_000), &record(actor, body))
    };
    for actor in ["alice", "carol"] {
        read(actor, good.clone()).expect("it could be");
    }
    for actor in ["planner", "nobody"] {
        let why = read(actor, good.clone()).expect_err("is no owner");
        assert!(why.contains("only an owner may order events"), "{why}");
    }
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    for wrong in [
        json!({}),
        json!({ "sha256": "0a".repeat(32) }),
        json!({ "label": "payment.captured" }),
        with("sha256", json!("0a".repeat(31))),
        with("sha256", json!("0A".repeat(32))),
        with("sha256", json!("0g".repeat(32))),
        with("sha256", json!("\u{e9}".repeat(32))),
        with("sha256", json!([0])),
        with("label", json!("")),
        with("label", json!("x".repeat(513))),
        with("label", json!("a\nb")),
        with("more", json!(1)),
    ] {
        let why = read("alice", wrong.clone());
        assert!(why.is_err(), "{wrong}");
    }
}

/// The key says how many there were: an answer with fewer would place none of the others.
#[tokio::test]
async fn a_repeated_call_is_answered_with_every_place_or_none() {
    let world = World::new().await;
    let key = || Some(IdempotencyKey::new("k").expect("a key"));
    let events = || vec![event(1), event(2)];
    let first = world
        .governor
        .order_events(&world.owner, events(), key())
        .await;
    let first = first.expect("orders");
    let again = world
        .governor
        .order_events(&world.owner, events(), key())
        .await;
    assert_eq!(again.expect("answers"), first);
    let losing = world.restarted_with(|stores| {
        stores.sequencer = Arc::new(Losing(stores.sequencer.clone()));
    });
    let again = losing.order_events(&world.owner, events(), key()).await;
    assert_eq!(again.expect_err("one is missing").code(), "not_found");
}

/// Knows one timestamp less than it gave.
struct Losing(Arc<dyn Sequencer>);

#[async_trait]
impl Sequencer for Losing {
    fn epoch(&self) -> Epoch {
        self.0.epoch()
    }

    async fn order(&self, commit: Commit) -> Result<Vec<Sequenced>, StoreError> {
        self.0.order(commit).await
    }

    async fn timestamps(
        &self,
        org: OrgId,
        from: LeafIndex,
        count: usize,
    ) -> Result<Vec<HybridTimestamp>, StoreError> {
        let mut all = self.0.timestamps(org, from, count).await?;
        all.pop();
        Ok(all)
    }
}
