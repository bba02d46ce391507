//! Searching, over an index that follows the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use creto_audit::conformance::{index_finds, org};
use creto_audit::memory::{MemoryIndex, MemoryIndexKeys};
use creto_audit::{
    Audit, IndexKey, IndexKeys, Journal as _, RecordClass, SearchField, SearchIndex as _,
    SearchPage, SearchQuery, SearchTerm,
};
use creto_errors::Classify as _;
use creto_types::{Evidence, LeafIndex, OrgId, StoreError, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use crate::World;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn said(actor: &str, kind: &str, second: i64, body: serde_json::Value) -> Evidence {
    Evidence {
        org: org(1),
        kind: kind.to_owned(),
        at: at(second),
        actor: actor.parse().unwrap(),
        action_id: None,
        body,
    }
}

fn decided(actor: &str, second: i64, outcome: &str, links: &[&str]) -> Evidence {
    let body = json!({
        "action": "release.publish",
        "resource": "repo:creto",
        "outcome": outcome,
        "delegations": links,
    });
    said(actor, "action.decided", second, body)
}

fn granted(id: &str, from: &str, to: &str, parent: Option<&str>) -> Evidence {
    let link = json!({ "id": id, "delegator": from, "delegatee": to, "parent": parent });
    said(
        from,
        "delegation.granted",
        0,
        json!({ "link": link, "signature": {} }),
    )
}

async fn append(world: &World, records: Vec<Evidence>) {
    let class = RecordClass::Evidence;
    world.journal.append(class, records).await.unwrap();
}

fn wanted(terms: &[(SearchField, &str)], limit: usize) -> SearchQuery {
    SearchQuery {
        terms: terms
            .iter()
            .map(|(field, value)| SearchTerm::new(*field, *value))
            .collect(),
        limit,
        ..SearchQuery::default()
    }
}

async fn places(audit: &Audit, terms: &[(SearchField, &str)]) -> Vec<u64> {
    let page = audit.search(org(1), wanted(terms, 100)).await.unwrap();
    assert_eq!((page.searched, page.next), (page.size, None));
    page.records.iter().map(|(leaf, _)| leaf.0).collect()
}

#[tokio::test]
async fn the_index_in_memory_keeps_the_contract() {
    index_finds(&MemoryIndex::new()).await;
}

#[tokio::test]
async fn without_an_index_there_is_no_search() {
    let audit = World::new().open().await.unwrap();
    let refused = audit.search(org(1), SearchQuery::default()).await;
    assert_eq!(refused.unwrap_err().code(), "log_not_indexed");
}

/// Keys that may be away.
#[derive(Default)]
struct Keys(AtomicBool);

#[async_trait]
impl IndexKeys for Keys {
    async fn key(&self, org: OrgId) -> Result<IndexKey, StoreError> {
        match self.0.load(Ordering::SeqCst) {
            true => MemoryIndexKeys.key(org).await,
            false => Err(StoreError::Unavailable("away".into())),
        }
    }
}

/// Nothing is indexed without the key, nor found; with it all is.
#[tokio::test]
async fn an_index_waits_for_its_key() {
    let world = World::new();
    let (audit, index) = (world.open().await.unwrap(), Arc::new(MemoryIndex::new()));
    let keys = Arc::new(Keys::default());
    audit.index_with(index.clone(), keys.clone());
    let bot = [(SearchField::Agent, "bot")];
    // Of a log without leaves there is nothing to ask for.
    assert_eq!(places(&audit, &bot).await, [0_u64; 0]);
    append(&world, vec![decided("bot", 0, "allow", &[])]).await;
    let page = audit.search(org(1), wanted(&bot, 1)).await.unwrap();
    assert_eq!((page.searched, page.size), (0, 1));
    assert_eq!(index.covered(org(1)).await.unwrap(), 0);
    keys.0.store(true, Ordering::SeqCst);
    while index.covered(org(1)).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(places(&audit, &bot).await, [0]);
    keys.0.store(false, Ordering::SeqCst);
    let refused = audit.search(org(1), wanted(&bot, 1)).await.unwrap_err();
    assert_eq!(refused.code(), "store_unavailable");
}

#[tokio::test]
async fn whoever_stands_in_a_chain_is_found_by_what_came_of_it() {
    use SearchField::{Agent, Member, Resource};
    let world = World::new();
    let egress = json!({ "sandbox_id": "sbx_1", "destination": "example.test" });
    let host = json!({ "resource": { "type": "Creto::Host", "id": "example.test" } });
    append(
        &world,
        vec![
            granted("dlg_1", "alice", "planner", None),
            granted("dlg_2", "planner", "bot", Some("dlg_1")),
            decided("bot", 1, "allow", &["dlg_1", "dlg_2"]),
            decided("planner", 2, "deny", &["dlg_1"]),
            said(
                "bot",
                "sandbox.started",
                3,
                json!({
                    "sandbox_id": "sbx_1", "agent": "bot", "delegation": "dlg_2"
                }),
            ),
            said("bot", "egress.checked", 4, egress),
            said("carol", "oversight.approved", 5, json!({ "agent": "bot" })),
            said("dave", "action.decided", 6, host),
            said(
                "alice",
                "delegation.revoked",
                7,
                json!({ "id": "dlg_2", "delegatee": "bot" }),
            ),
        ],
    )
    .await;
    let audit = world.open().await.unwrap();
    audit.index_with(Arc::new(MemoryIndex::new()), Arc::new(MemoryIndexKeys));
    for (field, value, expected) in [
        (Member, "alice", vec![8, 5, 4, 3, 2, 1, 0]),
        (Member, "planner", vec![8, 5, 4, 3, 2, 1, 0]),
        (Member, "bot", vec![8, 6, 5, 4, 2, 1]),
        (Member, "dlg_2", vec![8, 5, 4, 2, 1]),
        (Agent, "bot", vec![6, 5, 4, 2]),
        (Agent, "planner", vec![3, 1]),
        (Resource, "example.test", vec![7, 5]),
        (Resource, "Creto::Host::example.test", vec![7]),
        (Resource, "repo:creto", vec![3, 2]),
        (Resource, "repo", vec![]),
    ] {
        assert_eq!(
            places(&audit, &[(field, value)]).await,
            expected,
            "{field:?} {value}"
        );
    }
}

#[tokio::test]
async fn what_was_written_just_now_is_found() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    audit.index_with(Arc::new(MemoryIndex::new()), Arc::new(MemoryIndexKeys));
    for n in 0..20 {
        append(&world, vec![decided("bot", n, "allow", &[])]).await;
        // Nobody told the log.
        let found = places(&audit, &[(SearchField::Agent, "bot")]).await;
        assert_eq!(found.len() as i64, n + 1);
    }
}

