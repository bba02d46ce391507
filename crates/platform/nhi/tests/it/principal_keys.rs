//! The keys of principals: one signs, those before are verified by, until revoked.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use creto_crypto::{DecapsulationKey, KemAlgorithm};
use creto_nhi::test_util::{World, commit, name};
use creto_nhi::{
    DelegationLink, KeyVersion, LinkId, MAX_PRINCIPAL_KEYS, NewPrekeys, NhiError, NhiStore as _,
    PublicKeys, Signable, Snapshot, verify_chain,
};
use creto_types::{Commit, OrgId};

use crate::lifecycle::tricky;
use crate::{chained, code, lists};

async fn rotate(world: &World, org: OrgId, who: &str) -> Result<KeyVersion, NhiError> {
    let draft = world
        .nhi
        .draft_principal_key(org, &name(who), world.now())?;
    let version = draft.version();
    let record = commit(org, "principal.key_rotated");
    world.nhi.commit_principal_key(draft, record).await?;
    Ok(version)
}

async fn revoke(world: &World, org: OrgId, who: &str, number: u32) -> Result<(), NhiError> {
    let record = commit(org, "principal.key_revoked");
    let (who, at) = (name(who), world.now());
    let revoked = world.nhi.revoke_key(org, &who, version(number), at, record);
    revoked.await.map(|_| ())
}

fn version(number: u32) -> KeyVersion {
    KeyVersion::new(number).unwrap()
}

fn key_of(world: &World, org: OrgId, link: LinkId) -> KeyVersion {
    world.nhi.link(org, link).unwrap().signed.link.key_version
}

/// As somebody who has the public keys alone.
fn verified(world: &World, org: OrgId, ids: &[LinkId]) -> Result<(), creto_nhi::ChainError> {
    let links: Vec<_> = ids
        .iter()
        .map(|id| {
            let signed = world.nhi.link(org, *id).unwrap().signed.clone();
            let text = serde_json::to_string(&signed).unwrap();
            serde_json::from_str(&text).unwrap()
        })
        .collect();
    verify_chain(&links, &|name, version| {
        let keys = world.nhi.principal_keys(org, name).ok()?;
        let mut keys = keys.into_iter();
        keys.find(|key| key.version == version).map(|key| key.key)
    })
}

#[tokio::test]
async fn a_new_key_signs_and_the_one_before_is_verified_by() {
    let (mut world, org, ids) = chained().await;
    let token = |world: &World| {
        let identity = world.nhi.identity_for_link(org, ids[2]).unwrap();
        world.nhi.issue_token(&identity, None).unwrap().token
    };
    let before = token(&world);
    // A link of the first key is written as it always was.
    let first = world.nhi.link(org, ids[1]).unwrap().signed.clone();
    let names_key = |link: &DelegationLink| {
        let text = serde_json::to_string(link).unwrap();
        text.contains("\"key_version\"")
    };
    assert!(!names_key(&first.link));

    assert_eq!(rotate(&world, org, "planner").await.unwrap(), version(2));
    assert_eq!(rotate(&world, org, "planner").await.unwrap(), version(3));
    let late = world
        .delegate(org, world.request("planner", "helper", Some(ids[0])))
        .await
        .unwrap();
    assert_eq!(key_of(&world, org, ids[1]), KeyVersion::FIRST);
    assert_eq!(key_of(&world, org, late), version(3));
    assert!(names_key(&world.nhi.link(org, late).unwrap().signed.link));
    for _ in 0..2 {
        verified(&world, org, &ids).unwrap();
        verified(&world, org, &[ids[0], late]).unwrap();
        world.nhi.verify_token(&before).unwrap();
        world.nhi.verify_token(&token(&world)).unwrap();
        world.nhi.chain(org, late).unwrap();
        let keys = world.nhi.principal_keys(org, &name("planner")).unwrap();
        let keys: Vec<_> = keys
            .iter()
            .map(|key| (key.version.get(), key.present, key.revoked))
            .collect();
        let expected = [(1, false, false), (2, false, false), (3, true, false)];
        assert_eq!(keys, expected);
        world.restart().await;
    }
    // It goes on signing with the newest, and is rotated on.
    let again = world
        .delegate(org, world.request("planner", "helper", Some(ids[0])))
        .await
        .unwrap();
    assert_eq!(key_of(&world, org, again), version(3));
    assert_eq!(rotate(&world, org, "planner").await.unwrap(), version(4));
}

