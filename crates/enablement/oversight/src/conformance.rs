//! The contract of [`OversightStore`] as a test suite. A backend passes it or
//! does not ship.

use std::sync::Arc;

use creto_types::{
    Claim, Commit, Evidence, IdSource, Idempotency, ManualClock, Money, OrgId, PrincipalName,
    SeededRandom, StoreError, SystemIds, Timestamp,
};

use crate::{
    Filter, Grant, HeldAction, OversightError, OversightRequest, OversightStore, PENDING_LIMIT,
    RequestId, State, StateName,
};

/// Runs every check, each on stores from `open`: two calls with one name give the
/// same data, the second as after a restart; the earlier store is dropped before.
///
/// # Panics
///
/// When the backend breaks the contract.
pub async fn run<F, Fut>(open: F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Arc<dyn OversightStore>>,
{
    reads_give_what_was_written(open("reads").await).await;
    a_decision_is_taken_once(open("once").await).await;
    one_pending_request_per_digest(open("pending").await).await;
    delegations_wait_apart(open("links").await).await;
    an_agent_waits_for_so_many_and_no_more(open("limit").await).await;
    use_is_derived_from_the_claims(open("claims").await).await;
    a_refused_commit_changes_nothing(open("refused").await).await;
    organizations_do_not_meet(open("orgs").await).await;
    lists_are_filtered_and_paged(open("lists").await).await;
    due_comes_in_order(open("due").await).await;

    let world = World::new();
    let written = write_one_of_each(&world, open("restart").await).await;
    let store = open("restart").await;
    for expected in written {
        let found = store.get(expected.org, expected.id).await.expect("reads");
        assert_eq!(found, Some(expected), "a restart keeps everything");
    }
}

/// Ids and requests of one test.
struct World {
    ids: SystemIds,
    grants: SeededRandom,
    org: OrgId,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(at(0)));
        let ids = SystemIds::new(clock, Arc::new(SeededRandom::new(7)));
        let org = (&ids as &dyn IdSource).next();
        let grants = SeededRandom::new(8);
        Self { ids, grants, org }
    }

    fn ids(&self) -> &dyn IdSource {
        &self.ids
    }

    fn request(&self, agent: &str, resource: &str) -> OversightRequest {
        let held = HeldAction {
            org: self.org,
            agent: name(agent),
            action: "release.publish".to_owned(),
            resource: resource.to_owned(),
            resource_type: Some("Creto::Release".to_owned()),
            context: [("country".to_owned(), serde_json::json!("DE"))]
                .into_iter()
                .collect(),
            args: serde_json::json!({"version": "1.0", "nested": {"z": [1, null], "a": "ä\u{1}"}}),
            units: 3,
            policy_id: "releases-need-a-human".to_owned(),
            policy_digests: [("releases-need-a-human".to_owned(), "5a".repeat(32))].into(),
        };
        OversightRequest {
            id: self.ids().next(),
            org: self.org,
            action_id: self.ids().next(),
            digest: held.digest().expect("the arguments are plain JSON"),
            held,
            link: Some("lnk_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e".to_owned()),
            chain: vec![name("owner"), name(agent)],
            cost: Some(money("0.10 USD")),
            spent: None,
            oversight: "owner".to_owned(),
            created_at: at(0),
            expires_at: at(100),
            state: State::Pending,
            used: false,
            leaf: None,
        }
    }

    fn commit(&self, kind: &str) -> Commit {
        Commit::of(Evidence {
            org: self.org,
            kind: kind.to_owned(),
            at: at(1),
            actor: name("owner"),
            action_id: None,
            body: serde_json::json!({}),
        })
    }

    fn grant(&self) -> Grant {
        Grant::generate(&self.grants)
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_750_000_000 + second).expect("in range")
}

fn name(text: &str) -> PrincipalName {
    text.parse().expect("a valid name")
}

fn money(text: &str) -> Money {
    text.parse().expect("valid money")
}

fn approved(request: OversightRequest, grant: Grant) -> OversightRequest {
    request
        .approve(name("owner"), at(5), Some("fine".to_owned()), grant, at(50))
        .expect("pending")
}

