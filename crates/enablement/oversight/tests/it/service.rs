//! The life of a request and of its grant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use creto_errors::{Class, Classify};
use creto_oversight::memory::MemoryOversightStore;
use creto_oversight::{
    Filter, Grant, GrantError, HeldAction, NewRequest, Oversight, OversightConfig, OversightError,
    OversightRequest, State, StateName, Verdict,
};
use creto_types::memory::MemoryCommits;
use creto_types::{
    Commit, IdSource, ManualClock, OrgId, PrincipalName, SeededRandom, StoreError, SystemIds,
    Timestamp,
};
use serde_json::json;

const REQUEST_TTL: Duration = Duration::from_secs(600);
const GRANT_TTL: Duration = Duration::from_secs(60);

/// The delegation that everything is asked under.
const LINK: &str = "lnk_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e";

struct World {
    oversight: Arc<Oversight>,
    commits: Arc<MemoryCommits>,
    clock: Arc<ManualClock>,
    ids: Arc<SystemIds>,
    org: OrgId,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(
            Timestamp::from_second(1_750_000_000).unwrap(),
        ));
        let random = Arc::new(SeededRandom::new(3));
        let ids = Arc::new(SystemIds::new(clock.clone(), random.clone()));
        let commits = Arc::new(MemoryCommits::new());
        let oversight = Oversight::new(
            Arc::new(MemoryOversightStore::new(commits.clone())),
            ids.clone(),
            clock.clone(),
            random,
            OversightConfig {
                request_ttl: REQUEST_TTL,
                grant_ttl: GRANT_TTL,
            },
        );
        let org = (ids.as_ref() as &dyn IdSource).next();
        Self {
            oversight,
            commits,
            clock,
            ids,
            org,
        }
    }

    fn held(&self) -> HeldAction {
        HeldAction {
            org: self.org,
            agent: name("release-bot"),
            action: "release.publish".to_owned(),
            resource: "release:1.0".to_owned(),
            resource_type: None,
            context: serde_json::Map::new(),
            args: json!({"tag": "v1.0", "files": 3}),
            units: 1,
            policy_id: "releases".to_owned(),
            policy_digests: [("releases".to_owned(), "5a".repeat(32))].into(),
        }
    }

    async fn request(&self) -> OversightRequest {
        let draft = self
            .oversight
            .draft_request(NewRequest {
                action_id: (self.ids.as_ref() as &dyn IdSource).next(),
                held: self.held(),
                link: Some(LINK.to_owned()),
                chain: vec![name("owner"), name("release-bot")],
                cost: None,
                spent: None,
                oversight: "owner".to_owned(),
            })
            .unwrap();
        self.oversight
            .create(draft.clone(), Commit::default())
            .await
            .unwrap();
        draft
    }

    async fn draft(
        &self,
        request: &OversightRequest,
        verdict: Verdict,
    ) -> Result<OversightRequest, OversightError> {
        self.oversight
            .draft_decision(self.org, request.id, verdict, name("owner"), None)
            .await
    }

    async fn approve(&self, request: &OversightRequest) -> Grant {
        let next = self.draft(request, Verdict::Approve).await.unwrap();
        let grant = next.grant().unwrap().clone();
        self.oversight
            .decide(next, Commit::default())
            .await
            .unwrap();
        grant
    }

    async fn state(&self, request: &OversightRequest) -> StateName {
        let found = self.oversight.get(self.org, request.id).await.unwrap();
        found.unwrap().state_name()
    }

    async fn check(&self, grant: &Grant, held: &HeldAction) -> Result<String, &'static str> {
        self.oversight
            .check_grant(self.org, grant.as_str(), &held.agent, Some(LINK), held)
            .await
            .map(|granted| granted.policy_digests.into_keys().collect())
            .map_err(|error| error.code())
    }
}

fn name(text: &str) -> PrincipalName {
    text.parse().unwrap()
}

