//! What a verifier says of limits, rates and policies that cannot have come about.
#![allow(clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use creto_governor::{
    CheckedBundle, FollowRequest, LimitAnswer, LimitRequest, LimitSubject, OnExceedName,
    PolicyFiles, PublishPoliciesRequest, RateRequest, RateSubject, RecordChecker,
    RollbackPoliciesRequest, WindowName,
};
use creto_metering::{LimitId, RateId};
use creto_types::{LeafIndex, Quantity};
use serde_json::{Value, json};

use crate::world::{World, action};

fn limit(scope: LimitSubject, units: u64) -> LimitRequest {
    LimitRequest {
        scope,
        event: None,
        limit: Quantity::Units(units),
        window: WindowName::Total,
        time_zone: None,
        on_exceed: OnExceedName::Block,
        grace: None,
        thresholds: Some(vec![50]),
    }
}

fn rate(scope: RateSubject, calls: u32) -> RateRequest {
    let calls = calls.try_into().expect("not zero");
    RateRequest::per_second(scope, calls, calls)
}

fn with_comment(comment: &str) -> BTreeMap<String, String> {
    let mut files = PolicyFiles::starter().files().clone();
    files.insert("note.cedar".to_owned(), format!("// {comment}\n"));
    files
}

/// A log in which limits and rates were set, lowered and ended, one was reached, and
/// policies were published, rolled back, reloaded and followed.
pub(crate) async fn eventful() -> World {
    let world = World::new().await;
    let governor = &world.governor;
    let owner = &world.owner;
    let agent = |name: &str| LimitSubject::Agent(name.parse().expect("a name"));
    let set = async |caller, request| -> LimitAnswer {
        let set = governor.set_limit(caller, request, None).await;
        set.expect("is set")
    };
    set(owner, limit(LimitSubject::Organization, 8)).await;
    set(owner, limit(agent("release-bot"), 5)).await;
    let lowered = set(owner, limit(agent("release-bot"), 2)).await;
    let below = LimitSubject::Delegation(world.bot_link.clone());
    set(&world.planner, limit(below, 3)).await;
    let done = governor
        .submit(&world.bot, action("history.read"), None)
        .await;
    done.expect("answers");
    governor.sweep().await.expect("notifies");
    let id: LimitId = lowered.id.parse().expect("an id");
    let ended = governor.remove_limit(owner, id, None).await;
    ended.expect("ends");
    let every = governor.set_rate(owner, rate(RateSubject::EveryAgent, 50), None);
    let every = every.await.expect("is set");
    let whole = governor.set_rate(owner, rate(RateSubject::Organization, 70), None);
    whole.await.expect("is set");
    let id: RateId = every.id.parse().expect("an id");
    governor.remove_rate(owner, id, None).await.expect("ends");

    for comment in ["one", "two"] {
        let request = PublishPoliciesRequest {
            files: with_comment(comment),
            reason: comment.to_owned(),
            expect_version: None,
        };
        let published = governor.publish_policies(owner, request, None).await;
        published.expect("publishes");
    }
    let back = RollbackPoliciesRequest {
        version: 1,
        reason: "it was better".to_owned(),
        expect_version: None,
    };
    let back = governor.rollback_policies(owner, back, None).await;
    back.expect("rolls back");
    let files = PolicyFiles::new(with_comment("of the directory")).expect("a bundle");
    let found = CheckedBundle::check(files);
    governor.reload_policies(found).await.expect("is taken");
    let follow = FollowRequest {
        reason: "back to files".to_owned(),
    };
    let followed = governor.follow_policy_directory(owner, follow, None).await;
    followed.expect("follows");
    world.check_records().await.expect("the records hold");
    world
}

pub(crate) fn records(world: &World) -> Vec<Value> {
    let evidence = world.commits.evidence(world.owner.org());
    let records = evidence.iter().map(serde_json::to_value);
    records
        .map(|record| record.expect("a record is JSON"))
        .collect()
}

pub(crate) fn read(records: &[Value]) -> Result<RecordChecker, String> {
    let mut checker = RecordChecker::new();
    for (record, index) in records.iter().zip(0_u64..) {
        checker
            .leaf(LeafIndex(index), record)
            .map_err(|what| format!("leaf {index}: {what}"))?;
    }
    Ok(checker)
}

