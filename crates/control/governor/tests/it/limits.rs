//! Limits and rates: what is answered, what is recorded, and what a call counts for.

use std::num::NonZeroU32;

use creto_errors::Classify as _;
use creto_governor::{
    IdempotencyKey, LimitRequest, LimitSubject, OnExceedName, OutcomeKind, RateRequest,
    RateSubject, WindowName,
};
use creto_types::Quantity;

use crate::world::{World, action};

fn limit(most: u64, event: Option<&str>) -> LimitRequest {
    LimitRequest {
        scope: LimitSubject::Agent("release-bot".parse().expect("a name")),
        event: event.map(str::to_owned),
        limit: Quantity::Units(most),
        window: WindowName::Total,
        time_zone: None,
        on_exceed: OnExceedName::Block,
        grace: None,
        thresholds: None,
    }
}

fn rate(event: &str) -> RateRequest {
    RateRequest {
        scope: RateSubject::Agent("release-bot".parse().expect("a name")),
        event: Some(event.to_owned()),
        per_second: NonZeroU32::MIN,
        burst: NonZeroU32::MIN,
    }
}

#[tokio::test]
async fn a_call_that_a_new_limit_overtook_counts_once_for_its_rate() {
    let world = World::new().await;
    let governor = &world.governor;
    let set = governor.set_rate(&world.owner, rate("changelog.draft"), None);
    set.await.expect("sets it");
    let set = governor.set_limit(&world.owner, limit(100, None), None);
    set.await.expect("sets it");
    // The call reserves before the limit changes, and becomes durable after that.
    let (set, answer) = tokio::join!(
        governor.set_limit(&world.owner, limit(99, None), None),
        governor.submit(&world.bot, action("changelog.draft"), None),
    );
    set.expect("sets it");
    let answer = answer.expect("answers");
    assert_eq!(answer.outcome, OutcomeKind::Allow, "{answer:?}");
    let next = governor
        .submit(&world.bot, action("changelog.draft"), None)
        .await;
    assert_eq!(next.expect("answers").outcome, OutcomeKind::RateLimited);
}

#[tokio::test]
async fn thresholds_are_recorded_in_the_order_they_were_reached() {
    let world = World::new().await;
    let governor = &world.governor;
    let set = governor.set_limit(&world.owner, limit(2, None), None);
    set.await.expect("sets it");
    let mut both = action("history.read");
    both.units = 2;
    let answer = governor.submit(&world.bot, both, None).await;
    assert_eq!(answer.expect("answers").outcome, OutcomeKind::Allow);
    governor.sweep().await.expect("sweeps");
    assert_eq!(percents(&world), [80, 100]);
    // It is set to another amount, and reaches that too.
    let set = governor.set_limit(&world.owner, limit(3, None), None);
    set.await.expect("sets it");
    let one = governor.submit(&world.bot, action("history.read"), None);
    assert_eq!(one.await.expect("answers").outcome, OutcomeKind::Allow);
    governor.sweep().await.expect("sweeps");
    assert_eq!(percents(&world), [80, 100, 80, 100]);
    world.check_records().await.expect("the log holds");
}

fn percents(world: &World) -> Vec<u64> {
    let evidence = world.commits.evidence(world.owner.org());
    let reached = evidence
        .iter()
        .filter(|record| record.kind == "limit.threshold");
    reached
        .filter_map(|record| record.body.get("threshold")?.as_u64())
        .collect()
}

/// Of two calls with one key that come at once, the second gets the answer of the first.
#[tokio::test]
async fn calls_with_one_key_are_one_change() {
    let world = World::new().await;
    let governor = &world.governor;
    let key = |text: &str| Some(IdempotencyKey::new(text).expect("a key"));
    let set = || governor.set_limit(&world.owner, limit(5, None), key("one"));
    let (one, other) = tokio::join!(set(), set());
    let one = one.expect("sets it");
    assert_eq!(one, other.expect("is the same call"));
    let set = || governor.set_rate(&world.owner, rate("history.read"), key("two"));
    let (first, second) = tokio::join!(set(), set());
    let first = first.expect("sets it");
    assert_eq!(first, second.expect("is the same call"));

    let id = one.id.parse().expect("an id");
    let remove = || governor.remove_limit(&world.owner, id, key("three"));
    let (one, other) = tokio::join!(remove(), remove());
    assert_eq!(one.expect("removes it"), other.expect("is the same call"));
    let id = first.id.parse().expect("an id");
    let remove = || governor.remove_rate(&world.owner, id, key("four"));
    let (one, other) = tokio::join!(remove(), remove());
    assert_eq!(one.expect("removes it"), other.expect("is the same call"));
}

