//! The contract of [`NhiStore`] as a test suite. Every backend runs it on an
//! empty store.
#![expect(
    clippy::panic,
    reason = "a test suite panics when the contract is broken"
)]

use std::sync::Arc;

use creto_types::{Claim, Commit, Idempotency, OrgId, StoreError};
use serde_json::json;

use crate::ports::{StoredEpoch, StoredLink, StoredPrincipal};
use crate::test_util::{World, commit, name};
use crate::{LinkId, NhiStore, PrincipalType, SignedLink};

/// Runs the whole suite.
pub async fn all(store: Arc<dyn NhiStore>) {
    let world = World::on(Arc::clone(&store)).await;
    let acme = world.organization("alice").await;
    let other = world.organization("mallory").await;
    principals(&world, acme, other).await;
    links(&world, acme, other).await;
    commits(&world, acme).await;
    epochs(&world, acme, other).await;
    loaded_again(&world).await;
}

fn link_of(world: &World, org: OrgId, parent: Option<LinkId>) -> SignedLink {
    let (from, to) = match parent {
        None => ("alice", "planner"),
        Some(_) => ("planner", "worker"),
    };
    world
        .nhi
        .draft_delegation(org, world.request(from, to, parent))
        .expect("the delegation is valid")
}

async fn principals(world: &World, acme: OrgId, other: OrgId) {
    let snapshot = world.store.load().await.expect("it loads");
    assert_eq!(snapshot.organizations.len(), 2);
    let owner = snapshot
        .principals
        .iter()
        .find(|row| row.principal.org == acme)
        .expect("the owner was added with the organization")
        .clone();
    let founded = snapshot
        .organizations
        .iter()
        .find(|row| row.organization.id == acme)
        .expect("it was founded")
        .clone();

    let refused = world
        .store
        .insert_organization(founded, owner.clone(), commit(acme, "refused"))
        .await;
    conflict(&refused);
    let refused = world
        .store
        .insert_principal(owner.clone(), commit(acme, "refused"))
        .await;
    conflict(&refused);

    // The same name in another organization is another principal.
    let mut same_name = owner.clone();
    same_name.principal.org = other;
    let receipt = world
        .store
        .insert_principal(same_name, commit(other, "principal.created"))
        .await
        .expect("names are free in another organization");
    assert_eq!(receipt.leaves.len(), 1);

    let mut nowhere: StoredPrincipal = owner;
    nowhere.principal.org = world.ids.next();
    let org = nowhere.principal.org;
    let refused = world
        .store
        .insert_principal(nowhere, commit(org, "refused"))
        .await;
    not_found(&refused);

    for agent in ["planner", "worker"] {
        world.principal(acme, agent, PrincipalType::Agent).await;
    }
}

async fn links(world: &World, acme: OrgId, other: OrgId) {
    let store = &world.store;
    let root = link_of(world, acme, None);
    let id = root.link.id;
    let receipt = world
        .nhi
        .commit_delegation(root.clone(), commit(acme, "delegation.granted"))
        .await
        .expect("the link is new");
    assert_eq!(receipt.leaves.len(), 1);
    conflict(
        &store
            .insert_link(root.clone(), commit(acme, "refused"))
            .await,
    );

    let child = link_of(world, acme, Some(id));
    let late = link_of(world, acme, Some(id));
    store
        .insert_link(child.clone(), commit(acme, "delegation.granted"))
        .await
        .expect("the parent is there");

    // A parent and principals are looked for in the link's own organization.
    let mut crossed = late.clone();
    crossed.link.org = other;
    not_found(&store.insert_link(crossed, commit(other, "refused")).await);
    let mut orphan = late.clone();
    orphan.link.parent = Some(world.ids.next());
    not_found(&store.insert_link(orphan, commit(acme, "refused")).await);
    let mut unknown = late.clone();
    unknown.link.delegatee = name("nobody");
    not_found(&store.insert_link(unknown, commit(acme, "refused")).await);

    let at = world.now();
    let missing = store
        .revoke_link(other, id, at, commit(other, "refused"))
        .await;
    not_found(&missing);
    store
        .revoke_link(acme, id, at, commit(acme, "delegation.revoked"))
        .await
        .expect("it was not revoked before");
    let again = store
        .revoke_link(acme, id, world.after(9), commit(acme, "refused"))
        .await;
    conflict(&again);
    conflict(&store.insert_link(late, commit(acme, "refused")).await);

    let stored = store.load().await.expect("it loads").links;
    let expected = vec![
        StoredLink {
            signed: root,
            revoked_at: Some(at),
        },
        StoredLink {
            signed: child,
            revoked_at: None,
        },
    ];
    assert_eq!(stored, expected, "a parent comes before its children");
}

