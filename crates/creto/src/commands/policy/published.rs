//! What is published and in force, on the server.

use std::path::Path;

use serde_json::{Value, json};

use super::files;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant, printable, table};

pub(crate) fn publish(
    context: &Context,
    dir: &Path,
    reason: &str,
    expect_version: Option<u64>,
) -> Result<Reply, CliError> {
    let mut body = json!({ "files": files::body(dir)?, "reason": reason });
    if let (Some(expected), Value::Object(fields)) = (expect_version, &mut body) {
        fields.insert("expect_version".to_owned(), json!(expected));
    }
    let answer = context.client()?.post("/v1/policies", &body)?;
    Ok(Reply::new(
        format!("{}\nIn force now.\n", version(&answer)),
        answer,
    ))
}

pub(crate) fn rollback(context: &Context, to: u64, reason: &str) -> Result<Reply, CliError> {
    let body = json!({ "version": to, "reason": reason });
    let answer = context.client()?.post("/v1/policies/rollback", &body)?;
    Ok(Reply::new(
        format!("{}\nIn force now.\n", version(&answer)),
        answer,
    ))
}

pub(crate) fn follow(context: &Context, reason: &str) -> Result<Reply, CliError> {
    let body = json!({ "reason": reason });
    let client = context.client()?;
    let answer = client.post("/v1/policies/follow-directory", &body)?;
    let text = fields(&[
        ("follows", "the server's policy directory".to_owned()),
        ("digest", at(&answer, "/digest")),
        ("leaf", at(&answer, "/leaf")),
    ]);
    Ok(Reply::new(text, answer))
}

fn version(answer: &Value) -> String {
    fields(&[
        ("version", at(answer, "/version")),
        ("digest", at(answer, "/digest")),
        ("author", at(answer, "/author")),
        ("reason", at(answer, "/reason")),
        ("brings back", at(answer, "/restores")),
        ("published", instant(answer, "/published_at")),
        ("leaf", at(answer, "/leaf")),
    ])
}

pub(crate) fn list(context: &Context) -> Result<Reply, CliError> {
    let client = context.client()?;
    let items: Vec<Value> = client.pages("/v1/policies").collect::<Result<_, _>>()?;
    if items.is_empty() {
        let text = "Nothing was published; the server follows its policy directory. \
                    Publish: creto policy publish DIR --reason TEXT\n";
        return Ok(Reply::new(text, json!({ "items": items })));
    }
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            vec![
                at(item, "/version"),
                instant(item, "/published_at"),
                at(item, "/author"),
                at(item, "/restores"),
                at(item, "/digest").chars().take(12).collect(),
                at(item, "/reason"),
            ]
        })
        .collect();
    let headers = [
        "VERSION",
        "PUBLISHED",
        "AUTHOR",
        "BACK TO",
        "DIGEST",
        "REASON",
    ];
    Ok(Reply::new(
        table(&headers, &rows),
        json!({ "items": items }),
    ))
}

pub(crate) fn show(context: &Context, wanted: Option<u64>) -> Result<Reply, CliError> {
    let client = context.client()?;
    if let Some(wanted) = wanted {
        let answer = client.get(&format!("/v1/policies/{wanted}"))?;
        let mut text = version(&answer);
        let files = answer.get("files").and_then(Value::as_object);
        for (name, content) in files.into_iter().flatten() {
            text.push_str(&format!("\n== {}\n", printable(name)));
            let content = content.as_str().unwrap_or_default();
            text.push_str(&crate::output::printable_lines(content.trim_end()));
            text.push('\n');
        }
        return Ok(Reply::new(text, answer));
    }
    let answer = client.get("/v1/policies/current")?;
    Ok(Reply::new(in_force(&answer), answer))
}

fn in_force(answer: &Value) -> String {
    let mut text = fields(&[
        ("source", at(answer, "/source")),
        ("version", at(answer, "/version")),
        ("digest", at(answer, "/digest")),
        ("loaded", instant(answer, "/loaded_at")),
    ]);
    let list = |name: &str| {
        let items = answer.get(name).and_then(Value::as_array);
        items.into_iter().flatten().cloned().collect::<Vec<_>>()
    };
    let rows: Vec<_> = list("policies")
        .iter()
        .map(|policy| {
            let line = at(policy, "/line");
            vec![
                at(policy, "/id"),
                at(policy, "/effect"),
                format!("{}:{line}", at(policy, "/file")),
                at(policy, "/oversight"),
                at(policy, "/reason"),
            ]
        })
        .collect();
    if rows.is_empty() {
        text.push_str("\nNo policy is in force: everything is denied.\n");
    } else {
        let headers = ["POLICY", "EFFECT", "FILE", "OVERSIGHT", "REASON"];
        text.push_str(&format!("\n{}", table(&headers, &rows)));
    }
    for warning in list("warnings") {
        let message = at(&warning, "/message");
        let place = format!("{} ({})", at(&warning, "/file"), at(&warning, "/policy"));
        text.push_str(&printable(&format!("warning: {place}: {message}")));
        text.push('\n');
    }
    if let Some(refused) = answer.get("refused").filter(|refused| refused.is_object()) {
        text.push_str(&printable(&format!(
            "REFUSED since {} ({}): {}",
            instant(refused, "/at"),
            at(refused, "/code"),
            at(refused, "/message")
        )));
        text.push('\n');
    }
    text
}