async fn write_one_of_each(world: &World, store: Arc<dyn OversightStore>) -> Vec<OversightRequest> {
    let mut written = Vec::new();
    let pending = world.request("bot", "pending");
    let yes = world.request("bot", "approved");
    let no = world.request("bot", "denied");
    let late = world.request("bot", "expired");
    for request in [&pending, &yes, &no, &late] {
        let commit = world.commit("oversight.requested");
        let receipt = store
            .insert(request.clone(), commit)
            .await
            .expect("inserts");
        written.push(OversightRequest {
            leaf: receipt.leaf(),
            ..request.clone()
        });
    }
    let decisions = [
        approved(yes, world.grant()),
        no.deny(name("owner"), at(6), None).expect("pending"),
        late.expire(at(100)).expect("due"),
    ];
    for next in decisions {
        let commit = world.commit("oversight.decided");
        let receipt = store.decide(next.clone(), commit).await.expect("decides");
        written.retain(|row| row.id != next.id);
        written.push(OversightRequest {
            leaf: receipt.leaf(),
            ..next
        });
    }
    written
}

async fn reads_give_what_was_written(store: Arc<dyn OversightStore>) {
    let world = World::new();
    for expected in write_one_of_each(&world, Arc::clone(&store)).await {
        let found = store.get(world.org, expected.id).await.expect("reads");
        assert_eq!(found.as_ref(), Some(&expected));
        if let Some(grant) = expected.grant() {
            let found = store.find_by_grant(world.org, grant).await.expect("reads");
            assert_eq!(found.as_ref(), Some(&expected));
        }
    }
    let unknown: RequestId = world.ids().next();
    assert_eq!(store.get(world.org, unknown).await.expect("reads"), None);
    let found = store.find_by_grant(world.org, &world.grant()).await;
    assert_eq!(found.expect("reads"), None);
}

async fn a_decision_is_taken_once(store: Arc<dyn OversightStore>) {
    let world = World::new();
    let request = world.request("bot", "a");
    let denied = request
        .clone()
        .deny(name("owner"), at(6), None)
        .expect("pending");
    let missing = store.decide(denied.clone(), Commit::default()).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));

    store
        .insert(request.clone(), world.commit("oversight.requested"))
        .await
        .expect("inserts");
    let approved = approved(request, world.grant());
    // Everybody at once; whatever the order, one of them goes through.
    let attempts: Vec<_> = (0..8)
        .map(|n| {
            let next = if n % 2 == 0 { &approved } else { &denied }.clone();
            let (store, commit) = (Arc::clone(&store), world.commit("oversight.decided"));
            tokio::spawn(async move { (n % 2 == 0, store.decide(next, commit).await) })
        })
        .collect();
    let mut winner = None;
    for attempt in attempts {
        match attempt.await.expect("joins") {
            (kind, Ok(_)) => assert_eq!(winner.replace(kind), None, "two decisions"),
            (_, Err(error)) => assert!(matches!(error, StoreError::Conflict { .. })),
        }
    }
    let found = store.get(world.org, denied.id).await.expect("reads");
    let found = found.expect("stored");
    let expected = if winner == Some(true) {
        approved.state
    } else {
        denied.state
    };
    assert_eq!(found.state, expected);
    // One leaf for the request and one for the only decision.
    assert_eq!(found.leaf.map(|leaf| leaf.0), Some(1));
}

async fn one_pending_request_per_digest(store: Arc<dyn OversightStore>) {
    let world = World::new();
    let first = world.request("bot", "a");
    let insert = |request: OversightRequest| store.insert(request, Commit::default());
    insert(first.clone()).await.expect("inserts");
    let conflict = |outcome| {
        matches!(
            outcome,
            Err(OversightError::Store(StoreError::Conflict { .. }))
        )
    };
    assert!(conflict(insert(first.clone()).await), "the same id");
    assert!(conflict(insert(world.request("bot", "a")).await));
    insert(world.request("bot", "b"))
        .await
        .expect("another digest");
    insert(world.request("other", "a"))
        .await
        .expect("another agent");

    let find = async |now| {
        let (agent, link) = (&first.held.agent, first.link.as_deref());
        store
            .find_pending(world.org, agent, link, &first.digest, now)
            .await
            .expect("reads")
    };
    assert_eq!(find(at(99)).await.map(|row| row.id), Some(first.id));
    assert_eq!(
        find(at(100)).await,
        None,
        "the expiry is the first instant too late"
    );

    // One that is due stands in nobody's way, recorded as expired or not.
    let mut later = world.request("bot", "a");
    later.created_at = at(100);
    later.expires_at = at(200);
    insert(later.clone()).await.expect("the first is due");
    let expired = first.clone().expire(at(101)).expect("due");
    store
        .decide(expired, Commit::default())
        .await
        .expect("decides");
    assert_eq!(find(at(150)).await.map(|row| row.id), Some(later.id));
}

