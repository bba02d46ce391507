//! The configuration file: read strictly, checked whole, before anything is
//! opened. `docs/formats/configuration.md` is its reference.

mod file;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::init::InitError;
use creto_audit::NoteVerifier;
use creto_authz::AuthzConfig;
use creto_config::{
    ConfigError, Integrations, ProcessEnvironment, SecretRef, Unserved, UnservedKind, load_file,
};
use creto_consensus::OracleConfig;
use creto_crypto::{AllowedAlgorithms, HolderAlgorithm, RootKey};
use creto_errors::{Class, Classify};
use creto_governor::{BundleError, CheckedBundle, PolicyFiles, Retention};
use creto_log_http::HttpPrefix;
use creto_metering::{MeterConfig, PriceBook, PriceBookError};
use creto_oversight::OversightConfig;
use creto_runtime::{Limits, Network, NetworkError, SpecError};
use creto_telemetry::{LogFormat, LogFormatError};

use file::File;
pub(crate) use file::invalid;

/// A configuration that this build can serve.
#[derive(Debug)]
pub struct ServerConfig {
    /// Where the API listens; always a loopback address.
    pub listen: SocketAddr,
    /// Where gRPC listens, if it does; always a loopback address.
    pub grpc_listen: Option<SocketAddr>,
    /// Where clients reach it, through proxies in front.
    pub external_urls: Vec<String>,
    /// Where everything durable lies.
    pub data_dir: PathBuf,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which are kept.
    pub log_filter: String,
    /// The SPIFFE trust domain.
    pub trust_domain: String,
    /// The key under which all other keys are stored.
    pub root_key: RootKeyPlace,
    /// Which algorithms are used and read.
    pub algorithms: AllowedAlgorithms,
    /// How long a token is valid when nobody says otherwise.
    pub token_ttl: Duration,
    /// Whether a token of an agent has to be bound to a key (RFC 9449).
    pub require_dpop: bool,
    /// The most delegations of a chain that begins from now on.
    pub max_delegation_depth: u8,
    /// Which steps of the clock are tolerated.
    pub oracle: OracleConfig,
    /// The directory of policies.
    pub policy_dir: PathBuf,
    /// Whether changes of it are put in force while the server runs.
    pub watch_policies: bool,
    /// How many decisions are remembered.
    pub authz: AuthzConfig,
    /// Prices by action.
    pub prices: PriceBook,
    /// Reservations and rates.
    pub metering: MeterConfig,
    /// Requests for a human.
    pub oversight: OversightConfig,
    /// Sandboxes; `None` when switched off.
    pub runtime: Option<RuntimeConfig>,
    /// How long payloads of records are kept.
    pub retention: Retention,
    /// What strangers see of the logs, and who cosigns them.
    pub audit: PublicLog,
    /// How the platform systems are reached; all of them embedded.
    pub integrations: Integrations,
}

/// What of the logs is for everybody.
#[derive(Clone, Debug)]
pub struct PublicLog {
    /// Where public files are served, if they are.
    pub listen: Option<SocketAddr>,
    /// Whether the records are among them, and not only their hashes.
    pub entries: bool,
    /// How many cosignatures the public checkpoint has at least.
    pub quorum: usize,
    /// Who is asked to cosign, by key and address.
    pub witnesses: Vec<(NoteVerifier, HttpPrefix)>,
}

/// How sandboxes run.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// The `runsc` program; found on the path when absent.
    pub runsc: Option<PathBuf>,
    /// Directories that sandboxes may mount, by name.
    pub volumes: BTreeMap<String, PathBuf>,
    /// The most a sandbox may use.
    pub limits: Limits,
    /// The name server for allowed names; the system's when absent.
    pub nameserver: Option<SocketAddr>,
    /// Networks besides the public ones that allowed names may lead to.
    pub allow_networks: Vec<Network>,
    /// Whether connections count as actions do.
    pub egress_counted: bool,
}

