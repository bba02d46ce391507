//! The contract of the governor's ports as a test suite. A backend passes it or
//! does not ship.

use std::sync::Arc;

use creto_audit::{PAYLOADS_EXPIRED, RecordClass, SUBJECT_ERASED, Withheld};
use creto_types::{
    ActionId, Claim, Commit, Evidence, IdSource, Idempotency, LeafIndex, ManualClock, OrgId,
    SeededRandom, StoreError, SubjectId, SystemIds, Timestamp,
};
use serde_json::json;

use crate::policies::PolicyFiles;
use crate::{
    ACTION_DECIDED, ActionRecords, CommitStore, EGRESS_CHECKED, Erasure, Expiry, PolicyStore,
    PolicyVersion, Replies, SandboxAnswer, SandboxRow, SandboxState, SandboxStore, ServedPolicies,
    SubjectStore,
};

/// One backend behind all of the governor's ports.
#[derive(Clone)]
pub struct Backend {
    /// Evidence without a change of state.
    pub commits: Arc<dyn CommitStore>,
    /// Replies kept for idempotency keys.
    pub replies: Arc<dyn Replies>,
    /// The journal by action.
    pub records: Arc<dyn ActionRecords>,
    /// Sandboxes.
    pub sandboxes: Arc<dyn SandboxStore>,
    /// Published policies.
    pub policies: Arc<dyn PolicyStore>,
    /// Whose records there are.
    pub subjects: Arc<dyn SubjectStore>,
}

/// Runs every check on a backend that holds nothing.
///
/// # Panics
///
/// When the backend breaks the contract.
pub async fn run(backend: Backend) {
    let world = World::new();
    a_commit_is_all_or_nothing(&backend, &world).await;
    a_reply_is_found_by_its_caller_alone(&backend, &world).await;
    an_action_is_found_in_its_organization_alone(&backend, &world).await;
    a_sandbox_is_replaced_and_listed(&backend, &world).await;
    decisions_come_newest_first(&backend, &world).await;
    versions_count_up_and_stay(&backend, &world).await;
    one_of_two_concurrent_publications_wins(&backend, &world).await;
    what_is_served_follows_the_last_change(&backend, &world).await;
    nobody_is_erased_who_is_not_suspended(&backend, &world).await;
    payloads_end_once_and_on_record(&backend, &world).await;
}

struct World {
    ids: SystemIds,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        Self {
            ids: SystemIds::new(clock, Arc::new(SeededRandom::new(11))),
        }
    }

    fn ids(&self) -> &dyn IdSource {
        &self.ids
    }

    fn org(&self) -> OrgId {
        self.ids().next()
    }
}

fn evidence(org: OrgId, action_id: Option<ActionId>) -> Evidence {
    Evidence {
        org,
        kind: "test.happened".to_owned(),
        at: Timestamp::UNIX_EPOCH,
        actor: "planner".parse().expect("a name"),
        action_id,
        body: json!({ "n": 1 }),
    }
}

fn reply(org: OrgId, key: &str) -> Idempotency {
    Idempotency {
        org,
        caller: "planner".parse().expect("a name"),
        key: key.to_owned(),
        request_digest: [7; 32],
        response: json!({ "answer": 42 }),
        turn: creto_types::Turn::default(),
    }
}

async fn a_commit_is_all_or_nothing(backend: &Backend, world: &World) {
    let org = world.org();
    let claim = Claim {
        org,
        token: "grt_once".to_owned(),
    };
    let first = Commit::of(evidence(org, None))
        .with_idempotency(Some(reply(org, "k1")))
        .with_claim(claim.clone());
    let receipt = backend.commits.commit(first).await.expect("commits");
    assert_eq!(receipt.leaves, vec![LeafIndex(0)]);

    let again = Commit::of(evidence(org, None))
        .with_idempotency(Some(reply(org, "k2")))
        .with_claim(claim);
    let refused = backend.commits.commit(again).await;
    assert!(matches!(refused, Err(StoreError::AlreadyClaimed { .. })));
    let caller = "planner".parse().expect("a name");
    let found = backend.replies.find(org, &caller, "k2").await;
    assert_eq!(found.expect("reads"), None, "nothing of it was kept");

    let replayed = Commit::of(evidence(org, None)).with_idempotency(Some(reply(org, "k1")));
    let stored = match backend.commits.commit(replayed).await {
        Err(StoreError::Replayed(stored)) => Some(*stored),
        _ => None,
    };
    let stored = stored.expect("a used key gives its reply");
    assert_eq!(stored.leaves, vec![LeafIndex(0)]);
    assert_eq!(stored.response, json!({ "answer": 42 }));
    let next = backend
        .commits
        .commit(Commit::of(evidence(org, None)))
        .await;
    assert_eq!(
        next.expect("commits").leaves,
        vec![LeafIndex(1)],
        "what was refused took no leaf"
    );
}

