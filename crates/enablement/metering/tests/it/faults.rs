//! A ledger that fails: before the change, or after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use async_trait::async_trait;
use creto_authz::Action;
use creto_errors::Classify as _;
use creto_metering::{
    Entry, Event, EventId, EventQuery, Invoice, InvoiceId, LedgerStore, Limit, LimitId, NoticeKey,
    PricedUnits, RateId, RateRule, RateScope, Reservation, Scope, Settlement, Spend, UsedQuery,
};
use creto_nhi::BudgetPeriod::Total;
use creto_types::{ActionId, Clock as _, Commit, OrgId, Receipt, StoreError, Timestamp};
use parking_lot::Mutex;

use crate::world::{TTL, World, config, name, no_rate, usd};

pub(crate) const WELL: u8 = 0;
pub(crate) const NOT_APPLIED: u8 = 1;
pub(crate) const APPLIED: u8 = 2;
/// The store says itself that it did nothing.
pub(crate) const NOT_DONE: u8 = 3;

/// The store breaks down after the change.
pub(crate) const PANICS: u8 = 4;

/// What goes wrong, and when.
#[derive(Default)]
pub(crate) struct Faults {
    mode: AtomicU8,
    /// The one change that it is about, counted from 1; every change when 0.
    only: AtomicU64,
    /// Changes that were asked for.
    pub(crate) changes: AtomicU64,
    /// How many times limits cannot be read.
    unreadable: AtomicU64,
    /// Whether a settlement was ever asked for.
    settling: AtomicBool,
    /// What was added up last.
    asked: Mutex<Option<UsedQuery>>,
}