/// A configuration was not accepted; nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ServerConfigError {
    /// The file cannot be read, or says something it must not.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The file asks for what this build cannot do.
    #[error("the file is valid, but this build cannot serve what it asks for:\n  {}", list(.0))]
    Unserved(Vec<Unserved>),
    /// The address is not loopback.
    #[error(
        "`{key}` is {listen}: only loopback addresses are served; \
         put a proxy that terminates TLS in front to reach it from elsewhere"
    )]
    NotLoopback {
        /// Which address.
        key: &'static str,
        /// What the file says.
        listen: SocketAddr,
    },
    /// A value cannot be used.
    #[error("`{key}` {why}")]
    Invalid {
        /// Its full name.
        key: String,
        /// What is expected.
        why: String,
    },
    /// The log format is unknown.
    #[error("`server.log_format`: {0}")]
    LogFormat(#[from] LogFormatError),
    /// The policies are not valid, or a test beside them fails.
    #[error(transparent)]
    Policies(#[from] BundleError),
    /// The prices are not valid.
    #[error(transparent)]
    Prices(#[from] PriceBookError),
    /// A network is not written as one.
    #[error("`runtime.egress.allow_networks`: {0}")]
    Network(#[from] NetworkError),
    /// The limits are not valid.
    #[error("`runtime`: {0}")]
    Limits(#[from] SpecError),
}

impl Classify for ServerConfigError {
    fn class(&self) -> Class {
        match self {
            Self::File(error) => error.class(),
            Self::Policies(error) => error.class(),
            Self::Prices(error) => error.class(),
            Self::LogFormat(error) => error.class(),
            Self::Limits(error) => error.class(),
            Self::Network(error) => error.class(),
            Self::Unserved(_) | Self::NotLoopback { .. } | Self::Invalid { .. } => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::File(error) => error.code(),
            Self::Policies(error) => error.code(),
            Self::Prices(error) => error.code(),
            Self::LogFormat(error) => error.code(),
            Self::Limits(error) => error.code(),
            Self::Network(error) => error.code(),
            Self::Unserved(_) => "config_unserved",
            Self::NotLoopback { .. } => "listen_not_loopback",
            Self::Invalid { .. } => "config_value",
        }
    }
}

fn list(unserved: &[Unserved]) -> String {
    let lines: Vec<String> = unserved.iter().map(describe).collect();
    lines.join("\n  ")
}

fn describe(unserved: &Unserved) -> String {
    format!(
        "{} = {}: {}; instead: {}",
        unserved.key, unserved.value, unserved.why, unserved.instead
    )
}

/// Where the root key comes from.
#[derive(Clone, Debug)]
pub enum RootKeyPlace {
    /// A file that its owner alone can access.
    File(PathBuf),
    /// The environment, or another file.
    Reference(SecretRef),
}

impl RootKeyPlace {
    /// The root key.
    pub(crate) fn load(&self) -> Result<RootKey, InitError> {
        match self {
            Self::File(path) => Ok(RootKey::load(path)?),
            Self::Reference(reference) => {
                let secret = reference.resolve().map_err(InitError::RootKeyReference)?;
                Ok(RootKey::from_hex(secret.expose())?)
            }
        }
    }
}

impl ServerConfig {
    /// Reads and checks a file. Relative paths start at the file's directory.
    /// What lies in the directory of policies is for [`ServerConfig::policies`]:
    /// it changes while a server runs, and no other command depends on it.
    pub fn load(path: &Path) -> Result<Self, ServerConfigError> {
        let file: File = load_file(path, &ProcessEnvironment)?;
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        file.validate(base)
    }

    /// The policies of the directory, compiled, validated and tested.
    pub fn policies(&self) -> Result<CheckedBundle, BundleError> {
        CheckedBundle::check(PolicyFiles::from_dir(&self.policy_dir)?)
    }

    /// Remarks about settings that have no effect here, and about policies that are
    /// valid but look wrong.
    #[must_use]
    pub fn notes(&self, policies: Option<&CheckedBundle>) -> Vec<String> {
        let unserved = self.integrations.unserved().iter();
        let settings = unserved
            .filter(|item| item.kind == UnservedKind::Note)
            .map(|item| {
                format!(
                    "{} = {}: {}; {}",
                    item.key, item.value, item.why, item.instead
                )
            });
        let policies = policies
            .into_iter()
            .flat_map(|policies| &policies.compiled.report().warnings);
        let proofs = self.algorithms.holder.check(HolderAlgorithm::Ed25519);
        let proofs = proofs.is_err().then(|| {
            "crypto.dpop.accepted: is without Ed25519, by which `creto` makes its proofs; whoever \
             uses it with a token that is bound to a key is refused"
                .to_owned()
        });
        settings
            .chain(proofs)
            .chain(policies.map(|finding| format!("policy {finding}")))
            .collect()
    }

    /// The SQLite file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("creto.db")
    }

    /// The owner's credential as `creto init` writes it.
    #[must_use]
    pub fn owner_credential(&self) -> PathBuf {
        self.data_dir.join("owner.credential")
    }
}
