use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{InvoiceRequest, UsageQuery};

use crate::world::{World, action, usd};

fn everything() -> InvoiceRequest {
    InvoiceRequest {
        from: "2026-01-01T00:00:00Z".parse().expect("an instant"),
        to: None,
        customer: None,
    }
}

async fn work(world: &World, name: &str) {
    let answer = world.governor.submit(&world.bot, action(name), None).await;
    let id = answer.expect("answers").action_id;
    let settled = world.governor.settle(&world.bot, id, 1, None).await;
    settled.expect("settles");
}

#[tokio::test]
async fn an_invoice_is_the_ledger_and_bills_once() {
    let world = World::new().await;
    work(&world, "history.read").await;
    work(&world, "changelog.draft").await;
    work(&world, "changelog.draft").await;
    world.clock.advance(Duration::from_secs(1));
    let usage = world
        .governor
        .usage(&world.owner, UsageQuery::default())
        .await
        .expect("reads");
    assert_eq!(usage.total, usd("0.61"));
    let invoice = world
        .governor
        .issue_invoice(&world.owner, everything(), None)
        .await;
    let invoice = invoice.expect("issues");
    assert_eq!(invoice.total, usd("0.61"));
    assert_eq!(invoice.customer.as_str(), "alice");
    let events: usize = invoice.lines.iter().map(|line| line.events.len()).sum();
    assert_eq!(events, 3);
    let again = world
        .governor
        .issue_invoice(&world.owner, everything(), None)
        .await;
    assert_eq!(
        again.expect_err("all is billed").code(),
        "nothing_to_invoice"
    );
    world.check_records().await.expect("the records hold");

    let listed = world
        .governor
        .invoices(&world.owner, None, 10)
        .await
        .expect("lists");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].total, invoice.total);
    let by_agent = world
        .governor
        .issue_invoice(&world.planner, everything(), None)
        .await;
    assert_eq!(by_agent.expect_err("owner's work").code(), "forbidden");
}

#[tokio::test]
async fn an_agent_reads_its_own_usage() {
    let world = World::new().await;
    work(&world, "history.read").await;
    world.clock.advance(Duration::from_secs(1));
    let own = world
        .governor
        .usage(&world.bot, UsageQuery::default())
        .await;
    assert_eq!(own.expect("reads").total, usd("0.01"));
    let none = world
        .governor
        .usage(&world.planner, UsageQuery::default())
        .await;
    assert_eq!(none.expect("reads").lines, vec![]);
    let others = UsageQuery {
        agent: Some("release-bot".parse().expect("a name")),
        ..UsageQuery::default()
    };
    let refused = world.governor.usage(&world.planner, others).await;
    assert_eq!(refused.expect_err("another's").code(), "forbidden");
}

#[tokio::test]
async fn an_invoice_cannot_be_altered_or_left_out() {
    let world = World::new().await;
    work(&world, "changelog.draft").await;
    world.clock.advance(Duration::from_secs(1));
    let issued = world
        .governor
        .issue_invoice(&world.owner, everything(), None)
        .await;
    issued.expect("issues");
    let (path, bytes) = world.invoice_files().await.remove(0);
    let text = String::from_utf8(bytes).expect("JSON");

    let cheaper = text.replace("0.30", "0.20");
    assert_ne!(cheaper, text);
    let mut checker = world.after_the_leaves();
    let refused = checker.attachment(&path, cheaper.as_bytes());
    assert!(refused.expect_err("altered").contains("differs"));

    let checker = world.after_the_leaves();
    let missed = |checker: &creto_governor::RecordChecker| {
        let missing = checker.missing().into_iter();
        let invoices = missing.filter(|(place, _)| place.starts_with("attachments/invoices/"));
        invoices.count()
    };
    assert_eq!(missed(&checker), 1);
    let mut checker = world.after_the_leaves();
    checker.attachment(&path, text.as_bytes()).expect("holds");
    assert_eq!(missed(&checker), 0);
}