#[tokio::test]
async fn a_link_says_truly_which_key_signed_it() {
    let (world, org, ids) = chained().await;
    rotate(&world, org, "planner").await.unwrap();
    let mut signed = world
        .nhi
        .draft_delegation(org, world.request("planner", "helper", Some(ids[0])))
        .unwrap();
    assert_eq!(signed.link.key_version, version(2));
    for (number, refusal) in [(1, "delegation_forged"), (3, "unknown_key")] {
        Arc::make_mut(&mut signed.link).key_version = version(number);
        let refused = world
            .nhi
            .commit_delegation(signed.clone(), Commit::default());
        assert_eq!(code(refused.await), refusal, "{number}");
    }
}

#[tokio::test]
async fn a_revoked_key_takes_all_that_it_signed_along_by_one_row() {
    let (mut world, org, ids) = chained().await;
    let identities = ids.map(|id| world.nhi.identity_for_link(org, id).unwrap());
    let token = world.nhi.issue_token(&identities[2], None).unwrap().token;
    let drafted = world
        .nhi
        .draft_delegation(org, world.request("planner", "helper", Some(ids[0])))
        .unwrap();
    rotate(&world, org, "planner").await.unwrap();
    let newer = world
        .delegate(org, world.request("planner", "helper", Some(ids[0])))
        .await
        .unwrap();
    let newer = world.nhi.identity_for_link(org, newer).unwrap();
    let epoch = newer.authority.epoch();

    revoke(&world, org, "planner", 1).await.unwrap();
    assert!(newer.authority.epoch() > epoch, "readers are told");
    identities[0].live(world.now()).unwrap();
    newer.live(world.now()).unwrap();
    for identity in &identities[1..] {
        assert_eq!(code(identity.live(world.now())), "delegation_key_revoked");
    }
    assert_eq!(
        code(world.nhi.verify_token(&token)),
        "delegation_key_revoked"
    );
    // What it signed before and was not put into force stays out.
    let refused = world.nhi.commit_delegation(drafted, Commit::default());
    assert_eq!(code(refused.await), "signing_key_revoked");
    let stored = world.store.load().await.unwrap();
    assert_eq!(stored.key_revocations.len(), 1);
    assert!(stored.links.iter().all(|link| link.revoked_at.is_none()));

    world.restart().await;
    assert_eq!(
        code(world.nhi.verify_token(&token)),
        "delegation_key_revoked"
    );
    let newer = newer.link().unwrap().link.id;
    let newer = world.nhi.identity_for_link(org, newer).unwrap();
    newer.live(world.now()).unwrap();
    let below = world.request("worker", "helper", Some(ids[1]));
    let refused = world.nhi.draft_delegation(org, below);
    assert_eq!(code(refused), "delegation_key_revoked");
    // A link that is dead with its key may be revoked by itself, too.
    let record = commit(org, "delegation.revoked");
    let revoked = world.nhi.revoke(org, ids[1], world.now(), record);
    revoked.await.unwrap();
    let worker = world.nhi.identity_for_link(org, ids[1]).unwrap();
    assert_eq!(code(worker.live(world.now())), "delegation_revoked");
}

#[tokio::test]
async fn whose_key_was_revoked_signs_again_with_another() {
    let (mut world, org, ids) = chained().await;
    revoke(&world, org, "planner", 1).await.unwrap();
    let request = |world: &World| world.request("planner", "helper", Some(ids[0]));
    for _ in 0..2 {
        let refused = world.nhi.draft_delegation(org, request(&world));
        assert_eq!(code(refused), "signing_key_revoked");
        world.restart().await;
    }
    rotate(&world, org, "planner").await.unwrap();
    let link = world.delegate(org, request(&world)).await.unwrap();
    let identity = world.nhi.identity_for_link(org, link).unwrap();
    identity.live(world.now()).unwrap();
}