async fn delegations_wait_apart(store: Arc<dyn OversightStore>) {
    let world = World::new();
    let one = world.request("bot", "a");
    let mut two = world.request("bot", "a");
    two.link = Some("lnk_0192f0c4a5e77b3c8d1e2f3a4b5c6d7f".to_owned());
    let mut none = world.request("bot", "a");
    none.link = None;
    for request in [&one, &two, &none] {
        assert_eq!(request.digest, one.digest);
        store
            .insert(request.clone(), Commit::default())
            .await
            .expect("another delegation");
        let mut again = request.clone();
        again.id = world.ids().next();
        let again = store.insert(again, Commit::default()).await;
        assert!(
            matches!(
                again,
                Err(OversightError::Store(StoreError::Conflict { .. }))
            ),
            "no link equals no link"
        );
    }
    for request in [&one, &two, &none] {
        let (agent, link) = (&request.held.agent, request.link.as_deref());
        let found = store
            .find_pending(world.org, agent, link, &request.digest, at(1))
            .await
            .expect("reads");
        assert_eq!(found.map(|row| row.id), Some(request.id));
    }
}

async fn an_agent_waits_for_so_many_and_no_more(store: Arc<dyn OversightStore>) {
    let world = World::new();
    let asked = PENDING_LIMIT + 8;
    // Everybody at once; whatever the order, so many of them go through.
    let attempts: Vec<_> = (0..asked)
        .map(|n| {
            let request = world.request("bot", &format!("r{n}"));
            let commit = world.commit("oversight.requested");
            let store = Arc::clone(&store);
            tokio::spawn(async move { (request.clone(), store.insert(request, commit).await) })
        })
        .collect();
    let mut waiting = Vec::new();
    for attempt in attempts {
        match attempt.await.expect("joins") {
            (request, Ok(_)) => waiting.push(request),
            (request, Err(error)) => {
                assert!(
                    matches!(&error, OversightError::TooManyPending { agent, limit }
                        if *agent == request.held.agent && *limit == PENDING_LIMIT),
                    "{error}"
                );
                let found = store.get(world.org, request.id).await.expect("reads");
                assert_eq!(found, None, "a refused one is not there");
            }
        }
    }
    assert_eq!(waiting.len(), PENDING_LIMIT);

    let refused = async |resource: &str, second| {
        let mut request = world.request("bot", resource);
        request.created_at = at(second);
        request.expires_at = at(second + 100);
        let outcome = store
            .insert(request, world.commit("oversight.requested"))
            .await;
        match outcome {
            Ok(receipt) => Ok(receipt.leaf().map(|leaf| leaf.0)),
            Err(error) => {
                let full = matches!(error, OversightError::TooManyPending { .. });
                assert!(full, "{error}");
                Err(())
            }
        }
    };
    assert_eq!(refused("more", 99).await, Err(()));
    // Another delegation of the agent does not widen it; another agent or
    // organization is not concerned.
    let mut elsewhere = world.request("bot", "elsewhere");
    elsewhere.link = None;
    let outcome = store.insert(elsewhere.clone(), Commit::default()).await;
    assert!(matches!(
        outcome,
        Err(OversightError::TooManyPending { .. })
    ));
    elsewhere.org = world.ids().next();
    for other in [world.request("other", "a"), elsewhere] {
        store
            .insert(other, Commit::default())
            .await
            .expect("its own");
    }
    // The one that waits already is what a second question is pointed to.
    let first = waiting.first().expect("so many");
    let mut again = first.clone();
    again.id = world.ids().next();
    let again = store.insert(again, Commit::default()).await;
    assert!(matches!(
        again,
        Err(OversightError::Store(StoreError::Conflict { .. }))
    ));

    // A decision makes room for one, and refused ones left no leaf.
    let denied = first
        .clone()
        .deny(name("owner"), at(6), None)
        .expect("pending");
    store
        .decide(denied, world.commit("oversight.decided"))
        .await
        .expect("decides");
    let leaves = u64::try_from(PENDING_LIMIT).expect("small") + 1;
    assert_eq!(refused("room", 99).await, Ok(Some(leaves)));
    assert_eq!(refused("no room", 99).await, Err(()));
    // So does time, recorded or not: all of those are due, and one is not.
    for n in 0..PENDING_LIMIT - 1 {
        assert!(refused(&format!("later{n}"), 100).await.is_ok());
    }
    assert_eq!(refused("too late", 100).await, Err(()));
}

