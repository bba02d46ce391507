//! Limits that are set: what they count, what they let pass, and when they hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use creto_authz::{Action, Exceeded, Hold, LimitScope, Refusal, Spend};
use creto_errors::Classify as _;
use creto_metering::{Limit, MAX_RATES, OnExceed, RateRule, RateScope, Scope, Window};
use creto_nhi::BudgetPeriod::Total;
use creto_nhi::Hop;
use creto_types::Clock as _;

use crate::world::{World, at, config, name, quantity};

pub(crate) fn exceeded(decision: Result<Hold, Refusal>) -> Exceeded {
    match decision {
        Err(Refusal::Exceeded(exceeded)) => *exceeded,
        other => panic!("expected Exceeded, got {other:?}"),
    }
}

pub(crate) fn of_agent() -> Scope {
    Scope::Agent(name("bot"))
}

fn of_link(hops: &[Hop], index: usize) -> Scope {
    Scope::Delegation {
        link: hops[index].link.id,
        root: hops[0].link.id,
        holder: hops[index].link.delegatee.clone(),
    }
}

#[tokio::test]
async fn each_scope_refuses_in_its_own_name() {
    let world = World::new().await;
    let hops = world.chain(&[("planner", None), ("bot", None)]);
    for (scope, expected) in [
        (Scope::Organization, LimitScope::Organization),
        (of_agent(), LimitScope::Agent(name("bot"))),
        (
            of_link(&hops, 0),
            LimitScope::Delegation {
                link: hops[0].link.id,
                holder: name("planner"),
            },
        ),
    ] {
        let id = world.set(world.limit(scope, "2 units")).await;
        let held = world.ask(&hops, "free", 2).unwrap();
        let refused = exceeded(world.ask(&hops, "free", 1));
        assert_eq!(refused.scope, expected);
        assert_eq!(
            (refused.limit, refused.used, refused.requested),
            (
                quantity("2 units"),
                quantity("2 units"),
                quantity("1 units")
            )
        );
        // 23:00 of the day: an hour is left of it.
        assert_eq!(refused.retry_after, Some(Duration::from_secs(3_600)));
        assert_eq!(refused.resets_at, Some(at("2026-04-01T00:00:00Z")));
        drop(held);
        let removed = world.meter.remove_limit(world.org, id, world.commit("x"));
        removed.await.unwrap();
        assert!(world.ask(&hops, "free", 9).is_ok());
    }
}

/// Where several refuse, the nearest is named.
#[tokio::test]
async fn delegations_are_named_before_the_agent_and_the_organization_last() {
    let world = World::new().await;
    let hops = world.chain(&[("planner", None), ("bot", None)]);
    let mut set = Vec::new();
    for scope in [
        Scope::Organization,
        of_agent(),
        of_link(&hops, 1),
        of_link(&hops, 0),
    ] {
        set.push(world.set(world.limit(scope, "1 unit")).await);
    }
    let of = |place: usize| LimitScope::Delegation {
        link: hops[place].link.id,
        holder: hops[place].link.delegatee.clone(),
    };
    let agent = LimitScope::Agent(name("bot"));
    for (expected, limit) in [
        (of(1), set[2]),
        (of(0), set[3]),
        (agent, set[1]),
        (LimitScope::Organization, set[0]),
    ] {
        let refused = exceeded(world.ask(&hops, "free", 2));
        assert_eq!(refused.scope, expected);
        let removed = world
            .meter
            .remove_limit(world.org, limit, world.commit("x"));
        removed.await.unwrap();
    }
    assert!(world.ask(&hops, "free", 2).is_ok());
}

/// What siblings share of their lead is not what was in force when they were bound.
#[tokio::test]
async fn a_limit_above_counts_for_all_that_are_bound_below() {
    let world = World::new().await;
    let lead = world.chain(&[("lead", None)]);
    let below = |name| vec![lead[0].clone(), world.below(lead.last(), name, None)];
    let siblings = [below("first"), below("second")];
    let accounts = siblings.each_ref().map(|chain| world.account(chain));
    for scope in [Scope::Organization, of_link(&lead, 0)] {
        let before = world.ask(&siblings[0], "free", 1).unwrap();
        let id = world.set(world.limit(scope, "3 units")).await;
        let first = world.ask(&siblings[0], "free", 2).unwrap();
        let second = world.ask(&siblings[1], "free", 1).unwrap();
        for chain in &siblings {
            exceeded(world.ask(chain, "free", 1));
        }
        // It was reserved before there was the limit, which knows nothing of it.
        drop(before);
        exceeded(world.ask(&siblings[1], "free", 1));
        drop(first);
        assert!(world.ask(&siblings[1], "free", 2).is_ok());
        drop(second);
        let removed = world.meter.remove_limit(world.org, id, world.commit("x"));
        removed.await.unwrap();
        assert!(
            siblings
                .iter()
                .all(|chain| world.ask(chain, "free", 9).is_ok())
        );
    }
    drop(accounts);
}