#[tokio::test]
async fn the_founder_s_key_is_rotated_and_revoked_like_any() {
    let (world, org, ids) = chained().await;
    rotate(&world, org, "alice").await.unwrap();
    revoke(&world, org, "alice", 1).await.unwrap();
    for id in ids {
        let identity = world.nhi.identity_for_link(org, id).unwrap();
        assert_eq!(code(identity.live(world.now())), "delegation_key_revoked");
    }
    let again = world
        .delegate(org, world.request("alice", "planner", None))
        .await
        .unwrap();
    let identity = world.nhi.identity_for_link(org, again).unwrap();
    identity.live(world.now()).unwrap();
}

#[tokio::test]
async fn what_cannot_be_changed_says_why() {
    let (world, org, _) = chained().await;
    for (who, number, refusal) in [
        ("nobody", 1, "unknown_principal"),
        ("planner", 2, "unknown_key"),
    ] {
        assert_eq!(code(revoke(&world, org, who, number).await), refusal);
    }
    assert_eq!(
        code(rotate(&world, org, "nobody").await),
        "unknown_principal"
    );
    revoke(&world, org, "planner", 1).await.unwrap();
    assert_eq!(
        code(revoke(&world, org, "planner", 1).await),
        "key_already_revoked"
    );
    // Of two that were made at once, one comes first.
    let two = [0, 1].map(|_| {
        let draft = world
            .nhi
            .draft_principal_key(org, &name("worker"), world.now());
        draft.unwrap()
    });
    let [first, second] = two;
    let record = || commit(org, "principal.key_rotated");
    world
        .nhi
        .commit_principal_key(first, record())
        .await
        .unwrap();
    let late = world.nhi.commit_principal_key(second, record()).await;
    assert_eq!(code(late), "conflict");
    // Who is revoked gets no key.
    let who = name("helper");
    let expelled = world
        .nhi
        .revoke_principal(org, &who, world.now(), Commit::default());
    expelled.await.unwrap();
    assert_eq!(
        code(rotate(&world, org, "helper").await),
        "principal_revoked"
    );
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_takes_effect() {
    let (store, world, org, link) = tricky().await;
    let identity = world.nhi.identity_for_link(org, link).unwrap();
    store.mute.store(true, Ordering::SeqCst);
    assert_eq!(
        code(rotate(&world, org, "alice").await),
        "store_unavailable"
    );
    store.mute.store(false, Ordering::SeqCst);
    let made = world
        .delegate(org, world.request("alice", "worker", None))
        .await
        .unwrap();
    assert_eq!(key_of(&world, org, made), version(2));
    store.mute.store(true, Ordering::SeqCst);
    assert_eq!(
        code(revoke(&world, org, "alice", 1).await),
        "store_unavailable"
    );
    assert_eq!(code(identity.live(world.now())), "delegation_key_revoked");
}

#[tokio::test]
async fn whose_key_is_not_known_signs_nothing_until_it_is() {
    let (store, world, org, _) = tricky().await;
    let delegate = async || {
        let request = world.request("alice", "worker", None);
        world.delegate(org, request).await
    };
    store.mute.store(true, Ordering::SeqCst);
    store.unreadable.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(
            code(rotate(&world, org, "alice").await),
            "store_unavailable"
        );
    }
    store.mute.store(false, Ordering::SeqCst);
    assert_eq!(code(delegate().await), "store_unavailable");
    let settle = async || world.nhi.settle_keys(org, &name("alice")).await;
    assert_eq!(code(settle().await), "store_unavailable");
    assert_eq!(code(delegate().await), "store_unavailable");

    store.unreadable.store(false, Ordering::SeqCst);
    settle().await.unwrap();
    assert_eq!(
        key_of(&world, org, delegate().await.unwrap()),
        version(2),
        "made once"
    );
    // The new key can be ended, and replaced.
    revoke(&world, org, "alice", 2).await.unwrap();
    assert_eq!(rotate(&world, org, "alice").await.unwrap(), version(3));
    world.reopen('7').await.unwrap();
}

