//! An organization moves to other keys and algorithms while it is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use creto_crypto::{Allowed, AllowedAlgorithms, SignatureAlgorithm, WrapAlgorithm};
use creto_errors::Classify as _;
use creto_nhi::PrincipalType;
use creto_nhi::test_util::{World, commit, name};
use creto_types::OrgId;

use crate::lifecycle::tricky;
use crate::tokens::part;
use crate::{chained, code, crew};

const AES: WrapAlgorithm = WrapAlgorithm::HkdfSha256Aes256Gcm;
const CHACHA: WrapAlgorithm = WrapAlgorithm::HkdfSha512ChaCha20Poly1305;
const ED25519: SignatureAlgorithm = SignatureAlgorithm::Ed25519;
const ML_DSA: SignatureAlgorithm = SignatureAlgorithm::MlDsa65;
const COMPOSITE: SignatureAlgorithm = SignatureAlgorithm::MlDsa65Ed25519;

fn moved() -> AllowedAlgorithms {
    AllowedAlgorithms {
        signature: Allowed::new(ML_DSA, [ML_DSA, COMPOSITE, ED25519]).unwrap(),
        wrapping: Allowed::new(CHACHA, [CHACHA, AES]).unwrap(),
        ..AllowedAlgorithms::default()
    }
}

async fn rotate(world: &World, org: OrgId) -> creto_nhi::RotationSummary {
    let draft = world.nhi.draft_rotation(org).unwrap();
    let summary = draft.summary().clone();
    let committed = world
        .nhi
        .commit_rotation(draft, commit(org, "keys.rotated"));
    committed.await.unwrap();
    summary
}

async fn retire(world: &World, org: OrgId) {
    world.nhi.rewrap_keys(org).await.unwrap();
    let retiring = world.nhi.retiring(org).unwrap();
    let retired = world
        .nhi
        .retire_keys(org, retiring, commit(org, "keys.retired"));
    retired.await.unwrap();
}

