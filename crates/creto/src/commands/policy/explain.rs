//! `creto policy explain`: what decides, and what is missing.

use serde_json::{Map, Value, json};

use super::files;
use crate::cli::ExplainArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, printable, printable_lines};

pub(crate) fn run(context: &Context, args: ExplainArgs) -> Result<Reply, CliError> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("action", json!(args.action));
    put(
        "resource",
        json!({ "type": args.resource_type, "id": args.resource }),
    );
    put("units", json!(args.units));
    if let Some(principal) = &args.principal {
        put("principal", json!(principal));
    }
    if let Some(delegation) = &args.delegation {
        put("delegation", json!(delegation));
    }
    if let Some(given) = args.context {
        put("context", Value::Object(given.0));
    }
    if let Some(approval) = &args.approval {
        put("approval", json!(approval));
    }
    if let Some(dir) = &args.policies {
        put("files", files::body(dir)?);
    }
    let client = context.client()?;
    let answer = client.post("/v1/policies/explain", &Value::Object(body))?;
    Ok(Reply::new(text(&answer), answer))
}

fn text(answer: &Value) -> String {
    let mut text = line(&format!(
        "{}: {} ({})",
        at(answer, "/outcome"),
        at(answer, "/reason/message"),
        at(answer, "/reason/code"),
    ));
    let asks = at(answer, "/principal");
    text.push_str(&match at(answer, "/delegation") {
        delegation if delegation.is_empty() => line(&format!("asked for {asks}")),
        delegation => line(&format!("asked for {asks}, by {delegation}")),
    });
    let kind = at(answer, "/oversight");
    if !kind.is_empty() {
        text.push_str(&line(&format!(
            "A human may let it through: approval `{kind}`, asked for by {}.",
            joined(answer, "/policy_ids")
        )));
    }
    for link in items(answer, "/rights") {
        text.push_str(&rights(link));
    }
    let overruled = at(answer, "/verdict/outcome");
    if !overruled.is_empty() && overruled != at(answer, "/outcome") {
        text.push_str(&line(&format!("\nPolicies alone would say: {overruled}.")));
    }
    let principals = items(answer, "/principals");
    if principals.is_empty() {
        text.push_str("\nNo policy was asked.\n");
    }
    for principal in principals {
        text.push_str(&of_principal(principal));
    }
    if let Some(missing) = answer.get("missing").filter(|missing| missing.is_object()) {
        text.push_str(&of_missing(missing));
    }
    let failed = answer.get("tests_failed").unwrap_or(&Value::Null);
    text.push_str(&files::failed_tests("these policies", failed));
    text
}

/// A link of the chain that does not cover it.
fn rights(link: &Value) -> String {
    let mut text = line(&format!(
        "\nDelegation {} from {} to {} does not cover it:",
        at(link, "/delegation"),
        at(link, "/delegator"),
        at(link, "/delegatee"),
    ));
    for right in items(link, "/rights") {
        text.push_str(&line(&format!(
            "  {} on {}: {}",
            at(right, "/action"),
            at(right, "/resource"),
            unfit(right),
        )));
    }
    text.push_str(&line(&format!(
        "  {} may give a delegation that does, within its own.",
        at(link, "/delegator")
    )));
    text
}

fn of_principal(principal: &Value) -> String {
    let permitted = at(principal, "/permitted") == "true";
    let mut text = line(&format!(
        "\n{}: {}",
        at(principal, "/principal"),
        if permitted {
            "permitted"
        } else {
            "not permitted"
        }
    ));
    let policies = items(principal, "/policies");
    if policies.is_empty() {
        text.push_str("  no policy is about this\n");
    }
    for policy in policies {
        let mut told = format!(
            "  {} {} ({}): {}",
            at(policy, "/effect"),
            at(policy, "/id"),
            place(policy),
            match at(policy, "/outcome").as_str() {
                "applies" => "applies".to_owned(),
                "error" => format!("cannot be evaluated: {}", at(policy, "/error")),
                _ => "its conditions do not hold".to_owned(),
            }
        );
        let kind = at(policy, "/oversight");
        if !kind.is_empty() {
            told.push_str(&format!(", unless a human approves (`{kind}`)"));
        }
        let reason = at(policy, "/reason");
        if !reason.is_empty() {
            told.push_str(&format!("; {reason}"));
        }
        text.push_str(&line(&told));
    }
    let more = at(principal, "/more");
    if !more.is_empty() {
        text.push_str(&line(&format!("  and {more} more")));
    }
    text
}

fn of_missing(missing: &Value) -> String {
    let mut text = line(&format!(
        "\nNothing permits it to {}.",
        joined(missing, "/principals")
    ));
    let nearest = items(missing, "/nearest");
    if nearest.is_empty() {
        text.push_str("No permit comes near.\n");
    } else {
        text.push_str(&line(&format!(
            "Nearest, for {}:",
            nearest
                .first()
                .map_or_else(String::new, |near| at(near, "/principal"))
        )));
    }
    for near in nearest {
        text.push_str(&line(&format!(
            "  {} ({}): {}",
            at(near, "/id"),
            place(near),
            unfit(near),
        )));
        text.push_str(&line(&format!("    {}", at(near, "/scope"))));
    }
    text.push_str(
        "\nThis would permit this action on this resource, with any units and context. \
         Whether to is\nyours to decide:\n\n",
    );
    text.push_str(&printable_lines(&at(missing, "/policy")));
    text
}

/// Which of its parts do not fit.
fn unfit(near: &Value) -> String {
    let verb = if items(near, "/unfit").len() == 1 {
        "does"
    } else {
        "do"
    };
    format!("{} {verb} not fit", joined(near, "/unfit"))
}

fn place(policy: &Value) -> String {
    let file = at(policy, "/file");
    match at(policy, "/line") {
        line if line.is_empty() => file,
        line => format!("{file}:{line}"),
    }
}

fn items<'a>(document: &'a Value, pointer: &str) -> &'a [Value] {
    let found = document.pointer(pointer).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

fn joined(document: &Value, pointer: &str) -> String {
    let texts = items(document, pointer).iter().filter_map(Value::as_str);
    texts.collect::<Vec<_>>().join(", ")
}

/// One line; a break in front of it stays one.
fn line(text: &str) -> String {
    match text.strip_prefix('\n') {
        Some(rest) => format!("\n{}\n", printable(rest)),
        None => format!("{}\n", printable(text)),
    }
}