#[tokio::test]
async fn a_rotation_that_another_process_made_is_learnt_of() {
    let (store, world, org, _) = tricky().await;
    let draft = || {
        let draft = world
            .nhi
            .draft_principal_key(org, &name("planner"), world.now());
        draft.unwrap()
    };
    let elsewhere = world.reopen('7').await.unwrap();
    let ours = draft();
    elsewhere
        .commit_principal_key(draft(), commit(org, "principal.key_rotated"))
        .await
        .unwrap();
    let lost = world.nhi.commit_principal_key(ours, Commit::default());
    assert_eq!(code(lost.await), "conflict");
    assert_eq!(draft().version(), version(3));
    let stored = store.inner.load().await.unwrap();
    assert_eq!(stored.former_keys.len(), 1);
}

/// What is refused is refused for what it asks, whatever became of the key.
#[tokio::test]
async fn who_reaches_for_more_with_a_revoked_key_reached_for_more() {
    let (world, org, ids) = chained().await;
    revoke(&world, org, "planner", 1).await.unwrap();
    let mut request = world.request("planner", "helper", Some(ids[0]));
    request.expires_at = world.after(48 * 60 * 60);
    assert_eq!(
        code(world.nhi.draft_delegation(org, request)),
        "delegation_outlives_parent"
    );
}

#[tokio::test]
async fn there_is_an_end_to_the_keys_of_a_principal() {
    let (store, world, org, _) = tricky().await;
    for _ in 1..MAX_PRINCIPAL_KEYS {
        rotate(&world, org, "planner").await.unwrap();
    }
    assert_eq!(code(rotate(&world, org, "planner").await), "too_many_keys");
    let stored = store.inner.load().await.unwrap();
    assert_eq!(stored.former_keys.len() + 1, MAX_PRINCIPAL_KEYS);
    rotate(&world, org, "worker").await.unwrap();
}

#[tokio::test]
async fn a_revocation_that_nobody_can_tell_of_counts_as_made_and_may_be_repeated() {
    let (store, world, org, link) = tricky().await;
    let identity = world.nhi.identity_for_link(org, link).unwrap();
    store.failing.store(true, Ordering::SeqCst);
    assert_eq!(
        code(revoke(&world, org, "alice", 1).await),
        "store_unavailable"
    );
    identity.live(world.now()).unwrap();
    store.unreadable.store(true, Ordering::SeqCst);
    assert_eq!(
        code(revoke(&world, org, "alice", 1).await),
        "store_unavailable"
    );
    assert_eq!(code(identity.live(world.now())), "delegation_key_revoked");
    store.failing.store(false, Ordering::SeqCst);
    revoke(&world, org, "alice", 1).await.unwrap();
}

/// The rows of former keys hold no secret: the wrapped key after them vouches for them.
#[tokio::test]
async fn a_former_key_that_somebody_else_wrote_or_removed_is_noticed() {
    type Tamper = fn(&mut Snapshot);
    let (store, world, org, _) = tricky().await;
    for name in ["alice", "planner", "planner"] {
        rotate(&world, org, name).await.unwrap();
    }
    world.reopen('7').await.unwrap();
    let tampered: [(&str, Tamper); 6] = [
        ("open_failed", |snapshot| {
            let planner = snapshot.former_keys[1].public.clone();
            snapshot.former_keys[0].public = planner;
        }),
        ("open_failed", |snapshot| {
            snapshot.former_keys.pop();
        }),
        ("open_failed", |snapshot| snapshot.former_keys.clear()),
        ("open_failed", |snapshot| snapshot.former_keys.swap(1, 2)),
        ("stored_data_corrupt", |snapshot| {
            snapshot.former_keys[0].version = version(2);
        }),
        ("stored_data_corrupt", |snapshot| {
            let mut stray = snapshot.former_keys[0].clone();
            stray.principal = name("nobody");
            snapshot.former_keys.push(stray);
        }),
    ];
    for (expected, tamper) in tampered {
        store.tamper_with(tamper);
        assert_eq!(code(world.reopen('7').await), expected);
    }
}

