//! The contracts of the ports as test suites. Every backend of [`NhiStore`] runs [`all`] on
//! an empty store, every kind of credentials [`human_credentials`].
#![expect(
    clippy::panic,
    reason = "a test suite panics when the contract is broken"
)]

mod expulsions;
mod human_credentials;
mod parts;
mod prekeys;
mod principal_keys;
mod secrets;

pub use human_credentials::human_credentials;

use std::sync::Arc;

use creto_types::{Claim, Commit, Idempotency, OrgId, StoreError};
use serde_json::json;

use crate::ports::{
    KeyHolder, Rewrapped, StoredEpoch, StoredLink, StoredOrganization, StoredPrincipal, StoredRole,
    StoredSuspension,
};
use crate::test_util::{World, commit, name};
use crate::{KeyPurpose, LinkId, NhiStore, PrincipalType, Role, SignedLink};

/// Runs the whole suite.
pub async fn all(store: Arc<dyn NhiStore>) {
    let world = World::on(Arc::clone(&store)).await;
    let acme = world.organization("alice").await;
    let other = world.organization("mallory").await;
    principals(&world, acme, other).await;
    links(&world, acme, other).await;
    commits(&world, acme).await;
    epochs(&world, acme, other).await;
    suspensions(&world, acme, other).await;
    expulsions::run(&world, acme, other).await;
    roles(&world, acme, other).await;
    ended_above(&world, acme).await;
    principal_keys::run(&world, acme, other).await;
    rotations(&world, acme, other).await;
    log_rotations(&world, acme, other).await;
    secrets::run(&world, other).await;
    prekeys::run(&world, other).await;
    loaded_again(&world).await;
    parts::run(&world).await;
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
    assert_eq!(founded.owner, owner.principal.name);

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
    Arc::make_mut(&mut crossed.link).org = other;
    not_found(&store.insert_link(crossed, commit(other, "refused")).await);
    let mut orphan = late.clone();
    Arc::make_mut(&mut orphan.link).parent = Some(world.ids.next());
    not_found(&store.insert_link(orphan, commit(acme, "refused")).await);
    let mut unknown = late.clone();
    Arc::make_mut(&mut unknown.link).delegatee = name("nobody");
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
        turn: creto_types::Turn::default(),
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

async fn roles(world: &World, acme: OrgId, other: OrgId) {
    let store = &world.store;
    assert!(store.load().await.expect("it loads").roles.is_empty());
    let row = |org, who: &str, role, seconds| StoredRole {
        org,
        human: name(who),
        role,
        since: world.after(seconds),
    };
    let draft = world
        .nhi
        .draft_principal(acme, name("grace"), PrincipalType::Human)
        .expect("the name is free");
    let first = row(acme, "grace", Role::Auditor, 1);
    let receipt = store
        .insert_human(
            draft.stored.clone(),
            first.clone(),
            commit(acme, "principal.created"),
        )
        .await
        .expect("the name is free");
    assert_eq!(receipt.leaves.len(), 1);
    let snapshot = store.load().await.expect("it loads");
    assert_eq!(snapshot.roles, [first]);
    assert!(snapshot.principals.contains(&draft.stored));

    // A person who is there keeps the role that is there.
    let again = row(acme, "grace", Role::Owner, 2);
    let refused = store
        .insert_human(draft.stored, again, commit(acme, "refused"))
        .await;
    conflict(&refused);
    for (org, who) in [
        (acme, "nobody"),
        (acme, "worker"),
        (other, "grace"),
        (world.ids.next(), "grace"),
    ] {
        let missing = row(org, who, Role::Owner, 3);
        not_found(&store.set_role(missing, commit(org, "refused")).await);
    }
    let claim = Claim {
        org: acme,
        token: "once for a role".to_owned(),
    };
    let claimed = |kind| commit(acme, kind).with_claim(claim.clone());
    let second = row(acme, "grace", Role::Operator, 4);
    store
        .set_role(second.clone(), claimed("role.set"))
        .await
        .expect("the human is there");
    let refused = store
        .set_role(row(acme, "grace", Role::Owner, 5), claimed("refused"))
        .await;
    assert!(
        matches!(refused, Err(StoreError::AlreadyClaimed { .. })),
        "{refused:?}"
    );
    let stored = store.load().await.expect("it loads").roles;
    assert_eq!(stored, [second], "one a person, the last one");
}

async fn suspensions(world: &World, acme: OrgId, other: OrgId) {
    let store = &world.store;
    assert!(store.load().await.expect("it loads").suspensions.is_empty());
    let row = |org, who: &str, seconds| StoredSuspension {
        org,
        principal: name(who),
        since: world.after(seconds),
    };
    let first = row(acme, "worker", 5);
    let receipt = store
        .insert_suspension(first.clone(), commit(acme, "principal.suspended"))
        .await
        .expect("the principal is there");
    assert_eq!(receipt.leaves.len(), 1);
    let again = row(acme, "worker", 6);
    conflict(
        &store
            .insert_suspension(again, commit(acme, "refused"))
            .await,
    );
    for (org, who) in [
        (acme, "nobody"),
        (other, "worker"),
        (world.ids.next(), "worker"),
    ] {
        let missing = row(org, who, 7);
        not_found(
            &store
                .insert_suspension(missing, commit(org, "refused"))
                .await,
        );
        not_found(
            &store
                .end_suspension(org, name(who), commit(org, "refused"))
                .await,
        );
    }
    let human = row(acme, "alice", 8);
    let second = row(other, "mallory", 9);
    for next in [&human, &second] {
        store
            .insert_suspension(next.clone(), commit(next.org, "principal.suspended"))
            .await
            .expect("the port knows of no owner");
    }
    let mut expected = vec![first.clone(), human, second];
    expected.sort_by_key(|row| (row.org, row.principal.clone()));
    let stored = store.load().await.expect("it loads").suspensions;
    assert_eq!(stored, expected, "by organization and name");

    // What the commit refuses is refused whole, in both directions.
    let claim = Claim {
        org: acme,
        token: "once".to_owned(),
    };
    let claimed = || commit(acme, "refused").with_claim(claim.clone());
    let refused = [
        store
            .insert_suspension(row(acme, "planner", 1), claimed())
            .await,
        store.end_suspension(acme, name("worker"), claimed()).await,
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(StoreError::AlreadyClaimed { .. })),
            "{refused:?}"
        );
    }
    let stored = store.load().await.expect("it loads").suspensions;
    assert_eq!(stored, expected, "nothing was changed");

    for (org, who) in [(acme, "alice"), (other, "mallory")] {
        let receipt = store
            .end_suspension(org, name(who), commit(org, "principal.resumed"))
            .await
            .expect("it is suspended");
        assert_eq!(receipt.leaves.len(), 1);
        let again = store
            .end_suspension(org, name(who), commit(org, "refused"))
            .await;
        conflict(&again);
    }
    let stored = store.load().await.expect("it loads").suspensions;
    assert_eq!(stored, [first]);

    // Ended once, begun anew.
    let worker = name("worker");
    store
        .end_suspension(acme, worker, commit(acme, "principal.resumed"))
        .await
        .expect("it is suspended");
    let anew = row(acme, "worker", 20);
    store
        .insert_suspension(anew.clone(), commit(acme, "principal.suspended"))
        .await
        .expect("it was resumed");
    let stored = store.load().await.expect("it loads").suspensions;
    assert_eq!(stored, [anew]);
    let worker = name("worker");
    store
        .end_suspension(acme, worker, commit(acme, "principal.resumed"))
        .await
        .expect("it is suspended");
}

