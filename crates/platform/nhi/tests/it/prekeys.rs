//! Prekeys are of whom they say, for what they say, and given out while they are read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use creto_crypto::{
    Allowed, AllowedAlgorithms, AwsLcProvider, CryptoProvider as _, DecapsulationKey, KemAlgorithm,
};
use creto_nhi::test_util::{World, commit, name};
use creto_nhi::{
    AvailablePrekey, MAX_ONE_TIME_PREKEYS, NewPrekeys, Nhi, NhiStore as _, Prekey, PrekeyId,
    PrekeyKind, PrekeyStore, PublicKeys, Signable, SignedStatement,
};
use creto_types::{Commit, OrgId, PrincipalName, Receipt, SeededRandom, StoreError, Timestamp};

use crate::lifecycle::{Tricky, tricky};
use crate::{chained, code, crew, lists};

fn key(seed: u8, algorithm: KemAlgorithm) -> DecapsulationKey {
    DecapsulationKey::from_seed(algorithm, &vec![seed; algorithm.seed_len()]).unwrap()
}

/// Signs and publishes as `worker`: the last one is of last resort.
async fn publish(world: &World, nhi: &Nhi, org: OrgId, keys: &[DecapsulationKey]) -> Vec<Prekey> {
    let mut keys: Vec<_> = keys
        .iter()
        .map(|key| key.encapsulation_key().clone())
        .collect();
    let new = NewPrekeys {
        last_resort: keys.pop(),
        one_time: keys,
    };
    let draft = nhi
        .draft_prekeys(org, &name("worker"), new, world.now())
        .await
        .unwrap();
    let prekeys = draft.prekeys().to_vec();
    nhi.commit_prekeys(draft, commit(org, "prekeys.published"))
        .await
        .unwrap();
    prekeys
}

fn keys(nhi: &Nhi, org: OrgId) -> PublicKeys {
    let worker = nhi.principal(org, &name("worker")).unwrap();
    nhi.known_principal(org, &worker.spiffe_id)
        .unwrap()
        .unwrap()
        .public
}

/// Takes one as `helper`.
async fn take(world: &World, nhi: &Nhi, org: OrgId) -> Option<Prekey> {
    let chosen = nhi.choose_prekey(org, &name("worker")).await.unwrap()?;
    let commit = commit(org, "prekey.taken");
    let helper = name("helper");
    let taken = nhi.take_prekey(chosen, &helper, world.now(), commit);
    Some(taken.await.unwrap().1)
}

#[tokio::test]
async fn whoever_takes_one_knows_whose_it_is_and_agrees_on_a_secret() {
    let (world, org) = crew().await;
    let nhi = &world.nhi;
    let private = [key(1, KemAlgorithm::XWing), key(2, KemAlgorithm::XWing)];
    publish(&world, nhi, org, &private).await;
    let taken = take(&world, nhi, org).await.unwrap();
    let keys = keys(nhi, org);
    taken.verify(&keys, &lists()).unwrap();
    let provider = AwsLcProvider::new(Arc::new(SeededRandom::new(5)));
    let (ciphertext, secret) = provider.encapsulate(&taken.key).unwrap();
    assert_eq!(
        provider.decapsulate(&private[0], &ciphertext).unwrap(),
        secret
    );

    let forge = |change: &dyn Fn(&mut Prekey)| {
        let mut forged = taken.clone();
        change(&mut forged);
        code(forged.verify(&keys, &lists()))
    };
    let other = key(3, KemAlgorithm::XWing).encapsulation_key().clone();
    let other_id = PrekeyId::of(&other).unwrap();
    assert_eq!(forge(&|p| p.key = other.clone()), "prekey_id_mismatch");
    let swapped = |p: &mut Prekey| (p.key, p.id) = (other.clone(), other_id.clone());
    assert_eq!(forge(&swapped), "signature_invalid");
    assert_eq!(
        forge(&|p| p.kind = PrekeyKind::LastResort),
        "signature_invalid"
    );
    assert_eq!(
        forge(&|p| p.published_at = world.after(1)),
        "signature_invalid"
    );
    assert_eq!(forge(&|p| p.owner.push('x')), "signed_by_another");
    assert_eq!(forge(&|p| p.owner.push_str("/pod")), "signed_by_another");
    assert_eq!(forge(&|p| p.kid.push('x')), "signing_key_unknown");

    let text = serde_json::to_string(&taken).unwrap();
    assert_eq!(serde_json::from_str::<Prekey>(&text).unwrap(), taken);
    let beyond = text.replace(&taken.key.to_base64url(), &("_".repeat(1621) + "w"));
    assert!(serde_json::from_str::<Prekey>(&beyond).is_err(), "no key");
    // An instant has one text, for it is the text that is signed.
    assert!(text.contains("\"2026-01-01T00:00:00Z\""), "{text}");
    for other in [
        "2026-01-01T00:00:00.0Z",
        "2026-01-01T01:00:00+01:00",
        "2026-01-01 00:00:00Z",
        "2026-01-01t00:00:00z",
        "2026-01-01T00:00:00+00:00",
    ] {
        assert!(other.parse::<Timestamp>().is_ok(), "{other}");
        let text = text.replace("2026-01-01T00:00:00Z", other);
        assert!(serde_json::from_str::<Prekey>(&text).is_err(), "{other}");
    }
}

