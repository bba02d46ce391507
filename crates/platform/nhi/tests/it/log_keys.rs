//! The log of an organization is given other keys while it is followed.

use std::sync::atomic::Ordering;

use creto_crypto::VerifyingKey;
use creto_nhi::test_util::{World, commit};
use creto_nhi::{KeyPurpose, Nhi};
use creto_types::OrgId;

use crate::lifecycle::tricky;
use crate::{code, crew};

/// The keys that sign checkpoints, and those that do so besides.
type Pair = [VerifyingKey; 2];

fn keys(nhi: &Nhi, org: OrgId) -> (Pair, Option<Pair>) {
    let signers = nhi.log_signers(org).unwrap();
    let pair = |[one, two]: [&dyn creto_crypto::Signer; 2]| {
        [one.verifying_key().clone(), two.verifying_key().clone()]
    };
    let former = signers.former.as_ref();
    (
        pair([&*signers.ed25519, &*signers.composite]),
        former.map(|(ed25519, composite)| pair([&**ed25519, &**composite])),
    )
}

#[tokio::test]
async fn what_was_replaced_signs_besides_until_it_is_retired_also_after_a_start() {
    let (world, org) = crew().await;
    let (first, none) = keys(&world.nhi, org);
    assert_eq!(none, None);
    let evidence = |world: &World| {
        let signers = world.nhi.log_signers(org).unwrap();
        signers.evidence.verifying_key().clone()
    };
    let exported_by = evidence(&world);
    let issuer = world.nhi.signer(org, KeyPurpose::Issuer).unwrap();

    let draft = world.nhi.draft_log_rotation(org).unwrap();
    let told = draft.keys();
    let rotated = world
        .nhi
        .commit_log_rotation(draft, commit(org, "log_keys.rotated"));
    rotated.await.unwrap();
    let (second, former) = keys(&world.nhi, org);
    assert_ne!(first, second);
    assert_eq!(former.as_ref(), Some(&first));
    assert_eq!(
        second,
        [
            told[&KeyPurpose::LogEd25519].clone(),
            told[&KeyPurpose::LogComposite].clone()
        ]
    );
    assert_ne!(evidence(&world), exported_by);
    assert_eq!(evidence(&world), told[&KeyPurpose::Evidence]);
    let same = world.nhi.signer(org, KeyPurpose::Issuer).unwrap();
    assert_eq!(same.verifying_key(), issuer.verifying_key());
    // Which readers would the pair in between be for?
    assert_eq!(
        code(world.nhi.draft_log_rotation(org).map(drop)),
        "log_keys_not_retired"
    );

    let reopened = world.reopen('7').await.unwrap();
    assert_eq!(keys(&reopened, org), (second.clone(), Some(first)));
    let kids = world.nhi.former_log_keys(org).unwrap();
    let retired = world
        .nhi
        .retire_log_keys(org, kids.clone(), commit(org, "log_keys.retired"));
    retired.await.unwrap();
    assert_eq!(keys(&world.nhi, org), (second.clone(), None));
    let again = world.nhi.retire_log_keys(org, kids, commit(org, "refused"));
    assert_eq!(code(again.await), "not_found");
    let reopened = world.reopen('7').await.unwrap();
    assert_eq!(keys(&reopened, org), (second, None));
    world.nhi.draft_log_rotation(org).unwrap();
}

#[tokio::test]
async fn two_rotations_of_a_log_at_once_are_one() {
    let (world, org) = crew().await;
    let first = world.nhi.draft_log_rotation(org).unwrap();
    let second = world.nhi.draft_log_rotation(org).unwrap();
    let rotated = world
        .nhi
        .commit_log_rotation(first, commit(org, "log_keys.rotated"));
    rotated.await.unwrap();
    let before = keys(&world.nhi, org);
    let refused = world
        .nhi
        .commit_log_rotation(second, commit(org, "refused"));
    assert_eq!(code(refused.await), "conflict");
    assert_eq!(keys(&world.nhi, org), before);
}

/// Who retires was told which keys those are, and has signed the log with the next ones.
#[tokio::test]
async fn a_retirement_or_rotation_that_others_came_before_changes_nothing() {
    let (world, org) = crew().await;
    let rotate = async || {
        let draft = world.nhi.draft_log_rotation(org).unwrap();
        let rotated = world
            .nhi
            .commit_log_rotation(draft, commit(org, "log_keys.rotated"));
        rotated.await.unwrap();
    };
    let retire = async |kids| {
        let record = commit(org, "log_keys.retired");
        world.nhi.retire_log_keys(org, kids, record).await
    };
    let stale = world.nhi.draft_log_rotation(org).unwrap();
    rotate().await;
    let first = world.nhi.former_log_keys(org).unwrap();
    retire(first.clone()).await.unwrap();
    let refused = world.nhi.commit_log_rotation(stale, commit(org, "refused"));
    assert_eq!(code(refused.await), "conflict");
    rotate().await;
    let before = keys(&world.nhi, org);
    assert_eq!(code(retire(first).await), "conflict");
    assert_eq!(keys(&world.nhi, org), before);
    assert!(before.1.is_some());
}

/// The store says what is so, also when it failed to say it.
#[tokio::test]
async fn a_lost_answer_changes_the_keys_of_a_log_and_a_failure_does_not() {
    let (store, world, org, _) = tricky().await;
    let before = keys(&world.nhi, org);
    for (failing, changes) in [(true, false), (false, true)] {
        store.failing.store(failing, Ordering::SeqCst);
        store.mute.store(!failing, Ordering::SeqCst);
        let draft = world.nhi.draft_log_rotation(org).unwrap();
        let rotated = world
            .nhi
            .commit_log_rotation(draft, commit(org, "log_keys.rotated"));
        assert_eq!(code(rotated.await), "store_unavailable");
        assert_eq!(keys(&world.nhi, org) != before, changes);
    }
    let rotated = keys(&world.nhi, org);
    assert_eq!(rotated.1.as_ref(), Some(&before.0));
    for (failing, ends) in [(true, false), (false, true)] {
        store.failing.store(failing, Ordering::SeqCst);
        store.mute.store(!failing, Ordering::SeqCst);
        let kids = world.nhi.former_log_keys(org).unwrap();
        let retired = world
            .nhi
            .retire_log_keys(org, kids, commit(org, "log_keys.retired"));
        assert_eq!(code(retired.await), "store_unavailable");
        assert_eq!(keys(&world.nhi, org).1.is_none(), ends);
    }
    store.mute.store(false, Ordering::SeqCst);
    let reopened = world.reopen('7').await.unwrap();
    assert_eq!(keys(&reopened, org), (rotated.0, None));
}
