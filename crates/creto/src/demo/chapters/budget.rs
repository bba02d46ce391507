//! The end of a budget, and the end of a delegation.

use std::thread::sleep;
use std::time::Duration;

use creto_client::ClientError;
use creto_types::{Currency, Money};
use serde_json::Value;

use super::Row;
use crate::demo::documents::{
    difference, ensure, instant, leaf, list, money, same, sum, text, value,
};
use crate::demo::error::DemoError;
use crate::demo::step::Done;
use crate::demo::world::{World, report};

pub(super) const STEPS: &[Row] = &[
    ("release-bot spends its budget", "quota_exceeded", spend),
    ("owner revokes the planner's delegation", "deny", revoke),
];

fn spend(world: &mut World) -> Result<Done, DemoError> {
    let before = money(&ledger(world)?, "/total")?;
    let done = world.run_bot(&["spend"])?;
    let mut spent = Money::zero(Currency::USD);
    for settled in list(&done, "/allowed")? {
        spent = sum(&spent, &money(settled, "/cost")?)?;
    }
    let used = money(&ledger(world)?, "/total")?;
    same("the ledger", sum(&before, &spent)?, used)?;

    let stopped = value(&done, "/stopped")?;
    same(
        "the budget of",
        "release-bot",
        text(stopped, "/quota/principal")?,
    )?;
    same("used of the budget", used, money(stopped, "/quota/used")?)?;
    let limit = money(stopped, "/quota/limit")?;
    let resets = instant(stopped, "/quota/resets_at")?;

    let planner = world.planner_client()?.get("/v1/self")?;
    let all = money(&planner, "/chain/0/balance/limit")?;
    let left = money(&planner, "/chain/0/balance/remaining")?;
    same(
        "the planner's remaining budget",
        difference(&all, &used)?,
        left,
    )?;
    let detail = format!("used {used} of {limit}, resets {resets}; planner has {left} left");
    Ok(Done::new(text(stopped, "/outcome")?, detail)
        .costing(spent)
        .at(leaf(stopped)?))
}

fn ledger(world: &World) -> Result<Value, DemoError> {
    world.creto(&["usage"])
}

/// Revokes while the agent is at work: its next call is refused.
fn revoke(world: &mut World) -> Result<Done, DemoError> {
    let before = reads(world)?;
    let id = world.launch(&world.sandbox_body(&world.bot_argv(&["watch"])))?;
    let mut working = false;
    for _ in 0..200 {
        working = reads(world)? > before;
        if working {
            break;
        }
        sleep(Duration::from_millis(50));
    }
    ensure(working, || "the agent did not begin to work".to_owned())?;
    let revoked = world.creto(&["revoke", &world.planner])?;

    let done = report(&world.await_sandbox(&id)?)?;
    let stopped = value(&done, "/stopped")?;
    same(
        "the reason",
        "delegation_revoked",
        text(stopped, "/reason/code")?,
    )?;
    match world.planner_client()?.get("/v1/self") {
        Err(ClientError::Refused(_)) => {}
        other => {
            return Err(DemoError::Fact(format!(
                "the planner still has authority: {other:?}"
            )));
        }
    }
    let detail = format!(
        "{} allowed before, none after {}",
        list(&done, "/allowed")?.len(),
        instant(&revoked, "/revoked_at")?
    );
    Ok(Done::new(text(stopped, "/outcome")?, detail).at(leaf(&revoked)?))
}

/// How often the history was read, as the ledger has it.
fn reads(world: &World) -> Result<u64, DemoError> {
    let usage = ledger(world)?;
    let line = list(&usage, "/lines")?
        .iter()
        .find(|line| line.get("action").and_then(Value::as_str) == Some("history.read"));
    Ok(line
        .and_then(|line| line.get("events"))
        .and_then(Value::as_u64)
        .unwrap_or(0))
}
