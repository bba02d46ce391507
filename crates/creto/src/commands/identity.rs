//! `creto self`.

use serde_json::Value;

use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, fields, quantity, table};

pub(crate) fn whoami(context: &Context) -> Result<Reply, CliError> {
    let answer = context.client()?.get("/v1/self")?;
    let mut text = fields(&[
        ("name", at(&answer, "/name")),
        ("kind", at(&answer, "/kind")),
        ("organization", at(&answer, "/org")),
        ("spiffe id", at(&answer, "/spiffe_id")),
        ("known by", at(&answer, "/origin")),
        ("bound to", at(&answer, "/jkt")),
    ]);
    let hops = answer.pointer("/chain").and_then(Value::as_array);
    let rows: Vec<_> = hops
        .into_iter()
        .flatten()
        .map(|hop| {
            vec![
                at(hop, "/delegation"),
                at(hop, "/delegator"),
                at(hop, "/delegatee"),
                quantity(hop, "/balance/limit"),
                quantity(hop, "/balance/used"),
                quantity(hop, "/balance/reserved"),
                quantity(hop, "/balance/remaining"),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        let headers = [
            "DELEGATION",
            "FROM",
            "TO",
            "BUDGET",
            "USED",
            "RESERVED",
            "LEFT",
        ];
        text.push_str(&table(&headers, &rows));
    }
    Ok(Reply::new(text, answer))
}