#[tokio::test]
async fn an_event_type_is_counted_alone_whether_it_has_a_number_or_not() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", Some(("1000 units", Total)))]);
    for event in ["draft", "unheard"] {
        let limit = Limit {
            event: Some(event.to_owned()),
            ..world.limit(of_agent(), "3 units")
        };
        let id = world.set(limit).await;
        let other = world.ask(&hops, "read", 100).unwrap();
        let held = world.ask(&hops, event, 3).unwrap();
        let refused = exceeded(world.ask(&hops, event, 1));
        assert_eq!(refused.event.as_deref(), Some(event));
        drop(held);
        let again = world.ask(&hops, event, 3).unwrap();
        let kept = world.keep(event, again).await.unwrap();
        assert_eq!(
            world.left(&world.meter, id),
            ["0 units", "3 units", "0 units"]
        );
        world.settle(kept, 1).await;
        assert_eq!(
            world.left(&world.meter, id),
            ["1 unit", "0 units", "2 units"]
        );
        drop(other);
    }
}

#[tokio::test]
async fn what_a_limit_does_when_it_is_exceeded() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", None)]);
    let set = async |on_exceed, grace: Option<&str>| {
        let limit = Limit {
            on_exceed,
            grace: grace.map(quantity),
            ..world.limit(of_agent(), "4 units")
        };
        world.set(limit).await
    };
    let over = |units| world.ask(&hops, "free", units).map(|hold| hold.data().over);
    for (action, is_marked) in [
        (OnExceed::AllowWithOverage, true),
        (OnExceed::NotifyOnly, false),
    ] {
        set(action, None).await;
        assert_eq!(over(4), Ok(false));
        assert_eq!(over(5), Ok(is_marked));
    }
    set(OnExceed::Block, Some("2 units")).await;
    assert_eq!(over(4), Ok(false));
    assert_eq!(over(6), Ok(true), "within the grace");
    let refused = exceeded(world.ask(&hops, "free", 7));
    assert_eq!(refused.limit, quantity("4 units"));
    assert_eq!(refused.retry_after, None, "it never fits");

    // Marked in the ledger too, when the settlement alone goes beyond.
    let kept = world.reserve(&hops, "free", 4).await;
    let draft = world.meter.draft_settlement(world.org, kept, 6).unwrap();
    assert!(draft.overage);
    let beyond = world.meter.draft_settlement(world.org, kept, 7);
    assert_eq!(beyond.unwrap_err().code(), "settle_exceeds_reservation");
    world.settle(kept, 6).await;
    assert!(world.ask(&hops, "free", 1).is_err());
}

#[tokio::test]
async fn a_limit_counts_what_was_used_before_it_was_set() {
    let world = World::new().await;
    let hops = world.chain(&[("planner", None), ("bot", None)]);
    let settled = world.reserve(&hops, "draft", 3).await;
    world.settle(settled, 2).await;
    let _open = world.reserve(&hops, "draft", 1).await;
    let _elsewhere = world.reserve(&hops[..1], "draft", 4).await;
    let bot = world.set(world.limit(of_agent(), "1 USD")).await;
    let planner = world.set(world.limit(of_link(&hops, 0), "5 USD")).await;
    let all = world.set(world.limit(Scope::Organization, "9 units")).await;
    let expect = |meter: &creto_metering::Meter| {
        assert_eq!(world.left(meter, bot), ["0.50 USD", "0.25 USD", "0.25 USD"]);
        assert_eq!(
            world.left(meter, planner),
            ["0.50 USD", "1.25 USD", "3.25 USD"]
        );
        assert_eq!(world.left(meter, all), ["2 units", "5 units", "2 units"]);
    };
    expect(&world.meter);
    expect(&*world.reopen().await);
}

