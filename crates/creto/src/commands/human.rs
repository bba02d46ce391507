//! `creto human`.

use creto_client::encode;
use serde_json::{Value, json};

use super::agent::{change_standing, changed, write_secret};
use crate::cli::{HumanCommand, HumanOut};
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant};

pub(crate) fn run(context: &Context, command: HumanCommand) -> Result<Reply, CliError> {
    let client = context.client()?;
    match command {
        HumanCommand::Create(args) => {
            must_be_new(&args.to)?;
            let mut body = json!({ "name": args.name, "role": args.role.as_str() });
            lasting(&mut body, &args.to);
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
            must_be_new(&to)?;
            let path = format!("/v1/humans/{}/credential", encode(name.as_str()));
            let mut body = json!({});
            lasting(&mut body, &to);
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
    }
}

/// Asked before anything is changed: a credential is shown once.
fn must_be_new(to: &HumanOut) -> Result<(), CliError> {
    match to.out.as_deref().filter(|path| path.exists()) {
        None => Ok(()),
        Some(path) => Err(CliError::Exists {
            path: path.to_owned(),
        }),
    }
}

fn lasting(body: &mut Value, to: &HumanOut) {
    if let (Some(ttl), Value::Object(fields)) = (to.ttl_seconds, body) {
        fields.insert("ttl_seconds".to_owned(), json!(ttl));
    }
}

fn credential(mut answer: Value, to: &HumanOut) -> Result<Reply, CliError> {
    let token = at(&answer, "/token");
    if token.is_empty() {
        return Err(CliError::Answer { what: "token" });
    }
    let Some(path) = &to.out else {
        return Ok(Reply::new(format!("{token}\n"), answer));
    };
    write_secret(path, &token)?;
    if let Value::Object(fields) = &mut answer {
        fields.remove("token");
        fields.insert("file".to_owned(), json!(path));
    }
    let text = fields(&[
        ("human", at(&answer, "/name")),
        ("role", at(&answer, "/role")),
        ("credential", path.display().to_string()),
        ("expires", instant(&answer, "/expires_at")),
        ("leaf", at(&answer, "/leaf")),
    ]);
    Ok(Reply::new(text, answer))
}