impl Faults {
    pub(crate) fn every(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    pub(crate) fn one(&self, change: u64, mode: u8) {
        self.only.store(change, Ordering::SeqCst);
        self.every(mode);
    }

    fn now(&self) -> u8 {
        let change = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        match self.only.load(Ordering::SeqCst) {
            0 => self.mode.load(Ordering::SeqCst),
            only if only == change => self.mode.load(Ordering::SeqCst),
            _ => WELL,
        }
    }
}

struct Faulty {
    inner: Arc<dyn LedgerStore>,
    faults: Arc<Faults>,
}

#[derive(Debug, thiserror::Error)]
#[error("the disk is on fire")]
struct Fire;

impl Faulty {
    async fn run(
        &self,
        change: impl Future<Output = Result<Receipt, StoreError>> + Send,
    ) -> Result<Receipt, StoreError> {
        let failed = Err(StoreError::Unavailable(Box::new(Fire)));
        match self.faults.now() {
            WELL => change.await,
            NOT_APPLIED => failed,
            NOT_DONE => Err(StoreError::NotDone(Box::new(Fire))),
            PANICS => {
                change.await?;
                panic!("the store broke down");
            }
            _ => {
                change.await?;
                failed
            }
        }
    }
}

#[async_trait]
impl LedgerStore for Faulty {
    async fn spends(&self, after: Option<EventId>, limit: usize) -> Result<Vec<Spend>, StoreError> {
        self.inner.spends(after, limit).await
    }
    async fn open_reservations(&self) -> Result<Vec<Reservation>, StoreError> {
        self.inner.open_reservations().await
    }
    async fn entry(&self, org: OrgId, action: ActionId) -> Result<Option<Entry>, StoreError> {
        self.inner.entry(org, action).await
    }
    async fn reserve(
        &self,
        reservation: Reservation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.run(self.inner.reserve(reservation, commit)).await
    }
    async fn settle(&self, settlement: Settlement, commit: Commit) -> Result<Receipt, StoreError> {
        self.faults.settling.store(true, Ordering::SeqCst);
        self.run(self.inner.settle(settlement, commit)).await
    }
    async fn release(
        &self,
        org: OrgId,
        action: ActionId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.run(self.inner.release(org, action, commit)).await
    }
    async fn used(&self, org: OrgId, query: UsedQuery) -> Result<Vec<PricedUnits>, StoreError> {
        *self.faults.asked.lock() = Some(query.clone());
        self.inner.used(org, query).await
    }
    async fn latest(&self, org: OrgId, query: UsedQuery) -> Result<Option<Timestamp>, StoreError> {
        self.inner.latest(org, query).await
    }
    async fn limits(&self) -> Result<Vec<Limit>, StoreError> {
        let unreadable = &self.faults.unreadable;
        let failing = |left: u64| left.checked_sub(1);
        if unreadable
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, failing)
            .is_ok()
        {
            return Err(StoreError::Unavailable(Box::new(Fire)));
        }
        self.inner.limits().await
    }
    async fn put_limit(&self, limit: Limit, commit: Commit) -> Result<Receipt, StoreError> {
        self.run(self.inner.put_limit(limit, commit)).await
    }
    async fn remove_limit(
        &self,
        org: OrgId,
        id: LimitId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.run(self.inner.remove_limit(org, id, commit)).await
    }
    async fn rates(&self) -> Result<Vec<RateRule>, StoreError> {
        self.inner.rates().await
    }
    async fn put_rate(&self, rule: RateRule, commit: Commit) -> Result<Receipt, StoreError> {
        self.run(self.inner.put_rate(rule, commit)).await
    }
    async fn remove_rate(
        &self,
        org: OrgId,
        id: RateId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.run(self.inner.remove_rate(org, id, commit)).await
    }
    async fn notice(&self, key: NoticeKey, commit: Commit) -> Result<Receipt, StoreError> {
        self.run(self.inner.notice(key, commit)).await
    }
    async fn events(
        &self,
        org: OrgId,
        query: EventQuery,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        self.inner.events(org, query, after, limit).await
    }
    async fn last_invoice_number(&self, org: OrgId) -> Result<u64, StoreError> {
        self.inner.last_invoice_number(org).await
    }
    async fn issue(&self, invoice: Invoice, commit: Commit) -> Result<Receipt, StoreError> {
        self.run(self.inner.issue(invoice, commit)).await
    }
    async fn invoice(&self, org: OrgId, id: InvoiceId) -> Result<Option<Invoice>, StoreError> {
        self.inner.invoice(org, id).await
    }
    async fn invoices(
        &self,
        org: OrgId,
        after: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<Invoice>, StoreError> {
        self.inner.invoices(org, after, limit).await
    }
}

pub(crate) async fn faulty() -> (World, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let world = World::with(no_rate(), |inner| {
        Arc::new(Faulty {
            inner,
            faults: Arc::clone(&faults),
        })
    })
    .await;
    (world, faults)
}

#[tokio::test]
async fn a_refused_reservation_is_given_back() {
    let (world, _) = faulty().await;
    let hops = world.chain(&[("bot", Some(("1", Total)))]);
    let claim = creto_types::Claim {
        org: world.org,
        token: "grant".to_owned(),
    };
    for expected in [None, Some("already_used")] {
        let hold = world.ask(&hops, "draft", 1).unwrap();
        let commit = world.commit("action.allowed").with_claim(claim.clone());
        let (id, draft) = (world.next_action(), Action::named("draft"));
        let result = world
            .meter
            .commit_reservation(id, &draft, hold, commit, || true)
            .await;
        assert_eq!(result.err().map(|error| error.code()), expected);
    }
    assert_eq!(world.balance(&world.meter, &hops[0])[1], usd("0.25"));
}

#[tokio::test]
async fn an_unknown_outcome_is_held_until_it_expires() {
    for mode_then in [NOT_APPLIED, APPLIED] {
        let (world, faults) = faulty().await;
        let hops = world.chain(&[("bot", Some(("1", Total)))]);
        faults.every(mode_then);
        let hold = world.ask(&hops, "draft", 1).unwrap();
        let (id, draft) = (world.next_action(), Action::named("draft"));
        let result = world
            .meter
            .commit_reservation(id, &draft, hold, world.commit("x"), || true);
        assert_eq!(result.await.unwrap_err().code(), "store_unavailable");
        faults.every(WELL);
        assert_eq!(world.balance(&world.meter, &hops[0])[1], usd("0.25"));

        world.clock.advance(TTL);
        let due = world.meter.expired(world.clock.now(), 10);
        assert_eq!(due.len(), 1);
        let released = world.meter.release(world.org, id, world.commit("x")).await;
        let expected = (mode_then == NOT_APPLIED).then_some("reservation_not_found");
        assert_eq!(released.err().map(|error| error.code()), expected);
        assert_eq!(world.balance(&world.meter, &hops[0])[1], usd("0"));
        assert!(world.meter.expired(world.clock.now(), 10).is_empty());
    }
}

/// A full queue of writes must not use up budgets.
#[tokio::test]
async fn what_was_certainly_not_done_is_given_back_at_once() {
    let (world, faults) = faulty().await;
    let hops = world.chain(&[("bot", Some(("1", Total)))]);
    let kept = world.reserve(&hops, "draft", 1).await;
    faults.every(NOT_DONE);
    let hold = world.ask(&hops, "draft", 2).unwrap();
    let (id, draft) = (world.next_action(), Action::named("draft"));
    let result = world
        .meter
        .commit_reservation(id, &draft, hold, world.commit("x"), || true);
    assert_eq!(result.await.unwrap_err().code(), "store_not_done");
    assert!(world.meter.reservation(world.org, id).is_none());
    let more = world.meter.draft_settlement(world.org, kept, 4).unwrap();
    let settled = world.meter.settle(more, world.commit("usage.settled"));
    assert_eq!(settled.await.unwrap_err().code(), "store_not_done");
    assert_eq!(
        world.balance(&world.meter, &hops[0]),
        [usd("0"), usd("0.25"), usd("0.75")]
    );
}

/// Between the ledger's answer and the end of a settlement that goes beyond its
/// reservation, nobody gets what it took beyond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_settled_beyond_a_reservation_is_nobody_elses() {
    let (world, faults) = faulty().await;
    let world = Arc::new(world);
    for _ in 0..300 {
        let hops = world.chain(&[("bot", Some(("2 units", Total)))]);
        let id = world.reserve(&hops, "free", 1).await;
        faults.settling.store(false, Ordering::SeqCst);
        let done = Arc::new(AtomicBool::new(false));
        let other = {
            let world = Arc::clone(&world);
            let (faults, done) = (Arc::clone(&faults), Arc::clone(&done));
            // A call by an account that is there takes the counters' locks alone.
            let account = world.account(&hops);
            std::thread::spawn(move || {
                let spend = creto_authz::Spend {
                    action: &Action::named("free"),
                    units: 1,
                    now: world.clock.reading(),
                };
                while !faults.settling.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                let mut kept = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    kept.extend(Arc::clone(&account).reserve(&spend, &|| true));
                }
                kept
            })
        };
        world.settle(id, 2).await;
        done.store(true, Ordering::SeqCst);
        let kept = other.join().unwrap();
        assert!(kept.is_empty(), "both units were used");
        let balance = world.meter.balance(&hops[0], world.clock.now()).unwrap();
        assert_eq!(
            [balance.used.to_string(), balance.reserved.to_string()],
            ["2 units", "0 units"]
        );
    }
}