#[tokio::test]
async fn a_limit_is_lowered_and_raised_while_it_is_in_use() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", Some(("2", Total)))]);
    let id = world.set(world.limit(of_link(&hops, 0), "2 USD")).await;
    let kept = world.reserve(&hops, "draft", 4).await;
    let in_flight = world.ask(&hops, "draft", 1).unwrap();
    let lowered = world.set(world.limit(of_link(&hops, 0), "0.5 USD")).await;
    assert_eq!(id, lowered, "it is the same limit");
    assert_eq!(
        world.left(&world.meter, id),
        ["0.00 USD", "1.00 USD", "0.00 USD"]
    );
    exceeded(world.ask(&hops, "draft", 1));
    assert!(
        world.ask(&hops, "history", 1).is_ok(),
        "what is free passes"
    );
    // What was decided under the old limit is decided anew.
    let late = world.keep("draft", in_flight).await;
    assert_eq!(late.unwrap_err().code(), "limits_changed");
    world.settle(kept, 1).await;
    assert!(world.ask(&hops, "draft", 1).is_ok());
    world.set(world.limit(of_link(&hops, 0), "3 USD")).await;
    assert!(world.ask(&hops, "draft", 7).is_ok());
    exceeded(world.ask(&hops, "draft", 8));

    // A limit elsewhere voids nothing.
    let in_flight = world.ask(&hops, "draft", 1).unwrap();
    world
        .set(world.limit(Scope::Agent(name("other")), "1 USD"))
        .await;
    world.keep("draft", in_flight).await.unwrap();
}

#[tokio::test]
async fn thresholds_are_noticed_once() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", Some(("1", Total)))]);
    let limit = Limit {
        thresholds: vec![50, 120],
        on_exceed: OnExceed::AllowWithOverage,
        ..world.limit(of_agent(), "10 units")
    };
    world.set(limit).await;
    let seen = |meter: &creto_metering::Meter| {
        let mut seen: Vec<_> = meter
            .crossings()
            .iter()
            .map(|crossing| (crossing.most.to_string(), crossing.threshold))
            .collect();
        seen.sort();
        seen
    };
    world.reserve(&hops, "draft", 3).await;
    assert_eq!(seen(&world.meter), []);
    world.reserve(&hops, "free", 2).await;
    assert_eq!(seen(&world.meter), [("10 units".to_owned(), 50)]);
    world.reserve(&hops, "draft", 1).await;
    let full = [("1.00 USD".to_owned(), 80), ("1.00 USD".to_owned(), 100)];
    let mut sorted = full.clone();
    sorted.sort();
    assert_eq!(seen(&world.meter), sorted);
    world.reserve(&hops, "free", 6).await;
    let over = world.meter.crossings();
    assert_eq!(over.len(), 1);
    assert_eq!(over[0].threshold, 120);
    assert_eq!(over[0].window_start, Some(at("2026-03-31T00:00:00Z")));
    let key = over[0].key();
    let first = world
        .meter
        .notice(key.clone(), world.commit("limit.threshold"));
    assert!(first.await.unwrap().is_some());
    world.meter.not_noticed(over);
    assert_eq!(world.meter.crossings().len(), 1);
    // Set to another amount it is notified anew, and not when it is set to the same.
    for (most, notified) in [("10 units", false), ("9 units", true), ("10 units", false)] {
        let limit = Limit {
            thresholds: vec![120],
            on_exceed: OnExceed::AllowWithOverage,
            ..world.limit(of_agent(), most)
        };
        world.set(limit).await;
        let mut given = 0;
        for crossing in world.meter.crossings() {
            let notice = world.meter.notice(crossing.key(), world.commit("x"));
            given += usize::from(notice.await.unwrap().is_some());
        }
        assert_eq!(given > 0, notified, "{most}");
    }
    // A restart finds it again, and the ledger knows that it was told.
    let meter = world.reopen().await;
    assert!(
        meter
            .crossings()
            .iter()
            .any(|crossing| crossing.key() == key)
    );
    let again = meter.notice(key, world.commit("limit.threshold"));
    assert!(again.await.unwrap().is_none());
}

