//! `creto delegate` and `creto revoke`.

use creto_client::encode;
use serde_json::{Map, Value, json};

use crate::cli::{DelegateArgs, DelegateCommand};
use crate::context::{Context, now};
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant, quantity, table};

pub(crate) fn run(context: &Context, command: DelegateCommand) -> Result<Reply, CliError> {
    let client = context.client()?;
    match command {
        DelegateCommand::Create(args) => {
            let answer = client.post("/v1/delegations", &body(&args)?)?;
            Ok(Reply::new(shown(&answer), answer))
        }
        DelegateCommand::List => {
            let items: Vec<Value> = client.pages("/v1/delegations").collect::<Result<_, _>>()?;
            if items.is_empty() {
                let text = "No delegations yet. Make one: creto delegate create --help\n";
                return Ok(Reply::new(text, json!({ "items": items })));
            }
            let rows: Vec<_> = items
                .iter()
                .map(|item| {
                    vec![
                        at(item, "/id"),
                        at(item, "/delegator"),
                        at(item, "/delegatee"),
                        at(item, "/state"),
                        budget(item),
                        instant(item, "/expires_at"),
                    ]
                })
                .collect();
            let headers = ["DELEGATION", "FROM", "TO", "STATE", "BUDGET", "EXPIRES"];
            Ok(Reply::new(
                table(&headers, &rows),
                json!({ "items": items }),
            ))
        }
        DelegateCommand::Show { delegation } => {
            let answer = client.get(&format!("/v1/delegations/{}", encode(&delegation)))?;
            Ok(Reply::new(shown(&answer), answer))
        }
    }
}

pub(crate) fn revoke(context: &Context, delegation: &str) -> Result<Reply, CliError> {
    let path = format!("/v1/delegations/{}/revoke", encode(delegation));
    let answer = context.client()?.post(&path, &json!({}))?;
    let text = format!(
        "{}\nFrom this moment no call is allowed through it, nor through anything below it.\n",
        fields(&[
            ("delegation", at(&answer, "/id")),
            ("revoked", instant(&answer, "/revoked_at")),
            ("leaf", at(&answer, "/leaf")),
        ])
    );
    Ok(Reply::new(text, answer))
}

fn body(args: &DelegateArgs) -> Result<Value, CliError> {
    let expires_at = match (args.expires_at, args.expires_in) {
        (Some(at), _) => at.0,
        (None, Some(within)) => now().checked_add(within.0).map_err(CliError::Time)?,
        (None, None) => return Err(CliError::Answer { what: "expires_at" }),
    };
    let rights: Vec<Value> = args
        .rights
        .iter()
        .map(|right| json!({"action": right.action, "resource": right.resource}))
        .collect();
    let mut body = Map::new();
    body.insert("delegatee".to_owned(), json!(args.delegatee));
    body.insert("rights".to_owned(), Value::Array(rights));
    body.insert("expires_at".to_owned(), json!(expires_at));
    let optional = [
        ("parent", args.parent.as_ref().map(|id| json!(id))),
        ("max_depth", args.max_depth.map(|depth| json!(depth))),
        (
            "budget",
            args.budget
                .map(|limit| json!({"limit": limit, "period": args.budget_period.as_str()})),
        ),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    }
    Ok(Value::Object(body))
}

fn budget(item: &Value) -> String {
    let limit = quantity(item, "/budget/limit");
    match (limit.is_empty(), at(item, "/budget/period").as_str()) {
        (true, _) => "none of its own".to_owned(),
        (false, "total") => limit,
        (false, "hour") => format!("{limit} an hour"),
        (false, period) => format!("{limit} a {period}"),
    }
}

fn shown(answer: &Value) -> String {
    let rights: Vec<String> = answer
        .pointer("/rights")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|right| format!("{} on {}", at(right, "/action"), at(right, "/resource")))
        .collect();
    fields(&[
        ("delegation", at(answer, "/id")),
        ("from", at(answer, "/delegator")),
        ("to", at(answer, "/delegatee")),
        ("parent", at(answer, "/parent")),
        ("rights", rights.join(", ")),
        ("budget", budget(answer)),
        ("not before", instant(answer, "/not_before")),
        ("expires", instant(answer, "/expires_at")),
        ("depth left", at(answer, "/max_depth")),
        ("state", at(answer, "/state")),
        ("leaf", at(answer, "/leaf")),
    ])
}
