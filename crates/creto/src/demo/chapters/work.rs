//! The agent at work in its sandbox, and against its walls.

use std::thread::sleep;
use std::time::Duration;

use creto_crypto::sha256;
use serde_json::{Value, json};

use super::Row;
use crate::demo::documents::{ensure, leaf, list, money, number, same, sum, text, value};
use crate::demo::error::DemoError;
use crate::demo::step::Done;
use crate::demo::world::{World, report};

pub(super) const STEPS: &[Row] = &[
    ("release-bot drafts the changelog", "allow", draft),
    ("release-bot tries the closed ways out", "refused", probe),
    ("release-bot tries the sandbox's walls", "contained", walls),
    ("release-bot works outside its delegation", "deny", outside),
    ("release-bot asks too fast", "rate_limited", rush),
    (
        "release-bot connects more often than it may",
        "limit_exceeded",
        connect,
    ),
];

/// The name that the release host's name server must never be asked for.
const UNLISTED: &str = "unlisted.example.test";
/// Documentation range (RFC 5737): nobody's address.
const LITERAL: &str = "192.0.2.1";

fn draft(world: &mut World) -> Result<Done, DemoError> {
    let host = world.host_url();
    let mut words = vec!["agent", "run", &world.bot];
    words.extend([
        "--mount",
        "history=/history",
        "--mount",
        "release-bot=/release-bot",
    ]);
    words.extend(["--env", "PYTHONDONTWRITEBYTECODE=1", "--"]);
    let argv = world.bot_argv(&["draft", "--host", &host]);
    words.extend(argv);
    let done = report(&world.creto(&words)?)?;
    ensure(value(&done, "/ok")? == &json!(true), || {
        format!("the draft was not delivered: {done}")
    })?;
    same("commits read", world.commits, number(&done, "/commits")?)?;
    let delivered = world.space.read("release-host/CHANGELOG.md")?;
    let digest = hex::encode(sha256(delivered.as_bytes()));
    same("what arrived", text(&done, "/sha256")?, digest.as_str())?;
    let newest: String = world.head.chars().take(10).collect();
    ensure(delivered.contains(&newest), || {
        "the newest commit is missing in the changelog".to_owned()
    })?;

    let read = value(&done, "/read/settlement")?;
    let drafted = value(&done, "/drafted/settlement")?;
    let cost = sum(&money(read, "/cost")?, &money(drafted, "/cost")?)?;
    balances_are(world, &cost)?;
    let detail = format!("{} commits, delivered to {host}", world.commits);
    Ok(Done::new(text(&done, "/drafted/outcome")?, detail)
        .costing(cost)
        .at(leaf(drafted)?))
}

/// The same sum is used of the bot's budget and of the planner's above it.
fn balances_are(world: &World, used: &creto_types::Money) -> Result<(), DemoError> {
    let planner = world.planner_client()?.get("/v1/self")?;
    same(
        "used of the planner's budget",
        *used,
        money(&planner, "/chain/0/balance/used")?,
    )?;
    let bot = report(&world.await_sandbox(&world.launch(&world.sandbox_body(&[
        "/usr/bin/python3",
        "-c",
        "import sys; sys.path.insert(0, '/release-bot'); import json, creto; \
         print(json.dumps(creto.call('GET', '/v1/self')))",
    ]))?)?)?;
    same(
        "used of the bot's budget",
        *used,
        money(&bot, "/chain/1/balance/used")?,
    )
}

fn probe(world: &mut World) -> Result<Done, DemoError> {
    let done = world.run_bot(&["probe", "--literal", LITERAL])?;
    for way in ["unlisted", "literal"] {
        let status = value(&done, &format!("/{way}/status"))?;
        let reached = status.as_u64().is_some_and(|status| status < 400);
        ensure(!reached, || {
            format!("the {way} destination answered: {done}")
        })?;
    }
    ensure(
        value(&done, "/hidden_name_resolved")? == &json!(false),
        || "an unlisted name was resolved".to_owned(),
    )?;
    ensure(done.pointer("/datagram/reply").is_none(), || {
        "a raw UDP packet got an answer".to_owned()
    })?;

    let refusals = list(&done, "/refusals/refusals")?;
    let mut reasons = Vec::new();
    for refusal in refusals {
        let message = text(refusal, "/message")?;
        ensure(!message.is_empty(), || {
            format!("no reason is given: {refusal}")
        })?;
        reasons.push((text(refusal, "/protocol")?, text(refusal, "/destination")?));
    }
    let refused = |protocol: &[&str], destination: &str| {
        reasons
            .iter()
            .any(|(by, to)| protocol.contains(by) && to.contains(destination))
    };
    let readable = [
        ("the unlisted host", refused(&["dns", "http"], UNLISTED)),
        ("the IP literal", refused(&["http", "tcp"], LITERAL)),
        ("the raw UDP packet", refused(&["udp"], LITERAL)),
    ];
    for (what, told) in readable {
        ensure(told, || format!("no reason is readable for {what}: {done}"))?;
    }
    let asked = world.space.read("release-host/queries.log")?;
    ensure(!asked.contains("unlisted"), || {
        format!("a DNS query for an unlisted name left the sandbox: {asked}")
    })?;
    ensure(asked.contains("releases.example.test"), || {
        "the name server was never asked at all, so its log proves nothing".to_owned()
    })?;
    let detail = "unlisted host, IP literal, UDP: refused with reasons; no DNS query leaked";
    Ok(Done::new("refused", detail).at(refusal_leaf(world)?))
}