/// What somebody holds in memory may be given back, and then nothing was reached.
#[tokio::test]
async fn thresholds_are_about_what_is_durable() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", None)]);
    let limit = Limit {
        window: Window::Hourly,
        ..world.limit(of_agent(), "10 units")
    };
    world.set(limit.clone()).await;
    let seen = || {
        let crossings = world.meter.crossings();
        let seen = crossings.iter().map(|crossing| {
            let taken = crossing.taken.to_string();
            (crossing.threshold, taken, crossing.window_start)
        });
        seen.collect::<Vec<_>>()
    };
    let hold = world.ask(&hops, "free", 9).unwrap();
    let kept = world.reserve(&hops, "free", 1).await;
    assert_eq!(seen(), []);
    world.settle(kept, 1).await;
    drop(hold);
    assert_eq!(seen(), []);

    // The window ends while a reservation of it becomes durable, and somebody else is
    // the first in the next one.
    let (early, late) = (
        world.ask(&hops, "free", 3).unwrap(),
        world.ask(&hops, "free", 4).unwrap(),
    );
    let early = world.keep("free", early).await.unwrap();
    world.clock.advance(Duration::from_secs(3_600));
    world.reserve(&hops, "free", 1).await;
    assert_eq!(seen(), []);
    let late = world.keep("free", late).await.unwrap();
    let then = Some(at("2026-03-31T23:00:00Z"));
    assert_eq!(seen(), [(80, "8 units".to_owned(), then)]);
    for id in [early, late] {
        world.settle(id, 3).await;
    }
    // And it is so when the limit is set anew, and after a restart.
    let _in_memory_alone = world.ask(&hops, "free", 9).unwrap();
    world.set(limit).await;
    assert_eq!(seen(), []);
    assert!(world.reopen().await.crossings().is_empty());
}

/// Whether a late settlement goes beyond its reservation is for the time to say.
#[tokio::test]
async fn more_than_was_reserved_is_not_settled_in_a_window_that_is_over() {
    for somebody_called in [false, true] {
        for (on_exceed, settles) in [(OnExceed::Block, false), (OnExceed::AllowWithOverage, true)] {
            let world = World::new().await;
            let hops = world.chain(&[("bot", None)]);
            let limit = Limit {
                window: Window::Hourly,
                on_exceed,
                ..world.limit(of_agent(), "10 units")
            };
            world.set(limit).await;
            let kept = world.reserve(&hops, "free", 1).await;
            let drafted = world.meter.draft_settlement(world.org, kept, 2);
            assert!(!drafted.unwrap().overage, "it fits");
            world.clock.advance(Duration::from_secs(3_600));
            if somebody_called {
                world.reserve(&hops, "free", 1).await;
            }
            let drafted = world.meter.draft_settlement(world.org, kept, 2);
            assert_eq!(drafted.is_ok_and(|drafted| drafted.overage), settles);
            world.settle(kept, 1).await;
        }
    }
}

/// A question takes nothing, and its answer is that of the call.
#[tokio::test]
async fn whether_a_call_fits_can_be_asked() {
    let world = World::with(config(1, 2), |store| store).await;
    let hops = world.chain(&[("bot", Some(("1", Total)))]);
    world.set(world.limit(of_agent(), "4 units")).await;
    let fits = |action: &str, units| {
        let spend = &Spend {
            action: &Action::named(action),
            units,
            now: world.clock.reading(),
        };
        world.account(&hops).fits(spend, &|| true).err()
    };
    for _ in 0..9 {
        assert_eq!(fits("draft", 4), None);
    }
    for (action, units) in [("draft", 5), ("free", 5), ("free", u64::MAX)] {
        let refused = fits(action, units);
        assert!(refused.is_some());
        assert_eq!(refused, world.ask(&hops, action, units).err());
    }
    let _held = world.ask(&hops, "draft", 3).unwrap();
    assert_eq!(fits("draft", 1), None);
    exceeded(Err(fits("draft", 2).unwrap()));
    let _held = world.ask(&hops, "draft", 1).unwrap();
    // Of no units, so that the limit has room for it.
    let too_fast = fits("read", 0);
    assert!(matches!(too_fast, Some(Refusal::RateLimited { .. })));
    assert_eq!(too_fast, world.ask(&hops, "read", 0).err());
    // Asked by an account that was made before the limit was lowered.
    let account = world.account(&hops);
    world.clock.advance(Duration::from_secs(1));
    world.set(world.limit(of_agent(), "0 units")).await;
    let free = Action::named("free");
    let spend = Spend {
        action: &free,
        units: 1,
        now: world.clock.reading(),
    };
    exceeded(Err(account.fits(&spend, &|| true).unwrap_err()));
}

