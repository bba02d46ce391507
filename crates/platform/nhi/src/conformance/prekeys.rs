//! What a store promises of prekeys.

use std::sync::Arc;
use std::time::Duration;

use creto_crypto::{AwsLcProvider, CryptoProvider as _, EncapsulationKey, KemAlgorithm};
use creto_types::{Commit, OrgId, PrincipalName, SeededRandom, StoreError, Timestamp};

use super::{conflict, not_found};
use crate::ports::{StoredExpulsion, StoredKeyRevocation, StoredSuspension};
use crate::test_util::{World, commit, name};
use crate::{
    AvailablePrekey, KeyVersion, MAX_ONE_TIME_PREKEYS, NewPrekeys, Prekey, PrekeyId, PrekeyKind,
    PrincipalType,
};

fn keys(seed: u64, count: usize) -> Vec<EncapsulationKey> {
    let provider = AwsLcProvider::new(Arc::new(SeededRandom::new(seed)));
    let key = |_| {
        let key = provider.generate_kem_key(KemAlgorithm::XWing);
        key.expect("it is made").encapsulation_key().clone()
    };
    (0..count).map(key).collect()
}

async fn signed(
    world: &World,
    org: OrgId,
    owner: &PrincipalName,
    seed: u64,
    (one_time, last_resort): (usize, bool),
    at: Timestamp,
) -> Vec<Prekey> {
    let mut made = keys(seed, one_time + usize::from(last_resort));
    let new = NewPrekeys {
        last_resort: if last_resort { made.pop() } else { None },
        one_time: made,
    };
    let draft = world.nhi.draft_prekeys(org, owner, new, at).await;
    draft.expect("they are signed").prekeys().to_vec()
}

fn published(org: OrgId) -> Commit {
    commit(org, "prekeys.published")
}

fn taken(org: OrgId) -> Commit {
    commit(org, "prekey.taken")
}