#[tokio::test]
async fn a_limit_of_an_action_that_no_schema_declares_comes_with_a_warning() {
    let world = World::new().await;
    let governor = &world.governor;
    for (event, known) in [("changelog.draft", true), ("changelog.drafts", false)] {
        let set = governor.set_limit(&world.owner, limit(5, Some(event)), None);
        assert_eq!(set.await.expect("sets it").warning.is_none(), known);
        let set = governor.set_rate(&world.owner, rate(event), None);
        assert_eq!(set.await.expect("sets it").warning.is_none(), known);
    }
    let all = governor.set_limit(&world.owner, limit(5, None), None);
    assert_eq!(all.await.expect("sets it").warning, None);
}

/// Who looked at a limit before the owner tightened it does not loosen it after that.
#[tokio::test]
async fn an_agent_does_not_overtake_the_owner() {
    let world = World::new().await;
    let governor = &world.governor;
    let on_bot = |most: u64| LimitRequest {
        scope: LimitSubject::Delegation(world.bot_link.clone()),
        ..limit(most, None)
    };
    let first = governor.set_limit(&world.planner, on_bot(50), None);
    let id = first.await.expect("the planner gave it").id;
    let (tightened, loosened) = tokio::join!(
        governor.set_limit(&world.owner, on_bot(1), None),
        governor.set_limit(&world.planner, on_bot(90), None),
    );
    tightened.expect("the owner may");
    assert_eq!(loosened.expect_err("is too late").code(), "forbidden");
    let id = id.parse().expect("an id");
    let removed = governor.remove_limit(&world.planner, id, None);
    assert_eq!(removed.await.expect_err("too").code(), "forbidden");
    let limits = governor.list_limits(&world.owner, None, 9);
    let limits = limits.expect("lists");
    assert_eq!(limits.len(), 1);
    let most = limits.first().map(|limit| limit.limit);
    assert_eq!(most, Some(Quantity::Units(1)));
}

/// A key stands for one outcome, but not for a refusal that time mends.
#[tokio::test]
async fn what_a_limit_refused_is_decided_anew_under_its_key() {
    let world = World::new().await;
    let governor = &world.governor;
    let set = governor.set_limit(&world.owner, limit(1, None), None);
    set.await.expect("sets it");
    let submit = async || {
        let key = IdempotencyKey::new("once").expect("a key");
        let mut two = action("history.read");
        two.units = 2;
        let answer = governor.submit(&world.bot, two, Some(key)).await;
        answer.expect("answers")
    };
    assert_eq!(submit().await.outcome, OutcomeKind::QuotaExceeded);
    let set = governor.set_limit(&world.owner, limit(2, None), None);
    set.await.expect("sets it");
    let allowed = submit().await;
    assert_eq!(allowed.outcome, OutcomeKind::Allow);
    assert_eq!(submit().await, allowed, "from here on it is the same");
}

/// Connections are judged and not counted, so nothing is set that would count nothing.
#[tokio::test]
async fn no_limit_and_no_rate_is_of_connections() {
    let world = World::new().await;
    let governor = &world.governor;
    let egress = limit(1, Some("network_egress"));
    let limited = governor.set_limit(&world.owner, egress, None).await;
    assert_eq!(limited.expect_err("is refused").code(), "invalid_request");
    let paced = governor.set_rate(&world.owner, rate("network_egress"), None);
    let paced = paced.await.expect_err("is refused");
    assert_eq!(paced.code(), "invalid_request");
    let listed = governor.list_limits(&world.owner, None, 10);
    assert!(listed.expect("lists").is_empty());
}

#[tokio::test]
async fn an_agent_sees_the_limits_that_count_what_it_does() {
    let world = World::new().await;
    let governor = &world.governor;
    let planner = LimitRequest {
        scope: LimitSubject::Agent("planner".parse().expect("a name")),
        ..limit(7, None)
    };
    let all = LimitRequest {
        scope: LimitSubject::Organization,
        ..limit(8, None)
    };
    let above = LimitRequest {
        scope: LimitSubject::Delegation(world.planner_link.clone()),
        ..limit(9, None)
    };
    for request in [limit(6, None), planner, all, above] {
        let set = governor.set_limit(&world.owner, request, None).await;
        set.expect("sets it");
    }
    let seen = governor.list_limits(&world.bot, None, 10).expect("lists");
    let seen: Vec<Quantity> = seen.into_iter().map(|limit| limit.limit).collect();
    assert_eq!(seen, [6, 8, 9].map(Quantity::Units));
}
