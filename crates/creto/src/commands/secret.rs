//! `creto secret`.

use std::io::Read as _;
use std::path::Path;

use creto_client::{Client, encode};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::{SecretCommand, SecretLeaseArgs};
use crate::context::{Context, file_error, now};
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant, table};

/// More than a server takes, so that it is the server that says what is too long.
const MAX_READ: u64 = 64 * 1024;

/// What a value is read into: never full, so that it never grows, which would leave parts
/// of the value behind.
const ROOM: usize = 65 * 1024;

pub(crate) fn run(context: &Context, command: SecretCommand) -> Result<Reply, CliError> {
    let client = context.client()?;
    match command {
        SecretCommand::Put(args) => {
            let value = value(args.file.as_deref())?;
            let body = json!({ "name": args.name, "value": value.as_str() });
            let answer = client.post("/v1/secrets", &body)?;
            let text = fields(&[
                ("secret", at(&answer, "/name")),
                ("version", at(&answer, "/version")),
                ("leaf", at(&answer, "/leaf")),
            ]);
            Ok(Reply::new(text, answer))
        }
        SecretCommand::List => {
            let items = listed(&client, "/v1/secrets")?;
            let rows: Vec<Vec<String>> = items
                .iter()
                .map(|item| {
                    vec![
                        at(item, "/name"),
                        at(item, "/version"),
                        at(item, "/owner"),
                        at(item, "/put_by"),
                        instant(item, "/put_at"),
                    ]
                })
                .collect();
            let text = table(&["SECRET", "VERSION", "OWNER", "PUT BY", "PUT"], &rows);
            Ok(Reply::new(text, json!({ "items": items })))
        }
        SecretCommand::HandOver(args) => {
            let path = format!("/v1/secrets/{}/hand-over", encode(&args.name));
            let answer = client.post(&path, &json!({ "to": args.to }))?;
            let text = fields(&[
                ("secret", at(&answer, "/secret")),
                ("was of", at(&answer, "/from")),
                ("is of", at(&answer, "/to")),
                ("leaf", at(&answer, "/leaf")),
            ]);
            Ok(Reply::new(text, answer))
        }
        SecretCommand::Lease(args) => {
            let path = format!("/v1/secrets/{}/leases", encode(&args.name));
            let answer = client.post(&path, &lease_body(&args)?)?;
            Ok(Reply::new(lease(&answer), answer))
        }
        SecretCommand::Leases => {
            let items = listed(&client, "/v1/leases")?;
            let rows: Vec<Vec<String>> = items
                .iter()
                .map(|item| {
                    vec![
                        at(item, "/id"),
                        at(item, "/secret"),
                        at(item, "/agent"),
                        instant(item, "/expires_at"),
                        instant(item, "/revoked_at"),
                    ]
                })
                .collect();
            let headers = ["LEASE", "SECRET", "AGENT", "EXPIRES", "REVOKED"];
            Ok(Reply::new(
                table(&headers, &rows),
                json!({ "items": items }),
            ))
        }
        SecretCommand::Get(args) => {
            let path = format!("/v1/secrets/{}/read", encode(&args.name));
            let answer = client.post(&path, &json!({ "grant": args.grant }))?;
            // The value alone when there is one, for a pipe.
            if let Some(value) = answer.pointer("/value").and_then(Value::as_str) {
                return Ok(Reply::new(format!("{value}\n"), answer));
            }
            let text = fields(&[
                ("outcome", at(&answer, "/decision/outcome")),
                ("reason", at(&answer, "/decision/reason/message")),
                ("request", at(&answer, "/decision/oversight/request_id")),
            ]);
            Ok(Reply {
                good: false,
                ..Reply::new(text, answer)
            })
        }
        SecretCommand::Revoke { lease: id } => {
            let path = format!("/v1/leases/{}/revoke", encode(&id));
            let answer = client.post(&path, &json!({}))?;
            Ok(Reply::new(lease(&answer), answer))
        }
    }
}

/// The value, which never stands among the arguments: other users see those.
fn value(file: Option<&Path>) -> Result<Zeroizing<String>, CliError> {
    let mut text = Zeroizing::new(String::with_capacity(ROOM));
    let (path, read) = match file {
        Some(path) => {
            let file = std::fs::File::open(path).map_err(file_error("read", path))?;
            (path, file.take(MAX_READ).read_to_string(&mut text))
        }
        None => {
            let input = std::io::stdin().lock();
            let read = input.take(MAX_READ).read_to_string(&mut text);
            (Path::new("standard input"), read)
        }
    };
    read.map_err(file_error("read", path))?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

fn listed(client: &Client, path: &str) -> Result<Vec<Value>, CliError> {
    Ok(client.pages(path).collect::<Result<Vec<Value>, _>>()?)
}

fn lease_body(args: &SecretLeaseArgs) -> Result<Value, CliError> {
    let expires_at = match (args.expires_at, args.expires_in) {
        (Some(at), _) => Some(at.0),
        (None, Some(within)) => Some(now().checked_add(within.0).map_err(CliError::Time)?),
        (None, None) => None,
    };
    Ok(json!({ "delegation": args.delegation, "expires_at": expires_at }))
}

fn lease(answer: &Value) -> String {
    fields(&[
        ("lease", at(answer, "/id")),
        ("secret", at(answer, "/secret")),
        ("agent", at(answer, "/agent")),
        ("expires", instant(answer, "/expires_at")),
        ("revoked", instant(answer, "/revoked_at")),
        ("leaf", at(answer, "/leaf")),
    ])
}
