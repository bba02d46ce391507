//! A token that was verified before is found again, as long as it holds.

use std::time::Duration;

use creto_crypto::Accepted;
use creto_errors::Classify as _;
use creto_governor::{
    Caller, CredentialRequest, ExchangeRequest, ExpulsionRequest, GovernError, HumanRequest,
    OutcomeKind, RetirementRequest, RotationRequest, SuspensionRequest, TokenRequest,
};
use creto_nhi::Proof;
use creto_nhi::test_util::Holder;
use creto_types::{Clock as _, PrincipalName};

use crate::world::{World, action};

/// A token of the bot, verified once.
async fn token(world: &World) -> String {
    let request = TokenRequest {
        delegation: Some(world.bot_link.clone()),
        ttl_seconds: Some(600),
        instance: None,
        jkt: None,
    };
    let answer = world.governor.issue_token(&world.owner, request, None);
    let token = answer.await.expect("is issued").token;
    let token = token.expect("shown once");
    let callers = [0, 1].map(|_| enter(world, &token).expect("it is good"));
    let [first, second] = callers.each_ref().map(Caller::identity);
    assert_eq!(first.name.as_str(), "release-bot");
    assert!(std::ptr::eq(first, second), "it was found again");
    token
}

fn enter(world: &World, token: &str) -> Result<Caller, GovernError> {
    world.governor.authenticate(token)
}

fn refused(world: &World, token: &str) -> &'static str {
    enter(world, token).expect_err("it ended").code()
}

fn planner() -> PrincipalName {
    "planner".parse().expect("a name")
}

#[tokio::test]
async fn a_token_found_again_ends_with_its_chain() {
    let world = World::new().await;
    let token_ = token(&world).await;
    let because = || SuspensionRequest {
        reason: "it loops".to_owned(),
    };
    let (governor, owner, planner) = (&world.governor, &world.owner, planner());
    let suspended = governor.suspend_principal(owner, &planner, because(), None);
    suspended.await.expect("suspends");
    assert_eq!(refused(&world, &token_), "principal_suspended");
    let resumed = governor.resume_principal(owner, &planner, because(), None);
    resumed.await.expect("resumes");
    enter(&world, &token_).expect("it is good again");
    let revoked = governor.revoke(owner, &world.planner_link, None).await;
    revoked.expect("revokes");
    assert_eq!(refused(&world, &token_), "delegation_revoked");

    let world = World::new().await;
    let token_ = token(&world).await;
    let request = ExpulsionRequest {
        reason: "it is not needed".to_owned(),
    };
    let revoked = world
        .governor
        .revoke_principal(&world.owner, &planner, request, None);
    revoked.await.expect("revokes");
    assert_eq!(refused(&world, &token_), "principal_revoked");
}

#[tokio::test]
async fn a_token_found_again_ends_by_its_date_and_not_before_the_clock_says_so() {
    let world = World::new().await;
    let token_ = token(&world).await;
    world.clock.advance(Duration::from_secs(599));
    enter(&world, &token_).expect("a second is left");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(refused(&world, &token_), "token_expired");
}

/// Found or not, it is judged by the clock as it stands.
#[tokio::test]
async fn a_token_is_not_found_by_a_clock_that_went_back_before_it_was_verified() {
    let world = World::new().await;
    // Later than its chain begins.
    world.clock.advance(Duration::from_secs(10));
    let token_ = token(&world).await;
    let verified = enter(&world, &token_).expect("it is good");
    let again = |same: bool| {
        let caller = enter(&world, &token_).expect("it is good");
        let found = std::ptr::eq(caller.identity(), verified.identity());
        assert_eq!(found, same);
    };
    let (now, moment) = (world.clock.now(), Duration::from_secs(1));
    let at = |step: Result<_, _>| world.clock.step_wall_to(step.expect("in range"));
    again(true);
    // It was issued in the future then, but by no more than clocks may differ.
    at(now.checked_sub(moment));
    again(false);
    at(now.checked_sub(3_600 * moment));
    assert_eq!(refused(&world, &token_), "invalid_token");
    at(now.checked_add(moment));
    enter(&world, &token_).expect("it is good again");
}

#[tokio::test]
async fn a_token_found_again_ends_with_its_issuer() {
    let world = World::new().await;
    let token_ = token(&world).await;
    let (governor, owner) = (&world.governor, &world.owner);
    let reason = "once a year".to_owned();
    let rotated = governor.rotate_keys(owner, RotationRequest { reason }, None);
    rotated.await.expect("rotates");
    enter(&world, &token_).expect("the former issuer's tokens hold");
    let request = RetirementRequest {
        reason: "now".to_owned(),
        now: true,
    };
    let retired = governor.retire_keys(owner, request, None).await;
    retired.expect("retires");
    assert_eq!(refused(&world, &token_), "invalid_token");
}

#[tokio::test]
async fn a_person_s_credential_found_again_ends_when_it_is_superseded() {
    let world = World::new().await;
    let (governor, owner) = (&world.governor, &world.owner);
    let request = HumanRequest {
        name: "carol".parse().expect("a name"),
        role: "operator".to_owned(),
        ttl_seconds: None,
        jkt: None,
    };
    let carol = governor.add_human(owner, request, None).await;
    let first = carol.expect("adds").token.expect("shown once");
    for _ in 0..2 {
        enter(&world, &first).expect("it is good");
    }
    let name = "carol".parse().expect("a name");
    let renewed = governor.renew_human_credential(owner, &name, CredentialRequest::default(), None);
    let second = renewed.await.expect("renews").token.expect("shown once");
    assert_eq!(refused(&world, &first), "token_superseded");
    enter(&world, &second).expect("the new one is good");
}