/// A link is refused below whatever ended while it was drafted, at any height.
async fn ended_above(world: &World, acme: OrgId) {
    let store = &world.store;
    for agent in ["upper", "middle", "lower", "lowest"] {
        world.principal(acme, agent, PrincipalType::Agent).await;
    }
    let mut parent = None;
    let mut ids = Vec::new();
    for (from, to) in [("alice", "upper"), ("upper", "middle"), ("middle", "lower")] {
        let id = world
            .delegate(acme, world.request(from, to, parent))
            .await
            .expect("the delegation is valid");
        ids.push(id);
        parent = Some(id);
    }
    let draft = || {
        world
            .nhi
            .draft_delegation(acme, world.request("lower", "lowest", parent))
            .expect("the delegation is valid")
    };
    for who in ["alice", "upper", "middle", "lower", "lowest"] {
        let link = draft();
        let suspension = StoredSuspension {
            org: acme,
            principal: name(who),
            since: world.now(),
        };
        store
            .insert_suspension(suspension, commit(acme, "principal.suspended"))
            .await
            .expect("the principal is there");
        conflict(&store.insert_link(link, commit(acme, "refused")).await);
        store
            .end_suspension(acme, name(who), commit(acme, "principal.resumed"))
            .await
            .expect("it is suspended");
    }
    store
        .insert_link(draft(), commit(acme, "delegation.granted"))
        .await
        .expect("nobody is suspended any more");
    let root = *ids.first().expect("three were made");
    let link = draft();
    store
        .revoke_link(acme, root, world.now(), commit(acme, "delegation.revoked"))
        .await
        .expect("it is not revoked");
    conflict(&store.insert_link(link, commit(acme, "refused")).await);
}