#[tokio::test]
async fn memory_follows_the_ledger_when_a_settlement_was_lost_on_the_way_back() {
    let (world, faults) = faulty().await;
    let hops = world.chain(&[("bot", Some(("1", Total)))]);
    let id = world.reserve(&hops, "draft", 4).await;
    let draft = world.meter.draft_settlement(world.org, id, 1).unwrap();
    faults.every(APPLIED);
    let lost = world
        .meter
        .settle(draft, world.commit("usage.settled"))
        .await;
    assert_eq!(lost.unwrap_err().code(), "store_unavailable");
    faults.every(WELL);
    assert_eq!(
        world.balance(&world.meter, &hops[0]),
        [usd("0"), usd("1"), usd("0")]
    );
    let again = world.meter.draft_settlement(world.org, id, 4).unwrap();
    let again = world.meter.settle(again, world.commit("x")).await;
    assert_eq!(again.unwrap_err().code(), "reservation_closed");
    assert_eq!(
        world.balance(&world.meter, &hops[0]),
        [usd("0.25"), usd("0"), usd("0.75")],
        "one unit was settled"
    );
}

#[tokio::test]
async fn a_caller_that_goes_away_changes_nothing() {
    let (world, _) = faulty().await;
    let hops = world.chain(&[("bot", Some(("1", Total)))]);
    let hold = world.ask(&hops, "draft", 1).unwrap();
    let (id, draft) = (world.next_action(), Action::named("draft"));
    {
        let commit = world.commit("action.allowed");
        let commit = world
            .meter
            .commit_reservation(id, &draft, hold, commit, || true);
        tokio::pin!(commit);
        // Polled once, then dropped.
        let polled = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(commit.as_mut().poll(cx).is_pending())
        });
        assert!(polled.await);
    }
    // Its task goes on.
    while world.meter.draft_settlement(world.org, id, 1).is_err() {
        tokio::task::yield_now().await;
    }
    world.settle(id, 1).await;
    assert_eq!(world.balance(&world.meter, &hops[0])[0], usd("0.25"));
}

