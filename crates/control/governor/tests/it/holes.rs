//! A log of which some records cannot be read: what leans on them is not judged, and
//! nothing that contradicts what is there passes for it.
#![allow(clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use creto_governor::{
    ExpulsionRequest, HumanRequest, InvoiceRequest, RoleRequest, SuspensionRequest,
};
use creto_types::{Clock as _, PrincipalName, Randomness as _, SeededRandom};
use serde_json::{Value, json};

use crate::evidence::{eventful, place, read, records};
use crate::world::{World, action, delegate};

fn name(text: &str) -> PrincipalName {
    text.parse().expect("a name")
}

/// A log with a record of nearly every kind that is judged.
async fn full() -> World {
    let world = eventful().await;
    let (governor, owner) = (&world.governor, &world.owner);
    let (carol, dave) = (name("carol"), name("dave"));
    let human = |name: &str| HumanRequest {
        name: self::name(name),
        role: "owner".to_owned(),
        ttl_seconds: None,
        jkt: None,
    };
    for who in ["carol", "dave"] {
        let created = governor.add_human(owner, human(who), None);
        created.await.expect("is created");
    }
    let role = RoleRequest {
        role: "auditor".to_owned(),
        reason: "it suffices".to_owned(),
    };
    let set = governor.set_role(owner, &carol, role, None);
    set.await.expect("is set");
    let because = || SuspensionRequest {
        reason: "for a while".to_owned(),
    };
    for _ in 0..2 {
        let suspended = governor.suspend_principal(owner, &carol, because(), None);
        suspended.await.expect("is suspended");
        let resumed = governor.resume_principal(owner, &carol, because(), None);
        resumed.await.expect("is resumed");
    }
    let decided = governor
        .submit(&world.bot, action("history.read"), None)
        .await
        .expect("answers");
    let settled = governor
        .settle(&world.bot, decided.action_id, 1, None)
        .await;
    settled.expect("settles");
    world.clock.advance(Duration::from_secs(1));
    let invoice = InvoiceRequest {
        from: "2026-01-01T00:00:00Z".parse().expect("an instant"),
        to: None,
        customer: None,
    };
    let issued = governor.issue_invoice(owner, invoice, None).await;
    issued.expect("is issued");
    let expires = world.clock.now() + Duration::from_secs(60);
    let below = governor.delegate(
        &world.planner,
        delegate("release-bot", "0.10", expires),
        None,
    );
    let below = below.await.expect("delegates").id;
    let revoked = governor.revoke(owner, &below, None);
    revoked.await.expect("is revoked");
    let expulsion = ExpulsionRequest {
        reason: "not needed".to_owned(),
    };
    let revoked = governor.revoke_principal(owner, &dave, expulsion, None);
    revoked.await.expect("is revoked");
    world.check_records().await.expect("the records hold");
    world
}

/// What is left of a record whose payload is not there.
fn hole(record: &Value) -> Value {
    json!({
        "org": record["org"],
        "kind": record["kind"],
        "at": record["at"],
        "subject": "sub_3f0e9c1d52a84b7f9a6de1c40b75f282",
        "commitment": "00",
    })
}

fn with_holes(whole: &[Value], at: impl Fn(usize) -> bool) -> Vec<Value> {
    let records = whole.iter().enumerate();
    records
        .map(|(place, record)| {
            if at(place) {
                hole(record)
            } else {
                record.clone()
            }
        })
        .collect()
}

fn holds(records: &[Value], files: &[(String, Vec<u8>)]) -> Result<u64, String> {
    let mut checker = read(records)?;
    for (path, bytes) in files {
        checker
            .attachment(path, bytes)
            .map_err(|what| format!("{path}: {what}"))?;
    }
    match checker.missing().as_slice() {
        [] => Ok(checker.unchecked()),
        missing => Err(format!("{missing:?}")),
    }
}

