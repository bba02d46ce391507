//! Roles of humans: who has which, from when on, and what memory takes over.

use std::sync::atomic::Ordering;

use creto_errors::Classify as _;
use creto_nhi::test_util::{World, commit, name};
use creto_nhi::{NhiError, PrincipalType, Role, StoredRole};
use creto_types::OrgId;

use crate::lifecycle::tricky;
use crate::{code, crew};

async fn add(world: &World, org: OrgId, who: &str, role: Role) -> Result<(), NhiError> {
    let human = PrincipalType::Human;
    let draft = world.nhi.draft_principal(org, name(who), human)?;
    let record = commit(org, "principal.created");
    let added = world.nhi.commit_human(draft, role, world.now(), record);
    added.await.map(|_| ())
}

async fn set(world: &World, org: OrgId, who: &str, role: Role) -> Result<(), NhiError> {
    let (who, record) = (name(who), commit(org, "role.set"));
    let set = world.nhi.set_role(org, &who, role, world.now(), record);
    set.await.map(|_| ())
}

fn role(world: &World, org: OrgId, who: &str) -> Option<Role> {
    world.nhi.role(org, &name(who))
}

#[tokio::test]
async fn a_role_is_what_was_set_last_at_once_and_after_a_restart() {
    let (mut world, org) = crew().await;
    add(&world, org, "grace", Role::Auditor).await.unwrap();
    let held = world.nhi.identity_for_human(org, &name("grace")).unwrap();
    let token = world.nhi.issue_token(&held, None).unwrap().token;
    assert_eq!(held.role(), Some(Role::Auditor));
    for next in Role::ALL {
        // By an identity that was handed out before, and by one after a restart.
        for restarts in [false, true] {
            if restarts {
                world.restart().await;
                assert_eq!(role(&world, org, "grace"), Some(next));
            }
            let held = world.nhi.verify_token(&token).unwrap();
            set(&world, org, "grace", Role::Auditor).await.unwrap();
            assert_eq!(held.role(), Some(Role::Auditor));
            set(&world, org, "grace", next).await.unwrap();
            assert_eq!(held.role(), Some(next));
            let fresh = world.nhi.verify_token(&token).unwrap();
            assert_eq!(fresh.role(), Some(next));
        }
        assert_eq!(next.as_str().parse(), Ok(next));
    }
}

#[tokio::test]
async fn the_founder_stays_owner_and_agents_have_no_role() {
    let (mut world, org) = crew().await;
    for _ in 0..2 {
        assert_eq!(role(&world, org, "alice"), Some(Role::Owner));
        assert_eq!(role(&world, org, "worker"), None);
        let refused = set(&world, org, "alice", Role::Auditor).await;
        assert_eq!(code(refused), "owner_keeps_role");
        let refused = set(&world, org, "worker", Role::Owner).await;
        assert_eq!(code(refused), "principal_not_human");
        let refused = set(&world, org, "nobody", Role::Owner).await;
        assert_eq!(code(refused), "unknown_principal");
        world.restart().await;
    }
    let draft = world
        .nhi
        .draft_principal(org, name("robot"), PrincipalType::Agent)
        .unwrap();
    let record = commit(org, "principal.created");
    let added = world
        .nhi
        .commit_human(draft, Role::Owner, world.now(), record);
    assert_eq!(code(added.await), "principal_not_human");

    // An agent whose chain starts from an owner is none.
    let link = world.delegate(org, world.request("alice", "worker", None));
    let link = link.await.unwrap();
    let worker = world.nhi.identity_for_link(org, link).unwrap();
    assert_eq!(worker.role(), None);

    // A human who came without a role has none.
    world.principal(org, "bob", PrincipalType::Human).await;
    assert_eq!(role(&world, org, "bob"), None);
    let refused = add(&world, org, "bob", Role::Owner).await;
    assert_eq!(code(refused), "principal_exists");
    assert_eq!(role(&world, org, "bob"), None);
}

/// Who lost the answer of the store does not know which role it says; what memory
/// then tells is the store's, and none while the store cannot be read.
#[tokio::test]
async fn a_change_whose_answer_was_lost_is_what_the_store_says() {
    let (store, world, org, _) = tricky().await;
    add(&world, org, "grace", Role::Owner).await.unwrap();
    store.mute.store(true, Ordering::SeqCst);
    let lost = set(&world, org, "grace", Role::Auditor).await.unwrap_err();
    assert_eq!(lost.code(), "store_unavailable");
    assert_eq!(role(&world, org, "grace"), Some(Role::Auditor));

    store.unreadable.store(true, Ordering::SeqCst);
    let lost = set(&world, org, "grace", Role::Owner).await;
    lost.unwrap_err();
    assert_eq!(role(&world, org, "grace"), None, "fails closed");
    store.unreadable.store(false, Ordering::SeqCst);
    store.mute.store(false, Ordering::SeqCst);

    store.failing.store(true, Ordering::SeqCst);
    set(&world, org, "grace", Role::Operator).await.unwrap_err();
    assert_eq!(role(&world, org, "grace"), Some(Role::Owner), "not applied");
    store.failing.store(false, Ordering::SeqCst);
    set(&world, org, "grace", Role::Operator).await.unwrap();
    assert_eq!(role(&world, org, "grace"), Some(Role::Operator));
}

/// The port knows of no founder; a row that no call can have written is not believed.
#[tokio::test]
async fn a_founder_with_another_role_is_refused_at_start() {
    let (world, org) = crew().await;
    let row = StoredRole {
        org,
        human: name("alice"),
        role: Role::Approver,
        since: world.now(),
    };
    let stored = world.store.set_role(row, commit(org, "role.set")).await;
    stored.unwrap();
    assert_eq!(code(world.reopen('7').await), "stored_data_corrupt");
}