/// A limit that was lowered may be in force although the call that lowered it failed;
/// the same call, repeated by its key, is told that it succeeded.
#[tokio::test]
async fn memory_follows_the_store_when_a_limit_was_set_and_lost_on_the_way_back() {
    for (mode, unreadable) in [(NOT_APPLIED, 0), (APPLIED, 0), (APPLIED, 3)] {
        let (world, faults) = faulty().await;
        let hops = world.chain(&[("bot", None)]);
        let high = world.set(world.limit(Scope::Organization, "8 units")).await;
        let rate = world.meter.draft_rate(rate(&world, 7)).unwrap();
        let set = world.meter.set_rate(rate.clone(), world.commit("rate.set"));
        set.await.unwrap();
        let hold = world.ask(&hops, "draft", 3).unwrap();

        faults.every(mode);
        faults.unreadable.store(unreadable, Ordering::SeqCst);
        let lower = world.limit(Scope::Organization, "2 units");
        let lower = world.meter.draft_limit(lower).unwrap();
        let lost = world.meter.set_limit(lower, world.commit("limit.set"));
        assert_eq!(lost.await.unwrap_err().code(), "store_unavailable");
        faults.every(WELL);

        // Not by the limit that may be gone, however long the store cannot say.
        let kept = world.keep("draft", hold).await;
        if mode == APPLIED {
            assert_eq!(kept.unwrap_err().code(), "limits_changed");
            assert!(world.ask(&hops, "draft", 3).is_err());
            assert_eq!(world.left(&world.meter, high)[2], "2 units");
        } else {
            kept.unwrap();
            assert_eq!(world.left(&world.meter, high)[2], "5 units");
        }

        // And so for what ends, and for rates.
        faults.every(mode);
        let gone = world.meter.remove_limit(world.org, high, world.commit("x"));
        assert_eq!(gone.await.unwrap_err().code(), "store_unavailable");
        let other = RateRule {
            rate: config(9, 9).rate,
            ..rate.clone()
        };
        let changed = world.meter.set_rate(other, world.commit("x")).await;
        assert_eq!(changed.unwrap_err().code(), "store_unavailable");
        faults.every(WELL);
        assert_eq!(
            world.meter.limit(world.org, high).is_none(),
            mode == APPLIED
        );
        let per_second = world.meter.rate(world.org, rate.id).unwrap().rate.calls();
        assert_eq!(per_second.get(), if mode == APPLIED { 9 } else { 7 });
        faults.every(mode);
        let gone = world
            .meter
            .remove_rate(world.org, rate.id, world.commit("x"));
        assert_eq!(gone.await.unwrap_err().code(), "store_unavailable");
        assert_eq!(
            world.meter.rate(world.org, rate.id).is_none(),
            mode == APPLIED
        );
    }
}

fn rate(world: &World, per_second: u32) -> RateRule {
    RateRule {
        id: world.ids.next(),
        org: world.org,
        scope: RateScope::Organization,
        event: Some("read".to_owned()),
        rate: config(per_second, per_second).rate,
        set_at: world.clock.now(),
        set_by: name("owner"),
    }
}