#[tokio::test]
async fn an_index_that_is_behind_says_how_far_it_is_and_goes_on_after_a_restart() {
    let world = World::new();
    let records: Vec<_> = (0..1_000)
        .map(|n| decided("bot", n, "allow", &[]))
        .collect();
    append(&world, records).await;
    for applied in [false, true] {
        let index = Arc::new(MemoryIndex::new());
        index.fail_extensions(1, usize::MAX, applied);
        let audit = world.open().await.unwrap();
        audit.index_with(index.clone(), Arc::new(MemoryIndexKeys));
        let bot = [(SearchField::Agent, "bot")];
        let page = audit.search(org(1), wanted(&bot, 1)).await.unwrap();
        assert_eq!(page.size, 1_000);
        assert!(page.searched < 1_000, "{}", page.searched);
        assert!(page.searched >= 256, "{}", page.searched);
        assert_eq!(page.records[0].0, LeafIndex(page.searched - 1));
        drop(audit);
        // The follower ends, with its last batch.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = index.covered(org(1)).await.unwrap();
        assert!(before < 1_000);

        index.fail_extensions(0, 0, false);
        let audit = world.open().await.unwrap();
        audit.index_with(index.clone(), Arc::new(MemoryIndexKeys));
        let page = audit.search(org(1), wanted(&bot, 1_000)).await.unwrap();
        assert_eq!((page.searched, page.records.len()), (1_000, 1_000));
    }
}

