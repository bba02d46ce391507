//! One change of the ledger fails, each in turn, before it is applied and after: what
//! is granted from then on fits what is durable, and a new start finds the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use creto_errors::Classify as _;
use creto_metering::{
    EventId, LedgerStore, Limit, LimitId, Meter, MeteringError, OnExceed, RateId, RateRule,
    RateScope, Scope, Window,
};
use creto_nhi::BudgetPeriod::{Month, Total};
use creto_nhi::{Hop, LinkId};
use creto_types::{ActionId, Clock as _, Money, PrincipalName, Quantity, Timestamp};
use jiff::SignedDuration;

use crate::faults::{APPLIED, Faults, NOT_APPLIED, NOT_DONE, WELL, faulty};
use crate::world::{TTL, World, at, config, name, usd};

/// When a day and a month end, in the middle of the life.
const MIDNIGHT: &str = "2026-04-01T00:00:00Z";

/// The life of several actions under budgets of two delegations, with limits and rates
/// that are set, lowered, raised and ended meanwhile.
struct Life {
    world: World,
    faults: Arc<Faults>,
    hops: Vec<Hop>,
}

/// What the ledger says somebody took.
struct Taken {
    at: Timestamp,
    agent: PrincipalName,
    hops: Vec<LinkId>,
    action: String,
    units: u64,
    cost: Money,
}

/// The outcomes that a caller may meet after a change of unknown outcome.
const TOLERATED: [&str; 7] = [
    "store_not_done",
    "store_unavailable",
    "reservation_not_found",
    "reservation_closed",
    "settle_exceeds_reservation",
    "not_found",
    "limits_changed",
];

fn tolerated<T>(done: Result<T, MeteringError>) -> Option<T> {
    match done {
        Ok(done) => Some(done),
        Err(error) => {
            assert!(TOLERATED.contains(&error.code()), "{error:?}");
            None
        }
    }
}

impl Life {
    async fn new() -> Self {
        let (world, faults) = faulty().await;
        let hops = world.chain(&[
            ("planner", Some(("4", Month))),
            ("bot", Some(("3.5", Total))),
        ]);
        Self {
            world,
            faults,
            hops,
        }
    }

    /// To so long before or after the end of the day.
    fn go_to(&self, from_midnight: SignedDuration) {
        let then = at(MIDNIGHT).checked_add(from_midnight).unwrap();
        let wait = then.duration_since(self.world.clock.now());
        self.world.clock.advance(wait.try_into().unwrap());
    }

    async fn run(&self) {
        let bot = || Scope::Agent(name("bot"));
        self.go_to(SignedDuration::from_secs(-20));
        let units = self.limit(bot(), "10 units", |_| {}).await;
        let first = self.reserve(2).await;
        let second = self.reserve(2).await;
        self.settle(first, 1).await;
        self.limit(bot(), "6 units", |_| {}).await;
        self.release(second).await;
        let third = self.reserve(3).await;
        self.settle(third, 4).await;
        let money = |limit: &mut Limit| limit.window = Window::Total;
        let money = self.limit(Scope::Organization, "2.00 USD", money).await;
        let rate = self.rate(5).await;
        let fourth = self.reserve(1).await;
        let over = |limit: &mut Limit| limit.on_exceed = OnExceed::AllowWithOverage;
        self.limit(bot(), "2 units", over).await;
        let fifth = self.reserve(2).await;
        // What is open goes on in a window that is over.
        self.go_to(SignedDuration::from_secs(20));
        self.sound().await;
        self.settle(fifth, 2).await;
        self.limit(bot(), "12 units", |_| {}).await;
        self.remove(money).await;
        self.rate(50).await;
        self.settle(fourth, 0).await;
        self.end_rate(rate).await;
        self.reserve(1).await;
        self.remove(units).await;
        let last = self.reserve(2).await;
        self.settle(last, 2).await;
        self.limit(bot(), "1 unit", |_| {}).await;
        self.reserve(1).await;
        self.limit(bot(), "13 units", |_| {}).await;
    }

    async fn reserve(&self, units: u64) -> Option<ActionId> {
        let hold = self.world.ask(&self.hops, "draft", units).ok()?;
        let id = tolerated(self.world.keep("draft", hold).await);
        if id.is_some() {
            self.nothing_is_exceeded().await;
        }
        self.sound().await;
        id
    }

    async fn settle(&self, action: Option<ActionId>, units: u64) {
        let (world, meter) = (&self.world, &self.world.meter);
        let Some(action) = action else { return };
        if let Some(draft) = tolerated(meter.draft_settlement(world.org, action, units)) {
            let settled = meter.settle(draft, world.commit("usage.settled")).await;
            if tolerated(settled).is_some() {
                self.nothing_is_exceeded().await;
            }
        }
        self.sound().await;
    }

