//! An agent signs with a key that it never has; the key is replaced, and the one before is
//! ended with what it signed.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Row;
use crate::demo::documents::{ensure, same, text, value};
use crate::demo::error::DemoError;
use crate::demo::step::Done;
use crate::demo::workspace::file_error;
use crate::demo::world::{World, call_refused_with, refused_with};

pub(super) const STEPS: &[Row] = &[
    ("owner delegates to reviewer", "granted", delegate),
    ("reviewer signs, a stranger verifies", "valid", sign),
    ("reviewer's signing key is rotated", "rotated", rotate),
    ("reviewer's former key is revoked", "revoked", revoke),
];

/// What the reviewer signs: the changelog as it was delivered. It is longer than what may be
/// sent, so its digest is signed.
const REVIEWED: &str = "CHANGELOG.md";

/// Under this key the reviewer asks for the same signature again, as whoever did not get
/// the answer.
const REPEATED: &str = "the-answer-was-lost";

fn reviewed(world: &World) -> PathBuf {
    world.space.path("release-host").join(REVIEWED)
}

fn delegate(world: &mut World) -> Result<Done, DemoError> {
    world.creto(&["agent", "create", "reviewer"])?;
    let granted = world.creto(&[
        "delegate",
        "create",
        "reviewer",
        "--right",
        "identity.sign on signature:*",
        "--right",
        "prekey.* on prekey:*",
        "--expires-in",
        "1d",
        "--max-depth",
        "1",
    ])?;
    let leaf = world.on_record("delegation.granted", &granted)?;
    let delegation = text(&granted, "/id")?;
    let file = world.reviewer_credential().display().to_string();
    world.creto(&["agent", "token", delegation, "--out", &file])?;
    let me = world.creto_as(&world.reviewer_credential(), &["self"])?;
    world.reviewer_id = text(&me, "/spiffe_id")?.to_owned();
    Ok(Done::new(
        "granted",
        "to sign, and to be written to; one may stand below it",
    )
    .at(leaf))
}

/// The words of `creto sign`; the signature goes where the stranger finds it.
fn sign_as_reviewer(world: &World, purpose: &str, out: &str) -> [String; 8] {
    [
        "sign",
        &reviewed(world).display().to_string(),
        "--digest",
        "sha-256",
        "--purpose",
        purpose,
        "--out",
        &world.stranger().join(out).display().to_string(),
    ]
    .map(str::to_owned)
}

fn signed(world: &mut World, out: &str) -> Result<(Value, u64), DemoError> {
    let words = sign_as_reviewer(world, "review", out);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let answer = world.creto_as(&world.reviewer_credential(), &words)?;
    let leaf = world.on_record("identity.signed", &answer)?;
    Ok((value(&answer, "/signed")?.clone(), leaf))
}

/// Gives the stranger the reviewer's public keys as they are now.
fn publish_keys(world: &World, file: &str) -> Result<(), DemoError> {
    let out = world.stranger().join(file).display().to_string();
    world.creto(&["agent", "keys", &world.reviewer_id, "--out", &out])?;
    Ok(())
}

/// The words by which the stranger checks, with nothing but public keys.
fn check<'a>(world: &'a World, signature: &'a str, file: &'a str, keys: &'a str) -> [&'a str; 9] {
    [
        "verify-signature",
        signature,
        file,
        "--signer",
        &world.reviewer_id,
        "--purpose",
        "review",
        "--keys",
        keys,
    ]
}

/// Fails unless the stranger finds the signature good, and by this key.
fn is_valid(world: &World, signature: &str, keys: &str, kid: &str) -> Result<(), DemoError> {
    let found = world.creto_as_stranger(&check(world, signature, REVIEWED, keys))?;
    ensure(value(&found, "/valid")? == &json!(true), || {
        format!("{signature} does not hold: {found}")
    })?;
    same(
        "the signer",
        world.reviewer_id.as_str(),
        text(&found, "/signer")?,
    )?;
    same("the key", kid, text(&found, "/kid")?)
}

