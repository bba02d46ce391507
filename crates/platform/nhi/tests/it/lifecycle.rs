//! Restarts, failing stores, callers that go away, and what is in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use creto_nhi::memory::MemoryNhiStore;
use creto_nhi::test_util::{World, name, rights};
use creto_nhi::{
    KeyPurpose, LinkId, NhiStore, Part, PrincipalType, Rewrapped, SignedLink, Snapshot,
    StoredEpoch, StoredExpulsion, StoredKeyChange, StoredKeyRevocation, StoredLogRotation,
    StoredOrganization, StoredPrincipal, StoredRole, StoredRotation, StoredSuspension, WrappingKey,
};
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use tokio::sync::Notify;

use crate::{chained, code, crew};

#[tokio::test]
async fn a_restart_gives_the_same_links_revocations_and_keys() {
    let (mut world, org, ids) = chained().await;
    world
        .nhi
        .revoke(org, ids[2], world.after(3), Commit::default())
        .await
        .unwrap();
    let identity = world.nhi.identity_for_link(org, ids[1]).unwrap();
    let token = world.nhi.issue_token(&identity, None).unwrap().token;
    let seen = |world: &World| {
        let links: Vec<_> = world
            .nhi
            .links(org, None, 10)
            .into_iter()
            .map(|view| (view.signed.clone(), view.status.revoked_at()))
            .collect();
        let keys = KeyPurpose::ALL.map(|purpose| {
            let signer = world.nhi.signer(org, purpose).unwrap();
            signer.verifying_key().clone()
        });
        let principals = world.nhi.principals(org, None, 10);
        let organizations = world.nhi.organizations();
        (links, keys, principals, organizations, world.nhi.jwks())
    };
    let before = seen(&world);
    world.restart().await;
    assert_eq!(seen(&world), before);
    world.nhi.verify_token(&token).unwrap();
    let dead = world.nhi.identity_for_link(org, ids[2]).unwrap();
    assert_eq!(code(dead.live(world.now())), "delegation_revoked");
    // The principals' keys came back too.
    world
        .delegate(org, world.request("worker", "helper", Some(ids[1])))
        .await
        .unwrap();
}

#[tokio::test]
async fn another_root_key_opens_nothing() {
    let (world, ..) = chained().await;
    assert_eq!(code(world.reopen('8').await), "open_failed");
}

#[tokio::test]
async fn names_are_unique_and_lists_are_paged() {
    let (world, org) = crew().await;
    assert_eq!(
        code(
            world
                .nhi
                .draft_principal(org, name("worker"), PrincipalType::Agent)
        ),
        "principal_exists"
    );
    let first = world
        .nhi
        .draft_principal(org, name("new"), PrincipalType::Agent)
        .unwrap();
    let second = world
        .nhi
        .draft_principal(org, name("new"), PrincipalType::Agent)
        .unwrap();
    world
        .nhi
        .commit_principal(first, Commit::default())
        .await
        .unwrap();
    assert_eq!(
        code(world.nhi.commit_principal(second, Commit::default()).await),
        "principal_exists"
    );
    let names = |after: Option<&str>, limit| -> Vec<String> {
        let after = after.map(name);
        world
            .nhi
            .principals(org, after.as_ref(), limit)
            .iter()
            .map(|principal| principal.name.to_string())
            .collect()
    };
    assert_eq!(names(None, 2), ["alice", "helper"]);
    assert_eq!(names(Some("helper"), 2), ["new", "planner"]);
    assert_eq!(names(Some("worker"), 2), [""; 0]);
    let nowhere = world.ids.next();
    assert!(world.nhi.principals(nowhere, None, 9).is_empty());
    assert_eq!(
        code(
            world
                .nhi
                .draft_principal(nowhere, name("x"), PrincipalType::Agent)
        ),
        "unknown_organization"
    );
    for bad in ["", " x", "a\nb", &"x".repeat(101)] {
        assert_eq!(
            code(world.nhi.draft_organization(bad, name("x"))),
            "invalid_identity_request"
        );
    }
}

