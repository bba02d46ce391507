//! The composition root: the only place that knows every product and every
//! backend. It reads the configuration, wires the parts, and starts and stops
//! them in order; it decides nothing by itself.
//!
//! Offline commands live here too, because they open the same files: [`init`],
//! [`renew_credential`], [`check_config`], [`verify`], [`doctor`]; and what others run
//! beside somebody's log: [`watch`], [`witness`] and [`check_proof`].

mod algorithms;
mod config;
mod evidence;
mod init;
mod internal;
mod keeping;
mod lists;
mod platform;
mod reload;
mod root;
mod sandboxes;
mod serve;
mod transparency;

use std::path::Path;

use creto_runtime_gvisor::GvisorConfig;

pub use config::{RuntimeConfig, ServerConfig, ServerConfigError};
pub use creto_audit::{
    Alarm, AlarmKind, CosignatureType, Finding, Looked, Patience, Proven, Trust, VerifyReport,
    WatchError,
};
pub use creto_governor::{
    BundleError, Candidate, CheckedBundle, FailedTestsAnswer, FindingAnswer, PolicyDiff,
    PolicyFiles, TestAnswer, ValidationAnswer,
};
pub use creto_runtime_gvisor::doctor::Check;
pub use evidence::{Verified, verify};
pub use init::{InitError, InitOptions, InitReport, init, renew_credential};
pub use root::{RootRotation, rotate_root};
pub use serve::{Listening, ServeError, serve};
pub use transparency::{
    TransparencyError, WatchOptions, WitnessOptions, check_proof, new_witness_key, opened, watch,
    witness,
};

/// What `creto config check` says about a file that is accepted.
#[derive(Clone, Debug)]
pub struct ConfigReport {
    /// One fact a line.
    pub lines: Vec<String>,
}

/// Reads a configuration and everything it names, and starts nothing.
pub fn check_config(path: &Path) -> Result<ConfigReport, ServerConfigError> {
    let config = ServerConfig::load(path)?;
    let policies = config.policies()?;
    let mut lines = vec![
        format!("listens on {}", config.listen),
        match config.grpc_listen {
            Some(grpc) => format!("answers gRPC on {grpc}"),
            None => "answers no gRPC".to_owned(),
        },
        public_log(&config),
        format!("keeps its data in {}", config.data_dir.display()),
        format!(
            "reads policies from {}, {}",
            config.policy_dir.display(),
            if config.watch_policies {
                "and follows its changes"
            } else {
                "once"
            }
        ),
        format!(
            "serves {} policies; {} tests beside them pass",
            policies.compiled.report().policies.len(),
            policies.tests.cases.len()
        ),
        remembers(&config),
        format!("names agents under spiffe://{}", config.trust_domain),
        format!("counts money in {}", config.prices.currency()),
    ];
    match &config.runtime {
        Some(runtime) => lines.push(format!(
            "runs sandboxes with {} volumes",
            runtime.volumes.len()
        )),
        None => lines.push("runs no sandboxes".to_owned()),
    }
    lines.extend(
        config
            .notes(Some(&policies))
            .into_iter()
            .map(|note| format!("note: {note}")),
    );
    Ok(ConfigReport { lines })
}

/// What this machine has and lacks for running sandboxes, and what to do.
#[must_use]
pub fn doctor(config: Option<&ServerConfig>) -> Vec<Check> {
    let configured = config.and_then(|config| {
        let runtime = config.runtime.as_ref()?;
        Some(sandboxes::backend(runtime, &config.data_dir))
    });
    let backend = configured.unwrap_or_else(|| GvisorConfig::new(std::env::temp_dir()));
    let mut checks = creto_runtime_gvisor::doctor::doctor(&backend);
    checks.extend(config.map(|config| Check {
        name: "decision cache".to_owned(),
        ok: true,
        detail: remembers(config),
        remedy: None,
    }));
    checks
}

/// What strangers see of the logs, in words.
fn public_log(config: &ServerConfig) -> String {
    let witnesses = config.audit.witnesses.len();
    match config.audit.listen {
        None => format!("shows its logs to nobody else; asks {witnesses} witnesses"),
        Some(listen) => format!(
            "shows the logs' {} to everybody on {listen}; asks {witnesses} witnesses",
            if config.audit.entries {
                "hashes and records"
            } else {
                "hashes"
            }
        ),
    }
}

/// The memory of decisions, in words.
fn remembers(config: &ServerConfig) -> String {
    format!(
        "remembers {} decisions in {} KiB, `authz.remembered_verdicts`",
        config.authz.room(),
        config.authz.bytes() / 1_024
    )
}
