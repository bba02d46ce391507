//! The invoice, the ledger, and the log under both.

use creto_crypto::sha256;
use creto_tlog::{Checkpoint, Hasher, InclusionProof, verify_inclusion};
use creto_types::{Currency, Money};
use serde_json::Value;

use super::Row;
use crate::demo::documents::{ensure, leaf, list, money, number, same, sum, text, value};
use crate::demo::error::DemoError;
use crate::demo::step::Done;
use crate::demo::world::World;
use crate::opening;

pub(super) const STEPS: &[Row] = &[
    ("owner issues an invoice", "issued", issue),
    ("every line leads to its leaves", "proven", follow),
];

fn issue(world: &mut World) -> Result<Done, DemoError> {
    let from = world.began.to_string();
    let invoice = world.creto(&["invoice", "issue", "--from", &from])?;
    let to = text(&invoice, "/to")?.to_owned();
    let usage = world.creto(&["usage", "--from", &from, "--to", &to])?;

    let lines = list(&invoice, "/lines")?;
    let ledger = list(&usage, "/lines")?;
    same("the number of lines", ledger.len(), lines.len())?;
    let mut total = Money::zero(Currency::USD);
    for line in lines {
        let (agent, action) = (text(line, "/agent")?, text(line, "/action")?);
        let entry = ledger
            .iter()
            .find(|entry| {
                text(entry, "/agent").is_ok_and(|name| name == agent)
                    && text(entry, "/action").is_ok_and(|name| name == action)
            })
            .ok_or_else(|| DemoError::Fact(format!("{agent} {action} is not in the ledger")))?;
        let amount = money(line, "/amount")?;
        let exact = money(entry, "/cost")?;
        same(action, exact.round_to_minor_unit(), amount)?;
        same(
            "units",
            number(entry, "/units")?,
            number(line, "/quantity")?,
        )?;
        total = sum(&total, &amount)?;
    }
    same("the invoice's total", total, money(&invoice, "/total")?)?;

    let again = world.creto_refused(&["invoice", "issue", "--from", &from, "--to", &to])?;
    same(
        "the same period again",
        "nothing_to_invoice",
        text(&again, "/error/code")?,
    )?;
    let detail = format!(
        "{} lines for {}; the ledger has {} before rounding",
        lines.len(),
        text(&invoice, "/customer")?,
        money(&usage, "/total")?
    );
    let done = Done::new("issued", detail)
        .costing(total)
        .at(leaf(&invoice)?);
    world.invoice = invoice;
    Ok(done)
}

/// Every event of every line is a leaf that the log's signed head proves.
fn follow(world: &mut World) -> Result<Done, DemoError> {
    let owner = world.owner()?;
    let mut events = 0_u64;
    let mut last = 0;
    for line in list(&world.invoice, "/lines")? {
        let mut units = 0;
        for event in list(line, "/events")? {
            last = leaf(event)?;
            let answer = owner.get(&format!("/v1/audit/leaves/{last}"))?;
            proves(&answer, last)?;
            let record = value(&answer, "/record")?;
            same("the leaf is about", "usage.settled", text(record, "/kind")?)?;
            same(
                "its action",
                text(event, "/action_id")?,
                text(record, "/action_id")?,
            )?;
            same(
                "its event",
                text(event, "/event_id")?,
                text(record, "/body/event_id")?,
            )?;
            same(
                "its units",
                number(event, "/units")?,
                number(record, "/body/units")?,
            )?;
            units += number(event, "/units")?;
            events += 1;
        }
        same("the line's quantity", number(line, "/quantity")?, units)?;
    }
    ensure(events > 0, || "the invoice has no events".to_owned())?;
    Ok(Done::new(
        "proven",
        format!("{events} events, {events} inclusion proofs"),
    )
    .at(last))
}

/// Checks an inclusion proof from its text alone.
fn proves(answer: &Value, index: u64) -> Result<(), DemoError> {
    let wrong = |why: String| DemoError::Fact(format!("leaf {index} is not proven: {why}"));
    let hasher = Hasher::new(sha256);
    let leaf = opening::decoded(answer, "leaf").map_err(|error| wrong(error.to_string()))?;
    let record = opening::record(&leaf, value(answer, "/opening")?)
        .map_err(|error| wrong(error.to_string()))?;
    ensure(record == *value(answer, "/record")?, || {
        format!("leaf {index} commits to another record than the one shown")
    })?;
    let proof: InclusionProof = text(answer, "/proof")?
        .parse()
        .map_err(|error| wrong(format!("{error}")))?;
    let head: Checkpoint = proof
        .checkpoint
        .text()
        .parse()
        .map_err(|error| wrong(format!("{error}")))?;
    same("the proof's index", index, proof.index)?;
    verify_inclusion(
        hasher,
        &hasher.leaf(&leaf),
        index,
        head.size,
        &proof.hashes,
        &head.root,
    )
    .map_err(|error| wrong(error.to_string()))
}