async fn a_reply_is_found_by_its_caller_alone(backend: &Backend, world: &World) {
    let (org, other) = (world.org(), world.org());
    let commit = Commit::default().with_idempotency(Some(reply(org, "k")));
    backend.commits.commit(commit).await.expect("commits");
    let caller = "planner".parse().expect("a name");
    let stranger = "stranger".parse().expect("a name");
    let replies = &backend.replies;
    assert!(
        replies
            .find(org, &caller, "k")
            .await
            .expect("reads")
            .is_some()
    );
    assert!(
        replies
            .find(other, &caller, "k")
            .await
            .expect("reads")
            .is_none()
    );
    assert!(
        replies
            .find(org, &stranger, "k")
            .await
            .expect("reads")
            .is_none()
    );
}

async fn an_action_is_found_in_its_organization_alone(backend: &Backend, world: &World) {
    let (org, other) = (world.org(), world.org());
    let action: ActionId = world.ids().next();
    for about in [Some(action), None, Some(action)] {
        let commit = Commit::of(evidence(org, about));
        backend.commits.commit(commit).await.expect("commits");
    }
    let found = backend.records.records(org, action).await.expect("reads");
    let leaves: Vec<LeafIndex> = found.iter().map(|(leaf, _)| *leaf).collect();
    assert_eq!(leaves, vec![LeafIndex(0), LeafIndex(2)]);
    for (leaf, stored) in found {
        let record = stored.read().expect("it is a record").whole();
        let record = record.expect("nothing is withheld");
        assert_eq!(record.get("index"), Some(&json!(leaf)));
        assert_eq!(record.get("kind"), Some(&json!("test.happened")));
    }
    let elsewhere = backend.records.records(other, action).await;
    assert_eq!(elsewhere.expect("reads"), vec![]);
}

async fn nobody_is_erased_who_is_not_suspended(backend: &Backend, world: &World) {
    let org = world.org();
    let action: ActionId = world.ids().next();
    let (subjects, planner) = (&backend.subjects, "planner".parse().expect("a name"));
    assert_eq!(subjects.subject(org, &planner).await.expect("reads"), None);
    let commit = Commit::of(evidence(org, Some(action)));
    backend.commits.commit(commit).await.expect("commits");
    let erasure = Erasure {
        org,
        person: planner,
        subject: SubjectId::of_random([9; 16]),
    };
    let commit = Commit::of(evidence(org, Some(action)));
    let refused = subjects.erase(erasure, commit).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })));
    let records = backend.records.records(org, action).await.expect("reads");
    assert_eq!(records.len(), 1, "what was refused took no leaf");
    let stored = records.first().map(|(_, stored)| stored.read());
    let read = stored.expect("it is there").expect("it is a record");
    assert_eq!(read.withheld(), None);
}

async fn payloads_end_once_and_on_record(backend: &Backend, world: &World) {
    let org = world.org();
    let action: ActionId = world.ids().next();
    let day = |day: i64| Timestamp::from_second(day * 86_400).expect("an instant");
    let of = |kind: &str, at| Evidence {
        kind: kind.to_owned(),
        at,
        ..evidence(org, Some(action))
    };
    let subjects = &backend.subjects;
    let newest = async || subjects.newest(org).await.expect("reads");
    assert_eq!(newest().await, None);
    for (kind, at) in [
        ("test.happened", day(1)),
        (SUBJECT_ERASED, day(1)),
        ("delegation.granted", day(1)),
        ("test.happened", day(2)),
        ("test.happened", day(4)),
    ] {
        let commit = Commit::of(of(kind, at));
        backend.commits.commit(commit).await.expect("commits");
        assert_eq!(newest().await, Some(at));
    }
    let evidence = RecordClass::Evidence;
    let expirable = async |class, before| {
        let found = subjects.expirable(org, class, before).await;
        found.expect("reads")
    };
    assert_eq!(expirable(evidence, day(1)).await, None);
    assert_eq!(expirable(RecordClass::Trace, day(9)).await, None);
    assert_eq!(expirable(evidence, day(3)).await, Some(LeafIndex(3)));
    let expiry = Expiry {
        org,
        class: evidence,
        through: LeafIndex(3),
    };
    let ended = Commit::of(of(PAYLOADS_EXPIRED, day(5)));
    let receipt = subjects.expire(expiry.clone(), ended.clone()).await;
    assert_eq!(receipt.expect("ends").leaves, vec![LeafIndex(5)]);
    let again = subjects.expire(expiry, ended).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })));
    subjects.sweep().await.expect("sweeps");
    assert_eq!(expirable(evidence, day(3)).await, None, "once");

    let records = backend.records.records(org, action).await.expect("reads");
    let withheld: Vec<_> = records
        .iter()
        .map(|(_, stored)| stored.read().expect("it is a record").withheld())
        .collect();
    let expired = Some(Withheld::Expired);
    assert_eq!(withheld, vec![expired, None, None, expired, None, None]);
}