/// Whichever records cannot be read, those that can are not called wrong for it.
#[tokio::test]
async fn no_hole_makes_what_is_there_wrong() {
    let world = full().await;
    let whole = records(&world);
    let mut files = world.invoice_files().await;
    files.extend(world.policy_files().await);
    assert_eq!(holds(&whole, &files), Ok(0));

    let check = |holes: &dyn Fn(usize) -> bool| {
        let found = holds(&with_holes(&whole, holes), &files);
        let kinds: Vec<_> = whole
            .iter()
            .enumerate()
            .filter(|(place, _)| holes(*place))
            .map(|(place, record)| format!("{place} {}", record["kind"]))
            .collect();
        found.unwrap_or_else(|what| panic!("without {kinds:?}: {what}"))
    };
    for one in 0..whole.len() {
        check(&|place| place == one);
        check(&|place| place <= one);
        check(&|place| place >= one);
    }
    let kinds: Vec<_> = whole.iter().map(|record| record["kind"].clone()).collect();
    let mut unjudged = 0;
    for kind in &kinds {
        unjudged += check(&|place| kinds[place] == *kind);
    }
    assert!(unjudged > 0);
    let random = SeededRandom::new(19);
    for round in 0..400_u32 {
        let mut bytes = vec![0; whole.len()];
        random.fill(&mut bytes);
        // Few holes first, then many.
        let below = u8::try_from(round * 255 / 400).expect("it is a byte");
        check(&|place| bytes[place] < below);
    }
}

/// What contradicts records that are there fails, whatever else is not there.
#[tokio::test]
async fn no_hole_hides_what_contradicts() {
    let world = full().await;
    let whole = records(&world);
    for (kind, field, value, unread, what) in [
        (
            "role.set",
            "/actor",
            json!("planner"),
            "action.decided",
            "only an owner",
        ),
        (
            "usage.settled",
            "/body/units",
            json!(7),
            "delegation.granted",
            "units at",
        ),
        (
            "principal.revoked",
            "/body/principal",
            json!("ghost"),
            "delegation.granted",
            "never created",
        ),
        (
            "delegation.revoked",
            "/body/id",
            json!("lnk_0190b76daa80722ab1ba804098e6cb29"),
            "usage.settled",
            "never granted",
        ),
        // An agent has no role, whatever of people cannot be read.
        (
            "principal.suspended",
            "/actor",
            json!("planner"),
            "role.set",
            "only an owner",
        ),
        (
            "rate.removed",
            "/actor",
            json!("planner"),
            "rate.set",
            "only an owner",
        ),
        // What cannot be read of others grants nothing.
        (
            "delegation.revoked",
            "/body/id",
            json!("lnk_0190b76daa80722ab1ba804098e6cb29"),
            "role.set",
            "never granted",
        ),
        (
            "policy.published",
            "/body/version",
            json!(2),
            "usage.settled",
            "the next one is 1",
        ),
        (
            "principal.resumed",
            "/body/principal",
            json!("dave"),
            "action.decided",
            "was not suspended",
        ),
    ] {
        let mut changed = with_holes(&whole, |place| whole[place]["kind"] == unread);
        let at = place(&changed, kind, 0);
        let found = changed[at].pointer_mut(field);
        *found.expect("it has the field") = value;
        let Err(said) = read(&changed) else {
            panic!("{kind} beside {unread}: nothing was found");
        };
        assert!(said.contains(what), "{kind} beside {unread}: {said}");
    }
    // Each hole is one grant, and not the one of another hole.
    let granted = place(&whole, "delegation.granted", 0);
    let mut invented = with_holes(&whole, |place| place == granted);
    let ends = |n: u8| {
        let mut record = whole[place(&whole, "delegation.revoked", 0)].clone();
        record["body"]["id"] = json!(format!("lnk_0190b76daa80722ab1ba804098e6cb{n:02x}"));
        record
    };
    let needed = read(&invented).expect("holds").unchecked();
    invented.extend((0..9).map(ends));
    let said = read(&invented)
        .map(|_| ())
        .expect_err("more than there are holes");
    assert!(needed > 0 && said.contains("never granted"), "{said}");
    // One that was revoked stays revoked.
    let mut twice = with_holes(&whole, |place| whole[place]["kind"] == "principal.created");
    let revoked = place(&twice, "principal.revoked", 0);
    twice.push(twice[revoked].clone());
    // Nobody who is named there was created, as far as can be read.
    read(&twice).expect("cannot be judged");
    let mut twice = with_holes(&whole, |place| whole[place]["kind"] == "role.set");
    twice.push(twice[revoked].clone());
    assert!(read(&twice).is_err_and(|said| said.contains("was revoked already")));
}