/// A call whose hold a new limit made void is decided anew, and is still one call.
#[tokio::test]
async fn rates_count_a_call_once_however_often_it_is_decided() {
    let world = World::with(config(1, 1), |store| store).await;
    let hops = world.chain(&[("bot", None)]);
    world.set(world.limit(of_agent(), "5 units")).await;
    let account = world.account(&hops);
    let free = Action::named("free");
    let spend = Spend {
        action: &free,
        units: 2,
        now: world.clock.reading(),
    };
    let hold = Arc::clone(&account).reserve(&spend, &|| true).unwrap();
    world.set(world.limit(of_agent(), "4 units")).await;
    let void = world.keep("free", hold).await;
    assert_eq!(void.unwrap_err().code(), "limits_changed");
    let again = Arc::clone(&account).again();
    assert_eq!(again.fits(&spend, &|| true), Ok(()));
    let hold = Arc::clone(&again).reserve(&spend, &|| true).unwrap();
    let id = world.keep("free", hold).await.unwrap();
    world.settle(id, 2).await;
    let beyond = Spend { units: 3, ..spend };
    exceeded(again.reserve(&beyond, &|| true));
    let next = account.reserve(&spend, &|| true);
    assert!(matches!(next, Err(Refusal::RateLimited { .. })));
}

/// Nor is a call counted by which nothing was granted, because what was decided before it
/// held no longer: before or after a change of limits, in the middle of a window or not.
#[tokio::test]
async fn what_is_outdated_takes_nothing_and_no_rate_counts_it() {
    let world = World::with(config(1, 1), |store| store).await;
    let hops = world.chain(&[("bot", None)]);
    world.set(world.limit(of_agent(), "5 units")).await;
    let account = world.account(&hops);
    let free = Action::named("free");
    for changed in [false, true] {
        world.clock.advance(Duration::from_secs(1));
        let spend = Spend {
            action: &free,
            units: 2,
            now: world.clock.reading(),
        };
        let reserve = |holds| Arc::clone(&account).reserve(&spend, &|| holds);
        if changed {
            world.set(world.limit(of_agent(), "4 units")).await;
        }
        for units in [1, 2, 6] {
            let spend = Spend { units, ..spend };
            let outdated = Arc::clone(&account).reserve(&spend, &|| false);
            assert_eq!(outdated.unwrap_err(), Refusal::Outdated);
            let outdated = account.fits(&spend, &|| false);
            assert_eq!(outdated.unwrap_err(), Refusal::Outdated);
        }
        let held = reserve(true).unwrap();
        assert_eq!(reserve(false).unwrap_err(), Refusal::Outdated);
        let next = reserve(true);
        assert!(matches!(next, Err(Refusal::RateLimited { .. })));
        drop(held);
    }
}

#[tokio::test]
async fn limits_that_cannot_be_counted_are_refused() {
    let world = World::new().await;
    let code = |change: &dyn Fn(&mut Limit)| {
        let mut limit = world.limit(of_agent(), "5 units");
        change(&mut limit);
        world.meter.draft_limit(limit).map_err(|error| error.code())
    };
    let invalid = Err("limit_invalid");
    assert!(code(&|_| {}).is_ok());
    assert_eq!(
        code(&|limit| limit.time_zone = "Mars/Base".to_owned()),
        invalid
    );
    assert_eq!(
        code(&|limit| limit.grace = Some(quantity("1 USD"))),
        invalid
    );
    assert_eq!(code(&|limit| limit.limit = quantity("5 EUR")), invalid);
    assert_eq!(code(&|limit| limit.limit = quantity("-5 USD")), invalid);
    let fine = || quantity("0.0100000005 USD");
    assert_eq!(code(&|limit| limit.limit = fine()), invalid);
    assert_eq!(
        code(&|limit| {
            limit.limit = quantity("0.01 USD");
            limit.grace = Some(fine());
        }),
        invalid
    );
    assert!(code(&|limit| limit.limit = quantity("0.01000000000 USD")).is_ok());
    assert_eq!(code(&|limit| limit.thresholds = vec![100, 80]), invalid);
    assert_eq!(code(&|limit| limit.event = Some(String::new())), invalid);
    assert_eq!(
        code(&|limit| {
            limit.on_exceed = OnExceed::NotifyOnly;
            limit.grace = Some(quantity("1 units"));
        }),
        invalid
    );
    for (thresholds, is_told) in [(vec![], false), (vec![50], false), (vec![50, 100], true)] {
        let notifies = code(&|limit| {
            limit.on_exceed = OnExceed::NotifyOnly;
            limit.thresholds = thresholds.clone();
        });
        assert_eq!(notifies.is_ok(), is_told, "{thresholds:?}");
    }
    for window in Window::ALL {
        for event in 0..16 {
            let limit = Limit {
                window,
                event: Some(format!("event{event}")),
                ..world.limit(of_agent(), "5 units")
            };
            world.set(limit).await;
        }
    }
    assert_eq!(code(&|_| {}), Err("too_many_limits"));
}

