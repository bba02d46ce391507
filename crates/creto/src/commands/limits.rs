//! `creto limit` and `creto rate`.

use creto_client::{Client, encode};
use serde_json::{Map, Value, json};

use crate::cli::{LimitArgs, LimitCommand, RateArgs, RateCommand};
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant, quantity, table};

pub(crate) fn limit(context: &Context, command: LimitCommand) -> Result<Reply, CliError> {
    let client = context.client()?;
    match command {
        LimitCommand::Set(args) => {
            let answer = client.post("/v1/limits", &limit_body(&args))?;
            let text = fields(&[
                ("limit", at(&answer, "/id")),
                ("on", subject(&answer)),
                ("event", at(&answer, "/event")),
                ("most", quantity(&answer, "/limit")),
                ("window", at(&answer, "/window")),
                ("time zone", at(&answer, "/time_zone")),
                ("on exceed", at(&answer, "/on_exceed")),
                ("grace", quantity(&answer, "/grace")),
                ("leaf", at(&answer, "/leaf")),
                ("warning", at(&answer, "/warning")),
            ]);
            Ok(Reply::new(text, answer))
        }
        LimitCommand::List => list_limits(&client),
        LimitCommand::Remove { limit } => remove(&client, "limits", &limit),
    }
}

pub(crate) fn rate(context: &Context, command: RateCommand) -> Result<Reply, CliError> {
    let client = context.client()?;
    match command {
        RateCommand::Set(args) => {
            let answer = client.post("/v1/rates", &rate_body(&args))?;
            let text = fields(&[
                ("rate", at(&answer, "/id")),
                ("of", subject(&answer)),
                ("event", at(&answer, "/event")),
                ("pace", pace(&answer)),
                ("burst", at(&answer, "/burst")),
                ("leaf", at(&answer, "/leaf")),
                ("warning", at(&answer, "/warning")),
            ]);
            Ok(Reply::new(text, answer))
        }
        RateCommand::List => list_rates(&client),
        RateCommand::Remove { rate } => remove(&client, "rates", &rate),
    }
}

fn list_limits(client: &Client) -> Result<Reply, CliError> {
    let items: Vec<Value> = client.pages("/v1/limits").collect::<Result<_, _>>()?;
    if items.is_empty() {
        let text = "No limits were set. Set one: creto limit set --help\n";
        return Ok(Reply::new(text, json!({ "items": items })));
    }
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            vec![
                at(item, "/id"),
                subject(item),
                at(item, "/event"),
                quantity(item, "/limit"),
                at(item, "/window"),
                quantity(item, "/balance/used"),
                quantity(item, "/balance/reserved"),
                quantity(item, "/balance/remaining"),
                instant(item, "/balance/resets_at"),
                at(item, "/on_exceed"),
            ]
        })
        .collect();
    let headers = [
        "LIMIT", "ON", "EVENT", "MOST", "WINDOW", "USED", "RESERVED", "LEFT", "RESETS", "EXCEEDED",
    ];
    Ok(Reply::new(
        table(&headers, &rows),
        json!({ "items": items }),
    ))
}

fn list_rates(client: &Client) -> Result<Reply, CliError> {
    let items: Vec<Value> = client.pages("/v1/rates").collect::<Result<_, _>>()?;
    if items.is_empty() {
        let text = "No rates were set; the configured one holds for every agent.\n";
        return Ok(Reply::new(text, json!({ "items": items })));
    }
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            vec![
                at(item, "/id"),
                subject(item),
                at(item, "/event"),
                pace(item),
                at(item, "/burst"),
            ]
        })
        .collect();
    let headers = ["RATE", "OF", "EVENT", "PACE", "BURST"];
    Ok(Reply::new(
        table(&headers, &rows),
        json!({ "items": items }),
    ))
}

fn remove(client: &Client, what: &str, id: &str) -> Result<Reply, CliError> {
    let path = format!("/v1/{what}/{}/remove", encode(id));
    let answer = client.post(&path, &json!({}))?;
    let text = fields(&[
        ("removed", at(&answer, "/id")),
        ("leaf", at(&answer, "/leaf")),
    ]);
    Ok(Reply::new(text, answer))
}

/// `agent bot`, `delegation lnk_...`, or the one word that the scope is.
fn subject(item: &Value) -> String {
    let scope = item.pointer("/scope");
    match scope
        .and_then(Value::as_object)
        .and_then(|of| of.iter().next())
    {
        Some((kind, Value::String(name))) => format!("{kind} {name}"),
        _ => at(item, "/scope").replace('_', " "),
    }
}

fn limit_body(args: &LimitArgs) -> Value {
    let scope = match (&args.agent, &args.delegation) {
        (Some(agent), _) => json!({ "agent": agent }),
        (None, Some(delegation)) => json!({ "delegation": delegation }),
        (None, None) => json!("organization"),
    };
    let mut body = Map::new();
    body.insert("scope".to_owned(), scope);
    body.insert("limit".to_owned(), json!(args.limit));
    body.insert("window".to_owned(), json!(args.window.as_str()));
    body.insert("on_exceed".to_owned(), json!(args.on_exceed.as_str()));
    for (name, value) in [
        ("event", args.event.as_ref().map(|event| json!(event))),
        ("time_zone", args.time_zone.as_ref().map(|zone| json!(zone))),
        ("grace", args.grace.as_ref().map(|grace| json!(grace))),
        ("thresholds", args.thresholds.as_ref().map(|at| json!(at))),
    ] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    }
    Value::Object(body)
}

fn rate_body(args: &RateArgs) -> Value {
    let scope = match &args.agent {
        Some(agent) => json!({ "agent": agent }),
        None if args.organization => json!("organization"),
        None => json!("every_agent"),
    };
    let mut body = json!({
        "scope": scope,
        "burst": args.burst,
    });
    let optional = [
        ("event", args.event.as_ref().map(|event| json!(event))),
        ("per_second", args.per_second.map(|calls| json!(calls))),
        ("per_minute", args.per_minute.map(|calls| json!(calls))),
        ("per_hour", args.per_hour.map(|calls| json!(calls))),
    ];
    if let Value::Object(body) = &mut body {
        let given = optional
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        body.extend(given);
    }
    body
}

/// Such as `5 a second`.
fn pace(rate: &Value) -> String {
    let periods = [
        ("/per_second", "a second"),
        ("/per_minute", "a minute"),
        ("/per_hour", "an hour"),
    ];
    let given = periods.map(|(name, period)| (at(rate, name), period));
    given
        .into_iter()
        .find(|(calls, _)| !calls.is_empty())
        .map_or_else(String::new, |(calls, period)| format!("{calls} {period}"))
}