/// Where the log says that the unlisted name was refused. Such records are
/// written in batches, so the newest leaves are looked at until it is there.
fn refusal_leaf(world: &World) -> Result<u64, DemoError> {
    const NEWEST: u64 = 40;
    let owner = world.owner()?;
    for _ in 0..50 {
        let note = owner.get_bytes("/v1/audit/checkpoint")?;
        let note = String::from_utf8_lossy(&note);
        let size: u64 = note
            .lines()
            .nth(1)
            .and_then(|line| line.parse().ok())
            .ok_or_else(|| DemoError::Fact(format!("the checkpoint has no size: {note}")))?;
        for index in (size.saturating_sub(NEWEST)..size).rev() {
            let answer = owner.get(&format!("/v1/audit/leaves/{index}"))?;
            let record = value(&answer, "/record")?;
            let refused = record.pointer("/body/destination") == Some(&json!(UNLISTED))
                && record.pointer("/body/outcome") == Some(&json!("refuse"));
            if refused {
                return Ok(index);
            }
        }
        sleep(Duration::from_millis(100));
    }
    Err(DemoError::Fact(
        "the refusal of the unlisted name is not in the log".to_owned(),
    ))
}

fn walls(world: &mut World) -> Result<Done, DemoError> {
    let seen = world.run_bot(&["walls"])?;
    let writes = value(&seen, "/writes")?;
    for (path, result) in writes.as_object().into_iter().flatten() {
        ensure(result != "written", || {
            format!("the sandbox wrote to {path}")
        })?;
    }
    same("who calls", "release-bot", text(&seen, "/me/name")?)?;
    same("how it is known", "sandbox", text(&seen, "/me/origin")?)?;
    let secret = std::fs::read_to_string(world.owner_credential()?).unwrap_or_default();
    ensure(!seen.to_string().contains(secret.trim()), || {
        "the sandbox saw the owner's credential".to_owned()
    })?;

    let limited = |name: &str, limit: Value, argv: &[&str], expected: &str| {
        let mut body = world.sandbox_body(argv);
        if let Value::Object(fields) = &mut body {
            fields.insert("limits".to_owned(), limit);
        }
        let ended = world.await_sandbox(&world.launch(&body)?)?;
        same(name, expected, text(&ended, "/exit")?)?;
        leaf(&ended)
    };
    limited(
        "a program past its time",
        json!({"wall_seconds": 2}),
        &["/usr/bin/sleep", "60"],
        "timed_out",
    )?;
    let stopped = limited(
        "a program past its memory",
        json!({"memory_bytes": 192 * 1024 * 1024}),
        &world.bot_argv(&["hog"]),
        "out_of_memory",
    )?;
    Ok(Done::new(
        "contained",
        "read-only everywhere, no credential inside, stopped at its time and memory limits",
    )
    .at(stopped))
}

fn outside(world: &mut World) -> Result<Done, DemoError> {
    let answer = world.run_bot(&["outside"])?;
    same(
        "the reason",
        "right_not_delegated",
        text(&answer, "/reason/code")?,
    )?;
    Ok(Done::new(
        text(&answer, "/outcome")?,
        text(&answer, "/reason/message")?,
    )
    .at(leaf(&answer)?))
}

fn rush(world: &mut World) -> Result<Done, DemoError> {
    let done = world.run_bot(&["rush"])?;
    let stopped = value(&done, "/stopped")?;
    let wait = number(stopped, "/retry_after_ms")?;
    let detail = format!(
        "after {} actions at once; may go on in {wait} ms",
        number(&done, "/allowed")?
    );
    Ok(Done::new(text(stopped, "/outcome")?, detail).at(leaf(stopped)?))
}

/// One connection more than were made is allowed, and the next is not.
fn connect(world: &mut World) -> Result<Done, DemoError> {
    let limit = |most: u64| {
        let most = format!("{most} units");
        let mut words = vec!["limit", "set", &most, "--agent", "release-bot"];
        words.extend(["--event", "network_egress", "--window", "total"]);
        world.creto(&words)
    };
    limit(1_000)?;
    let listed = world.owner()?.get("/v1/limits")?;
    let made = number(&listed, "/items/0/balance/used/units")?;
    ensure(made >= 2, || {
        format!("the draft made two connections, and {made} are counted")
    })?;
    let set = limit(made + 1)?;
    let host = world.host_url();
    let tried = world.run_bot(&["connect", "--host", &host])?;
    same("the first try", 200, number(&tried, "/first/status")?)?;
    let refused = text(&tried, "/second/body")?;
    let refused: Value = serde_json::from_str(refused)
        .map_err(|_| DemoError::Fact(format!("the refusal is no problem details: {tried}")))?;
    same("the second try", 403, number(&tried, "/second/status")?)?;
    let id = text(&set, "/id")?;
    world.creto(&["limit", "remove", id])?;
    let detail = format!("after {} connections", made + 1);
    Ok(Done::new(text(&refused, "/code")?, detail).at(leaf(&set)?))
}