#[tokio::test]
async fn a_rare_match_among_many_takes_more_pages_and_is_found() {
    use SearchField::{Agent, Outcome};
    let world = World::new();
    // No two leaves in a row say both: each look skips one leaf only.
    let mut records = vec![decided("bot", 0, "deny", &[])];
    for n in 0..12_000 {
        let (who, outcome) = if n % 2 == 0 {
            ("bot", "allow")
        } else {
            ("other", "deny")
        };
        records.push(decided(who, n, outcome, &[]));
    }
    append(&world, records).await;
    let audit = world.open().await.unwrap();
    audit.index_with(Arc::new(MemoryIndex::new()), Arc::new(MemoryIndexKeys));
    let mut query = wanted(&[(Agent, "bot"), (Outcome, "deny")], 10);
    while audit.search(org(1), query.clone()).await.unwrap().searched < 12_001 {}
    let page = audit.search(org(1), query.clone()).await.unwrap();
    assert!(page.records.is_empty());
    query.before = page.next;
    assert!(query.before.is_some());
    let page = audit.search(org(1), query).await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!((page.records[0].0, page.next), (LeafIndex(0), None));
}

/// A record, and what it may be asked for.
type Said = (usize, usize, usize, i64);
const WHO: [&str; 3] = ["alice", "planner", "bot"];
const OUTCOMES: [&str; 3] = ["allow", "deny", "requires_oversight"];
const CHAINS: [&[&str]; 3] = [&[], &["dlg_1"], &["dlg_1", "dlg_2"]];
const MEMBERS: [&[&str]; 3] = [&[], &["alice", "planner"], &["alice", "planner", "bot"]];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Page after page gives what a naive filter over the whole log gives, whatever is
    /// appended between two pages.
    #[test]
    fn a_search_finds_what_a_filter_would(
        said in proptest::collection::vec((0..3_usize, 0..3_usize, 0..3_usize, 0..40_i64), 0..60),
        agent in proptest::option::of(0..3_usize),
        member in proptest::option::of(0..3_usize),
        outcome in proptest::option::of(0..3_usize),
        since in proptest::option::of(0..40_i64),
        until in proptest::option::of(0..40_i64),
        limit in 1..7_usize,
    ) {
        // Time goes on from record to record, so that it is the leaf's too.
        let mut said: Vec<Said> = said;
        said.sort_by_key(|said| said.3);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let mut records = vec![
                granted("dlg_1", "alice", "planner", None),
                granted("dlg_2", "planner", "bot", Some("dlg_1")),
            ];
            records.iter_mut().for_each(|record| record.at = at(-1));
            for (n, (who, what, chain, second)) in said.iter().enumerate() {
                let mut record = decided(WHO[*who], *second, OUTCOMES[*what], CHAINS[*chain]);
                // Distinct instants, in order.
                record.at = record.at.checked_add(Duration::from_nanos(n as u64)).unwrap();
                records.push(record);
            }
            let mut expected: Vec<u64> = said.iter().enumerate().filter(|(_, (who, what, chain, second))| {
                let is_member = |m: usize| m == *who || MEMBERS[*chain].contains(&WHO[m]);
                agent.is_none_or(|a| a == *who)
                    && member.is_none_or(is_member)
                    && outcome.is_none_or(|o| o == *what)
                    && since.is_none_or(|s| *second >= s)
                    && until.is_none_or(|u| *second < u)
            }).map(|(n, _)| n as u64 + 2).collect();
            expected.reverse();
            append(&world, records).await;
            let audit = world.open().await.unwrap();
            audit.index_with(Arc::new(MemoryIndex::new()), Arc::new(MemoryIndexKeys));
            let mut terms = vec![(SearchField::Kind, "action.decided")];
            terms.extend(agent.map(|n| (SearchField::Agent, WHO[n])));
            terms.extend(member.map(|n| (SearchField::Member, WHO[n])));
            terms.extend(outcome.map(|n| (SearchField::Outcome, OUTCOMES[n])));
            let mut query = wanted(&terms, limit);
            query.since = since.map(at);
            query.until = until.map(at);
            let mut found = Vec::new();
            loop {
                let SearchPage { records, next, searched, size } =
                    audit.search(org(1), query.clone()).await.unwrap();
                assert_eq!(searched, size);
                assert!(records.len() <= limit);
                found.extend(records.iter().map(|(leaf, _)| leaf.0));
                query.before = next;
                if next.is_none() {
                    break;
                }
                // Later than everything that is still to come.
                let late = decided("bot", 100, "allow", CHAINS[2]);
                append(&world, vec![late]).await;
            }
            assert_eq!(found, expected);
        });
    }
}
