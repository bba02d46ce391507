//! Revoking a principal: whatever it was, it is nobody from then on.

use std::sync::Arc;
use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{
    Caller, DelegationState, ExpulsionAnswer, ExpulsionRequest, GovernError, HumanRequest,
    IdempotencyKey, LeaseRequest, LimitsRequest, OutcomeKind, RecordChecker, SandboxRequest,
    SecretReadRequest, SuspensionRequest, TokenRequest,
};
use creto_types::{Clock as _, LeafIndex, PrincipalName};
use serde_json::{Value, json};

use crate::held::{self, Moment};
use crate::world::{World, action, delegate};

fn name(text: &str) -> PrincipalName {
    text.parse().expect("a name")
}

async fn revoke(
    world: &World,
    caller: &Caller,
    who: &str,
    key: Option<&str>,
) -> Result<ExpulsionAnswer, GovernError> {
    let key = key.map(|key| IdempotencyKey::new(key).expect("a key"));
    let request = ExpulsionRequest {
        reason: "it is not needed".to_owned(),
    };
    world
        .governor
        .revoke_principal(caller, &name(who), request, key)
        .await
}

fn refused<T>(result: Result<T, GovernError>) -> &'static str {
    match result {
        Ok(_) => "nothing",
        Err(error) => error.code(),
    }
}