#[tokio::test]
async fn approved_denied_and_expired_are_three_outcomes() {
    let world = World::new();
    let yes = world.request().await;
    world.approve(&yes).await;
    let no = world.request().await;
    let next = world.draft(&no, Verdict::Deny).await.unwrap();
    world
        .oversight
        .decide(next, Commit::default())
        .await
        .unwrap();
    let late = world.request().await;
    world.clock.advance(REQUEST_TTL);
    assert_eq!(world.state(&yes).await, StateName::Approved);
    assert_eq!(world.state(&no).await, StateName::Denied);
    // Shown as expired before anybody recorded it, and after.
    assert_eq!(world.state(&late).await, StateName::Expired);
    let now = creto_types::Clock::now(world.clock.as_ref());
    let due = world.oversight.due(now, 10).await.unwrap();
    assert_eq!(due, std::slice::from_ref(&late));
    let expired = world.oversight.draft_expiry(&due[0]);
    world
        .oversight
        .decide(expired, Commit::default())
        .await
        .unwrap();
    assert_eq!(world.oversight.due(now, 10).await.unwrap(), []);
    assert_eq!(world.state(&late).await, StateName::Expired);
    for (request, code) in [
        (&yes, "oversight_already_decided"),
        (&no, "oversight_already_decided"),
        (&late, "oversight_expired"),
    ] {
        let error = world.draft(request, Verdict::Approve).await.unwrap_err();
        assert_eq!(error.code(), code);
    }
}

#[tokio::test]
async fn the_second_decision_is_refused_and_changes_nothing() {
    let world = World::new();
    let request = world.request().await;
    let yes = world.draft(&request, Verdict::Approve).await.unwrap();
    let no = world.draft(&request, Verdict::Deny).await.unwrap();
    world.oversight.decide(no, Commit::default()).await.unwrap();
    let grant = yes.grant().unwrap().clone();
    let error = world
        .oversight
        .decide(yes, Commit::default())
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        OversightError::Store(StoreError::Conflict { .. })
    ));
    assert_eq!(world.state(&request).await, StateName::Denied);
    assert_eq!(
        world.check(&grant, &world.held()).await,
        Err("grant_unknown")
    );
}

#[tokio::test]
async fn an_approval_that_comes_too_late_is_refused() {
    let world = World::new();
    let request = world.request().await;
    let drafted = world.draft(&request, Verdict::Approve).await.unwrap();
    world.clock.advance(REQUEST_TTL);
    let error = world.draft(&request, Verdict::Approve).await.unwrap_err();
    assert_eq!(error.code(), "oversight_expired");
    // One that was drafted in time and arrives late, too.
    let error = world
        .oversight
        .decide(drafted, Commit::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "oversight_expired");
    assert_eq!(world.state(&request).await, StateName::Expired);
}

#[tokio::test]
async fn nobody_expires_a_request_early_and_no_agent_approves_its_own() {
    let world = World::new();
    let request = world.request().await;
    let mut early = request.clone();
    early.state = State::Expired {
        at: request.expires_at,
    };
    let error = world
        .oversight
        .decide(early, Commit::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "oversight_not_due");
    let undecided = world.oversight.draft_expiry(&request);
    let error = world
        .oversight
        .decide(undecided, Commit::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "oversight_no_decision");
    let own = world
        .oversight
        .draft_decision(
            world.org,
            request.id,
            Verdict::Approve,
            name("release-bot"),
            None,
        )
        .await;
    let error = own.unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("oversight_self_decision", Class::Security)
    );
    assert_eq!(world.state(&request).await, StateName::Pending);
}

