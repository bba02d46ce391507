//! A tree in parts, held against one that has none: everything that changes a counter, in any
//! order.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use creto_authz::{Account as _, Action, Hold, Refusal};
use creto_nhi::test_util::{agent, hop, rights};
use creto_nhi::{Budget, BudgetPeriod, Hop, LinkId};
use creto_types::{ActionId, Currency, Money, OrgId, Quantity, Reading, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::limits::account::{ChainAccount, plan_of};
use crate::limits::cell::Count;
use crate::limits::model::{Limit, LimitId, OnExceed, Scope, Window};
use crate::limits::open::{Open, Use};
use crate::limits::registry::{Org, changed};
use crate::limits::rule::Rule;
use crate::limits::tree::take_from_now_on;
use crate::limits::window::instant;
use crate::model::Reservation;
use crate::prices::{PriceBook, PriceTable};
use crate::rate::RateLimit;

const HOUR: i64 = 3_600_000_000_000;

struct World {
    org: Arc<Org>,
    accounts: Vec<Arc<ChainAccount>>,
    held: Vec<(Hold, &'static str)>,
    open: Vec<ActionId>,
    links: Vec<LinkId>,
    prices: Arc<PriceTable>,
    next: u128,
}

fn usd(cents: u64) -> Quantity {
    let m: Money = format!("{}.{:02} USD", cents / 100, cents % 100)
        .parse()
        .unwrap();
    Quantity::Money(m)
}

impl World {
    fn new(units: u64, burst: u32) -> Self {
        let id: OrgId = format!("org_{:032x}", 1).parse().unwrap();
        let rate = RateLimit::per_second(
            NonZeroU32::new(burst).unwrap(),
            NonZeroU32::new(burst).unwrap(),
        );
        let org = Arc::new(Org::new(id, rate));
        let prices = PriceBook::new(
            Currency::USD,
            [("read".to_owned(), "0.01 USD".parse().unwrap())],
        )
        .unwrap();
        let prices = Arc::new(PriceTable::new(prices));
        let below = |parent: Option<&Hop>, number: u8, name: &str, limit, period| {
            let link = format!("lnk_{number:032x}").parse().unwrap();
            let delegator = parent.map_or("owner", |hop| hop.link.delegatee.as_str());
            let budget = Some(Budget { limit, period });
            let all = rights(&[("*", "*")]);
            hop(id, link, parent, delegator, name, all, budget)
        };
        let u = Quantity::Units;
        let planner = below(None, 1, "planner", u(units), BudgetPeriod::Day);
        let lead = below(
            Some(&planner),
            2,
            "lead",
            usd(units / 2),
            BudgetPeriod::Hour,
        );
        let other = below(Some(&planner), 3, "other", u(units), BudgetPeriod::Total);
        // A second tree where `one` acts as well; and the first gives it another link.
        let second = below(None, 6, "lead", u(units), BudgetPeriod::Total);
        let chains = [
            vec![planner.clone(), lead.clone()],
            vec![
                planner.clone(),
                lead.clone(),
                below(Some(&lead), 4, "one", u(units), BudgetPeriod::Month),
            ],
            vec![
                planner.clone(),
                lead.clone(),
                below(Some(&lead), 5, "two", u(units / 4), BudgetPeriod::Hour),
            ],
            vec![planner.clone(), other.clone()],
            vec![
                second.clone(),
                below(Some(&second), 7, "one", u(units), BudgetPeriod::Hour),
            ],
            vec![
                planner.clone(),
                other.clone(),
                below(Some(&other), 8, "one", usd(units), BudgetPeriod::Day),
            ],
            vec![second.clone()],
            vec![planner.clone()],
        ];
        let links = (1..=8)
            .map(|n| format!("lnk_{n:032x}").parse().unwrap())
            .collect();
        let account = |hops| org.account(&agent(hops), &prices, 0);
        let accounts = chains.map(account).into();
        Self {
            org,
            accounts,
            held: vec![],
            open: vec![],
            links,
            prices,
            next: 1,
        }
    }

    fn in_parts(self) -> Self {
        for account in &self.accounts {
            account.plan().above.tree.as_ref().unwrap().make_busy();
        }
        self
    }

    fn spend<'a>(action: &'a Action, units: u64, at: i64, mono: u64) -> Spend<'a> {
        Spend {
            action,
            units,
            now: Reading {
                wall_ns: at,
                mono_ns: mono,
            },
        }
    }

    fn set(&self, which: usize, most: u64, at: i64) {
        let id = self.org.id;
        let link = |n: u8, root: u8, holder: &str| Scope::Delegation {
            link: format!("lnk_{n:032x}").parse().unwrap(),
            root: format!("lnk_{root:032x}").parse().unwrap(),
            holder: holder.parse().unwrap(),
        };
        let u = Quantity::Units;
        let (scope, event, limit, window, on_exceed, grace) = match which {
            0 => (
                link(2, 1, "lead"),
                None,
                u(most),
                Window::Total,
                OnExceed::Block,
                Some(u(5)),
            ),
            1 => (
                link(1, 1, "planner"),
                None,
                usd(most),
                Window::Daily,
                OnExceed::AllowWithOverage,
                None,
            ),
            2 => (
                Scope::Agent("one".parse().unwrap()),
                None,
                u(most),
                Window::Hourly,
                OnExceed::Block,
                None,
            ),
            3 => (
                Scope::Organization,
                Some("read"),
                u(most * 3),
                Window::Daily,
                OnExceed::Block,
                None,
            ),
            4 => (
                link(2, 1, "lead"),
                Some("read"),
                u(most),
                Window::Hourly,
                OnExceed::NotifyOnly,
                None,
            ),
            5 => (
                link(1, 1, "planner"),
                Some("write"),
                u(most),
                Window::Total,
                OnExceed::Block,
                None,
            ),
            _ => (
                link(4, 1, "one"),
                None,
                u(most),
                Window::Hourly,
                OnExceed::Block,
                Some(u(3)),
            ),
        };
        let limit = Arc::new(Limit {
            id: format!("lim_{:032x}", which + 1)
                .parse::<LimitId>()
                .unwrap(),
            org: id,
            scope,
            event: event.map(str::to_owned),
            limit,
            window,
            time_zone: "UTC".to_owned(),
            on_exceed,
            grace,
            thresholds: vec![80, 100],
            set_at: Timestamp::UNIX_EPOCH,
            set_by: "owner".parse().unwrap(),
        });
        let rule = Rule::set(&limit).unwrap();
        let mut registry = self.org.registry();
        let until = registry.counted_until(&limit, at);
        let span = rule.span(until);
        registry.install(&limit, rule, span, crate::limits::history::Used::default());
        changed(&self.org);
    }

    fn counts(&self, at: i64) -> (Vec<Count>, String) {
        let registry = self.org.registry();
        let mut all = vec![];
        for link in &self.links {
            if let Some(Some(cell)) = registry.links.budget(*link) {
                all.push(cell.read(&cell.lock(), at));
            }
        }
        for (_, cell) in registry.limits(None) {
            all.push(cell.read(&cell.lock(), at));
        }
        let crossings = format!("{:?}", self.org.crossings.lock());
        (all, crossings)
    }

    fn adopt(&mut self, which: usize) -> bool {
        let which = which % self.held.len();
        let (hold, action) = self.held.swap_remove(which);
        let (holder, data) = hold.into_parts();
        let hold = Hold::new(Arc::clone(&holder), data);
        let plan = plan_of(holder.as_ref()).unwrap();
        self.next += 1;
        let id: ActionId = format!("act_{:032x}", self.next).parse().unwrap();
        let identity = &plan.identity;
        let reservation = Reservation {
            org: identity.org,
            action_id: id,
            agent: identity.name.clone(),
            customer: identity.root().clone(),
            units: data.units,
            unit_price: "0.01 USD".parse().unwrap(),
            action: action.to_owned(),
            cost: "0.01 USD".parse().unwrap(),
            hops: identity.hops.iter().map(|hop| hop.link.id).collect(),
            reserved_at: instant(data.at),
            expires_at: instant(data.at),
            overage: data.over,
        };
        let org = Arc::clone(&self.org);
        let mut registry = org.registry();
        if !plan.is_current() {
            let anew = org.plan(&mut registry, identity, &self.prices, data.at);
            if !anew.counts_as(plan) {
                drop(registry);
                drop(hold);
                return false;
            }
        }
        registry
            .held
            .add(Open::new(reservation.clone(), data.amount));
        let _ = hold.into_parts();
        registry.keep(id);
        org.note(&registry, &Use::of(&reservation));
        self.open.push(id);
        true
    }

    fn close(&mut self, which: usize, used: Option<u64>) -> String {
        let which = which % self.open.len();
        let id = self.open.swap_remove(which);
        let mut registry = self.org.registry();
        let open = registry.held.get(id).unwrap();
        let (units, cost) = (open.units, open.cost);
        let by = open.reservation.clone();
        let used = used.map(|used| {
            let used = used.min(units);
            let cost = if units == 0 {
                0
            } else {
                cost / i128::from(units) * i128::from(used)
            };
            (cost, used)
        });
        let r = registry.close(id, used).is_some();
        self.org.note(&registry, &Use::of(&by));
        format!("{r}")
    }

    fn surplus(&mut self, which: usize, more: u64, now: i64, keep: bool) -> String {
        let which = which % self.open.len();
        let id = self.open[which];
        let mut registry = self.org.registry();
        let by = registry.held.get(id).unwrap().reservation.clone();
        let cost = if by.action == "read" {
            i128::from(more) * 10_000_000
        } else {
            0
        };
        let answer = registry.surplus(&Use::of(&by), cost, more, now, |_| true);
        if answer.is_ok() {
            if keep {
                registry.extend(id, cost, more);
            } else {
                registry.give_back(&Use::of(&by), cost, more);
            }
            // As whoever settles does, whatever came of it.
            self.org.note(&registry, &Use::of(&by));
        }
        format!("{answer:?}")
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask { who: usize, units: u64, read: bool },
    Denied { who: usize, units: u64, read: bool },
    Fits { who: usize, units: u64, read: bool },
    GiveBack(usize),
    Adopt(usize),
    Close(usize, Option<u64>),
    Surplus(usize, u64, bool),
    Wait(i64),
    Mono(u64),
    Set(usize, u64),
    Remove(usize),
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        10 => (0..8_usize, 0..9_u64, any::<bool>()).prop_map(|(who, units, read)| Step::Ask { who, units, read }),
        2 => (0..8_usize, 0..9_u64, any::<bool>()).prop_map(|(who, units, read)| Step::Denied { who, units, read }),
        1 => (0..8_usize, 0..9_u64, any::<bool>()).prop_map(|(who, units, read)| Step::Fits { who, units, read }),
        3 => any::<usize>().prop_map(Step::GiveBack),
        3 => any::<usize>().prop_map(Step::Adopt),
        2 => (any::<usize>(), proptest::option::of(0..9_u64)).prop_map(|(w, u)| Step::Close(w, u)),
        1 => (any::<usize>(), 0..9_u64, any::<bool>()).prop_map(|(w, u, k)| Step::Surplus(w, u, k)),
        1 => (-HOUR..2 * HOUR).prop_map(Step::Wait),
        1 => (-25 * HOUR..26 * HOUR).prop_map(Step::Wait),
        2 => (0..2_000_000_000_u64).prop_map(Step::Mono),
        1 => (0..7_usize, 1..80_u64).prop_map(|(w, m)| Step::Set(w, m)),
        1 => (0..7_usize).prop_map(Step::Remove),
    ];
    prop::collection::vec((0..4_usize, step), 1..200)
}

