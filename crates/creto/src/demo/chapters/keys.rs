//! Other people, a secret on loan, and new keys while everybody works.

use std::fs;
use std::path::PathBuf;

use super::Row;
use crate::demo::documents::{ensure, leaf, number, same, text};
use crate::demo::error::DemoError;
use crate::demo::step::Done;
use crate::demo::workspace::file_error;
use crate::demo::world::World;

pub(super) const STEPS: &[Row] = &[
    ("owner adds an auditor", "created", add_auditor),
    ("a secret is lent to planner alone", "allow", lend_secret),
    ("the keys are rotated under way", "rotated", rotate),
];

/// Whom the owner adds.
pub(super) const AUDITOR: &str = "carol";

/// What is lent.
const SECRET: &str = "mirror-token";

pub(super) fn auditor_credential(world: &World) -> PathBuf {
    world.space.path("carol.credential")
}

/// Her role lets her read everything and change nothing.
fn add_auditor(world: &mut World) -> Result<Done, DemoError> {
    let file = auditor_credential(world);
    let out = file.display().to_string();
    let made = world.creto(&[
        "human", "create", AUDITOR, "--role", "auditor", "--out", &out,
    ])?;
    let bundle = world.space.path("auditor").display().to_string();
    world.creto_as(&file, &["audit", "export", &bundle])?;
    world.creto(&["verify", &bundle])?;
    let refused = world.creto_refused_as(&file, &["agent", "create", "sleeper"])?;
    same("her change", "forbidden", text(&refused, "/error/code")?)?;
    Ok(Done::new(
        "created",
        "carol exports the evidence, and may change nothing",
    )
    .at(leaf(&made)?))
}

/// The value reaches the one agent it is leased to, and not even the owner after that.
fn lend_secret(world: &mut World) -> Result<Done, DemoError> {
    let value = format!("{}-only-for-planner", world.head);
    let file = world.space.path("mirror-token");
    fs::write(&file, &value).map_err(file_error("write", &file))?;
    let path = file.display().to_string();
    world.creto(&["secret", "put", SECRET, "--file", &path])?;
    fs::remove_file(&file).map_err(file_error("remove", &file))?;

    let planner = world.planner_credential();
    let early = world.creto_refused_as(&planner, &["secret", "get", SECRET])?;
    ensure(!early.to_string().contains(&value), || {
        "the secret was told before it was lent".to_owned()
    })?;
    let delegation = world.planner.clone();
    let words = ["secret", "lease", SECRET, "--delegation", &delegation];
    let leased = world.creto(&words)?;
    let read = world.creto_as(&planner, &["secret", "get", SECRET])?;
    same("the secret", value.as_str(), text(&read, "/value")?)?;
    // The owner lent it and is nobody whom it was lent to.
    let owner = world.creto_refused(&["secret", "get", SECRET])?;
    ensure(!owner.to_string().contains(&value), || {
        "the secret was told to somebody else".to_owned()
    })?;
    world.creto(&["secret", "revoke", text(&leased, "/id")?])?;
    let late = world.creto_refused_as(&planner, &["secret", "get", SECRET])?;
    ensure(!late.to_string().contains(&value), || {
        "the secret was told after its lease".to_owned()
    })?;
    Ok(Done::new(
        "allow",
        "read once under its lease, and by nobody before or after",
    )
    .at(leaf(&read)?))
}

/// What was signed before holds; what is signed from now on is by another key.
fn rotate(world: &mut World) -> Result<Done, DemoError> {
    let planner = world.planner_client()?;
    planner.get("/v1/self")?;
    let rotated = world.creto(&["crypto", "rotate", "--reason", "the yearly one"])?;
    let (new, former) = (
        text(&rotated, "/issuer_kid")?,
        text(&rotated, "/former_kid")?,
    );
    ensure(new != former, || {
        "the key that signs tokens is the same as before".to_owned()
    })?;
    planner.get("/v1/self")?;
    let version = number(&rotated, "/wrapping_version")?;
    Ok(Done::new(
        "rotated",
        format!(
            "tokens by another {}, stored keys under version {version}; planner's old token holds",
            text(&rotated, "/issuer")?
        ),
    )
    .at(leaf(&rotated)?))
}
