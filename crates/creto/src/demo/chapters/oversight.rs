//! What a human has to look at first: approved on the command line and on the web
//! page, denied, and left alone until it was too late.

use creto_crypto::sha256;
use creto_types::canonical_json;
use serde_json::{Value, json};

use super::Row;
use crate::demo::browser::Browser;
use crate::demo::documents::{ensure, leaf, list, money, same, sum, text, value};
use crate::demo::error::DemoError;
use crate::demo::settings::{IMPATIENT, PATIENT, set_patience};
use crate::demo::step::Done;
use crate::demo::world::World;

pub(super) const STEPS: &[Row] = &[
    (
        "release-bot asks to publish 1.0.0",
        "requires_oversight",
        ask,
    ),
    (
        "owner approves on the command line",
        "approved",
        approve_by_command,
    ),
    ("grant with one changed argument", "deny", changed_argument),
    ("release-bot publishes 1.0.0", "allow", publish),
    ("the same grant once more", "deny", second_use),
    (
        "owner approves 1.1.0 on the web page",
        "approved",
        approve_on_page,
    ),
    ("release-bot publishes 1.1.0", "allow", publish_again),
    ("owner denies 1.2.0", "denied", deny),
    ("nobody decides about 1.3.0 in time", "expired", expire),
];

/// The policy that wants a human to look, in `policies/release.cedar`.
const POLICY: &str = "publish-needs-a-human";

/// Asks to publish a version, and keeps the request's id.
fn request(world: &mut World, version: &str) -> Result<Value, DemoError> {
    let answer = world.run_bot(&["request-publish", "--version", version])?;
    same(
        "the outcome",
        "requires_oversight",
        text(&answer, "/outcome")?,
    )?;
    world.request = text(&answer, "/oversight/request_id")?.to_owned();
    Ok(answer)
}

fn show(world: &World) -> Result<Value, DemoError> {
    world.creto(&["oversight", "show", &world.request])
}

/// What the release bot can tell about its request, and what came of using it.
fn try_publish(world: &World, version: &str) -> Result<Value, DemoError> {
    let host = world.host_url();
    world.run_bot(&[
        "publish",
        "--host",
        &host,
        "--request",
        &world.request,
        "--version",
        version,
    ])
}

/// The releases that really arrived outside.
fn releases(world: &World) -> Result<Vec<Value>, DemoError> {
    let text = world
        .space
        .read("release-host/releases.jsonl")
        .unwrap_or_default();
    text.lines()
        .map(|line| {
            serde_json::from_str(line)
                .map_err(|_| DemoError::Fact(format!("the release host got `{line}`")))
        })
        .collect()
}

fn versions_are(world: &World, expected: &[&str]) -> Result<(), DemoError> {
    let releases = releases(world)?;
    let expected: Vec<Value> = expected
        .iter()
        .map(|version| json!({"version": version, "head": world.head}))
        .collect();
    ensure(releases == expected, || {
        format!("the release host has {releases:?}, not {expected:?}")
    })
}

fn ask(world: &mut World) -> Result<Done, DemoError> {
    let answer = request(world, "1.0.0")?;
    let policies = list(&answer, "/policy_ids")?;
    ensure(policies.contains(&json!(POLICY)), || {
        format!("the policy is not named: {answer}")
    })?;

    let shown = show(world)?;
    let args = json!({"version": "1.0.0", "head": world.head});
    ensure(value(&shown, "/args")? == &args, || {
        format!("the approver does not see the exact arguments: {shown}")
    })?;
    let chain = json!(["owner", "planner", "release-bot"]);
    ensure(value(&shown, "/chain")? == &chain, || {
        format!("the approver does not see the chain: {shown}")
    })?;
    let cost = money(&shown, "/cost")?;
    let ledger = world.creto(&["usage", "--agent", "release-bot"])?;
    same(
        "the cost so far",
        money(&ledger, "/total")?,
        money(&shown, "/spent")?,
    )?;

    // Anyone can compute what the approval is bound to.
    let held = json!({
        "org": text(&world.creto(&["self"])?, "/org")?,
        "agent": "release-bot",
        "action": "release.publish",
        "resource": "repo:creto",
        "args": args,
        "units": 1,
        "policy_id": POLICY,
        "policy_digests": value(&shown, "/policy_digests")?,
    });
    let digest = hex::encode(sha256(&canonical(&held)?));
    same("the digest", digest.as_str(), text(&shown, "/digest")?)?;
    same(
        "the digest told to the agent",
        digest.as_str(),
        text(&answer, "/oversight/digest")?,
    )?;
    let detail = format!("{POLICY}; would cost {cost}");
    Ok(Done::new(text(&answer, "/outcome")?, detail).at(leaf(&answer)?))
}

fn approve_by_command(world: &mut World) -> Result<Done, DemoError> {
    let path = format!("/v1/oversight/requests/{}/approve", world.request);
    let by_an_agent = world.planner_client()?.post(&path, &json!({}));
    ensure(by_an_agent.is_err(), || {
        "an agent approved a request; only a human may".to_owned()
    })?;
    let decided = world.creto(&["approve", &world.request, "--reason", "read the changelog"])?;
    ensure(decided.get("grant").is_none(), || {
        "the approver was shown the grant, which is the agent's alone".to_owned()
    })?;
    let by = text(&decided, "/decided_by")?;
    Ok(Done::new(
        text(&decided, "/state")?,
        format!("by {by}, with `creto approve`"),
    )
    .at(leaf(&decided)?))
}

