//! The ledger under its port's contract, and the meter over a kill.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use creto_authz::{Action, Hold, Quota as _, Spend};
use creto_metering::{
    LedgerStore, Limit, Meter, MeterConfig, OnExceed, PriceBook, RateLimit, Scope, Window,
    conformance,
};
use creto_nhi::test_util::agent;
use creto_nhi::{Budget, BudgetPeriod, DelegationLink, Hop, KeyVersion, LinkStatus, Right};
use creto_state_sqlite::{Database, SqliteLedger};
use creto_types::{
    ActionId, Clock, Commit, Currency, Evidence, IdSource, ManualClock, Money, OrgId, Period,
    Quantity, SeededRandom, SystemIds, Timestamp,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(async |name| {
        let db = Database::open(&dir.path().join(name)).unwrap();
        Arc::new(SqliteLedger::new(db)) as Arc<dyn LedgerStore>
    })
    .await;
}

pub(crate) fn usd(amount: &str) -> Money {
    format!("{amount} USD").parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// One meter over one file; ids and clock live on over a restart.
pub(crate) struct World {
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) org: OrgId,
    pub(crate) hops: Vec<Hop>,
}

impl World {
    fn new() -> Self {
        Self::with_budgets("5", "1")
    }

    /// The planner's by the month and the bot's in total, in USD.
    pub(crate) fn with_budgets(planner: &str, bot: &str) -> Self {
        let clock = Arc::new(ManualClock::new(at("2026-05-31T23:59:00Z")));
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds::new(
            Arc::<ManualClock>::clone(&clock),
            Arc::new(SeededRandom::new(5)),
        ));
        let org = ids.next();
        let mut world = Self {
            ids,
            clock,
            org,
            hops: Vec::new(),
        };
        for (delegator, delegatee, limit, period) in [
            ("owner", "planner", planner, BudgetPeriod::Month),
            ("planner", "bot", bot, BudgetPeriod::Total),
        ] {
            let link = DelegationLink {
                id: world.ids.next(),
                org,
                delegator: delegator.parse().unwrap(),
                delegatee: delegatee.parse().unwrap(),
                parent: world.hops.last().map(|hop| hop.link.id),
                rights: vec![Right::parse("*", "*").unwrap()],
                not_before: at("2026-01-01T00:00:00Z"),
                expires_at: at("2027-01-01T00:00:00Z"),
                max_depth: 3,
                budget: Some(Budget {
                    limit: usd(limit).into(),
                    period,
                }),
                issued_at: at("2026-01-01T00:00:00Z"),
                key_version: KeyVersion::FIRST,
            };
            world.hops.push(Hop {
                link: Arc::new(link),
                status: Arc::new(LinkStatus::active()),
            });
        }
        world
    }

    pub(crate) async fn open(&self, path: &Path) -> Arc<Meter> {
        self.meter(Arc::new(SqliteLedger::new(Database::open(path).unwrap())))
            .await
    }

    pub(crate) async fn meter(&self, store: Arc<dyn LedgerStore>) -> Arc<Meter> {
        let prices = [("draft".to_owned(), usd("0.25"))];
        Meter::open(
            store,
            PriceBook::new(Currency::USD, prices).unwrap(),
            MeterConfig {
                reservation_ttl: Duration::from_secs(60),
                rate: RateLimit::per_second(NonZeroU32::MAX, NonZeroU32::MAX),
                ..MeterConfig::default()
            },
            Arc::clone(&self.ids),
            Arc::<ManualClock>::clone(&self.clock),
        )
        .await
        .unwrap()
    }

    pub(crate) fn commit(&self, kind: &str) -> Commit {
        Commit::of(Evidence {
            org: self.org,
            kind: kind.to_owned(),
            at: self.clock.now(),
            actor: "bot".parse().unwrap(),
            action_id: None,
            body: serde_json::json!({}),
        })
    }

    pub(crate) fn ask(&self, meter: &Meter, units: u64) -> Option<Hold> {
        let account = meter.account(&agent(self.hops.clone()));
        let action = Action::named("draft");
        let now = self.clock.reading();
        account
            .reserve(
                &Spend {
                    action: &action,
                    units,
                    now,
                },
                &|| true,
            )
            .ok()
    }

    pub(crate) async fn keep(&self, meter: &Meter, hold: Hold) -> ActionId {
        let (id, action) = (self.ids.next(), Action::named("draft"));
        let commit = self.commit("action.allowed");
        let kept = meter
            .commit_reservation(id, &action, hold, commit, || true)
            .await;
        kept.unwrap();
        id
    }

    pub(crate) async fn reserve(&self, meter: &Meter, units: u64) -> ActionId {
        let hold = self.ask(meter, units).expect("there is room");
        self.keep(meter, hold).await
    }

    pub(crate) async fn settle(&self, meter: &Meter, id: ActionId, units: u64) {
        let draft = meter.draft_settlement(self.org, id, units).unwrap();
        let commit = self.commit("usage.settled");
        meter.settle(draft, commit).await.unwrap();
    }

    /// used and reserved of each hop.
    pub(crate) fn tallies(&self, meter: &Meter) -> Vec<(Money, Money)> {
        self.hops
            .iter()
            .map(|hop| meter.balance(hop, self.clock.now()).unwrap())
            .map(|balance| {
                let money = |left: Quantity| left.money().unwrap();
                (money(balance.used), money(balance.reserved))
            })
            .collect()
    }
}