/// A store whose changes can be made to fail, or to wait, and whose content can
/// be tampered with.
#[derive(Default)]
pub(crate) struct Tricky {
    pub(crate) inner: MemoryNhiStore,
    pub(crate) failing: AtomicBool,
    /// What ends authority is made, but its answer is lost.
    pub(crate) mute: AtomicBool,
    pub(crate) unreadable: AtomicBool,
    pub(crate) gated: AtomicBool,
    entered: Notify,
    gate: Notify,
    tamper: parking_lot::Mutex<Option<fn(&mut Snapshot)>>,
}

impl Tricky {
    /// Whatever is read from now on is changed so.
    pub(crate) fn tamper_with(&self, tamper: fn(&mut Snapshot)) {
        *self.tamper.lock() = Some(tamper);
    }

    pub(crate) async fn before(&self) -> Result<(), StoreError> {
        if self.gated.load(Ordering::SeqCst) {
            self.entered.notify_one();
            self.gate.notified().await;
        }
        if self.failing.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("disk full".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl NhiStore for Tricky {
    fn prekeys(&self) -> &dyn creto_nhi::PrekeyStore {
        self
    }

    fn secrets(&self) -> &dyn creto_nhi::SecretStore {
        self.inner.secrets()
    }

    async fn load(&self) -> Result<Snapshot, StoreError> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("disk gone".into()));
        }
        let mut snapshot = self.inner.load().await?;
        if let Some(tamper) = *self.tamper.lock() {
            tamper(&mut snapshot);
        }
        Ok(snapshot)
    }

