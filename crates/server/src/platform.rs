//! What both the server and the offline commands stand on: the database, the
//! keys, identities and time.

use std::sync::Arc;

use creto_audit::{AuditError, LogKeySource, LogKeys, Sealer};
use creto_consensus::{LocalOracle, TimestampOracle};
use creto_crypto::{AwsLcProvider, CryptoError, CryptoProvider, InForce, LocalKeystore};
use creto_nhi::{KeyPurpose, Nhi, NhiConfig, NhiError};
use creto_state_sqlite::{Database, SqliteNhi, SqliteWindow};
use creto_types::{Clock, IdSource, OrgId, Randomness, SystemClock, SystemIds, SystemRandom};

use crate::config::{RootKeyPlace, ServerConfig};
use crate::init::{InitError, OWNER_CREDENTIAL_TTL};
use crate::root::next_of;

/// The deepest delegation chain.
const MAX_CHAIN: u8 = 8;

pub(crate) struct Platform {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Randomness>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) database: Arc<Database>,
    pub(crate) nhi: Arc<Nhi>,
    pub(crate) oracle: Arc<dyn TimestampOracle>,
    /// What all of these ask which algorithms they may use.
    pub(crate) algorithms: InForce,
}

pub(crate) fn provider() -> Arc<dyn CryptoProvider> {
    Arc::new(AwsLcProvider::new(Arc::new(SystemRandom)))
}

impl Platform {
    pub(crate) async fn open(config: &ServerConfig) -> Result<Self, InitError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let random: Arc<dyn Randomness> = Arc::new(SystemRandom);
        let ids: Arc<dyn IdSource> =
            Arc::new(SystemIds::new(Arc::clone(&clock), Arc::clone(&random)));
        let provider = provider();
        let root = config.root_key.load()?;
        let keystore = Arc::new(LocalKeystore::new(root, Arc::clone(&provider)));
        let algorithms = InForce::new(config.algorithms.clone());
        let sealer = Sealer::new(keystore.clone(), Arc::clone(&provider), algorithms.clone());
        let database = Database::open_with(&config.database(), sealer)?;
        // Before anything is read or made by them.
        database.reads_what_is_stored().await?;
        let nhi = Nhi::open(
            Arc::new(SqliteNhi::new(Arc::clone(&database))),
            provider,
            keystore,
            Arc::clone(&ids),
            Arc::clone(&clock),
            NhiConfig {
                trust_domain: config.trust_domain.clone(),
                token_ttl: config.token_ttl,
                max_token_ttl: OWNER_CREDENTIAL_TTL.max(config.token_ttl),
                max_depth: MAX_CHAIN,
                algorithms: algorithms.clone(),
                require_proof: config.require_dpop,
            },
        )
        .await
        .map_err(|error| unfinished(config, error))?;
        let oracle = LocalOracle::open(
            Arc::new(SqliteWindow::new(Arc::clone(&database))),
            Arc::clone(&clock),
            config.oracle.clone(),
        )
        .await?;
        Ok(Self {
            clock,
            random,
            ids,
            database,
            nhi,
            oracle: Arc::new(oracle),
            algorithms,
        })
    }
}

/// A key that does not open, beside the file of another one: that is the right one.
fn unfinished(config: &ServerConfig, error: NhiError) -> InitError {
    match (&error, &config.root_key) {
        (
            NhiError::Crypto {
                source: CryptoError::OpenFailed,
                ..
            },
            RootKeyPlace::File(path),
        ) if next_of(path).exists() => InitError::RootKeyUnfinished,
        _ => error.into(),
    }
}

/// The log's keys come from the identity system.
pub(crate) struct NhiLogKeys(pub(crate) Arc<Nhi>);

impl LogKeySource for NhiLogKeys {
    fn keys(&self, org: OrgId) -> Result<LogKeys, AuditError> {
        let signer = |purpose| {
            self.0
                .signer(org, purpose)
                .map_err(|error| AuditError::Keys {
                    org,
                    source: Box::new(error),
                })
        };
        Ok(LogKeys {
            ed25519: signer(KeyPurpose::LogEd25519)?,
            composite: signer(KeyPurpose::LogComposite)?,
            evidence: signer(KeyPurpose::Evidence)?,
        })
    }
}