fn kids(world: &World) -> Vec<String> {
    let keys = world.nhi.jwks();
    let keys = keys["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_was_made_before_a_rotation_holds_until_it_is_retired() {
    let (mut world, org, [.., last]) = chained().await;
    let identity = world.nhi.identity_for_link(org, last).unwrap();
    let before = world.nhi.issue_token(&identity, None).unwrap().token;
    world.nhi = world.reopen_under(moved()).await.unwrap();

    let summary = rotate(&world, org).await;
    assert_eq!((summary.wrapping_version, summary.wrapping), (2, CHACHA));
    assert_eq!(summary.issuer, ML_DSA);
    assert_eq!(part(&before, 0)["kid"], summary.former_kid);
    let after = world.nhi.issue_token(&identity, None).unwrap().token;
    assert_eq!(part(&after, 0)["kid"], summary.issuer_kid);
    assert_eq!(part(&after, 0)["alg"], "ML-DSA-65");
    assert_eq!(kids(&world), [&*summary.issuer_kid, &*summary.former_kid]);

    for round in 0..2 {
        world.nhi.verify_token(&before).unwrap();
        world.nhi.verify_token(&after).unwrap();
        assert_eq!(world.nhi.chain(org, last).unwrap().len(), 3);
        // Those whose keys are under the old wrapping key still sign.
        let agent = format!("agent-{round}");
        world.principal(org, &agent, PrincipalType::Agent).await;
        let request = world.request("helper", &agent, Some(last));
        world.delegate(org, request).await.unwrap();
        world.nhi = world.reopen_under(moved()).await.unwrap();
    }

    let retiring = world.nhi.retiring(org).unwrap();
    assert_eq!(retiring.before_version, Some(2));
    assert_eq!(retiring.issuer_kids, [&*summary.former_kid]);
    // The longest that a token lives, from the rotation on.
    assert!(retiring.tokens_until.unwrap() > world.after(60 * 60 * 23));
    let refused = world.nhi.retire_keys(org, retiring, commit(org, "refused"));
    assert_eq!(code(refused.await), "conflict");
    retire(&world, org).await;
    for _ in 0..2 {
        assert_eq!(
            world.nhi.verify_token(&before).unwrap_err().code(),
            "invalid_token"
        );
        world.nhi.verify_token(&after).unwrap();
        assert_eq!(kids(&world), [&*summary.issuer_kid]);
        let request = world.request("helper", "agent-0", Some(last));
        world.delegate(org, request).await.unwrap();
        world.nhi = world.reopen_under(moved()).await.unwrap();
    }

    let snapshot = world.store.load().await.unwrap();
    for stored in &snapshot.organizations {
        assert_eq!(stored.wrapping.len(), 1);
        assert_eq!(stored.wrapping[0].version, 2);
        assert!(stored.former_issuers.is_empty());
        let mut keys = stored.keys.iter();
        assert!(keys.all(|(_, key)| key.wrapped.version() == Some(2)));
    }
    for stored in &snapshot.principals {
        assert_eq!(stored.key.wrapped.version(), Some(2));
        assert_eq!(stored.key.wrapped.algorithm(), Some(CHACHA));
    }
}

/// Whoever was let in by a token acts no longer than its issuer is known.
#[tokio::test]
async fn what_was_checked_before_a_retirement_gives_no_authority_after() {
    let (world, org, [.., last]) = chained().await;
    let bot = world.nhi.identity_for_link(org, last).unwrap();
    let alice = world.nhi.identity_for_human(org, &name("alice")).unwrap();
    let enter = |identity: &creto_nhi::AgentIdentity| {
        let issued = world.nhi.issue_token(identity, None).unwrap();
        world.nhi.verify_token(&issued.token).unwrap()
    };
    let before = [enter(&bot), enter(&alice)];
    rotate(&world, org).await;
    let after = [enter(&bot), enter(&alice)];
    for held in before.iter().chain(&after) {
        held.live(world.now()).unwrap();
    }
    let epoch = bot.authority.epoch();
    retire(&world, org).await;
    assert_ne!(
        bot.authority.epoch(),
        epoch,
        "those who remember look again"
    );
    for held in &before {
        assert_eq!(code(held.live(world.now())), "invalid_token");
        assert_eq!(code(world.nhi.issue_token(held, None)), "invalid_token");
    }
    for held in &after {
        held.live(world.now()).unwrap();
    }
    // What came without a token ends with no issuer.
    bot.live(world.now()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_keys_are_rotated_and_retired() {
    let (world, org, [.., last]) = chained().await;
    let world = Arc::new(world);
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let mut working = Vec::new();
    for worker in 0..3 {
        let (world, stop, done) = (Arc::clone(&world), Arc::clone(&stop), Arc::clone(&done));
        working.push(tokio::spawn(async move {
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                let identity = world.nhi.identity_for_link(org, last).unwrap();
                let token = world.nhi.issue_token(&identity, None).unwrap().token;
                world.nhi.verify_token(&token).unwrap();
                let agent = format!("agent-{worker}-{turn}");
                world.principal(org, &agent, PrincipalType::Agent).await;
                let request = world.request("helper", &agent, Some(last));
                world.delegate(org, request).await.unwrap();
                turn += 1;
                done.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }));
    }
    for round in 2..8 {
        assert_eq!(rotate(&world, org).await.wrapping_version, round);
        world.nhi.rewrap_keys(org).await.unwrap();
        // Work was done between any two rotations, however busy the machine is.
        let before = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) == before && !working.iter().any(|w| w.is_finished()) {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for worker in working {
        worker.await.unwrap();
    }
    retire(&world, org).await;
    world.reopen('7').await.unwrap();
}

#[tokio::test]
async fn two_rotations_at_once_are_one() {
    let (world, org) = crew().await;
    let first = world.nhi.draft_rotation(org).unwrap();
    let second = world.nhi.draft_rotation(org).unwrap();
    let kid = first.summary().issuer_kid.clone();
    let rotated = world
        .nhi
        .commit_rotation(first, commit(org, "keys.rotated"));
    rotated.await.unwrap();
    let refused = world.nhi.commit_rotation(second, commit(org, "refused"));
    assert_eq!(code(refused.await), "conflict");
    assert_eq!(kids(&world)[0], kid);
    let alice = world.nhi.identity_for_human(org, &name("alice")).unwrap();
    let token = world.nhi.issue_token(&alice, None).unwrap().token;
    world
        .reopen('7')
        .await
        .unwrap()
        .verify_token(&token)
        .unwrap();
}

/// The store says what is so, also when it failed to say it.
#[tokio::test]
async fn a_rotation_that_fails_changes_nothing_and_a_lost_answer_changes_all() {
    let (store, world, org, _) = tricky().await;
    let before = kids(&world);
    let attempt = async || {
        let draft = world.nhi.draft_rotation(org).unwrap();
        let kid = draft.summary().issuer_kid.clone();
        let result = world
            .nhi
            .commit_rotation(draft, commit(org, "keys.rotated"));
        assert_eq!(code(result.await), "store_unavailable");
        kid
    };
    store.failing.store(true, Ordering::SeqCst);
    attempt().await;
    assert_eq!(kids(&world), before);
    store.failing.store(false, Ordering::SeqCst);
    store.mute.store(true, Ordering::SeqCst);
    let kid = attempt().await;
    assert_eq!(kids(&world), [&*kid, &*before[0]]);
    store.mute.store(false, Ordering::SeqCst);
    world.principal(org, "later", PrincipalType::Agent).await;
    world.reopen('7').await.unwrap();
}

/// What was retired is over although nobody heard so, and what may have been ends, too.
#[tokio::test]
async fn a_retirement_whose_answer_is_lost_ends_what_it_retired() {
    let (store, world, org, _) = tricky().await;
    let draft = world.nhi.draft_rotation(org).unwrap();
    let rotated = world
        .nhi
        .commit_rotation(draft, commit(org, "keys.rotated"));
    rotated.await.unwrap();
    world.nhi.rewrap_keys(org).await.unwrap();
    let before = kids(&world);
    assert_eq!(before.len(), 2);
    let retire = async || {
        let retiring = world.nhi.retiring(org).unwrap();
        let retired = world
            .nhi
            .retire_keys(org, retiring, commit(org, "keys.retired"));
        assert_eq!(code(retired.await), "store_unavailable");
    };
    store.failing.store(true, Ordering::SeqCst);
    retire().await;
    assert_eq!(kids(&world), before);
    store.failing.store(false, Ordering::SeqCst);
    store.mute.store(true, Ordering::SeqCst);
    retire().await;
    assert_eq!(kids(&world), [&*before[0]]);
}

/// A secret stays readable while its organization moves to other keys, opens at no
/// other place, and is never shown.
#[tokio::test]
async fn secrets_move_with_the_keys() {
    let mut world = World::new().await;
    let org = world.organization("alice").await;
    world.principal(org, "bot", PrincipalType::Agent).await;
    let link = world.delegate(org, world.request("alice", "bot", None));
    let link = link.await.unwrap();
    let value = creto_crypto::Secret::new(b"hunter2".to_vec());
    let key: creto_nhi::SecretName = "key".parse().unwrap();
    let alice = world.nhi.identity_for_human(org, &name("alice")).unwrap();
    let drafted = world
        .nhi
        .draft_secret(&alice, key.clone(), 1, &value)
        .unwrap();
    assert!(!format!("{drafted:?}").contains("hunter2"));
    let before = drafted.clone();
    let stored = world.nhi.commit_secret(drafted, commit(org, "secret.put"));
    stored.await.unwrap();
    let lease = creto_nhi::StoredLease {
        id: format!("lse_{:032x}", 7).parse().unwrap(),
        org,
        secret: key.clone(),
        link,
        agent: name("bot"),
        given_at: world.now(),
        expires_at: world.after(60),
        ended_at: None,
    };
    let id = lease.id;
    let given = world
        .nhi
        .commit_lease(lease, name("alice"), commit(org, "secret.leased"));
    given.await.unwrap();

    rotate(&world, org).await;
    retire(&world, org).await;
    world.restart().await;
    // Also for whom found it before it was wrapped anew.
    let now = world.now();
    let read = world
        .nhi
        .use_lease(&before, id, now, commit(org, "secret.read"));
    assert_eq!(read.await.unwrap().1, value);
    let after = world.nhi.secret(org, &key).await.unwrap().unwrap();
    assert_ne!(after.sealed, before.sealed);

    // Moved to another name, or given another number, it opens nothing.
    for moved in [
        creto_nhi::StoredSecret {
            version: 2,
            ..after.clone()
        },
        creto_nhi::StoredSecret {
            name: "other".parse().unwrap(),
            ..after.clone()
        },
    ] {
        let read = world
            .nhi
            .use_lease(&moved, id, now, commit(org, "secret.read"));
        assert_eq!(read.await.unwrap_err().code(), "open_failed");
    }
    // No longer than it may be.
    let long = creto_crypto::Secret::new(vec![b'a'; creto_nhi::MAX_SECRET_LEN + 1]);
    let refused = world.nhi.draft_secret(&alice, key, 2, &long);
    assert_eq!(refused.unwrap_err().code(), "invalid_identity_request");
}
