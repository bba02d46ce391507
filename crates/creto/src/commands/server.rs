//! The commands that work without a server, or are it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use creto_server::{Check, InitOptions, InitReport, Listening, ServerConfig, Trust, Verified};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::cli::{ConfigCommand, InitArgs, ServeArgs, VerifyArgs};
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, fields, printable, shown_instant, table};

/// Where the owner's credential lies according to a configuration.
pub(crate) fn owner_credential_path(config: &Path) -> Result<PathBuf, CliError> {
    Ok(load(config)?.owner_credential())
}

/// Where the server listens according to a configuration.
pub(crate) fn listen_address(config: &Path) -> Result<SocketAddr, CliError> {
    Ok(load(config)?.listen)
}

fn load(config: &Path) -> Result<ServerConfig, CliError> {
    ServerConfig::load(config).map_err(CliError::server)
}

/// What this machine lacks for running sandboxes, one line each.
pub(crate) fn missing_for_sandboxes() -> Vec<String> {
    creto_server::doctor(None)
        .into_iter()
        .filter(|check| !check.ok)
        .map(|check| {
            let remedy = check.remedy.unwrap_or_default();
            format!("  {}: {}; {remedy}", check.name, check.detail)
        })
        .collect()
}

pub(crate) fn runtime() -> Result<Runtime, CliError> {
    Runtime::new().map_err(CliError::Runtime)
}

pub(crate) fn serve(context: &Context, args: &ServeArgs) -> Result<Reply, CliError> {
    let config = context.config_path();
    runtime()?
        .block_on(creto_server::serve(
            &config,
            args.accept_clock.map(|until| until.0),
            |Listening { http, grpc, log }| {
                let mut lines = format!("listening on http://{http}\n");
                if let Some(grpc) = grpc {
                    lines.push_str(&format!("answering gRPC on {grpc}\n"));
                }
                if let Some(log) = log {
                    lines.push_str(&format!("showing the logs on http://{log}/log/\n"));
                }
                // Whoever waits for the server may wait for these lines; when nobody
                // reads them, the server serves all the same.
                let _ = crate::output::print(&lines);
            },
        ))
        .map_err(CliError::server)?;
    Ok(Reply::new("", json!({"stopped": true})))
}

pub(crate) fn init(context: &Context, args: InitArgs) -> Result<Reply, CliError> {
    let config_path = context.config_path();
    if args.renew_credential {
        let report = runtime()?
            .block_on(creto_server::renew_credential(&config_path))
            .map_err(CliError::server)?;
        let text = fields(&[
            ("credential", report.credential_path.display().to_string()),
            ("of", report.owner.to_string()),
            ("valid until", shown_instant(report.expires_at)),
        ]);
        return Ok(Reply::new(text, init_json(&report)));
    }
    let base = config_path.parent().unwrap_or_else(|| Path::new(""));
    let data_dir = args.data_dir.unwrap_or_else(|| base.join("data"));
    let report = runtime()?
        .block_on(creto_server::init(InitOptions {
            config_path,
            data_dir,
            org_name: args.org.unwrap_or_default(),
            owner: args.owner,
        }))
        .map_err(CliError::server)?;
    let text = format!(
        "{}\nThe credential is the only one; keep it as you keep a key. Next: creto serve\n",
        fields(&[
            ("organization", report.org.to_string()),
            ("owner", report.owner.to_string()),
            ("configuration", report.config_path.display().to_string()),
            ("policies", report.policy_dir.display().to_string()),
            ("credential", report.credential_path.display().to_string()),
            ("valid until", shown_instant(report.expires_at)),
        ])
    );
    Ok(Reply::new(text, init_json(&report)))
}

fn init_json(report: &InitReport) -> Value {
    json!({
        "org": report.org,
        "owner": report.owner,
        "config": report.config_path,
        "policies": report.policy_dir,
        "credential": report.credential_path,
        "expires_at": report.expires_at,
    })
}