#[tokio::test]
async fn a_revoked_agent_does_and_is_given_nothing_any_more() {
    let world = World::new().await;
    let (governor, owner) = (&world.governor, &world.owner);
    let inside = world.inside_a_sandbox().await;
    let answer = revoke(&world, owner, "planner", None).await;
    let answer = answer.expect("revokes");
    assert!(answer.leaf.is_some(), "{answer:?}");

    // What it does, and what is done below it: by token and in a sandbox.
    for caller in [&world.planner, &world.bot, &inside] {
        let decided = governor.submit(caller, action("history.read"), None).await;
        let decided = decided.expect("answers");
        assert_eq!(decided.outcome, OutcomeKind::Deny);
        assert_eq!(decided.reason.code, "principal_revoked");
        assert_eq!(refused(governor.whoami(caller)), "principal_revoked");
        let read = governor.read_secret(caller, "key", SecretReadRequest::default());
        assert_eq!(refused(read.await), "principal_revoked");
    }
    // What is made for it.
    let expires = world.clock.now() + Duration::from_secs(60);
    let to_it = governor.delegate(owner, delegate("planner", "1.00", expires), None);
    assert_eq!(refused(to_it.await), "principal_revoked");
    for link in [&world.planner_link, &world.bot_link] {
        let request = TokenRequest {
            delegation: Some(link.clone()),
            ttl_seconds: None,
            instance: None,
            jkt: None,
        };
        let token = governor.issue_token(owner, request, None).await;
        assert_eq!(refused(token), "principal_revoked");
        let request = SandboxRequest {
            delegation: link.clone(),
            argv: vec!["true".to_owned()],
            env: std::collections::BTreeMap::new(),
            mounts: Vec::new(),
            limits: LimitsRequest::default(),
        };
        let launched = governor.launch(owner, request, None).await;
        assert_eq!(refused(launched), "principal_revoked");
        let shown = governor.delegation(owner, link).expect("reads");
        assert_eq!(shown.state, DelegationState::Revoked);
    }
    let listed = governor.principals(owner, None, 100).expect("lists");
    let revoked: Vec<_> = listed
        .iter()
        .filter(|principal| principal.revoked)
        .map(|principal| (principal.name.as_str(), principal.revoked_at))
        .collect();
    assert_eq!(revoked, [("planner", Some(answer.revoked_at))]);
    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn nothing_is_leased_along_a_chain_with_somebody_revoked() {
    let world = World::new().await;
    let (governor, owner) = (&world.governor, &world.owner);
    let request = json!({ "name": "key", "value": "hunter2" });
    let request = serde_json::from_value(request).expect("a request");
    governor.put_secret(owner, request).await.expect("puts");
    revoke(&world, owner, "planner", None)
        .await
        .expect("revokes");
    let request = LeaseRequest {
        delegation: world.bot_link.clone(),
        expires_at: None,
    };
    let leased = governor.lease_secret(owner, "key", request, None).await;
    assert_eq!(refused(leased), "principal_revoked");
}

#[tokio::test]
async fn what_cannot_be_revoked_changes_nothing() {
    let world = World::new().await;
    let (governor, owner) = (&world.governor, &world.owner);
    let add = |who: &str, role: &str| HumanRequest {
        name: name(who),
        role: role.to_owned(),
        ttl_seconds: None,
        jkt: None,
    };
    let enter = async |who: &str, role: &str| {
        let added = governor.add_human(owner, add(who, role), None).await;
        let token = added.expect("adds").token.expect("shown once");
        governor.authenticate(&token).expect("it is good")
    };
    let operator = enter("oscar", "operator").await;
    let auditor = enter("ada", "auditor").await;
    let records = world.kinds().len();
    for (caller, who, code) in [
        (&world.planner, "release-bot", "forbidden"),
        (&auditor, "planner", "forbidden"),
        (&operator, "ada", "forbidden"),
        (owner, "alice", "owner_not_revoked"),
        (owner, "nobody", "unknown_principal"),
    ] {
        let tried = revoke(&world, caller, who, None).await;
        assert_eq!(refused(tried), code, "{who}");
    }
    assert_eq!(world.kinds().len(), records, "nothing was recorded");
    revoke(&world, &operator, "planner", None)
        .await
        .expect("an operator revokes an agent");
    let mut begun = governor.export(&auditor, None).await.expect("she may");
    begun.next().await.expect("she may").expect("a file");
    revoke(&world, owner, "ada", None)
        .await
        .expect("an owner revokes a person");
    let late = governor.export(&auditor, None).await;
    assert_eq!(refused(late), "principal_revoked");
    // Nor is what was begun before given to its end.
    assert_eq!(refused(begun.next().await), "principal_revoked");
    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn the_same_key_is_one_revocation() {
    let world = World::new().await;
    let first = revoke(&world, &world.owner, "planner", Some("k")).await;
    let first = first.expect("revokes");
    let again = revoke(&world, &world.owner, "planner", Some("k")).await;
    assert_eq!(again.expect("repeats"), first);
    let other = revoke(&world, &world.owner, "planner", Some("l")).await;
    assert_eq!(refused(other), "principal_already_revoked");
}

/// Whom an operator may end is known before anything is waited for: here the turn of a key,
/// while somebody could be added.
#[tokio::test]
async fn nobody_is_waited_for_who_is_not_there() {
    let (world, gate) = held::world().await;
    let (governor, owner) = (&world.governor, &world.owner);
    let request = HumanRequest {
        name: name("oscar"),
        role: "operator".to_owned(),
        ttl_seconds: None,
        jkt: None,
    };
    let added = governor.add_human(owner, request, None).await;
    let token = added.expect("adds").token.expect("shown once");
    let oscar = governor.authenticate(&token).expect("it is good");
    let suspend = |who: &str| {
        let (governor, oscar, who) = (Arc::clone(governor), oscar.clone(), name(who));
        let reason = "it loops".to_owned();
        let key = IdempotencyKey::new("k").ok();
        async move {
            let request = SuspensionRequest { reason };
            let suspended = governor.suspend_principal(&oscar, &who, request, key);
            suspended.await
        }
    };
    gate.shut(Moment::Ended);
    let first = tokio::spawn(suspend("planner"));
    gate.arrival().await;
    let soon = Duration::from_secs(5);
    let revoked = tokio::time::timeout(soon, revoke(&world, &oscar, "carol", Some("k"))).await;
    assert_eq!(refused(revoked.expect("at once")), "unknown_principal");
    let suspended = tokio::time::timeout(soon, suspend("carol")).await;
    assert_eq!(refused(suspended.expect("at once")), "unknown_principal");
    gate.open();
    first.await.expect("ends").expect("suspends");
}

/// The organization's records, and then others.
fn with(world: &World, more: &[Value]) -> Result<(), String> {
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
async fn a_verifier_sees_a_revocation_that_cannot_be() {
    let world = World::new().await;
    let of =
        |kind: &str, who: &str| json!({"kind": kind, "actor": "alice", "body": {"principal": who}});
    for (who, role) in [("oscar", "operator"), ("ada", "auditor")] {
        let request = HumanRequest {
            name: name(who),
            role: role.to_owned(),
            ttl_seconds: None,
            jkt: None,
        };
        let added = world.governor.add_human(&world.owner, request, None);
        added.await.expect("adds");
    }
    let by = |actor: &str, who: &str| json!({"kind": "principal.revoked", "actor": actor, "body": {"principal": who}});
    for (actor, who) in [("oscar", "planner"), ("alice", "ada")] {
        with(&world, &[by(actor, who)]).expect("it may be");
    }
    let revoked = of("principal.revoked", "planner");
    let granted = world
        .commits
        .evidence(world.owner.org())
        .into_iter()
        .filter(|record| record.kind == "delegation.granted")
        .map(|record| json!({"kind": record.kind, "actor": record.actor, "body": record.body}))
        .next_back()
        .expect("one below the planner");
    with(&world, std::slice::from_ref(&revoked)).expect("it may be");
    for (records, what) in [
        (vec![revoked.clone(), revoked.clone()], "revoked already"),
        (vec![of("principal.revoked", "ghost")], "never created"),
        (vec![of("principal.revoked", "alice")], "founded"),
        (
            vec![revoked.clone(), of("principal.suspended", "planner")],
            "who was revoked",
        ),
        (vec![revoked, granted], "delegates through planner"),
        (vec![by("ada", "planner")], "neither"),
        (vec![by("planner", "release-bot")], "neither"),
        (vec![by("nobody", "planner")], "neither"),
        (vec![by("oscar", "ada")], "only an owner"),
    ] {
        let found = with(&world, &records).expect_err(what);
        assert!(found.contains(what), "{found}");
    }
}
