//! Whatever happens, timestamps rise and stay below the durable bound.

use std::num::NonZeroU32;
use std::time::Duration;

use creto_consensus::memory::Failure;
use creto_consensus::{OracleError, TimestampOracle as _, WindowStore as _};
use creto_types::Clock as _;
use proptest::prelude::*;

use crate::{World, config, instant};

#[derive(Clone, Debug)]
enum Event {
    Reserve(u32),
    Pass(u64),
    Step(i64),
    Restart,
    FailWrite(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1_u32..600_000).prop_map(Event::Reserve),
        4 => (1_u32..10).prop_map(Event::Reserve),
        3 => (0_u64..3_000).prop_map(Event::Pass),
        2 => (-8_000_i64..8_000).prop_map(Event::Step),
        2 => Just(Event::Restart),
        1 => any::<bool>().prop_map(Event::FailWrite),
    ]
}

proptest! {
    #[test]
    fn timestamps_rise(events in prop::collection::vec(event(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let mut oracle = world.open().await.ok();
            let mut last = None;
            for event in events {
                match event {
                    Event::Reserve(count) => {
                        let Some(oracle) = &oracle else { continue };
                        let count = NonZeroU32::new(count).unwrap();
                        let now = u64::try_from(world.clock.now().as_millisecond()).unwrap();
                        match oracle.reserve(count).await {
                            Ok(range) => {
                                assert!(Some(range.first()) > last);
                                assert!(range.first().millis() >= now);
                                assert!(range.iter().next() == Some(range.first()));
                                last = Some(range.last());
                                let bound = world.store.upper_bound().await.unwrap().unwrap();
                                assert!(range.last().millis() < bound);
                            }
                            Err(OracleError::ClockStepped { behind, limit }) => {
                                assert!(behind > limit);
                            }
                            Err(OracleError::ClockSteppedForward { ahead, limit }) => {
                                assert!(ahead > limit);
                                let bound = world.store.upper_bound().await.unwrap();
                                assert!(bound < Some(now));
                            }
                            Err(OracleError::Store(_)) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                    Event::Pass(ms) => world.clock.advance(Duration::from_millis(ms)),
                    Event::Step(ms) => {
                        let now = world.clock.now().as_millisecond();
                        world.clock.step_wall_to(instant(u64::try_from(now + ms).unwrap()));
                    }
                    Event::Restart => match world.open().await {
                        Ok(opened) => oracle = Some(opened),
                        Err(OracleError::ClockStepped { behind, .. }) => {
                            assert!(behind > config().max_backward_step);
                            oracle = None;
                        }
                        Err(other) => panic!("{other}"),
                    },
                    Event::FailWrite(applied) => world.store.fail_next(if applied {
                        Failure::Applied
                    } else {
                        Failure::NotApplied
                    }),
                }
            }
        });
    }
}