#[tokio::test]
async fn keys_of_an_organization_are_wrapped_anew_with_the_newest_of_each_principal() {
    let (mut world, org, ids) = chained().await;
    rotate(&world, org, "planner").await.unwrap();
    let draft = world.nhi.draft_rotation(org).unwrap();
    let record = commit(org, "keys.rotated");
    world.nhi.commit_rotation(draft, record).await.unwrap();
    world.nhi.rewrap_keys(org).await.unwrap();
    let retiring = world.nhi.retiring(org).unwrap();
    let record = commit(org, "keys.retired");
    let retired = world.nhi.retire_keys(org, retiring, record);
    retired.await.unwrap();
    for _ in 0..2 {
        let late = world
            .delegate(org, world.request("planner", "helper", Some(ids[0])))
            .await
            .unwrap();
        verified(&world, org, &[ids[0], late]).unwrap();
        world.restart().await;
    }
}

fn document(world: &World, org: OrgId, who: &str) -> PublicKeys {
    let principal = world.nhi.principal(org, &name(who)).unwrap();
    let known = world.nhi.known_principal(org, &principal.spiffe_id);
    let text = serde_json::to_string(&known.unwrap().unwrap().public).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_statement_holds_until_its_key_is_revoked() {
    let (mut world, org, ids) = chained().await;
    let agent = world.nhi.identity_for_link(org, ids[0]).unwrap();
    let sign = |world: &World| {
        let purpose = "review".parse().unwrap();
        world
            .nhi
            .sign_statement(&agent, purpose, world.now(), Signable::Message(b"m"))
    };
    let first = sign(&world).unwrap();
    rotate(&world, org, "planner").await.unwrap();
    let second = sign(&world).unwrap();
    assert_ne!(first.kid, second.kid);
    for _ in 0..2 {
        let keys = document(&world, org, "planner");
        let kids: Vec<&str> = keys.keys.iter().map(|key| key.kid.as_str()).collect();
        assert_eq!(kids, [&second.kid, &first.kid], "the present one is first");
        keys.verify(&first, b"m", &lists()).unwrap();
        keys.verify(&second, b"m", &lists()).unwrap();
        world.restart().await;
    }
    revoke(&world, org, "planner", 1).await.unwrap();
    for _ in 0..2 {
        let keys = document(&world, org, "planner");
        assert_eq!(
            code(keys.verify(&first, b"m", &lists())),
            "signed_by_revoked_key"
        );
        keys.verify(&second, b"m", &lists()).unwrap();
        // Nor is it believed by whoever reads no more than the keys.
        let read = PublicKeys {
            revoked_keys: Vec::new(),
            ..keys
        };
        assert_eq!(
            code(read.verify(&first, b"m", &lists())),
            "signing_key_unknown"
        );
        world.restart().await;
    }
    revoke(&world, org, "planner", 2).await.unwrap();
    assert_eq!(code(sign(&world)), "signing_key_revoked");
}

fn prekeys(seeds: std::ops::Range<u8>) -> NewPrekeys {
    let key = |seed: u8| {
        let algorithm = KemAlgorithm::XWing;
        let key = DecapsulationKey::from_seed(algorithm, &vec![seed; algorithm.seed_len()]);
        key.unwrap().encapsulation_key().clone()
    };
    NewPrekeys {
        last_resort: Some(key(seeds.end)),
        one_time: seeds.map(key).collect(),
    }
}

async fn publish(world: &World, org: OrgId, new: NewPrekeys) -> Result<(), NhiError> {
    let worker = name("worker");
    let draft = world.nhi.draft_prekeys(org, &worker, new, world.now());
    let record = commit(org, "prekeys.published");
    let published = world.nhi.commit_prekeys(draft.await?, record);
    published.await.map(|_| ())
}

#[tokio::test]
async fn a_prekey_is_given_out_until_the_key_that_signed_it_is_revoked() {
    let (mut world, org, _) = chained().await;
    let worker = name("worker");
    publish(&world, org, prekeys(1..4)).await.unwrap();
    rotate(&world, org, "worker").await.unwrap();
    let chosen = world.nhi.choose_prekey(org, &worker).await.unwrap();
    let chosen = chosen.expect("one of before");
    let document = document(&world, org, "worker");
    chosen.prekey().verify(&document, &lists()).unwrap();
    let late = world.nhi.choose_prekey(org, &worker).await.unwrap();
    let late = late.expect("another one");
    let take = |chosen| {
        let record = commit(org, "prekey.taken");
        let by = name("helper");
        let (nhi, at) = (std::sync::Arc::clone(&world.nhi), world.now());
        async move { nhi.take_prekey(chosen, &by, at, record).await }
    };
    take(chosen).await.unwrap();
    let drafted = {
        let new = NewPrekeys {
            last_resort: None,
            one_time: prekeys(20..21).one_time,
        };
        world.nhi.draft_prekeys(org, &worker, new, world.now())
    };
    let drafted = drafted.await.unwrap();

    revoke(&world, org, "worker", 1).await.unwrap();
    assert_eq!(code(take(late).await), "conflict");
    for _ in 0..2 {
        let left = world.nhi.prekeys_left(org, &worker).await.unwrap();
        assert_eq!((left.one_time, left.last_resort), (0, None));
        let chosen = world.nhi.choose_prekey(org, &worker).await.unwrap();
        assert!(chosen.is_none());
        world.restart().await;
    }
    // By the present key they are published and given out as ever.
    let record = commit(org, "prekeys.published");
    world.nhi.commit_prekeys(drafted, record).await.unwrap();
    publish(&world, org, prekeys(30..32)).await.unwrap();
    let left = world.nhi.prekeys_left(org, &worker).await.unwrap();
    assert_eq!(left.one_time, 3);

    // Of the present key, too, and nothing is published by one that was revoked meanwhile.
    let drafted = world
        .nhi
        .draft_prekeys(org, &worker, prekeys(40..41), world.now());
    let drafted = drafted.await.unwrap();
    revoke(&world, org, "worker", 2).await.unwrap();
    let record = commit(org, "prekeys.published");
    let refused = world.nhi.commit_prekeys(drafted, record).await;
    assert_eq!(code(refused), "signing_key_revoked");
    let refused = publish(&world, org, prekeys(40..41)).await;
    assert_eq!(code(refused), "signing_key_revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_a_revocation_returned_no_thread_finds_the_chain_alive() {
    let (world, org, ids) = chained().await;
    let now = world.now();
    for round in 1..=20 {
        let link = world
            .delegate(org, world.request("planner", "worker", Some(ids[0])))
            .await
            .unwrap();
        let below = world
            .delegate(org, world.request("worker", "helper", Some(link)))
            .await
            .unwrap();
        let identity = world.nhi.identity_for_link(org, below).unwrap();
        let returned = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let returned = std::sync::Arc::clone(&returned);
                let identity = std::sync::Arc::clone(&identity);
                std::thread::spawn(move || {
                    loop {
                        let before = returned.load(Ordering::SeqCst);
                        let epoch = identity.authority.epoch();
                        let live = identity.live(now);
                        if before {
                            return (epoch, live);
                        }
                    }
                })
            })
            .collect();
        let epoch = identity.authority.epoch();
        revoke(&world, org, "planner", round).await.unwrap();
        returned.store(true, Ordering::SeqCst);
        for reader in readers {
            let (seen, live) = reader.join().unwrap();
            assert_eq!(code(live), "delegation_key_revoked");
            assert!(seen > epoch);
        }
        rotate(&world, org, "planner").await.unwrap();
    }
    let stored = world.store.load().await.unwrap();
    assert_eq!(stored.key_revocations.len(), 20);
}
