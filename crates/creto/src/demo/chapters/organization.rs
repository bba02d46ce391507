//! An organization, its agents, and who may do what.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::Row;
use crate::demo::documents::{ensure, leaf, same, text};
use crate::demo::error::DemoError;
use crate::demo::settings::{PATIENT, configure, set_patience};
use crate::demo::step::Done;
use crate::demo::workspace::file_error;
use crate::demo::world::{World, call_refused_with};

pub(super) const STEPS: &[Row] = &[
    ("make the organization", "created", make_organization),
    ("make two agents", "created", make_agents),
    ("owner delegates to planner", "granted", delegate_to_planner),
    (
        "planner delegates less to release-bot",
        "granted",
        delegate_to_bot,
    ),
    (
        "planner delegates more than it has",
        "refused",
        delegate_too_much,
    ),
];

/// The starter set lets nobody read a secret; planner may, as far as it is lent to it.
/// What stands in `policies/secrets.cedar`.
const SECRETS: &str = r#"@id("planner-reads-what-is-lent")
permit (
  principal,
  action == Creto::Action::"secret.read",
  resource
);
"#;

/// What stands in `policies/signing.cedar`: who may sign may sign reviews alone, and prekeys
/// may be published and taken.
const SIGNING: &str = r#"@id("reviews-are-signed")
permit (
  principal,
  action == Creto::Action::"identity.sign",
  resource == Creto::Resource::"signature:review"
);

@id("prekeys")
permit (
  principal,
  action in [Creto::Action::"prekey.publish", Creto::Action::"prekey.take"],
  resource
);
"#;

fn make_organization(world: &mut World) -> Result<Done, DemoError> {
    let data = world.space.path("data").display().to_string();
    let init = [
        "init",
        "--org",
        "Creto demo",
        "--owner",
        "owner",
        "--data-dir",
        &data,
    ];
    world.creto(&init)?;

    let credential = world.owner_credential()?;
    let metadata = std::fs::metadata(&credential).map_err(file_error("read", &credential))?;
    let mode = metadata.permissions().mode() & 0o777;
    ensure(mode == 0o600, || {
        format!("the owner's credential has mode {mode:o}, not 600")
    })?;
    let before = std::fs::read(&credential).map_err(file_error("read", &credential))?;
    world.creto_refused(&init)?;
    let after = std::fs::read(&credential).map_err(file_error("read", &credential))?;
    ensure(before == after, || {
        "a second `creto init` was refused and changed the credential all the same".to_owned()
    })?;

    configure(&world.space, world.address.socket(), &world.host)?;
    set_patience(&world.space, PATIENT)?;
    for (name, policies) in [("secrets", SECRETS), ("signing", SIGNING)] {
        let file = world.space.path(&format!("policies/{name}.cedar"));
        std::fs::write(&file, policies).map_err(file_error("write", &file))?;
    }
    world.start_server()?;
    let me = world.creto(&["self"])?;
    same("the owner's kind", "human", text(&me, "/kind")?)?;
    let first = world.owner()?.get("/v1/audit/leaves/0")?;
    let kind = text(&first, "/record/kind")?;
    ensure(kind.starts_with("organization."), || {
        format!("leaf 0 is about `{kind}`, not about the organization")
    })?;
    Ok(Done::new(
        "created",
        format!("{}, owned by a human", text(&me, "/org")?),
    )
    .at(0))
}

fn make_agents(world: &mut World) -> Result<Done, DemoError> {
    world.creto(&["agent", "create", "planner"])?;
    let bot = world.creto(&["agent", "create", "release-bot"])?;
    let id = text(&bot, "/spiffe_id")?;
    ensure(
        id.starts_with("spiffe://") && id.ends_with("/agent/release-bot"),
        || format!("`{id}` is not the agent's SPIFFE id"),
    )?;
    Ok(Done::new("created", id).at(leaf(&bot)?))
}

fn delegate_to_planner(world: &mut World) -> Result<Done, DemoError> {
    let granted = world.creto(&[
        "delegate",
        "create",
        "planner",
        "--right",
        "history.* on repo:*",
        "--right",
        "changelog.* on repo:*",
        "--right",
        "release.* on repo:*",
        "--right",
        "network_egress on *",
        "--right",
        "secret.read on secret:*",
        "--expires-in",
        "2d",
        "--budget",
        "5.00 USD",
        "--budget-period",
        "month",
        "--max-depth",
        "1",
    ])?;
    world.planner = text(&granted, "/id")?.to_owned();
    let file = world.planner_credential().display().to_string();
    let issued = world.creto(&["agent", "token", &world.planner, "--out", &file])?;
    ensure(issued.get("token").is_none(), || {
        "the token was printed, not only written to its file".to_owned()
    })?;
    Ok(Done::new("granted", "5.00 USD a month, for two days").at(leaf(&granted)?))
}

fn delegate_to_bot(world: &mut World) -> Result<Done, DemoError> {
    let granted = world.creto_as(
        &world.planner_credential(),
        &[
            "delegate",
            "create",
            "release-bot",
            "--right",
            "history.read on repo:creto",
            "--right",
            "changelog.draft on repo:creto",
            "--right",
            "release.publish on repo:creto",
            "--right",
            "network_egress on releases.example.test",
            "--expires-in",
            "1d",
            "--budget",
            "1.00 USD",
            "--budget-period",
            "month",
        ],
    )?;
    same("who delegates", "planner", text(&granted, "/delegator")?)?;
    same(
        "the parent",
        world.planner.as_str(),
        text(&granted, "/parent")?,
    )?;
    world.bot = text(&granted, "/id")?.to_owned();
    Ok(Done::new("granted", "1.00 USD a month, one repository, for one day").at(leaf(&granted)?))
}

/// Each of the ways to hand on more than one was given.
fn delegate_too_much(world: &mut World) -> Result<Done, DemoError> {
    let planner = world.planner_client()?;
    let soon = world.began + jiff::SignedDuration::from_hours(1);
    let late = world.began + jiff::SignedDuration::from_hours(24 * 30);
    let read = json!([{"action": "history.read", "resource": "repo:creto"}]);
    let budget =
        |amount: &str| json!({"limit": {"amount": amount, "currency": "USD"}, "period": "month"});
    let attempts = [
        (
            "delegation_rights_exceed_parent",
            json!({"delegatee": "release-bot", "expires_at": soon,
                   "rights": [{"action": "*", "resource": "*"}]}),
        ),
        (
            "delegation_budget_exceeds_parent",
            json!({"delegatee": "release-bot", "expires_at": soon, "rights": read.clone(),
                   "budget": budget("5.01")}),
        ),
        (
            "delegation_outlives_parent",
            json!({"delegatee": "release-bot", "expires_at": late, "rights": read.clone()}),
        ),
        (
            "delegation_depth_exceeded",
            json!({"delegatee": "release-bot", "expires_at": soon, "rights": read.clone(),
                   "max_depth": 2}),
        ),
    ];
    let before = delegations(world)?;
    let mut codes = Vec::new();
    for (expected, body) in attempts {
        call_refused_with(expected, planner.post("/v1/delegations", &body))?;
        codes.push(expected.trim_start_matches("delegation_"));
    }
    same("the number of delegations", before, delegations(world)?)?;
    Ok(Done::new("refused", codes.join(", ")))
}

fn delegations(world: &World) -> Result<usize, DemoError> {
    let owner = world.owner()?;
    let items: Vec<Value> = owner.pages("/v1/delegations").collect::<Result<_, _>>()?;
    Ok(items.len())
}
