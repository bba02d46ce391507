//! Reserving in one part of a tree, by what is set aside there.
//!
//! The agent's own counters need nothing set aside: what counts below the last link of a
//! chain alone is counted by that link's holder, whose lock is held, and so is that of the
//! organization. Whatever does not simply fit is left to who locks the whole tree.

use std::sync::Arc;

use creto_authz::{HoldData, Spend};

use super::cell::Cell;
use super::plan::{Counted, Plan, Split};
use super::tree::{Advances, InPart, Tree, Whole};

/// A counter, and what is set aside of it if it is of the tree and shared.
type Shared<'a> = (&'a Counted, Option<&'a Advances>);

impl Plan {
    /// Every counter of the chain, and one part of its tree; `None` while that has no parts.
    #[inline]
    fn in_part(&self) -> Option<(InPart<'_>, impl Iterator<Item = Shared<'_>> + Clone)> {
        let split = self.above.split.get()?;
        let part = split.parts.lock_one(self.above.tree.as_ref()?)?;
        let above = self.above.cells.iter();
        let above = above.zip(split.advances.iter().map(Option::as_ref));
        let own = self.own().iter().map(|counted| (counted, None));
        Some((part, own.chain(above)))
    }

    /// Reserves for every cell, or for none: false where it is not sure that there is room.
    #[inline]
    pub(super) fn reserve_in_part<const PACED: bool>(
        &self,
        spend: &Spend<'_>,
        data: &HoldData,
    ) -> bool {
        let Some((part, cells)) = self.in_part() else {
            return false;
        };
        let (action, now) = (spend.action, spend.now.mono_ns);
        let mut locks = self.lock();
        if PACED && !locks.in_time(action, now) {
            return false;
        }
        let shares = cells
            .filter(|(counted, _)| counted.counts(action))
            .map(|(counted, advances)| {
                let share = counted.share(data.amount, i128::from(data.units));
                (counted.cell.as_ref(), advances, share)
            })
            .filter(|(.., share)| *share != 0);
        let fits = |(cell, advances, share): (&Cell, Option<&Advances>, i128)| match advances {
            Some(advances) => advances.cover(&part, data.at, share),
            None => cell.quiet(&locks.agent, data.at, share),
        };
        if !shares.clone().all(fits) {
            return false;
        }
        for (cell, advances, share) in shares {
            match advances {
                Some(advances) => advances.take(&part, share),
                None => cell.take(&locks.agent, share),
            }
        }
        if PACED {
            locks.count_call(action, now);
        }
        true
    }

    /// Gives back to every cell, or to none: false where a window is another by now.
    #[inline]
    pub(super) fn take_back_in_part(
        &self,
        counts: impl Fn(&Counted) -> bool,
        data: &HoldData,
    ) -> bool {
        let Some((part, cells)) = self.in_part() else {
            return false;
        };
        let locks = self.lock();
        let shares = cells
            .filter(|(counted, _)| counts(counted))
            .map(|(counted, advances)| {
                let share = counted.share(data.amount, i128::from(data.units));
                (counted.cell.as_ref(), advances, share)
            });
        let mut aside = shares
            .clone()
            .filter_map(|(_, advances, share)| Some((advances?, share)));
        if !aside.all(|(advances, share)| advances.have_room(&part, data.at, share)) {
            return false;
        }
        for (cell, advances, share) in shares {
            match advances {
                Some(advances) => advances.give_back(&part, share),
                None => cell.give_back(&locks.agent, data.at, share),
            }
        }
        true
    }

    /// After a call that needed the whole tree: gives a tree parts that so many waited for,
    /// and sets something aside for the part that this thread takes.
    #[inline]
    pub(super) fn share_out(&self, whole: Option<Whole<'_>>, at: i64) {
        if let (Some(tree), Some(whole)) = (&self.above.tree, whole)
            && tree.is_busy()
        {
            self.share_out_busy(tree, &whole, at);
        }
    }

