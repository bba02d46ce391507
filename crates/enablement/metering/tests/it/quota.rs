//! Budgets, windows, rates and the life of a reservation.

use std::sync::Arc;
use std::time::Duration;

use creto_authz::{Hold, LimitScope, Refusal, TooFast};
use creto_errors::Classify as _;
use creto_metering::{MeterConfig, MeteringError, OpenBounds};
use creto_nhi::BudgetPeriod::{Day, Month, Total};
use creto_types::{Clock as _, Money};

use crate::world::{TTL, World, config, name, no_rate, quantity, usd};

fn exceeded(decision: Result<Hold, Refusal>) -> creto_authz::Exceeded {
    match decision {
        Err(Refusal::Exceeded(exceeded)) => *exceeded,
        other => panic!("expected Exceeded, got {other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_used_is_given_back_on_every_hop() {
    let world = World::new().await;
    let hops = world.chain(&[("planner", Some(("5", Total))), ("bot", Some(("1", Total)))]);
    let action = world.reserve(&hops, "draft", 4).await;
    for (hop, left) in hops.iter().zip(["4", "0"]) {
        assert_eq!(
            world.balance(&world.meter, hop),
            [usd("0"), usd("1"), usd(left)]
        );
    }
    world.settle(action, 3).await;
    for (hop, left) in hops.iter().zip(["4.25", "0.25"]) {
        assert_eq!(
            world.balance(&world.meter, hop),
            [usd("0.75"), usd("0"), usd(left)]
        );
    }
    let again = world.meter.draft_settlement(world.org, action, 1);
    assert_eq!(again.unwrap_err().code(), "reservation_closed");
    let unknown = world
        .meter
        .draft_settlement(world.org, world.next_action(), 1);
    assert_eq!(unknown.unwrap_err().code(), "reservation_not_found");
}

#[tokio::test]
async fn the_refusing_budget_is_named_and_nothing_is_taken() {
    let world = World::new().await;
    let hops = world.chain(&[
        ("planner", Some(("0.5", Total))),
        ("bot", Some(("1", Month))),
    ]);
    let refused = exceeded(world.ask(&hops, "draft", 3));
    let scope = creto_authz::LimitScope::Delegation {
        link: hops[0].link.id,
        holder: hops[0].link.delegatee.clone(),
    };
    assert_eq!(refused.scope, scope);
    assert_eq!(
        (refused.limit, refused.used, refused.requested),
        (usd("0.5").into(), usd("0").into(), usd("0.75").into())
    );
    assert_eq!((refused.resets_at, refused.retry_after), (None, None));
    for hop in &hops {
        let [used, reserved, _] = world.balance(&world.meter, hop);
        assert_eq!([used, reserved], [usd("0"), usd("0")]);
    }

    let monthly = world.chain(&[("planner", Some(("1", Month)))]);
    world.reserve(&monthly, "draft", 4).await;
    let refused = exceeded(world.ask(&monthly, "draft", 1));
    assert_eq!(refused.used, usd("1").into());
    // 2026-03-31T23:00Z: the month ends in an hour.
    assert_eq!(refused.retry_after, Some(Duration::from_secs(3_600)));
    assert_eq!(
        refused.resets_at,
        Some("2026-04-01T00:00:00Z".parse().unwrap())
    );
    let never = exceeded(world.ask(&monthly, "draft", 5));
    assert_eq!(never.retry_after, None, "it never fits");
    world.clock.advance(refused.retry_after.unwrap());
    assert!(world.ask(&monthly, "draft", 1).is_ok());
}

#[tokio::test]
async fn a_reservation_counts_in_the_window_of_its_decision() {
    let world = World::new().await;
    let hops = world.chain(&[("planner", Some(("1", Day)))]);
    let action = world.reserve(&hops, "draft", 4).await;
    world.clock.advance(Duration::from_secs(2 * 3_600));
    assert_eq!(
        world.balance(&world.meter, &hops[0]),
        [usd("0"), usd("0"), usd("1")],
        "a new day"
    );
    world.settle(action, 4).await;
    assert_eq!(
        world.balance(&world.meter, &hops[0])[2],
        usd("1"),
        "the late settlement belongs to yesterday"
    );
}

#[tokio::test]
async fn rates_are_refused_with_a_true_wait() {
    let world = World::with(config(2, 3), |store| store).await;
    let hops = world.chain(&[("bot", Some(("1", Total)))]);
    let mut holds = Vec::new();
    for _ in 0..3 {
        holds.push(world.ask(&hops, "read", 1).unwrap());
    }
    let refused = world.ask(&hops, "read", 1).unwrap_err();
    let Refusal::RateLimited(too_fast) = refused else {
        panic!("the burst is over: {refused:?}");
    };
    let TooFast {
        scope,
        event,
        retry_after,
    } = *too_fast;
    assert_eq!(scope, LimitScope::Agent(crate::world::name("bot")));
    assert_eq!(event, None);
    assert_eq!(retry_after, Duration::from_millis(500));
    assert_eq!(world.balance(&world.meter, &hops[0])[1], usd("0.003"));
    world.clock.advance(retry_after - Duration::from_nanos(1));
    assert!(world.ask(&hops, "read", 1).is_err());
    world.clock.advance(Duration::from_nanos(1));
    // Over the budget: the call is refused and does not count as one.
    exceeded(world.ask(&hops, "draft", 100));
    assert!(world.ask(&hops, "read", 1).is_ok());
}

#[tokio::test]
async fn what_cannot_be_counted_is_refused() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", None)]);
    let code = |decision: Result<Hold, Refusal>| match decision {
        Err(Refusal::Refused { code, .. }) => code,
        other => panic!("expected a refusal, got {other:?}"),
    };
    assert_eq!(
        code(world.ask(&hops, "draft", u64::MAX)),
        "amount_out_of_range"
    );
    assert_eq!(
        code(world.ask(&hops, "free", u64::MAX)),
        "amount_out_of_range"
    );
    let action = world.reserve(&hops, "draft", 1).await;
    let hold = world.ask(&hops, "draft", 1).unwrap();
    let name = creto_authz::Action::named("draft");
    let again = world
        .meter
        .commit_reservation(action, &name, hold, world.commit("x"), || true);
    assert_eq!(again.await.unwrap_err().code(), "conflict");

    let mut foreign = world.chain(&[("bot", Some(("1", Total)))]);
    let mut link = (*foreign[0].link).clone();
    link.budget = link.budget.map(|budget| creto_nhi::Budget {
        limit: "1 EUR".parse().unwrap(),
        ..budget
    });
    foreign[0].link = Arc::new(link);
    assert_eq!(code(world.ask(&foreign, "draft", 1)), "budget_currency");
}

/// Chains below one link share what counts above them, and nothing else: not a budget that
/// cannot be counted, and not the limits of the link beside.
#[tokio::test]
async fn what_is_shared_above_is_all_that_is_shared() {
    let world = World::new().await;
    let lead = world.chain(&[("lead", Some(("1", Total)))]);
    let below = |name, budget| {
        let hop = world.below(lead.last(), name, budget);
        vec![lead[0].clone(), hop]
    };
    let first = below("first", Some(("0.5", Total)));
    let mut foreign = below("foreign", Some(("0.5", Total)));
    let mut link = (*foreign[1].link).clone();
    link.budget = link.budget.map(|budget| creto_nhi::Budget {
        limit: "1 EUR".parse().unwrap(),
        ..budget
    });
    foreign[1].link = Arc::new(link);
    let free = below("free", None);
    // As long as somebody holds it.
    let _bound = [&first, &foreign, &free].map(|chain| world.account(chain));

    world.reserve(&first, "draft", 1).await;
    assert!(matches!(
        world.ask(&foreign, "draft", 1),
        Err(Refusal::Refused {
            code: "budget_currency",
            ..
        })
    ));
    world.reserve(&first, "draft", 1).await;
    let own = exceeded(world.ask(&first, "draft", 1));
    assert_eq!(own.limit, quantity("0.5"));
    world.reserve(&free, "draft", 2).await;
    let leads = exceeded(world.ask(&free, "draft", 1));
    assert_eq!((leads.limit, leads.used), (quantity("1"), quantity("1")));
}

#[tokio::test]
async fn free_actions_pass_a_spent_budget() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", Some(("0.25", Total)))]);
    world.reserve(&hops, "draft", 1).await;
    exceeded(world.ask(&hops, "read", 1));
    let free = world.ask(&hops, "history", 1_000).unwrap();
    let cost = Money::zero(world.meter.prices().currency());
    assert_eq!(free.cost(), Some(cost));
}

