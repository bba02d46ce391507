//! `creto oversight`, `creto approve` and `creto deny`.

use creto_client::encode;
use serde_json::{Value, json};

use crate::cli::{DecisionArgs, OversightCommand};
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant, money, table};

pub(crate) fn run(context: &Context, command: OversightCommand) -> Result<Reply, CliError> {
    let client = context.client()?;
    match command {
        OversightCommand::List { state } => {
            let path = match &state {
                Some(state) => format!("/v1/oversight/requests?state={}", encode(state)),
                None => "/v1/oversight/requests".to_owned(),
            };
            let items: Vec<Value> = client.pages(&path).collect::<Result<_, _>>()?;
            if items.is_empty() {
                let text = "Nothing here. A request appears when a policy says that a human has \
                            to look first.\n";
                return Ok(Reply::new(text, json!({ "items": items })));
            }
            let rows: Vec<_> = items
                .iter()
                .map(|item| {
                    vec![
                        at(item, "/id"),
                        at(item, "/state"),
                        at(item, "/agent"),
                        at(item, "/action"),
                        on(item),
                        money(item, "/cost"),
                        instant(item, "/expires_at"),
                    ]
                })
                .collect();
            let headers = [
                "REQUEST", "STATE", "AGENT", "ACTION", "RESOURCE", "COST", "EXPIRES",
            ];
            Ok(Reply::new(
                table(&headers, &rows),
                json!({ "items": items }),
            ))
        }
        OversightCommand::Show { request } => {
            let answer = client.get(&format!("/v1/oversight/requests/{}", encode(&request)))?;
            let mut text = shown(&answer);
            if at(&answer, "/state") == "pending" {
                text.push_str(&format!(
                    "\nDecide with: creto approve {request}   or: creto deny {request} --reason TEXT\n"
                ));
            }
            Ok(Reply::new(text, answer))
        }
    }
}

pub(crate) fn decide(
    context: &Context,
    verdict: &str,
    args: &DecisionArgs,
) -> Result<Reply, CliError> {
    let path = format!("/v1/oversight/requests/{}/{verdict}", encode(&args.request));
    let body = match &args.reason {
        Some(reason) => json!({ "reason": reason }),
        None => json!({}),
    };
    let answer = context.client()?.post(&path, &body)?;
    Ok(Reply::new(shown(&answer), answer))
}

/// The resource, with its type when that is one of the users' own.
fn on(request: &Value) -> String {
    let resource = at(request, "/resource");
    match at(request, "/resource_type") {
        kind if kind.is_empty() => resource,
        kind => format!("{kind} {resource}"),
    }
}

fn shown(answer: &Value) -> String {
    let chain: Vec<String> = answer
        .pointer("/chain")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    fields(&[
        ("request", at(answer, "/id")),
        ("state", at(answer, "/state")),
        ("agent", at(answer, "/agent")),
        ("chain", chain.join(" > ")),
        ("action", at(answer, "/action")),
        ("resource", at(answer, "/resource")),
        ("of type", at(answer, "/resource_type")),
        ("context", at(answer, "/context")),
        ("arguments", at(answer, "/args")),
        ("units", at(answer, "/units")),
        ("would cost", money(answer, "/cost")),
        ("spent so far", money(answer, "/spent")),
        ("digest", at(answer, "/digest")),
        ("policy", at(answer, "/policy_id")),
        ("which says", at(answer, "/policy_digests")),
        ("asked", instant(answer, "/created_at")),
        ("expires", instant(answer, "/expires_at")),
        ("decided by", at(answer, "/decided_by")),
        ("decided", instant(answer, "/decided_at")),
        ("reason", at(answer, "/decision_reason")),
        ("leaf", at(answer, "/leaf")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_of_the_users_own_is_shown_with_its_type() {
        let plain = json!({ "resource": "repo:creto" });
        assert_eq!(on(&plain), "repo:creto");
        let ticket = json!({ "resource": "42", "resource_type": "Creto::Ticket" });
        assert_eq!(on(&ticket), "Creto::Ticket 42");
    }
}
