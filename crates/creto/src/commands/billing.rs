//! `creto usage` and `creto invoice`.

use creto_client::{Client, encode};
use creto_types::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::cli::{InvoiceCommand, PeriodArgs, UsageArgs};
use crate::context::{Context, now};
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant, money, shown_instant, table};

/// The period asked for; by default this month so far, UTC.
fn period(args: &PeriodArgs) -> Result<(Timestamp, Timestamp), CliError> {
    let to = args.to.map_or_else(now, |to| to.0);
    let from = match args.from {
        Some(from) => from.0,
        None => {
            let first = to.to_zoned(TimeZone::UTC).date().first_of_month();
            let zoned = first.to_zoned(TimeZone::UTC).map_err(CliError::Time)?;
            zoned.timestamp()
        }
    };
    Ok((from, to))
}

pub(crate) fn usage(context: &Context, args: &UsageArgs) -> Result<Reply, CliError> {
    let (from, to) = period(&args.period)?;
    let mut path = format!(
        "/v1/usage?from={}&to={}",
        encode(&from.to_string()),
        encode(&to.to_string())
    );
    if let Some(agent) = &args.agent {
        path.push_str(&format!("&agent={}", encode(agent.as_str())));
    }
    let answer = context.client()?.get(&path)?;
    let rows: Vec<_> = items(&answer, "/lines")
        .map(|line| {
            vec![
                at(line, "/agent"),
                at(line, "/action"),
                at(line, "/events"),
                at(line, "/units"),
                money(line, "/cost"),
            ]
        })
        .collect();
    let text = if rows.is_empty() {
        format!(
            "Nothing was used from {} to {}.\n",
            shown_instant(from),
            shown_instant(to)
        )
    } else {
        format!(
            "{}\ntotal  {}\n",
            table(&["AGENT", "ACTION", "EVENTS", "UNITS", "COST"], &rows),
            money(&answer, "/total")
        )
    };
    Ok(Reply::new(text, answer))
}

pub(crate) fn invoice(context: &Context, command: InvoiceCommand) -> Result<Reply, CliError> {
    let client = context.client()?;
    match command {
        InvoiceCommand::Issue {
            period: args,
            customer,
        } => {
            let (from, to) = period(&args)?;
            let mut body = json!({"from": from, "to": to});
            if let (Some(customer), Value::Object(fields)) = (customer, &mut body) {
                fields.insert("customer".to_owned(), json!(customer));
            }
            let answer = client.post("/v1/invoices", &body)?;
            Ok(Reply::new(shown(&answer), answer))
        }
        InvoiceCommand::List => list(&client),
        InvoiceCommand::Show { invoice } => {
            let answer = client.get(&format!("/v1/invoices/{}", encode(&invoice)))?;
            Ok(Reply::new(shown(&answer), answer))
        }
    }
}

fn list(client: &Client) -> Result<Reply, CliError> {
    let items: Vec<Value> = client.pages("/v1/invoices").collect::<Result<_, _>>()?;
    if items.is_empty() {
        let text = "No invoices yet. Issue one: creto invoice issue --help\n";
        return Ok(Reply::new(text, json!({ "items": items })));
    }
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            vec![
                at(item, "/number"),
                at(item, "/id"),
                at(item, "/customer"),
                instant(item, "/from"),
                instant(item, "/to"),
                money(item, "/total"),
            ]
        })
        .collect();
    let headers = ["NUMBER", "INVOICE", "CUSTOMER", "FROM", "TO", "TOTAL"];
    Ok(Reply::new(
        table(&headers, &rows),
        json!({ "items": items }),
    ))
}

fn shown(answer: &Value) -> String {
    let rows: Vec<_> = items(answer, "/lines")
        .map(|line| {
            vec![
                at(line, "/agent"),
                at(line, "/action"),
                at(line, "/quantity"),
                money(line, "/unit_price"),
                money(line, "/amount"),
                items(line, "/events").count().to_string(),
            ]
        })
        .collect();
    let headers = [
        "AGENT",
        "ACTION",
        "QUANTITY",
        "UNIT PRICE",
        "AMOUNT",
        "EVENTS",
    ];
    format!(
        "{}\n{}\ntotal  {}\n",
        fields(&[
            ("invoice", at(answer, "/id")),
            ("number", at(answer, "/number")),
            ("customer", at(answer, "/customer")),
            ("from", instant(answer, "/from")),
            ("to", instant(answer, "/to")),
            ("issued", instant(answer, "/issued_at")),
            ("leaf", at(answer, "/leaf")),
        ]),
        table(&headers, &rows),
        money(answer, "/total")
    )
}

fn items<'a>(document: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    document
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}