/// The place of the n-th record of a kind, the first being 0.
pub(crate) fn place(records: &[Value], kind: &str, n: usize) -> usize {
    let mut places = records.iter().enumerate();
    places
        .by_ref()
        .filter(|(_, record)| record["kind"] == kind)
        .nth(n)
        .map(|(place, _)| place)
        .unwrap_or_else(|| panic!("no {kind} {n}"))
}

#[tokio::test]
async fn what_contradicts_the_log_is_named() {
    let world = eventful().await;
    let whole = records(&world);
    read(&whole).expect("holds");

    // One field of one record.
    for (kind, n, field, value, what) in [
        ("limit.set", 0, "/body/set_by", json!("planner"), "set it"),
        (
            "limit.set",
            0,
            "/actor",
            json!("planner"),
            "set it, not planner",
        ),
        (
            "limit.set",
            1,
            "/body/scope",
            json!({"agent": "ghost"}),
            "never created",
        ),
        (
            "limit.set",
            1,
            "/body/scope",
            json!("organization"),
            "is in force for the same",
        ),
        (
            "limit.set",
            2,
            "/body/window",
            json!("daily"),
            "something else",
        ),
        (
            "limit.set",
            2,
            "/body/id",
            json!("lim_0190b76daa80722ab1ba804098e6cb29"),
            "for the same",
        ),
        (
            "limit.set",
            3,
            "/body/scope/delegation/holder",
            json!("planner"),
            "root and holder",
        ),
        (
            "limit.set",
            3,
            "/body/scope/delegation/link",
            json!("lnk_0190b76daa80722ab1ba804098e6cb29"),
            "never granted",
        ),
        (
            "limit.set",
            0,
            "/body/org",
            json!("org_0190b76daa80722ab1ba804098e6cb29"),
            "is of organization",
        ),
        (
            "limit.removed",
            0,
            "/body/limit/units",
            json!(3),
            "as it was not in force",
        ),
        (
            "limit.removed",
            0,
            "/actor",
            json!("planner"),
            "may not set limits there",
        ),
        (
            "limit.threshold",
            0,
            "/body/taken/units",
            json!(0),
            "less than 50 %",
        ),
        (
            "limit.threshold",
            0,
            "/body/limit/units",
            json!(1),
            "was never a limit of",
        ),
        (
            "limit.threshold",
            0,
            "/body/limit_id",
            json!("lim_0190b76daa80722ab1ba804098e6cb29"),
            "never a limit",
        ),
        ("rate.set", 0, "/body/set_by", json!("planner"), "set it"),
        (
            "rate.set",
            1,
            "/body/scope",
            json!("every_agent"),
            "is in force for the same",
        ),
        (
            "rate.set",
            1,
            "/body/scope",
            json!({"agent": "ghost"}),
            "never created",
        ),
        (
            "rate.removed",
            0,
            "/body/rate/burst",
            json!(51),
            "as it was not in force",
        ),
        (
            "rate.removed",
            0,
            "/actor",
            json!("planner"),
            "only an owner",
        ),
        (
            "policy.published",
            0,
            "/body/version",
            json!(2),
            "the next one is 1",
        ),
        (
            "policy.published",
            1,
            "/body/version",
            json!(1),
            "the next one is 2",
        ),
        (
            "policy.published",
            1,
            "/body/author",
            json!("planner"),
            "published it",
        ),
        (
            "policy.published",
            1,
            "/actor",
            json!("planner"),
            "published it",
        ),
        (
            "policy.published",
            1,
            "/body/previous",
            Value::Null,
            "nothing was in force before",
        ),
        (
            "policy.published",
            1,
            "/body/digest",
            json!("0".repeat(64)),
            "was in force before",
        ),
        (
            "policy.rolled_back",
            0,
            "/body/restores",
            json!(2),
            "does not bring back",
        ),
        (
            "policy.rolled_back",
            0,
            "/body/restores",
            json!(9),
            "never published",
        ),
        (
            "policy.rolled_back",
            0,
            "/body/restores",
            json!(0),
            "never published",
        ),
        (
            "policy.rolled_back",
            0,
            "/body/digest",
            json!("0".repeat(64)),
            "does not bring back",
        ),
        (
            "policy.reloaded",
            0,
            "/body/digest",
            json!("0".repeat(64)),
            "was in force before",
        ),
        (
            "policy.reloaded",
            1,
            "/body/previous/version",
            json!(1),
            "was in force before",
        ),
    ] {
        let mut changed = whole.clone();
        let at = place(&changed, kind, n);
        let found = changed[at].pointer_mut(field);
        *found.unwrap_or_else(|| panic!("{kind} has no {field}")) = value;
        let Err(said) = read(&changed) else {
            panic!("{kind} {n}, {field}: nothing was found");
        };
        assert!(said.contains(what), "{kind} {n}, {field}: {said}");
    }

    // One record left out, or said twice.
    for (kind, n, twice, what) in [
        ("limit.set", 1, false, "was in force"),
        ("limit.removed", 0, true, "was not in force"),
        ("limit.threshold", 0, true, "notified before"),
        ("rate.set", 0, false, "was not in force"),
        ("rate.removed", 0, true, "was not in force"),
        ("policy.published", 0, false, "the next one is 1"),
        ("policy.published", 1, true, "the next one is 3"),
        ("policy.rolled_back", 0, false, "was in force before"),
        ("policy.reloaded", 0, false, "was in force before"),
    ] {
        let mut changed = whole.clone();
        let at = place(&changed, kind, n);
        if twice {
            changed.insert(at, whole[at].clone());
        } else {
            changed.remove(at);
        }
        match read(&changed) {
            Err(said) => assert!(said.contains(what), "{kind} {n}: {said}"),
            // A limit that was lowered later is no less in force for it.
            Ok(_) => assert_eq!((kind, n), ("limit.set", 1)),
        }
    }
}