#[tokio::test]
async fn more_than_was_reserved_is_settled_as_far_as_it_fits() {
    let world = World::new().await;
    let hops = world.chain(&[("planner", Some(("2", Total))), ("bot", Some(("1", Total)))]);
    let action = world.reserve(&hops, "draft", 2).await;
    let error = world
        .meter
        .draft_settlement(world.org, action, 5)
        .unwrap_err();
    assert_eq!(error.code(), "settle_exceeds_reservation");
    assert_eq!(
        world.balance(&world.meter, &hops[1])[1],
        usd("0.5"),
        "nothing changed"
    );
    let draft = world.meter.draft_settlement(world.org, action, 4).unwrap();
    let unproven = world
        .meter
        .settle(draft.clone(), creto_types::Commit::default());
    assert_eq!(unproven.await.unwrap_err().code(), "evidence_required");
    // Somebody else takes the room between the draft and the settlement.
    let other = world.ask(&hops, "draft", 1).unwrap();
    let late = world.meter.settle(draft, world.commit("usage.settled"));
    assert_eq!(late.await.unwrap_err().code(), "settle_exceeds_reservation");
    drop(other);
    world.settle(action, 4).await;
    for (hop, left) in hops.iter().zip(["1", "0"]) {
        assert_eq!(
            world.balance(&world.meter, hop),
            [usd("1"), usd("0"), usd(left)]
        );
    }
}

