//! When a limit starts anew, and how long a refused call waits.

use std::time::Duration;

use creto_authz::Refusal;
use creto_metering::{Limit, Window};
use creto_nhi::BudgetPeriod::Day;

use crate::limits::{exceeded, of_agent};
use crate::world::{World, at, config};

#[tokio::test]
async fn windows_are_those_of_the_zone() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", None)]);
    // It is 23:00 in UTC, and 01:00 of the next day and month in Berlin.
    for (window, zone, resets) in [
        (Window::Hourly, "Asia/Kathmandu", "2026-03-31T23:15:00Z"),
        (Window::Daily, "Europe/Berlin", "2026-04-01T22:00:00Z"),
        (Window::Monthly, "Europe/Berlin", "2026-04-30T22:00:00Z"),
        (Window::Monthly, "UTC", "2026-04-01T00:00:00Z"),
    ] {
        let limit = Limit {
            window,
            time_zone: zone.to_owned(),
            ..world.limit(of_agent(), "1 units")
        };
        let id = world.set(limit).await;
        let held = world.ask(&hops, "free", 1).unwrap();
        let refused = exceeded(world.ask(&hops, "free", 1));
        assert_eq!(refused.resets_at, Some(at(resets)), "{window:?} {zone}");
        drop(held);
        let removed = world.meter.remove_limit(world.org, id, world.commit("x"));
        removed.await.unwrap();
    }
}

#[tokio::test]
async fn a_wait_is_exactly_as_long_as_it_takes() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", None)]);
    let hourly = Limit {
        window: Window::Hourly,
        time_zone: "Asia/Kathmandu".to_owned(),
        ..world.limit(of_agent(), "1 units")
    };
    world.set(hourly).await;
    world.set(world.limit(of_agent(), "1 USD")).await;
    let _both = world.ask(&hops, "draft", 1).unwrap();
    let of_units = exceeded(world.ask(&hops, "draft", 1));
    assert_eq!(of_units.retry_after, Some(Duration::from_secs(15 * 60)));
    world
        .clock
        .advance(of_units.retry_after.unwrap() - Duration::from_nanos(1));
    exceeded(world.ask(&hops, "draft", 1));
    world.clock.advance(Duration::from_nanos(1));
    let _again = world.ask(&hops, "draft", 1).unwrap();
    let total = Limit {
        window: Window::Total,
        ..world.limit(of_agent(), "2 units")
    };
    world.set(total).await;
    let _one = world.ask(&hops, "free", 1);
    let refused = exceeded(world.ask(&hops, "free", 3));
    assert_eq!(refused.retry_after, None, "the total never starts anew");
}

/// Of two limits that are full, the one that starts anew later is waited for, whichever
/// that is.
#[tokio::test]
async fn the_wait_is_for_the_last_of_those_that_refuse() {
    // The hours of Kathmandu begin at a quarter past.
    for (a_day, asked_before) in [("1 units", 0), ("2 units", 1)] {
        let world = World::new().await;
        let hops = world.chain(&[("bot", None)]);
        let hourly = Limit {
            window: Window::Hourly,
            time_zone: "Asia/Kathmandu".to_owned(),
            ..world.limit(of_agent(), "1 units")
        };
        world.set(hourly).await;
        let daily = Limit {
            window: Window::Daily,
            ..world.limit(of_agent(), a_day)
        };
        world.set(daily).await;
        let mut held = Vec::new();
        for _ in 0..asked_before {
            held.push(world.ask(&hops, "free", 1).unwrap());
            world.clock.advance(Duration::from_secs(15 * 60));
        }
        held.push(world.ask(&hops, "free", 1).unwrap());
        let wait = exceeded(world.ask(&hops, "free", 1)).retry_after.unwrap();
        assert_eq!(wait, Duration::from_secs(60 * 60), "{a_day} a day");
        world.clock.advance(wait - Duration::from_nanos(1));
        exceeded(world.ask(&hops, "free", 1));
        world.clock.advance(Duration::from_nanos(1));
        drop(world.ask(&hops, "free", 1).unwrap());
    }
}

#[tokio::test]
async fn whoever_asks_too_fast_and_too_much_waits_for_both() {
    let world = World::with(config(1, 1), |store| store).await;
    let hops = world.chain(&[("bot", None)]);
    let total = Limit {
        window: Window::Total,
        ..world.limit(of_agent(), "1 units")
    };
    world.set(total).await;
    let held = world.ask(&hops, "free", 1).unwrap();
    let refused = exceeded(world.ask(&hops, "free", 1));
    assert_eq!(refused.retry_after, None, "the limit never starts anew");
    assert_eq!(refused.reserved, refused.used, "what may come back sooner");
    drop(held);
    let too_fast = world.ask(&hops, "free", 1);
    assert!(matches!(too_fast, Err(Refusal::RateLimited { .. })));
}

