//! Calls that meet: the same key twice, and an action whose authority ends while it
//! waits to become durable.

#![allow(clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{
    ActionAnswer, ActionRequest, Caller, DryRunRequest, FilesRequest, GovernError, IdempotencyKey,
    LimitRequest, LimitSubject, OnExceedName, OutcomeKind, PolicyFiles, PublishPoliciesRequest,
    RateRequest, RateSubject, SuspensionRequest, WindowName,
};
use creto_types::{Clock as _, Quantity};
use tokio::task::JoinHandle;

use crate::held::{self, Moment};
use crate::world::{World, action, delegate, enter, usd};

fn key(text: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey::new(text).expect("a key"))
}

fn because() -> SuspensionRequest {
    SuspensionRequest {
        reason: "it loops".to_owned(),
    }
}

type Submitted = JoinHandle<Result<ActionAnswer, GovernError>>;

fn submit(
    world: &World,
    caller: &Caller,
    request: ActionRequest,
    key: Option<IdempotencyKey>,
) -> Submitted {
    let (governor, caller) = (Arc::clone(&world.governor), caller.clone());
    tokio::spawn(async move { governor.submit(&caller, request, key).await })
}

/// Long enough for whoever does not wait to be done.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

/// What was decided, in the order of the log.
fn decided(world: &World) -> Vec<String> {
    let evidence = world.commits.evidence(world.owner.org());
    let decided = evidence
        .iter()
        .filter(|record| record.kind == "action.decided");
    decided
        .map(|record| record.body["outcome"].as_str().expect("a name").to_owned())
        .collect()
}

#[tokio::test]
async fn the_same_call_made_twice_at_once_is_one_action() {
    let (world, gate) = held::world().await;
    let end = world.clock.now() + Duration::from_secs(3_600);
    let given = world
        .governor
        .delegate(&world.owner, delegate("planner", "0.01", end), None);
    let once = enter(
        &world.governor,
        &world.owner,
        &given.await.expect("delegates").id,
    )
    .await;
    gate.shut(Moment::Reserve);
    let first = submit(&world, &once, action("history.read"), key("k"));
    gate.arrival().await;
    let second = submit(&world, &once, action("history.read"), key("k"));
    let other = submit(&world, &once, action("history.read"), key("l"));
    let other = other.await.expect("runs").expect("answers");
    assert_eq!(
        other.outcome,
        OutcomeKind::QuotaExceeded,
        "another key waits for nobody"
    );
    a_while().await;
    assert!(!second.is_finished());
    gate.open();
    let first = first.await.expect("runs").expect("answers");
    let second = second.await.expect("runs").expect("answers");
    assert_eq!(first.outcome, OutcomeKind::Allow);
    assert_eq!(first, second);
    assert_eq!(decided(&world), ["quota_exceeded", "allow"]);
}

#[tokio::test]
async fn a_repeated_revocation_or_suspension_is_answered_when_it_is_in_effect() {
    for suspends in [false, true] {
        let (world, gate) = held::world().await;
        let world = Arc::new(world);
        let call = || {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let (governor, owner) = (&world.governor, &world.owner);
                if suspends {
                    let planner = "planner".parse().expect("a name");
                    let done = governor.suspend_principal(owner, &planner, because(), key("k"));
                    done.await.map(|answer| answer.leaf)
                } else {
                    let done = governor.revoke(owner, &world.planner_link, key("k"));
                    done.await.map(|answer| answer.leaf)
                }
            })
        };
        gate.shut(Moment::Ended);
        let first = call();
        gate.arrival().await;
        // Whoever asked has gone away; what it asked for goes on.
        first.abort();
        a_while().await;
        let second = call();
        a_while().await;
        assert!(
            !second.is_finished(),
            "the bot is still allowed what it asks for"
        );
        let answer = submit(&world, &world.bot, action("history.read"), None);
        let answer = answer.await.expect("runs").expect("answers");
        assert_eq!(answer.outcome, OutcomeKind::Allow);
        gate.open();
        let leaf = second.await.expect("runs").expect("is repeated");
        assert!(leaf.is_some());
        let answer = submit(&world, &world.bot, action("history.read"), None);
        let answer = answer.await.expect("runs").expect("answers");
        assert_eq!(answer.outcome, OutcomeKind::Deny);
    }
}