pub(crate) fn config(context: &Context, command: &ConfigCommand) -> Result<Reply, CliError> {
    match command {
        ConfigCommand::Check => {
            let path = context.config_path();
            let report = creto_server::check_config(&path).map_err(CliError::server)?;
            let mut text = format!("{} can be served\n", path.display());
            for line in &report.lines {
                text.push_str(&format!("  {line}\n"));
            }
            Ok(Reply::new(
                text,
                json!({"config": path, "lines": report.lines}),
            ))
        }
    }
}

pub(crate) fn doctor(context: &Context) -> Result<Reply, CliError> {
    let config = match context.config_if_any() {
        Some(path) => Some(load(&path)?),
        None => None,
    };
    let checks: Vec<Check> = creto_server::doctor(config.as_ref());
    let rows: Vec<Vec<String>> = checks
        .iter()
        .map(|check| {
            vec![
                if check.ok { "ok" } else { "MISSING" }.to_owned(),
                check.name.clone(),
                check.detail.clone(),
                check.remedy.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let good = checks.iter().all(|check| check.ok);
    let json: Vec<Value> = checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name,
                "ok": check.ok,
                "detail": check.detail,
                "remedy": check.remedy,
            })
        })
        .collect();
    Ok(Reply {
        good,
        ..Reply::new(
            table(&["", "CHECK", "FOUND", "WHAT TO DO"], &rows),
            json!({ "checks": json }),
        )
    })
}

pub(crate) fn verify(args: &VerifyArgs) -> Result<Reply, CliError> {
    let trust = match &args.keys_digest {
        None => Trust::BundleKeys,
        Some(text) => Trust::Pinned(hex::decode(text).map_err(|_| CliError::KeysDigest)?),
    };
    if !args.bundle.is_dir() {
        return Err(CliError::NoDirectory {
            path: args.bundle.clone(),
        });
    }
    let lists = args.also.lists().map_err(CliError::server)?;
    match creto_server::verify(&args.bundle, &trust, lists) {
        Ok(Verified { report, unchecked }) => {
            let root = hex::encode(report.root);
            let keys_digest = hex::encode(report.keys_digest);
            let trusted = match trust {
                Trust::Pinned(_) => "the keys are the pinned ones",
                Trust::BundleKeys => {
                    "the bundle's own keys were used; pin them with --keys-digest once you \
                     know their digest from another source"
                }
            };
            let mut told = vec![
                ("log", report.origin.to_string()),
                ("leaves", report.leaves.to_string()),
                ("root", root.clone()),
                ("signatures", report.signatures.join(", ")),
                ("keys digest", keys_digest.clone()),
            ];
            let unread = report.unread;
            for (name, count) in [
                ("erased", unread.erased),
                ("expired", unread.expired),
                ("not disclosed", unread.not_disclosed),
                ("not judged", unchecked),
            ] {
                if count > 0 {
                    told.push((name, format!("{count} records")));
                }
            }
            if let Some(filter) = &report.filter {
                let asked: Vec<_> = filter.iter().map(|(k, v)| format!("{k}={v}")).collect();
                told.push(("disclosed", printable(&asked.join(", "))));
            }
            let text = format!(
                "verified: every byte is covered\n{}{trusted}\n",
                fields(&told)
            );
            let json = json!({
                "verified": true,
                "origin": report.origin,
                "size": report.size,
                "leaves": report.leaves,
                "root": root,
                "signatures": report.signatures,
                "keys_digest": keys_digest,
                "unread": {
                    "erased": unread.erased,
                    "expired": unread.expired,
                    "not_disclosed": unread.not_disclosed,
                },
                "unchecked": unchecked,
                "filter": report.filter,
            });
            Ok(Reply::new(text, json))
        }
        Err(findings) => {
            let mut text = "NOT verified\n".to_owned();
            for finding in &findings {
                text.push_str(&printable(&format!(
                    "{}: {}",
                    finding.place, finding.message
                )));
                text.push('\n');
            }
            let json: Vec<Value> = findings
                .iter()
                .map(|finding| json!({"place": finding.place, "message": finding.message}))
                .collect();
            Ok(Reply {
                good: false,
                ..Reply::new(text, json!({"verified": false, "findings": json}))
            })
        }
    }
}