async fn use_is_derived_from_the_claims(store: Arc<dyn OversightStore>) {
    let world = World::new();
    let request = world.request("bot", "a");
    let grant = world.grant();
    let claim = Claim {
        org: world.org,
        token: grant.as_str().to_owned(),
    };
    store
        .insert(request.clone(), Commit::default())
        .await
        .expect("inserts");
    let next = approved(request.clone(), grant.clone());
    store
        .decide(next, Commit::default())
        .await
        .expect("decides");
    let used = async || {
        let by_grant = store.find_by_grant(world.org, &grant).await.expect("reads");
        let by_id = store.get(world.org, request.id).await.expect("reads");
        assert_eq!(by_grant, by_id);
        by_id.expect("stored").used
    };
    assert!(!used().await);

    // Any commit may carry the claim.
    let other = world.request("bot", "b");
    let carrier = world.commit("action.decided").with_claim(claim.clone());
    store.insert(other, carrier).await.expect("the first claim");
    assert!(used().await);

    let again = world.request("bot", "c");
    let id = again.id;
    let refused = store
        .insert(
            again,
            world.commit("action.decided").with_claim(claim.clone()),
        )
        .await;
    assert!(
        matches!(&refused, Err(OversightError::Store(StoreError::AlreadyClaimed { claim: taken }))
            if *taken == claim)
    );
    assert_eq!(store.get(world.org, id).await.expect("reads"), None);
}

async fn a_refused_commit_changes_nothing(store: Arc<dyn OversightStore>) {
    let world = World::new();
    let record = |world: &World| Idempotency {
        org: world.org,
        caller: name("owner"),
        key: "k".to_owned(),
        request_digest: [1; 32],
        response: serde_json::json!({"first": true}),
        turn: creto_types::Turn::default(),
    };
    let request = world.request("bot", "a");
    let commit = world
        .commit("oversight.requested")
        .with_idempotency(Some(record(&world)));
    store
        .insert(request.clone(), commit.clone())
        .await
        .expect("inserts");
    // The very same call again gives the reply, not a conflict.
    let replayed = |outcome| match outcome {
        Err(OversightError::Store(StoreError::Replayed(reply))) => {
            reply.leaves.first().map(|leaf| leaf.0) == Some(0)
        }
        _ => false,
    };
    assert!(replayed(
        store.insert(request.clone(), commit.clone()).await
    ));

    let denied = request
        .clone()
        .deny(name("owner"), at(6), None)
        .expect("pending");
    let decided = store.decide(denied.clone(), commit).await;
    assert!(replayed(decided.map_err(OversightError::from)));
    let found = store.get(world.org, request.id).await.expect("reads");
    assert_eq!(found.map(|row| row.state), Some(State::Pending));
    let receipt = store
        .decide(denied, world.commit("oversight.decided"))
        .await;
    let leaf = receipt.expect("decides").leaf();
    assert_eq!(
        leaf.map(|leaf| leaf.0),
        Some(1),
        "refused commits left no leaf"
    );
}

