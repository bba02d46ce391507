//! Killed at every point.
//!
//! The file's log of writes (`-wal`) only grows while somebody reads the file as it was,
//! so what a kill leaves behind is the database and some prefix of that log. Work is done
//! once; then the ledger is opened anew from every prefix that ends with a page, and from
//! some that end within one: all commits are among them, and everything between two.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use creto_metering::{
    Entry, LedgerStore, Limit, Meter, OnExceed, RateLimit, RateRule, RateScope, Scope, Window,
};
use creto_state_sqlite::{Database, SqliteLedger};
use creto_types::{ActionId, Clock as _, Money, Quantity};
use parking_lot::Mutex;

use crate::metering::{World, usd};

/// The WAL's own header, and that of each frame (SQLite file format, section 4.1).
const WAL_HEADER: u64 = 32;
const FRAME: u64 = 24 + 4_096;

/// What a caller was told, and how long the log was by then.
struct Told {
    log: u64,
    what: What,
}

enum What {
    Reserved(ActionId),
    Settled(ActionId, u64),
    Released(ActionId),
    /// So many of the limits, or of the rates, that are set one after the other.
    Limits(usize),
    Rates(usize),
}

struct Work {
    world: World,
    meter: Arc<Meter>,
    log: PathBuf,
    told: Mutex<Vec<Told>>,
}

fn log_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", path.display()))
}

fn length(log: &Path) -> u64 {
    std::fs::metadata(log).unwrap().len()
}

/// Budgets of 20 and of 16 units.
const BOT: &str = "4";

impl Work {
    async fn begin(path: &Path) -> Self {
        let world = World::with_budgets("5", BOT);
        Self {
            meter: world.open(path).await,
            world,
            log: log_of(path),
            told: Mutex::default(),
        }
    }

    fn tell(&self, what: What) {
        let log = length(&self.log);
        self.told.lock().push(Told { log, what });
    }

    async fn reserve(&self, units: u64) -> Option<ActionId> {
        let hold = self.world.ask(&self.meter, units)?;
        let (id, action) = (self.world.ids.next(), creto_authz::Action::named("draft"));
        let commit = self.world.commit("action.allowed");
        let kept = self
            .meter
            .commit_reservation(id, &action, hold, commit, || true);
        // The limits may have changed since it was asked.
        kept.await.ok()?;
        self.tell(What::Reserved(id));
        Some(id)
    }

    async fn settle(&self, id: ActionId, units: u64) {
        self.world.settle(&self.meter, id, units).await;
        self.tell(What::Settled(id, units));
    }

    async fn release(&self, id: ActionId) {
        let commit = self.world.commit("usage.released");
        let released = self.meter.release(self.world.org, id, commit);
        released.await.unwrap();
        self.tell(What::Released(id));
    }

    /// The life of one action.
    async fn act(&self, turn: u64) {
        let Some(id) = self.reserve(1 + turn % 2).await else {
            return;
        };
        match turn % 4 {
            0 => self.release(id).await,
            3 => {}
            _ => self.settle(id, 1).await,
        }
    }

    async fn set_limits(&self, limits: &[Limit]) {
        for (limit, count) in limits.iter().zip(1..) {
            let drafted = self.meter.draft_limit(limit.clone()).unwrap();
            assert_eq!(drafted.id, limit.id);
            let set = self
                .meter
                .set_limit(drafted, self.world.commit("limit.set"));
            set.await.unwrap();
            self.tell(What::Limits(count));
        }
    }

    async fn set_rates(&self, rates: &[RateRule]) {
        for (rate, count) in rates.iter().zip(1..) {
            let set = self.world.commit("rate.set");
            self.meter.set_rate(rate.clone(), set).await.unwrap();
            self.tell(What::Rates(count));
        }
    }
}

/// One limit of the organization: lowered and raised, last of all above both budgets.
fn limits(world: &World) -> Vec<Limit> {
    let id = world.ids.next();
    [12, 6, 14, 3, 100]
        .map(|units| Limit {
            id,
            org: world.org,
            scope: Scope::Organization,
            event: None,
            limit: Quantity::Units(units),
            window: Window::Total,
            time_zone: "UTC".to_owned(),
            on_exceed: OnExceed::Block,
            grace: None,
            thresholds: vec![100],
            set_at: world.clock.now(),
            set_by: "owner".parse().unwrap(),
        })
        .into()
}

fn rates(world: &World) -> Vec<RateRule> {
    let id = world.ids.next();
    [1_000_000, 2_000_000]
        .map(|calls: u32| RateRule {
            id,
            org: world.org,
            scope: RateScope::EveryAgent,
            event: None,
            rate: RateLimit::per_second(calls.try_into().unwrap(), calls.try_into().unwrap()),
            set_at: world.clock.now(),
            set_by: "owner".parse().unwrap(),
        })
        .into()
}