/// Former keys of the log are kept, with what opens them, until they are retired.
async fn log_rotations(world: &World, acme: OrgId, other: OrgId) {
    let store = &world.store;
    let before = stored_of(world, acme).await;
    let untouched = stored_of(world, other).await;
    not_found(&store.retire_log_keys(acme, commit(acme, "refused")).await);
    let draft = world.nhi.draft_log_rotation(acme).expect("nothing waits");
    let rotation = draft.stored().clone();
    let mut nowhere = rotation.clone();
    nowhere.org = world.ids.next();
    let org = nowhere.org;
    not_found(&store.rotate_log_keys(nowhere, commit(org, "refused")).await);
    let committed = world
        .nhi
        .commit_log_rotation(draft, commit(acme, "log_keys.rotated"));
    assert_eq!(committed.await.expect("nothing waits").leaves.len(), 1);

    let after = stored_of(world, acme).await;
    let of = |stored: &StoredOrganization, purpose| {
        let mut keys = stored.keys.iter();
        let found = keys.find(|(known, _)| *known == purpose);
        found.expect("every purpose has a key").1.clone()
    };
    for (purpose, key) in &rotation.keys {
        assert_eq!(of(&after, *purpose), *key);
    }
    assert_eq!(
        of(&after, KeyPurpose::Issuer),
        of(&before, KeyPurpose::Issuer)
    );
    let mut former: Vec<_> = after.former_log_keys.clone();
    former.sort_by_key(|former| former.purpose);
    let kept: Vec<_> = former.iter().map(|former| former.purpose).collect();
    assert_eq!(kept, [KeyPurpose::LogEd25519, KeyPurpose::LogComposite]);
    for former in &former {
        assert_eq!(former.key, of(&before, former.purpose));
        assert_eq!(former.replaced_at, rotation.at);
    }
    conflict(
        &store
            .rotate_log_keys(rotation, commit(acme, "refused"))
            .await,
    );
    assert_eq!(stored_of(world, acme).await, after);

    // They are wrapped anew like the others, or no older wrapping key ends.
    let draft = world.nhi.draft_rotation(acme).expect("it can be drafted");
    let version = draft.stored().wrapping.version;
    let committed = world
        .nhi
        .commit_rotation(draft, commit(acme, "keys.rotated"));
    committed.await.expect("the version is new");
    world.nhi.rewrap_keys(acme).await.expect("they can be");
    let rewrapped = stored_of(world, acme).await;
    assert_eq!(rewrapped.former_log_keys.len(), 2);
    for former in &rewrapped.former_log_keys {
        assert_eq!(former.key.wrapped.version(), Some(version));
    }
    let holder = KeyHolder::FormerLog(KeyPurpose::LogEd25519);
    let wrong = Rewrapped {
        holder,
        from: of(&before, KeyPurpose::LogEd25519).wrapped,
        to: of(&before, KeyPurpose::LogEd25519).wrapped,
    };
    conflict(&store.rewrap_keys(acme, vec![wrong]).await);

    let kids = world.nhi.former_log_keys(acme).expect("it is there");
    let receipt = world
        .nhi
        .retire_log_keys(acme, kids, commit(acme, "log_keys.retired"));
    assert_eq!(receipt.await.expect("two wait").leaves.len(), 1);
    assert!(stored_of(world, acme).await.former_log_keys.is_empty());
    assert_eq!(stored_of(world, other).await, untouched);
}

