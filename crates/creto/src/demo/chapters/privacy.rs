//! A person leaves and is erased; what others can prove stays.

use serde_json::Value;

use super::Row;
use super::keys::{AUDITOR, auditor_credential};
use super::strangers::seen_beyond;
use crate::demo::documents::{ensure, list, same, text, value};
use crate::demo::error::DemoError;
use crate::demo::step::Done;
use crate::demo::world::{World, refused_with};

pub(super) const STEPS: &[Row] = &[("carol leaves and is erased", "erased", erase)];

/// What carol says, and nobody reads any more in the end.
pub(super) const SAID: &str = "carol saw what it did";

/// The key of what carol did is destroyed: it is gone for everybody, for ever, and what
/// strangers saw of the log stays true.
fn erase(world: &mut World) -> Result<Done, DemoError> {
    let credential = auditor_credential(world);
    world.creto(&["human", "role", AUDITOR, "operator", "--reason", "on call"])?;
    let words = ["agent", "suspend", "planner", "--reason", SAID];
    let suspended = world.creto_as(&credential, &words)?;
    let theirs = world.on_record("principal.suspended", &suspended)?;
    world.creto(&["agent", "resume", "planner", "--reason", "it was nothing"])?;
    let before = record(world, theirs)?;
    same("what was said", SAID, text(&before, "/record/body/reason")?)?;
    ensure(by_carol(world)? > 0, || {
        "what carol did is not found".to_owned()
    })?;

    let words = ["subject", "erase", AUDITOR, "--reason", "asked for it"];
    let early = world.creto_refused(&words)?;
    refused_with("principal_not_suspended", &early)?;
    world.creto(&["human", "revoke", AUDITOR, "--reason", "left"])?;
    let erased = world.creto(&words)?;
    let leaf = world.on_record("subject.erased", &erased)?;
    text(&erased, "/subject")?.clone_into(&mut world.erased);
    gone(world, theirs)?;
    world.kill_and_restart()?;
    gone(world, theirs)?;
    seen_beyond(world, leaf)?;
    Ok(Done::new(
        "erased",
        format!("leaf {theirs} says no more who did what; the stranger finds the log consistent"),
    )
    .at(leaf))
}

fn record(world: &World, leaf: u64) -> Result<Value, DemoError> {
    Ok(world.owner()?.get(&format!("/v1/audit/leaves/{leaf}"))?)
}

fn by_carol(world: &World) -> Result<usize, DemoError> {
    let found = world.creto(&["audit", "search", "--agent", AUDITOR])?;
    Ok(list(&found, "/items")?.len())
}

/// Neither the record nor a search says what carol did.
fn gone(world: &World, leaf: u64) -> Result<(), DemoError> {
    let after = record(world, leaf)?;
    same("why it is not shown", "erased", text(&after, "/withheld")?)?;
    same(
        "whose it is",
        world.erased.as_str(),
        text(&after, "/record/subject")?,
    )?;
    ensure(value(&after, "/record")?.get("actor").is_none(), || {
        format!("the record still says who it was: {after}")
    })?;
    same("what is found of carol", 0, by_carol(world)?)
}