#[tokio::test]
async fn dropped_and_expired_reservations_are_given_back() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", Some(("1", Total)))]);
    drop(world.ask(&hops, "draft", 1).unwrap());
    let kept = world.reserve(&hops, "draft", 1).await;
    assert_eq!(world.balance(&world.meter, &hops[0])[1], usd("0.25"));

    assert!(world.meter.expired(world.clock.now(), 10).is_empty());
    world.clock.advance(TTL);
    let due = world.meter.expired(world.clock.now(), 10);
    let ids: Vec<_> = due
        .iter()
        .map(|reservation| reservation.action_id)
        .collect();
    assert_eq!(ids, [kept]);
    let released = world
        .meter
        .release(world.org, kept, world.commit("usage.released"));
    released.await.unwrap();
    assert_eq!(
        world.balance(&world.meter, &hops[0]),
        [usd("0"), usd("0"), usd("1")]
    );
}

#[tokio::test]
async fn a_restart_rebuilds_every_counter() {
    let world = World::new().await;
    let hops = world.chain(&[("planner", Some(("5", Month))), ("bot", Some(("1", Total)))]);
    let settled = world.reserve(&hops, "draft", 2).await;
    world.settle(settled, 1).await;
    let open = world.reserve(&hops, "draft", 1).await;
    let released = world.reserve(&hops, "draft", 1).await;
    let done = world.meter.release(world.org, released, world.commit("x"));
    done.await.unwrap();
    let _in_memory_alone = world.ask(&hops, "draft", 1).unwrap();

    let meter = world.reopen().await;
    for hop in &hops {
        let [used, reserved, _] = world.balance(&meter, hop);
        assert_eq!(
            [used, reserved],
            [usd("0.25"), usd("0.25")],
            "what was not committed is gone, the rest is kept"
        );
    }
    let draft = meter.draft_settlement(world.org, open, 1).unwrap();
    let settled = meter.settle(draft, world.commit("usage.settled")).await;
    settled.unwrap();
    assert_eq!(world.balance(&meter, &hops[1])[2], usd("0.5"));
}

/// An agent that leaves reservations open has no room for more, and takes none from
/// others but what the organization has in all.
#[tokio::test]
async fn open_reservations_have_a_bound_that_time_mends() {
    let config = MeterConfig {
        open: OpenBounds {
            per_agent: 2,
            per_organization: 3,
        },
        ..no_rate()
    };
    let world = World::with(config, |store| store).await;
    let bot = world.chain(&[("bot", Some(("1", Total)))]);
    let other = world.chain(&[("other", None)]);
    world.reserve(&bot, "draft", 1).await;
    world.clock.advance(TTL / 2);
    world.reserve(&bot, "draft", 1).await;
    let refused = |error| match error {
        MeteringError::TooManyOpen {
            scope, retry_after, ..
        } => (scope, retry_after),
        other => panic!("{other:?}"),
    };
    let hold = world.ask(&bot, "draft", 1).unwrap();
    let error = world.keep("draft", hold).await.unwrap_err();
    assert_eq!(error.code(), "too_many_open_reservations");
    let (scope, retry_after) = refused(error);
    assert_eq!(scope, LimitScope::Agent(name("bot")));
    assert_eq!(retry_after, TTL / 2);
    let given_back = world.balance(&world.meter, &bot[0]);
    assert_eq!(given_back[1], usd("0.50"), "what it held was given back");

    // The wait suffices, whether what expired is closed by then or not.
    world.clock.advance(retry_after - Duration::from_nanos(1));
    let hold = world.ask(&bot, "draft", 1).unwrap();
    assert!(world.keep("draft", hold).await.is_err());
    world.clock.advance(Duration::from_nanos(1));
    let last = world.reserve(&bot, "draft", 1).await;

    let of_other = world.reserve(&other, "draft", 1).await;
    let hold = world.ask(&other, "draft", 1).unwrap();
    let error = world.keep("draft", hold).await.unwrap_err();
    assert_eq!(refused(error).0, LimitScope::Organization);
    world.settle(of_other, 1).await;
    world.reserve(&other, "draft", 1).await;
    let released = world.meter.release(world.org, last, world.commit("x"));
    released.await.unwrap();
    world.reserve(&bot, "draft", 1).await;
}

#[tokio::test]
async fn no_organization_waits_for_what_expired_in_another() {
    let world = World::new().await;
    let crowd = world.chain(&[("bot", None)]);
    for _ in 0..20 {
        world.reserve(&crowd, "free", 1).await;
    }
    let other = World {
        clock: Arc::clone(&world.clock),
        ids: Arc::clone(&world.ids),
        org: world.ids.next(),
        store: Arc::clone(&world.store),
        commits: Arc::clone(&world.commits),
        meter: Arc::clone(&world.meter),
    };
    world.clock.advance(Duration::from_secs(1));
    let late = other
        .reserve(&other.chain(&[("bot", None)]), "free", 1)
        .await;
    world.clock.advance(TTL);
    let due = world.meter.expired(world.clock.now(), 4);
    assert_eq!(due.len(), 4);
    assert_eq!(due[1].action_id, late, "the first of each comes first");
    let of_crowd = due.iter().filter(|due| due.org == world.org);
    assert_eq!(of_crowd.count(), 3);
}
