//! Keys of principals: another one, and the end of one with everything that it signed.

use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{
    Caller, DelegationState, GovernError, HumanRequest, IdempotencyKey, KeyRevocationAnswer,
    KeyRevocationRequest, KeyState, OutcomeKind, PrincipalKeyAnswer, PrincipalKeyRequest,
    RecordChecker, SecretReadRequest, TokenRequest,
};
use creto_types::{Clock as _, LeafIndex, PrincipalName};
use serde_json::{Value, json};

use crate::world::{World, action, delegate, enter};

fn name(text: &str) -> PrincipalName {
    text.parse().expect("a name")
}

async fn rotate(
    world: &World,
    caller: &Caller,
    who: &str,
    key: Option<&str>,
) -> Result<PrincipalKeyAnswer, GovernError> {
    let key = key.map(|key| IdempotencyKey::new(key).expect("a key"));
    let request = PrincipalKeyRequest {
        reason: "a year has passed".to_owned(),
    };
    let who = name(who);
    let governor = &world.governor;
    let rotated = governor.rotate_principal_key(caller, &who, request, key);
    rotated.await
}

async fn revoke(
    world: &World,
    caller: &Caller,
    who: &str,
    kid: &str,
    key: Option<&str>,
) -> Result<KeyRevocationAnswer, GovernError> {
    let key = key.map(|key| IdempotencyKey::new(key).expect("a key"));
    let request = KeyRevocationRequest {
        kid: kid.to_owned(),
        reason: "it leaked".to_owned(),
    };
    let who = name(who);
    let governor = &world.governor;
    let revoked = governor.revoke_principal_key(caller, &who, request, key);
    revoked.await
}

/// Its keys as others see them: version, thumbprint and state, newest first.
fn keys(world: &World, who: &str) -> Vec<(u32, String, KeyState)> {
    let org = world.owner.org();
    let principal = world.nhi.principal(org, &name(who)).expect("it is there");
    let known = world
        .governor
        .public_keys(&world.owner, &principal.spiffe_id)
        .expect("it is known");
    let all = known.keys.into_iter().chain(known.revoked_keys);
    all.map(|key| (key.version, key.kid, key.state)).collect()
}

fn first_kid(world: &World, who: &str) -> String {
    keys(world, who).pop().expect("it has a key").1
}

fn refused<T>(result: Result<T, GovernError>) -> &'static str {
    match result {
        Ok(_) => "nothing",
        Err(error) => error.code(),
    }
}

async fn decided(world: &World, caller: &Caller) -> (OutcomeKind, String) {
    let submitted = world
        .governor
        .submit(caller, action("history.read"), None)
        .await;
    let answer = submitted.expect("answers");
    (answer.outcome, answer.reason.code)
}

async fn human(world: &World, who: &str, role: &str) -> Caller {
    let request = HumanRequest {
        name: name(who),
        role: role.to_owned(),
        ttl_seconds: None,
        jkt: None,
    };
    let added = world.governor.add_human(&world.owner, request, None).await;
    let token = added.expect("adds").token.expect("shown once");
    world.governor.authenticate(&token).expect("it is good")
}

