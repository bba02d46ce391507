//! Revoked principals: for ever, at once, and by one row.

use std::sync::atomic::Ordering;

use creto_nhi::test_util::{World, commit, name};
use creto_nhi::{NhiError, PrincipalType};
use creto_types::{Commit, OrgId};

use crate::lifecycle::tricky;
use crate::{chained, code, crew};

async fn revoke(world: &World, org: OrgId, who: &str) -> Result<(), NhiError> {
    let record = commit(org, "principal.revoked");
    let (who, at) = (name(who), world.now());
    let revoked = world.nhi.revoke_principal(org, &who, at, record);
    revoked.await.map(|_| ())
}

#[tokio::test]
async fn everything_a_revoked_principal_stands_in_is_dead_for_ever_by_one_row() {
    let (mut world, org, links) = chained().await;
    let identities = links.map(|link| world.nhi.identity_for_link(org, link).unwrap());
    let beside = world
        .delegate(org, world.request("alice", "helper", None))
        .await
        .unwrap();
    let beside = world.nhi.identity_for_link(org, beside).unwrap();
    let token = world.nhi.issue_token(&identities[2], None).unwrap().token;
    let epoch = beside.authority.epoch();

    revoke(&world, org, "worker").await.unwrap();
    assert!(beside.authority.epoch() > epoch, "readers are told");
    identities[0].live(world.now()).unwrap();
    beside.live(world.now()).unwrap();
    for identity in &identities[1..] {
        let error = identity.live(world.now()).unwrap_err();
        assert_eq!(error.to_string(), "`worker` was revoked");
        assert_eq!(
            code(world.nhi.issue_token(identity, None)),
            "principal_revoked"
        );
    }
    assert_eq!(code(world.nhi.verify_token(&token)), "principal_revoked");
    let stored = world.store.load().await.unwrap();
    assert_eq!(stored.expulsions.len(), 1);
    assert!(stored.links.iter().all(|link| link.revoked_at.is_none()));

    world.restart().await;
    let standing = world.nhi.standing(org, &name("worker")).unwrap();
    assert_eq!(standing.revoked_at(), Some(world.now()));
    assert_eq!(code(world.nhi.verify_token(&token)), "principal_revoked");
    for (from, to) in [("worker", "late"), ("alice", "worker")] {
        let parent = (from == "worker").then_some(links[1]);
        if to == "late" {
            world.principal(org, "late", PrincipalType::Agent).await;
        }
        let refused = world
            .nhi
            .draft_delegation(org, world.request(from, to, parent));
        assert_eq!(code(refused), "principal_revoked", "{from} to {to}");
    }
    // It neither comes back nor does its name.
    let who = name("worker");
    let suspended = world
        .nhi
        .suspend(org, &who, world.now(), Commit::default())
        .await;
    assert_eq!(code(suspended), "principal_revoked");
    let resumed = world.nhi.resume(org, &who, Commit::default()).await;
    assert_eq!(code(resumed), "principal_revoked");
    let namesake = world.nhi.draft_principal(org, who, PrincipalType::Agent);
    assert_eq!(code(namesake), "principal_exists");
}

#[tokio::test]
async fn what_was_drafted_before_is_not_put_into_force() {
    let (world, org, [_, middle, _]) = chained().await;
    world.principal(org, "late", PrincipalType::Agent).await;
    let drafted = [
        world.request("worker", "late", Some(middle)),
        world.request("alice", "worker", None),
    ]
    .map(|request| world.nhi.draft_delegation(org, request).unwrap());
    revoke(&world, org, "worker").await.unwrap();
    for link in drafted {
        let refused = world.nhi.commit_delegation(link, Commit::default()).await;
        assert_eq!(code(refused), "principal_revoked");
    }
}

#[tokio::test]
async fn a_revoked_human_takes_everything_below_along() {
    let (world, org) = crew().await;
    world.principal(org, "bob", PrincipalType::Human).await;
    let link = world
        .delegate(org, world.request("bob", "planner", None))
        .await
        .unwrap();
    let in_person = world.nhi.identity_for_human(org, &name("bob")).unwrap();
    let below = world.nhi.identity_for_link(org, link).unwrap();
    revoke(&world, org, "bob").await.unwrap();
    for identity in [&in_person, &below] {
        assert_eq!(code(identity.live(world.now())), "principal_revoked");
    }
}

#[tokio::test]
async fn what_cannot_be_revoked_says_why() {
    let (world, org) = crew().await;
    assert_eq!(
        code(revoke(&world, org, "alice").await),
        "owner_not_revoked"
    );
    assert_eq!(
        code(revoke(&world, org, "nobody").await),
        "unknown_principal"
    );
    let nowhere = world.ids.next();
    assert_eq!(
        code(revoke(&world, nowhere, "planner").await),
        "unknown_organization"
    );
    revoke(&world, org, "planner").await.unwrap();
    assert_eq!(
        code(revoke(&world, org, "planner").await),
        "principal_already_revoked"
    );
}

#[tokio::test]
async fn a_revocation_whose_answer_was_lost_takes_effect() {
    let (store, world, org, link) = tricky().await;
    let identity = world.nhi.identity_for_link(org, link).unwrap();
    store.mute.store(true, Ordering::SeqCst);
    let epoch = identity.authority.epoch();
    assert_eq!(
        code(revoke(&world, org, "planner").await),
        "store_unavailable"
    );
    assert_eq!(code(identity.live(world.now())), "principal_revoked");
    assert!(identity.authority.epoch() > epoch, "readers are told");
}

#[tokio::test]
async fn a_revocation_that_nobody_can_tell_of_counts_as_made_and_may_be_repeated() {
    let (store, world, org, link) = tricky().await;
    let identity = world.nhi.identity_for_link(org, link).unwrap();
    store.failing.store(true, Ordering::SeqCst);
    assert_eq!(
        code(revoke(&world, org, "planner").await),
        "store_unavailable"
    );
    identity.live(world.now()).unwrap();
    store.unreadable.store(true, Ordering::SeqCst);
    assert_eq!(
        code(revoke(&world, org, "planner").await),
        "store_unavailable"
    );
    assert_eq!(code(identity.live(world.now())), "principal_revoked");
    store.failing.store(false, Ordering::SeqCst);
    revoke(&world, org, "planner").await.unwrap();
}

/// Between the look at memory and the transaction somebody else may revoke: what is asked
/// here is as late as can be, for memory does not know yet.
#[tokio::test]
async fn nobody_is_suspended_or_resumed_behind_a_revocation() {
    let (world, org) = crew().await;
    let elsewhere = world.reopen('7').await.unwrap();
    for suspended in [false, true] {
        let who = name(if suspended { "worker" } else { "helper" });
        let record = |kind| commit(org, kind);
        if suspended {
            let held = world
                .nhi
                .suspend(org, &who, world.now(), record("principal.suspended"));
            held.await.unwrap();
        }
        let revoked =
            elsewhere.revoke_principal(org, &who, world.now(), record("principal.revoked"));
        revoked.await.unwrap();
        let standing = world.nhi.standing(org, &who).unwrap();
        assert!(!standing.is_revoked(), "it is not told yet");
        let late = if suspended {
            world.nhi.resume(org, &who, record("refused")).await
        } else {
            let late = world.nhi.suspend(org, &who, world.now(), record("refused"));
            late.await
        };
        assert_eq!(code(late), "principal_revoked");
        assert_eq!(standing.revoked_at(), Some(world.now()), "it learned");
        assert_eq!(standing.is_suspended(), suspended, "as it was");
    }
    let stored = world.store.load().await.unwrap().suspensions;
    assert_eq!(stored.len(), 1);
}
