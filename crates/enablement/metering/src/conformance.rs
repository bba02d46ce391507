//! The contract of [`LedgerStore`] as a test suite. A backend passes it or does
//! not ship.

mod limits;
mod world;

use std::sync::Arc;

use creto_types::{ActionId, Claim, Commit, Idempotency, LeafIndex, OrgId, Period, StoreError};

use crate::{Entry, Event, EventQuery, Invoice, LedgerStore, Reservation, Settlement, Spend};
use world::{World, all, commit, name};

/// Runs every check, each on stores from `open`: two calls with one name give the
/// same data, the second as after a restart; the earlier store is dropped before.
///
/// # Panics
///
/// When the backend breaks the contract.
pub async fn run<F, Fut>(open: F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Arc<dyn LedgerStore>>,
{
    a_reservation_is_closed_once(open("once").await).await;
    a_settlement_needs_its_reservation(open("needs").await).await;
    a_refused_commit_changes_nothing(open("refused").await).await;
    events_are_filtered_and_paged(open("events").await).await;
    spends_cover_every_organization(open("spends").await).await;
    limits::run(&open).await;
    an_event_is_billed_once(open("billed").await).await;
    numbers_have_no_gaps(open("numbers").await).await;
    organizations_do_not_meet(open("orgs").await).await;
    closing_races_have_one_winner(open("races").await).await;

    let world = World::new(9);
    let written = write_one_of_each(&world, open("restart").await).await;
    written.check(open("restart").await).await;
}

async fn entry(store: &dyn LedgerStore, org: OrgId, action: ActionId) -> Option<Entry> {
    store.entry(org, action).await.expect("reads")
}

async fn open_ones(store: &dyn LedgerStore) -> Vec<Reservation> {
    store.open_reservations().await.expect("reads")
}

fn conflicts<T>(result: Result<T, StoreError>, what: &str) {
    let conflict = matches!(result, Err(StoreError::Conflict { .. }));
    assert!(conflict, "{what} is a conflict");
}

fn missing<T>(result: Result<T, StoreError>, what: &str) {
    let missing = matches!(result, Err(StoreError::NotFound { .. }));
    assert!(missing, "{what} is not found");
}

async fn a_reservation_is_closed_once(store: Arc<dyn LedgerStore>) {
    let world = World::new(1);
    let first = world.reservation("bot", 10);
    let second = world.reservation("bot", 10);
    for reservation in [&first, &second] {
        let kept = reservation.clone();
        let receipt = store.reserve(kept, world.commit("action.allowed")).await;
        assert_eq!(receipt.expect("reserves").leaves.len(), 1);
    }
    conflicts(
        store.reserve(first.clone(), world.commit("again")).await,
        "a second reservation of one action",
    );
    assert_eq!(
        open_ones(store.as_ref()).await,
        [first.clone(), second.clone()]
    );
    let (org, action) = (world.org, first.action_id);
    assert_eq!(entry(store.as_ref(), org, action).await, Some(Entry::Open));

    let used = world.settlement(&first, 4);
    let settled = store.settle(used.clone(), world.commit("usage.settled"));
    assert_eq!(settled.await.expect("settles").leaf(), Some(LeafIndex(2)));
    let released = store.release(org, second.action_id, world.commit("usage.released"));
    released.await.expect("releases");
    assert!(open_ones(store.as_ref()).await.is_empty());
    assert_eq!(
        entry(store.as_ref(), org, action).await,
        Some(Entry::Settled {
            cost: used.cost,
            units: used.units
        })
    );
    assert_eq!(
        entry(store.as_ref(), org, second.action_id).await,
        Some(Entry::Released)
    );

    for reservation in [&first, &second] {
        let again = world.settlement(reservation, 1);
        conflicts(
            store.settle(again, world.commit("x")).await,
            "settling what is closed",
        );
        conflicts(
            store
                .release(org, reservation.action_id, world.commit("x"))
                .await,
            "releasing what is closed",
        );
        conflicts(
            store.reserve(reservation.clone(), world.commit("x")).await,
            "reserving what is closed",
        );
    }
}

async fn a_settlement_needs_its_reservation(store: Arc<dyn LedgerStore>) {
    let world = World::new(2);
    let reservation = world.reservation("bot", 10);
    let (org, action) = (world.org, reservation.action_id);
    let early = world.settlement(&reservation, 1);
    missing(
        store.settle(early.clone(), world.commit("x")).await,
        "a settlement without a reservation",
    );
    missing(
        store.release(org, action, world.commit("x")).await,
        "a release without a reservation",
    );
    assert_eq!(entry(store.as_ref(), org, action).await, None);

    let kept = reservation.clone();
    let reserved = store.reserve(kept, world.commit("action.allowed")).await;
    reserved.expect("reserves");
    let unproven = store.settle(early, Commit::default()).await;
    assert!(unproven.is_err(), "a settlement has an evidence record");
    assert_eq!(entry(store.as_ref(), org, action).await, Some(Entry::Open));
    let none = world.settlement(&reservation, 0);
    let settled = store.settle(none, world.commit("usage.settled")).await;
    settled.expect("nothing used is settled too");

    let reservation = world.reservation("bot", 10);
    let kept = reservation.clone();
    let reserved = store.reserve(kept, world.commit("action.allowed")).await;
    reserved.expect("reserves");
    let more = world.settlement(&reservation, 11);
    let settled = store.settle(more, world.commit("usage.settled")).await;
    settled.expect("how much may be settled is for the meter to say");
}

async fn a_refused_commit_changes_nothing(store: Arc<dyn LedgerStore>) {
    let world = World::new(3);
    let claim = Claim {
        org: world.org,
        token: "grant".to_owned(),
    };
    let idempotency = Idempotency {
        org: world.org,
        caller: name("bot"),
        key: "key".to_owned(),
        request_digest: [7; 32],
        response: serde_json::json!({"ok": true}),
        turn: creto_types::Turn::default(),
    };
    let first = world.reservation("bot", 5);
    let used = world
        .commit("action.allowed")
        .with_claim(claim.clone())
        .with_idempotency(Some(idempotency.clone()));
    let reserved = store.reserve(first.clone(), used).await;
    reserved.expect("reserves");

    let second = world.reservation("bot", 5);
    let claimed = world.commit("x").with_claim(claim);
    let result = store.reserve(second.clone(), claimed.clone()).await;
    assert!(matches!(result, Err(StoreError::AlreadyClaimed { .. })));
    assert_eq!(
        entry(store.as_ref(), world.org, second.action_id).await,
        None
    );
    let settlement = world.settlement(&first, 5);
    assert!(
        store
            .settle(settlement.clone(), claimed.clone())
            .await
            .is_err()
    );
    let released = store.release(world.org, first.action_id, claimed.clone());
    assert!(released.await.is_err());
    assert_eq!(
        open_ones(store.as_ref()).await,
        std::slice::from_ref(&first)
    );

    let replayed = world.commit("x").with_idempotency(Some(idempotency));
    let result = store.reserve(first.clone(), replayed.clone()).await;
    assert!(
        matches!(result, Err(StoreError::Replayed(_))),
        "a repeated call is a replay, not a conflict"
    );
    let result = store.settle(settlement.clone(), replayed).await;
    let leaves = match result {
        Err(StoreError::Replayed(reply)) => reply.leaves,
        _ => Vec::new(),
    };
    assert_eq!(leaves, [LeafIndex(0)], "a used key gives its reply");
    assert_eq!(open_ones(store.as_ref()).await, [first]);
    let settled = store.settle(settlement.clone(), world.commit("usage.settled"));
    let receipt = settled.await.expect("settles");
    assert_eq!(receipt.leaf(), Some(LeafIndex(1)), "no leaf was lost");

    let event = Event {
        settlement,
        leaf: LeafIndex(1),
        invoice: None,
    };
    let invoice = world.invoice(1, &[event]);
    assert!(store.issue(invoice.clone(), claimed).await.is_err());
    assert_eq!(
        store.invoice(world.org, invoice.id).await.expect("reads"),
        None
    );
    let issued = store.issue(invoice, world.commit("invoice.issued")).await;
    issued.expect("issues");
}

async fn events_are_filtered_and_paged(store: Arc<dyn LedgerStore>) {
    let world = World::new(4);
    let mut events = Vec::new();
    for agent in ["bot", "bot", "other", "bot"] {
        events.push(world.event(store.as_ref(), agent, 3).await);
    }
    let read = |query: EventQuery| {
        let store = Arc::clone(&store);
        let org = world.org;
        async move { store.events(org, query, None, 100).await.expect("reads") }
    };
    assert_eq!(read(all()).await, events);

    let (first, rest) = events.split_first().expect("four events");
    let after = Some(first.settlement.event_id);
    let page = store.events(world.org, all(), after, 2).await;
    assert_eq!(page.expect("reads"), rest.get(..2).expect("three are left"));

    let of_other = EventQuery {
        agent: Some(name("other")),
        ..all()
    };
    assert_eq!(read(of_other).await.len(), 1);
    let of_nobody = EventQuery {
        customer: Some(name("nobody")),
        ..all()
    };
    assert!(read(of_nobody).await.is_empty());

    // Half-open: from the first event's instant to the last one's.
    let last = rest.last().expect("four events");
    let between = EventQuery {
        period: Period::new(first.settlement.settled_at, last.settlement.settled_at)
            .expect("time passed"),
        ..all()
    };
    let expected = events.get(..3).expect("four events");
    assert_eq!(read(between).await, expected);
}

async fn spends_cover_every_organization(store: Arc<dyn LedgerStore>) {
    let one = World::new(5);
    let other = World::new(6);
    let mut expected = Vec::new();
    for world in [&one, &other, &one] {
        let used = world.event(store.as_ref(), "bot", 2).await.settlement;
        expected.push(Spend {
            event_id: used.event_id,
            org: used.org,
            agent: used.agent,
            action: used.action,
            units: used.units,
            hops: used.hops,
            reserved_at: used.reserved_at,
            cost: used.cost,
        });
        // Released and open reservations spend nothing.
        for close in [true, false] {
            let unused = world.reservation("bot", 1);
            let action = unused.action_id;
            let reserved = store.reserve(unused, world.commit("action.allowed"));
            reserved.await.expect("reserves");
            if close {
                let released = store.release(world.org, action, world.commit("x"));
                released.await.expect("releases");
            }
        }
    }
    expected.sort_by_key(|spend| spend.event_id);
    assert_eq!(store.spends(None, 100).await.expect("reads"), expected);
    let mut paged = Vec::new();
    while let Some(spend) = store
        .spends(paged.last().map(|spend: &Spend| spend.event_id), 1)
        .await
        .expect("reads")
        .pop()
    {
        paged.push(spend);
    }
    assert_eq!(paged, expected);
    assert_eq!(open_ones(store.as_ref()).await.len(), 3);
}

async fn an_event_is_billed_once(store: Arc<dyn LedgerStore>) {
    let world = World::new(7);
    let first = world.event(store.as_ref(), "bot", 3).await;
    let second = world.event(store.as_ref(), "bot", 3).await;
    let open = EventQuery {
        uninvoiced: true,
        ..all()
    };
    let unknown = Event {
        settlement: world.settlement(&world.reservation("bot", 1), 1),
        leaf: LeafIndex(0),
        invoice: None,
    };
    missing(
        store
            .issue(
                world.invoice(1, &[first.clone(), unknown]),
                world.commit("x"),
            )
            .await,
        "an event that is not in the ledger",
    );
    conflicts(
        store
            .issue(
                world.invoice(1, &[first.clone(), first.clone()]),
                world.commit("x"),
            )
            .await,
        "an event twice in one invoice",
    );
    let left = store.events(world.org, open.clone(), None, 100).await;
    assert_eq!(left.expect("reads").len(), 2, "refusals bill nothing");

    let invoice = world.invoice(1, std::slice::from_ref(&first));
    let receipt = store
        .issue(invoice.clone(), world.commit("invoice.issued"))
        .await
        .expect("issues");
    let stored = store.invoice(world.org, invoice.id).await.expect("reads");
    assert_eq!(
        stored,
        Some(Invoice {
            leaf: receipt.leaf(),
            ..invoice.clone()
        })
    );
    let left = store.events(world.org, open, None, 100).await;
    assert_eq!(left.expect("reads"), std::slice::from_ref(&second));
    let events = store.events(world.org, all(), None, 100).await;
    let marks: Vec<_> = events
        .expect("reads")
        .into_iter()
        .map(|event| event.invoice)
        .collect();
    assert_eq!(marks, [Some(invoice.id), None]);
    conflicts(
        store
            .issue(world.invoice(2, &[second, first]), world.commit("x"))
            .await,
        "an event of another invoice",
    );
    assert_eq!(
        store.last_invoice_number(world.org).await.expect("reads"),
        1
    );
}

async fn numbers_have_no_gaps(store: Arc<dyn LedgerStore>) {
    let world = World::new(8);
    let org = world.org;
    assert_eq!(store.last_invoice_number(org).await.expect("reads"), 0);
    let mut issued = Vec::new();
    for number in 1..=3 {
        let event = world.event(store.as_ref(), "bot", 1).await;
        for wrong in [number - 1, number + 1] {
            let invoice = world.invoice(wrong, std::slice::from_ref(&event));
            conflicts(
                store.issue(invoice, world.commit("x")).await,
                "a number out of turn",
            );
        }
        let invoice = world.invoice(number, &[event]);
        issued.push(invoice.id);
        let done = store.issue(invoice, world.commit("invoice.issued")).await;
        done.expect("issues");
    }
    let list = |after, limit| {
        let store = Arc::clone(&store);
        async move {
            let page = store.invoices(org, after, limit).await.expect("reads");
            page.into_iter().map(|i| i.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(list(None, 10).await, issued);
    assert_eq!(
        list(issued.first().copied(), 1).await,
        issued.get(1..2).expect("three invoices")
    );
}

async fn organizations_do_not_meet(store: Arc<dyn LedgerStore>) {
    let mine = World::new(10);
    let theirs = World::new(11);
    let event = mine.event(store.as_ref(), "bot", 1).await;
    let open = mine.reservation("bot", 1);
    let reserved = store.reserve(open.clone(), mine.commit("action.allowed"));
    reserved.await.expect("reserves");
    let invoice = mine.invoice(1, std::slice::from_ref(&event));

    assert_eq!(
        entry(store.as_ref(), theirs.org, open.action_id).await,
        None
    );
    missing(
        store
            .release(theirs.org, open.action_id, theirs.commit("x"))
            .await,
        "another organization's reservation",
    );
    let stolen = Settlement {
        org: theirs.org,
        ..mine.settlement(&open, 1)
    };
    missing(
        store.settle(stolen, theirs.commit("x")).await,
        "another organization's reservation",
    );
    let events = store.events(theirs.org, all(), None, 10).await;
    assert!(events.expect("reads").is_empty());
    missing(
        store
            .issue(
                Invoice {
                    org: theirs.org,
                    ..mine.invoice(1, std::slice::from_ref(&event))
                },
                theirs.commit("x"),
            )
            .await,
        "another organization's event",
    );
    let done = store.issue(invoice.clone(), mine.commit("invoice.issued"));
    done.await.expect("issues");
    let seen = store.invoice(theirs.org, invoice.id).await.expect("reads");
    assert_eq!(seen, None);
    let seen = store.invoices(theirs.org, None, 10).await.expect("reads");
    assert!(seen.is_empty());
    let last = store.last_invoice_number(theirs.org).await;
    assert_eq!(last.expect("reads"), 0, "each counts by itself");
    assert_eq!(open_ones(store.as_ref()).await, [open]);
}

async fn closing_races_have_one_winner(store: Arc<dyn LedgerStore>) {
    let world = World::new(12);
    for _ in 0..10 {
        let reservation = world.reservation("bot", 4);
        let reserved = store.reserve(reservation.clone(), world.commit("action.allowed"));
        reserved.await.expect("reserves");
        let racers: Vec<_> = (0..6)
            .map(|i| {
                let store = Arc::clone(&store);
                let (org, action) = (world.org, reservation.action_id);
                let settlement = world.settlement(&reservation, 4);
                tokio::spawn(async move {
                    if i % 2 == 0 {
                        store.settle(settlement, commit(org, "usage.settled")).await
                    } else {
                        store.release(org, action, commit(org, "x")).await
                    }
                })
            })
            .collect();
        let mut winners = 0;
        for racer in racers {
            let outcome = racer.await.expect("no racer panics");
            if outcome.is_ok() {
                winners += 1;
            } else {
                conflicts(outcome, "losing the race");
            }
        }
        assert_eq!(winners, 1);
    }
}

/// What a restart has to keep.
struct Written {
    org: OrgId,
    open: Reservation,
    released: ActionId,
    billed: Event,
    unbilled: Event,
    invoice: Invoice,
}

async fn write_one_of_each(world: &World, store: Arc<dyn LedgerStore>) -> Written {
    let open = world.reservation("bot", 3);
    let released = world.reservation("bot", 3);
    for reservation in [&open, &released] {
        let kept = reservation.clone();
        let reserved = store.reserve(kept, world.commit("action.allowed")).await;
        reserved.expect("reserves");
    }
    let gone = store.release(world.org, released.action_id, world.commit("x"));
    gone.await.expect("releases");
    let mut billed = world.event(store.as_ref(), "bot", 3).await;
    let unbilled = world.event(store.as_ref(), "bot", 3).await;
    let mut invoice = world.invoice(1, std::slice::from_ref(&billed));
    let receipt = store.issue(invoice.clone(), world.commit("invoice.issued"));
    invoice.leaf = receipt.await.expect("issues").leaf();
    billed.invoice = Some(invoice.id);
    Written {
        org: world.org,
        open,
        released: released.action_id,
        billed,
        unbilled,
        invoice,
    }
}

impl Written {
    async fn check(self, store: Arc<dyn LedgerStore>) {
        let org = self.org;
        assert_eq!(open_ones(store.as_ref()).await, [self.open]);
        assert_eq!(
            entry(store.as_ref(), org, self.released).await,
            Some(Entry::Released)
        );
        let events = store.events(org, all(), None, 10).await.expect("reads");
        assert_eq!(events, [self.billed, self.unbilled]);
        let invoice = store.invoice(org, self.invoice.id).await.expect("reads");
        assert_eq!(invoice, Some(self.invoice));
        assert_eq!(store.last_invoice_number(org).await.expect("reads"), 1);
        assert_eq!(store.spends(None, 10).await.expect("reads").len(), 2);
    }
}