/// How many of what is set one after the other a kill after `log` bytes may leave: what
/// was told, or one more.
fn stands(told: &[Told], log: u64, of: impl Fn(&What) -> Option<usize>, found: usize) -> bool {
    let known = told
        .iter()
        .filter(|told| told.log <= log)
        .filter_map(|told| of(&told.what))
        .max()
        .unwrap_or(0);
    (known..=known + 1).contains(&found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_point_the_ledger_holds_what_was_told_and_is_never_overspent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let work = Arc::new(Work::begin(&path).await);
    let (limits, rates) = (limits(&work.world), rates(&work.world));
    // Nothing that is written from here on gets into the file.
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM epoch;").unwrap();

    for turn in 0..4 {
        work.act(turn).await;
    }
    // With the salts that tell one log from the next.
    let begun = std::fs::read(&work.log).unwrap();
    let header = begun.first_chunk::<32>().unwrap();
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let work = Arc::clone(&work);
            tokio::spawn(async move {
                for turn in 0..4 {
                    work.act(caller + turn).await;
                }
            })
        })
        .collect();
    tokio::join!(work.set_limits(&limits), work.set_rates(&rates));
    for caller in callers {
        caller.await.unwrap();
    }
    let to = length(&work.log);
    assert_eq!((to - WAL_HEADER) % FRAME, 0);
    let whole = std::fs::read(&work.log).unwrap();
    assert!(whole.starts_with(header), "the log was begun anew");
    let told = std::mem::take(&mut *work.told.lock());
    // What the first four acts, the limits and the rates alone make.
    assert!(told.len() >= 14, "{} changes", told.len());

    let ends = (WAL_HEADER..=to).step_by(usize::try_from(FRAME).unwrap());
    let within = ends.clone().step_by(8).map(|end| end + FRAME / 2);
    for end in ends.chain(within).filter(|end| *end <= to) {
        let copy = dir.path().join(format!("killed-{end}.db"));
        std::fs::copy(&path, &copy).unwrap();
        std::fs::write(log_of(&copy), &whole[..usize::try_from(end).unwrap()]).unwrap();
        after_a_kill(&work.world, &copy, &told, end, &limits, &rates).await;
        for left in ["", "-wal", "-shm", ".lock"] {
            let left = format!("{}{left}", copy.display());
            let _ = std::fs::remove_file(left);
        }
    }
}

async fn after_a_kill(
    world: &World,
    path: &Path,
    told: &[Told],
    log: u64,
    limits: &[Limit],
    rates: &[RateRule],
) {
    let store = Arc::new(SqliteLedger::new(Database::open(path).unwrap()));
    let meter = world
        .meter(Arc::clone(&store) as Arc<dyn LedgerStore>)
        .await;

    // What a caller was told is there.
    for told in told.iter().filter(|told| told.log <= log) {
        let entry = async |id| store.entry(world.org, id).await.unwrap();
        match told.what {
            What::Reserved(id) => assert!(entry(id).await.is_some(), "{id} at {log}"),
            What::Settled(id, units) => {
                let cost = usd("0.25").checked_mul(units).unwrap();
                assert_eq!(entry(id).await, Some(Entry::Settled { cost, units }));
            }
            What::Released(id) => assert_eq!(entry(id).await, Some(Entry::Released)),
            What::Limits(_) | What::Rates(_) => {}
        }
    }
    let in_force = store.limits().await.unwrap();
    let count = in_force.first().map_or(0, |found| place(limits, found) + 1);
    let of = |what: &What| match what {
        What::Limits(count) => Some(*count),
        _ => None,
    };
    assert!(stands(told, log, of, count), "limit {count} at {log}");
    let count = store.rates().await.unwrap();
    let count = count.first().map_or(0, |found| place(rates, found) + 1);
    let of = |what: &What| match what {
        What::Rates(count) => Some(*count),
        _ => None,
    };
    assert!(stands(told, log, of, count), "rate {count} at {log}");

    // Counters are the ledger's, for every hop and every limit.
    let spends = store.spends(None, 1_000).await.unwrap();
    let open = store.open_reservations().await.unwrap();
    let sum = |costs: Vec<Money>| {
        costs
            .iter()
            .fold(usd("0"), |sum, cost| sum.checked_add(cost).unwrap())
    };
    let used = sum(spends.iter().map(|spend| spend.cost).collect());
    let reserved = sum(open.iter().map(|open| open.cost).collect());
    assert_eq!(world.tallies(&meter), [(used, reserved), (used, reserved)]);
    let units = spends.iter().map(|spend| spend.units).sum::<u64>()
        + open.iter().map(|open| open.units).sum::<u64>();
    for view in meter.limits(world.org, None, 10) {
        let (Quantity::Units(used), Quantity::Units(reserved)) =
            (view.balance.used, view.balance.reserved)
        else {
            panic!("a limit of units");
        };
        assert_eq!(used + reserved, units);
    }

    // All that is left is granted, and not one unit more.
    let most = in_force
        .first()
        .map_or(u64::MAX, |limit| match limit.limit {
            Quantity::Units(units) => units,
            Quantity::Money(_) => panic!("a limit of units"),
        });
    assert!(units <= 16, "{units} units under a budget of 16");
    let mut holds = Vec::new();
    while let Some(hold) = world.ask(&meter, 1) {
        holds.push(hold);
    }
    let granted = u64::try_from(holds.len()).unwrap();
    assert_eq!(granted, most.min(16).saturating_sub(units), "at {log}");
}

fn place<T: PartialEq>(all: &[T], one: &T) -> usize {
    all.iter().position(|other| other == one).unwrap()
}