async fn organizations_do_not_meet(store: Arc<dyn OversightStore>) {
    let world = World::new();
    let other: OrgId = world.ids().next();
    let request = world.request("bot", "a");
    let grant = world.grant();
    store
        .insert(request.clone(), Commit::default())
        .await
        .expect("inserts");
    let find = store
        .find_pending(
            other,
            &request.held.agent,
            request.link.as_deref(),
            &request.digest,
            at(1),
        )
        .await;
    assert_eq!(find.expect("reads"), None);
    let mut foreign = approved(request.clone(), grant.clone());
    store
        .decide(foreign.clone(), Commit::default())
        .await
        .expect("decides");
    foreign.org = other;
    let decide = store.decide(foreign, Commit::default()).await;
    assert!(matches!(decide, Err(StoreError::NotFound { .. })));
    assert_eq!(store.get(other, request.id).await.expect("reads"), None);
    let by_grant = store.find_by_grant(other, &grant).await.expect("reads");
    assert_eq!(by_grant, None);
    let list = store.list(other, &Filter::default(), at(1), None, 10).await;
    assert_eq!(list.expect("reads"), []);
    // The same token claimed in another organization is another claim.
    let claim = Claim {
        org: other,
        token: grant.as_str().to_owned(),
    };
    store
        .insert(
            world.request("bot", "b"),
            Commit::default().with_claim(claim),
        )
        .await
        .expect("inserts");
    let found = store.get(world.org, request.id).await.expect("reads");
    assert!(!found.expect("stored").used);
}

async fn lists_are_filtered_and_paged(store: Arc<dyn OversightStore>) {
    let world = World::new();
    let written = write_one_of_each(&world, Arc::clone(&store)).await;
    let mut used = world.request("other", "used");
    store
        .insert(used.clone(), Commit::default())
        .await
        .expect("inserts");
    let grant = world.grant();
    used = approved(used, grant.clone());
    let claim = Claim {
        org: world.org,
        token: grant.as_str().to_owned(),
    };
    store
        .decide(used.clone(), Commit::default().with_claim(claim))
        .await
        .expect("decides");

    let list = async |filter: Filter, now, after, limit| -> Vec<RequestId> {
        let rows = store.list(world.org, &filter, now, after, limit).await;
        rows.expect("reads").into_iter().map(|row| row.id).collect()
    };
    let mut all: Vec<_> = written.iter().map(|row| row.id).chain([used.id]).collect();
    all.sort_unstable();
    assert_eq!(list(Filter::default(), at(1), None, 10).await, all);
    let first = list(Filter::default(), at(1), None, 2).await;
    let rest = list(Filter::default(), at(1), first.last().copied(), 10).await;
    assert_eq!([first, rest].concat(), all);

    let of = |state| Filter {
        state: Some(state),
        agent: None,
    };
    let id_of = |state| {
        written
            .iter()
            .find(|row| row.state_name() == state)
            .map(|row| row.id)
            .expect("one of each")
    };
    for state in [StateName::Pending, StateName::Approved, StateName::Denied] {
        assert_eq!(
            list(of(state), at(99), None, 10).await,
            [id_of(state)],
            "{state}"
        );
    }
    assert_eq!(list(of(StateName::Used), at(99), None, 10).await, [used.id]);
    let expired = id_of(StateName::Expired);
    assert_eq!(
        list(of(StateName::Expired), at(99), None, 10).await,
        [expired]
    );
    // From its expiry on, the pending one counts as expired.
    assert_eq!(list(of(StateName::Pending), at(100), None, 10).await, []);
    let mut both = vec![expired, id_of(StateName::Pending)];
    both.sort_unstable();
    assert_eq!(list(of(StateName::Expired), at(100), None, 10).await, both);

    let other = Filter {
        agent: Some(name("other")),
        state: None,
    };
    assert_eq!(list(other, at(1), None, 10).await, [used.id]);
}

async fn due_comes_in_order(store: Arc<dyn OversightStore>) {
    let world = World::new();
    let mut rows = Vec::new();
    for (resource, expiry) in [("a", 30), ("b", 10), ("c", 20)] {
        let mut request = world.request("bot", resource);
        // A fraction of a second must not change the order.
        request.expires_at =
            Timestamp::from_nanosecond(at(expiry).as_nanosecond() + 5).expect("in range");
        store
            .insert(request.clone(), Commit::default())
            .await
            .expect("inserts");
        rows.push(request);
    }
    let due = async |now, limit| -> Vec<String> {
        let rows = store.due(now, limit).await.expect("reads");
        rows.into_iter().map(|row| row.held.resource).collect()
    };
    assert_eq!(due(at(10), 10).await, [""; 0]);
    assert_eq!(due(at(21), 10).await, ["b", "c"]);
    assert_eq!(due(at(99), 2).await, ["b", "c"]);
    for row in rows {
        let expired = row.expire(at(99)).expect("due");
        store
            .decide(expired, Commit::default())
            .await
            .expect("decides");
    }
    assert_eq!(due(at(99), 10).await, [""; 0]);
}
