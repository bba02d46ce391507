//! `creto policy eval`: Cedar's files in, Cedar's answer out.

use serde_json::{Value, json};

use crate::harness::{creto, said};

const POLICIES: &str = r#"
permit (principal in Team::"core", action in Action::"edits", resource is Doc);
@id("no drafts") forbid (principal, action, resource) when { resource.draft };
permit (principal, action, resource) when { principal.age + 9223372036854775807 > 0 };
@id("shared") permit (principal == ?principal, action == Action::"read", resource);
"#;
const SCHEMA: &str = r#"
entity Team;
entity User in [Team] = { age: Long };
entity Doc = { draft: Bool };
action edits;
action write in [edits] appliesTo { principal: [User], resource: [Doc] };
action read appliesTo { principal: [User], resource: [Doc] };
"#;
const ENTITIES: &str = r#"[
  {"uid": {"type": "User", "id": "ann"}, "attrs": {"age": 3},
   "parents": [{"type": "Team", "id": "core"}]},
  {"uid": {"type": "Team", "id": "core"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Doc", "id": "a"}, "attrs": {"draft": false}, "parents": []},
  {"uid": {"type": "Doc", "id": "b"}, "attrs": {"draft": true}, "parents": []}
]"#;
const LINKS: &str = r#"[{"template_id": "shared", "link_id": "ann reads",
  "args": {"?principal": "User::\"ann\""}}]"#;

const WORDS: [&str; 11] = [
    "policy",
    "eval",
    "--policies",
    "p",
    "--schema",
    "s",
    "--entities",
    "e",
    "--request",
    "r",
    "--json",
];

fn site(action: &str, document: &str) -> tempfile::TempDir {
    let site = tempfile::tempdir().unwrap();
    let request = json!({
        "principal": "User::\"ann\"",
        "action": format!("Action::\"{action}\""),
        "resource": format!("Doc::\"{document}\""),
        "context": {},
    });
    for (file, text) in [
        ("p", POLICIES),
        ("s", SCHEMA),
        ("e", ENTITIES),
        ("r", &request.to_string()),
        ("l", LINKS),
    ] {
        std::fs::write(site.path().join(file), text).unwrap();
    }
    site
}

fn answer(action: &str, document: &str, more: &[&str]) -> Value {
    let words = [&WORDS[..], more].concat();
    let output = creto(site(action, document).path(), &words);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn files_are_evaluated_as_cedar_evaluates_them() {
    let errors = json!([
        "error while evaluating policy `policy2`: integer overflow while attempting to add the \
         values `3` and `9223372036854775807`"
    ]);
    let written = answer("write", "a", &[]);
    let expected = json!({"decision": "allow", "reason": ["policy0"], "errors": errors});
    assert_eq!(written, expected);
    let draft = answer("write", "b", &[]);
    let expected = json!({"decision": "deny", "reason": ["no drafts"], "errors": errors});
    assert_eq!(draft, expected);
    assert_eq!(answer("read", "a", &[])["decision"], "deny");
    let linked = answer("read", "a", &["--links", "l"]);
    assert_eq!(
        (&linked["decision"], &linked["reason"]),
        (&json!("allow"), &json!(["ann reads"]))
    );
}

/// Policies as Cedar's JSON, and entities of the request as objects.
#[test]
fn every_format_of_cedar_is_taken() {
    let site = site("write", "a");
    let scope = |op: &str| json!({"op": op});
    let policies = json!({
        "staticPolicies": {
            "by json": {
                "effect": "permit",
                "principal": scope("All"),
                "action": {"op": "==", "entity": {"type": "Action", "id": "write"}},
                "resource": scope("All"),
                "conditions": [],
            },
        },
        "templates": {
            "mine": {
                "effect": "permit",
                "principal": {"op": "==", "slot": "?principal"},
                "action": scope("All"),
                "resource": scope("All"),
                "conditions": [],
            },
        },
        "templateLinks": [{
            "templateId": "mine",
            "newId": "mine for ann",
            "values": {"?principal": {"type": "User", "id": "ann"}},
        }],
    });
    let request = json!({
        "principal": {"type": "User", "id": "ann"},
        "action": {"__entity": {"type": "Action", "id": "write"}},
        "resource": "Doc::\"a\"",
        "context": {},
    });
    std::fs::write(site.path().join("p"), policies.to_string()).unwrap();
    std::fs::write(site.path().join("r"), request.to_string()).unwrap();
    let output = creto(site.path(), &WORDS);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut reason: Vec<_> = answer["reason"].as_array().unwrap().clone();
    reason.sort_by_key(Value::to_string);
    assert_eq!(reason, ["by json", "mine for ann"]);
}

#[test]
fn what_cannot_be_evaluated_is_refused_by_name() {
    for (file, code) in [
        ("p", "policy_syntax"),
        ("s", "policy_schema_invalid"),
        ("e", "policy_entities_invalid"),
        ("r", "policy_request_invalid"),
        ("l", "policy_link_invalid"),
    ] {
        let site = site("write", "a");
        std::fs::write(site.path().join(file), "{ nothing").unwrap();
        let output = creto(site.path(), &[&WORDS[..], &["--links", "l"]].concat());
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(code), "{}", said(&output));
    }
    let site = site("write", "a");
    std::fs::remove_file(site.path().join("p")).unwrap();
    let output = creto(site.path(), &WORDS);
    assert!(said(&output).contains("file_unusable"), "{}", said(&output));
}
