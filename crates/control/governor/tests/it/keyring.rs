//! What a verifier finds wrong with the records of the organization's own keys.

use creto_governor::{
    Caller, ListsChange, LogRetirementRequest, RetirementRequest, RotationRequest,
};
use creto_types::{Clock as _, Timestamp};
use serde_json::{Value, json};

use crate::evidence::{place, read, records};
use crate::world::World;

const WHY: &str = "once a year";

/// Each kind of key rotated twice, and retired.
async fn rotated() -> World {
    let world = World::new().await;
    let (governor, owner) = (&world.governor, &world.owner);
    let rotation = || RotationRequest {
        reason: WHY.to_owned(),
    };
    for _ in 0..2 {
        let rotated = governor.rotate_keys(owner, rotation(), None).await;
        rotated.expect("rotates");
        let rotated = governor.rotate_log_keys(owner, rotation(), None).await;
        rotated.expect("rotates");
        let request = LogRetirementRequest {
            reason: WHY.to_owned(),
        };
        let retired = governor.retire_log_keys(owner, request, None).await;
        retired.expect("retires");
    }
    // Last, because the owner's own token ends by it.
    let request = RetirementRequest {
        now: true,
        reason: WHY.to_owned(),
    };
    let retired = governor.retire_keys(owner, request, None).await;
    retired.expect("retires");
    world
}

fn wrong(changed: &[Value], what: &str, case: &str) {
    let said = read(changed).err().unwrap_or_default();
    assert!(said.contains(what), "{case}: {said}");
}

#[tokio::test]
async fn rotations_follow_one_another() {
    let world = rotated().await;
    world.check_records().await.expect("the records hold");
    let whole = records(&world);

    for kind in [
        "keys.rotated",
        "keys.retired",
        "log_keys.rotated",
        "log_keys.retired",
    ] {
        let mut changed = whole.clone();
        let at = place(&changed, kind, 0);
        changed[at]["actor"] = json!("planner");
        wrong(&changed, "only an owner may", kind);
    }
    let of = |kind: &str, n: usize, field: &str| {
        let found = whole[place(&whole, kind, n)].pointer(field);
        found.cloned().expect("is there")
    };
    for (kind, n, field, value, what) in [
        (
            "keys.rotated",
            0,
            "/body/wrapping_version",
            json!(0),
            "where 1 is next",
        ),
        (
            "keys.rotated",
            1,
            "/body/wrapping_version",
            json!(4),
            "not in the log",
        ),
        (
            "keys.rotated",
            1,
            "/body/former_kid",
            json!("other"),
            "not in the log",
        ),
        (
            "keys.rotated",
            0,
            "/body/issuer_kid",
            of("keys.rotated", 0, "/body/former_kid"),
            "by itself",
        ),
        (
            "keys.retired",
            0,
            "/body/before_version",
            json!(4),
            "no rotation made",
        ),
        (
            "keys.retired",
            0,
            "/body/issuer_kids",
            json!([of("keys.rotated", 1, "/body/issuer_kid")]),
            "issues tokens",
        ),
        (
            "log_keys.rotated",
            1,
            "/body/former_kids/evidence",
            json!("other"),
            "that no rotation made",
        ),
        (
            "log_keys.rotated",
            1,
            "/body/keys/evidence",
            of("log_keys.rotated", 0, "/body/keys/evidence"),
            "by itself",
        ),
        (
            "log_keys.rotated",
            0,
            "/body/keys/log_ed25519",
            of("log_keys.rotated", 0, "/body/keys/evidence"),
            "has a key `log_ed25519` by ML-DSA-65-Ed25519",
        ),
        (
            "log_keys.rotated",
            0,
            "/body/keys/evidence",
            of("log_keys.rotated", 0, "/body/keys/log_ed25519"),
            "has a key `evidence` by Ed25519",
        ),
        (
            "log_keys.rotated",
            0,
            "/body/keys/evidence",
            of("log_keys.rotated", 0, "/body/keys/log_composite"),
            "has one key for two purposes",
        ),
        (
            "log_keys.retired",
            1,
            "/body/kids/log_ed25519",
            json!("other"),
            "that no rotation replaced",
        ),
    ] {
        let mut changed = whole.clone();
        let at = place(&changed, kind, n);
        *changed[at].pointer_mut(field).expect("is there") = value;
        wrong(&changed, what, &format!("{kind} {n}, {field}"));
    }
}

/// Organizations from before wrapping keys make their first one by rotating.
#[tokio::test]
async fn the_first_version_may_come_of_a_rotation() {
    let world = rotated().await;
    let mut whole = records(&world);
    for (n, version) in [(0, 1), (1, 2)] {
        let at = place(&whole, "keys.rotated", n);
        whole[at]["body"]["wrapping_version"] = json!(version);
    }
    let at = place(&whole, "keys.retired", 0);
    whole[at]["body"]["before_version"] = json!(2);
    read(&whole).expect("holds");
}

#[tokio::test]
async fn a_rotation_that_is_left_out_or_said_twice_is_missed() {
    let world = rotated().await;
    let whole = records(&world);
    for (kind, n, twice, what) in [
        ("keys.rotated", 0, false, "not in the log"),
        ("keys.rotated", 1, true, "where 4 is next"),
        ("log_keys.rotated", 0, false, "that no rotation replaced"),
        (
            "log_keys.retired",
            0,
            false,
            "before those of before were retired",
        ),
        ("log_keys.retired", 1, true, "that no rotation replaced"),
    ] {
        let mut changed = whole.clone();
        let at = place(&changed, kind, n);
        if twice {
            changed.insert(at, whole[at].clone());
        } else {
            changed.remove(at);
        }
        wrong(&changed, what, &format!("{kind} {n}"));

        // Where it is there and cannot be read, nobody can tell.
        if !twice {
            let mut hidden = whole.clone();
            hidden[at] = json!({ "kind": kind, "commitment": "00" });
            let checker = read(&hidden).expect("may be explained by it");
            assert!(checker.unchecked() > 0, "{kind} {n}");
        }
    }
}

/// A change of lists, as the server records it.
fn change(owner: &Caller, before: Option<Value>, after: Value, at: Timestamp) -> Value {
    let change = ListsChange {
        org: owner.org(),
        owner: owner.name().clone(),
        before,
        after,
    };
    serde_json::to_value(change.evidence(at)).expect("a record is JSON")
}

#[tokio::test]
async fn lists_of_algorithms_follow_one_another() {
    let world = World::new().await;
    let mut whole = records(&world);
    let lists = |name: &str| json!({ "sealing": { "new": name } });
    let mut change = |before: Option<&str>, after: &str| {
        let at = world.clock.now();
        let record = change(&world.owner, before.map(lists), lists(after), at);
        whole.push(record);
        whole.clone()
    };
    change(None, "A256GCM");
    let good = change(Some("A256GCM"), "ChaCha20-Poly1305");
    read(&good).expect("holds");
    let at = good.len() - 1;
    for (field, value, what) in [
        ("actor", json!("planner"), "only an owner may"),
        (
            "body",
            good[at - 1]["body"].clone(),
            "that no record put in force",
        ),
    ] {
        let mut changed = good.clone();
        changed[at][field] = value;
        wrong(&changed, what, field);
    }
    let same = change(Some("ChaCha20-Poly1305"), "ChaCha20-Poly1305");
    wrong(&same, "changes nothing", "the same again");
    let mut hidden = good.clone();
    hidden[at - 1] = json!({ "kind": "crypto.algorithms_changed", "commitment": "00" });
    hidden[at]["body"]["before"] = lists("other");
    read(&hidden).expect("nobody can tell");
}
