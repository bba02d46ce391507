//! What a store promises of secrets and leases.

use creto_crypto::Secret;
use creto_types::OrgId;

use super::{conflict, not_found};
use crate::ports::{KeyHolder, Rewrapped};
use crate::test_util::{World, commit, name};
use crate::{HandOver, LeaseId, LinkId, PrincipalType, SecretName, StoredLease, StoredSecret};

fn key() -> SecretName {
    "api-key".parse().expect("a name")
}

fn version(world: &World, org: OrgId, number: u32, by: &str) -> StoredSecret {
    let (value, nhi) = (Secret::new(b"hunter2".to_vec()), &world.nhi);
    let identity = match nhi.held_by(org, &name(by), 1).first() {
        Some(link) => nhi.identity_for_link(org, link.signed.link.id),
        None => nhi.identity_for_human(org, &name(by)),
    };
    let identity = identity.expect("the principal is there");
    nhi.draft_secret(&identity, key(), number, &value)
        .expect("it is sealed")
}

fn lease_of(world: &World, org: OrgId, id: LeaseId, link: LinkId) -> StoredLease {
    StoredLease {
        id,
        org,
        secret: key(),
        link,
        agent: name("keeper"),
        given_at: world.now(),
        expires_at: world.after(60),
        ended_at: None,
    }
}

/// A secret becomes the keeper's, and carol's again; a lease stays as it is meanwhile.
async fn handed_over(world: &World, org: OrgId, lease: &StoredLease) {
    let secrets = world.store.secrets();
    let hand = |secret: SecretName, from: &str, to: &str| {
        let (from, to) = (name(from), name(to));
        let change = HandOver {
            org,
            secret,
            from,
            to,
        };
        secrets.hand_over(change, commit(org, "secret.handed_over"))
    };
    not_found(&hand("other".parse().expect("a name"), "carol", "keeper").await);
    not_found(&hand(key(), "carol", "nobody").await);
    conflict(&hand(key(), "keeper", "carol").await);
    hand(key(), "carol", "keeper").await.expect("it is carol's");
    conflict(&hand(key(), "carol", "keeper").await);
    let put = |secret| secrets.insert_secret(secret, commit(org, "secret.put"));
    conflict(&put(version(world, org, 3, "carol")).await);
    let mut third = version(world, org, 3, "keeper");
    put(third.clone()).await.expect("it is the keeper's");
    assert_eq!(third.root.take(), Some(name("carol")));
    let used = |owner, at| {
        let record = commit(org, "secret.read");
        secrets.use_lease(org, lease.id, name(owner), at, record)
    };
    conflict(&used("carol", world.now()).await);
    used("keeper", world.now()).await.expect("it holds");
    let owners = secrets.secrets(org).await.expect("it reads");
    let owners = owners.into_iter().map(|row| (row.put_by, row.owner));
    let by = |who: &str| (name(who), name("keeper"));
    let expected = [by("carol"), by("carol"), by("keeper")];
    assert_eq!(owners.collect::<Vec<_>>(), expected);
    let newest = secrets.secret(org, &key()).await.expect("it reads");
    assert_eq!(newest, Some(third));
    let kept = secrets.lease(org, lease.id).await.expect("it reads");
    assert_eq!(kept.as_ref(), Some(lease));
    let fresh = StoredLease {
        id: format!("lse_{:032x}", 3).parse().expect("an id"),
        ..lease.clone()
    };
    let give = |by| secrets.insert_lease(fresh.clone(), name(by), commit(org, "secret.leased"));
    conflict(&give("carol").await);
    give("keeper").await.expect("it is the keeper's");
    hand(key(), "keeper", "carol")
        .await
        .expect("it is the keeper's");
}

/// What an agent puts is its own in chains from the person for whom it put that.
async fn in_a_chain(world: &World, org: OrgId) {
    let secrets = world.store.secrets();
    let put = |number, root: Option<&str>| {
        let secret = StoredSecret {
            name: "keepers-own".parse().expect("a name"),
            root: root.map(name),
            ..version(world, org, number, "keeper")
        };
        secrets.insert_secret(secret, commit(org, "secret.put"))
    };
    let carol = Some("carol");
    put(1, carol).await.expect("it is the first");
    for other in [Some("dora"), None] {
        conflict(&put(2, other).await);
    }
    put(2, carol).await.expect("it is the next");
    let roots = async || {
        let all = secrets.secrets(org).await.expect("it reads");
        let own = all
            .into_iter()
            .filter(|row| row.name.as_str() == "keepers-own");
        own.map(|row| row.root).collect::<Vec<_>>()
    };
    assert_eq!(roots().await, [carol.map(name), carol.map(name)]);
    // Who gets it has it in every chain.
    for (from, to) in [("keeper", "carol"), ("carol", "keeper")] {
        let change = HandOver {
            org,
            secret: "keepers-own".parse().expect("a name"),
            from: name(from),
            to: name(to),
        };
        let handed = secrets.hand_over(change, commit(org, "secret.handed_over"));
        handed.await.expect("it is theirs");
    }
    put(3, Some("dora")).await.expect("it is the keeper's");
    assert_eq!(roots().await, [None, None, None]);
}

