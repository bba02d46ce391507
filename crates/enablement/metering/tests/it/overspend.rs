//! Never one unit over, whoever calls and in whatever order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use creto_authz::{Action, Refusal, Spend};
use creto_nhi::BudgetPeriod::{Day, Month, Total};
use creto_nhi::Hop;
use creto_types::{Clock as _, Money};
use proptest::prelude::*;

use crate::world::{World, usd};

/// 64 threads ask for single units under one budget until it is empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_callers_spend_exactly_the_budget() {
    let world = Arc::new(World::new().await);
    // Two agents below one planner: 1,000 units there, 700 each below.
    let bot = world.chain(&[
        ("planner", Some(("1", Total))),
        ("bot", Some(("0.7", Total))),
    ]);
    let other = world.below(Some(&bot[0]), "other", Some(("0.7", Day)));
    let other = vec![bot[0].clone(), other];
    let granted = Arc::new(AtomicU64::new(0));
    let handles: Vec<_> = (0..64)
        .map(|i| {
            let world = Arc::clone(&world);
            let granted = Arc::clone(&granted);
            let hops = if i % 2 == 0 {
                bot.clone()
            } else {
                other.clone()
            };
            std::thread::spawn(move || {
                let account = world.account(&hops);
                let read = Action::named("read");
                let mut kept = Vec::new();
                for _ in 0..40 {
                    let now = world.clock.reading();
                    match Arc::clone(&account).reserve(
                        &Spend {
                            action: &read,
                            units: 1,
                            now,
                        },
                        &|| true,
                    ) {
                        // Some give back at once what they got.
                        Ok(hold) if i % 8 == 0 => drop(hold),
                        Ok(hold) => {
                            granted.fetch_add(1, Ordering::Relaxed);
                            kept.push(hold);
                        }
                        Err(Refusal::Exceeded(_)) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                }
                kept
            })
        })
        .collect();
    let mut kept = Vec::new();
    for handle in handles {
        kept.append(&mut handle.join().unwrap());
    }
    // Fill up what was given back.
    while let Ok(hold) = world.ask(&bot, "read", 1) {
        granted.fetch_add(1, Ordering::Relaxed);
        kept.push(hold);
    }
    while let Ok(hold) = world.ask(&other, "read", 1) {
        granted.fetch_add(1, Ordering::Relaxed);
        kept.push(hold);
    }
    assert_eq!(granted.load(Ordering::Relaxed), 1_000);
    let [used, reserved, remaining] = world.balance(&world.meter, &bot[0]);
    assert_eq!([used, reserved, remaining], [usd("0"), usd("1"), usd("0")]);
}

/// 64 tasks run the whole life of an action: reserve, commit, settle or release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_whole_lives_agree_with_the_ledger() {
    let world = Arc::new(World::new().await);
    let hops = world.chain(&[
        ("planner", Some(("0.5", Month))),
        ("bot", Some(("0.3", Total))),
    ]);
    let tasks: Vec<_> = (0..64_u64)
        .map(|i| {
            let world = Arc::clone(&world);
            let hops = hops.clone();
            tokio::spawn(async move {
                let mut spent = 0;
                for turn in 0..12 {
                    let units = 1 + (i + turn) % 4;
                    let Ok(hold) = world.ask(&hops, "read", units) else {
                        continue;
                    };
                    let id = world.keep("read", hold).await.unwrap();
                    if (i + turn) % 3 == 0 {
                        let released = world.meter.release(world.org, id, world.commit("x"));
                        released.await.unwrap();
                    } else {
                        world.settle(id, units - 1).await;
                        spent += units - 1;
                    }
                }
                spent
            })
        })
        .collect();
    let mut spent = 0;
    for task in tasks {
        spent += task.await.unwrap();
    }
    let expected = usd("0.001").checked_mul(spent).unwrap();
    assert!(spent > 0 && spent <= 300);
    for hop in &hops {
        let [used, reserved, _] = world.balance(&world.meter, hop);
        assert_eq!([used, reserved], [expected, usd("0")]);
        let reopened = world.reopen().await;
        assert_eq!(world.balance(&reopened, hop)[0], expected);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask { who: usize, units: u64 },
    Settle { pick: usize, units: u64 },
    Release { pick: usize },
    Hours(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..3, 1_u64..6).prop_map(|(who, units)| Step::Ask { who, units }),
        3 => (any::<usize>(), 0_u64..9).prop_map(|(pick, units)| Step::Settle { pick, units }),
        1 => any::<usize>().prop_map(|pick| Step::Release { pick }),
        1 => (1_u64..30).prop_map(Step::Hours),
        1 => Just(Step::Reopen),
    ]
}

