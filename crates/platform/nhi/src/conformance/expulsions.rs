//! What a store promises of revoked principals.

use creto_types::{Claim, OrgId, StoreError};

use super::{conflict, not_found};
use crate::ports::StoredExpulsion;
use crate::test_util::{World, commit, name};
use crate::{PrincipalType, StoredSuspension};

fn row(world: &World, org: OrgId, who: &str, seconds: u64) -> StoredExpulsion {
    StoredExpulsion {
        org,
        principal: name(who),
        at: world.after(seconds),
    }
}

pub(super) async fn run(world: &World, acme: OrgId, other: OrgId) {
    let store = world.store.as_ref();
    for agent in ["leaver", "heir"] {
        world.principal(acme, agent, PrincipalType::Agent).await;
    }
    let request = |from: &str, to: &str, parent| world.request(from, to, parent);
    let held = world.delegate(acme, request("alice", "leaver", None)).await;
    let held = held.expect("the agent is there");
    // Drafted while everybody was there.
    let draft = |from, to, parent| {
        let drafted = world.nhi.draft_delegation(acme, request(from, to, parent));
        drafted.expect("it could be given")
    };
    let late = [
        draft("leaver", "heir", Some(held)),
        draft("alice", "leaver", None),
    ];

    for (org, who) in [(acme, "nobody"), (other, "leaver")] {
        let missing = row(world, org, who, 1);
        let refused = store.insert_expulsion(missing, commit(org, "refused"));
        not_found(&refused.await);
    }
    let claim = Claim {
        org: acme,
        token: "expelled once".to_owned(),
    };
    let used = commit(acme, "used").with_claim(claim.clone());
    let elsewhere = StoredSuspension {
        org: acme,
        principal: name("heir"),
        since: world.now(),
    };
    let taken = store.insert_suspension(elsewhere, used).await;
    taken.expect("the claim is new");
    let ended = store.end_suspension(acme, name("heir"), commit(acme, "principal.resumed"));
    ended.await.expect("it is suspended");
    let claimed = commit(acme, "refused").with_claim(claim);
    let refused = store
        .insert_expulsion(row(world, acme, "leaver", 2), claimed)
        .await;
    assert!(
        matches!(refused, Err(StoreError::AlreadyClaimed { .. })),
        "{refused:?}"
    );
    let stored = store.load().await.expect("it loads").expulsions;
    assert_eq!(stored, [], "nothing was changed");

    let first = row(world, acme, "leaver", 3);
    let receipt = store
        .insert_expulsion(first.clone(), commit(acme, "principal.revoked"))
        .await
        .expect("the principal is there");
    assert_eq!(receipt.leaves.len(), 1);
    let again = row(world, acme, "leaver", 4);
    conflict(&store.insert_expulsion(again, commit(acme, "refused")).await);
    let stored = store.load().await.expect("it loads").expulsions;
    assert_eq!(stored, [first], "one row, however many links");

    // It is neither suspended behind that, nor resumed.
    let suspension = |who| StoredSuspension {
        org: acme,
        principal: name(who),
        since: world.after(5),
    };
    let revoked = |result: Result<_, StoreError>| {
        assert!(
            matches!(result, Err(StoreError::Conflict { what: "principal" })),
            "{result:?}"
        );
    };
    let late_suspension = store.insert_suspension(suspension("leaver"), commit(acme, "refused"));
    revoked(late_suspension.await);
    world.principal(acme, "paused", PrincipalType::Agent).await;
    let paused = store.insert_suspension(suspension("paused"), commit(acme, "suspended"));
    paused.await.expect("it is in good standing");
    let gone = store.insert_expulsion(
        row(world, acme, "paused", 6),
        commit(acme, "principal.revoked"),
    );
    gone.await.expect("a suspended one is revoked as well");
    let resumed = store.end_suspension(acme, name("paused"), commit(acme, "refused"));
    revoked(resumed.await);
    let stored = store.load().await.expect("it loads").suspensions;
    assert_eq!(stored, [suspension("paused")], "as it was");

    // Nothing is added below it or to it, and nobody takes its name.
    for link in late {
        conflict(&store.insert_link(link, commit(acme, "refused")).await);
    }
    let snapshot = store.load().await.expect("it loads");
    let mut principals = snapshot.principals.into_iter();
    let namesake = principals
        .find(|row| row.principal.org == acme && row.principal.name == name("leaver"))
        .expect("its row stays");
    conflict(
        &store
            .insert_principal(namesake, commit(acme, "refused"))
            .await,
    );
}
