//! `creto crypto`.

use creto_client::{Client, encode};
use creto_crypto::AllowedAlgorithms;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::CryptoCommand;
use crate::commands::server::runtime;
use crate::commands::signing::known_keys;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, at, fields, table};

/// What whoever rotates has to know before it is relied on.
const DIFFERS: &str = "\nThe configuration says something else of algorithms than what is in force, or cannot be\n\
     read: these keys are of what is in force. See: creto crypto status\n";

pub(crate) fn run(context: &Context, command: CryptoCommand) -> Result<Reply, CliError> {
    match command {
        CryptoCommand::Rotate(args) if args.log => {
            let body = json!({ "reason": args.reason });
            let answer = context.client()?.post("/v1/audit/keys/rotate", &body)?;
            let text = format!(
                "{}{}{}\nThe keys before sign checkpoints besides. Give monitors and witnesses the new ones\n\
                 (creto audit keys), then: creto crypto retire --log --reason TEXT\n",
                log_keys(
                    &answer,
                    &[
                        ("", "/kids", "/algorithms"),
                        (" before", "/former_kids", "/none")
                    ]
                ),
                differs(&answer),
                accepting(&answer),
            );
            Ok(Reply::new(text, answer))
        }
        CryptoCommand::Retire(args) if args.log => {
            let body = json!({ "reason": args.reason });
            let answer = context.client()?.post("/v1/audit/keys/retire", &body)?;
            let text = log_keys(&answer, &[(" ended", "/kids", "/none")]);
            Ok(Reply::new(text, answer))
        }
        CryptoCommand::Rotate(args) if args.principals => {
            principals(&context.client()?, &args.reason)
        }
        CryptoCommand::Rotate(args) => {
            let body = json!({ "reason": args.reason });
            let answer = context.client()?.post("/v1/keys/rotate", &body)?;
            let differs = differs(&answer);
            let text = format!(
                "{}{differs}\nWhat the keys before made stays valid until: creto crypto retire --reason TEXT\n",
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
        CryptoCommand::Status => {
            let answer = context.client()?.get("/v1/keys/algorithms")?;
            Ok(status(&answer))
        }
        CryptoCommand::Retire(args) => {
            let body = json!({ "reason": args.reason, "now": args.now });
            let answer = context.client()?.post("/v1/keys/retire", &body)?;
            let ended = answer.pointer("/issuer_kids").and_then(|kids| {
                let kids = kids.as_array()?.iter().filter_map(|kid| kid.as_str());
                Some(kids.collect::<Vec<_>>().join(", "))
            });
            let unread = match at(&answer, "/unread").as_str() {
                "0" => String::new(),
                some => format!("{some}, by a cipher that has to stay accepted"),
            };
            let text = fields(&[
                ("tokens ended of", ended.unwrap_or_default()),
                ("stored since version", at(&answer, "/before_version")),
                ("payloads sealed anew", at(&answer, "/resealed")),
                ("not to be opened", unread),
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

/// Gives another key to whoever signs by another algorithm than the one for new keys.
fn principals(client: &Client, reason: &str) -> Result<Reply, CliError> {
    let lists = client.get("/v1/keys/algorithms")?;
    let new = at(&lists, "/in_force/signatures/new");
    let (mut rows, mut rotated, mut kept) = (Vec::new(), Vec::new(), 0_u64);
    for principal in client.pages("/v1/principals") {
        let principal = principal?;
        if at(&principal, "/revoked") == "true" {
            continue;
        }
        if signs_by(&known_keys(client, &at(&principal, "/spiffe_id"))?) == Some(&new) {
            kept += 1;
            continue;
        }
        let name = at(&principal, "/name");
        let path = format!("/v1/principals/{}/keys/rotate", encode(&name));
        let answer = client.post(&path, &json!({ "reason": reason }))?;
        rows.push(vec![name, at(&answer, "/alg"), at(&answer, "/kid")]);
        rotated.push(answer);
    }
    let text = match rows.is_empty() {
        true => format!("All {kept} sign by {new}: nobody got another key.\n"),
        false => format!(
            "{}\n{kept} signed by {new} before. What the keys before signed stays valid until\n\
             `creto agent revoke-key`, for which they are of an accepted algorithm.\n",
            table(&["PRINCIPAL", "ALGORITHM", "KEY"], &rows)
        ),
    };
    let document = json!({ "algorithm": new, "rotated": rotated, "kept": kept });
    Ok(Reply::new(text, document))
}

/// The algorithm of the key that signs, of a principal's public keys.
fn signs_by(keys: &Value) -> Option<&str> {
    let mut keys = keys.get("keys")?.as_array()?.iter();
    keys.find(|key| at(key, "/state") == "present")?
        .get("alg")?
        .as_str()
}

/// What to know of new keys when the configuration would have other ones made.
fn differs(rotated: &Value) -> &'static str {
    match at(rotated, "/configuration_differs").as_str() {
        "true" => DIFFERS,
        _ => "",
    }
}

/// The keys of a log by what they sign, in each of these parts of an answer, with the
/// algorithms that it gives.
fn log_keys(answer: &Value, parts: &[(&str, &str, &str)]) -> String {
    let mut rows = Vec::new();
    for (which, kids, algorithms) in parts {
        for (purpose, name) in [
            ("log_ed25519", "checkpoints, first line"),
            ("log_composite", "checkpoints, second line"),
            ("evidence", "evidence"),
        ] {
            let member = |part: &str| at(answer, &format!("{part}/{purpose}"));
            let (kid, algorithm) = (member(kids), member(algorithms));
            if !kid.is_empty() {
                let value = format!("{kid} {algorithm}").trim_end().to_owned();
                rows.push((format!("{name}{which}"), value));
            }
        }
    }
    rows.push(("leaf".to_owned(), at(answer, "/leaf")));
    let rows: Vec<(&str, String)> = rows
        .iter()
        .map(|(name, kid)| (name.as_str(), kid.clone()))
        .collect();
    fields(&rows)
}

/// What whoever verifies by the defaults has to know of new keys of a log.
fn accepting(rotated: &Value) -> String {
    let algorithm = at(rotated, "/algorithms/evidence");
    let defaults = AllowedAlgorithms::default().signature;
    let known = algorithm.parse().is_ok_and(|it| defaults.check(it).is_ok());
    if algorithm.is_empty() || known {
        return String::new();
    }
    format!(
        "\nWhat is exported from now on is verified with: creto verify --accept {algorithm}\n\
         Monitors and witnesses have to know {algorithm} to read the second line.\n"
    )
}

/// The kinds, as the answer calls them and as people read them.
const KINDS: [(&str, &str); 6] = [
    ("signatures", "signatures"),
    ("key_wrapping", "key wrapping"),
    ("sealing", "sealing"),
    ("kem", "prekeys"),
    ("digests", "digests"),
    ("dpop", "proofs (DPoP)"),
];

/// By which new ones are made, and which are read.
fn list(lists: Option<&Value>, kind: &str) -> Option<[String; 2]> {
    let list = lists?.get(kind)?;
    // Of what others make there are only those that are read.
    let accepted = list.get("accepted").unwrap_or(list).as_array()?.iter();
    let accepted: Vec<&str> = accepted.filter_map(|name| name.as_str()).collect();
    Some([at(list, "/new"), accepted.join(", ")])
}

/// What is in force, kind by kind; with what the configuration says where it says
/// something else.
fn status(answer: &Value) -> Reply {
    let configured = answer.get("configured");
    let mut rows = Vec::new();
    for (kind, name) in KINDS {
        let in_force = list(answer.get("in_force"), kind);
        let other = list(configured, kind).filter(|other| Some(other) != in_force.as_ref());
        let row = |name: &str, [new, read]: [String; 2]| vec![name.to_owned(), new, read];
        rows.extend(in_force.map(|list| row(name, list)));
        rows.extend(other.map(|list| row("  configured", list)));
    }
    let refusal = |pointer: &str| {
        let part = |member: &str| at(answer, &format!("{pointer}/{member}"));
        let (code, why) = (part("code"), part("why"));
        (!code.is_empty()).then(|| format!("{code}: {why}"))
    };
    let unreadable = refusal("/unreadable");
    let good = configured.is_none() && unreadable.is_none();
    let says = match unreadable {
        Some(why) => format!("cannot be read: {why}"),
        None if good => "says the same".to_owned(),
        None if refusal("/reload/refused").is_some() => {
            "says something else; the last SIGHUP was refused".to_owned()
        }
        None => "says something else; SIGHUP puts it in force".to_owned(),
    };
    let reload = match refusal("/reload/refused") {
        Some(why) => format!("{}, refused: {why}", at(answer, "/reload/at")),
        None => at(answer, "/reload/at"),
    };
    let text = format!(
        "{}\n{}",
        table(&["", "new", "read"], &rows),
        fields(&[
            ("in force since", at(answer, "/since")),
            ("configuration", says),
            ("last read anew", reload),
        ])
    );
    Reply {
        good,
        ..Reply::new(text, answer.clone())
    }
}
