//! Where the server is, and who calls it.

use std::path::{Path, PathBuf};

use creto_client::{Client, ProofKey, ServerAddress, read_credential};
use creto_types::{Clock, SystemClock, Timestamp};

use crate::cli::Global;
use crate::commands::server;
use crate::error::CliError;

/// The configuration that is used when none is named.
const DEFAULT_CONFIG: &str = "creto.toml";

/// What every command shares.
pub(crate) struct Context {
    pub(crate) json: bool,
    config: Option<PathBuf>,
    server: Option<String>,
    credential: Option<PathBuf>,
    dpop_key: Option<PathBuf>,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        Self {
            json: global.json,
            config: global.config,
            server: global.server,
            credential: global.credential,
            dpop_key: global.dpop_key,
        }
    }

    /// The configuration file, whether it exists or not.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.config
            .clone()
            .unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG))
    }

    /// The configuration file if it was named or exists.
    pub(crate) fn config_if_any(&self) -> Option<PathBuf> {
        self.config
            .clone()
            .or_else(|| Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| path.exists()))
    }

    /// A client that calls as whoever the credential says.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        let path = match &self.credential {
            Some(path) => path.clone(),
            None => server::owner_credential_path(&self.existing_config()?)?,
        };
        if !path.exists() {
            return Err(CliError::NoCredential { path });
        }
        let client = Client::new(self.address()?).with_credential(read_credential(&path)?)?;
        Ok(match &self.dpop_key {
            Some(path) => client.with_proof_key(ProofKey::from_file(path)?),
            None => client,
        })
    }

    fn address(&self) -> Result<ServerAddress, CliError> {
        match &self.server {
            Some(text) => Ok(text.parse()?),
            None => Ok(ServerAddress::new(server::listen_address(
                &self.existing_config()?,
            )?)?),
        }
    }

    fn existing_config(&self) -> Result<PathBuf, CliError> {
        let path = self.config_path();
        if path.exists() {
            Ok(path)
        } else {
            Err(CliError::NoConfig { path })
        }
    }
}

/// What time it is.
pub(crate) fn now() -> Timestamp {
    SystemClock::new().now()
}

/// An error about this file.
pub(crate) fn file_error(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> CliError {
    let path = path.to_owned();
    move |source| CliError::File { what, path, source }
}
