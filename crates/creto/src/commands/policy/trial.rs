//! Candidates: asked beside what is in force, or about what was decided.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::files;
use crate::arguments::Instant;
use crate::cli::ShadowCommand;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant, table};

/// Differences that are shown and kept; more of them tell nothing new.
const SHOWN: usize = 200;

pub(crate) fn shadow(context: &Context, command: &ShadowCommand) -> Result<Reply, CliError> {
    let client = context.client()?;
    let answer = match command {
        ShadowCommand::Start { dir } => {
            let body = json!({ "files": files::body(dir)? });
            client.post("/v1/policies/shadow", &body)?
        }
        ShadowCommand::Status => client.get("/v1/policies/shadow")?,
        ShadowCommand::Stop => client.post("/v1/policies/shadow/stop", &json!({}))?,
    };
    if at(&answer, "/digest").is_empty() {
        let text = "No candidate is asked. Start: creto policy shadow start DIR\n";
        return Ok(Reply::new(text, answer));
    }
    let mut text = fields(&[
        ("candidate", at(&answer, "/digest")),
        ("asked now", at(&answer, "/active")),
        ("since", instant(&answer, "/started_at")),
        ("judged", at(&answer, "/judged")),
        ("different", at(&answer, "/different")),
        ("dropped", at(&answer, "/dropped")),
    ]);
    let kinds = answer.get("differences").and_then(Value::as_array);
    for kind in kinds.into_iter().flatten() {
        let samples = kind.get("samples").and_then(Value::as_array);
        let samples: Vec<Value> = samples.into_iter().flatten().cloned().collect();
        text.push_str(&format!(
            "\n{}: {}\n{}",
            change(&at(kind, "/candidate"), &at(kind, "/enforced")),
            at(kind, "/count"),
            differences(&samples)
        ));
    }
    let failed = answer.get("tests_failed").unwrap_or(&Value::Null);
    text.push_str(&files::failed_tests("the candidate", failed));
    Ok(Reply::new(text, answer))
}

pub(crate) fn dry_run(
    context: &Context,
    dir: &Path,
    since: Instant,
    until: Option<Instant>,
) -> Result<Reply, CliError> {
    let client = context.client()?;
    let mut body = Map::new();
    body.insert("files".to_owned(), files::body(dir)?);
    body.insert("since".to_owned(), json!(since.0));
    if let Some(until) = until {
        body.insert("until".to_owned(), json!(until.0));
    }
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    let mut changes: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut items: Vec<Value> = Vec::new();
    let mut failed = Value::Null;
    loop {
        let body_now = Value::Object(body.clone());
        let answer = client.post("/v1/policies/dry-run", &body_now)?;
        if let Some(tests) = answer.get("tests_failed") {
            failed = tests.clone();
        }
        for name in ["judged", "skipped", "different"] {
            let count = answer.get(name).and_then(Value::as_u64).unwrap_or(0);
            *totals.entry(name).or_default() += count;
        }
        let kinds = answer.get("changes").and_then(Value::as_array);
        for kind in kinds.into_iter().flatten() {
            let names = (at(kind, "/enforced"), at(kind, "/candidate"));
            let count = kind.get("count").and_then(Value::as_u64).unwrap_or(0);
            *changes.entry(names).or_default() += count;
        }
        let listed = answer.get("items").and_then(Value::as_array);
        let room = SHOWN.saturating_sub(items.len());
        items.extend(listed.into_iter().flatten().take(room).cloned());
        match answer.get("next").filter(|next| !next.is_null()) {
            Some(next) => body.insert("before".to_owned(), next.clone()),
            None => break,
        };
    }
    let count = |name: &str| totals.get(name).copied().unwrap_or(0);
    let mut text = fields(&[
        ("judged", count("judged").to_string()),
        ("skipped", count("skipped").to_string()),
        ("different", count("different").to_string()),
    ]);
    for ((enforced, candidate), count) in &changes {
        text.push_str(&format!("{}: {count}\n", change(candidate, enforced)));
    }
    if count("judged") == 0 {
        text.push_str("\nNothing was judged: no decision of that time is one of policies.\n");
    } else if items.is_empty() {
        text.push_str("\nThe candidate decides all of it as it was decided.\n");
    } else {
        text.push_str(&format!("\n{}", differences(&items)));
    }
    text.push_str(&files::failed_tests("the candidate", &failed));
    let changes: Vec<Value> = changes
        .iter()
        .map(|((enforced, candidate), count)| {
            json!({ "enforced": enforced, "candidate": candidate, "count": count })
        })
        .collect();
    let mut json = json!({
        "judged": count("judged"),
        "skipped": count("skipped"),
        "different": count("different"),
        "changes": changes,
        "items": items,
    });
    if let (Some(members), false) = (json.as_object_mut(), failed.is_null()) {
        members.insert("tests_failed".to_owned(), failed);
    }
    Ok(Reply::new(text, json))
}

/// What became of an outcome.
fn change(candidate: &str, enforced: &str) -> String {
    match (candidate, enforced) {
        ("requires_oversight", "requires_oversight") => "another kind of approval".to_owned(),
        ("deny", "deny") => "an error instead of a denial, or the other way round".to_owned(),
        _ => format!("{candidate} instead of {enforced}"),
    }
}

/// What was said, with the kind of approval that was asked for.
fn outcome(item: &Value, by: &str) -> String {
    let outcome = at(item, &format!("/{by}/outcome"));
    match at(item, &format!("/{by}/oversight")) {
        kind if kind.is_empty() => outcome,
        kind => format!("{outcome} ({kind})"),
    }
}

fn differences(items: &[Value]) -> String {
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            vec![
                instant(item, "/at"),
                at(item, "/principal"),
                at(item, "/action"),
                resource(item),
                at(item, "/context"),
                outcome(item, "enforced"),
                outcome(item, "candidate"),
                at(item, "/candidate/message"),
            ]
        })
        .collect();
    let headers = [
        "AT",
        "WHO",
        "ACTION",
        "RESOURCE",
        "CONTEXT",
        "POLICIES SAID",
        "CANDIDATE",
        "WHY",
    ];
    table(&headers, &rows)
}

/// With its type, where it has one of its own.
fn resource(item: &Value) -> String {
    let id = at(item, "/resource");
    match at(item, "/resource_type") {
        kind if kind.is_empty() => id,
        kind => format!("{kind} {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_resources_of_one_name_look_different() {
        let sample = json!({
            "at": "2026-12-23T03:09:29Z",
            "principal": "release-bot",
            "action": "ticket.close",
            "resource": "vip-1",
            "units": 1,
            "enforced": {"outcome": "allow"},
            "candidate": {"outcome": "deny", "message": "no"},
        });
        let mut typed = sample.clone();
        typed["resource_type"] = json!("Creto::Ticket");
        typed["context"] = json!({"country": "DE"});
        let shown = differences(&[sample, typed]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 3, "{shown}");
        assert!(!lines[1].contains("Creto::"), "{shown}");
        assert!(lines[2].contains("Creto::Ticket vip-1"), "{shown}");
        assert!(lines[2].contains(r#"{"country":"DE"}"#), "{shown}");
    }
}