/// One version, and the newest of each by name.
async fn listed(world: &World, other: OrgId) {
    let secrets = world.store.secrets();
    let org = world.organization("erin").await;
    let named = |name: &str, number| {
        let mut secret = version(world, org, number, "erin");
        secret.name = name.parse().expect("a name");
        secret
    };
    let all = [named("a", 1), named("b", 1), named("b", 2), named("c", 1)];
    for secret in &all {
        let put = secrets.insert_secret(secret.clone(), commit(org, "secret.put"));
        put.await.expect("it is the next");
    }
    let [a, first, b, c] = all;
    let newest = async |org, after: Option<&str>, max| {
        let after = after.map(|name| name.parse().expect("a name"));
        let found = secrets.newest_secrets(org, after, max).await;
        found.expect("it reads")
    };
    let every = [a.clone(), b.clone(), c.clone()];
    assert_eq!(newest(org, None, 9).await, every);
    assert_eq!(newest(org, None, 2).await, [a, b.clone()]);
    assert_eq!(newest(org, Some("a"), 1).await, [b]);
    assert_eq!(newest(org, Some("b"), 9).await, [c]);
    assert_eq!(newest(org, Some("c"), 9).await, []);
    assert_eq!(newest(org, None, 0).await, []);
    let elsewhere = newest(other, None, 9).await;
    assert!(elsewhere.iter().all(|secret| secret.org == other));
    let stored = async |number| {
        let found = secrets.secret_version(org, &first.name, number).await;
        found.expect("it reads")
    };
    assert_eq!(stored(1).await, Some(first.clone()));
    assert_eq!(stored(3).await, None);
}

pub(super) async fn run(world: &World, other: OrgId) {
    let secrets = world.store.secrets();
    let org = world.organization("carol").await;
    world.principal(org, "keeper", PrincipalType::Agent).await;
    let request = world.request("carol", "keeper", None);
    let link = world.delegate(org, request).await.expect("it is valid");
    let put = |secret| secrets.insert_secret(secret, commit(org, "secret.put"));

    // Versions follow each other, and are of whom put the first.
    conflict(&put(version(world, org, 2, "carol")).await);
    let first = version(world, org, 1, "carol");
    put(first.clone()).await.expect("it is the first");
    conflict(&put(version(world, org, 1, "carol")).await);
    conflict(&put(version(world, org, 2, "keeper")).await);
    let second = version(world, org, 2, "carol");
    put(second.clone()).await.expect("it is the next");
    let newest = secrets.secret(org, &key()).await.expect("it reads");
    assert_eq!(newest, Some(second.clone()));
    let all = secrets.secrets(org).await.expect("it reads");
    assert_eq!(all, [first, second.clone()]);
    assert_eq!(secrets.secret(other, &key()).await.expect("reads"), None);

    // It is kept under a wrapping key that is there, and keeps that.
    let rewrapped = Rewrapped {
        holder: KeyHolder::Secret(key(), 2),
        from: second.sealed.clone(),
        to: second.sealed.clone(),
    };
    let (store, right) = (&world.store, vec![rewrapped.clone()]);
    store.rewrap_keys(org, right).await.expect("it is so");
    let wrong = Rewrapped {
        holder: KeyHolder::Secret(key(), 1),
        ..rewrapped
    };
    conflict(&store.rewrap_keys(org, vec![wrong]).await);

    // Leases.
    let ids: [LeaseId; 2] = [1, 2].map(|digit| {
        let id = format!("lse_{digit:032x}");
        id.parse().expect("an id")
    });
    let give_by = |lease, by| secrets.insert_lease(lease, name(by), commit(org, "secret.leased"));
    let give = |lease| give_by(lease, "carol");
    let [id, unknown] = ids;
    let lease = lease_of(world, org, id, link);
    let nowhere = StoredLease {
        secret: "other".parse().expect("a name"),
        ..lease.clone()
    };
    not_found(&give(nowhere).await);
    conflict(&give_by(lease.clone(), "keeper").await);
    give(lease.clone()).await.expect("it is new");
    conflict(&give(lease.clone()).await);
    let read = secrets.lease(org, id).await.expect("it reads");
    assert_eq!(read, Some(lease.clone()));
    assert_eq!(secrets.lease(other, id).await.expect("it reads"), None);
    let leases = async |link, after, max| {
        let found = secrets.leases(org, link, after, max).await;
        found.expect("it reads")
    };
    for link in [None, Some(link)] {
        assert_eq!(leases(link, None, 9).await, std::slice::from_ref(&lease));
        assert_eq!(leases(link, Some(id), 9).await, []);
        assert_eq!(leases(link, None, 0).await, []);
    }

    handed_over(world, org, &lease).await;
    in_a_chain(world, org).await;
    listed(world, other).await;

    // Its end is exact to the instant, and for ever.
    let carol = || name("carol");
    let used = |at| secrets.use_lease(org, id, carol(), at, commit(org, "secret.read"));
    used(world.now()).await.expect("it holds");
    used(world.after(59)).await.expect("it holds");
    conflict(&used(world.after(60)).await);
    let now = world.now();
    let elsewhere = secrets.use_lease(other, id, carol(), now, commit(other, "x"));
    conflict(&elsewhere.await);
    let end = |id| secrets.end_lease(org, id, now, commit(org, "secret.lease_revoked"));
    not_found(&end(unknown).await);
    end(id).await.expect("it holds");
    conflict(&end(id).await);
    conflict(&used(now).await);
    let ended = secrets.lease(org, id).await.expect("it reads");
    assert_eq!(ended.expect("it is kept").ended_at, Some(now));

    // Nothing is leased by a link that ended.
    store
        .revoke_link(org, link, now, commit(org, "delegation.revoked"))
        .await
        .expect("it is in force");
    conflict(&give(lease_of(world, org, unknown, link)).await);
}