#[tokio::test]
async fn nothing_is_repeated_to_whoever_lost_its_authority_while_it_waited() {
    let (world, gate) = held::world().await;
    gate.shut(Moment::Reserve);
    let first = submit(&world, &world.bot, action("history.read"), key("k"));
    gate.arrival().await;
    let second = submit(&world, &world.bot, action("history.read"), key("k"));
    a_while().await;
    let revoked = world.governor.revoke(&world.owner, &world.bot_link, None);
    revoked.await.expect("revokes");
    gate.open();
    let first = first.await.expect("runs").expect("answers");
    assert_eq!(first.outcome, OutcomeKind::Allow, "the store had it before");
    let second = second.await.expect("runs").expect("answers");
    assert_eq!(second.reason.code, "delegation_revoked");
    assert_ne!(second.action_id, first.action_id);
}

fn limit(scope: LimitSubject) -> LimitRequest {
    LimitRequest {
        scope,
        event: None,
        limit: Quantity::Units(1_000_000),
        window: WindowName::Total,
        time_zone: None,
        on_exceed: OnExceedName::Block,
        grace: None,
        thresholds: Some(Vec::new()),
    }
}

/// Sets a limit that the store holds back.
async fn shut_the_gate(world: &World, gate: &held::Gate, scope: LimitSubject) -> JoinHandle<()> {
    gate.shut(Moment::Limit);
    let (governor, owner) = (Arc::clone(&world.governor), world.owner.clone());
    let setting = tokio::spawn(async move {
        let set = governor.set_limit(&owner, limit(scope), None).await;
        set.expect("is set");
    });
    gate.arrival().await;
    setting
}

fn rate() -> RateRequest {
    let one = std::num::NonZeroU32::MIN;
    RateRequest::per_second(RateSubject::Organization, one, one)
}

/// One of the four changes, by its key; whether it came through.
fn change(world: &World, change: usize) -> JoinHandle<Result<String, GovernError>> {
    let (governor, owner) = (Arc::clone(&world.governor), world.owner.clone());
    let key = key(&format!("change-{change}"));
    tokio::spawn(async move {
        let subject = LimitSubject::Organization;
        Ok(match change {
            0 => governor.set_limit(&owner, limit(subject), key).await?.id,
            1 => {
                let set = governor.list_limits(&owner, None, 1)?;
                let id = set.first().expect("is in force still").id.parse();
                let id = id.expect("an id");
                governor.remove_limit(&owner, id, key).await?.id
            }
            2 => governor.set_rate(&owner, rate(), key).await?.id,
            _ => {
                let set = governor.list_rates(&owner, None, 1)?;
                let id = set.first().expect("is in force still").id.parse();
                let id = id.expect("an id");
                governor.remove_rate(&owner, id, key).await?.id
            }
        })
    })
}

/// The answer to a change of limits is lost, and the store cannot be read for a while:
/// asked again by its key, the change is told once it is in force and not before.
#[tokio::test]
async fn a_change_of_limits_that_is_told_again_is_in_force() {
    let (world, gate) = held::world().await;
    for what in 0..4 {
        for moment in [Moment::Lost, Moment::Unreadable, Moment::Read] {
            gate.shut(moment);
        }
        let lost = change(&world, what).await.expect("runs");
        assert_eq!(lost.expect_err("is lost").code(), "store_unavailable");
        gate.arrival().await;
        let again = change(&world, what);
        a_while().await;
        assert!(!again.is_finished(), "{what}");
        gate.open();
        again.await.expect("runs").expect("was done");
        let limits = world.governor.list_limits(&world.owner, None, 9);
        let rates = world.governor.list_rates(&world.owner, None, 9);
        let in_force = (limits.expect("lists").len(), rates.expect("lists").len());
        assert_eq!(in_force, [(1, 0), (0, 0), (0, 1), (0, 0)][what]);
    }
}

/// The starter's policies, and one more.
fn with(more: &str) -> std::collections::BTreeMap<String, String> {
    let mut files = PolicyFiles::starter().files().clone();
    files.retain(|name, _| !name.ends_with(".test.json"));
    files.insert("more.cedar".to_owned(), more.to_owned());
    files
}

const FREEZE: &str = "@id(\"freeze\") forbid (principal, action, resource);";

#[derive(Clone, Copy, Debug)]
enum Ends {
    Revoked,
    Suspended,
    Published,
}

