//! `creto agent`.

use std::path::Path;

use creto_client::{Client, ProofKey, encode};
use serde_json::{Map, Value, json};

use super::handed;
use crate::cli::{AgentCommand, RevokeKeyArgs, RunArgs, SuspendArgs, TokenArgs};
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant, printable, table};

/// How long one call waits for the sandbox to end before the next one does.
const WAIT_SECONDS: u32 = 20;

pub(crate) fn run(context: &Context, command: AgentCommand) -> Result<Reply, CliError> {
    if let AgentCommand::Key { out } = command {
        return key(&out);
    }
    let client = context.client()?;
    match command {
        AgentCommand::Key { out } => key(&out),
        AgentCommand::Create { name } => {
            let body = json!({"name": name, "kind": "agent"});
            let answer = client.post("/v1/principals", &body)?;
            let text = format!(
                "{}\nIt may do nothing yet. Delegate something to it: creto delegate create {name}\n",
                fields(&[
                    ("agent", at(&answer, "/name")),
                    ("spiffe id", at(&answer, "/spiffe_id")),
                    ("leaf", at(&answer, "/leaf")),
                ])
            );
            Ok(Reply::new(text, answer))
        }
        AgentCommand::List => {
            let items: Vec<Value> = client.pages("/v1/principals").collect::<Result<_, _>>()?;
            let rows: Vec<_> = items
                .iter()
                .map(|item| {
                    vec![
                        at(item, "/name"),
                        at(item, "/kind"),
                        at(item, "/role"),
                        standing(item),
                        at(item, "/spiffe_id"),
                    ]
                })
                .collect();
            let mut text = table(&["NAME", "KIND", "ROLE", "STANDING", "SPIFFE ID"], &rows);
            if !items.iter().any(|item| at(item, "/kind") == "agent") {
                text.push_str("\nNo agents yet. Make one: creto agent create NAME\n");
            }
            Ok(Reply::new(text, json!({ "items": items })))
        }
        AgentCommand::Suspend(args) => {
            let answer = change_standing(&client, &args, "suspend")?;
            let text = format!(
                "{}\nNothing may be done in its name until: creto agent resume {} --reason TEXT\n",
                changed("agent", &answer),
                args.name
            );
            Ok(Reply::new(text, answer))
        }
        AgentCommand::Resume(args) => {
            let answer = change_standing(&client, &args, "resume")?;
            Ok(Reply::new(changed("agent", &answer), answer))
        }
        AgentCommand::Keys(args) => super::signing::keys(&client, &args),
        AgentCommand::Revoke(args) => {
            let answer = change_standing(&client, &args, "revoke")?;
            Ok(Reply::new(revoked("agent", &answer), answer))
        }
        AgentCommand::RotateKey(args) => rotate_key(&client, &args, "agent"),
        AgentCommand::RevokeKey(args) => revoke_key(&client, &args, "agent"),
        AgentCommand::Token(args) => token(&client, &args),
        AgentCommand::Run(args) => run_program(&client, args),
    }
}

fn standing(principal: &Value) -> String {
    if at(principal, "/revoked") == "true" {
        return match instant(principal, "/revoked_at").as_str() {
            "" => "revoked".to_owned(),
            since => format!("revoked since {since}"),
        };
    }
    if at(principal, "/suspended") != "true" {
        return "good".to_owned();
    }
    match instant(principal, "/suspended_at").as_str() {
        "" => "suspended".to_owned(),
        since => format!("suspended since {since}"),
    }
}

pub(crate) fn change_standing(
    client: &Client,
    args: &SuspendArgs,
    change: &str,
) -> Result<Value, CliError> {
    let path = format!("/v1/principals/{}/{change}", encode(args.name.as_str()));
    Ok(client.post(&path, &json!({ "reason": args.reason }))?)
}

pub(crate) fn changed(kind: &str, answer: &Value) -> String {
    let what = if at(answer, "/suspended") == "true" {
        "suspended"
    } else {
        "resumed"
    };
    fields(&[
        (kind, at(answer, "/principal")),
        (what, instant(answer, "/at")),
        ("leaf", at(answer, "/leaf")),
    ])
}

pub(crate) fn revoked(kind: &str, answer: &Value) -> String {
    fields(&[
        (kind, at(answer, "/principal")),
        ("revoked", instant(answer, "/revoked_at")),
        ("leaf", at(answer, "/leaf")),
    ])
}

pub(crate) fn rotate_key(
    client: &Client,
    args: &SuspendArgs,
    kind: &str,
) -> Result<Reply, CliError> {
    let answer = change_standing(client, args, "keys/rotate")?;
    let text = format!(
        "{}\nWhat the keys before signed stays valid until: creto {kind} revoke-key {} KID --reason TEXT\n",
        fields(&[
            (kind, at(&answer, "/principal")),
            ("key", at(&answer, "/kid")),
            ("algorithm", at(&answer, "/alg")),
            ("version", at(&answer, "/version")),
            ("since", instant(&answer, "/at")),
            ("leaf", at(&answer, "/leaf")),
        ]),
        args.name
    );
    Ok(Reply::new(text, answer))
}

