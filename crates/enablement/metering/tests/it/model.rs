//! A limit that is set, changed, exceeded and rebuilt, against a model that adds
//! everything up anew each time.

use std::time::Duration;

use creto_metering::{Limit, Scope, Window};
use creto_types::{ActionId, Clock as _, Timestamp};
use proptest::prelude::*;

use crate::world::{World, name, quantity};

const GRACE: u64 = 2;

#[derive(Clone, Debug)]
enum Step {
    Ask(u64),
    Settle {
        pick: usize,
        units: u64,
    },
    Release(usize),
    Minutes(u64),
    Set(u64),
    /// A kill: what was reserved in memory alone is gone.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1_u64..5).prop_map(Step::Ask),
        3 => (any::<usize>(), 0_u64..7).prop_map(|(pick, units)| Step::Settle { pick, units }),
        1 => any::<usize>().prop_map(Step::Release),
        1 => (1_u64..50).prop_map(Step::Minutes),
        1 => (0_u64..14).prop_map(Step::Set),
        1 => Just(Step::Reopen),
    ]
}

struct Took {
    id: ActionId,
    at: Timestamp,
    units: u64,
    open: bool,
}

/// Hours of Kathmandu begin a quarter past those of UTC.
fn hour(at: Timestamp) -> i64 {
    (at.as_second() - 15 * 60).div_euclid(3_600)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_set_limit_grants_exactly_what_fits(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            let hops = world.chain(&[("planner", None), ("bot", None)]);
            let limit = |world: &World, most: u64| Limit {
                window: Window::Hourly,
                time_zone: "Asia/Kathmandu".to_owned(),
                grace: Some(quantity("2 units")),
                ..world.limit(Scope::Agent(name("bot")), &format!("{most} units"))
            };
            let mut most = 8;
            let id = world.set(limit(&world, most)).await;
            let mut model: Vec<Took> = Vec::new();
            for step in steps {
                let now = world.clock.now();
                let taken = |model: &[Took]| -> u64 {
                    let present = model.iter().filter(|took| hour(took.at) == hour(now));
                    present.map(|took| took.units).sum()
                };
                let open: Vec<_> = (0..model.len()).filter(|i| model[*i].open).collect();
                match step {
                    Step::Ask(units) => {
                        let sum = taken(&model) + units;
                        let asked = world.ask(&hops, "free", units);
                        assert_eq!(asked.is_ok(), sum <= most + GRACE, "{asked:?}");
                        if let Ok(hold) = asked {
                            assert_eq!(hold.data().over, sum > most);
                            let id = world.keep("free", hold).await.unwrap();
                            model.push(Took { id, at: now, units, open: true });
                        }
                    }
                    Step::Settle { pick, units } => {
                        if open.is_empty() { continue; }
                        let picked = open[pick % open.len()];
                        let took = &model[picked];
                        let surplus = units.saturating_sub(took.units);
                        // Not in a window that is over, whoever called since.
                        let fits = surplus == 0
                            || hour(took.at) == hour(now)
                                && taken(&model) + surplus <= most + GRACE;
                        let drafted = world.meter.draft_settlement(world.org, took.id, units);
                        assert_eq!(drafted.is_ok(), fits, "{drafted:?}");
                        if fits {
                            world.settle(took.id, units).await;
                            model[picked].units = units;
                            model[picked].open = false;
                        }
                    }
                    Step::Release(pick) => {
                        if open.is_empty() { continue; }
                        let took = model.remove(open[pick % open.len()]);
                        let commit = world.commit("usage.released");
                        world.meter.release(world.org, took.id, commit).await.unwrap();
                    }
                    Step::Minutes(minutes) => {
                        world.clock.advance(Duration::from_secs(minutes * 60));
                    }
                    Step::Set(next) => {
                        most = next;
                        assert_eq!(world.set(limit(&world, most)).await, id);
                    }
                    Step::Reopen => {
                        let _in_memory_alone = world.ask(&hops, "free", 1);
                        world.meter = world.reopen().await;
                        let _known = world.account(&hops);
                    }
                }
                let now = world.clock.now();
                let present = model.iter().filter(|took| hour(took.at) == hour(now));
                let (mut used, mut reserved) = (0, 0);
                for took in present {
                    if took.open { reserved += took.units } else { used += took.units }
                }
                let left = most.saturating_sub(used + reserved);
                let expected = [used, reserved, left].map(|n| creto_types::Quantity::Units(n).to_string());
                assert_eq!(world.left(&world.meter, id), expected);
            }
        });
    }
}
