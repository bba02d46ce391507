//! `creto policy eval`: Cedar's answer about files, without a server.

use std::path::Path;

use creto_authz::eval::{EvalAnswer, EvalDecision, EvalInput, evaluate};
use serde_json::json;

use crate::cli::EvalArgs;
use crate::error::CliError;
use crate::output::{Reply, printable};

pub(crate) fn run(args: &EvalArgs) -> Result<Reply, CliError> {
    let policies = read(&args.policies)?;
    let schema = args.schema.as_deref().map(read).transpose()?;
    let entities = read(&args.entities)?;
    let request = read(&args.request)?;
    let links = args.links.as_deref().map(read).transpose()?;
    let answer = evaluate(&EvalInput {
        policies: &policies,
        schema: schema.as_deref(),
        entities: &entities,
        request: &request,
        links: links.as_deref(),
    })
    .map_err(CliError::server)?;
    let json = json!({
        "decision": answer.decision,
        "reason": answer.reason,
        "errors": answer.errors,
    });
    Ok(Reply::new(text(&answer), json))
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::File {
        what: "read",
        path: path.to_owned(),
        source,
    })
}

fn text(answer: &EvalAnswer) -> String {
    let mut text = match answer.decision {
        EvalDecision::Allow => "allow".to_owned(),
        EvalDecision::Deny => "deny".to_owned(),
    };
    if answer.reason.is_empty() {
        text.push_str(": no policy permits it");
    } else {
        let ids: Vec<String> = answer.reason.iter().map(|id| printable(id)).collect();
        text.push_str(&format!(": {}", ids.join(", ")));
    }
    text.push('\n');
    for error in &answer.errors {
        text.push_str(&format!("{}\n", printable(error)));
    }
    text
}