    async fn load_part(&self, part: Part) -> Result<Snapshot, StoreError> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("disk gone".into()));
        }
        let mut snapshot = self.inner.load_part(part).await?;
        if let Some(tamper) = *self.tamper.lock() {
            tamper(&mut snapshot);
        }
        Ok(snapshot)
    }

    async fn insert_organization(
        &self,
        organization: StoredOrganization,
        owner: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        self.inner
            .insert_organization(organization, owner, commit)
            .await
    }

    async fn insert_principal(
        &self,
        principal: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        self.inner.insert_principal(principal, commit).await
    }

    async fn insert_human(
        &self,
        human: StoredPrincipal,
        role: StoredRole,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        self.inner.insert_human(human, role, commit).await
    }

    async fn set_role(&self, role: StoredRole, commit: Commit) -> Result<Receipt, StoreError> {
        self.before().await?;
        let receipt = self.inner.set_role(role, commit).await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn insert_link(&self, link: SignedLink, commit: Commit) -> Result<Receipt, StoreError> {
        self.before().await?;
        self.inner.insert_link(link, commit).await
    }

    async fn revoke_link(
        &self,
        org: OrgId,
        link: LinkId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        let receipt = self.inner.revoke_link(org, link, at, commit).await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn insert_suspension(
        &self,
        suspension: StoredSuspension,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        let receipt = self.inner.insert_suspension(suspension, commit).await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn end_suspension(
        &self,
        org: OrgId,
        principal: PrincipalName,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        let receipt = self.inner.end_suspension(org, principal, commit).await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn insert_expulsion(
        &self,
        expulsion: StoredExpulsion,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        let receipt = self.inner.insert_expulsion(expulsion, commit).await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn replace_key(
        &self,
        change: StoredKeyChange,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        let receipt = self.inner.replace_key(change, commit).await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn revoke_key(
        &self,
        revocation: StoredKeyRevocation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        let receipt = self.inner.revoke_key(revocation, commit).await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn add_statement(
        &self,
        org: OrgId,
        signer: PrincipalName,
        kid: String,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        self.inner.add_statement(org, signer, kid, commit).await
    }

    async fn insert_epoch(
        &self,
        epoch: StoredEpoch,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        let receipt = self.inner.insert_epoch(epoch, commit).await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn rotate_keys(
        &self,
        rotation: StoredRotation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        let receipt = self.inner.rotate_keys(rotation, commit).await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn rotate_log_keys(
        &self,
        rotation: StoredLogRotation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        let receipt = self.inner.rotate_log_keys(rotation, commit).await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn retire_log_keys(&self, org: OrgId, commit: Commit) -> Result<Receipt, StoreError> {
        self.before().await?;
        let receipt = self.inner.retire_log_keys(org, commit).await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn rewrap_keys(&self, org: OrgId, keys: Vec<Rewrapped>) -> Result<(), StoreError> {
        self.before().await?;
        self.inner.rewrap_keys(org, keys).await
    }

    async fn retire_keys(
        &self,
        org: OrgId,
        before_version: u32,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.before().await?;
        let retired = self.inner.retire_keys(org, before_version, commit);
        let receipt = retired.await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection lost".into()));
        }
        Ok(receipt)
    }

    async fn replace_wrapping(
        &self,
        keys: Vec<(OrgId, WrappingKey)>,
        commits: Vec<Commit>,
    ) -> Result<(), StoreError> {
        self.before().await?;
        self.inner.replace_wrapping(keys, commits).await
    }
}

pub(crate) async fn tricky() -> (Arc<Tricky>, World, OrgId, LinkId) {
    let store = Arc::new(Tricky::default());
    let world = World::on(Arc::clone(&store) as Arc<dyn NhiStore>).await;
    let org = world.organization("alice").await;
    for agent in ["planner", "worker"] {
        world.principal(org, agent, PrincipalType::Agent).await;
    }
    let link = world
        .delegate(org, world.request("alice", "planner", None))
        .await
        .unwrap();
    (store, world, org, link)
}

#[tokio::test]
async fn memory_follows_the_store_and_never_leads() {
    let (store, world, org, link) = tricky().await;
    store.failing.store(true, Ordering::SeqCst);
    let request = world.request("alice", "worker", None);
    assert_eq!(
        code(world.delegate(org, request).await),
        "store_unavailable"
    );
    assert_eq!(world.nhi.links(org, None, 10).len(), 1);
    let revoked = world
        .nhi
        .revoke(org, link, world.now(), Commit::default())
        .await;
    assert_eq!(code(revoked), "store_unavailable");
    assert!(!world.nhi.link(org, link).unwrap().status.is_revoked());
    let draft = world
        .nhi
        .draft_principal(org, name("late"), PrincipalType::Agent)
        .unwrap();
    let refused = world.nhi.commit_principal(draft, Commit::default()).await;
    assert_eq!(code(refused), "store_unavailable");
    assert!(world.nhi.principal(org, &name("late")).is_none());
}

#[tokio::test]
async fn a_revocation_whose_answer_was_lost_takes_effect() {
    let (store, world, org, link) = tricky().await;
    let identity = world.nhi.identity_for_link(org, link).unwrap();
    let revoke = async |at| world.nhi.revoke(org, link, at, Commit::default()).await;
    store.mute.store(true, Ordering::SeqCst);
    let at = world.after(5);
    assert_eq!(code(revoke(at).await), "store_unavailable");
    assert_eq!(code(identity.live(world.now())), "delegation_revoked");
    assert_eq!(identity.hops[0].status.revoked_at(), Some(at));
    let epoch = identity.authority.epoch();
    assert_eq!(code(revoke(at).await), "delegation_already_revoked");
    // Whoever revoked it may not have come that far.
    assert!(
        identity.authority.epoch() > epoch,
        "readers are told by this call, too"
    );
}

#[tokio::test]
async fn a_revocation_that_nobody_can_tell_of_counts_as_made_and_may_be_repeated() {
    let (store, world, org, link) = tricky().await;
    let status = world.nhi.link(org, link).unwrap().status.clone();
    let revoke = async |at| world.nhi.revoke(org, link, at, Commit::default()).await;
    store.failing.store(true, Ordering::SeqCst);
    store.unreadable.store(true, Ordering::SeqCst);
    assert_eq!(code(revoke(world.now()).await), "store_unavailable");
    assert!(status.is_revoked());
    assert_eq!(status.revoked_at(), None);
    store.failing.store(false, Ordering::SeqCst);
    let at = world.after(9);
    revoke(at).await.unwrap();
    assert_eq!(status.revoked_at(), Some(at));
    store.unreadable.store(false, Ordering::SeqCst);
    let stored = world.store.load().await.unwrap();
    assert_eq!(stored.links[0].revoked_at, Some(at));
}

#[tokio::test]
async fn a_revocation_whose_caller_went_away_still_takes_effect() {
    let (store, world, org, link) = tricky().await;
    let status = world.nhi.link(org, link).unwrap().status.clone();
    store.gated.store(true, Ordering::SeqCst);
    let nhi = Arc::clone(&world.nhi);
    let at = world.now();
    let caller = tokio::spawn(async move { nhi.revoke(org, link, at, Commit::default()).await });
    store.entered.notified().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert!(!status.is_revoked(), "the store has not said yes");
    store.gate.notify_one();
    for _ in 0..1_000 {
        if status.is_revoked() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("stored as revoked, alive in memory");
}

#[tokio::test]
async fn what_was_altered_in_the_store_gives_no_authority() {
    let (store, world, org, link) = tricky().await;
    let with = async |tamper: fn(&mut Snapshot)| {
        *store.tamper.lock() = Some(tamper);
        world.reopen('7').await
    };

    let nhi = with(|snapshot| {
        let link = Arc::make_mut(&mut snapshot.links[0].signed.link);
        link.rights = rights(&[("x", "y")]);
    })
    .await
    .unwrap();
    assert_eq!(code(nhi.identity_for_link(org, link)), "delegation_forged");
    assert_eq!(
        code(nhi.draft_delegation(org, world.request("planner", "worker", Some(link)))),
        "delegation_forged"
    );

    // An agent promoted to a human is not signed, but its SPIFFE id gives it away.
    let promoted = with(|snapshot| {
        for row in &mut snapshot.principals {
            row.principal.kind = PrincipalType::Human;
        }
    });
    assert_eq!(code(promoted.await), "trust_domain_changed");

    // Nor does a matching SPIFFE id help: the wrapped key is bound to the kind.
    let disguised = with(|snapshot| {
        let row = snapshot
            .principals
            .iter_mut()
            .find(|row| row.principal.name.as_str() == "planner")
            .unwrap();
        row.principal.kind = PrincipalType::Human;
        row.principal.spiffe_id = row.principal.spiffe_id.replace("/agent/", "/human/");
    });
    assert_eq!(code(disguised.await), "open_failed");

    // A public key of somebody else's in both places would verify links that
    // its owner signed.
    let planted = with(|snapshot| {
        let stranger = snapshot.principals[1].key.public.clone();
        let row = &mut snapshot.principals[0];
        row.principal.verifying_key = stranger.clone();
        row.key.public = stranger;
    });
    assert_eq!(code(planted.await), "signature_invalid");

    let swapped = with(|snapshot| {
        let keys = &mut snapshot.organizations[0].keys;
        let evidence = keys[3].1.clone();
        keys[0].1 = evidence;
    });
    assert_eq!(
        code(swapped.await),
        "open_failed",
        "a key is bound to its purpose"
    );

    let halves = with(|snapshot| {
        let stranger = snapshot.principals[1].principal.verifying_key.clone();
        snapshot.principals[0].principal.verifying_key = stranger;
    });
    assert_eq!(code(halves.await), "stored_data_corrupt");

    let missing = with(|snapshot| {
        snapshot.organizations[0].keys.pop();
    });
    assert_eq!(code(missing.await), "stored_data_corrupt");
}