fn rate(world: &World, scope: RateScope, event: Option<&str>, calls: (u32, u32)) -> RateRule {
    RateRule {
        id: world.ids.next(),
        org: world.org,
        scope,
        event: event.map(str::to_owned),
        rate: config(calls.0, calls.1).rate,
        set_at: world.clock.now(),
        set_by: name("owner"),
    }
}

#[tokio::test]
async fn with_all_the_rates_there_may_be_one_can_still_be_changed() {
    let world = World::new().await;
    let named = |event: usize, calls| {
        let event = format!("event{event}");
        rate(&world, RateScope::EveryAgent, Some(&event), calls)
    };
    let one_more = world.meter.draft_rate(named(MAX_RATES, (1, 1))).unwrap();
    for event in 0..MAX_RATES {
        let rule = world.meter.draft_rate(named(event, (1, 1))).unwrap();
        let set = world.meter.set_rate(rule, world.commit("rate.set"));
        set.await.unwrap();
    }
    let changed = world.meter.draft_rate(named(7, (2, 2))).unwrap();
    let set = world.meter.set_rate(changed, world.commit("rate.set"));
    set.await.unwrap();
    let refused = world.meter.draft_rate(named(MAX_RATES, (1, 1)));
    assert_eq!(refused.unwrap_err().code(), "too_many_limits");
    let late = world.meter.set_rate(one_more, world.commit("rate.set"));
    assert_eq!(late.await.unwrap_err().code(), "too_many_limits");
    let rates = world.meter.rates(world.org, None, usize::MAX);
    assert_eq!(rates.len(), MAX_RATES);
}

