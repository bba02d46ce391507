//! How long payloads are kept, and what the log says when they are not.
#![allow(clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use creto_governor::{RecordChecker, Retention};
use creto_types::{Clock as _, LeafIndex, Timestamp};
use serde_json::json;

use crate::world::{World, action};

const DAY: Duration = Duration::from_secs(86_400);

/// The instant at which the day of the world's clock began.
fn today(world: &World) -> Timestamp {
    let now = world.clock.now().as_second();
    Timestamp::from_second(now - now.rem_euclid(86_400)).expect("an instant")
}

#[tokio::test]
async fn payloads_of_a_day_end_together_and_on_record() {
    let world = World::new().await;
    let governor = &world.governor;
    let decided = governor
        .submit(&world.bot, action("history.read"), None)
        .await;
    decided.expect("answers");
    let made = world.kinds().len();
    let two_days = Retention {
        evidence: Some(2),
        trace: None,
    };
    let end = async |retention: &Retention| {
        let ended = governor
            .expire_payloads(retention, &|_| today(&world))
            .await;
        ended.expect("ends");
        governor.sweep_erased().await.expect("sweeps");
    };
    let ends = || {
        let kinds = world.kinds();
        kinds
            .iter()
            .filter(|kind| *kind == "payloads.expired")
            .count()
    };

    end(&two_days).await;
    world.clock.advance(2 * DAY);
    // The day on which it was done has not been over for two days.
    end(&two_days).await;
    assert_eq!(ends(), 0);
    world.clock.advance(DAY);
    end(&Retention::default()).await;
    assert_eq!(ends(), 0, "kept for ever");
    end(&two_days).await;
    end(&two_days).await;
    assert_eq!(ends(), 1, "once a day");
    let evidence = world.commits.evidence(world.owner.org());
    let record = evidence.last().expect("there are records");
    assert_eq!(record.actor, *world.owner.name());
    assert_eq!(record.body["class"], "evidence");
    assert_eq!(record.body["through"], made - 1);
    assert_eq!(record.body["before"], json!(today(&world) - 2 * DAY));

    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn the_end_of_what_is_to_come_is_not_on_record() {
    let world = World::new().await;
    let record = |actor: &str, through: u64| {
        json!({
            "kind": "payloads.expired", "actor": actor,
            "body": { "class": "evidence", "through": through },
        })
    };
    let read = |record| {
        let mut checker: RecordChecker = world.after_the_leaves();
        checker.leaf(LeafIndex(100), &record)
    };
    read(record("alice", 99)).expect("holds");
    let said = read(record("alice", 100)).expect_err("comes after");
    assert!(said.contains("what comes after it"), "{said}");
    let said = read(record("planner", 99)).expect_err("no owner");
    assert!(said.contains("only an owner"), "{said}");
}