#[tokio::test]
async fn what_ended_before_an_action_is_durable_ended_before_it() {
    for ends in [Ends::Revoked, Ends::Suspended, Ends::Published] {
        let (world, gate) = held::world().await;
        let governor = &world.governor;
        // It counts nothing that the bot does.
        let scope = LimitSubject::Agent("planner".parse().expect("a name"));
        let setting = shut_the_gate(&world, &gate, scope).await;
        let waiting = submit(&world, &world.bot, action("history.read"), key("k"));
        a_while().await;
        assert!(!waiting.is_finished());
        match ends {
            Ends::Revoked => {
                let done = governor.revoke(&world.owner, &world.bot_link, None);
                done.await.expect("revokes");
            }
            Ends::Suspended => {
                let planner = "planner".parse().expect("a name");
                let done = governor.suspend_principal(&world.owner, &planner, because(), None);
                done.await.expect("suspends");
            }
            Ends::Published => {
                let request = PublishPoliciesRequest {
                    files: with(FREEZE),
                    reason: "a freeze".to_owned(),
                    expect_version: None,
                };
                let done = governor.publish_policies(&world.owner, request, None);
                done.await.expect("publishes");
            }
        }
        gate.open();
        setting.await.expect("is set");
        let answer = waiting.await.expect("runs").expect("answers");
        assert_eq!(answer.outcome, OutcomeKind::Deny, "{ends:?}: {answer:?}");
        assert_eq!(decided(&world), ["deny"], "{ends:?}");
        let left = governor.whoami(&world.planner);
        if let Ok(left) = left {
            let balance = left.chain[0].balance.as_ref().expect("has a budget");
            let held = balance.reserved;
            assert_eq!(held, usd("0.00").into(), "what was held is free");
        }
    }
}

#[tokio::test]
async fn an_action_that_is_decided_anew_is_shown_to_the_candidate_once() {
    let (world, gate) = held::world().await;
    let governor = &world.governor;
    let request = FilesRequest {
        files: with(FREEZE),
    };
    let started = governor.start_policy_shadow(&world.owner, request, None);
    started.await.expect("starts");
    let setting = shut_the_gate(&world, &gate, LimitSubject::Organization).await;
    let waiting = submit(&world, &world.bot, action("history.read"), None);
    a_while().await;
    gate.open();
    setting.await.expect("is set");
    let answer = waiting.await.expect("runs").expect("answers");
    assert_eq!(answer.outcome, OutcomeKind::Allow);
    a_while().await;
    let shadow = governor.policy_shadow(&world.owner).expect("answers");
    assert_eq!((shadow.judged, shadow.different), (1, 1), "{shadow:?}");
}

#[tokio::test]
async fn a_refusal_of_what_was_approved_says_so_and_leaves_the_approval() {
    let world = World::new().await;
    let governor = &world.governor;
    let since = world.clock.now();
    let mut request = action("release.publish");
    let held = governor.submit(&world.bot, request.clone(), None).await;
    let needed = held.expect("answers").oversight.expect("is held");
    let id = needed.request_id.parse().expect("an id");
    let approved = governor.approve(&world.owner, id, None, None).await;
    approved.expect("approves");
    let seen = governor.oversight_request(&world.bot, id, None).await;
    request.grant = seen.expect("is seen").grant;
    let mut much = action("history.read");
    much.units = 90;
    let much = governor
        .submit(&world.bot, much, None)
        .await
        .expect("answers");
    assert_eq!(much.outcome, OutcomeKind::Allow);

    let refused = governor.submit(&world.bot, request.clone(), None).await;
    let refused = refused.expect("answers");
    assert_eq!(refused.outcome, OutcomeKind::QuotaExceeded);
    let record = world.commits.evidence(world.owner.org());
    let record = record.last().expect("is recorded");
    assert_eq!(record.body["oversight_request"], needed.request_id.as_str());
    let trial = DryRunRequest {
        files: PolicyFiles::starter().files().clone(),
        since,
        until: None,
        before: None,
    };
    let trial = governor.dry_run_policies(&world.owner, trial).await;
    let trial = trial.expect("answers");
    assert_eq!((trial.judged, trial.different), (3, 0), "{trial:?}");

    let given = governor.release(&world.bot, much.action_id, None).await;
    given.expect("gives back");
    let used = governor.submit(&world.bot, request.clone(), None).await;
    assert_eq!(used.expect("answers").outcome, OutcomeKind::Allow);
    let again = governor.submit(&world.bot, request, None).await;
    assert_eq!(again.expect("answers").reason.code, "grant_used");
    world.check_records().await.expect("the records hold");
}
