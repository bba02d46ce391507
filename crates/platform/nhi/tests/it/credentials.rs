//! Kinds of people's credentials; and superseding them: exactly those issued before are dead.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use creto_crypto::sha256;
use creto_errors::{Class, Classify};
use creto_nhi::test_util::{World, commit, name};
use creto_nhi::{
    AgentIdentity, EpochId, HumanCredentials, IssuedTokens, KeyPurpose, Nhi, NhiError, Presented,
    PrincipalType, conformance,
};
use creto_types::{Commit, OrgId, Timestamp};
use serde_json::json;

use crate::lifecycle::tricky;
use crate::tokens::{forge, part, sorted};
use crate::{chained, code};

fn token_of(world: &World, org: OrgId, human: &str) -> String {
    let identity = world.nhi.identity_for_human(org, &name(human)).unwrap();
    world.nhi.issue_token(&identity, None).unwrap().token
}

async fn supersede(world: &World, org: OrgId) {
    let record = commit(org, "credentials.superseded");
    let receipt = world
        .nhi
        .supersede_credentials(org, &name("alice"), world.now(), record)
        .await
        .unwrap();
    assert_eq!(receipt.leaves.len(), 1);
}

/// People who answer a challenge by what only they know, as an authenticator would.
#[derive(Debug)]
struct Answers {
    nhi: Arc<Nhi>,
    enrolled: Mutex<HashMap<String, Option<EpochId>>>,
    until: Timestamp,
}

impl Answers {
    fn answer(who: &str, challenge: &str) -> String {
        let digest = sha256(format!("what {who} knows {challenge}").as_bytes());
        format!("{who} {digest:02x?}").replace(", ", "")
    }
}

#[async_trait]
impl HumanCredentials for Answers {
    fn kind(&self) -> &'static str {
        "answer"
    }

    async fn verify(&self, presented: Presented<'_>) -> Result<Arc<AgentIdentity>, NhiError> {
        let why = "nobody answers so";
        let who = presented.credential.rsplit_once(' ').map(|(who, _)| who);
        let epoch = who.and_then(|who| Some((who, *self.enrolled.lock().unwrap().get(who)?)));
        let (who, epoch) = epoch.ok_or(NhiError::InvalidToken { why })?;
        if presented.credential != Self::answer(who, presented.challenge) {
            return Err(NhiError::InvalidToken { why });
        }
        let (org, human) = who.split_once(' ').unwrap();
        self.nhi
            .human_in_person(org.parse().unwrap(), &name(human), epoch, self.until)
    }
}

#[tokio::test]
async fn people_prove_who_they_are_by_any_kind_of_credentials() {
    let world = World::new().await;
    let tokens = IssuedTokens::new(Arc::clone(&world.nhi));
    conformance::human_credentials(&world, &tokens, |org, human, _| {
        token_of(&world, org, human)
    })
    .await;

    let answers = Answers {
        nhi: Arc::clone(&world.nhi),
        enrolled: Mutex::default(),
        until: world.after(3_600),
    };
    conformance::human_credentials(&world, &answers, |org, human, challenge| {
        let who = format!("{org} {human}");
        let epoch = world.nhi.credentials_epoch(org, &name(human));
        answers.enrolled.lock().unwrap().insert(who.clone(), epoch);
        Answers::answer(&who, challenge)
    })
    .await;
}

#[tokio::test]
async fn a_token_of_an_agent_makes_nobody_a_person() {
    let (world, org, [link, ..]) = chained().await;
    let agent = world.nhi.identity_for_link(org, link).unwrap();
    let token = world.nhi.issue_token(&agent, None).unwrap().token;
    let presented = Presented {
        credential: &token,
        challenge: "any",
    };
    let tokens = IssuedTokens::new(Arc::clone(&world.nhi));
    assert_eq!(code(tokens.verify(presented).await), "principal_not_human");
}

