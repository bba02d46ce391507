//! Limits, rates and notices.

use std::num::NonZeroU32;
use std::sync::Arc;

use creto_types::{Quantity, Timestamp};

use super::world::{World, name, usd};
use super::{conflicts, missing};
use crate::{
    LedgerStore, Limit, LimitRef, NoticeKey, OnExceed, RateLimit, RateRule, RateScope, Scope,
    UsedQuery, Window,
};

pub(super) async fn run<F, Fut>(open: &F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Arc<dyn LedgerStore>>,
{
    limits_and_rates_last(open).await;
    a_notice_is_given_once(open("notices").await).await;
    what_was_used_is_added_up(open("used").await).await;
}

fn limit(world: &World, scope: Scope) -> Limit {
    Limit {
        id: world.ids().next(),
        org: world.org,
        scope,
        event: Some("changelog.draft".to_owned()),
        limit: Quantity::Units(5),
        window: Window::Daily,
        time_zone: "Europe/Berlin".to_owned(),
        on_exceed: OnExceed::Block,
        grace: Some(Quantity::Units(1)),
        thresholds: vec![80, 100],
        set_at: world.tick(),
        set_by: name("owner"),
    }
}

fn rate(world: &World, scope: RateScope) -> RateRule {
    let one = NonZeroU32::MIN;
    RateRule {
        id: world.ids().next(),
        org: world.org,
        scope,
        event: None,
        rate: RateLimit::per_second(one, one),
        set_at: world.tick(),
        set_by: name("owner"),
    }
}

async fn limits_and_rates_last<F, Fut>(open: &F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Arc<dyn LedgerStore>>,
{
    let world = World::new(20);
    let other = World::new(21);
    let store = open("limits").await;
    let link = world.ids().next();
    let of_link = Scope::Delegation {
        link,
        root: link,
        holder: name("bot"),
    };
    let mut first = limit(&world, of_link);
    let second = limit(&world, Scope::Agent(name("bot")));
    let theirs = limit(&other, Scope::Organization);
    for (of, put) in [(&world, &first), (&world, &second), (&other, &theirs)] {
        let receipt = store.put_limit(put.clone(), of.commit("limit.set")).await;
        assert_eq!(receipt.expect("takes it").leaves.len(), 1);
    }
    first.limit = Quantity::Money(usd("2.50"));
    first.grace = None;
    let again = store.put_limit(first.clone(), world.commit("limit.set"));
    again.await.expect("takes it again");
    missing(
        store
            .remove_limit(other.org, second.id, other.commit("x"))
            .await,
        "another organization's limit",
    );
    let removed = store.remove_limit(world.org, second.id, world.commit("limit.removed"));
    removed.await.expect("removes it");
    missing(
        store
            .remove_limit(world.org, second.id, world.commit("x"))
            .await,
        "a limit that is gone",
    );

    let mut of_all = rate(&world, RateScope::EveryAgent);
    let of_bot = rate(&world, RateScope::Agent(name("bot")));
    for put in [&of_all, &of_bot] {
        let receipt = store.put_rate(put.clone(), world.commit("rate.set")).await;
        receipt.expect("takes it");
    }
    of_all.event = Some("changelog.draft".to_owned());
    let again = store.put_rate(of_all.clone(), world.commit("rate.set"));
    again.await.expect("takes it again");
    missing(
        store
            .remove_rate(other.org, of_bot.id, other.commit("x"))
            .await,
        "another organization's rate",
    );
    let removed = store.remove_rate(world.org, of_bot.id, world.commit("rate.removed"));
    removed.await.expect("removes it");

    drop(store);
    let store = open("limits").await;
    let mut kept = store.limits().await.expect("reads");
    kept.sort_by_key(|limit| limit.id);
    let mut expected = vec![first, theirs];
    expected.sort_by_key(|limit| limit.id);
    assert_eq!(kept, expected);
    assert_eq!(store.rates().await.expect("reads"), [of_all]);
}

async fn a_notice_is_given_once(store: Arc<dyn LedgerStore>) {
    let world = World::new(22);
    let key = |threshold, window_start| NoticeKey {
        org: world.org,
        limit: LimitRef::Set(world.ids().next()),
        window_start,
        most: Quantity::Units(100),
        threshold,
    };
    let monthly = key(80, Some(Timestamp::UNIX_EPOCH));
    let total = key(80, None);
    let full = NoticeKey {
        threshold: 100,
        ..monthly.clone()
    };
    let later = NoticeKey {
        window_start: Some(world.tick()),
        ..monthly.clone()
    };
    let raised = NoticeKey {
        most: Quantity::Units(1_000),
        ..total.clone()
    };
    let of_money = |most: &str| NoticeKey {
        most: Quantity::Money(usd(most)),
        ..total.clone()
    };
    let money = of_money("2.5");
    for key in [&monthly, &total, &full, &later, &raised, &money] {
        let given = store.notice(key.clone(), world.commit("limit.threshold"));
        given.await.expect("the first time");
        let again = store.notice(key.clone(), world.commit("limit.threshold"));
        conflicts(again.await, "the same notice again");
    }
    let again = store.notice(of_money("2.50"), world.commit("limit.threshold"));
    conflicts(again.await, "the same amount in other digits");
    let leaf = store
        .notice(key(90, None), world.commit("limit.threshold"))
        .await
        .expect("the first time")
        .leaf();
    assert_eq!(leaf.map(|leaf| leaf.0), Some(6), "refusals leave no record");
}

async fn what_was_used_is_added_up(store: Arc<dyn LedgerStore>) {
    let world = World::new(23);
    let mut events = Vec::new();
    for agent in ["bot", "other", "bot"] {
        events.push(world.event(store.as_ref(), agent, 3).await.settlement);
    }
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        return;
    };
    let query = |scope, event: Option<&str>, since| UsedQuery {
        scope,
        event: event.map(str::to_owned),
        since,
        until: None,
    };
    let used = |query: UsedQuery| {
        let store = Arc::clone(&store);
        let org = world.org;
        async move {
            let priced = store.used(org, query).await.expect("reads");
            assert!(priced.iter().all(|p| p.unit_price == usd("0.000000001")));
            priced.iter().map(|priced| priced.units).sum::<u64>()
        }
    };
    let all = || Scope::Organization;
    assert_eq!(used(query(all(), None, None)).await, 9);
    assert_eq!(used(query(all(), Some("changelog.draft"), None)).await, 9);
    assert_eq!(used(query(all(), Some("history.read"), None)).await, 0);
    let late = query(all(), None, Some(last.reserved_at));
    assert_eq!(used(late.clone()).await, 3);
    let early = UsedQuery {
        until: Some(last.reserved_at),
        ..query(all(), None, None)
    };
    assert_eq!(used(early.clone()).await, 6);
    assert_eq!(used(query(Scope::Agent(name("bot")), None, None)).await, 6);
    let latest = async |query| store.latest(world.org, query).await.expect("reads");
    assert_eq!(latest(late).await, Some(last.reserved_at));
    let before = events.iter().map(|event| event.reserved_at);
    let before = before.filter(|at| *at < last.reserved_at).max();
    assert_eq!(latest(early).await, before);
    let other = query(Scope::Agent(name("other")), None, None);
    assert_eq!(latest(other.clone()).await, before);
    let none = UsedQuery {
        since: Some(last.reserved_at),
        ..other
    };
    assert_eq!(latest(none).await, None);
    for link in &first.hops {
        let scope = Scope::Delegation {
            link: *link,
            root: *link,
            holder: name("bot"),
        };
        assert_eq!(used(query(scope.clone(), None, None)).await, 3);
        let latest = latest(query(scope, None, None)).await;
        assert_eq!(latest, Some(first.reserved_at));
    }
    let elsewhere = UsedQuery {
        scope: Scope::Organization,
        event: None,
        since: None,
        until: None,
    };
    let theirs = store.used(World::new(24).org, elsewhere).await;
    assert!(
        matches!(theirs, Ok(list) if list.is_empty()),
        "organizations do not meet"
    );
}
