//! An agent below another: its token is bound to its key, it takes prekeys, and it ends with
//! whom it stands below.

use std::path::Path;

use serde_json::Value;

use super::Row;
use crate::demo::documents::{ensure, instant, number, same, text};
use crate::demo::error::DemoError;
use crate::demo::proofs::replay;
use crate::demo::step::Done;
use crate::demo::world::{World, refused_with};

pub(super) const STEPS: &[Row] = &[
    ("courier's token is bound to its key", "proven", bind),
    ("courier takes reviewer's prekeys", "taken", take),
    ("owner revokes reviewer for ever", "refused", expel),
];

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Makes a key that a token can be bound to, and gives its thumbprint.
fn make_key(world: &World, file: &Path) -> Result<String, DemoError> {
    let made = world.creto(&["agent", "key", "--out", &shown(file)])?;
    Ok(text(&made, "/jkt")?.to_owned())
}

/// Who reads the token, or a whole request, has nothing by that.
fn bind(world: &mut World) -> Result<Done, DemoError> {
    world.creto(&["agent", "create", "courier"])?;
    let granted = world.creto_as(
        &world.reviewer_credential(),
        &[
            "delegate",
            "create",
            "courier",
            "--right",
            "identity.sign on signature:review",
            "--right",
            "prekey.take on prekey:*",
            "--expires-in",
            "1h",
        ],
    )?;
    same("who delegates", "reviewer", text(&granted, "/delegator")?)?;
    world.courier = text(&granted, "/id")?.to_owned();

    let (token, key) = (world.courier_credential(), world.courier_key());
    let jkt = make_key(world, &key)?;
    let file = shown(&token);
    let words = ["agent", "token", &world.courier, "--bind-jkt", &jkt];
    let issued = world.creto(&[&words[..], &["--out", &file]].concat())?;
    let leaf = world.on_record("token.issued", &issued)?;

    let me = world.creto_as_courier(&["self"])?;
    same("the key of its token", jkt.as_str(), text(&me, "/jkt")?)?;
    let without = world.creto_refused_as(&token, &["self"])?;
    refused_with("dpop_proof_required", &without)?;
    let thief = world.space.path("thief.key");
    make_key(world, &thief)?;
    let theirs = world.creto_refused_as(&token, &["--dpop-key", &shown(&thief), "self"])?;
    refused_with("dpop_key_mismatch", &theirs)?;
    replay(world)?;
    Ok(Done::new(
        "proven",
        "refused without a proof, with a thief's, and with the same proof again",
    )
    .at(leaf))
}

/// Takes one, and gives it with its leaf.
fn taken(world: &mut World, out: &str, kind: &str) -> Result<(String, u64), DemoError> {
    let file = shown(&world.space.path(out));
    let words = ["prekeys", "take", &world.reviewer_id, "--out", &file];
    let answer = world.creto_as_courier(&words)?;
    let leaf = world.on_record("prekey.taken", &answer)?;
    same("its kind", kind, text(&answer, "/prekey/kind")?)?;
    Ok((text(&answer, "/prekey/id")?.to_owned(), leaf))
}

/// One that serves once goes to one taker; after that there is the one of last resort, which
/// says that it is.
fn take(world: &mut World) -> Result<Done, DemoError> {
    let reviewer = world.reviewer_credential();
    let file = shown(&world.space.path("reviewer.prekeys"));
    let words = ["prekeys", "generate", "--out", &file, "--one-time", "1"];
    let published = world.creto_as(&reviewer, &words)?;
    world.on_record("prekeys.published", &published)?;
    let once = text(&published, "/published/one_time/0")?;
    let last = text(&published, "/published/last_resort")?;
    let waiting = |world: &World| -> Result<u64, DemoError> {
        number(
            &world.creto_as(&reviewer, &["prekeys", "left"])?,
            "/one_time",
        )
    };
    same("prekeys that wait", 1, waiting(world)?)?;

    let (first, leaf) = taken(world, "prekey.1", "one_time")?;
    same("the prekey that serves once", once, first.as_str())?;
    same("prekeys that wait", 0, waiting(world)?)?;
    // What was given out does not come back by publishing it again.
    let words = ["prekeys", "publish", "--keys", &file];
    refused_with("conflict", &world.creto_refused_as(&reviewer, &words)?)?;
    for out in ["prekey.2", "prekey.3"] {
        let (id, _) = taken(world, out, "last_resort")?;
        same("the prekey of last resort", last, id.as_str())?;
    }
    Ok(Done::new(
        "taken",
        "one once and never again; then the last resort, which is said to be it",
    )
    .at(leaf))
}

/// Nothing is left of it, nor of what stands below it, and no restart brings it back.
fn expel(world: &mut World) -> Result<Done, DemoError> {
    let signature = shown(&world.space.path("courier.sig"));
    let signed = courier_signs(world, &signature, World::creto_as_courier)?;
    world.on_record("identity.signed", &signed)?;
    let words = ["agent", "revoke", "reviewer", "--reason", "not needed"];
    let revoked = world.creto(&words)?;
    let leaf = world.on_record("principal.revoked", &revoked)?;
    nobody(world)?;
    world.kill_and_restart()?;
    nobody(world)?;
    let detail = format!(
        "reviewer, and courier below it, since {}; also after a restart",
        instant(&revoked, "/revoked_at")?
    );
    Ok(Done::new("refused", detail).at(leaf))
}

fn courier_signs(
    world: &World,
    out: &str,
    call: impl FnOnce(&World, &[&str]) -> Result<Value, DemoError>,
) -> Result<Value, DemoError> {
    let prekey = shown(&world.space.path("prekey.1"));
    let words = ["sign", &prekey, "--purpose", "review", "--out", out];
    call(world, &words)
}

/// Each of the ways in which it, or who stands below it, could still be somebody.
fn nobody(world: &World) -> Result<(), DemoError> {
    const REVOKED: &str = "principal_revoked";
    let reviewer = world.creto_refused_as(&world.reviewer_credential(), &["self"])?;
    refused_with(REVOKED, &reviewer)?;
    refused_with(REVOKED, &world.creto_refused_as_courier(&["self"])?)?;
    let late = world.space.path("late");
    let file = shown(&late);
    let signed = courier_signs(world, &file, World::creto_refused_as_courier)?;
    refused_with(REVOKED, &signed)?;
    let words = ["agent", "token", &world.courier, "--out", &file];
    refused_with(REVOKED, &world.creto_refused(&words)?)?;
    ensure(!late.exists(), || {
        "a signature or a token was made below somebody who is revoked".to_owned()
    })?;
    let delegation = world.creto(&["delegate", "show", &world.courier])?;
    same(
        "courier's delegation",
        "revoked",
        text(&delegation, "/state")?,
    )?;

    let words = ["agent", "resume", "reviewer", "--reason", "after all"];
    refused_with(REVOKED, &world.creto_refused(&words)?)?;
    let namesake = world.creto_refused(&["agent", "create", "reviewer"])?;
    refused_with("principal_exists", &namesake)
}
