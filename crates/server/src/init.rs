//! Making an organization, offline: keys, owner, policies, configuration.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use creto_config::SecretError;
use creto_consensus::{OracleError, TimestampOracle, TimestampOracleExt as _};
use creto_crypto::{CryptoError, RootKey, RootKeyError};
use creto_errors::{Class, Classify};
use creto_governor::{CommitStore as _, OrganizationCreated, PolicyFiles};
use creto_nhi::{Nhi, NhiError};
use creto_state_sqlite::SqliteGovernor;
use creto_types::{Commit, Evidence, OrgId, PrincipalName, StoreError, Timestamp, is_disk_full};
use serde_json::json;

use crate::config::{RootKeyPlace, ServerConfig, ServerConfigError};
use crate::platform::Platform;

/// How long the owner's credential is valid: 90 days, or until `creto init
/// --renew-credential` writes another.
pub(crate) const OWNER_CREDENTIAL_TTL: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What to make, and where.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The configuration file to write.
    pub config_path: PathBuf,
    /// The data directory to make.
    pub data_dir: PathBuf,
    /// The organization's name, for people.
    pub org_name: String,
    /// Its human owner.
    pub owner: PrincipalName,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct InitReport {
    /// The organization.
    pub org: OrgId,
    /// Its owner.
    pub owner: PrincipalName,
    /// The owner's credential, readable by its user alone.
    pub credential_path: PathBuf,
    /// The configuration.
    pub config_path: PathBuf,
    /// The policies, to be edited.
    pub policy_dir: PathBuf,
    /// Until when the credential is valid.
    pub expires_at: Timestamp,
    /// When every earlier credential of the owner was superseded; `None` when
    /// there was none.
    pub superseded_at: Option<Timestamp>,
}

