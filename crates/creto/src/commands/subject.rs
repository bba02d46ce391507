//! `creto subject`.

use creto_client::encode;
use serde_json::json;

use crate::cli::SubjectCommand;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant};

pub(crate) fn run(context: &Context, command: SubjectCommand) -> Result<Reply, CliError> {
    let SubjectCommand::Erase { name, reason } = command;
    let path = format!("/v1/subjects/{}/erase", encode(name.as_str()));
    let answer = context
        .client()?
        .post(&path, &json!({ "reason": reason }))?;
    let text = fields(&[
        ("erased", at(&answer, "/subject")),
        ("at", instant(&answer, "/at")),
        ("leaf", at(&answer, "/leaf")),
    ]);
    Ok(Reply::new(text, answer))
}
