//! What both the server and the offline commands stand on: the database, the
//! keys, identities and time.
//!
//! Before anything of it is opened, the clock is held against what was recorded last.

use std::collections::HashMap;
use std::sync::Arc;

use creto_audit::{AuditError, FormerLogKeys, LogKeySource, LogKeys, Sealer};
use creto_consensus::{HybridTimestamp, LocalOracle, OracleError, TimestampOracle};
use creto_crypto::{
    AwsLcProvider, CryptoError, CryptoProvider, InForce, Keystore, LocalKeystore, RootKey,
};
use creto_governor::SubjectStore as _;
use creto_nhi::{Nhi, NhiConfig, NhiError};
use creto_state_sqlite::{Database, SqliteNhi, SqliteSubjects, SqliteWindow};
use creto_types::{
    Clock, Commit, Evidence, IdSource, OrgId, Randomness, StoreError, SystemClock, SystemIds,
    SystemRandom, Timestamp,
};
use serde_json::json;

use crate::config::{RootKeyPlace, ServerConfig};
use crate::init::{InitError, OWNER_CREDENTIAL_TTL, instant, owner_of};
use crate::root::next_of;

pub(crate) struct Platform {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Randomness>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) database: Arc<Database>,
    pub(crate) nhi: Arc<Nhi>,
    pub(crate) oracle: Arc<dyn TimestampOracle>,
    /// What all of these ask which algorithms they may use.
    pub(crate) algorithms: InForce,
    /// The clock that was accepted for this opening, if one had to be.
    pub(crate) accepted: Option<Accepted>,
}

/// A clock that the operator vouched for.
pub(crate) struct Accepted {
    /// The instant below which everything was recorded before.
    pub(crate) newest: Timestamp,
    /// What the clock said.
    pub(crate) clock: Timestamp,
    /// The newest record of each organization, from before this one was made.
    pub(crate) records: HashMap<OrgId, Timestamp>,
}

/// Refuses a clock that is further ahead of what was recorded last than nothing can have
/// run, and changes nothing. Gives the instant that it is ahead of when it says no more than
/// `until`.
pub(crate) fn look_at_clock(
    config: &ServerConfig,
    now: Timestamp,
    until: Option<Timestamp>,
) -> Result<Option<Timestamp>, InitError> {
    let bound = Database::timestamp_bound(&config.database())?;
    match config.oracle.believes(bound, now) {
        Ok(()) => Ok(None),
        Err(OracleError::ClockAhead { newest, .. }) if until.is_some_and(|until| now <= until) => {
            Ok(Some(newest))
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn provider() -> Arc<dyn CryptoProvider> {
    Arc::new(AwsLcProvider::new(Arc::new(SystemRandom)))
}

/// Who keeps a root key that is in a file or behind a reference.
pub(crate) fn keystore(root: RootKey) -> Arc<dyn Keystore> {
    Arc::new(LocalKeystore::new(root, provider()))
}

impl Platform {
    pub(crate) async fn open(config: &ServerConfig) -> Result<Self, InitError> {
        Self::open_until(config, None).await
    }

    /// Opens it also by a clock that is further ahead of what was recorded last than is
    /// believed, when it says no more than `until`; that is recorded.
    pub(crate) async fn open_until(
        config: &ServerConfig,
        until: Option<Timestamp>,
    ) -> Result<Self, InitError> {
        Self::open_with(config, || Ok(keystore(config.root_key.load()?)), until).await
    }

    /// The same, where this keeps the root key. It is asked for once the clock is believed.
    pub(crate) async fn open_with(
        config: &ServerConfig,
        keystore: impl FnOnce() -> Result<Arc<dyn Keystore>, InitError>,
        until: Option<Timestamp>,
    ) -> Result<Self, InitError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let now = clock.now();
        let ahead_of = look_at_clock(config, now, until)?;
        let random: Arc<dyn Randomness> = Arc::new(SystemRandom);
        let ids: Arc<dyn IdSource> =
            Arc::new(SystemIds::new(Arc::clone(&clock), Arc::clone(&random)));
        let provider = provider();
        let keystore = keystore()?;
        let algorithms = InForce::new(config.algorithms.clone());
        let sealer = Sealer::new(
            Arc::clone(&keystore),
            Arc::clone(&provider),
            algorithms.clone(),
        );
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
                max_depth: config.max_delegation_depth,
                algorithms: algorithms.clone(),
                require_proof: config.require_dpop,
            },
        )
        .await
        .map_err(|error| unfinished(config, error))?;
        let accepted = match ahead_of.zip(until) {
            Some((newest, until)) => {
                Some(accept(config, &database, &nhi, now, newest, until).await?)
            }
            None => None,
        };
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
            accepted,
            algorithms,
        })
    }

    /// Puts the lists that are in force on record where the log says others. Before anything is
    /// made by them but the record of a clock that was accepted. Gives the organizations whose log has a new record.
    pub(crate) async fn record_algorithms(&self) -> Result<Vec<OrgId>, InitError> {
        let at = instant(&self.oracle).await?;
        Ok(self.database.record_in_force(at).await?)
    }
}

/// Records of every organization that the clock was accepted, and lets time go on from
/// there, in one transaction: there is no timestamp by a clock that nobody is on record for.
async fn accept(
    config: &ServerConfig,
    database: &Arc<Database>,
    nhi: &Nhi,
    now: Timestamp,
    newest: Timestamp,
    until: Timestamp,
) -> Result<Accepted, InitError> {
    let subjects = SqliteSubjects::new(Arc::clone(database));
    let at_ms = creto_types::unix_millis(now);
    let mut records = HashMap::new();
    let mut commits = Vec::new();
    for (organization, count) in nhi.organizations().into_iter().zip(0..) {
        let org = organization.id;
        if let Some(record) = subjects.newest(org).await? {
            records.insert(org, record);
        }
        let at = HybridTimestamp::from_parts(at_ms, count).ok_or(OracleError::ClockOutOfRange)?;
        commits.push(Commit::of(Evidence {
            org,
            kind: "clock.accepted".to_owned(),
            at: at.to_instant(),
            actor: owner_of(nhi, org).ok_or(StoreError::NotFound { what: "owner" })?,
            action_id: None,
            body: json!({
                "newest": newest,
                "clock": now,
                "until": until,
                "max_downtime_seconds": config.oracle.max_downtime.as_secs(),
            }),
        }));
    }
    let window = u64::try_from(config.oracle.window.as_millis()).unwrap_or(u64::MAX);
    SqliteWindow::new(Arc::clone(database))
        .raise_with(at_ms.saturating_add(window), commits)
        .await?;
    Ok(Accepted {
        newest,
        clock: now,
        records,
    })
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
        let signers = self.0.log_signers(org).map_err(|error| AuditError::Keys {
            org,
            source: Box::new(error),
        })?;
        Ok(LogKeys {
            ed25519: signers.ed25519,
            composite: signers.composite,
            evidence: signers.evidence,
            former: signers
                .former
                .map(|(ed25519, composite)| FormerLogKeys { ed25519, composite }),
        })
    }
}