pub(crate) fn revoke_key(
    client: &Client,
    args: &RevokeKeyArgs,
    kind: &str,
) -> Result<Reply, CliError> {
    let path = format!("/v1/principals/{}/keys/revoke", encode(args.name.as_str()));
    let body = json!({ "kid": args.kid, "reason": args.reason });
    let answer = client.post(&path, &body)?;
    let text = fields(&[
        (kind, at(&answer, "/principal")),
        ("key", at(&answer, "/kid")),
        ("version", at(&answer, "/version")),
        ("revoked", instant(&answer, "/revoked_at")),
        ("leaf", at(&answer, "/leaf")),
    ]);
    Ok(Reply::new(text, answer))
}

/// Asks no server: the key is nobody else's business.
fn key(out: &Path) -> Result<Reply, CliError> {
    handed::must_be_new(Some(out))?;
    let (key, jwk) = ProofKey::generate()?;
    handed::write_secret(out, jwk.expose())?;
    let jkt = key.thumbprint().to_string();
    let text = format!(
        "{}\nA token is bound to it so: creto agent token DELEGATION --bind-jkt {jkt} --out FILE\n",
        fields(&[
            ("key", out.display().to_string()),
            ("thumbprint", jkt.clone())
        ])
    );
    Ok(Reply::new(text, json!({ "file": out, "jkt": jkt })))
}

/// What a token is to be bound to: the key in a file, or the one that is named.
pub(super) fn thumbprint(
    key: Option<&Path>,
    jkt: Option<&str>,
) -> Result<Option<String>, CliError> {
    match key {
        Some(path) => Ok(Some(ProofKey::from_file(path)?.thumbprint().to_string())),
        None => Ok(jkt.map(str::to_owned)),
    }
}

fn token(client: &Client, args: &TokenArgs) -> Result<Reply, CliError> {
    handed::must_be_new(args.out.as_deref())?;
    let mut body = json!({ "delegation": args.delegation });
    if let (Some(ttl), Value::Object(fields)) = (args.ttl_seconds, &mut body) {
        fields.insert("ttl_seconds".to_owned(), json!(ttl));
    }
    if let (Some(instance), Value::Object(fields)) = (&args.instance, &mut body) {
        fields.insert("instance".to_owned(), json!(instance));
    }
    let jkt = thumbprint(args.bind_key.as_deref(), args.bind_jkt.as_deref())?;
    if let (Some(jkt), Value::Object(fields)) = (jkt, &mut body) {
        fields.insert("jkt".to_owned(), json!(jkt));
    }
    let answer = client.post("/v1/tokens", &body)?;
    let whose = [("agent", "/principal"), ("bound to", "/jkt")];
    handed::token(answer, args.out.as_deref(), &whose, "token")
}

/// The body of `POST /v1/sandboxes`.
fn sandbox_body(args: RunArgs) -> Value {
    let mut body = json!({"delegation": args.delegation, "argv": args.argv});
    let limits: Map<String, Value> = [
        ("memory_bytes", args.memory_bytes),
        ("processes", args.processes),
        ("wall_seconds", args.wall_seconds),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))))
    .collect();
    let mounts: Vec<Value> = args
        .mounts
        .iter()
        .map(|mount| json!({"name": mount.name, "target": mount.target}))
        .collect();
    let environment: Map<String, Value> = args
        .environment
        .into_iter()
        .map(|variable| (variable.name, Value::String(variable.value)))
        .collect();
    if let Value::Object(fields) = &mut body {
        if !environment.is_empty() {
            fields.insert("env".to_owned(), Value::Object(environment));
        }
        if !limits.is_empty() {
            fields.insert("limits".to_owned(), Value::Object(limits));
        }
        if !mounts.is_empty() {
            fields.insert("mounts".to_owned(), Value::Array(mounts));
        }
    }
    body
}

fn run_program(client: &Client, args: RunArgs) -> Result<Reply, CliError> {
    let started = client.post("/v1/sandboxes", &sandbox_body(args))?;
    let id = at(&started, "/id");
    if id.is_empty() {
        return Err(CliError::Answer { what: "id" });
    }
    let path = format!("/v1/sandboxes/{}?wait_seconds={WAIT_SECONDS}", encode(&id));
    let ended = loop {
        let answer = client.get(&path)?;
        if at(&answer, "/state") != "running" {
            break answer;
        }
    };
    let mut text = String::new();
    for stream in ["/stdout", "/stderr"] {
        for line in at(&ended, stream).lines() {
            text.push_str(&printable(line));
            text.push('\n');
        }
    }
    text.push_str(&fields(&[
        ("sandbox", at(&ended, "/id")),
        ("agent", at(&ended, "/agent")),
        ("exit", at(&ended, "/exit")),
        ("exit code", at(&ended, "/exit_code")),
        ("leaf", at(&ended, "/leaf")),
    ]));
    let good = at(&ended, "/exit") == "exited" && at(&ended, "/exit_code") == "0";
    Ok(Reply {
        good,
        ..Reply::new(text, ended)
    })
}
