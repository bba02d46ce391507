//! `creto human`.

use creto_client::encode;
use serde_json::{Value, json};

use super::agent::{change_standing, changed, revoke_key, revoked, rotate_key, thumbprint};
use super::handed;
use crate::cli::{HumanCommand, HumanOut};
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant};

pub(crate) fn run(context: &Context, command: HumanCommand) -> Result<Reply, CliError> {
    let client = context.client()?;
    match command {
        HumanCommand::Create(args) => {
            handed::must_be_new(args.to.out.as_deref())?;
            let mut body = json!({ "name": args.name, "role": args.role.as_str() });
            ask(&mut body, &args.to)?;
            credential(client.post("/v1/humans", &body)?, &args.to)
        }
        HumanCommand::Role { name, role, reason } => {
            let path = format!("/v1/humans/{}/role", encode(name.as_str()));
            let body = json!({ "role": role.as_str(), "reason": reason });
            let answer = client.post(&path, &body)?;
            let text = fields(&[
                ("human", at(&answer, "/principal")),
                ("role", at(&answer, "/role")),
                ("since", instant(&answer, "/at")),
                ("leaf", at(&answer, "/leaf")),
            ]);
            Ok(Reply::new(text, answer))
        }
        HumanCommand::Credential { name, to } => {
            handed::must_be_new(to.out.as_deref())?;
            let path = format!("/v1/humans/{}/credential", encode(name.as_str()));
            let mut body = json!({});
            ask(&mut body, &to)?;
            credential(client.post(&path, &body)?, &to)
        }
        HumanCommand::Suspend(args) => {
            let answer = change_standing(&client, &args, "suspend")?;
            Ok(Reply::new(changed("human", &answer), answer))
        }
        HumanCommand::Resume(args) => {
            let answer = change_standing(&client, &args, "resume")?;
            Ok(Reply::new(changed("human", &answer), answer))
        }
        HumanCommand::Revoke(args) => {
            let answer = change_standing(&client, &args, "revoke")?;
            Ok(Reply::new(revoked("human", &answer), answer))
        }
        HumanCommand::RotateKey(args) => rotate_key(&client, &args, "human"),
        HumanCommand::RevokeKey(args) => revoke_key(&client, &args, "human"),
    }
}

/// For how long, and bound to what.
fn ask(body: &mut Value, to: &HumanOut) -> Result<(), CliError> {
    if let (Some(ttl), Value::Object(fields)) = (to.ttl_seconds, &mut *body) {
        fields.insert("ttl_seconds".to_owned(), json!(ttl));
    }
    let jkt = thumbprint(to.bind_key.as_deref(), to.bind_jkt.as_deref())?;
    if let (Some(jkt), Value::Object(fields)) = (jkt, body) {
        fields.insert("jkt".to_owned(), json!(jkt));
    }
    Ok(())
}

fn credential(answer: Value, to: &HumanOut) -> Result<Reply, CliError> {
    let whose = [("human", "/name"), ("role", "/role"), ("bound to", "/jkt")];
    handed::token(answer, to.out.as_deref(), &whose, "credential")
}
