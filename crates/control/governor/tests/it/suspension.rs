use creto_errors::Classify as _;
use creto_governor::{
    Caller, DelegationState, GovernError, IdempotencyKey, OutcomeKind, RecordChecker,
    SuspensionAnswer, SuspensionRequest,
};
use creto_types::{LeafIndex, PrincipalName};
use serde_json::{Value, json};

use crate::world::{World, action, delegate};

fn because(reason: &str) -> SuspensionRequest {
    SuspensionRequest {
        reason: reason.to_owned(),
    }
}

fn name(text: &str) -> PrincipalName {
    text.parse().expect("a name")
}

async fn suspend(
    world: &World,
    caller: &Caller,
    who: &str,
    key: Option<&str>,
) -> Result<SuspensionAnswer, GovernError> {
    let key = key.map(|key| IdempotencyKey::new(key).expect("a key"));
    world
        .governor
        .suspend_principal(caller, &name(who), because("it loops"), key)
        .await
}

async fn resume(world: &World, who: &str) -> Result<SuspensionAnswer, GovernError> {
    world
        .governor
        .resume_principal(&world.owner, &name(who), because("looked at"), None)
        .await
}

async fn outcome(world: &World, caller: &Caller) -> (OutcomeKind, String) {
    let answer = world
        .governor
        .submit(caller, action("history.read"), None)
        .await
        .expect("answers");
    (answer.outcome, answer.reason.code)
}

fn state(world: &World, link: &str) -> DelegationState {
    let shown = world.governor.delegation(&world.owner, link);
    shown.expect("reads").state
}

/// Who is listed as suspended.
fn listed(world: &World) -> Vec<(String, bool)> {
    let all = world.governor.principals(&world.owner, None, 100);
    all.expect("lists")
        .into_iter()
        .filter(|principal| principal.suspended)
        .map(|principal| (principal.name.to_string(), principal.suspended_at.is_some()))
        .collect()
}