    async fn release(&self, action: Option<ActionId>) {
        let world = &self.world;
        let Some(action) = action else { return };
        let commit = world.commit("usage.released");
        tolerated(world.meter.release(world.org, action, commit).await);
        self.sound().await;
    }

    async fn limit(
        &self,
        scope: Scope,
        most: &str,
        change: impl FnOnce(&mut Limit),
    ) -> Option<LimitId> {
        let world = &self.world;
        let mut limit = world.limit(scope, most);
        change(&mut limit);
        let drafted = world.meter.draft_limit(limit).unwrap();
        let id = drafted.id;
        let set = world.meter.set_limit(drafted, world.commit("limit.set"));
        tolerated(set.await);
        self.sound().await;
        Some(id)
    }

    async fn remove(&self, limit: Option<LimitId>) {
        let world = &self.world;
        let Some(limit) = limit else { return };
        let commit = world.commit("limit.removed");
        tolerated(world.meter.remove_limit(world.org, limit, commit).await);
        self.sound().await;
    }

    async fn rate(&self, per_second: u32) -> RateId {
        let world = &self.world;
        let rule = RateRule {
            id: world.ids.next(),
            org: world.org,
            scope: RateScope::EveryAgent,
            event: Some("read".to_owned()),
            rate: config(per_second, per_second).rate,
            set_at: world.clock.now(),
            set_by: name("owner"),
        };
        let drafted = world.meter.draft_rate(rule).unwrap();
        let id = drafted.id;
        tolerated(
            world
                .meter
                .set_rate(drafted, world.commit("rate.set"))
                .await,
        );
        self.sound().await;
        id
    }

    async fn end_rate(&self, rate: RateId) {
        let world = &self.world;
        let commit = world.commit("rate.removed");
        tolerated(world.meter.remove_rate(world.org, rate, commit).await);
        self.sound().await;
    }

    /// What is durable: events, and what is still open.
    async fn taken(&self) -> Vec<Taken> {
        let store: &dyn LedgerStore = self.world.store.as_ref();
        let spends = store.spends(None::<EventId>, 1_000).await.unwrap();
        let open = store.open_reservations().await.unwrap();
        let spends = spends.into_iter().map(|spend| Taken {
            at: spend.reserved_at,
            agent: spend.agent,
            hops: spend.hops,
            action: spend.action,
            units: spend.units,
            cost: spend.cost,
        });
        let open = open.into_iter().map(|open| Taken {
            at: open.reserved_at,
            agent: open.agent,
            hops: open.hops,
            action: open.action,
            units: open.units,
            cost: open.cost,
        });
        spends.chain(open).collect()
    }

    /// What memory counts is at least what is durable, and limits and rates are those
    /// that are durable.
    async fn sound(&self) {
        let (world, meter) = (&self.world, &self.world.meter);
        let taken = self.taken().await;
        for view in meter.limits(world.org, None, usize::MAX) {
            let counted = add(&view.balance.used, &view.balance.reserved);
            let durable = self.total(&taken, &view.limit);
            assert_eq!(durable.at_most(&counted), Some(true), "{:?}", view.limit);
        }
        for hop in &self.hops {
            let [used, reserved, _] = world.balance(meter, hop);
            let counted = used.checked_add(&reserved).unwrap();
            assert!(self.under(&taken, hop).at_most(&counted).unwrap());
        }
        let in_force = meter.limits(world.org, None, usize::MAX);
        let in_force: Vec<Limit> = in_force.into_iter().map(|view| view.limit).collect();
        assert_eq!(in_force, world.store.limits().await.unwrap());
        let rates = meter.rates(world.org, None, usize::MAX);
        assert_eq!(rates, world.store.rates().await.unwrap());
    }

    /// After a call that was granted: no limit that refuses is exceeded.
    async fn nothing_is_exceeded(&self) {
        let taken = self.taken().await;
        for limit in self.world.store.limits().await.unwrap() {
            if limit.on_exceed == OnExceed::Block {
                let durable = self.total(&taken, &limit);
                assert_eq!(durable.at_most(&limit.limit), Some(true), "{limit:?}");
            }
        }
        for hop in &self.hops {
            let most = hop.link.budget.unwrap().limit.money().unwrap();
            assert!(self.under(&taken, hop).at_most(&most).unwrap());
        }
    }

    /// Whether it counts in the present window of a day or a month.
    fn is_present(&self, took: &Taken) -> bool {
        let midnight = at(MIDNIGHT);
        (took.at >= midnight) == (self.world.clock.now() >= midnight)
    }