    #[cold]
    fn share_out_busy(&self, tree: &Arc<Tree>, whole: &Whole<'_>, at: i64) {
        let parts = whole.parts();
        if whole.len() == 0 {
            // Whoever locks the tree next locks them too.
            return;
        }
        let cells = &self.above.cells;
        let split = self.above.split.get_or_init(|| Split {
            parts: parts.clone(),
            advances: cells
                .iter()
                .map(|counted| {
                    counted
                        .cell
                        .is_of(tree)
                        .then(|| counted.cell.advances(whole))
                })
                .collect(),
        });
        for (counted, advances) in cells.iter().zip(&split.advances) {
            if let Some(advance) = advances.as_ref().and_then(|them| them.usual(whole)) {
                counted.cell.set_aside(whole, advance, at);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::{AtomicU64, Ordering};

    use creto_authz::{Account as _, Action, Hold, Refusal};
    use creto_nhi::test_util::{agent, hop, rights};
    use creto_nhi::{Budget, BudgetPeriod, Hop};
    use creto_types::{Currency, OrgId, Quantity, Reading, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::limits::account::{ChainAccount, plan_of};
    use crate::limits::cell::Count;
    use crate::limits::model::{Limit, LimitId, OnExceed, Scope, Window};
    use crate::limits::registry::{Org, changed};
    use crate::limits::rule::Rule;
    use crate::limits::tree::take_from_now_on;
    use crate::limits::window::Span;
    use crate::prices::{PriceBook, PriceTable};
    use crate::rate::RateLimit;

    const HOUR: i64 = 3_600_000_000_000;

    /// A planner with two leads, of whom the first has two agents and acts itself.
    struct World {
        accounts: Vec<Arc<ChainAccount>>,
        held: Vec<Hold>,
    }

    impl World {
        /// With so many units for the planner a day.
        fn new(units: u64, limits: &[(OnExceed, u64)]) -> Self {
            let id: OrgId = format!("org_{:032x}", 1).parse().unwrap();
            let rate = RateLimit::per_second(NonZeroU32::MAX, NonZeroU32::MAX);
            let org = Arc::new(Org::new(id, rate));
            let prices = PriceBook::new(Currency::USD, []).unwrap();
            let prices = Arc::new(PriceTable::new(prices));
            let below = |parent: Option<&Hop>, number: u8, name: &str, units, period| {
                let link = format!("lnk_{number:032x}").parse().unwrap();
                let delegator = parent.map_or("owner", |hop| hop.link.delegatee.as_str());
                let limit = Quantity::Units(units);
                let budget = Some(Budget { limit, period });
                let all = rights(&[("*", "*")]);
                hop(id, link, parent, delegator, name, all, budget)
            };
            let planner = below(None, 1, "planner", units, BudgetPeriod::Day);
            let lead = below(Some(&planner), 2, "lead", units / 2, BudgetPeriod::Hour);
            let other = below(Some(&planner), 3, "other", units, BudgetPeriod::Total);
            let chains = [
                vec![planner.clone(), lead.clone()],
                vec![
                    planner.clone(),
                    lead.clone(),
                    below(Some(&lead), 4, "one", units, BudgetPeriod::Month),
                ],
                vec![
                    planner.clone(),
                    lead.clone(),
                    below(Some(&lead), 5, "two", units / 4, BudgetPeriod::Hour),
                ],
                vec![planner.clone(), other],
            ];
            for ((on_exceed, units), number) in limits.iter().zip(1..) {
                let limit = Arc::new(Limit {
                    id: format!("lim_{number:032x}").parse::<LimitId>().unwrap(),
                    org: id,
                    scope: Scope::Delegation {
                        link: lead.link.id,
                        root: planner.link.id,
                        holder: lead.link.delegatee.clone(),
                    },
                    event: None,
                    limit: Quantity::Units(*units),
                    window: Window::Total,
                    time_zone: "UTC".to_owned(),
                    on_exceed: *on_exceed,
                    grace: None,
                    thresholds: vec![100],
                    set_at: Timestamp::UNIX_EPOCH,
                    set_by: lead.link.delegator.clone(),
                });
                let rule = Rule::set(&limit).unwrap();
                let nothing = crate::limits::history::Used::default();
                org.registry().install(&limit, rule, Span::ALWAYS, nothing);
            }
            changed(&org);
            let account = |hops| org.account(&agent(hops), &prices, 0);
            let accounts = chains.map(account).into();
            Self {
                accounts,
                held: Vec::new(),
            }
        }

        /// As if many had waited.
        fn in_parts(self) -> Self {
            let tree = self.accounts[0].plan().above.tree.as_ref().unwrap();
            tree.make_busy();
            self
        }

        fn ask(&self, who: usize, units: u64, at: i64) -> Result<Hold, Refusal> {
            Arc::clone(&self.accounts[who]).reserve(&Spend {
                action: &Action::named("read"),
                units,
                now: Reading {
                    wall_ns: at,
                    mono_ns: 0,
                },
            })
        }

        fn counts(&self, at: i64) -> Vec<Count> {
            let cells = self
                .accounts
                .iter()
                .flat_map(|account| account.plan().cells());
            cells
                .map(|counted| counted.cell.read(&counted.cell.lock(), at))
                .collect()
        }

        /// Settles one of those held, with so much of it.
        fn settle(&mut self, place: usize, used: u64) {
            let (holder, data) = self.held.swap_remove(place).into_parts();
            let used = i128::from(used.min(data.units));
            for counted in plan_of(&*holder).unwrap().cells() {
                let held = counted.cell.lock();
                let share = counted.share(data.amount, i128::from(data.units));
                counted.cell.close(&held, data.at, share, 0, used);
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask { who: usize, units: u64 },
        GiveBack(usize),
        Settle(usize, u64),
        Wait(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
        let step = prop_oneof![
            6 => (0..4_usize, 0..9_u64).prop_map(|(who, units)| Step::Ask { who, units }),
            2 => any::<usize>().prop_map(Step::GiveBack),
            2 => (any::<usize>(), 0..9_u64).prop_map(|(which, used)| Step::Settle(which, used)),
            // A clock may step back.
            1 => (-HOUR..2 * HOUR).prop_map(Step::Wait),
        ];
        prop::collection::vec((0..4_usize, step), 1..120)
    }

    fn limits() -> impl Strategy<Value = Vec<(OnExceed, u64)>> {
        prop_oneof![
            Just(vec![]),
            Just(vec![(OnExceed::AllowWithOverage, 30)]),
            Just(vec![(OnExceed::NotifyOnly, 20)]),
        ]
    }

    proptest! {
        /// Whichever part a call comes to, a tree in parts answers and counts as one that
        /// has none.
        #[test]
        fn parts_change_no_answer(units in 4..200_u64, limits in limits(), steps in steps()) {
            let mut whole = World::new(units, &limits);
            let mut parts = World::new(units, &limits).in_parts();
            let mut now = 1_000 * HOUR;
            for (part, step) in steps {
                take_from_now_on(part);
                match step {
                    Step::Ask { who, units } => {
                        match (whole.ask(who, units, now), parts.ask(who, units, now)) {
                            (Ok(one), Ok(other)) => {
                                prop_assert_eq!(one.data(), other.data());
                                whole.held.push(one);
                                parts.held.push(other);
                            }
                            (one, other) => {
                                prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
                            }
                        }
                    }
                    Step::GiveBack(_) | Step::Settle(..) if whole.held.is_empty() => {}
                    Step::GiveBack(which) => {
                        let which = which % whole.held.len();
                        drop(whole.held.swap_remove(which));
                        drop(parts.held.swap_remove(which));
                    }
                    Step::Settle(which, used) => {
                        let which = which % whole.held.len();
                        whole.settle(which, used);
                        parts.settle(which, used);
                    }
                    Step::Wait(nanos) => now += nanos,
                }
                prop_assert_eq!(whole.counts(now), parts.counts(now));
            }
        }
    }

    /// Neither one unit too many nor one too few, whoever asks in whichever part.
    #[test]
    fn threads_in_parts_spend_exactly_the_budget() {
        const UNITS: u64 = 20_000;
        let world = World::new(UNITS, &[]).in_parts();
        let granted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (world, granted) = (&world, &granted);
                scope.spawn(move || {
                    for turn in 0..4_000_u64 {
                        let units = 1 + turn % 3;
                        match world.ask(if thread % 2 == 0 { 1 } else { 3 }, units, 0) {
                            // Some give back at once what they got.
                            Ok(hold) if turn % 4 == 0 => drop(hold),
                            Ok(hold) => {
                                granted.fetch_add(units, Ordering::Relaxed);
                                drop(hold.into_parts());
                            }
                            Err(Refusal::Exceeded(_)) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                });
            }
        });
        assert!(world.accounts[1].plan().above.split.get().is_some());
        // What is left is found wherever it was set aside.
        for who in [1, 3] {
            while let Ok(hold) = world.ask(who, 1, 0) {
                granted.fetch_add(1, Ordering::Relaxed);
                drop(hold.into_parts());
            }
        }
        assert_eq!(granted.load(Ordering::Relaxed), UNITS);
    }

    /// Threads that wait for one another are what gives a tree its parts.
    #[test]
    fn a_tree_that_is_waited_for_gets_parts() {
        let world = World::new(1_000, &[]);
        let above = &world.accounts[1].plan().above;
        let tree = above.tree.as_ref().unwrap();
        drop(world.ask(1, 1, 0).unwrap());
        assert!(above.split.get().is_none());
        while !tree.is_busy() {
            let (held, waits) = (tree.lock(), tree.waits());
            std::thread::scope(|scope| {
                scope.spawn(|| drop(world.ask(1, 1, 0).unwrap()));
                while tree.waits() == waits {
                    std::thread::yield_now();
                }
                drop(held);
            });
        }
        drop(world.ask(1, 1, 0).unwrap());
        assert!(above.split.get().is_some());
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod against_whole;
