//! `creto audit`.

use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use creto_client::{Client, encode};
use serde_json::{Value, json};

use crate::cli::{AuditCommand, FilterArgs, SearchArgs};
use crate::commands::{export, transparency};
use crate::context::{Context, file_error};
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant, printable_lines, table};

pub(crate) fn run(context: &Context, command: AuditCommand) -> Result<Reply, CliError> {
    match command {
        AuditCommand::Watch(args) => transparency::watch(context, &args),
        AuditCommand::Witness(args) => transparency::witness(args),
        AuditCommand::WitnessKey {
            name,
            out,
            algorithm,
        } => transparency::witness_key(&name, algorithm.into(), &out),
        AuditCommand::Checkpoint => {
            let note = context.client()?.get_bytes("/v1/audit/checkpoint")?;
            let note = String::from_utf8_lossy(&note).into_owned();
            Ok(Reply::new(note.clone(), json!({ "checkpoint": note })))
        }
        AuditCommand::Leaf { index } => {
            let answer = context
                .client()?
                .get(&format!("/v1/audit/leaves/{index}"))?;
            let record = answer.get("record").unwrap_or(&Value::Null);
            let withheld = match at(&answer, "/withheld") {
                why if why.is_empty() => String::new(),
                why => format!("\n\nThe rest of the record is {}.", printable_lines(&why)),
            };
            let text = format!(
                "{}{withheld}\n\n{}\n",
                printable_lines(&format!("{record:#}")),
                printable_lines(at(&answer, "/proof").trim_end())
            );
            Ok(Reply::new(text, answer))
        }
        AuditCommand::Search(args) => search(&context.client()?, &args),
        AuditCommand::CheckProof(args) => transparency::check_proof(&args),
        AuditCommand::Prove {
            leaf,
            leaf_to,
            opening_to,
        } => {
            let answer = context.client()?.get(&format!("/v1/audit/leaves/{leaf}"))?;
            let new = |path: &Path, bytes: &[u8]| {
                std::fs::File::create_new(path)
                    .and_then(|mut file| file.write_all(bytes))
                    .map_err(file_error("write", path))
            };
            if let Some(path) = leaf_to {
                let leaf = answer.get("leaf").and_then(Value::as_str);
                let leaf = leaf.and_then(|text| STANDARD.decode(text).ok());
                new(&path, &leaf.ok_or(CliError::Answer { what: "leaf" })?)?;
            }
            if let Some(path) = opening_to {
                let opening = answer.get("opening");
                let opening = opening.ok_or_else(|| CliError::NoOpening {
                    why: match at(&answer, "/withheld") {
                        why if why.is_empty() => "the leaf says all itself".to_owned(),
                        why => why,
                    },
                })?;
                new(&path, opening.to_string().as_bytes())?;
            }
            let proof = answer
                .get("proof")
                .and_then(Value::as_str)
                .ok_or(CliError::Answer { what: "proof" })?;
            // Byte for byte: it is for other tools.
            Ok(Reply::new(proof, json!({ "proof": proof })))
        }
        AuditCommand::Keys => {
            let answer = context.client()?.get("/v1/audit/keys")?;
            let text = fields(&[
                ("log", at(&answer, "/origin")),
                ("ed25519", at(&answer, "/ed25519")),
                ("composite", at(&answer, "/composite")),
                ("ed25519 before", at(&answer, "/former/ed25519")),
                ("composite before", at(&answer, "/former/composite")),
            ]);
            Ok(Reply::new(text, answer))
        }
        AuditCommand::Consistency { from, to } => {
            let to = to.map(|to| format!("&to={to}")).unwrap_or_default();
            let path = format!("/v1/audit/consistency?from={from}{to}");
            let answer = context.client()?.get(&path)?;
            let hashes = answer.get("hashes").and_then(Value::as_array);
            let mut text = fields(&[
                ("from", at(&answer, "/from")),
                ("from root", at(&answer, "/from_root")),
                ("to", at(&answer, "/to")),
                ("to root", at(&answer, "/to_root")),
            ]);
            for hash in hashes.into_iter().flatten().filter_map(Value::as_str) {
                text.push_str(&format!("  {}\n", printable_lines(hash)));
            }
            Ok(Reply::new(text, answer))
        }
        AuditCommand::Export { dir, filter } => {
            export::export(&context.client()?, &dir, &parameters(&filter))
        }
        AuditCommand::Action { action } => {
            let path = format!("/v1/actions/{}", encode(&action));
            let answer = context.client()?.get(&path)?;
            Ok(Reply::new(records(&answer), answer))
        }
    }
}

/// A line for each record of a list.
fn records(answer: &Value) -> String {
    let items = answer.pointer("/items").and_then(Value::as_array);
    let rows: Vec<_> = items
        .into_iter()
        .flatten()
        .map(|item| {
            vec![
                at(item, "/leaf"),
                instant(item, "/record/at"),
                at(item, "/record/kind"),
                at(item, "/record/actor"),
                match at(item, "/withheld") {
                    why if why.is_empty() => at(item, "/record/body"),
                    why => format!("({why})"),
                },
            ]
        })
        .collect();
    table(&["LEAF", "AT", "WHAT", "WHO", "DETAIL"], &rows)
}

/// The filters as parameters of a URL.
fn parameters(filter: &FilterArgs) -> Vec<String> {
    let given = [
        ("agent", filter.agent.clone()),
        ("member", filter.member.clone()),
        ("action", filter.action.clone()),
        ("resource", filter.resource.clone()),
        ("outcome", filter.outcome.clone()),
        ("kind", filter.kind.clone()),
        ("since", filter.since.map(|at| at.to_string())),
        ("until", filter.until.map(|at| at.to_string())),
    ];
    let given = given.into_iter();
    given
        .filter_map(|(name, value)| Some(format!("{name}={}", encode(&value?))))
        .collect()
}

fn search(client: &Client, args: &SearchArgs) -> Result<Reply, CliError> {
    let mut given = parameters(&args.filter);
    given.push(format!("limit={}", args.limit));
    given.extend(args.after.map(|leaf| format!("after={leaf}")));
    let path = format!("/v1/audit/records?{}", given.join("&"));
    let answer = client.get(&path)?;
    let nothing = answer
        .pointer("/items")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty);
    let next = at(&answer, "/next");
    let mut text = match (nothing, next.is_empty()) {
        (false, _) => records(&answer),
        (true, true) => "Nothing is recorded that is all of this.\n".to_owned(),
        (true, false) => "Nothing was found so far.\n".to_owned(),
    };
    if !next.is_empty() {
        text.push_str(&format!(
            "\nThere may be more: the same command with --after {}\n",
            printable_lines(&next)
        ));
    }
    let (searched, size) = (at(&answer, "/searched"), at(&answer, "/size"));
    if searched != size {
        text.push_str(&format!(
            "\nThe index is behind: only the first {} of {} leaves were searched. Ask again later.\n",
            printable_lines(&searched),
            printable_lines(&size)
        ));
    }
    Ok(Reply::new(text, answer))
}