#[tokio::test]
async fn a_grant_opens_the_approved_action_and_no_other() {
    let world = World::new();
    let request = world.request().await;
    let grant = world.approve(&request).await;
    let held = world.held();
    assert_eq!(world.check(&grant, &held).await, Ok("releases".to_owned()));
    // The policy of the request counts, whatever the caller says.
    let elsewhere = HeldAction {
        policy_id: String::new(),
        policy_digests: BTreeMap::new(),
        ..held.clone()
    };
    assert_eq!(
        world.check(&grant, &elsewhere).await,
        Ok("releases".to_owned())
    );

    let mut changed = held.clone();
    changed.args["files"] = json!(4);
    let others = [
        changed,
        HeldAction {
            units: 2,
            ..held.clone()
        },
        HeldAction {
            resource: "release:1.1".to_owned(),
            ..held.clone()
        },
        HeldAction {
            action: "release.delete".to_owned(),
            ..held.clone()
        },
    ];
    for other in others {
        assert_eq!(
            world.check(&grant, &other).await,
            Err("grant_action_mismatch")
        );
    }
    let thief = HeldAction {
        agent: name("planner"),
        ..held.clone()
    };
    assert_eq!(world.check(&grant, &thief).await, Err("grant_not_yours"));
    let foreign = (world.ids.as_ref() as &dyn IdSource).next();
    let error = world
        .oversight
        .check_grant(foreign, grant.as_str(), &held.agent, Some(LINK), &held)
        .await
        .unwrap_err();
    assert!(matches!(error, GrantError::Unknown));
    for text in ["", "grt_", "grt_AAAA", &grant.as_str()[1..]] {
        let error = world
            .oversight
            .check_grant(world.org, text, &held.agent, Some(LINK), &held)
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.class()),
            ("grant_unknown", Class::Security)
        );
    }
}

#[tokio::test]
async fn a_grant_holds_for_the_delegation_that_the_approver_saw() {
    let world = World::new();
    let request = world.request().await;
    let grant = world.approve(&request).await;
    let held = world.held();
    let check = async |link| {
        let checked = world
            .oversight
            .check_grant(world.org, grant.as_str(), &held.agent, link, &held)
            .await;
        checked.map(|_| ()).map_err(|error| error.code())
    };
    let other = "lnk_0192f0c4a5e77b3c8d1e2f3a4b5c6d7f";
    assert_eq!(check(Some(other)).await, Err("grant_other_delegation"));
    assert_eq!(check(None).await, Err("grant_other_delegation"));
    assert_eq!(check(Some(LINK)).await, Ok(()));
}

#[tokio::test]
async fn a_grant_has_its_own_expiry() {
    let world = World::new();
    let request = world.request().await;
    let grant = world.approve(&request).await;
    world.clock.advance(GRANT_TTL - Duration::from_nanos(1));
    assert!(world.check(&grant, &world.held()).await.is_ok());
    world.clock.advance(Duration::from_nanos(1));
    assert_eq!(
        world.check(&grant, &world.held()).await,
        Err("grant_expired")
    );
    assert_eq!(world.state(&request).await, StateName::Approved);
}

#[tokio::test]
async fn a_grant_is_used_once() {
    let world = World::new();
    let request = world.request().await;
    let grant = world.approve(&request).await;
    let held = world.held();
    // Two callers got the same answer; the commit decides between them.
    let check = || {
        let (grant, agent) = (grant.as_str(), &held.agent);
        world
            .oversight
            .check_grant(world.org, grant, agent, Some(LINK), &held)
    };
    let (one, two) = (check().await.unwrap(), check().await.unwrap());
    assert_eq!(one.request_id, request.id);
    world
        .commits
        .apply(&Commit::default().with_claim(one.claim))
        .unwrap();
    let error = world
        .commits
        .apply(&Commit::default().with_claim(two.claim.clone()))
        .unwrap_err();
    assert_eq!(
        GrantError::of_commit(error, &two.claim).code(),
        "grant_used"
    );
    assert_eq!(world.check(&grant, &held).await, Err("grant_used"));
    assert_eq!(world.state(&request).await, StateName::Used);
    world.clock.advance(GRANT_TTL);
    assert_eq!(world.check(&grant, &held).await, Err("grant_used"));
}