#[tokio::test]
async fn the_files_of_every_digest_belong_to_the_evidence() {
    let world = eventful().await;
    let whole = records(&world);
    let files = world.policy_files().await;
    assert_eq!(files.len(), 4, "the starter set, two versions, a reload");
    let (path, bytes) = &files[0];
    let checker = || read(&whole).expect("holds");
    let said = |path: &str, bytes: &[u8]| checker().attachment(path, bytes);

    said(path, bytes).expect("is what the log means");
    let other = &files[1].1;
    assert!(
        said(path, other)
            .expect_err("another's")
            .contains("its digest is")
    );
    let spaced = [bytes.as_slice(), b" "].concat();
    assert!(
        said(path, &spaced)
            .expect_err("spaced")
            .contains("canonical")
    );
    let unknown = format!("policies/{}.json", "0".repeat(64));
    assert!(
        said(&unknown, bytes)
            .expect_err("nobody's")
            .contains("its digest is")
    );
    let foreign = br#"{"a.cedar":"permit (principal, action, resource);"}"#;
    let set = BTreeMap::from([(
        "a.cedar".to_owned(),
        "permit (principal, action, resource);".to_owned(),
    )]);
    let set = PolicyFiles::new(set).expect("is a set");
    let unknown = format!("policies/{}.json", set.digest().expect("is JSON"));
    assert!(
        said(&unknown, foreign)
            .expect_err("the log's")
            .contains("no such policies")
    );
    assert!(said(&unknown, b"[]").is_err());

    let mut checker = checker();
    for (path, bytes) in &files[1..] {
        checker
            .attachment(path, bytes)
            .expect("is what the log means");
    }
    let missing = checker.missing();
    let [(place, message)] = missing.as_slice() else {
        panic!("{missing:?}");
    };
    assert_eq!(*place, format!("attachments/{path}"));
    assert!(message.contains("puts in force"), "{message}");
}

/// A server that finds another directory when it starts says what it takes the place of.
#[tokio::test]
async fn a_new_start_with_another_directory_follows_from_what_was_served() {
    let world = World::new().await;
    let files = PolicyFiles::new(with_comment("edited meanwhile")).expect("a bundle");
    let bundle = CheckedBundle::check(files).expect("passes");
    let again = world.restarted();
    again.serve_policies(Ok(bundle)).await.expect("serves");
    let last = records(&world).pop().expect("a record");
    assert_eq!(last["kind"], "policy.reloaded");
    let starter = PolicyFiles::starter().digest().expect("canonical");
    let expected = json!({"source": "directory", "digest": starter});
    assert_eq!(last["body"]["previous"], expected);
    world.check_records().await.expect("the records hold");
}