async fn a_sandbox_is_replaced_and_listed(backend: &Backend, world: &World) {
    let (org, other) = (world.org(), world.org());
    let row = |id: &str, state| SandboxRow {
        org,
        answer: SandboxAnswer {
            id: id.to_owned(),
            agent: "release-bot".parse().expect("a name"),
            delegation: "lnk_1".to_owned(),
            argv: vec!["true".to_owned()],
            state,
            exit: None,
            exit_code: None,
            stdout: None,
            stderr: None,
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: None,
            leaf: None,
        },
    };
    let store = &backend.sandboxes;
    for id in ["sbx_1", "sbx_2", "sbx_3"] {
        let commit = Commit::of(evidence(org, None));
        let stored = store.put(row(id, SandboxState::Running), commit).await;
        stored.expect("stores");
    }
    let ended = row("sbx_2", SandboxState::Exited);
    let commit = Commit::of(evidence(org, None));
    store.put(ended.clone(), commit).await.expect("replaces");

    let mut expected = ended;
    expected.answer.leaf = Some(LeafIndex(3));
    assert_eq!(
        store.get(org, "sbx_2").await.expect("reads"),
        Some(expected)
    );
    assert_eq!(store.get(other, "sbx_2").await.expect("reads"), None);
    assert_eq!(store.get(org, "sbx_9").await.expect("reads"), None);

    let ids = |rows: Vec<SandboxRow>| -> Vec<String> {
        rows.into_iter().map(|row| row.answer.id).collect()
    };
    let running = store.running().await.expect("reads");
    assert_eq!(ids(running), ["sbx_1", "sbx_3"]);
    let page = store.list(org, Some("sbx_1"), 1).await.expect("reads");
    assert_eq!(ids(page), ["sbx_2"]);
    let all = store.list(org, None, 10).await.expect("reads");
    assert_eq!(ids(all), ["sbx_1", "sbx_2", "sbx_3"]);
    assert_eq!(store.list(other, None, 10).await.expect("reads"), vec![]);
}

async fn decisions_come_newest_first(backend: &Backend, world: &World) {
    let (org, other) = (world.org(), world.org());
    for kind in [
        ACTION_DECIDED,
        "test.happened",
        EGRESS_CHECKED,
        ACTION_DECIDED,
    ] {
        let record = Evidence {
            kind: kind.to_owned(),
            ..evidence(org, Some(world.ids().next()))
        };
        backend
            .commits
            .commit(Commit::of(record))
            .await
            .expect("commits");
    }
    let leaves = async |org, before, limit| {
        let found = backend.records.decisions(org, before, limit).await;
        let found = found.expect("reads").into_iter();
        found.map(|(leaf, _)| leaf.0).collect::<Vec<_>>()
    };
    assert_eq!(leaves(org, None, 10).await, [3, 2, 0]);
    assert_eq!(leaves(org, None, 2).await, [3, 2]);
    assert_eq!(leaves(org, Some(LeafIndex(2)), 10).await, [0]);
    assert_eq!(leaves(org, Some(LeafIndex(0)), 10).await, [0_u64; 0]);
    assert_eq!(leaves(other, None, 10).await, [0_u64; 0]);
}

fn version(org: OrgId, version: u64, reason: &str) -> PolicyVersion {
    PolicyVersion {
        org,
        version,
        digest: format!("digest-{version}"),
        author: "alice".parse().expect("a name"),
        reason: reason.to_owned(),
        published_at: Timestamp::UNIX_EPOCH,
        restores: version.checked_sub(2),
        leaf: None,
    }
}

fn files(text: &str) -> PolicyFiles {
    let files = [("a.cedar".to_owned(), text.to_owned())];
    PolicyFiles::new(files.into()).expect("a bundle")
}

