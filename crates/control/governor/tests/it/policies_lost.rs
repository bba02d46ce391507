//! Policies when the answer of the store is lost: what the log says and what is so come
//! together again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use creto_governor::{
    CommitStore, FilesRequest, FollowRequest, Governor, IdempotencyKey, OutcomeKind, PolicyFiles,
    PolicyStore, PolicyVersion, ServedPolicies,
};
use creto_types::{Commit, OrgId, Receipt, StoreError};
use parking_lot::Mutex;

use crate::policies::{bundle, code, publish, reads, starter, without_reading};
use crate::world::World;

/// Does what it is asked to, and then cannot say so.
#[derive(Default)]
struct Line {
    /// The answer to the next change is lost.
    loses: AtomicBool,
    /// And from then on no question is answered.
    breaks: AtomicBool,
    broken: AtomicBool,
    /// Follows the directory no more.
    refuses: Mutex<Option<OrgId>>,
}

impl Line {
    fn carry<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let answer = answer?;
        if self.loses.swap(false, Ordering::SeqCst) {
            self.broken
                .store(self.breaks.load(Ordering::SeqCst), Ordering::SeqCst);
            return Err(cut());
        }
        Ok(answer)
    }
}

fn cut() -> StoreError {
    StoreError::Unavailable("the line is cut".into())
}

struct Lossy {
    inner: Arc<dyn PolicyStore>,
    line: Arc<Line>,
}

struct LossyCommits {
    inner: Arc<dyn CommitStore>,
    line: Arc<Line>,
}

#[async_trait]
impl CommitStore for LossyCommits {
    async fn commit(&self, commit: Commit) -> Result<Receipt, StoreError> {
        self.line.carry(self.inner.commit(commit).await)
    }
}

/// The same world behind such a line, with the starter set in force.
async fn behind(world: &World, line: &Arc<Line>) -> Arc<Governor> {
    let governor = world.restarted_with(|stores| {
        stores.policies = Arc::new(Lossy {
            inner: Arc::clone(&stores.policies),
            line: Arc::clone(line),
        });
        stores.commits = Arc::new(LossyCommits {
            inner: Arc::clone(&stores.commits),
            line: Arc::clone(line),
        });
    });
    let served = governor.serve_policies(Ok(bundle(starter())));
    served.await.expect("serves");
    governor
}

#[async_trait]
impl PolicyStore for Lossy {
    async fn publish(
        &self,
        version: PolicyVersion,
        files: PolicyFiles,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let published = self.inner.publish(version, files, commit).await;
        self.line.carry(published)
    }

    async fn follow_directory(
        &self,
        org: OrgId,
        digest: String,
        files: PolicyFiles,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        if *self.line.refuses.lock() == Some(org) {
            return Err(cut());
        }
        let followed = self.inner.follow_directory(org, digest, files, commit);
        self.line.carry(followed.await)
    }

    async fn bundle(
        &self,
        org: OrgId,
        after: Option<&str>,
    ) -> Result<Option<(String, PolicyFiles)>, StoreError> {
        self.inner.bundle(org, after).await
    }

    async fn kept(&self, org: OrgId, digest: &str) -> Result<Option<PolicyFiles>, StoreError> {
        self.inner.kept(org, digest).await
    }

    async fn served(&self, org: OrgId) -> Result<Option<ServedPolicies>, StoreError> {
        if self.line.broken.load(Ordering::SeqCst) {
            return Err(cut());
        }
        self.inner.served(org).await
    }

    async fn get(
        &self,
        org: OrgId,
        version: u64,
    ) -> Result<Option<(PolicyVersion, PolicyFiles)>, StoreError> {
        self.inner.get(org, version).await
    }

