//! The counters alone: reserving over a chain of three budgets and a rate, all or
//! none, beside three numbers with a lock each.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use creto_authz::{Account, Quota as _, Spend};

use super::hot::{action, at_random};
use super::world::World;
use crate::report::{Entry, Report};
use crate::ticks::Summary;

/// With the 152 leads and 152 planners above them, these are 10,000 budgets.
const AGENTS: usize = 9_696;
const AGENTS_OF_A_LEAD: usize = 64;

pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let entries = [
        ("authz/quota/10k_cells", 1, AGENTS),
        ("authz/quota/10k_cells/2t", 2, AGENTS),
        // Both threads by one chain.
        ("authz/quota/one_chain/2t", 2, 1),
    ];
    if !entries.iter().any(|(name, ..)| report.wants(name)) {
        return Ok(());
    }
    let world = World::new(1 << 10)?;
    let bound: Vec<_> = (0..AGENTS).map(|number| world.agent(number)).collect();
    let accounts: Vec<Arc<dyn Account>> = bound
        .iter()
        .map(|bound| world.meter.account(bound.identity()))
        .collect();
    let locked = Locked::new();
    for (name, threads, most) in entries {
        if report.wants(name) {
            let entry = Entry::latency(name, "ns", reserve(&world, &accounts, threads, most));
            let peer = at_random(
                threads,
                most,
                |place| locked.take(place),
                |taken| taken.is_some(),
            );
            report.add(entry.beside("three locked numbers", peer.median));
        }
    }
    let now = world.clock.now();
    for hop in bound.iter().flat_map(|bound| &bound.identity().hops) {
        let balance = world.meter.balance(hop, now).ok_or("every hop has one")?;
        assert_eq!(balance.remaining, balance.limit, "all was given back");
    }
    Ok(())
}

/// Reserving, at one instant, because reading the clock is no part of it; giving back is outside of the timing, and yet in the other thread's way.
fn reserve(world: &World, accounts: &[Arc<dyn Account>], threads: u64, most: usize) -> Summary {
    let (action, now) = (action(), world.clock.reading());
    at_random(
        threads,
        most,
        |place| {
            Arc::clone(&accounts[place]).reserve(
                &Spend {
                    action: &action,
                    units: 1,
                    now,
                },
                &|| true,
            )
        },
        Result::is_ok,
    )
}

/// The least that takes from three counters or from none.
struct Locked {
    agents: Vec<Mutex<i128>>,
    leads: Vec<Mutex<i128>>,
    planners: Vec<Mutex<i128>>,
}

struct Taken<'a>(&'a Locked, usize);

impl Locked {
    fn new() -> Self {
        let budgets = |count: usize| (0..count).map(|_| Mutex::new(i128::MAX)).collect();
        let leads = AGENTS.div_ceil(AGENTS_OF_A_LEAD);
        Self {
            agents: budgets(AGENTS),
            leads: budgets(leads),
            planners: budgets(leads),
        }
    }

    /// Always in this order.
    fn lock(&self, agent: usize) -> [MutexGuard<'_, i128>; 3] {
        let lead = agent / AGENTS_OF_A_LEAD;
        [&self.planners[lead], &self.leads[lead], &self.agents[agent]]
            .map(|budget| budget.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, agent: usize) -> Option<Taken<'_>> {
        let mut budgets = self.lock(agent);
        if budgets.iter().any(|left| **left < 1) {
            return None;
        }
        for left in &mut budgets {
            **left -= 1;
        }
        Some(Taken(self, agent))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for mut left in self.0.lock(self.1) {
            *left += 1;
        }
    }
}