/// Whoever was let in before is not given a credential of after.
#[tokio::test]
async fn what_was_checked_before_makes_nothing_new_after() {
    let mut world = World::new().await;
    let org = world.organization("alice").await;
    for _ in 0..2 {
        let held = world.nhi.verify_token(&token_of(&world, org, "alice"));
        let held = held.unwrap();
        world.nhi.issue_token(&held, None).unwrap();
        supersede(&world, org).await;
        let made = world.nhi.issue_token(&held, None);
        assert_eq!(code(made), "token_superseded");
    }
    world.restart().await;
}

/// Whoever was let in before acts no longer than the credential holds.
#[tokio::test]
async fn what_was_checked_before_gives_no_authority_after() {
    let mut world = World::new().await;
    let org = world.organization("alice").await;
    let bob = world.organization("bob").await;
    for _ in 0..2 {
        let held = world.nhi.verify_token(&token_of(&world, org, "alice"));
        let held = held.unwrap();
        let epoch = held.authority.epoch();
        let others = world.nhi.verify_token(&token_of(&world, bob, "bob"));
        held.live(world.now()).unwrap();
        supersede(&world, org).await;
        assert_eq!(code(held.live(world.now())), "token_superseded");
        assert_ne!(
            held.authority.epoch(),
            epoch,
            "those who remember look again"
        );
        others.unwrap().live(world.now()).unwrap();
        let after = world.nhi.verify_token(&token_of(&world, org, "alice"));
        after.unwrap().live(world.now()).unwrap();
        world.restart().await;
    }
}

/// A repeated call begins no epoch, so it ends no token of the one there is.
#[tokio::test]
async fn a_supersession_that_is_learnt_twice_is_one() {
    let (store, world, org, _) = tricky().await;
    let attempt = async || {
        let (at, record) = (world.now(), commit(org, "credentials.superseded"));
        let result = world
            .nhi
            .supersede_credentials(org, &name("alice"), at, record)
            .await;
        code(result)
    };
    store.mute.store(true, Ordering::SeqCst);
    assert_eq!(attempt().await, "store_unavailable");
    store.mute.store(false, Ordering::SeqCst);
    let held = world.nhi.verify_token(&token_of(&world, org, "alice"));
    let held = held.unwrap();
    // Nothing of it is stored, and memory asks the store.
    store.failing.store(true, Ordering::SeqCst);
    assert_eq!(attempt().await, "store_unavailable");
    store.failing.store(false, Ordering::SeqCst);
    held.live(world.now()).unwrap();
}

#[tokio::test]
async fn every_earlier_token_dies_and_every_later_one_lives_within_one_second() {
    let (mut world, org, [link, ..]) = chained().await;
    world.principal(org, "bob", PrincipalType::Human).await;
    let other = world.organization("alice").await;
    let agents = world.nhi.identity_for_link(org, link).unwrap();
    let untouched = [
        token_of(&world, org, "bob"),
        token_of(&world, other, "alice"),
        world.nhi.issue_token(&agents, None).unwrap().token,
    ];

    // The clock stands still, so all of them have the same `iat`.
    let first = token_of(&world, org, "alice");
    assert!(part(&first, 1).get("creto_epoch").is_none());
    supersede(&world, org).await;
    let error = world.nhi.verify_token(&first).unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("token_superseded", Class::Security)
    );
    assert!(
        error.to_string().contains(&world.now().to_string()),
        "{error}"
    );
    let second = token_of(&world, org, "alice");
    let verified = world.nhi.verify_token(&second).unwrap();
    assert_eq!(verified.name, name("alice"));
    supersede(&world, org).await;
    let third = token_of(&world, org, "alice");
    assert_eq!(part(&first, 1)["iat"], part(&third, 1)["iat"]);

    for _ in 0..2 {
        for dead in [&first, &second] {
            assert_eq!(code(world.nhi.verify_token(dead)), "token_superseded");
        }
        world.nhi.verify_token(&third).unwrap();
        for other in &untouched {
            world.nhi.verify_token(other).unwrap();
        }
        world.restart().await;
    }
}