#[tokio::test]
async fn grants_are_random_and_hidden_in_debug() {
    let world = World::new();
    let request = world.request().await;
    let one = world.draft(&request, Verdict::Approve).await.unwrap();
    let two = world.draft(&request, Verdict::Approve).await.unwrap();
    let text = one.grant().unwrap().as_str();
    assert_ne!(one.grant(), two.grant());
    assert_eq!(text.len(), "grt_".len() + 43);
    assert!(!format!("{one:?}").contains(text));
}

#[tokio::test]
async fn the_same_action_is_asked_once_at_a_time() {
    let world = World::new();
    let first = world.request().await;
    let again = world
        .oversight
        .draft_request(NewRequest {
            action_id: (world.ids.as_ref() as &dyn IdSource).next(),
            held: world.held(),
            link: Some(LINK.to_owned()),
            chain: vec![],
            cost: None,
            spent: None,
            oversight: "owner".to_owned(),
        })
        .unwrap();
    let error = world
        .oversight
        .create(again.clone(), Commit::default())
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        OversightError::Store(StoreError::Conflict { .. })
    ));
    let pending = || {
        world
            .oversight
            .find_pending(world.org, &first.held.agent, Some(LINK), &first.digest)
    };
    assert_eq!(pending().await.unwrap().map(|r| r.id), Some(first.id));
    let next = world.draft(&first, Verdict::Deny).await.unwrap();
    world
        .oversight
        .decide(next, Commit::default())
        .await
        .unwrap();
    assert_eq!(pending().await.unwrap(), None);
    world
        .oversight
        .create(again, Commit::default())
        .await
        .unwrap();
    let all = world
        .oversight
        .list(world.org, Filter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(all.len(), 2);
}

#[tokio::test]
async fn a_reason_has_a_limit() {
    let world = World::new();
    let request = world.request().await;
    let decide = async |length| {
        let reason = Some("ä".repeat(length));
        let verdict = Verdict::Deny;
        let by = name("owner");
        world
            .oversight
            .draft_decision(world.org, request.id, verdict, by, reason)
            .await
    };
    assert!(decide(1_000).await.is_ok());
    let error = decide(1_001).await.unwrap_err();
    assert_eq!(error.code(), "oversight_reason_too_long");
}

#[tokio::test]
async fn whoever_waits_hears_the_decision() {
    let world = World::new();
    let request = world.request().await;
    let long = Duration::from_secs(30);
    let waiters: Vec<_> = (0..16)
        .map(|_| {
            let (oversight, org, id) = (world.oversight.clone(), world.org, request.id);
            tokio::spawn(async move { oversight.wait(org, id, long).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let next = world.draft(&request, Verdict::Deny).await.unwrap();
    world
        .oversight
        .decide(next, Commit::default())
        .await
        .unwrap();
    for waiter in waiters {
        let found = waiter.await.unwrap().unwrap().unwrap();
        assert_eq!(found.state_name(), StateName::Denied);
    }
    // Decided before: no waiting at all.
    let found = world.oversight.wait(world.org, request.id, long).await;
    assert_eq!(found.unwrap().unwrap().state_name(), StateName::Denied);
}

#[tokio::test]
async fn waiting_ends_at_the_timeout_and_at_the_expiry() {
    let world = World::new();
    let request = world.request().await;
    let wait = |timeout| world.oversight.wait(world.org, request.id, timeout);
    let found = wait(Duration::from_millis(5)).await.unwrap().unwrap();
    assert_eq!(found.state_name(), StateName::Pending);
    world.clock.advance(REQUEST_TTL - Duration::from_millis(1));
    let (found, ()) = tokio::join!(wait(Duration::from_secs(30)), async {
        tokio::task::yield_now().await;
        world.clock.advance(Duration::from_millis(1));
    });
    assert_eq!(found.unwrap().unwrap().state_name(), StateName::Expired);
    let unknown = (world.ids.as_ref() as &dyn IdSource).next();
    let found = world
        .oversight
        .wait(world.org, unknown, Duration::from_secs(30))
        .await;
    assert_eq!(found.unwrap(), None);
}