#[tokio::test]
async fn a_clock_that_steps_back_never_gives_a_window_twice() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", Some(("1", Day)))]);
    world.clock.step_wall_to(at("2026-04-01T00:00:01Z"));
    let kept = world.reserve(&hops, "draft", 3).await;
    world.clock.step_wall_to(at("2026-03-31T23:59:59Z"));
    exceeded(world.ask(&hops, "draft", 2));
    let back = world.ask(&hops, "draft", 1).unwrap();
    drop(back);
    let back = world.reserve(&hops, "draft", 1).await;
    exceeded(world.ask(&hops, "draft", 1));
    let reservation = world.meter.reservation(world.org, back).unwrap();
    assert_eq!(reservation.reserved_at, at("2026-04-01T00:00:00Z"));
    world.settle(kept, 3).await;
    let mut world = world;
    world.meter = world.reopen().await;
    exceeded(world.ask(&hops, "draft", 1));
}

/// A clock that is ahead for a while gives nothing of the windows it passes over twice.
#[tokio::test]
async fn a_clock_that_was_ahead_comes_back_to_what_was_used() {
    const NOON: &str = "2026-03-31T12:00:00Z";
    let world = World::new().await;
    let hops = world.chain(&[("bot", Some(("0.75", Day)))]);
    let daily = Limit {
        window: Window::Daily,
        ..world.limit(of_agent(), "4 units")
    };
    let id = world.set(daily).await;
    world.clock.step_wall_to(at(NOON));
    let used = world.reserve(&hops, "draft", 1).await;
    world.settle(used, 1).await;
    let open = world.reserve(&hops, "draft", 2).await;
    exceeded(world.ask(&hops, "draft", 1));
    world.clock.step_wall_to(at("2026-04-02T12:00:00Z"));
    let ahead = world.reserve(&hops, "draft", 2).await;
    world.clock.step_wall_to(at(NOON));
    exceeded(world.ask(&hops, "draft", 1));
    assert_eq!(
        world.left(&world.meter, id),
        ["1 unit", "2 units", "1 unit"]
    );
    // What ends now ends in the window it was reserved in.
    world.settle(open, 1).await;
    assert_eq!(
        world.left(&world.meter, id),
        ["2 units", "0 units", "2 units"]
    );
    let back = world.reserve(&hops, "draft", 1).await;
    let reservation = world.meter.reservation(world.org, back).unwrap();
    assert_eq!(reservation.reserved_at, at(NOON));
    exceeded(world.ask(&hops, "draft", 1));
    // And what was reserved ahead counts there once that day has come.
    world.clock.step_wall_to(at("2026-04-01T12:00:00Z"));
    drop(world.ask(&hops, "draft", 3).unwrap());
    world.clock.step_wall_to(at("2026-04-02T12:00:00Z"));
    exceeded(world.ask(&hops, "draft", 2));
    world.settle(ahead, 2).await;
    assert_eq!(
        world.left(&world.meter, id),
        ["2 units", "0 units", "2 units"]
    );
}

/// A reservation lasts as long as reservations do, whatever window it had to count in.
#[tokio::test]
async fn a_reservation_that_counts_in_a_later_window_expires_in_its_own_time() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", Some(("3", Day)))]);
    world.clock.step_wall_to(at("2026-04-02T12:00:00Z"));
    let kept = world.reserve(&hops, "draft", 1).await;
    let lasts = |id| {
        let reservation = world.meter.reservation(world.org, id).unwrap();
        reservation.expires_at
    };
    let ttl = lasts(kept).duration_since(at("2026-04-02T12:00:00Z"));
    world.clock.step_wall_to(at("2026-03-31T12:00:00Z"));
    let back = world.reserve(&hops, "draft", 1).await;
    assert_eq!(lasts(back).duration_since(at("2026-03-31T12:00:00Z")), ttl);
}

/// The window that was counted in before the clock stepped back is known when a limit is
/// set meanwhile, whether what was counted is settled or open.
#[tokio::test]
async fn a_limit_that_is_set_after_the_clock_stepped_back_knows_the_later_window() {
    for still_open in [false, true] {
        let world = World::new().await;
        let hops = world.chain(&[("bot", None)]);
        world.clock.step_wall_to(at("2026-02-01T00:00:01Z"));
        let used = world.reserve(&hops, "free", 90).await;
        world.settle(used, 90).await;
        if still_open {
            world.reserve(&hops, "free", 1).await;
        }
        world.clock.step_wall_to(at("2026-01-31T23:59:59Z"));
        let early = world.reserve(&hops, "free", 50).await;
        world.settle(early, 50).await;
        let limit = Limit {
            window: Window::Monthly,
            ..world.limit(of_agent(), "100 units")
        };
        let id = world.set(limit).await;
        let open = u64::from(still_open);
        let left = |meter: &creto_metering::Meter| world.left(meter, id);
        let expected = [
            "90 units".to_owned(),
            format!("{open} unit{}", if open == 1 { "" } else { "s" }),
            format!("{} units", 10 - open),
        ];
        assert_eq!(left(&world.meter), expected);
        world.clock.step_wall_to(at("2026-02-01T00:00:02Z"));
        assert_eq!(left(&world.meter), expected);
        exceeded(world.ask(&hops, "free", 11 - open));
        let rest = world.ask(&hops, "free", 10 - open).unwrap();
        drop(rest);
        assert_eq!(left(&*world.reopen().await), expected);
    }
}