/// What is under way when the store breaks down is held until it is known what became of
/// it.
#[tokio::test]
async fn nothing_is_lost_when_the_store_breaks_down() {
    let (world, faults) = faulty().await;
    let hops = world.chain(&[("bot", Some(("2", Total)))]);
    faults.every(PANICS);
    let hold = world.ask(&hops, "draft", 1).unwrap();
    let (id, draft) = (world.next_action(), Action::named("draft"));
    let lost = world
        .meter
        .commit_reservation(id, &draft, hold, world.commit("x"), || true);
    assert_eq!(lost.await.unwrap_err().code(), "metering_interrupted");
    assert_eq!(world.balance(&world.meter, &hops[0])[1], usd("0.25"));
    world.clock.advance(TTL);
    let due = world.meter.expired(world.clock.now(), 10);
    assert_eq!(due.len(), 1, "whoever looks for what expired finds it");

    // More than was reserved is settled, and nobody hears that it was.
    let more = world.meter.draft_settlement(world.org, id, 3).unwrap();
    let lost = world
        .meter
        .settle(more, world.commit("usage.settled"))
        .await;
    assert_eq!(lost.unwrap_err().code(), "metering_interrupted");
    assert_eq!(
        world.balance(&world.meter, &hops[0]),
        [usd("0"), usd("0.75"), usd("1.25")]
    );
    faults.every(WELL);
    let again = world.meter.release(world.org, id, world.commit("x")).await;
    assert_eq!(again.unwrap_err().code(), "reservation_closed");
    assert_eq!(
        world.balance(&world.meter, &hops[0]),
        [usd("0.75"), usd("0"), usd("1.25")]
    );
}

/// An agent's limit on a delegation does not have the whole ledger read.
#[tokio::test]
async fn nothing_older_than_a_delegation_is_added_up_for_it() {
    let (world, faults) = faulty().await;
    let hops = world.chain(&[("bot", None)]);
    let (link, holder) = (hops[0].link.id, name("bot"));
    let limit = Limit {
        window: creto_metering::Window::Total,
        ..world.limit(
            Scope::Delegation {
                link,
                root: link,
                holder,
            },
            "9 units",
        )
    };
    let made = world.clock.now();
    world
        .clock
        .advance(std::time::Duration::from_secs(40 * 86_400));
    world.set(limit).await;
    let asked = faults.asked.lock().clone().unwrap();
    let since = asked.since.unwrap();
    let hour = std::time::Duration::from_secs(3_600);
    assert!(since <= made && made <= since.checked_add(hour * 2).unwrap());
}

/// Whether a settlement goes beyond a limit is said by the look that takes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_beyond_a_limit_is_marked_whoever_was_first() {
    let world = Arc::new(World::new().await);
    for round in 0..300 {
        let agent = format!("bot{round}");
        let hops = world.chain(&[(&agent, None)]);
        let limit = Limit {
            on_exceed: creto_metering::OnExceed::AllowWithOverage,
            ..world.limit(Scope::Agent(name(&agent)), "10 units")
        };
        world.set(limit).await;
        let kept = world.reserve(&hops, "free", 1).await;
        let draft = world.meter.draft_settlement(world.org, kept, 2).unwrap();
        assert!(!draft.overage);
        let stop = Arc::new(AtomicBool::new(false));
        let started = Arc::new(AtomicBool::new(false));
        let other = {
            let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
            let spinning = Arc::clone(&started);
            let account = world.account(&hops);
            std::thread::spawn(move || {
                let spend = creto_authz::Spend {
                    action: &Action::named("free"),
                    units: 9,
                    now: world.clock.reading(),
                };
                loop {
                    let last = Arc::clone(&account).reserve(&spend, &|| true);
                    spinning.store(true, Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) {
                        return last;
                    }
                }
            })
        };
        while !started.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let commit = world.commit("usage.settled");
        let settled = world.meter.settle(draft, commit).await;
        // Either it was in time, or it is drafted anew and marked.
        let marked = match settled {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.code(), "limits_changed");
                true
            }
        };
        stop.store(true, Ordering::SeqCst);
        let held = other.join().unwrap().expect("it is granted, if beyond");
        if !marked {
            assert!(held.data().over, "9 units beside 2 are beyond 10");
        }
    }
}