    fn under(&self, taken: &[Taken], hop: &Hop) -> Money {
        let lasts = hop.link.budget.unwrap().period == Total;
        let below = taken.iter().filter(|took| took.hops.contains(&hop.link.id));
        cost(below.filter(|took| lasts || self.is_present(took)))
    }

    /// What a limit counts of it.
    fn total(&self, taken: &[Taken], limit: &Limit) -> Quantity {
        let lasts = limit.window == Window::Total;
        let counted = taken.iter().filter(|took| {
            let of_scope = match &limit.scope {
                Scope::Organization => true,
                Scope::Agent(name) => *name == took.agent,
                Scope::Delegation { link, .. } => took.hops.contains(link),
            };
            let event = limit.event.as_ref();
            let of_event = event.is_none_or(|event| *event == took.action);
            of_scope && of_event && (lasts || self.is_present(took))
        });
        match limit.limit {
            Quantity::Units(_) => Quantity::Units(counted.map(|took| took.units).sum()),
            Quantity::Money(_) => cost(counted).into(),
        }
    }

    /// Everything that is counted, as text.
    fn tallies(&self, meter: &Meter) -> Vec<String> {
        let hops = self.hops.iter().map(|hop| {
            let [used, reserved, remaining] = self.world.balance(meter, hop);
            format!("{used}, {reserved}, {remaining}")
        });
        let limits = meter.limits(self.world.org, None, usize::MAX).into_iter();
        let limits = limits.map(|view| format!("{:?} {:?}", view.limit, view.balance));
        hops.chain(limits).collect()
    }

    /// Takes everything that is left, one unit at a time.
    async fn fill(&self, meter: &Arc<Meter>) -> u64 {
        let mut granted = 0;
        while let Ok(hold) = self.world.ask_of(meter, &self.hops, "draft", 1) {
            let (id, action) = (
                self.world.next_action(),
                creto_authz::Action::named("draft"),
            );
            let commit = self.world.commit("action.allowed");
            meter
                .commit_reservation(id, &action, hold, commit, || true)
                .await
                .unwrap();
            granted += 1;
            assert!(granted < 100, "something is a limit");
        }
        granted
    }
}

fn add(one: &Quantity, other: &Quantity) -> Quantity {
    match (one, other) {
        (Quantity::Units(one), Quantity::Units(other)) => Quantity::Units(one + other),
        (Quantity::Money(one), Quantity::Money(other)) => one.checked_add(other).unwrap().into(),
        _ => panic!("two measures"),
    }
}

fn cost<'a>(taken: impl Iterator<Item = &'a Taken>) -> Money {
    taken.fold(usd("0"), |sum, took| sum.checked_add(&took.cost).unwrap())
}

async fn with_a_fault(change: u64, mode: u8) -> u64 {
    let life = Life::new().await;
    life.faults.one(change, mode);
    life.run().await;
    life.faults.every(WELL);
    let changes = life.faults.changes.load(Ordering::SeqCst);

    // A new start counts what is durable, and nothing else.
    let again = life.world.reopen().await;
    let taken = life.taken().await;
    for hop in &life.hops {
        let [used, reserved, _] = life.world.balance(&again, hop);
        assert_eq!(
            used.checked_add(&reserved).unwrap(),
            life.under(&taken, hop)
        );
    }
    for view in again.limits(life.world.org, None, usize::MAX) {
        let counted = add(&view.balance.used, &view.balance.reserved);
        assert_eq!(counted, life.total(&taken, &view.limit), "{:?}", view.limit);
    }
    // What is left of it can be granted, and not one unit more.
    if life.fill(&again).await > 0 {
        life.nothing_is_exceeded().await;
    }

    // Without a new start, memory agrees once what is open has run out.
    let (world, meter) = (&life.world, &life.world.meter);
    world.clock.advance(TTL);
    for due in meter.expired(world.clock.now(), usize::MAX) {
        let commit = world.commit("usage.released");
        tolerated(meter.release(world.org, due.action_id, commit).await);
    }
    for due in again.expired(world.clock.now(), usize::MAX) {
        let commit = world.commit("usage.released");
        tolerated(again.release(world.org, due.action_id, commit).await);
    }
    assert!(world.store.open_reservations().await.unwrap().is_empty());
    let fresh = life.world.reopen().await;
    assert_eq!(life.tallies(meter), life.tallies(&fresh));
    changes
}

#[tokio::test]
async fn whichever_change_fails_nothing_is_overspent_and_memory_agrees_with_the_ledger() {
    let changes = with_a_fault(u64::MAX, WELL).await;
    assert!(changes > 20, "{changes} changes");
    for change in 1..=changes {
        for mode in [NOT_APPLIED, APPLIED, NOT_DONE] {
            with_a_fault(change, mode).await;
        }
    }
}
