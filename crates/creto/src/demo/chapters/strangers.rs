//! What people outside see of the log: one cosigns it, another follows it.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::Row;
use crate::demo::children::{Witness, free_address};
use crate::demo::documents::{ensure, list, number, same, text};
use crate::demo::error::DemoError;
use crate::demo::settings::publish_log;
use crate::demo::step::Done;
use crate::demo::world::World;

pub(super) const STEPS: &[Row] = &[
    ("a witness cosigns the log", "cosigned", cosign),
    ("a stranger follows the log", "consistent", follow),
    ("owner searches the log", "found", search),
];

const WITNESS: &str = "witness.example/demo";

/// How long a checkpoint waits for its witness here: 20 seconds.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(100);

/// Only what a witness has cosigned is shown from now on.
fn cosign(world: &mut World) -> Result<Done, DemoError> {
    let keys = world.creto(&["audit", "keys"])?;
    world.log_key = text(&keys, "/ed25519")?.to_owned();
    let key = world.space.path("witness.key").display().to_string();
    let made = world.creto(&["audit", "witness-key", WITNESS, "--out", &key])?;
    let witness = Witness::start(&world.space, &world.log_key)?;

    let public = free_address()?;
    world.stop_server()?;
    publish_log(
        &world.space,
        public,
        &format!("http://{}", witness.address),
        text(&made, "/key")?,
    )?;
    world.witness = Some(witness);
    world.start_server()?;
    let origin = text(&keys, "/origin")?;
    let org = origin.rsplit('/').next().unwrap_or_default();
    world.log_url = format!("http://{public}/log/{org}");

    let seen = watch(world, &["--entries"])?;
    let entries = number(&seen, "/entries")?;
    Ok(Done::new(
        "cosigned",
        format!("by {WITNESS}; {entries} entries lead to the signed root"),
    )
    .at(entries.saturating_sub(1)))
}

/// Looks until there is something to see: nothing is shown that is not cosigned.
fn watch(world: &World, more: &[&str]) -> Result<Value, DemoError> {
    let state = world.space.path("stranger.json").display().to_string();
    let words = [
        "audit",
        "watch",
        &world.log_url,
        "--key",
        &world.log_key,
        "--state",
        &state,
        "--once",
    ];
    let words = [&words, more].concat();
    let mut last = world.creto(&words);
    for _ in 0..TRIES {
        if last.is_ok() {
            break;
        }
        sleep(PAUSE);
        last = world.creto(&words);
    }
    last
}

/// The log grew, and what was there is still there.
fn follow(world: &mut World) -> Result<Done, DemoError> {
    let before = number(&watch(world, &[])?, "/size")?;
    world.creto(&["agent", "create", "newcomer"])?;
    let seen = seen_beyond(world, before)?;
    same("the size before", before, number(&seen, "/before")?)?;
    let size = number(&seen, "/size")?;
    Ok(
        Done::new("consistent", format!("{size} leaves continue {before}"))
            .at(size.saturating_sub(1)),
    )
}

/// What the stranger finds once the public log has more leaves than this: consistent with
/// all that it found before.
pub(super) fn seen_beyond(world: &World, leaves: u64) -> Result<Value, DemoError> {
    for _ in 0..TRIES {
        let seen = watch(world, &[])?;
        if number(&seen, "/size")? > leaves {
            return Ok(seen);
        }
        sleep(PAUSE);
    }
    Err(DemoError::Fact(
        "the public log did not grow with the log".to_owned(),
    ))
}

fn search(world: &mut World) -> Result<Done, DemoError> {
    let words = [
        "audit",
        "search",
        "--member",
        "planner",
        "--action",
        "release.publish",
        "--outcome",
        "allow",
    ];
    let found = world.creto(&words)?;
    let items = list(&found, "/items")?;
    ensure(items.len() == 2, || {
        format!("two releases were allowed, {} are found", items.len())
    })?;
    let newest = items.first().map_or(Ok(0), |item| number(item, "/leaf"))?;
    Ok(Done::new(
        "found",
        "both releases that were allowed below planner, newest first",
    )
    .at(newest))
}
