//! `creto audit watch`, `witness` and `witness-key`: beside somebody's log, without a
//! server of one's own.

use std::path::Path;
use std::time::Duration;

use creto_errors::{Class, Classify as _};
use creto_server::{
    Alarm, AlarmKind, CosignatureType, Looked, Patience, TransparencyError, WatchError,
    WatchOptions, WitnessOptions,
};
use serde_json::{Value, json};

use crate::cli::{CheckProofArgs, WatchArgs, WitnessArgs};
use crate::commands::handed::write_secret;
use crate::commands::server::runtime;
use crate::context::{Context, file_error};
use crate::error::CliError;
use crate::opening;
use crate::output::{Reply, fields, print, printable, printable_lines};

/// A log that is watched misbehaves, and what it signed is the proof: not to be confused
/// with one that is out of reach.
const MISBEHAVES: u8 = 3;

/// It has withheld for too long what its checkpoint is checked by.
const WITHHOLDS: u8 = 4;

/// It has shown no checkpoint for too long that its witnesses have cosigned.
const UNCOSIGNED: u8 = 5;

pub(crate) fn watch(context: &Context, args: &WatchArgs) -> Result<Reply, CliError> {
    let options = WatchOptions {
        url: args.url.clone(),
        key: args.key.clone(),
        state: args.state.clone(),
        entries: args.entries,
        witnesses: args.witnesses.clone(),
        quorum: args.witness_quorum,
        patience: Patience {
            withheld: Duration::from_secs(args.withheld_after),
            uncosigned: Duration::from_secs(args.uncosigned_after),
        },
    };
    let mut last = None;
    loop {
        match creto_server::watch(&options) {
            Ok(looked) if args.once => {
                return Ok(Reply {
                    good: lacking(&looked, args).is_empty(),
                    ..Reply::new(told(&looked, args), observed(&looked))
                });
            }
            Ok(looked) => {
                let size = looked.observation.size;
                if last != Some(size) {
                    let text = if context.json {
                        format!("{}\n", observed(&looked))
                    } else {
                        told(&looked, args)
                    };
                    print(&text).map_err(CliError::Output)?;
                }
                last = Some(size);
                for lacks in lacking(&looked, args) {
                    warn(&lacks);
                }
            }
            Err(TransparencyError::Watch(WatchError::Alarm(alarm))) => {
                return Ok(alarmed(&alarm));
            }
            // A log that cannot be reached now is looked at again.
            Err(error) if !args.once && error.class() == Class::Transient => {
                warn(&creto_errors::chain(&error));
            }
            Err(error) => return Err(CliError::server(error)),
        }
        std::thread::sleep(Duration::from_secs(args.interval));
    }
}

/// With standard error gone too, the exit status is all that is left.
fn warn(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "creto: {}", printable(text));
}

/// What passes by itself or becomes an alarm.
fn lacking(looked: &Looked, args: &WatchArgs) -> Vec<String> {
    let mut lacks = Vec::new();
    let mut note = |held: Option<Duration>, what: &str, after: u64| {
        if let Some(held) = held {
            let held = held.as_secs();
            lacks.push(format!(
                "{what}: for {held} s so far, and after {after} s that is an alarm"
            ));
        }
    };
    note(
        looked.uncosigned,
        "too few witnesses have cosigned what the log shows",
        args.uncosigned_after,
    );
    note(
        looked.unproven,
        "the log has gone back behind a checkpoint that it never proved",
        args.withheld_after,
    );
    lacks
}

fn told(looked: &Looked, args: &WatchArgs) -> String {
    let observation = &looked.observation;
    let signature = if args.key.is_some() {
        "by its key"
    } else {
        "NOT checked: no --key"
    };
    let text = fields(&[
        ("log", observation.origin.clone()),
        ("size", observation.size.to_string()),
        ("before", observation.before.to_string()),
        ("root", observation.root.to_string()),
        ("signature", signature.to_owned()),
        ("entries hashed", observation.entries.to_string()),
        ("cosigned by", looked.cosigned_by.join(", ")),
        ("lacks", lacking(looked, args).join("; ")),
    ]);
    format!("{text}\n")
}