fn misuse(world: &World, version: &str, code: &str) -> Result<Done, DemoError> {
    let tried = world.run_bot(&["misuse", "--request", &world.request, "--version", version])?;
    let answer = value(&tried, "/answer")?;
    same("the reason", code, text(answer, "/reason/code")?)?;
    Ok(Done::new(
        text(answer, "/outcome")?,
        format!("{code}: {}", text(answer, "/reason/message")?),
    )
    .at(leaf(answer)?))
}

fn changed_argument(world: &mut World) -> Result<Done, DemoError> {
    let done = misuse(world, "1.0.1", "grant_action_mismatch")?;
    versions_are(world, &[])?;
    same(
        "the request afterwards",
        "approved",
        text(&show(world)?, "/state")?,
    )?;
    Ok(done)
}

fn publish(world: &mut World) -> Result<Done, DemoError> {
    let done = published(world, "1.0.0")?;
    versions_are(world, &["1.0.0"])?;
    Ok(done)
}

fn published(world: &World, version: &str) -> Result<Done, DemoError> {
    let before = world.creto(&["usage", "--agent", "release-bot"])?;
    let done = try_publish(world, version)?;
    ensure(value(&done, "/published")? == &json!(true), || {
        format!("it was not published: {done}")
    })?;
    let answer = value(&done, "/answer")?;
    let cost = money(answer, "/settlement/cost")?;
    let after = world.creto(&["usage", "--agent", "release-bot"])?;
    let expected = sum(&money(&before, "/total")?, &cost)?;
    same("the ledger", expected, money(&after, "/total")?)?;
    same(
        "the request afterwards",
        "used",
        text(&show(world)?, "/state")?,
    )?;
    follows_approval(world, answer, version)?;
    let detail = format!(
        "as approved in {}; it arrived, and is in the ledger",
        world.request
    );
    Ok(Done::new(text(answer, "/outcome")?, detail)
        .costing(cost)
        .at(leaf(value(answer, "/settlement")?)?))
}

/// The action's own records name the approval and these very arguments, and lead
/// to what was used.
fn follows_approval(world: &World, answer: &Value, version: &str) -> Result<(), DemoError> {
    let records = world.creto(&["audit", "action", text(answer, "/action_id")?])?;
    let [decided, settled] = list(&records, "/items")? else {
        return Err(DemoError::Fact(format!(
            "the action has other records than a decision and a settlement: {records}"
        )));
    };
    let approval = text(decided, "/record/body/oversight_request")?;
    same("the approval in the log", world.request.as_str(), approval)?;
    let args = canonical(&json!({"version": version, "head": world.head}))?;
    let digest = hex::encode(sha256(&args));
    let logged = text(decided, "/record/body/args_sha256")?;
    same("the arguments in the log", digest.as_str(), logged)?;
    same(
        "the last record",
        "usage.settled",
        text(settled, "/record/kind")?,
    )
}

fn canonical(document: &Value) -> Result<Vec<u8>, DemoError> {
    canonical_json(document)
        .map_err(|error| DemoError::Fact(format!("it has no canonical form: {error}")))
}

fn second_use(world: &mut World) -> Result<Done, DemoError> {
    let done = misuse(world, "1.0.0", "grant_used")?;
    versions_are(world, &["1.0.0"])?;
    Ok(done)
}

fn approve_on_page(world: &mut World) -> Result<Done, DemoError> {
    let asked = request(world, "1.1.0")?;
    Browser::new(world.address).approve(&world.owner_credential()?, &world.request)?;
    let shown = show(world)?;
    let by = text(&shown, "/decided_by")?;
    let detail = format!("by {by}, at {}", text(&asked, "/oversight/url")?);
    Ok(Done::new(text(&shown, "/state")?, detail).at(leaf(&shown)?))
}

fn publish_again(world: &mut World) -> Result<Done, DemoError> {
    let done = published(world, "1.1.0")?;
    versions_are(world, &["1.0.0", "1.1.0"])?;
    Ok(done)
}

fn deny(world: &mut World) -> Result<Done, DemoError> {
    request(world, "1.2.0")?;
    let reason = "not before the weekend";
    let decided = world.creto(&["deny", &world.request, "--reason", reason])?;
    let told = try_publish(world, "1.2.0")?;
    ensure(value(&told, "/published")? == &json!(false), || {
        format!("it was published although it was denied: {told}")
    })?;
    same(
        "the reason told",
        reason,
        text(&told, "/request/decision_reason")?,
    )?;
    versions_are(world, &["1.0.0", "1.1.0"])?;
    Ok(Done::new(text(&told, "/state")?, format!("the agent reads: {reason}")).at(leaf(&decided)?))
}

/// The owner has one second here, so the server runs with another configuration
/// for as long as this step takes.
fn expire(world: &mut World) -> Result<Done, DemoError> {
    set_patience(&world.space, IMPATIENT)?;
    world.stop_server()?;
    world.start_server()?;
    let asked = request(world, "1.3.0")?;
    let path = format!("/v1/oversight/requests/{}?wait_seconds=20", world.request);
    let expired = world.owner()?.get(&path)?;
    same("the request", "expired", text(&expired, "/state")?)?;
    let late = world.creto_refused(&["approve", &world.request])?;
    same(
        "a late approval",
        "oversight_expired",
        text(&late, "/error/code")?,
    )?;
    let told = try_publish(world, "1.3.0")?;
    ensure(value(&told, "/published")? == &json!(false), || {
        format!("it was published although nobody approved: {told}")
    })?;
    versions_are(world, &["1.0.0", "1.1.0"])?;

    set_patience(&world.space, PATIENT)?;
    world.stop_server()?;
    world.start_server()?;
    Ok(Done::new(
        text(&told, "/state")?,
        "the agent can tell it from a denial",
    )
    .at(leaf(&asked)?))
}