/// Reserves as a decision does: what fits beyond doubt first.
fn reserve(account: &Arc<ChainAccount>, spend: &Spend<'_>) -> Result<Hold, Refusal> {
    let quiet = Arc::clone(account).reserve_if(spend, &mut || true);
    quiet.map_or_else(|| Arc::clone(account).reserve(spend, &|| true), Ok)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Nor does it change anything to ask first for what fits beyond doubt, in parts or not.
    #[test]
    fn parts_change_nothing(units in 4..400_u64, burst in prop_oneof![Just(3_u32), Just(1_000_000)], steps in steps()) {
        let mut whole = World::new(units, burst);
        let mut others = [World::new(units, burst).in_parts(), World::new(units, burst)];
        let mut now = 1_000 * HOUR;
        let mut mono = 1_000_000_000_000_u64;
        for (part, step) in steps {
            take_from_now_on(part);
            match step {
                Step::Ask { who, units, read } => {
                    let name = if read { "read" } else { "write" };
                    let action = Action::named(name);
                    let s = World::spend(&action, units, now, mono);
                    let one = Arc::clone(&whole.accounts[who]).reserve(&s, &|| true);
                    for world in &mut others {
                        match (&one, reserve(&world.accounts[who], &s)) {
                            (Ok(one), Ok(other)) => {
                                prop_assert_eq!(one.data(), other.data());
                                world.held.push((other, name));
                            }
                            (one, other) => prop_assert_eq!(format!("{one:?}"), format!("{other:?}")),
                        }
                    }
                    whole.held.extend(one.ok().map(|one| (one, name)));
                }
                // The reference is not even asked.
                Step::Denied { who, units, read } => {
                    let action = Action::named(if read { "read" } else { "write" });
                    let s = World::spend(&action, units, now, mono);
                    for world in &others {
                        let account = Arc::clone(&world.accounts[who]);
                        prop_assert!(account.reserve_if(&s, &mut || false).is_none());
                    }
                }
                Step::Fits { who, units, read } => {
                    let action = Action::named(if read { "read" } else { "write" });
                    let s = World::spend(&action, units, now, mono);
                    let one = format!("{:?}", whole.accounts[who].fits(&s, &|| true));
                    for world in &others {
                        prop_assert_eq!(&one, &format!("{:?}", world.accounts[who].fits(&s, &|| true)));
                    }
                }
                Step::GiveBack(_) | Step::Adopt(_) if whole.held.is_empty() => {}
                Step::Close(..) | Step::Surplus(..) if whole.open.is_empty() => {}
                Step::GiveBack(which) => {
                    let which = which % whole.held.len();
                    for world in others.iter_mut().chain([&mut whole]) {
                        drop(world.held.swap_remove(which));
                    }
                }
                Step::Adopt(which) => {
                    let one = whole.adopt(which);
                    for world in &mut others {
                        prop_assert_eq!(one, world.adopt(which));
                    }
                }
                Step::Close(which, used) => {
                    let one = whole.close(which, used);
                    for world in &mut others {
                        prop_assert_eq!(&one, &world.close(which, used));
                    }
                }
                Step::Surplus(which, more, keep) => {
                    let one = whole.surplus(which, more, now, keep);
                    for world in &mut others {
                        prop_assert_eq!(&one, &world.surplus(which, more, now, keep));
                    }
                }
                Step::Wait(nanos) => now += nanos,
                Step::Mono(nanos) => mono += nanos,
                Step::Set(which, most) => others.iter().chain([&whole]).for_each(|world| world.set(which, most, now)),
                Step::Remove(which) => for world in others.iter().chain([&whole]) {
                    world.org.registry().uninstall(format!("lim_{:032x}", which + 1).parse().unwrap());
                    changed(&world.org);
                },
            }
            for world in &others {
                prop_assert_eq!(whole.counts(now), world.counts(now));
            }
        }
    }
}