#[tokio::test]
async fn rates_are_set_for_agents_actions_and_the_organization() {
    let world = World::with(config(10, 4), |store| store).await;
    let hops = world.chain(&[("bot", None)]);
    let others = world.chain(&[("other", None)]);
    let set = async |rule: RateRule| {
        let drafted = world.meter.draft_rate(rule).unwrap();
        let id = drafted.id;
        let set = world.meter.set_rate(drafted, world.commit("rate.set"));
        set.await.unwrap();
        id
    };
    let wait = |decision: Result<Hold, Refusal>| match decision {
        Err(Refusal::RateLimited(rate)) => (rate.scope, rate.event, rate.retry_after),
        other => panic!("expected a rate limit, got {other:?}"),
    };
    let bot = || LimitScope::Agent(name("bot"));
    let of_bot = || RateScope::Agent(name("bot"));
    let one = set(rate(&world, of_bot(), Some("draft"), (1, 1))).await;
    assert!(world.ask(&hops, "draft", 1).is_ok());
    assert_eq!(
        wait(world.ask(&hops, "draft", 1)),
        (bot(), Some("draft".to_owned()), Duration::from_secs(1))
    );
    assert!(world.ask(&hops, "read", 1).is_ok(), "of other actions");
    assert!(world.ask(&others, "draft", 1).is_ok(), "of other agents");
    // The refused call took nothing from the agent's own rate: two of four are left.
    assert!(world.ask(&hops, "read", 1).is_ok());
    assert!(world.ask(&hops, "read", 1).is_ok());
    assert_eq!(
        wait(world.ask(&hops, "read", 1)),
        (bot(), None, Duration::from_millis(100))
    );
    // Both refuse: the longer wait is the true one, and its rate is named.
    assert_eq!(
        wait(world.ask(&hops, "draft", 1)),
        (bot(), Some("draft".to_owned()), Duration::from_secs(1))
    );

    // Set anew, it keeps what is used up: nothing comes at once.
    let again = set(rate(&world, of_bot(), Some("draft"), (2, 1))).await;
    assert_eq!(one, again);
    assert_eq!(
        wait(world.ask(&hops, "draft", 1)).2,
        Duration::from_millis(500)
    );
    world.clock.advance(Duration::from_millis(500));
    assert!(world.ask(&hops, "draft", 1).is_ok());
    let removed = world.meter.remove_rate(world.org, again, world.commit("x"));
    removed.await.unwrap();
    assert!(world.ask(&hops, "draft", 1).is_ok());

    world.clock.advance(Duration::from_secs(60));
    set(rate(&world, RateScope::Organization, None, (1, 2))).await;
    assert!(world.ask(&hops, "read", 1).is_ok());
    assert!(world.ask(&others, "read", 1).is_ok());
    let (scope, event, retry_after) = wait(world.ask(&hops, "read", 1));
    assert_eq!(
        (scope, event, retry_after),
        (LimitScope::Organization, None, Duration::from_secs(1))
    );
    world.clock.advance(retry_after - Duration::from_nanos(1));
    wait(world.ask(&hops, "read", 1));
    world.clock.advance(Duration::from_nanos(1));
    assert!(world.ask(&hops, "read", 1).is_ok());
}

/// Threads reserve and make durable while a limit goes up and down. Whatever is
/// granted by a call that starts after `set_limit` returned fits what it set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_a_limit_is_set_nothing_is_granted_by_the_old_one() {
    let world = Arc::new(World::new().await);
    let hops = world.chain(&[("planner", Some(("1000000 units", Total))), ("bot", None)]);
    let scope = of_link(&hops, 1);
    world.set(world.limit(scope.clone(), "5000 units")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..4)
        .map(|_| {
            let (world, hops) = (Arc::clone(&world), hops.clone());
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let account = world.account(&hops);
                let free = Action::named("free");
                let mut granted = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    let now = world.clock.reading();
                    let spend = Spend {
                        action: &free,
                        units: 1,
                        now,
                    };
                    granted += u64::from(Arc::clone(&account).reserve(&spend, &|| true).is_ok());
                }
                granted
            })
        })
        .collect();
    let committers: Vec<_> = (0..4)
        .map(|_| {
            let (world, hops) = (Arc::clone(&world), hops.clone());
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut durable = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    match world.ask(&hops, "free", 1) {
                        Ok(hold) => match world.keep("free", hold).await {
                            Ok(_) => durable += 1,
                            Err(error) => assert_eq!(error.code(), "limits_changed"),
                        },
                        Err(Refusal::Exceeded(_)) => tokio::task::yield_now().await,
                        Err(other) => panic!("{other:?}"),
                    }
                }
                durable
            })
        })
        .collect();
    for round in 0..60_u64 {
        let most = if round % 2 == 0 { 0 } else { 5_000 };
        let id = world
            .set(world.limit(scope.clone(), &format!("{most} units")))
            .await;
        if most == 0 {
            assert!(world.ask(&hops, "free", 1).is_err());
            let [_, before, _] = world.left(&world.meter, id);
            for _ in 0..20 {
                assert!(world.ask(&hops, "free", 1).is_err());
                tokio::task::yield_now().await;
            }
            let [_, after, _] = world.left(&world.meter, id);
            assert_eq!(before, after, "nothing became durable meanwhile");
        } else {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    let mut durable = 0;
    for committer in committers {
        durable += committer.await.unwrap();
    }
    for asker in askers {
        asker.join().unwrap();
    }
    // The counter, the open reservations and the ledger agree.
    let id = world.set(world.limit(scope, "5000 units")).await;
    let held = durable.to_string();
    let expected = format!("{held} unit{}", if durable == 1 { "" } else { "s" });
    assert_eq!(world.left(&world.meter, id)[1], expected);
    assert_eq!(world.left(&*world.reopen().await, id)[1], expected);
}