/// An agent that has anything signed gets no prekey of it, nor the other way round.
#[tokio::test]
async fn a_statement_is_no_prekey_and_a_prekey_no_statement() {
    let (world, org, [_, worker, _]) = chained().await;
    let nhi = &world.nhi;
    let prekeys = publish(&world, nhi, org, &[key(1, KemAlgorithm::XWing)]).await;
    let (prekey, keys) = (&prekeys[0], keys(nhi, org));
    let identity = nhi.identity_for_link(org, worker).unwrap();
    let purpose = "p".parse().unwrap();
    let signed = nhi
        .sign_statement(
            &identity,
            purpose,
            world.now(),
            Signable::Message(prekey.key.as_bytes()),
        )
        .unwrap();
    let forged = Prekey {
        signature: signed.signature.clone(),
        ..prekey.clone()
    };
    assert_eq!(code(forged.verify(&keys, &lists())), "signature_invalid");
    let forged = SignedStatement {
        signature: prekey.signature.clone(),
        ..signed
    };
    let refused = keys.verify(&forged, prekey.key.as_bytes(), &lists());
    assert_eq!(code(refused), "signature_invalid");
}

#[tokio::test]
async fn what_is_not_read_any_more_is_not_given_out() {
    let (world, org) = crew().await;
    let algorithms = [
        KemAlgorithm::MlKem768,
        KemAlgorithm::XWing,
        KemAlgorithm::MlKem768,
    ];
    let private = [1, 2, 3].map(|seed| key(seed, algorithms[usize::from(seed) - 1]));
    let prekeys = publish(&world, &world.nhi, org, &private).await;
    let only = |algorithm| AllowedAlgorithms {
        kem: Allowed::only(algorithm),
        ..AllowedAlgorithms::default()
    };
    let hybrid = world.reopen_under(only(KemAlgorithm::XWing)).await.unwrap();
    let left = hybrid.prekeys_left(org, &name("worker")).await.unwrap();
    assert_eq!((left.one_time, left.last_resort), (1, None));
    assert_eq!(take(&world, &hybrid, org).await.unwrap(), prekeys[1]);
    assert_eq!(take(&world, &hybrid, org).await, None);
    let refused = hybrid.encapsulation_key("one_time", "ML-KEM-768", "");
    assert_eq!(code(refused), "algorithm_not_allowed");
    // They are there again where they are read again.
    assert_eq!(take(&world, &world.nhi, org).await.unwrap(), prekeys[0]);
    assert_eq!(take(&world, &world.nhi, org).await.unwrap(), prekeys[2]);
}