#[tokio::test]
async fn a_clock_that_is_stepped_revives_nothing_and_kills_nothing() {
    let (world, org, _) = chained().await;
    world.clock.advance(Duration::from_secs(50));
    let ahead = token_of(&world, org, "alice");
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    world.clock.step_wall_to(start);
    supersede(&world, org).await;
    let behind = token_of(&world, org, "alice");
    assert!(part(&behind, 1)["iat"].as_i64() < part(&ahead, 1)["iat"].as_i64());
    assert_eq!(code(world.nhi.verify_token(&ahead)), "token_superseded");
    world.clock.advance(Duration::from_secs(100));
    assert_eq!(code(world.nhi.verify_token(&ahead)), "token_superseded");
    world.nhi.verify_token(&behind).unwrap();
}

#[tokio::test]
async fn only_a_humans_credentials_are_superseded() {
    let (world, org, _) = chained().await;
    let at = world.now();
    let nhi = &world.nhi;
    let supersede = async |org, who| {
        let refused = nhi
            .supersede_credentials(org, &name(who), at, Commit::default())
            .await;
        code(refused)
    };
    assert_eq!(supersede(org, "planner").await, "principal_not_human");
    assert_eq!(supersede(org, "nobody").await, "unknown_principal");
    assert_eq!(
        supersede(world.ids.next(), "alice").await,
        "unknown_organization"
    );
}

#[tokio::test]
async fn an_epoch_is_the_current_one_of_the_subject_or_the_token_is_refused() {
    let (world, org, [link, ..]) = chained().await;
    let agents = world.nhi.identity_for_link(org, link).unwrap();
    let agents = world.nhi.issue_token(&agents, None).unwrap().token;
    let with_epoch = |token: &str, epoch: EpochId| {
        let mut claims = part(token, 1);
        claims["creto_epoch"] = json!(epoch);
        let header = part(token, 0).to_string();
        let token = forge(&world, org, KeyPurpose::Issuer, &header, &sorted(&claims));
        code(world.nhi.verify_token(&token))
    };
    let made_up: EpochId = world.ids.next();
    let before = token_of(&world, org, "alice");
    assert_eq!(with_epoch(&before, made_up), "invalid_token");
    assert_eq!(with_epoch(&agents, made_up), "invalid_token");
    supersede(&world, org).await;
    let after = token_of(&world, org, "alice");
    assert_eq!(with_epoch(&after, made_up), "token_superseded");
    let current = part(&after, 1)["creto_epoch"].as_str().unwrap().parse();
    assert_eq!(with_epoch(&agents, current.unwrap()), "invalid_token");
}

#[tokio::test]
async fn memory_follows_what_the_store_says_of_credentials() {
    let (store, world, org, _) = tricky().await;
    let attempt = async || {
        let result = world
            .nhi
            .supersede_credentials(org, &name("alice"), world.now(), Commit::default())
            .await;
        code(result)
    };
    let first = token_of(&world, org, "alice");
    store.failing.store(true, Ordering::SeqCst);
    assert_eq!(attempt().await, "store_unavailable");
    world.nhi.verify_token(&first).unwrap();

    // The store cannot say: dead. It says that nothing was made: alive again.
    store.unreadable.store(true, Ordering::SeqCst);
    assert_eq!(attempt().await, "store_unavailable");
    assert_eq!(code(world.nhi.verify_token(&first)), "token_superseded");
    store.unreadable.store(false, Ordering::SeqCst);
    assert_eq!(attempt().await, "store_unavailable");
    world.nhi.verify_token(&first).unwrap();

    // Made, but the answer was lost.
    store.failing.store(false, Ordering::SeqCst);
    store.mute.store(true, Ordering::SeqCst);
    assert_eq!(attempt().await, "store_unavailable");
    assert_eq!(code(world.nhi.verify_token(&first)), "token_superseded");
    let second = token_of(&world, org, "alice");
    let reopened = world.reopen('7').await.unwrap();
    reopened.verify_token(&second).unwrap();
}
