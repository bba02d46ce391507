//! A ledger that fails: before the change, or after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use async_trait::async_trait;
use creto_authz::Action;
use creto_errors::Classify as _;
use creto_metering::{
    Entry, Event, EventId, EventQuery, Invoice, InvoiceId, LedgerStore, Limit, LimitId, NoticeKey,
    PricedUnits, RateId, RateRule, Reservation, Settlement, Spend, UsedQuery,
};
use creto_nhi::BudgetPeriod::Total;
use creto_types::{ActionId, Clock as _, Commit, OrgId, Receipt, StoreError};

use crate::world::{TTL, World, no_rate, usd};

const WELL: u8 = 0;
const NOT_APPLIED: u8 = 1;
const APPLIED: u8 = 2;
const NOT_DONE: u8 = 3;

struct Faulty {
    inner: Arc<dyn LedgerStore>,
    mode: Arc<AtomicU8>,
    /// Whether a settlement was ever asked for.
    settling: Arc<AtomicBool>,
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
        match self.mode.load(Ordering::SeqCst) {
            WELL => change.await,
            NOT_APPLIED => failed,
            NOT_DONE => Err(StoreError::NotDone(Box::new(Fire))),
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
        self.settling.store(true, Ordering::SeqCst);
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
        self.inner.used(org, query).await
    }
    async fn limits(&self) -> Result<Vec<Limit>, StoreError> {
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

async fn faulty() -> (World, Arc<AtomicU8>) {
    let (world, mode, _) = observed().await;
    (world, mode)
}

async fn observed() -> (World, Arc<AtomicU8>, Arc<AtomicBool>) {
    let mode = Arc::new(AtomicU8::new(WELL));
    let settling = Arc::new(AtomicBool::new(false));
    let world = World::with(no_rate(), |inner| {
        Arc::new(Faulty {
            inner,
            mode: Arc::clone(&mode),
            settling: Arc::clone(&settling),
        })
    })
    .await;
    (world, mode, settling)
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
            .commit_reservation(id, &draft, hold, commit)
            .await;
        assert_eq!(result.err().map(|error| error.code()), expected);
    }
    assert_eq!(world.balance(&world.meter, &hops[0])[1], usd("0.25"));
}

#[tokio::test]
async fn an_unknown_outcome_is_held_until_it_expires() {
    for mode_then in [NOT_APPLIED, APPLIED] {
        let (world, mode) = faulty().await;
        let hops = world.chain(&[("bot", Some(("1", Total)))]);
        mode.store(mode_then, Ordering::SeqCst);
        let hold = world.ask(&hops, "draft", 1).unwrap();
        let (id, draft) = (world.next_action(), Action::named("draft"));
        let result = world
            .meter
            .commit_reservation(id, &draft, hold, world.commit("x"));
        assert_eq!(result.await.unwrap_err().code(), "store_unavailable");
        mode.store(WELL, Ordering::SeqCst);
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
    let (world, mode) = faulty().await;
    let hops = world.chain(&[("bot", Some(("1", Total)))]);
    let kept = world.reserve(&hops, "draft", 1).await;
    mode.store(NOT_DONE, Ordering::SeqCst);
    let hold = world.ask(&hops, "draft", 2).unwrap();
    let (id, draft) = (world.next_action(), Action::named("draft"));
    let result = world
        .meter
        .commit_reservation(id, &draft, hold, world.commit("x"));
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
    let (world, _, settling) = observed().await;
    let world = Arc::new(world);
    for _ in 0..300 {
        let hops = world.chain(&[("bot", Some(("2 units", Total)))]);
        let id = world.reserve(&hops, "free", 1).await;
        settling.store(false, Ordering::SeqCst);
        let done = Arc::new(AtomicBool::new(false));
        let other = {
            let (world, hops) = (Arc::clone(&world), hops.clone());
            let (settling, done) = (Arc::clone(&settling), Arc::clone(&done));
            std::thread::spawn(move || {
                while !settling.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                let mut kept = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    kept.extend(world.ask(&hops, "free", 1));
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
    let (world, mode) = faulty().await;
    let hops = world.chain(&[("bot", Some(("1", Total)))]);
    let id = world.reserve(&hops, "draft", 4).await;
    let draft = world.meter.draft_settlement(world.org, id, 1).unwrap();
    mode.store(APPLIED, Ordering::SeqCst);
    let lost = world
        .meter
        .settle(draft, world.commit("usage.settled"))
        .await;
    assert_eq!(lost.unwrap_err().code(), "store_unavailable");
    mode.store(WELL, Ordering::SeqCst);
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
        let commit = world.meter.commit_reservation(id, &draft, hold, commit);
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