#[tokio::test]
async fn an_altered_token_is_not_the_one_that_was_verified() {
    let world = World::new().await;
    let token_ = token(&world).await;
    // Each part, its ends, and what lies between the places that it is found by.
    for at in [0, 10, token_.len() / 2, token_.len() - 40, token_.len() - 1] {
        let old = token_.as_bytes()[at];
        let new = if old == b'A' { "B" } else { "A" };
        let mut altered = token_.clone();
        altered.replace_range(at..=at, new);
        assert!(enter(&world, &altered).is_err(), "byte {at}");
    }
    enter(&world, &token_).expect("it is good");
}

/// What is kept of a bound token is worth nothing without a proof for each use of it.
#[tokio::test]
async fn a_bound_token_found_again_needs_a_proof_of_its_own() {
    let world = World::new().await;
    let governor = &world.governor;
    let (holder, thief) = (Holder::new(1), Holder::new(2));
    let issue = async |jkt: Option<String>| {
        let request = TokenRequest {
            delegation: Some(world.bot_link.clone()),
            ttl_seconds: Some(600),
            instance: None,
            jkt,
        };
        let answer = governor.issue_token(&world.owner, request, None).await;
        answer.expect("is issued").token.expect("shown once")
    };
    let bound = issue(Some(holder.jkt().to_string())).await;
    let proof = |holder: &Holder, token: &str| {
        let (nonce, now) = (governor.proof_nonce(), world.clock.now());
        let proof = holder.proof(("GET", "http://localhost/"), Some(token), &nonce, now);
        Proof::parse(&proof, &Accepted::all()).expect("a proof")
    };
    let enter = |token: &str, proof: &Proof| {
        let caller = governor.authenticate_with_proof(token, proof);
        caller.map(drop).map_err(|error| error.code())
    };
    // Nothing is kept of who could not prove it.
    let stolen = proof(&thief, &bound);
    assert_eq!(enter(&bound, &stolen), Err("dpop_key_mismatch"));
    let mut used = proof(&holder, &bound);
    for _ in 0..3 {
        used = proof(&holder, &bound);
        enter(&bound, &used).expect("it is proven");
        assert_eq!(enter(&bound, &used), Err("dpop_proof_replayed"));
        assert_eq!(enter(&bound, &stolen), Err("dpop_key_mismatch"));
        let other = proof(&holder, &world.bot_link);
        assert_eq!(enter(&bound, &other), Err("invalid_dpop_proof"));
        assert_eq!(refused(&world, &bound), "dpop_proof_required");
    }
    assert_eq!(enter(&bound, &used), Err("dpop_proof_replayed"));
    // Nor is one that is bound to no key taken for another when it was kept.
    let bearer = issue(None).await;
    for _ in 0..2 {
        let beside = proof(&holder, &bearer);
        assert_eq!(enter(&bearer, &beside), Err("dpop_token_not_bound"));
        governor.authenticate(&bearer).expect("it is good");
    }

    let request = SuspensionRequest {
        reason: "it loops".to_owned(),
    };
    let planner = planner();
    let suspended = governor.suspend_principal(&world.owner, &planner, request, None);
    suspended.await.expect("suspends");
    let good = proof(&holder, &bound);
    assert_eq!(enter(&bound, &good), Err("principal_suspended"));
}

/// An agent that was let in by its issuer's token does nothing once that is retired.
#[tokio::test]
async fn who_was_let_in_before_a_retirement_does_nothing_after() {
    let world = World::new().await;
    let bot = enter(&world, &token(&world).await).expect("it is good");
    let (governor, owner) = (&world.governor, &world.owner);
    let reason = "once a year".to_owned();
    let rotated = governor.rotate_keys(owner, RotationRequest { reason }, None);
    rotated.await.expect("rotates");
    governor.whoami(&bot).expect("its issuer is known");
    let request = RetirementRequest {
        reason: "now".to_owned(),
        now: true,
    };
    let retired = governor.retire_keys(owner, request, None).await;
    retired.expect("retires");
    let refused = governor.whoami(&bot).expect_err("its issuer is not");
    assert_eq!(refused.code(), "invalid_token");
    let denied = governor.submit(&bot, action("history.read"), None).await;
    let denied = denied.expect("answers");
    assert_eq!(denied.outcome, OutcomeKind::Deny);
    assert_eq!(denied.reason.code, "invalid_token");
}

/// Both tokens of an exchange have to hold when it is made, not only when they were read.
#[tokio::test]
async fn an_actor_that_was_let_in_before_a_retirement_gets_no_token_after() {
    let world = World::new().await;
    let (governor, owner) = (&world.governor, &world.owner);
    let former = enter(&world, &token(&world).await).expect("it is good");
    let reason = "once a year".to_owned();
    let rotated = governor.rotate_keys(owner, RotationRequest { reason }, None);
    rotated.await.expect("rotates");
    let present = enter(&world, &token(&world).await).expect("it is good");
    let exchange = async || {
        let request = ExchangeRequest {
            instance: None,
            jkt: None,
            ttl_seconds: None,
        };
        let made = governor.exchange_token(&present, Some(&former), request);
        made.await.map(drop)
    };
    exchange().await.expect("both hold");
    let request = RetirementRequest {
        reason: "now".to_owned(),
        now: true,
    };
    let retired = governor.retire_keys(owner, request, None).await;
    retired.expect("retires");
    governor.whoami(&present).expect("it holds");
    let refused = exchange().await.expect_err("the actor's does not");
    assert_eq!(refused.code(), "invalid_token");
}
