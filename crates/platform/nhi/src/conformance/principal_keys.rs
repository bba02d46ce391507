//! What a store promises of the keys of principals.

use creto_types::{Claim, OrgId, StoreError};

use super::{conflict, not_found};
use crate::ports::{StoredExpulsion, StoredKeyRevocation};
use crate::test_util::{World, commit, name};
use crate::{KeyVersion, PrincipalKeyDraft, PrincipalType};

fn change(world: &World, org: OrgId, who: &str) -> PrincipalKeyDraft {
    let draft = world.nhi.draft_principal_key(org, &name(who), world.now());
    draft.expect("it is there")
}

fn version(number: u32) -> KeyVersion {
    KeyVersion::new(number).expect("versions begin at 1")
}

pub(super) async fn run(world: &World, acme: OrgId, other: OrgId) {
    let store = world.store.as_ref();
    for agent in ["signer", "below"] {
        world.principal(acme, agent, PrincipalType::Agent).await;
    }
    let request = |from: &str, to: &str, parent| world.request(from, to, parent);
    let held = world.delegate(acme, request("alice", "signer", None)).await;
    let held = held.expect("the agent is there");
    let given = world.delegate(acme, request("signer", "below", Some(held)));
    let given = given.await.expect("it may be passed on");
    // Drafted with the first key.
    let late = world
        .nhi
        .draft_delegation(acme, request("signer", "below", Some(held)));
    let late = late.expect("it could be given");
    let below = world
        .nhi
        .draft_delegation(acme, request("below", "worker", Some(given)));
    let below = below.expect("it could be given");

    let draft = change(world, acme, "signer");
    let first = draft.stored().clone();
    assert_eq!(first.former.version, KeyVersion::FIRST);
    let mut missing = first.clone();
    missing.former.principal = name("nobody");
    not_found(&store.replace_key(missing, commit(acme, "refused")).await);
    let mut elsewhere = first.clone();
    elsewhere.former.org = other;
    not_found(&store.replace_key(elsewhere, commit(other, "refused")).await);
    let mut early = first.clone();
    early.former.version = version(2);
    conflict(&store.replace_key(early, commit(acme, "refused")).await);
    let record = commit(acme, "principal.key_rotated");
    let receipt = world.nhi.commit_principal_key(draft, record).await;
    let receipt = receipt.expect("the version is the present one");
    assert_eq!(receipt.leaves.len(), 1);
    conflict(
        &store
            .replace_key(first.clone(), commit(acme, "refused"))
            .await,
    );
    let second = change(world, acme, "signer").stored().clone();
    assert_eq!(second.former.version, version(2));
    let claim = Claim {
        org: acme,
        token: "rotated once".to_owned(),
    };
    let used = commit(acme, "principal.key_rotated").with_claim(claim.clone());
    let rotated = store.replace_key(second.clone(), used).await;
    rotated.expect("the next version");

    let snapshot = store.load().await.expect("it loads");
    assert_eq!(snapshot.former_keys, [first.former, second.former]);
    let mut principals = snapshot.principals.iter();
    let present = principals
        .find(|row| row.principal.org == acme && row.principal.name == name("signer"))
        .expect("its row stays");
    assert_eq!(present.key, second.key);
    assert_eq!(present.principal.verifying_key, second.key.public);
    assert_eq!(snapshot.key_revocations, []);

    let row = |org, who: &str, number| StoredKeyRevocation {
        org,
        principal: name(who),
        version: version(number),
        kid: format!("the key {number} of {who}"),
        at: world.after(u64::from(number)),
    };
    for missing in [
        row(acme, "nobody", 1),
        row(other, "signer", 1),
        row(acme, "signer", 4),
        row(acme, "below", 2),
    ] {
        let org = missing.org;
        not_found(&store.revoke_key(missing, commit(org, "refused")).await);
    }
    let claimed = commit(acme, "refused").with_claim(claim);
    let refused = store.revoke_key(row(acme, "signer", 1), claimed).await;
    assert!(
        matches!(refused, Err(StoreError::AlreadyClaimed { .. })),
        "{refused:?}"
    );
    for number in [1, 3] {
        let receipt = store
            .revoke_key(
                row(acme, "signer", number),
                commit(acme, "principal.key_revoked"),
            )
            .await
            .expect("the key is there");
        assert_eq!(receipt.leaves.len(), 1);
        let again = row(acme, "signer", number);
        conflict(&store.revoke_key(again, commit(acme, "refused")).await);
    }
    let stored = store.load().await.expect("it loads").key_revocations;
    assert_eq!(stored, [row(acme, "signer", 1), row(acme, "signer", 3)]);

    // What the key signed, and what hangs below that, is not added any more.
    for link in [late, below] {
        conflict(&store.insert_link(link, commit(acme, "refused")).await);
    }
    for number in [1, 3] {
        let kid = row(acme, "signer", number).kid;
        let refused = store.add_statement(acme, name("signer"), kid, commit(acme, "refused"));
        conflict_of("key", &refused.await);
    }
    // Another's key of that thumbprint, another organization's, and another key.
    for (org, who, kid) in [
        (acme, "below", row(acme, "signer", 1).kid),
        (acme, "signer", "another".to_owned()),
    ] {
        let added = store.add_statement(org, name(who), kid, commit(org, "identity.signed"));
        assert_eq!(added.await.expect("it is in force").leaves.len(), 1);
    }
    for (org, who) in [(acme, "nobody"), (other, "signer")] {
        let refused = store.add_statement(org, name(who), "k".to_owned(), commit(org, "refused"));
        not_found(&refused.await);
    }

    // Nobody who was revoked gets another key behind that.
    let late = change(world, acme, "below").stored().clone();
    let gone = StoredExpulsion {
        org: acme,
        principal: name("below"),
        at: world.now(),
    };
    let expelled = store.insert_expulsion(gone, commit(acme, "principal.revoked"));
    expelled.await.expect("it is there");
    conflict_of(
        "principal",
        &store.replace_key(late, commit(acme, "refused")).await,
    );
    let stored = store.load().await.expect("it loads").former_keys;
    assert_eq!(stored.len(), 2, "nothing was changed");
}

fn conflict_of<T: std::fmt::Debug>(expected: &str, result: &Result<T, StoreError>) {
    assert!(
        matches!(result, Err(StoreError::Conflict { what }) if *what == expected),
        "{result:?}"
    );
}