#[tokio::test]
async fn a_suspension_stops_everything_below_until_it_is_ended() {
    let world = World::new().await;
    let answer = suspend(&world, &world.owner, "planner", None).await;
    let answer = answer.expect("suspends");
    assert!(answer.suspended && answer.leaf.is_some(), "{answer:?}");
    for caller in [&world.planner, &world.bot] {
        let (kind, code) = outcome(&world, caller).await;
        assert_eq!(kind, OutcomeKind::Deny);
        assert_eq!(code, "principal_suspended");
        let refused = world.governor.whoami(caller);
        assert_eq!(
            refused.expect_err("no call at all").code(),
            "principal_suspended"
        );
    }
    assert_eq!(listed(&world), [("planner".to_owned(), true)]);
    for link in [&world.planner_link, &world.bot_link] {
        assert_eq!(state(&world, link), DelegationState::Suspended);
    }
    let expires = "2026-03-02T12:00:00Z".parse().expect("an instant");
    let to_it = world
        .governor
        .delegate(&world.owner, delegate("planner", "1.00", expires), None)
        .await;
    assert_eq!(
        to_it.expect_err("nothing to it").code(),
        "principal_suspended"
    );

    let answer = resume(&world, "planner").await.expect("resumes");
    assert!(!answer.suspended && answer.leaf.is_some(), "{answer:?}");
    for caller in [&world.planner, &world.bot] {
        assert_eq!(outcome(&world, caller).await.0, OutcomeKind::Allow);
    }
    assert_eq!(listed(&world), []);
    assert_eq!(state(&world, &world.bot_link), DelegationState::Active);

    let records: Vec<_> = world
        .commits
        .evidence(world.owner.org())
        .into_iter()
        .filter(|record| record.kind.ends_with("suspended") || record.kind.ends_with("resumed"))
        .map(|record| (record.kind, record.actor.to_string(), record.body))
        .collect();
    let record = |kind: &str, reason: &str| {
        let body = json!({"principal": "planner", "reason": reason});
        (kind.to_owned(), "alice".to_owned(), body)
    };
    assert_eq!(
        records,
        [
            record("principal.suspended", "it loops"),
            record("principal.resumed", "looked at"),
        ]
    );
    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn what_cannot_be_suspended_changes_nothing() {
    let world = World::new().await;
    let records = world.kinds().len();
    for (caller, who, code) in [
        (&world.planner, "release-bot", "forbidden"),
        (&world.bot, "planner", "forbidden"),
        (&world.owner, "alice", "owner_not_suspended"),
        (&world.owner, "nobody", "unknown_principal"),
    ] {
        let refused = suspend(&world, caller, who, None).await;
        assert_eq!(refused.expect_err(who).code(), code, "{who}");
    }
    let refused = resume(&world, "planner").await;
    assert_eq!(
        refused.expect_err("is in good standing").code(),
        "principal_not_suspended"
    );
    let by_agent = world
        .governor
        .resume_principal(&world.planner, &name("planner"), because("me"), None)
        .await;
    assert_eq!(by_agent.expect_err("owner's work").code(), "forbidden");
    let long = "x".repeat(513);
    for text in ["", "  ", "a\u{7}", long.as_str()] {
        let refused = world
            .governor
            .suspend_principal(&world.owner, &name("planner"), because(text), None)
            .await;
        assert_eq!(refused.expect_err("no reason").code(), "invalid_request");
    }
    assert_eq!(world.kinds().len(), records, "nothing was recorded");
    assert_eq!(listed(&world), []);

    // As long as it may be, in characters and not in bytes.
    let most = because(&"\u{e4}".repeat(512));
    let taken = world
        .governor
        .suspend_principal(&world.owner, &name("planner"), most, None)
        .await;
    taken.expect("suspends");
}

#[tokio::test]
async fn the_same_key_is_one_suspension() {
    let world = World::new().await;
    let first = suspend(&world, &world.owner, "planner", Some("k")).await;
    let first = first.expect("suspends");
    resume(&world, "planner").await.expect("resumes");
    let again = suspend(&world, &world.owner, "planner", Some("k")).await;
    assert_eq!(again.expect("repeats"), first);
    assert_eq!(
        outcome(&world, &world.planner).await.0,
        OutcomeKind::Allow,
        "a repeated answer suspends nobody"
    );
    let other = suspend(&world, &world.owner, "release-bot", Some("k")).await;
    assert_eq!(
        other.expect_err("another request").code(),
        "idempotency_key_reused"
    );
    suspend(&world, &world.owner, "planner", None)
        .await
        .expect("suspends");
    let twice = suspend(&world, &world.owner, "planner", Some("l")).await;
    assert_eq!(
        twice.expect_err("already").code(),
        "principal_already_suspended"
    );
}

/// The organization's records, and then others.
async fn with(world: &World, more: &[Value]) -> Result<(), String> {
    let evidence = world.commits.evidence(world.owner.org());
    let records = evidence
        .iter()
        .map(|record| serde_json::to_value(record).expect("a record is JSON"));
    let mut checker = RecordChecker::new();
    for (record, index) in records.chain(more.iter().cloned()).zip(0_u64..) {
        checker.leaf(LeafIndex(index), &record)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_verifier_sees_a_suspension_that_cannot_be() {
    let world = World::new().await;
    let of =
        |kind: &str, who: &str| json!({"kind": kind, "actor": "alice", "body": {"principal": who}});
    let by = |actor: &str, kind: &str| json!({"kind": kind, "actor": actor, "body": {"principal": "planner"}});
    let suspended = of("principal.suspended", "planner");
    let resumed = of("principal.resumed", "planner");
    let granted = world
        .commits
        .evidence(world.owner.org())
        .into_iter()
        .filter(|record| record.kind == "delegation.granted")
        .map(|record| json!({"kind": record.kind, "actor": record.actor, "body": record.body}))
        .next_back()
        .expect("one below the planner");
    let both = [suspended.clone(), resumed.clone()];
    with(&world, &both).await.expect("in order");
    for (records, what) in [
        (vec![resumed], "was not suspended"),
        (vec![suspended.clone(), suspended.clone()], "already"),
        (vec![of("principal.suspended", "ghost")], "never created"),
        (vec![suspended, granted], "delegates through planner"),
        (vec![by("planner", "principal.suspended")], "neither"),
        (vec![by("nobody", "principal.suspended")], "neither"),
        (
            vec![both[0].clone(), by("planner", "principal.resumed")],
            "neither",
        ),
    ] {
        let found = with(&world, &records).await.expect_err(what);
        assert!(found.contains(what), "{found}");
    }
}