/// What was stored is what another process reads.
async fn rotations(world: &World, acme: OrgId, other: OrgId) {
    let store = &world.store;
    let before = stored_of(world, acme).await;
    let untouched = stored_of(world, other).await;
    let draft = world.nhi.draft_rotation(acme).expect("it can be drafted");
    let rotation = draft.stored().clone();

    let mut nowhere = rotation.clone();
    nowhere.org = world.ids.next();
    let org = nowhere.org;
    not_found(&store.rotate_keys(nowhere, commit(org, "refused")).await);
    let mut again = rotation.clone();
    again.wrapping = before.wrapping.last().expect("it has one").clone();
    conflict(&store.rotate_keys(again, commit(acme, "refused")).await);
    assert_eq!(stored_of(world, acme).await, before);

    let committed = world
        .nhi
        .commit_rotation(draft, commit(acme, "keys.rotated"));
    committed.await.expect("the version is new");
    let after = stored_of(world, acme).await;
    let issuer = |stored: &StoredOrganization| {
        let mut keys = stored.keys.iter();
        let found = keys.find(|(purpose, _)| *purpose == KeyPurpose::Issuer);
        found.expect("it has an issuer").1.clone()
    };
    assert_eq!(issuer(&after), rotation.issuer);
    assert_eq!(after.wrapping.last(), Some(&rotation.wrapping));
    let [former] = after.former_issuers.as_slice() else {
        panic!("{:?}", after.former_issuers);
    };
    assert_eq!(former.public, issuer(&before).public);
    assert_eq!(former.replaced_at, rotation.at);

    // All or none are wrapped anew, and only what is stored as told.
    let version = rotation.wrapping.version;
    let holder = KeyHolder::Organization(KeyPurpose::Issuer);
    let right = Rewrapped {
        holder,
        from: rotation.issuer.wrapped.clone(),
        to: rotation.issuer.wrapped.clone(),
    };
    let wrong = Rewrapped {
        from: issuer(&before).wrapped,
        ..right.clone()
    };
    conflict(&store.rewrap_keys(acme, vec![right, wrong]).await);
    assert_eq!(stored_of(world, acme).await, after);
    conflict(
        &store
            .retire_keys(acme, version, commit(acme, "refused"))
            .await,
    );
    let rewrapped = world.nhi.rewrap_keys(acme).await;
    assert!(rewrapped.expect("they can be wrapped anew") > KeyPurpose::ALL.len());
    assert_eq!(world.nhi.rewrap_keys(acme).await.expect("it can"), 0);
    let receipt = store
        .retire_keys(acme, version, commit(acme, "keys.retired"))
        .await
        .expect("nothing is under an older one");
    assert_eq!(receipt.leaves.len(), 1);
    let retired = stored_of(world, acme).await;
    assert_eq!(retired.wrapping, [rotation.wrapping]);
    assert!(retired.former_issuers.is_empty());

    // A key under what was retired is refused.
    let snapshot = store.load().await.expect("it loads");
    let mut rows = snapshot.principals.into_iter();
    let mut late = rows
        .find(|row| row.principal.org == acme)
        .expect("it has principals");
    late.principal.name = name("late");
    late.key.wrapped = issuer(&before).wrapped;
    conflict(&store.insert_principal(late, commit(acme, "refused")).await);
    assert_eq!(stored_of(world, other).await, untouched);

    // Wrapping keys change all at once, and only those there are.
    let all: Vec<_> = [&retired, &untouched]
        .iter()
        .flat_map(|row| {
            row.wrapping
                .iter()
                .map(|key| (row.organization.id, key.clone()))
        })
        .collect();
    let some = all.iter().take(1).cloned().collect();
    conflict(&store.replace_wrapping(some, Vec::new()).await);
    let swapped: Vec<_> = all
        .iter()
        .zip(all.iter().rev())
        .map(|((org, key), (_, foreign))| {
            let mut key = key.clone();
            key.wrapped = foreign.wrapped.clone();
            (*org, key)
        })
        .collect();
    store
        .replace_wrapping(swapped, vec![commit(acme, "root_key.rotated")])
        .await
        .expect("these are all there are");
    let changed = stored_of(world, acme).await;
    let wrapped = |row: &StoredOrganization| row.wrapping.first().map(|key| key.wrapped.clone());
    assert_eq!(wrapped(&changed), wrapped(&untouched));
    let back = store.replace_wrapping(all, Vec::new()).await;
    back.expect("these are all there are");
    assert_eq!(stored_of(world, acme).await, retired);
}

async fn stored_of(world: &World, org: OrgId) -> StoredOrganization {
    let snapshot = world.store.load().await.expect("it loads");
    let mut rows = snapshot.organizations.into_iter();
    rows.find(|row| row.organization.id == org)
        .expect("it was founded")
}

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