fn observed(looked: &Looked) -> Value {
    let observation = &looked.observation;
    json!({
        "log": observation.origin,
        "size": observation.size,
        "before": observation.before,
        "root": observation.root.to_string(),
        "entries": observation.entries,
        "cosigned_by": looked.cosigned_by,
        "uncosigned_seconds": looked.uncosigned.map(|held| held.as_secs()),
        "unproven_seconds": looked.unproven.map(|held| held.as_secs()),
    })
}

/// The checkpoints are the proof, or what others are asked about, so they are shown whole.
fn alarmed(alarm: &Alarm) -> Reply {
    let mut text = format!("ALARM: {}\n", printable(&alarm.to_string()));
    for (name, note) in [
        ("seen before", alarm.seen.as_deref()),
        ("shown now", Some(alarm.shown.as_str())),
    ] {
        if let Some(note) = note {
            let note = printable_lines(note.trim_end());
            text.push_str(&format!("\n--- {name}\n{note}\n"));
        }
    }
    let json = json!({"alarm": {
        "kind": alarm.kind.as_str(),
        "detail": alarm.detail,
        "seen": alarm.seen,
        "shown": alarm.shown,
    }});
    Reply {
        good: false,
        status: Some(match alarm.kind {
            AlarmKind::Withheld => WITHHOLDS,
            AlarmKind::Uncosigned => UNCOSIGNED,
            _ => MISBEHAVES,
        }),
        ..Reply::new(text, json)
    }
}

pub(crate) fn check_proof(args: &CheckProofArgs) -> Result<Reply, CliError> {
    let proof = std::fs::read_to_string(&args.proof).map_err(file_error("read", &args.proof))?;
    let leaf = std::fs::read(&args.leaf).map_err(file_error("read", &args.leaf))?;
    let (key, witnesses) = (&args.key, &args.witnesses);
    let proven = creto_server::check_proof(&proof, &leaf, key, witnesses, args.quorum)
        .map_err(CliError::server)?;
    let record = match &args.opening {
        None => None,
        Some(path) => {
            let bytes = std::fs::read(path).map_err(file_error("read", path))?;
            // What is no JSON has none of the fields.
            let given: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            Some(opening::record(&leaf, &given)?)
        }
    };
    let mut text = fields(&[
        ("log", proven.origin.clone()),
        ("leaf", proven.index.to_string()),
        ("of", proven.size.to_string()),
        ("cosigned by", proven.cosigned_by.join(", ")),
    ]);
    let mut json = json!({
        "log": proven.origin,
        "index": proven.index,
        "size": proven.size,
        "cosigned_by": proven.cosigned_by,
    });
    if let Some(record) = record {
        text.push_str(&format!("\n{}\n", printable_lines(&format!("{record:#}"))));
        if let Value::Object(fields) = &mut json {
            fields.insert("record".to_owned(), record);
        }
    }
    Ok(Reply::new(text, json))
}

pub(crate) fn witness(args: WitnessArgs) -> Result<Reply, CliError> {
    let options = WitnessOptions {
        listen: args.listen,
        keys: args.keys,
        state: args.state,
        logs: args.logs,
    };
    runtime()?
        .block_on(creto_server::witness(&options, |address, keys| {
            // Whoever waits for the witness may wait for these lines; when nobody
            // reads them, it serves all the same.
            let keys: String = keys.iter().map(|key| format!("key {key}\n")).collect();
            let _ = print(&format!("witnessing on http://{address}\n{keys}"));
        }))
        .map_err(CliError::server)?;
    Ok(Reply::new("", json!({"stopped": true})))
}

pub(crate) fn witness_key(
    name: &str,
    kind: CosignatureType,
    out: &Path,
) -> Result<Reply, CliError> {
    let (secret, key) = creto_server::new_witness_key(name, kind).map_err(CliError::server)?;
    write_secret(out, secret.expose())?;
    let text = fields(&[
        ("key file", out.display().to_string()),
        ("verifier key", key.clone()),
    ]);
    Ok(Reply::new(text, json!({"file": out, "key": key})))
}