/// Copies what a kill at this moment would leave behind: the file and its log.
fn killed(path: &Path, copy: &Path) {
    for suffix in ["", "-wal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        if Path::new(&name(path)).exists() {
            std::fs::copy(name(path), name(copy)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_the_counters_equal_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let world = World::new();
    let meter = world.open(&path).await;
    let settled = world.reserve(&meter, 2).await;
    world.settle(&meter, settled, 1).await;
    let open = world.reserve(&meter, 1).await;
    let released = world.reserve(&meter, 1).await;
    meter
        .release(world.org, released, world.commit("usage.released"))
        .await
        .unwrap();
    let _in_memory_alone = world.ask(&meter, 1).expect("there is room");

    let copy = dir.path().join("killed.db");
    killed(&path, &copy);
    let meter = world.open(&copy).await;
    let expected = (usd("0.25"), usd("0.25"));
    assert_eq!(world.tallies(&meter), [expected, expected]);

    // The whole budget is 1.00: two more fit, and not one unit more.
    world.reserve(&meter, 1).await;
    world.reserve(&meter, 1).await;
    assert!(world.ask(&meter, 1).is_none());
    world.settle(&meter, open, 1).await;

    // The month of the planner's budget is over; the bot's total is not.
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(meter.expired(world.clock.now(), 10).len(), 2);
    let again = dir.path().join("again.db");
    killed(&copy, &again);
    let meter = world.open(&again).await;
    assert_eq!(
        world.tallies(&meter),
        [(usd("0"), usd("0")), (usd("0.5"), usd("0.5"))]
    );

    let may = Period::new(at("2026-05-01T00:00:00Z"), at("2026-06-01T00:00:00Z")).unwrap();
    let owner = "owner".parse().unwrap();
    let invoice = meter.draft_invoice(world.org, may, owner).await.unwrap();
    assert_eq!(invoice.total, usd("0.50"));
    let usage = meter.usage(world.org, may, None).await.unwrap();
    assert_eq!(usage[0].cost, usd("0.5"));
    meter
        .issue_invoice(invoice.clone(), world.commit("invoice.issued"))
        .await
        .unwrap();
    let stored = meter.invoices(world.org, None, 10).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].lines, invoice.lines);
}

/// 64 tasks, whole lives over the real ledger, and a restart: never a unit over.
/// The clock stepped back over the start of a month that was used already; a limit that
/// is set meanwhile counts that month, over a restart too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_set_after_the_clock_stepped_back_knows_the_later_month() {
    for still_open in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let world = World::with_budgets("1000", "1000");
        let meter = world.open(&path).await;
        world.clock.step_wall_to(at("2026-07-01T00:00:01Z"));
        let used = world.reserve(&meter, 90).await;
        world.settle(&meter, used, 90).await;
        if still_open > 0 {
            world.reserve(&meter, still_open).await;
        }
        // The budgets go on in July; the agent's own limit is about to be set.
        world.clock.step_wall_to(at("2026-06-30T23:59:59Z"));
        let limit = Limit {
            id: world.ids.next(),
            org: world.org,
            scope: Scope::Agent("bot".parse().unwrap()),
            event: None,
            limit: Quantity::Units(100),
            window: Window::Monthly,
            time_zone: "UTC".to_owned(),
            on_exceed: OnExceed::Block,
            grace: None,
            thresholds: Vec::new(),
            set_at: world.clock.now(),
            set_by: "owner".parse().unwrap(),
        };
        let set = meter.set_limit(limit, world.commit("limit.set"));
        set.await.unwrap();
        world.clock.step_wall_to(at("2026-07-01T00:00:02Z"));
        assert!(world.ask(&meter, 11 - still_open).is_none());
        assert!(world.ask(&meter, 10 - still_open).is_some());
        let copy = dir.path().join("killed.db");
        killed(&path, &copy);
        let meter = world.open(&copy).await;
        assert!(world.ask(&meter, 11 - still_open).is_none());
        assert!(world.ask(&meter, 10 - still_open).is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_callers_over_the_real_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let world = Arc::new(World::new());
    let meter = world.open(&path).await;
    let tasks: Vec<_> = (0..64_u64)
        .map(|i| {
            let (world, meter) = (Arc::clone(&world), Arc::clone(&meter));
            tokio::spawn(async move {
                let Some(hold) = world.ask(&meter, 1) else {
                    return 0;
                };
                let id = world.keep(&meter, hold).await;
                if i % 4 == 0 {
                    let release = meter.release(world.org, id, world.commit("usage.released"));
                    release.await.unwrap();
                    return 0;
                }
                world.settle(&meter, id, 1).await;
                1
            })
        })
        .collect();
    let mut settled = 0;
    for task in tasks {
        settled += task.await.unwrap();
    }
    // 1.00 at 0.25 each.
    assert!(settled <= 4);
    let spent = usd("0.25").checked_mul(settled).unwrap();
    let expected = vec![(spent, usd("0")); 2];
    assert_eq!(world.tallies(&meter), expected);
    drop(meter);
    let meter = world.open(&path).await;
    assert_eq!(world.tallies(&meter), expected);
}