    async fn list(
        &self,
        org: OrgId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<PolicyVersion>, StoreError> {
        self.inner.list(org, before, limit).await
    }
}

/// A publication, or a return to the directory, may be durable although its call failed;
/// repeated by its key it succeeds, and then it is in force.
#[tokio::test]
async fn what_is_said_to_be_in_force_is_although_an_answer_was_lost() {
    let world = World::new().await;
    let line = Arc::new(Line::default());
    let governor = behind(&world, &line).await;
    let follow = || FollowRequest {
        reason: "back to files".to_owned(),
    };
    for breaks in [true, false] {
        let key = |name: &str| IdempotencyKey::new(&format!("{name}-{breaks}")).ok();
        line.breaks.store(breaks, Ordering::SeqCst);
        let published = async || {
            let request = publish(without_reading());
            let done = governor.publish_policies(&world.owner, request, key("publish"));
            done.await.map(|_| ())
        };
        let followed = async || {
            let done = governor.follow_policy_directory(&world.owner, follow(), key("follow"));
            done.await.map(|_| ())
        };
        assert_eq!(reads(&world).await, OutcomeKind::Allow);
        line.loses.store(true, Ordering::SeqCst);
        assert_eq!(code(published().await), "store_unavailable");
        if breaks {
            assert_eq!(code(published().await), "store_unavailable", "still open");
        } else {
            assert_eq!(reads(&world).await, OutcomeKind::Deny, "the store says so");
        }
        line.broken.store(false, Ordering::SeqCst);
        published().await.expect("was published");
        assert_eq!(reads(&world).await, OutcomeKind::Deny);

        line.loses.store(true, Ordering::SeqCst);
        assert_eq!(code(followed().await), "store_unavailable");
        if !breaks {
            assert_eq!(reads(&world).await, OutcomeKind::Allow, "the store says so");
        }
        line.broken.store(false, Ordering::SeqCst);
        followed().await.expect("was followed");
        assert_eq!(reads(&world).await, OutcomeKind::Allow);
    }
    world.check_records().await.expect("the records hold");
}

/// Nobody has to repeat the call: the store is asked until it says.
#[tokio::test]
async fn what_is_durable_comes_in_force_by_itself() {
    let world = World::new().await;
    let line = Arc::new(Line::default());
    let governor = behind(&world, &line).await;
    line.breaks.store(true, Ordering::SeqCst);
    line.loses.store(true, Ordering::SeqCst);
    for expected in ["store_unavailable", "store_unavailable"] {
        let published = governor.publish_policies(&world.owner, publish(without_reading()), None);
        // The second finds a store that answers no question.
        assert_eq!(code(published.await), expected);
    }
    assert_eq!(reads(&world).await, OutcomeKind::Allow, "it is open");
    line.broken.store(false, Ordering::SeqCst);
    let known = async {
        loop {
            let served = governor.policies_in_force(&world.owner).expect("answers");
            if served.version == Some(1) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let known = tokio::time::timeout(Duration::from_secs(20), known).await;
    known.expect("it comes in force");
    assert_eq!(reads(&world).await, OutcomeKind::Deny);
}

#[tokio::test]
async fn an_organization_that_fails_keeps_no_other_back() {
    let world = World::new().await;
    let stranger = world.stranger().await;
    let line = Arc::new(Line::default());
    let governor = behind(&world, &line).await;
    let served = |caller| {
        let served = governor.policies_in_force(caller).expect("answers");
        served.digest.expect("something is served")
    };
    let both = [&world.owner, &stranger];
    for (files, [fails, other]) in [
        (without_reading(), both),
        (starter(), [&stranger, &world.owner]),
    ] {
        let found = bundle(files);
        let before = served(fails);
        *line.refuses.lock() = Some(fails.org());
        let error = governor.reload_policies(Ok(found.clone())).await;
        let failed = error.expect_err("one of them fails").failed;
        let orgs: Vec<OrgId> = failed.iter().map(|(org, _)| *org).collect();
        assert_eq!(orgs, [fails.org()]);
        assert_eq!(served(other), found.digest);
        assert_eq!(served(fails), before);
        *line.refuses.lock() = None;
        let again = governor.reload_policies(Ok(found.clone())).await;
        again.expect("is taken");
        assert_eq!(served(fails), found.digest);
    }
}

fn key(name: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey::new(name).expect("a key"))
}

fn candidate() -> FilesRequest {
    FilesRequest {
        files: without_reading(),
    }
}

/// A call that is repeated says whether its candidate is asked, and not what was so.
#[tokio::test]
async fn a_repeated_start_says_whether_the_candidate_is_asked() {
    let world = World::new().await;
    let start = async |governor: &Governor, name| {
        let started = governor.start_policy_shadow(&world.owner, candidate(), key(name));
        started.await.expect("answers")
    };
    let stop = async |governor: &Governor, name| {
        let stopped = governor.stop_policy_shadow(&world.owner, key(name));
        stopped.await.expect("answers")
    };
    let active = |governor: &Governor| {
        let told = governor.policy_shadow(&world.owner);
        told.expect("answers").active
    };
    let governor = &world.governor;
    let first = start(governor, "start").await;
    assert!(first.active);
    assert_eq!(start(governor, "start").await, first);
    assert!(!stop(governor, "stop").await.active);
    let again = start(governor, "start").await;
    assert!(!again.active, "it was stopped since");
    assert_eq!((again.digest, again.leaf), (first.digest, first.leaf));
    assert!(!active(governor));

    assert!(start(governor, "another").await.active);
    let again = stop(governor, "stop").await;
    assert!(again.active && active(governor), "it was started since");

    let restarted = world.restarted();
    let again = start(&restarted, "another").await;
    assert!(!again.active && !active(&restarted), "a restart ends it");
    let other = FilesRequest { files: starter() };
    let other = restarted.start_policy_shadow(&world.owner, other, None);
    assert!(other.await.expect("starts").active);
    assert!(!start(&restarted, "another").await.active, "it is another");
    assert!(active(&restarted));
    world.check_records().await.expect("the records hold");
}

/// What is in the log is done once the call is repeated by its key.
#[tokio::test]
async fn a_start_or_stop_whose_answer_was_lost_is_done_by_its_key() {
    let world = World::new().await;
    let line = Arc::new(Line::default());
    let governor = behind(&world, &line).await;
    let start = async |name| {
        let started = governor.start_policy_shadow(&world.owner, candidate(), key(name));
        started.await
    };
    let stop = async |name| governor.stop_policy_shadow(&world.owner, key(name)).await;
    let active = || {
        let told = governor.policy_shadow(&world.owner);
        told.expect("answers").active
    };
    line.loses.store(true, Ordering::SeqCst);
    assert_eq!(code(start("start").await), "store_unavailable");
    assert!(!active(), "it is open");
    let started = start("start").await.expect("was started");
    assert!(started.active && started.leaf.is_some());
    assert!(active());

    line.loses.store(true, Ordering::SeqCst);
    assert_eq!(code(stop("stop").await), "store_unavailable");
    assert!(active(), "it is open");
    let stopped = stop("stop").await.expect("was stopped");
    assert!(!stopped.active && stopped.leaf.is_some());
    assert!(!active());
    assert!(!start("start").await.expect("answers").active);
    let kinds = world.kinds();
    for kind in ["policy.shadow_started", "policy.shadow_stopped"] {
        assert_eq!(kinds.iter().filter(|known| *known == kind).count(), 1);
    }

    // A later change overrules what was open.
    line.loses.store(true, Ordering::SeqCst);
    assert_eq!(code(start("open").await), "store_unavailable");
    assert!(start("later").await.expect("starts").active);
    assert!(!stop("end").await.expect("stops").active);
    assert!(!start("open").await.expect("answers").active);
    assert!(!active());
}
