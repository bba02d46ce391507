//! Limits and rates: what is answered, what is recorded, and what a call counts for.

use std::num::NonZeroU32;

use creto_errors::Classify as _;
use creto_governor::{
    BudgetRequest, IdempotencyKey, LimitRequest, LimitSubject, OnExceedName, OutcomeKind, Question,
    RateRequest, RateSubject, RecordChecker, WindowName,
};
use creto_metering::{Expired, MeterConfig, OpenBounds};
use creto_types::{LeafIndex, Quantity};

use crate::world::{World, action, delegate, usd};

pub(crate) fn limit(most: u64, event: Option<&str>) -> LimitRequest {
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
    let bot = RateSubject::Agent("release-bot".parse().expect("a name"));
    RateRequest {
        event: Some(event.to_owned()),
        ..RateRequest::per_second(bot, NonZeroU32::MIN, NonZeroU32::MIN)
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

/// What a delegation came with is asked of its delegator, what was set on it of whoever
/// set that: the code tells the two apart.
#[tokio::test]
async fn a_limit_that_was_set_on_a_delegation_is_no_budget() {
    let world = World::new().await;
    let governor = &world.governor;
    let on_bot = LimitRequest {
        scope: LimitSubject::Delegation(world.bot_link.clone()),
        ..limit(1, Some("history.read"))
    };
    let set = governor.set_limit(&world.owner, on_bot, None);
    set.await.expect("sets it");
    let submit = async |name, units| {
        let mut asked = action(name);
        asked.units = units;
        let answer = governor.submit(&world.bot, asked, None).await;
        answer.expect("answers")
    };
    assert_eq!(submit("history.read", 1).await.outcome, OutcomeKind::Allow);
    let refused = submit("history.read", 1).await;
    assert_eq!(refused.reason.code, "limit_exceeded", "{refused:?}");
    let quota = refused.quota.expect("says which");
    let one = Quantity::Units(1);
    assert_eq!((quota.used, quota.reserved), (one, one));
    let refused = submit("changelog.draft", 1_000).await;
    assert_eq!(refused.reason.code, "budget_exceeded", "{refused:?}");
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

/// What is counted is whole billionths: finer amounts would be counted as others than
/// are on record.
#[tokio::test]
async fn no_limit_and_no_budget_is_finer_than_what_is_counted() {
    let world = World::new().await;
    let governor = &world.governor;
    let on_bot = |most: &str| LimitRequest {
        scope: LimitSubject::Delegation(world.bot_link.clone()),
        limit: usd(most).into(),
        ..limit(0, None)
    };
    let set = governor.set_limit(&world.planner, on_bot("0.0100000005"), None);
    assert_eq!(set.await.expect_err("too fine").code(), "limit_invalid");
    let set = governor.set_limit(&world.planner, on_bot("0.010000001"), None);
    set.await.expect("is counted");
    let expires = "2026-03-02T12:00:00Z".parse().expect("an instant");
    for (period, limit, granted) in [
        ("total", "0.0100000005", false),
        ("day", "0.0000000001", false),
        ("total", "0.000000001", true),
    ] {
        let mut request = delegate("release-bot", "1.00", expires);
        request.budget = Some(BudgetRequest {
            limit: usd(limit).into(),
            period: period.to_owned(),
        });
        let answer = governor.delegate(&world.planner, request, None).await;
        let refused = answer.err().map(|error| error.code());
        assert_eq!(refused, (!granted).then_some("invalid_request"), "{limit}");
    }
}

/// A log in which a finer limit was reached, as its counter judged it, holds.
#[tokio::test]
async fn an_old_log_with_a_finer_limit_verifies() {
    let world = World::new().await;
    let governor = &world.governor;
    let request = LimitRequest {
        limit: usd("0.01").into(),
        thresholds: Some(vec![100]),
        ..limit(0, None)
    };
    let set = governor.set_limit(&world.owner, request, None);
    set.await.expect("sets it");
    let answer = governor.submit(&world.bot, action("history.read"), None);
    let answer = answer.await.expect("answers");
    assert_eq!(answer.outcome, OutcomeKind::Allow, "{answer:?}");
    governor.sweep().await.expect("sweeps");
    assert_eq!(percents(&world), [100]);
    let verified = |most: &str| {
        let mut checker = RecordChecker::new();
        let evidence = world.commits.evidence(world.owner.org());
        evidence
            .iter()
            .zip(0_u64..)
            .try_for_each(|(record, index)| {
                let mut record = serde_json::to_value(record).expect("is JSON");
                let about_limits = record["kind"]
                    .as_str()
                    .is_some_and(|kind| ["limit.set", "limit.threshold"].contains(&kind));
                if about_limits {
                    record["body"]["limit"]["amount"] = most.into();
                }
                checker.leaf(LeafIndex(index), &record)
            })
    };
    verified("0.0100000005").expect("the counter stood at 0.01");
    verified("0.010000001").expect_err("one billionth is missing");
}

#[tokio::test]
async fn an_agent_changes_limits_slowly() {
    let world = World::new().await;
    let governor = &world.governor;
    let on_bot = |most| LimitRequest {
        scope: LimitSubject::Delegation(world.bot_link.clone()),
        ..limit(most, None)
    };
    let set = async |caller, most| {
        let set = governor.set_limit(caller, on_bot(most), None).await;
        set.map(|answer| answer.id).map_err(|error| error.code())
    };
    let mut id = String::new();
    for most in 1..=10 {
        id = set(&world.planner, most).await.expect("within its rate");
    }
    assert_eq!(set(&world.planner, 11).await, Err("too_many_requests"));
    let id = id.parse().expect("an id");
    let removed = governor.remove_limit(&world.planner, id, None).await;
    assert_eq!(removed.expect_err("too").code(), "too_many_requests");
    world.clock.advance(std::time::Duration::from_secs(1));
    set(&world.planner, 11).await.expect("a second later");
    for most in 12..=40 {
        set(&world.owner, most).await.expect("the owner may");
    }
}

#[tokio::test]
async fn too_many_open_reservations_are_refused_until_some_end() {
    let world = World::metered(MeterConfig {
        open: OpenBounds {
            per_agent: 2,
            per_organization: 9,
        },
        ..MeterConfig::default()
    })
    .await;
    world.clock.advance(std::time::Duration::from_secs(58 * 60));
    let governor = &world.governor;
    let submit = async || {
        let key = IdempotencyKey::new("one").expect("a key");
        let answer = governor.submit(&world.bot, action("history.read"), Some(key));
        answer.await.expect("answers")
    };
    let mut open = Vec::new();
    for _ in 0..2 {
        let answer = governor.submit(&world.bot, action("history.read"), None);
        open.push(answer.await.expect("answers").action_id);
    }
    let refused = submit().await;
    assert_eq!(refused.outcome, OutcomeKind::RateLimited);
    assert_eq!(refused.reason.code, "too_many_open_reservations");
    assert_eq!(refused.retry_after_ms, Some(300_000));
    assert_eq!(refused.rate.expect("whose").subject.scope, "agent");
    // Who only asks is told the same.
    let ask = |caller| {
        let question = Question {
            subject: None,
            action: "history.read".to_owned(),
            resource_type: "Resource".to_owned(),
            resource_id: "repo:creto".to_owned(),
            units: 1,
            context: Vec::new(),
        };
        let asking = governor.asking(caller).expect("is heard");
        asking.ask(&question).expect("answers")
    };
    let told = ask(&world.bot);
    assert_eq!(told.reason.code, "too_many_open_reservations");
    assert_eq!(
        (told.permitted(), told.retry_after_ms),
        (false, Some(300_000))
    );
    assert_eq!(told.policy_ids, ["release-work"]);
    assert!(ask(&world.planner).permitted(), "others have room");
    // No rate counted it: with one call an hour left, that one is left when there is room.
    let one = RateRequest {
        per_second: None,
        per_hour: Some(NonZeroU32::MIN),
        ..rate("history.read")
    };
    let slow = governor.set_rate(&world.owner, one, None).await;
    let slow = slow.expect("is set").id.parse().expect("an id");
    for _ in 0..3 {
        assert_eq!(submit().await.reason.code, "too_many_open_reservations");
    }
    let first = open.pop().expect("two are open");
    let settled = governor.settle(&world.bot, first, 1, None).await;
    settled.expect("settles");
    // The key stands for no refusal that time mends.
    assert_eq!(submit().await.outcome, OutcomeKind::Allow);
    // The call of this hour is used up, and so is the room: the longer wait is told.
    let both = governor.submit(&world.bot, action("history.read"), None);
    let both = both.await.expect("answers");
    assert_eq!(both.reason.code, "rate_limited");
    assert_eq!(both.retry_after_ms, Some(3_600_000));
    assert_eq!(ask(&world.bot).retry_after_ms, Some(3_600_000));
    let ended = governor.remove_rate(&world.owner, slow, None);
    ended.await.expect("is ended");
    // Two minutes before its window ends, a limit waits for room, which takes longer.
    let hourly = LimitRequest {
        window: WindowName::Hourly,
        ..limit(1, Some("history.read"))
    };
    let hourly = governor.set_limit(&world.owner, hourly, None);
    hourly.await.expect("is set");
    let both = governor.submit(&world.bot, action("history.read"), None);
    let both = both.await.expect("answers");
    assert_eq!(both.reason.code, "limit_exceeded");
    assert_eq!(both.retry_after_ms, Some(300_000));
    assert_eq!(ask(&world.bot).retry_after_ms, Some(300_000));
    world.check_records().await.expect("the log holds");
}

/// Settling must not wait for the next hour: the reservation would expire first.
#[tokio::test]
async fn a_rate_by_the_hour_makes_nobody_wait_an_hour_to_settle() {
    let world = World::new().await;
    let governor = &world.governor;
    let bot = RateSubject::Agent("release-bot".parse().expect("a name"));
    let hourly = RateRequest {
        per_second: None,
        per_hour: Some(NonZeroU32::MIN),
        ..RateRequest::per_second(bot, NonZeroU32::MIN, NonZeroU32::MIN)
    };
    let set = governor.set_rate(&world.owner, hourly, None).await;
    let set = set.expect("is set");
    assert_eq!((set.per_second, set.per_hour), (None, Some(1)));
    let mut answers = Vec::new();
    for _ in 0..4 {
        let answer = governor.submit(&world.bot, action("history.read"), None);
        answers.push(answer.await.expect("answers"));
    }
    assert_eq!(answers[0].outcome, OutcomeKind::Allow);
    let waits: Vec<_> = answers[1..].iter().map(|a| a.retry_after_ms).collect();
    assert_eq!(waits, [Some(3_600_000); 3]);
    let settle = async || {
        let settled = governor.settle(&world.bot, answers[0].action_id, 1, None);
        settled.await.err().map(|error| error.code())
    };
    assert_eq!(settle().await, Some("too_many_requests"));
    world.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(settle().await, None);
}

/// How far ahead its questions are is taken over once, and not again with each question.
#[tokio::test]
async fn a_faster_rate_lets_an_agent_ask_again() {
    let world = World::new().await;
    let governor = &world.governor;
    let set = async |calls: u32, burst: u32| {
        let [calls, burst] = [calls, burst].map(|n| NonZeroU32::new(n).expect("not zero"));
        let bot = RateSubject::Agent("release-bot".parse().expect("a name"));
        let rate = RateRequest::per_second(bot, calls, burst);
        let set = governor.set_rate(&world.owner, rate, None).await;
        set.expect("is set");
    };
    let heard = || governor.asking(&world.bot).is_ok();
    set(1, 100).await;
    assert_eq!((0..401).filter(|_| heard()).count(), 400);
    set(1_000, 1).await;
    assert!(!heard(), "it had asked all it might");
    world.clock.advance(std::time::Duration::from_millis(1));
    assert!(heard());
}

/// The owner chooses whom to believe: an agent that says nothing used nothing, or all.
#[tokio::test]
async fn what_nobody_settles_in_time_is_given_back_or_counts_in_full() {
    for (expired, kind, remaining) in [
        (Expired::Released, "usage.released", "1.00"),
        (Expired::Settled, "usage.settled", "0.60"),
    ] {
        let world = World::metered(MeterConfig {
            expired,
            ..MeterConfig::default()
        })
        .await;
        let governor = &world.governor;
        for _ in 0..40 {
            let answer = governor.submit(&world.bot, action("history.read"), None);
            assert_eq!(answer.await.expect("answers").outcome, OutcomeKind::Allow);
        }
        world.clock.advance(std::time::Duration::from_secs(301));
        governor.sweep().await.expect("sweeps");
        let evidence = world.commits.evidence(world.owner.org());
        let closed = evidence.iter().filter(|record| record.kind == kind);
        assert_eq!(closed.count(), 40);
        let chain = governor.whoami(&world.bot).expect("answers").chain;
        let balance = chain.last().and_then(|hop| hop.balance.as_ref());
        let left = balance.map(|balance| balance.remaining);
        assert_eq!(left, Some(usd(remaining).into()));
        world.check_records().await.expect("the log holds");
    }
}
