//! Usage and invoices against the ledger.

use std::time::Duration;

use creto_errors::Classify as _;
use creto_nhi::BudgetPeriod::Total;
use creto_types::{Clock as _, Period};
use proptest::prelude::*;

use crate::world::{World, at, name, usd};

fn march() -> Period {
    Period::new(at("2026-03-01T00:00:00Z"), at("2026-04-01T00:00:00Z")).unwrap()
}

#[tokio::test]
async fn an_invoice_leads_from_lines_to_leaves() {
    let world = World::new().await;
    let hops = world.chain(&[("planner", Some(("50", Total))), ("bot", None)]);
    for units in [3, 2] {
        let action = world.reserve(&hops, "draft", 5).await;
        world.settle(action, units).await;
    }
    let action = world.reserve(&hops[..1], "odd", 7).await;
    world.settle(action, 5).await;
    let early = world.meter.draft_invoice(world.org, march(), name("owner"));
    assert_eq!(early.await.unwrap_err().code(), "period_not_over");

    let usage = world.meter.usage(world.org, march(), None).await.unwrap();
    let rows: Vec<_> = usage
        .iter()
        .map(|row| {
            (
                row.agent.as_str(),
                row.action.as_str(),
                row.events,
                row.units,
                row.cost,
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("bot", "draft", 2, 5, usd("1.25")),
            ("planner", "odd", 1, 5, usd("1.666666665")),
        ]
    );
    let only = world.meter.usage(world.org, march(), Some(name("bot")));
    assert_eq!(only.await.unwrap().len(), 1);

    world.clock.advance(Duration::from_secs(3_600));
    let invoice = world
        .meter
        .draft_invoice(world.org, march(), name("owner"))
        .await
        .unwrap();
    assert_eq!(invoice.number, 1);
    assert_eq!(invoice.total, usd("2.92"));
    assert_eq!(invoice.total.to_string(), "2.92 USD");
    assert_eq!(invoice.lines[0].quantity, 5);
    assert_eq!(invoice.lines[1].amount, usd("1.67"), "rounded once");
    // Each reserve and each settle left one record: settlements are 1, 3 and 5.
    let leaves: Vec<_> = invoice
        .lines
        .iter()
        .flat_map(|line| line.events.iter().map(|event| event.leaf.0))
        .collect();
    assert_eq!(leaves, [1, 3, 5]);
    let evidence = world.commits.evidence(world.org);
    assert!(
        leaves
            .iter()
            .all(|leaf| evidence[*leaf as usize].kind == "usage.settled")
    );

    let receipt = world
        .meter
        .issue_invoice(invoice.clone(), world.commit("invoice.issued"))
        .await
        .unwrap();
    let stored = world.meter.invoice(world.org, invoice.id).await.unwrap();
    assert_eq!(stored.unwrap().leaf, receipt.leaf());
    let again = world.meter.draft_invoice(world.org, march(), name("owner"));
    assert_eq!(again.await.unwrap_err().code(), "nothing_to_invoice");
    let twice = world
        .meter
        .issue_invoice(invoice, world.commit("invoice.issued"));
    assert_eq!(twice.await.unwrap_err().code(), "conflict");
}

#[tokio::test]
async fn of_two_drafts_one_is_issued() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", None)]);
    let action = world.reserve(&hops, "draft", 1).await;
    world.settle(action, 1).await;
    world.clock.advance(Duration::from_secs(3_600));
    let draft = || world.meter.draft_invoice(world.org, march(), name("owner"));
    let (first, second) = (draft().await.unwrap(), draft().await.unwrap());
    let issue = |invoice| world.meter.issue_invoice(invoice, world.commit("x"));
    issue(first).await.unwrap();
    assert_eq!(issue(second).await.unwrap_err().code(), "conflict");
    assert_eq!(
        world
            .meter
            .invoices(world.org, None, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_ledger_in_another_currency_is_refused() {
    let world = World::new().await;
    let hops = world.chain(&[("bot", None)]);
    let action = world.reserve(&hops, "draft", 1).await;
    world.settle(action, 1).await;
    let euros = creto_metering::PriceBook::new("EUR".parse().unwrap(), []).unwrap();
    let reopened = creto_metering::Meter::open(
        std::sync::Arc::clone(&world.store),
        euros,
        crate::world::no_rate(),
        std::sync::Arc::clone(&world.ids),
        std::sync::Arc::<creto_types::ManualClock>::clone(&world.clock),
    )
    .await;
    assert_eq!(reopened.err().unwrap().code(), "ledger_currency");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever was used and whenever invoices are drawn: every event is billed
    /// exactly once, and each line is its exact price rounded once.
    #[test]
    fn invoices_equal_the_ledger(
        uses in proptest::collection::vec((0_usize..3, 0_u64..9, 0_u64..40, any::<bool>()), 1..25)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let hops = world.chain(&[("planner", None), ("bot", None)]);
            let start = world.clock.now();
            let mut invoices = Vec::new();
            for (action, units, minutes, invoice_now) in &uses {
                let action = ["draft", "read", "odd"][*action];
                let chain = &hops[..1 + (*units as usize) % 2];
                let id = world.reserve(chain, action, 9).await;
                world.settle(id, *units).await;
                world.clock.advance(Duration::from_secs(60 * minutes + 1));
                if *invoice_now {
                    invoices.push(issue(&world, start).await);
                }
            }
            if !uses.last().unwrap().3 {
                invoices.push(issue(&world, start).await);
            }
            let whole = Period::new(start, world.clock.now()).unwrap();
            let mut billed = 0;
            let mut exact = usd("0");
            for (number, invoice) in (1..).zip(&invoices) {
                assert_eq!(invoice.number, number);
                let mut total = usd("0");
                for line in &invoice.lines {
                    let units: u64 = line.events.iter().map(|event| event.units).sum();
                    assert_eq!(line.quantity, units);
                    let price = line.unit_price.checked_mul(units).unwrap();
                    assert_eq!(line.amount, price.round_to_minor_unit());
                    exact = exact.checked_add(&price).unwrap();
                    total = total.checked_add(&line.amount).unwrap();
                    billed += line.events.len();
                }
                assert_eq!(invoice.total, total);
            }
            assert_eq!(billed, uses.len(), "each event once");
            let usage = world.meter.usage(world.org, whole, None).await.unwrap();
            let ledger = usage.iter().fold(usd("0"), |sum, row| sum.checked_add(&row.cost).unwrap());
            assert_eq!(exact, ledger);
        });
    }
}

async fn issue(world: &World, start: creto_types::Timestamp) -> creto_metering::Invoice {
    let period = Period::new(start, world.clock.now()).unwrap();
    let invoice = world
        .meter
        .draft_invoice(world.org, period, name("owner"))
        .await
        .unwrap();
    let issued = world
        .meter
        .issue_invoice(invoice.clone(), world.commit("invoice.issued"));
    issued.await.unwrap();
    invoice
}