/// Only what is public leaves the organization; whoever has it needs nobody to believe.
fn sign(world: &mut World) -> Result<Done, DemoError> {
    let stranger = world.stranger();
    fs::create_dir(&stranger).map_err(file_error("make", &stranger))?;
    let (first, leaf) = signed(world, "first.sig")?;
    publish_keys(world, "first.keys")?;
    let original = reviewed(world);
    let text_reviewed = fs::read(&original).map_err(file_error("read", &original))?;
    let copy = stranger.join(REVIEWED);
    fs::write(&copy, &text_reviewed).map_err(file_error("write", &copy))?;
    is_valid(world, "first.sig", "first.keys", text(&first, "/kid")?)?;

    let mut altered = text_reviewed;
    let last = altered
        .last_mut()
        .ok_or_else(|| DemoError::Fact("the delivered changelog is empty".to_owned()))?;
    *last ^= 1;
    let path = stranger.join("altered.md");
    fs::write(&path, &altered).map_err(file_error("write", &path))?;
    let words = check(world, "first.sig", "altered.md", "first.keys");
    refused_with(
        "signature_invalid",
        &world.creto_refused_as_stranger(&words)?,
    )?;

    // By right it may sign anything, by policy reviews alone.
    let words = sign_as_reviewer(world, "payment", "payment.sig");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let denied = world.creto_refused_as(&world.reviewer_credential(), &words)?;
    same("a payment", "deny", text(&denied, "/decision/outcome")?)?;
    ensure(!stranger.join("payment.sig").exists(), || {
        "what was denied was signed".to_owned()
    })?;
    let detail = format!(
        "{}, checked with public keys alone; one changed bit is refused",
        text(&first, "/signature/alg")?
    );
    Ok(Done::new("valid", detail).at(leaf))
}

/// Asks for a signature under a key that repeats the answer.
fn repeated(world: &World) -> Result<Result<Value, creto_client::ClientError>, DemoError> {
    let first = signature(world, "first.sig")?;
    let body = json!({ "purpose": "review", "digest": value(&first, "/digest")? });
    let reviewer = world.reviewer_client()?;
    Ok(reviewer.post_with_key("/v1/signatures", &body, REPEATED))
}

fn signature(world: &World, file: &str) -> Result<Value, DemoError> {
    let text = world.space.read(&format!("stranger/{file}"))?;
    serde_json::from_str(&text)
        .map_err(|_| DemoError::Fact(format!("{file} is not a signature: {text}")))
}

/// Nothing that was signed before fails because there is a new key.
fn rotate(world: &mut World) -> Result<Done, DemoError> {
    let former = signature(world, "first.sig")?;
    let former = text(&former, "/kid")?;
    let before = repeated(world)??;
    world.on_record("identity.signed", &before)?;
    let words = [
        "agent",
        "rotate-key",
        "reviewer",
        "--reason",
        "the yearly one",
    ];
    let rotated = world.creto(&words)?;
    let leaf = world.on_record("principal.key_rotated", &rotated)?;
    let kid = text(&rotated, "/kid")?;
    ensure(kid != former, || "the key is the same as before".to_owned())?;
    let after = repeated(world)??;
    ensure(before == after, || {
        format!("the same request was answered {before}, and then {after}")
    })?;

    publish_keys(world, "rotated.keys")?;
    is_valid(world, "first.sig", "rotated.keys", former)?;
    signed(world, "second.sig")?;
    is_valid(world, "second.sig", "rotated.keys", kid)?;
    Ok(Done::new(
        "rotated",
        "signed with another key from now on; what was signed before holds",
    )
    .at(leaf))
}

/// Nothing that it signed holds any more, and nothing is said again that it signed.
fn revoke(world: &mut World) -> Result<Done, DemoError> {
    let former = signature(world, "first.sig")?;
    let former = text(&former, "/kid")?;
    let words = ["agent", "revoke-key", "reviewer", former];
    let revoked = world.creto(&[&words[..], &["--reason", "it leaked"]].concat())?;
    let leaf = world.on_record("principal.key_revoked", &revoked)?;

    publish_keys(world, "revoked.keys")?;
    let words = check(world, "first.sig", REVIEWED, "revoked.keys");
    refused_with(
        "signed_by_revoked_key",
        &world.creto_refused_as_stranger(&words)?,
    )?;
    call_refused_with("signing_key_revoked", repeated(world)?)?;

    let second = signature(world, "second.sig")?;
    let kid = text(&second, "/kid")?;
    is_valid(world, "second.sig", "revoked.keys", kid)?;
    signed(world, "third.sig")?;
    is_valid(world, "third.sig", "revoked.keys", kid)?;
    Ok(Done::new(
        "revoked",
        "its signature is refused and not given out again; the new key's hold",
    )
    .at(leaf))
}