#[tokio::test]
async fn whose_key_is_rotated_goes_on_and_signs_with_the_new_one() {
    let world = World::new().await;
    let before = first_kid(&world, "planner");
    let answer = rotate(&world, &world.owner, "planner", None).await;
    let answer = answer.expect("rotates");
    assert!(answer.leaf.is_some(), "{answer:?}");
    let expected = [
        (2, answer.kid.clone(), KeyState::Present),
        (1, before.clone(), KeyState::Former),
    ];
    assert_eq!(keys(&world, "planner"), expected);

    // What the key before signed holds: for the planner, and for the bot below it.
    for caller in [&world.planner, &world.bot] {
        assert_eq!(decided(&world, caller).await.0, OutcomeKind::Allow);
    }
    // What the planner delegates from now on is by the new one.
    let expires = world.clock.now() + Duration::from_secs(60);
    let mut request = delegate("release-bot", "0.50", expires);
    request.parent = Some(world.planner_link.clone());
    let made = world.governor.delegate(&world.planner, request, None).await;
    let link = made.expect("delegates").id;
    let late = enter(&world.governor, &world.owner, &link).await;
    assert_eq!(decided(&world, &late).await.0, OutcomeKind::Allow);

    // The end of the key before leaves what the new one signed.
    revoke(&world, &world.owner, "planner", &before, None)
        .await
        .expect("revokes");
    assert_eq!(decided(&world, &late).await.0, OutcomeKind::Allow);
    assert_eq!(decided(&world, &world.planner).await.0, OutcomeKind::Allow);
    assert_eq!(
        decided(&world, &world.bot).await.1,
        "delegation_key_revoked"
    );
    let expected = [
        (2, answer.kid, KeyState::Present),
        (1, before, KeyState::Revoked),
    ];
    assert_eq!(keys(&world, "planner"), expected);
    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn what_a_revoked_key_signed_is_refused_everywhere() {
    let world = World::new().await;
    let (governor, owner) = (&world.governor, &world.owner);
    let inside = world.inside_a_sandbox().await;
    // Remembered verdicts do not outlive it.
    for caller in [&world.bot, &inside] {
        assert_eq!(decided(&world, caller).await.0, OutcomeKind::Allow);
    }
    let kid = first_kid(&world, "alice");
    revoke(&world, owner, "alice", &kid, None)
        .await
        .expect("revokes");
    for caller in [&world.planner, &world.bot, &inside] {
        let expected = (OutcomeKind::Deny, "delegation_key_revoked".to_owned());
        assert_eq!(decided(&world, caller).await, expected);
        assert_eq!(refused(governor.whoami(caller)), "delegation_key_revoked");
        let read = governor.read_secret(caller, "key", SecretReadRequest::default());
        assert_eq!(refused(read.await), "delegation_key_revoked");
    }
    for link in [&world.planner_link, &world.bot_link] {
        let request = TokenRequest {
            delegation: Some(link.clone()),
            ttl_seconds: None,
            instance: None,
            jkt: None,
        };
        let token = governor.issue_token(owner, request, None).await;
        assert_eq!(refused(token), "delegation_key_revoked");
        let shown = governor.delegation(owner, link).expect("reads");
        assert_eq!(shown.state, DelegationState::Revoked);
    }
    // The owner acts in person, and delegates again once there is another key.
    governor.whoami(owner).expect("a person holds no link");
    let expires = world.clock.now() + Duration::from_secs(60);
    let made = || governor.delegate(owner, delegate("planner", "1.00", expires), None);
    assert_eq!(refused(made().await), "signing_key_revoked");
    rotate(&world, owner, "alice", None).await.expect("rotates");
    let link = made().await.expect("delegates").id;
    let again = enter(governor, owner, &link).await;
    assert_eq!(decided(&world, &again).await.0, OutcomeKind::Allow);
    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn a_token_that_was_verified_before_is_not_found_again() {
    let world = World::new().await;
    let (governor, owner) = (&world.governor, &world.owner);
    let request = TokenRequest {
        delegation: Some(world.bot_link.clone()),
        ttl_seconds: None,
        instance: None,
        jkt: None,
    };
    let token = governor.issue_token(owner, request, None).await;
    let token = token.expect("issues").token.expect("shown once");
    for _ in 0..2 {
        governor.authenticate(&token).expect("it is good");
    }
    let kid = first_kid(&world, "planner");
    revoke(&world, owner, "planner", &kid, None)
        .await
        .expect("revokes");
    let code = governor.authenticate(&token).map(drop);
    assert_eq!(refused(code), "delegation_key_revoked");
}

#[tokio::test]
async fn what_cannot_be_changed_changes_nothing() {
    let world = World::new().await;
    let (governor, owner) = (&world.governor, &world.owner);
    let operator = human(&world, "oscar", "operator").await;
    let auditor = human(&world, "ada", "auditor").await;
    let records = world.kinds().len();
    for (caller, who, code) in [
        (&world.planner, "planner", "forbidden"),
        (&auditor, "planner", "forbidden"),
        (&operator, "ada", "forbidden"),
        (owner, "nobody", "unknown_principal"),
    ] {
        assert_eq!(refused(rotate(&world, caller, who, None).await), code);
        let tried = revoke(&world, caller, who, "k", None).await;
        assert_eq!(refused(tried), code, "{who}");
    }
    let of_another = first_kid(&world, "release-bot");
    let tried = revoke(&world, owner, "planner", &of_another, None).await;
    assert_eq!(refused(tried), "unknown_key");
    let unexplained = PrincipalKeyRequest {
        reason: " ".to_owned(),
    };
    let planner = name("planner");
    let tried = governor.rotate_principal_key(owner, &planner, unexplained, None);
    assert_eq!(refused(tried.await), "invalid_request");
    assert_eq!(world.kinds().len(), records, "nothing was recorded");

    rotate(&world, &operator, "planner", None)
        .await
        .expect("an operator rotates the key of an agent");
    let kid = first_kid(&world, "planner");
    revoke(&world, &operator, "planner", &kid, None)
        .await
        .expect("and revokes it");
    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn the_same_idempotency_key_is_one_change() {
    let world = World::new().await;
    let first = rotate(&world, &world.owner, "planner", Some("k")).await;
    let first = first.expect("rotates");
    let again = rotate(&world, &world.owner, "planner", Some("k")).await;
    assert_eq!(again.expect("repeats"), first);
    let other = rotate(&world, &world.owner, "planner", Some("l")).await;
    assert_eq!(other.expect("rotates").version, 3);

    let kid = first_kid(&world, "planner");
    let ended = revoke(&world, &world.owner, "planner", &kid, Some("m")).await;
    let ended = ended.expect("revokes");
    let again = revoke(&world, &world.owner, "planner", &kid, Some("m")).await;
    assert_eq!(again.expect("repeats"), ended);
    let other = revoke(&world, &world.owner, "planner", &kid, Some("n")).await;
    assert_eq!(refused(other), "key_already_revoked");
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
async fn a_verifier_sees_what_cannot_be_of_keys() {
    let world = World::new().await;
    for (who, role) in [("oscar", "operator"), ("ada", "auditor")] {
        human(&world, who, role).await;
    }
    let first = first_kid(&world, "planner");
    let answer = rotate(&world, &world.owner, "planner", None).await;
    let second = answer.expect("rotates").kid;
    let record =
        |kind: &str, actor: &str, body: Value| json!({"kind": kind, "actor": actor, "body": body});
    let of_kind = |kind: &str| {
        let evidence = world.commits.evidence(world.owner.org());
        let mut records = evidence.into_iter().filter(|record| record.kind == kind);
        let last = records.next_back().expect("there is one");
        record(&last.kind, last.actor.as_str(), last.body)
    };
    let revoked = |version: u32, kid: &str, actor: &str| {
        let body = json!({"principal": "planner", "version": version, "kid": kid, "reason": "r"});
        record("principal.key_revoked", actor, body)
    };
    let rotated = |change: fn(&mut Value)| {
        let mut again = of_kind("principal.key_rotated");
        // Somebody else's, so that it is another key.
        again["body"]["principal"] = json!("release-bot");
        change(&mut again["body"]);
        again
    };
    // Of the planner to the bot, by the planner's first key.
    let granted = of_kind("delegation.granted");
    let signed = |kid: &str| record("identity.signed", "planner", json!({ "kid": kid }));
    let published = |kid: &str, id: char| {
        let id = id.to_string().repeat(43);
        let last = id.to_uppercase();
        let body = json!({"owner": "planner", "one_time": [id], "last_resort": last, "kid": kid});
        record("prekeys.published", "planner", body)
    };
    let taken = |id: char| {
        let id = id.to_string().repeat(43);
        let body = json!({"owner": "planner", "id": id, "kind": "one_time"});
        record("prekey.taken", "release-bot", body)
    };
    let of_ada = |actor: &str| {
        let mut again = rotated(|body| body["principal"] = json!("ada"));
        again["actor"] = json!(actor);
        again
    };
    let kid_of_ada = first_kid(&world, "ada");
    let revoked_of_ada = |actor: &str| {
        let mut ended = revoked(1, &kid_of_ada, actor);
        ended["body"]["principal"] = json!("ada");
        ended
    };
    let silent = |id: char| {
        let mut published = published(&first, id);
        let body = published["body"].as_object_mut().expect("a record");
        body.remove("kid");
        published
    };
    let of_the_bot = |mut record: Value| {
        record["actor"] = json!("release-bot");
        record["body"]["owner"] = json!("release-bot");
        record
    };
    with(&world, &[of_the_bot(silent('c'))]).expect("it has one key alone");
    let good = [
        signed(&first),
        signed(&second),
        published(&first, 'a'),
        taken('a'),
        revoked(1, &first, "alice"),
        signed(&second),
        published(&second, 'b'),
        taken('b'),
        rotated(|_| ()),
        of_ada("alice"),
        revoked_of_ada("alice"),
    ];
    with(&world, &good).expect("all of this may be");
    let ended = || revoked(1, &first, "alice");
    let kid_of_the_bot = first_kid(&world, "release-bot");
    let ended_of_the_bot = || {
        let mut ended = revoked(1, &kid_of_the_bot, "alice");
        ended["body"]["principal"] = json!("release-bot");
        ended
    };
    let taken_of_the_bot = |id: char| {
        let mut record = taken(id);
        record["actor"] = json!("planner");
        record["body"]["owner"] = json!("release-bot");
        record
    };
    for (records, what) in [
        (vec![of_ada("oscar")], "only an owner"),
        (vec![revoked_of_ada("oscar")], "only an owner"),
        (
            vec![signed(&first), ended(), signed(&first)],
            "which was revoked",
        ),
        (vec![silent('c')], "not by which of its keys"),
        (
            vec![rotated(|_| ()), of_the_bot(silent('c'))],
            "not by which of its keys",
        ),
        (
            vec![
                of_the_bot(silent('c')),
                ended_of_the_bot(),
                taken_of_the_bot('c'),
            ],
            "which was revoked",
        ),
        (
            vec![rotated(|body| body["version"] = json!(3))],
            "calls the key 2",
        ),
        (
            vec![rotated(|body| body["version"] = json!(1))],
            "calls the key 2",
        ),
        (
            vec![rotated(|body| body["principal"] = json!("planner"))],
            "which it had",
        ),
        (
            vec![rotated(|body| body["principal"] = json!("ghost"))],
            "never created",
        ),
        (vec![revoked(1, &second, "alice")], "not there"),
        (vec![revoked(3, &second, "alice")], "not there"),
        (
            vec![revoked(1, &first, "planner")],
            "only an owner or operator",
        ),
        (vec![ended(), ended()], "revoked already"),
        (vec![ended(), granted], "the revoked key 1 of planner"),
        (vec![signed("k")], "no key of planner"),
        (vec![ended(), published(&first, 'a')], "which was revoked"),
        (
            vec![published(&first, 'a'), ended(), taken('a')],
            "which was revoked",
        ),
    ] {
        let found = with(&world, &records).expect_err(what);
        assert!(found.contains(what), "{found}");
    }
}