/// As many of an algorithm that is not read as may wait: they take no place from new ones.
#[tokio::test]
async fn what_is_not_read_any_more_ends_with_the_next_publication() {
    let (world, org) = crew().await;
    let made = |algorithm, from: u8, count| -> Vec<_> {
        let seeds = (from..).take(count);
        seeds.map(|seed| key(seed, algorithm)).collect()
    };
    let full = made(KemAlgorithm::MlKem768, 0, MAX_ONE_TIME_PREKEYS + 1);
    let old = publish(&world, &world.nhi, org, &full).await;
    let only = AllowedAlgorithms {
        kem: Allowed::only(KemAlgorithm::XWing),
        ..AllowedAlgorithms::default()
    };
    let hybrid = world.reopen_under(only).await.unwrap();
    let new = made(KemAlgorithm::XWing, 0, MAX_ONE_TIME_PREKEYS + 1);
    let new = publish(&world, &hybrid, org, &new).await;
    let left = hybrid.prekeys_left(org, &name("worker")).await.unwrap();
    assert_eq!(left.one_time, MAX_ONE_TIME_PREKEYS);
    assert_eq!(left.last_resort.as_ref(), new.last().map(|last| &last.id));
    // For ever: they are not there again where they are read again.
    let left = world.nhi.prekeys_left(org, &name("worker")).await.unwrap();
    assert_eq!(left.one_time, MAX_ONE_TIME_PREKEYS);
    let ids = vec![old[0].id.clone()];
    assert!(hybrid.any_prekey_published(org, ids).await.unwrap());
}

#[async_trait]
impl PrekeyStore for Tricky {
    async fn publish_prekeys(
        &self,
        org: OrgId,
        owner: &PrincipalName,
        prekeys: Vec<Prekey>,
        withdrawn: Vec<PrekeyId>,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let store = self.inner.prekeys();
        let published = store.publish_prekeys(org, owner, prekeys, withdrawn, commit);
        published.await
    }

    async fn any_published(&self, org: OrgId, ids: Vec<PrekeyId>) -> Result<bool, StoreError> {
        self.inner.prekeys().any_published(org, ids).await
    }

    async fn available_prekeys(
        &self,
        org: OrgId,
        owner: &PrincipalName,
    ) -> Result<Vec<AvailablePrekey>, StoreError> {
        self.inner.prekeys().available_prekeys(org, owner).await
    }

    async fn prekey(&self, org: OrgId, id: &PrekeyId) -> Result<Option<Prekey>, StoreError> {
        self.before().await?;
        self.inner.prekeys().prekey(org, id).await
    }

    async fn take_prekey(
        &self,
        org: OrgId,
        id: &PrekeyId,
        by: &PrincipalName,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let store = self.inner.prekeys();
        store.take_prekey(org, id, by, at, commit).await
    }
}

#[tokio::test]
async fn a_choice_that_is_given_up_or_fails_leaves_its_prekey_to_others() {
    let (store, world, org, _) = tricky().await;
    let nhi = &world.nhi;
    let private = [1, 2, 3].map(|seed| key(seed, KemAlgorithm::XWing));
    publish(&world, nhi, org, &private).await;
    let worker = name("worker");
    let chosen = nhi.choose_prekey(org, &worker).await.unwrap().unwrap();
    let first = chosen.prekey().id.clone();
    drop(chosen);
    store.gated.store(true, Ordering::SeqCst);
    let soon = Duration::from_millis(5);
    let waited = tokio::time::timeout(soon, nhi.choose_prekey(org, &worker)).await;
    assert!(waited.is_err(), "the store lets it wait");
    store.gated.store(false, Ordering::SeqCst);
    store.failing.store(true, Ordering::SeqCst);
    let failed = nhi.choose_prekey(org, &worker).await;
    assert_eq!(code(failed), "store_unavailable");
    store.failing.store(false, Ordering::SeqCst);
    let again = nhi.choose_prekey(org, &worker).await.unwrap().unwrap();
    assert_eq!(again.prekey().id, first);
}

/// Two that are chosen at once differ, and one that is given up is there again.
#[tokio::test]
async fn what_somebody_is_taking_is_left_to_it() {
    let (world, org) = crew().await;
    let nhi = &world.nhi;
    let private = [1, 2, 3].map(|seed| key(seed, KemAlgorithm::XWing));
    let prekeys = publish(&world, nhi, org, &private).await;
    let choose = async || {
        nhi.choose_prekey(org, &name("worker"))
            .await
            .unwrap()
            .unwrap()
    };
    let (one, two, last) = (choose().await, choose().await, choose().await);
    let ids = [&one, &two, &last].map(|chosen| chosen.prekey().id.clone());
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[2], prekeys[2].id);
    drop(one);
    assert_eq!(choose().await.prekey().id, ids[0]);
    assert_eq!(take(&world, nhi, org).await.unwrap().id, ids[0]);
}