#[expect(clippy::too_many_lines, reason = "one contract, from beginning to end")]
pub(super) async fn run(world: &World, other: OrgId) {
    let prekeys = world.store.prekeys();
    let org = world.organization("dora").await;
    for agent in ["inbox", "outbox"] {
        world.principal(org, agent, PrincipalType::Agent).await;
    }
    let (inbox, outbox) = (name("inbox"), name("outbox"));
    let now = world.now();
    let later = now.checked_add(Duration::from_nanos(1));
    let later = later.expect("it is representable");
    let available = async |owner| {
        let found = prekeys.available_prekeys(org, owner).await;
        found.expect("it reads")
    };
    let count = async |owner, kind| {
        let found = available(owner).await;
        found.iter().filter(|row| row.kind == kind).count()
    };

    // They are there as they were signed, those that serve once first.
    let bundle = signed(world, org, &inbox, 1, (3, true), now).await;
    let nobody = name("nobody");
    let refused = prekeys.publish_prekeys(org, &nobody, bundle.clone(), Vec::new(), published(org));
    not_found(&refused.await);
    let receipt = prekeys.publish_prekeys(org, &inbox, bundle.clone(), Vec::new(), published(org));
    assert_eq!(receipt.await.expect("they are new").leaves.len(), 1);
    let found = available(&inbox).await;
    assert_eq!(found.len(), 4);
    let mut expected: Vec<AvailablePrekey> = bundle.iter().map(AvailablePrekey::from).collect();
    expected.sort_by_key(|row| (row.kind, row.id.clone()));
    assert_eq!(found, expected);
    assert_eq!(
        found.last().map(|row| row.kind),
        Some(PrekeyKind::LastResort)
    );
    for prekey in &bundle {
        let read = prekeys.prekey(org, &prekey.id).await.expect("it reads");
        assert_eq!(read.as_ref(), Some(prekey));
        let read = prekeys.prekey(other, &prekey.id).await;
        assert_eq!(read.expect("it reads"), None);
    }
    assert!(available(&outbox).await.is_empty());

    let [first, second, third, last]: [Prekey; 4] = bundle.try_into().expect("four");

    // None is published twice, by anybody, and then nothing is.
    let mut again = signed(world, org, &outbox, 2, (1, false), now).await;
    again.push(first.clone());
    conflict(
        &prekeys
            .publish_prekeys(org, &outbox, again, Vec::new(), published(org))
            .await,
    );
    assert!(available(&outbox).await.is_empty());

    // One that serves once is taken once, and its id stays used.
    let take = |id| prekeys.take_prekey(org, id, &outbox, world.now(), taken(org));
    take(&first.id).await.expect("it is available");
    conflict(&take(&first.id).await);
    assert_eq!(
        prekeys.prekey(org, &first.id).await.expect("it reads"),
        None
    );
    assert_eq!(count(&inbox, PrekeyKind::OneTime).await, 2);
    let again =
        prekeys.publish_prekeys(org, &inbox, vec![first.clone()], Vec::new(), published(org));
    conflict(&again.await);
    let elsewhere = prekeys.take_prekey(other, &second.id, &outbox, world.now(), taken(other));
    conflict(&elsewhere.await);

    // What the commit refuses takes nothing.
    let mut replayed = taken(org);
    let claim = creto_types::Claim {
        org,
        token: "a grant".to_owned(),
    };
    replayed.claims.push(claim);
    let with_claim = |id, commit| prekeys.take_prekey(org, id, &outbox, world.now(), commit);
    with_claim(&second.id, replayed.clone())
        .await
        .expect("it is available");
    let refused = with_claim(&third.id, replayed).await;
    assert!(matches!(refused, Err(StoreError::AlreadyClaimed { .. })));
    assert_eq!(count(&inbox, PrekeyKind::OneTime).await, 1);

    // The one of last resort serves again and again, until it is replaced.
    for _ in 0..2 {
        take(&last.id).await.expect("it is available");
    }
    let more = signed(world, org, &inbox, 3, (2, true), later).await;
    let added = prekeys.publish_prekeys(org, &inbox, more.clone(), Vec::new(), published(org));
    added.await.expect("they are new");
    conflict(&take(&last.id).await);
    assert_eq!(count(&inbox, PrekeyKind::LastResort).await, 1);
    assert_eq!(count(&inbox, PrekeyKind::OneTime).await, 3);
    let oldest = available(&inbox).await;
    let oldest = oldest.first().map(|row| &row.id);
    assert_eq!(oldest, Some(&third.id), "what was there before goes first");
    let back = prekeys.publish_prekeys(org, &inbox, vec![last.clone()], Vec::new(), published(org));
    conflict(&back.await);

    // So many wait, and no more.
    let many = signed(
        world,
        org,
        &inbox,
        4,
        (MAX_ONE_TIME_PREKEYS - 2, false),
        later,
    )
    .await;
    let too_many = prekeys.publish_prekeys(org, &inbox, many.clone(), Vec::new(), published(org));
    conflict(&too_many.await);
    let (_, fitting) = many.split_first().expect("there are some");
    let fit = prekeys.publish_prekeys(org, &inbox, fitting.to_vec(), Vec::new(), published(org));
    fit.await.expect("they fit");
    assert_eq!(
        count(&inbox, PrekeyKind::OneTime).await,
        MAX_ONE_TIME_PREKEYS
    );
    let others = signed(world, org, &outbox, 5, (1, true), now).await;
    let others_ids: Vec<PrekeyId> = others.iter().map(|other| other.id.clone()).collect();
    let others = prekeys.publish_prekeys(org, &outbox, others, Vec::new(), published(org));
    others.await.expect("everybody has as many");

    // One that is withdrawn makes room, is gone, and is told of by its id for ever.
    let known = async |org, ids: Vec<PrekeyId>| {
        let known = prekeys.any_published(org, ids).await;
        known.expect("it reads")
    };
    let mut added = signed(world, org, &inbox, 8, (2, false), later).await;
    let (over, added) = (added.split_off(1), added);
    let ids = |prekeys: &[Prekey]| prekeys.iter().map(|p| p.id.clone()).collect::<Vec<_>>();
    let publish = |added: &[Prekey], withdrawn: &[PrekeyId]| {
        let (added, withdrawn) = (added.to_vec(), withdrawn.to_vec());
        prekeys.publish_prekeys(org, &inbox, added, withdrawn, published(org))
    };
    let [withdrawn, ..] = fitting else {
        panic!("some fitted")
    };
    let withdrawn = [withdrawn.id.clone()];
    conflict(&publish(&added, &[]).await);
    conflict(&publish(&[], &withdrawn).await);
    // Nothing of anybody else, nothing that does not wait, nothing for more than one.
    for wrong in [
        others_ids.get(..1).expect("one serves once"),
        &ids(std::slice::from_ref(&first)),
        &ids(&added),
    ] {
        conflict(&publish(&added, wrong).await);
    }
    let both = [&added[..], &over[..]].concat();
    conflict(&publish(&both, &withdrawn).await);
    assert!(!known(org, ids(&both)).await);
    publish(&added, &withdrawn).await.expect("it fits");
    assert_eq!(
        count(&inbox, PrekeyKind::OneTime).await,
        MAX_ONE_TIME_PREKEYS
    );
    let [gone] = &withdrawn;
    conflict(&take(gone).await);
    assert_eq!(prekeys.prekey(org, gone).await.expect("it reads"), None);
    conflict(&publish(&over, &withdrawn).await);
    for ever in [gone, &first.id, &third.id] {
        let asked = [ids(&over), vec![ever.clone()]].concat();
        assert!(known(org, asked).await);
    }
    assert!(!known(other, vec![gone.clone()]).await);
    assert!(!known(org, Vec::new()).await);

    // Of one, however many ask at once.
    let [contended, kept, _]: [Prekey; 3] = more.try_into().expect("three");
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, by) = (Arc::clone(&world.store), outbox.clone());
        let id = contended.id.clone();
        asked.spawn(async move {
            let one = store.prekeys().take_prekey(org, &id, &by, now, taken(org));
            one.await.is_ok()
        });
    }
    let outcomes = asked.join_all().await;
    assert_eq!(outcomes.iter().filter(|taken| **taken).count(), 1);

    // Of somebody suspended nothing is taken, and nothing published by it.
    let suspension = StoredSuspension {
        org,
        principal: inbox.clone(),
        since: world.now(),
    };
    let suspended = world
        .store
        .insert_suspension(suspension, commit(org, "principal.suspended"));
    suspended.await.expect("it was in good standing");
    conflict(&take(&kept.id).await);
    let late = signed(world, org, &inbox, 6, (0, true), now).await;
    conflict(
        &prekeys
            .publish_prekeys(org, &inbox, late, Vec::new(), published(org))
            .await,
    );
    let resumed = world
        .store
        .end_suspension(org, inbox.clone(), commit(org, "principal.resumed"));
    resumed.await.expect("it was suspended");
    take(&kept.id).await.expect("it is available");

    // Nor of somebody revoked, ever.
    let expulsion = StoredExpulsion {
        org,
        principal: inbox.clone(),
        at: now,
    };
    let expelled = world
        .store
        .insert_expulsion(expulsion, commit(org, "principal.revoked"));
    expelled.await.expect("it was in good standing");
    conflict(&take(&third.id).await);
    let late = signed(world, org, &inbox, 7, (0, true), now).await;
    conflict(
        &prekeys
            .publish_prekeys(org, &inbox, late, Vec::new(), published(org))
            .await,
    );

    revoked_key(world, org, &outbox).await;
}

