//! `creto crypto`.

use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::CryptoCommand;
use crate::commands::server::runtime;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, fields};

pub(crate) fn run(context: &Context, command: CryptoCommand) -> Result<Reply, CliError> {
    match command {
        CryptoCommand::Rotate(args) => {
            let body = json!({ "reason": args.reason });
            let answer = context.client()?.post("/v1/keys/rotate", &body)?;
            let text = format!(
                "{}\nWhat the keys before made stays valid until: creto crypto retire --reason TEXT\n",
                fields(&[
                    ("tokens by", at(&answer, "/issuer")),
                    ("their key", at(&answer, "/issuer_kid")),
                    ("the key before", at(&answer, "/former_kid")),
                    ("stored by", at(&answer, "/wrapping")),
                    ("under version", at(&answer, "/wrapping_version")),
                    ("leaf", at(&answer, "/leaf")),
                ])
            );
            Ok(Reply::new(text, answer))
        }
        CryptoCommand::Retire(args) => {
            let body = json!({ "reason": args.reason, "now": args.now });
            let answer = context.client()?.post("/v1/keys/retire", &body)?;
            let ended = answer.pointer("/issuer_kids").and_then(|kids| {
                let kids = kids.as_array()?.iter().filter_map(|kid| kid.as_str());
                Some(kids.collect::<Vec<_>>().join(", "))
            });
            let text = fields(&[
                ("tokens ended of", ended.unwrap_or_default()),
                ("stored since version", at(&answer, "/before_version")),
                ("leaf", at(&answer, "/leaf")),
            ]);
            Ok(Reply::new(text, answer))
        }
        CryptoCommand::RotateRoot(args) => {
            let new = args
                .new_key_env
                .map(|name| {
                    std::env::var(&name)
                        .map(Zeroizing::new)
                        .map_err(|_| CliError::VariableMissing { name })
                })
                .transpose()?;
            let new = new.as_ref().map(|text| text.as_str());
            let report = runtime()?
                .block_on(creto_server::rotate_root(&context.config_path(), new))
                .map_err(CliError::server)?;
            let place = match &report.root_key {
                Some(path) => path.display().to_string(),
                None => "let `identity.root_key` name the new key now".to_owned(),
            };
            let text = fields(&[
                ("root key", place),
                ("wrapping keys under it", report.wrapping_keys.to_string()),
                (
                    "state",
                    if report.resumed {
                        "an earlier change was brought to its end".to_owned()
                    } else {
                        "changed".to_owned()
                    },
                ),
            ]);
            let document = json!({
                "root_key": report.root_key,
                "wrapping_keys": report.wrapping_keys,
                "resumed": report.resumed,
            });
            Ok(Reply::new(text, document))
        }
    }
}