async fn versions_count_up_and_stay(backend: &Backend, world: &World) {
    let (org, other) = (world.org(), world.org());
    let store = &backend.policies;
    assert_eq!(store.list(org, None, 10).await.expect("reads"), vec![]);
    assert_eq!(store.get(org, 1).await.expect("reads"), None);
    for number in [0, 2] {
        let commit = Commit::of(evidence(org, None));
        let refused = store
            .publish(version(org, number, "gap"), files("x"), commit)
            .await;
        assert!(
            matches!(refused, Err(StoreError::Conflict { .. })),
            "{number}"
        );
    }
    for number in 1..=3 {
        let commit = Commit::of(evidence(org, None));
        let text = format!("text {number}");
        let published = store
            .publish(version(org, number, "because"), files(&text), commit)
            .await;
        let leaf = published.expect("publishes").leaf();
        assert_eq!(
            leaf,
            Some(LeafIndex(number - 1)),
            "what was refused took no leaf"
        );
    }
    let expected = PolicyVersion {
        leaf: Some(LeafIndex(1)),
        ..version(org, 2, "because")
    };
    let found = store.get(org, 2).await.expect("reads");
    assert_eq!(found, Some((expected, files("text 2"))));
    assert_eq!(store.get(other, 2).await.expect("reads"), None);
    let numbers = async |org, before, limit| {
        let found = store.list(org, before, limit).await.expect("reads");
        found
            .into_iter()
            .map(|found| found.version)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(org, None, 10).await, [3, 2, 1]);
    assert_eq!(numbers(org, None, 2).await, [3, 2]);
    assert_eq!(numbers(org, Some(3), 10).await, [2, 1]);
    assert_eq!(numbers(other, None, 10).await, [0_u64; 0]);

    // A repeated call gives its reply, whatever was published since.
    let keyed = || Commit::of(evidence(org, None)).with_idempotency(Some(reply(org, "publish")));
    store
        .publish(version(org, 4, "keyed"), files("4"), keyed())
        .await
        .expect("publishes");
    for number in [4, 5] {
        let again = store
            .publish(version(org, number, "keyed"), files("4"), keyed())
            .await;
        assert!(matches!(again, Err(StoreError::Replayed(_))), "{number}");
    }
    assert_eq!(numbers(org, None, 1).await, [4]);
}

async fn one_of_two_concurrent_publications_wins(backend: &Backend, world: &World) {
    let org = world.org();
    let publish = |reason: &'static str| {
        let store = Arc::clone(&backend.policies);
        let commit = Commit::of(evidence(org, None));
        tokio::spawn(async move {
            store
                .publish(version(org, 1, reason), files(reason), commit)
                .await
        })
    };
    let (one, two) = (publish("one"), publish("two"));
    let outcomes = [one.await.expect("ends"), two.await.expect("ends")];
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(won, 1, "{outcomes:?}");
    let versions = backend.policies.list(org, None, 10).await.expect("reads");
    assert_eq!(versions.len(), 1);
}

async fn what_is_served_follows_the_last_change(backend: &Backend, world: &World) {
    let (org, other) = (world.org(), world.org());
    let store = &backend.policies;
    let served = async |org| store.served(org).await.expect("reads");
    let commit = || Commit::of(evidence(org, None));
    let follow = async |digest: &str| {
        let followed = store
            .follow_directory(org, digest.to_owned(), files(digest), commit())
            .await;
        followed.expect("follows");
        Some(ServedPolicies::Directory {
            digest: digest.to_owned(),
        })
    };
    assert_eq!(served(org).await, None);
    assert_eq!(follow("one").await, served(org).await);
    assert_eq!(follow("two").await, served(org).await);
    for number in 1..=2 {
        store
            .publish(version(org, number, "r"), files("x"), commit())
            .await
            .expect("publishes");
        let published = ServedPolicies::Published { version: number };
        assert_eq!(served(org).await, Some(published));
    }
    assert_eq!(follow("three").await, served(org).await);
    assert_eq!(served(other).await, None);
    // All of it is kept, by digest.
    let mut kept = Vec::new();
    let mut after: Option<String> = None;
    while let Some((digest, of)) = store.bundle(org, after.as_deref()).await.expect("reads") {
        kept.push((digest.clone(), of));
        after = Some(digest);
    }
    let expected = [
        ("digest-1", "x"),
        ("digest-2", "x"),
        ("one", "one"),
        ("three", "three"),
        ("two", "two"),
    ];
    let expected = expected.map(|(digest, text)| (digest.to_owned(), files(text)));
    assert_eq!(kept, expected);
    assert_eq!(store.bundle(other, None).await.expect("reads"), None);
    let one = async |org, digest: &str| store.kept(org, digest).await.expect("reads");
    assert_eq!(one(org, "two").await, Some(files("two")));
    assert_eq!(one(org, "tw").await, None);
    assert_eq!(one(other, "two").await, None);
    // Following the directory forgets no version.
    let versions = store.list(org, None, 1).await.expect("reads");
    assert_eq!(versions.first().map(|version| version.version), Some(2));
}