/// What a revoked key signed is neither taken nor published, and takes no place.
async fn revoked_key(world: &World, org: OrgId, owner: &PrincipalName) {
    let (store, prekeys, now) = (world.store.as_ref(), world.store.prekeys(), world.now());
    let available = prekeys.available_prekeys(org, owner).await;
    let waiting = available.expect("it reads");
    let late = signed(world, org, owner, 8, (1, false), now).await;
    let kid = late.first().expect("one").kid.clone();
    let draft = world.nhi.draft_principal_key(org, owner, world.now());
    let draft = draft.expect("it is there");
    let rotated = world
        .nhi
        .commit_principal_key(draft, commit(org, "principal.key_rotated"));
    rotated.await.expect("the version is the present one");

    let take = |id| prekeys.take_prekey(org, id, owner, now, taken(org));
    let (last, _) = waiting.split_last().expect("there are some");
    take(&last.id).await.expect("a former key is believed");
    let revocation = StoredKeyRevocation {
        org,
        principal: owner.clone(),
        version: KeyVersion::FIRST,
        kid,
        at: now,
    };
    let revoked = store.revoke_key(revocation, commit(org, "principal.key_revoked"));
    revoked.await.expect("the key is there");
    for prekey in &waiting {
        conflict(&take(&prekey.id).await);
    }
    let refused = prekeys.publish_prekeys(org, owner, late, Vec::new(), published(org));
    conflict(&refused.await);
    let many = signed(world, org, owner, 9, (MAX_ONE_TIME_PREKEYS, true), now).await;
    let fit = prekeys.publish_prekeys(org, owner, many, Vec::new(), published(org));
    fit.await.expect("dead ones take no place");
    let one_more = signed(world, org, owner, 10, (1, false), now).await;
    let refused = prekeys.publish_prekeys(org, owner, one_more, Vec::new(), published(org));
    conflict(&refused.await);
}