/// Nothing usable was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is something already.
    #[error(
        "{path} exists already; `creto init` never overwrites. \
         Choose another place, or remove it if you mean to start anew"
    )]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written, for there is no room.
    #[error("the disk is full: cannot write {path}")]
    DiskFull {
        /// Which.
        path: PathBuf,
        /// In the system's words.
        #[source]
        source: io::Error,
    },
    /// Several organizations, so none is meant.
    #[error("the data directory holds {count} organizations; exactly one is expected")]
    Organizations {
        /// How many.
        count: usize,
    },
    /// The root key.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The reference to the root key leads nowhere.
    #[error("the root key that `identity.root_key` names cannot be had")]
    RootKeyReference(#[source] SecretError),
    /// The root key is not in a file, so that no other can be written in its place.
    #[error(
        "the root key comes from `identity.root_key`: put the new one in a variable of the \
         environment, and name it with --new-key-env"
    )]
    RootKeyElsewhere,
    /// The root key is in a file, whose place the new one takes.
    #[error("the root key is in a file; the new one is made beside it, without --new-key-env")]
    RootKeyInFile,
    /// A change of the root key was interrupted after everything was under the new one.
    #[error("a change of the root key was interrupted; run `creto crypto rotate-root` to end it")]
    RootKeyUnfinished,
    /// Keys cannot be wrapped.
    #[error("the wrapping keys cannot be moved to another root key")]
    Crypto(#[source] CryptoError),
    /// The written configuration does not load.
    #[error(transparent)]
    Config(#[from] ServerConfigError),
    /// Keys and principals.
    #[error(transparent)]
    Nhi(#[from] NhiError),
    /// Time.
    #[error(transparent)]
    Oracle(#[from] OracleError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that cannot be encoded.
    #[error("a record cannot be encoded")]
    Encoding(#[from] serde_json::Error),
}

impl Classify for InitError {
    fn class(&self) -> Class {
        match self {
            Self::Exists { .. } | Self::Organizations { .. } | Self::Encoding(_) => {
                Class::Permanent
            }
            Self::Write { .. } | Self::DiskFull { .. } => Class::Transient,
            Self::RootKeyElsewhere | Self::RootKeyInFile | Self::RootKeyUnfinished => {
                Class::Permanent
            }
            Self::RootKeyReference(error) => error.class(),
            Self::Crypto(error) => error.class(),
            Self::RootKey(error) => error.class(),
            Self::Config(error) => error.class(),
            Self::Nhi(error) => error.class(),
            Self::Oracle(error) => error.class(),
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "already_initialized",
            Self::Write { .. } => "init_write_failed",
            Self::DiskFull { .. } => "storage_full",
            Self::Organizations { .. } => "organization_ambiguous",
            Self::Encoding(_) => "encoding_failed",
            Self::RootKeyElsewhere | Self::RootKeyInFile => "root_key_elsewhere",
            Self::RootKeyUnfinished => "root_key_unfinished",
            Self::RootKeyReference(error) => error.code(),
            Self::Crypto(error) => error.code(),
            Self::RootKey(error) => error.code(),
            Self::Config(error) => error.code(),
            Self::Nhi(error) => error.code(),
            Self::Oracle(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}

/// Makes an organization with its keys, its owner and the owner's credential,
/// and writes a configuration and the starter policies beside them.
///
/// On an error everything that was made is gone again, but for directories above it. The configuration is written first
/// and the credential last: a run that was interrupted leaves no credential, and the next
/// one says what to remove.
pub async fn init(options: InitOptions) -> Result<InitReport, InitError> {
    let mut made = Made::default();
    let done = found(options, &mut made).await;
    if done.is_err() {
        made.remove();
    }
    done
}

/// What was not there before, in the order in which it was made.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// A directory that nobody else has made: one run alone removes it.
    fn directory(&mut self, path: &Path, mode: u32) -> Result<(), InitError> {
        if let Some(above) = path.parent() {
            make_dir(above, 0o755)?;
        }
        let made = fs::DirBuilder::new().mode(mode).create(path);
        made.map_err(write_failed(path))?;
        self.0.push(path.to_owned());
        Ok(())
    }

    /// Removes it. What cannot be removed, the next run names.
    fn remove(self) {
        for path in self.0.into_iter().rev() {
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            if let Err(error) = removed {
                tracing::warn!(
                    path = %path.display(),
                    error = &error as &dyn std::error::Error,
                    "what was made could not be removed"
                );
            }
        }
    }
}

async fn found(options: InitOptions, made: &mut Made) -> Result<InitReport, InitError> {
    let config_dir = options
        .config_path
        .parent()
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let policy_dir = config_dir.join("policies");
    for path in [&options.config_path, &options.data_dir] {
        if path.exists() {
            return Err(InitError::Exists { path: path.clone() });
        }
    }
    // Before the other one, which may be the same or lie in it.
    made.directory(&options.data_dir, 0o700)?;
    make_dir(config_dir, 0o755)?;
    let data_dir = options
        .data_dir
        .canonicalize()
        .map_err(write_failed(&options.data_dir))?;
    write_new(
        &options.config_path,
        config_text(&data_dir).as_bytes(),
        0o644,
    )?;
    made.0.push(options.config_path.clone());
    // The operator's own are checked when the configuration loads.
    if !policy_dir.exists() {
        made.directory(&policy_dir, 0o755)?;
        for (name, text) in PolicyFiles::starter().files() {
            write_new(&policy_dir.join(name), text.as_bytes(), 0o644)?;
        }
    }
    let config = ServerConfig::load(&options.config_path)?;
    config.policies().map_err(ServerConfigError::from)?;
    let provider = crate::platform::provider();
    let RootKeyPlace::File(root_key) = &config.root_key else {
        return Err(InitError::RootKeyElsewhere);
    };
    RootKey::create_new(root_key, provider.as_ref())?;

    let platform = Platform::open(&config).await?;
    let draft = platform
        .nhi
        .draft_organization(&options.org_name, options.owner.clone())?;
    let org = draft.organization().id;
    let body = OrganizationCreated {
        organization: draft.organization().clone(),
        owner: draft.owner().clone(),
    };
    let evidence = Evidence {
        org,
        kind: "organization.created".to_owned(),
        at: instant(&platform.oracle).await?,
        actor: options.owner.clone(),
        action_id: None,
        body: serde_json::to_value(&body)?,
    };
    platform
        .nhi
        .commit_organization(draft, Commit::of(evidence))
        .await?;
    let expires_at = write_credential(&platform, &config, org, &options.owner).await?;
    Ok(InitReport {
        org,
        owner: options.owner,
        credential_path: config.owner_credential(),
        config_path: options.config_path,
        policy_dir,
        expires_at,
        superseded_at: None,
    })
}

/// Supersedes every credential of the owner of the data directory and writes a new
/// one, whoever holds the root key being its owner. The server must not be running.
///
/// The old ones end first: a run that was interrupted leaves the owner without a
/// credential that works, and the next one makes it.
pub async fn renew_credential(config_path: &Path) -> Result<InitReport, InitError> {
    let config = ServerConfig::load(config_path)?;
    let platform = Platform::open(&config).await?;
    platform.record_algorithms().await?;
    let organizations = platform.nhi.organizations();
    let [organization] = organizations.as_slice() else {
        return Err(InitError::Organizations {
            count: organizations.len(),
        });
    };
    let org = organization.id;
    let owner = owner_of(&platform.nhi, org).ok_or(StoreError::NotFound { what: "owner" })?;
    let superseded_at = supersede_credentials(&platform, org, &owner).await?;
    let expires_at = write_credential(&platform, &config, org, &owner).await?;
    Ok(InitReport {
        org,
        owner,
        credential_path: config.owner_credential(),
        config_path: config_path.to_owned(),
        policy_dir: config.policy_dir.clone(),
        expires_at,
        superseded_at: Some(superseded_at),
    })
}

async fn supersede_credentials(
    platform: &Platform,
    org: OrgId,
    owner: &PrincipalName,
) -> Result<Timestamp, InitError> {
    let at = instant(&platform.oracle).await?;
    let evidence = Evidence {
        org,
        kind: "credentials.superseded".to_owned(),
        at,
        actor: owner.clone(),
        action_id: None,
        body: json!({ "principal": owner }),
    };
    platform
        .nhi
        .supersede_credentials(org, owner, at, Commit::of(evidence))
        .await?;
    Ok(at)
}

async fn write_credential(
    platform: &Platform,
    config: &ServerConfig,
    org: OrgId,
    owner: &PrincipalName,
) -> Result<Timestamp, InitError> {
    let identity = platform.nhi.identity_for_human(org, owner)?;
    let issued = platform
        .nhi
        .issue_token(&identity, Some(OWNER_CREDENTIAL_TTL))?;
    let evidence = Evidence {
        org,
        kind: "token.issued".to_owned(),
        at: instant(&platform.oracle).await?,
        actor: owner.clone(),
        action_id: None,
        body: json!({
            "token_id": issued.id,
            "principal": owner,
            "delegation": null,
            "expires_at": issued.expires_at,
        }),
    };
    SqliteGovernor::new(Arc::clone(&platform.database))
        .commit(Commit::of(evidence))
        .await?;
    let path = config.owner_credential();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(write_failed(&path)(error));
        }
        _ => {}
    }
    write_new(&path, format!("{}\n", issued.token).as_bytes(), 0o600)?;
    Ok(issued.expires_at)
}

pub(crate) async fn instant(oracle: &Arc<dyn TimestampOracle>) -> Result<Timestamp, OracleError> {
    Ok(oracle.next().await?.to_instant())
}

pub(crate) fn owner_of(nhi: &Nhi, org: OrgId) -> Option<PrincipalName> {
    nhi.owner(org).ok()
}

fn config_text(data_dir: &Path) -> String {
    format!(
        "# Creto's configuration; docs/formats/configuration.md describes every key.\n\
         \n\
         [server]\n\
         listen = \"127.0.0.1:7180\"\n\
         data_dir = {}\n\
         \n\
         [authz]\n\
         policy_dir = \"policies\"\n\
         \n\
         [metering]\n\
         currency = \"USD\"\n\
         \n\
         # The price of one unit of an action; what is not listed is free.\n\
         [metering.prices]\n\
         \"history.read\" = \"0.01\"\n\
         \"changelog.draft\" = \"0.05\"\n\
         \"release.publish\" = \"0.25\"\n",
        toml_string(data_dir)
    )
}

/// A TOML basic string (TOML 1.0, "String").
fn toml_string(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy().into_owned()).to_string()
}

fn make_dir(path: &Path, mode: u32) -> Result<(), InitError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(write_failed(path))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), InitError> {
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half of it would stand in the way of the next run.
            let _ = fs::remove_file(path);
        }
        written
    };
    write().map_err(write_failed(path))
}

fn write_failed(path: &Path) -> impl FnOnce(io::Error) -> InitError {
    let path = path.to_owned();
    |source| match source.kind() {
        io::ErrorKind::AlreadyExists => InitError::Exists { path },
        _ if is_disk_full(&source) => InitError::DiskFull { path, source },
        _ => InitError::Write { path, source },
    }
}