/// What the commit refuses is refused whole.
async fn commits(world: &World, acme: OrgId) {
    let store = &world.store;
    let before = store.load().await.expect("it loads");
    let keyed = |key: &str| Idempotency {
        org: acme,
        caller: name("alice"),
        key: key.to_owned(),
        request_digest: [1; 32],
        response: json!({ "answer": 42 }),
    };
    let claim = Claim {
        org: acme,
        token: "once".to_owned(),
    };
    let first: Commit = commit(acme, "delegation.granted")
        .with_idempotency(Some(keyed("k1")))
        .with_claim(claim.clone());
    let link = link_of(world, acme, None);
    let receipt = store
        .insert_link(link, first)
        .await
        .expect("nothing was used before");

    let again = commit(acme, "refused").with_idempotency(Some(keyed("k1")));
    match store.insert_link(link_of(world, acme, None), again).await {
        Err(StoreError::Replayed(reply)) => {
            assert_eq!(reply.response, json!({ "answer": 42 }));
            assert_eq!(reply.leaves, receipt.leaves);
        }
        other => panic!("a used idempotency key gives its reply, got {other:?}"),
    }
    let claimed = commit(acme, "refused").with_claim(claim);
    let refused = store.insert_link(link_of(world, acme, None), claimed).await;
    assert!(
        matches!(refused, Err(StoreError::AlreadyClaimed { .. })),
        "{refused:?}"
    );

    let after = store.load().await.expect("it loads");
    assert_eq!(after.links.len(), before.links.len() + 1);
    let next = store
        .insert_link(
            link_of(world, acme, None),
            commit(acme, "delegation.granted"),
        )
        .await
        .expect("it is new");
    let (last, now) = (receipt.leaf(), next.leaf());
    assert_eq!(
        now.map(|leaf| leaf.0),
        last.map(|leaf| leaf.0 + 1),
        "what was refused took no leaf"
    );
}

async fn epochs(world: &World, acme: OrgId, other: OrgId) {
    let store = &world.store;
    assert!(store.load().await.expect("it loads").epochs.is_empty());
    let epoch = |org, human: &str, seconds| StoredEpoch {
        org,
        human: name(human),
        epoch: world.ids.next(),
        since: world.after(seconds),
    };
    let first = epoch(acme, "alice", 5);
    let receipt = store
        .insert_epoch(first.clone(), commit(acme, "credentials.superseded"))
        .await
        .expect("the human is there");
    assert_eq!(receipt.leaves.len(), 1);

    let taken = StoredEpoch {
        since: world.after(6),
        ..first.clone()
    };
    conflict(&store.insert_epoch(taken, commit(acme, "refused")).await);
    for (org, human) in [
        (acme, "nobody"),
        (acme, "planner"),
        (other, "nobody"),
        (world.ids.next(), "alice"),
    ] {
        let missing = epoch(org, human, 7);
        not_found(&store.insert_epoch(missing, commit(org, "refused")).await);
    }
    let claim = Claim {
        org: acme,
        token: "once".to_owned(),
    };
    let claimed = commit(acme, "refused").with_claim(claim);
    let refused = store.insert_epoch(epoch(acme, "alice", 8), claimed).await;
    assert!(
        matches!(refused, Err(StoreError::AlreadyClaimed { .. })),
        "{refused:?}"
    );

    // Earlier by its instant, later all the same.
    let second = epoch(acme, "alice", 1);
    let elsewhere = epoch(other, "mallory", 9);
    for next in [&elsewhere, &second] {
        store
            .insert_epoch(next.clone(), commit(next.org, "credentials.superseded"))
            .await
            .expect("it is new");
    }
    let stored = store.load().await.expect("it loads").epochs;
    assert_eq!(
        stored,
        [first, elsewhere, second],
        "in the order they began"
    );
}

/// What was stored is what another process reads.
async fn loaded_again(world: &World) {
    let first = world.store.load().await.expect("it loads");
    let second = world.store.load().await.expect("it loads");
    assert_eq!(first, second);
    for row in &first.principals {
        assert_eq!(row.principal.verifying_key, row.key.public);
    }
}

fn conflict<T: std::fmt::Debug>(result: &Result<T, StoreError>) {
    assert!(
        matches!(result, Err(StoreError::Conflict { .. })),
        "{result:?}"
    );
}

fn not_found<T: std::fmt::Debug>(result: &Result<T, StoreError>) {
    assert!(
        matches!(result, Err(StoreError::NotFound { .. })),
        "{result:?}"
    );
}