/// Everything at once, on threads: afterwards nothing is held.
#[test]
fn nothing_is_lost_among_threads() {
    use std::sync::atomic::{AtomicBool, Ordering};
    for round in 0..20_u64 {
        let world = World::new(200 + round * 40, 1_000_000).in_parts();
        let stop = AtomicBool::new(false);
        let (tx, rx) = std::sync::mpsc::channel::<Hold>();
        let world = &world;
        let stop = &stop;
        std::thread::scope(|scope| {
            for thread in 0..6_u64 {
                let tx = tx.clone();
                scope.spawn(move || {
                    let mut kept = vec![];
                    for turn in 0..6_000_u64 {
                        let who = ((thread * 7 + turn * 3) % 8) as usize;
                        let action = Action::named(if turn % 3 == 0 { "write" } else { "read" });
                        let s = World::spend(&action, 1 + turn % 4, 0, turn);
                        match reserve(&world.accounts[who], &s) {
                            Ok(hold) if turn % 5 == 0 => tx.send(hold).unwrap(),
                            Ok(hold) if turn % 5 == 1 => kept.push(hold),
                            Ok(hold) => drop(hold),
                            Err(Refusal::Exceeded(_)) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                        if kept.len() > 20 {
                            kept.clear();
                        }
                    }
                });
            }
            drop(tx);
            scope.spawn(move || {
                for hold in rx {
                    drop(hold)
                }
            });
            scope.spawn(move || {
                for turn in 0..300_u64 {
                    world.set((turn % 7) as usize, 5 + turn % 60, 0);
                    if turn % 4 == 0 {
                        world
                            .org
                            .registry()
                            .uninstall(format!("lim_{:032x}", turn % 7 + 1).parse().unwrap());
                        changed(&world.org);
                    }
                    let (counts, _) = world.counts(0);
                    for c in counts {
                        assert!(c.taken >= 0, "{c:?}");
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
        });
        // Every budget cell is back to zero
        let registry = world.org.registry();
        for link in &world.links {
            if let Some(Some(cell)) = registry.links.budget(*link) {
                let c = cell.read(&cell.lock(), 0);
                assert_eq!(c.taken, 0, "{link} {c:?}");
            }
        }
        for (_, cell) in registry.limits(None) {
            let c = cell.read(&cell.lock(), 0);
            assert_eq!(c.taken, 0, "{c:?}");
        }
    }
}

/// An agent that asks too fast, or whose own budget is spent, is refused; its
/// neighbours' parts are as they were.
#[test]
fn who_is_refused_takes_nothing_from_the_parts_of_others() {
    let read = Action::named("write");
    for (burst, own) in [(3_u32, 100_000), (1_000_000, 16)] {
        let world = World::new(own, burst).in_parts();
        let ask = |who: usize, units| {
            Arc::clone(&world.accounts[who])
                .reserve(&World::spend(&read, units, 0, 1_000_000_000), &|| true)
        };
        take_from_now_on(0);
        // `two`, and `other` with its own pace, below the planner.
        drop(ask(3, 1).unwrap());
        drop(ask(3, 1).unwrap());
        let planner = world
            .org
            .registry()
            .links
            .budget(world.links[0])
            .unwrap()
            .unwrap()
            .clone();
        assert!(planner.aside() > 0, "something is set aside");
        // Until it is refused.
        while let Ok(hold) = ask(2, 1) {
            drop(hold.into_parts());
        }
        drop(ask(3, 1).ok());
        let aside = planner.aside();
        assert!(ask(2, 1).is_err());
        assert_eq!((burst, planner.aside()), (burst, aside));
    }
}

/// Single units of something without a price, at one instant.
fn ask(world: &World, who: usize, units: u64) -> Result<Hold, Refusal> {
    let action = Action::named("write");
    let spend = World::spend(&action, units, 0, 1_000_000_000);
    reserve(&world.accounts[who], &spend)
}

/// Neither one unit too many nor one too few, whoever asks in whichever part.
#[test]
fn threads_in_parts_spend_exactly_the_budget() {
    const UNITS: u64 = 20_000;
    let world = World::new(UNITS, 1_000_000).in_parts();
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (world, granted) = (&world, &granted);
            scope.spawn(move || {
                for turn in 0..4_000_u64 {
                    let units = 1 + turn % 3;
                    match ask(world, if thread % 2 == 0 { 1 } else { 3 }, units) {
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
        while let Ok(hold) = ask(&world, who, 1) {
            granted.fetch_add(1, Ordering::Relaxed);
            drop(hold.into_parts());
        }
    }
    assert_eq!(granted.load(Ordering::Relaxed), UNITS);
}

/// Threads that wait for one another are what gives a tree its parts.
#[test]
fn a_tree_that_is_waited_for_gets_parts() {
    let world = World::new(1_000, 1_000_000);
    let above = &world.accounts[1].plan().above;
    let tree = above.tree.as_ref().unwrap();
    drop(ask(&world, 1, 1).unwrap());
    assert!(above.split.get().is_none());
    while !tree.is_busy() {
        let (held, waits) = (tree.lock(), tree.waits());
        std::thread::scope(|scope| {
            scope.spawn(|| drop(ask(&world, 1, 1).unwrap()));
            while tree.waits() == waits {
                std::thread::yield_now();
            }
            drop(held);
        });
    }
    drop(ask(&world, 1, 1).unwrap());
    assert!(above.split.get().is_some());
}