/// What a budget's window holds by adding up the model's own list.
fn in_window(hop: &Hop, at: creto_types::Timestamp, list: &[Took]) -> Money {
    let window = hop.link.budget.unwrap().period.window(at);
    list.iter()
        .filter(|took| took.hops.contains(&hop.link.id))
        .filter(|took| window.is_none_or(|window| window.contains(took.at)))
        .fold(usd("0"), |sum, took| sum.checked_add(&took.cost).unwrap())
}

struct Took {
    id: creto_types::ActionId,
    hops: Vec<creto_nhi::LinkId>,
    at: creto_types::Timestamp,
    units: u64,
    cost: Money,
    open: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against a model that adds everything up anew each time: a grant exactly
    /// when every budget of the chain has room, and balances that agree, over
    /// settling, releasing, time and restarts.
    #[test]
    fn grants_are_exactly_what_fits(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            let planner = world.chain(&[("planner", Some(("3", Month)))]);
            let mut chains = vec![planner.clone()];
            for budget in [("2", Total), ("1.5", Day)] {
                let mut chain = planner.clone();
                chain.push(world.below(chain.last(), "bot", Some(budget)));
                chains.push(chain);
            }
            let mut model: Vec<Took> = Vec::new();
            for step in steps {
                let now = world.clock.now();
                match step {
                    Step::Ask { who, units } => {
                        let hops = &chains[who];
                        let cost = usd("0.25").checked_mul(units).unwrap();
                        let fits = hops.iter().all(|hop| {
                            let sum = in_window(hop, now, &model).checked_add(&cost).unwrap();
                            sum.at_most(&hop.link.budget.unwrap().limit.money().unwrap()).unwrap()
                        });
                        let decision = world.ask(hops, "draft", units);
                        assert_eq!(decision.is_ok(), fits, "{decision:?}");
                        if let Ok(hold) = decision {
                            assert_eq!(hold.cost(), Some(cost));
                            let id = world.keep("draft", hold).await.unwrap();
                            let hops = hops.iter().map(|hop| hop.link.id).collect();
                            model.push(Took { id, hops, at: now, units, cost, open: true });
                        }
                    }
                    Step::Settle { pick, units } => {
                        let open: Vec<_> = (0..model.len()).filter(|i| model[*i].open).collect();
                        if open.is_empty() { continue; }
                        let picked = open[pick % open.len()];
                        let took = &model[picked];
                        let more = usd("0.25").checked_mul(units.saturating_sub(took.units));
                        let more = more.unwrap();
                        let chain = chains.iter().find(|chain| {
                            chain.iter().map(|hop| hop.link.id).eq(took.hops.iter().copied())
                        });
                        // Met since a restart.
                        let _account = world.account(chain.unwrap());
                        let fits = more == usd("0") || chain.unwrap().iter().all(|hop| {
                            let budget = hop.link.budget.unwrap();
                            let window = budget.period.window(took.at);
                            let sum = in_window(hop, took.at, &model).checked_add(&more).unwrap();
                            window.is_none_or(|window| window.contains(now))
                                && sum.at_most(&budget.limit.money().unwrap()).unwrap()
                        });
                        let drafted = world.meter.draft_settlement(world.org, took.id, units);
                        assert_eq!(drafted.is_ok(), fits, "{drafted:?}");
                        if !fits { continue; }
                        world.settle(took.id, units).await;
                        let took = &mut model[picked];
                        took.cost = usd("0.25").checked_mul(units).unwrap();
                        took.open = false;
                    }
                    Step::Release { pick } => {
                        let open: Vec<_> = (0..model.len()).filter(|i| model[*i].open).collect();
                        if open.is_empty() { continue; }
                        let took = model.remove(open[pick % open.len()]);
                        let commit = world.commit("usage.released");
                        world.meter.release(world.org, took.id, commit).await.unwrap();
                    }
                    Step::Hours(hours) => {
                        world.clock.advance(std::time::Duration::from_secs(hours * 3_600));
                    }
                    Step::Reopen => world.meter = world.reopen().await,
                }
                let now = world.clock.now();
                for hop in chains.iter().flatten() {
                    let [used, reserved, _] = world.balance(&world.meter, hop);
                    assert_eq!(
                        used.checked_add(&reserved).unwrap(),
                        in_window(hop, now, &model)
                    );
                }
            }
        });
    }
}
