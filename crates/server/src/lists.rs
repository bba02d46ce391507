//! `[crypto]` of the configuration, put in force while the server runs.
//!
//! It is read anew when the process is told to (SIGHUP), and nothing else of the file is.
//! What cannot be read, or leaves out what something stored needs, changes nothing. Other
//! lists are in the log of every organization before they are in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::Audit;
use creto_consensus::{OracleError, TimestampOracle};
use creto_crypto::{AllowedAlgorithms, InForce};
use creto_errors::{Class, Classify};
use creto_governor::{ConfiguredAlgorithms, ConfiguredLists, ListsRefusal, ListsReload};
use creto_state_sqlite::Database;
use creto_telemetry::{AlgorithmReload, Metrics};
use creto_types::{Clock, StoreError, Timestamp};
use parking_lot::Mutex;
use tokio::signal::unix::Signal;
use tokio::task::JoinError;

use crate::config::{ServerConfig, ServerConfigError};
use crate::init::instant;

/// Lists were not put in force.
#[derive(Debug, thiserror::Error)]
enum ListsError {
    /// The file.
    #[error(transparent)]
    Config(#[from] ServerConfigError),
    /// What is stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The time of the record.
    #[error(transparent)]
    Oracle(#[from] OracleError),
    /// The thread that read the file did not come back.
    #[error("the configuration could not be read")]
    Unread(#[source] JoinError),
}

impl Classify for ListsError {
    fn class(&self) -> Class {
        match self {
            Self::Config(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Oracle(error) => error.class(),
            Self::Unread(_) => Class::Transient,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Config(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Oracle(error) => error.code(),
            Self::Unread(_) => "server_failed",
        }
    }
}

impl ListsError {
    fn told(&self) -> ListsRefusal {
        ListsRefusal {
            code: self.code().to_owned(),
            why: creto_errors::chain(self),
        }
    }
}

/// The lists that are in force, and the file that says which should be.
pub(crate) struct Lists {
    path: PathBuf,
    database: Arc<Database>,
    in_force: InForce,
    metrics: Arc<Metrics>,
    oracle: Arc<dyn TimestampOracle>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Timestamp,
    reload: Option<ListsReload>,
}

impl Lists {
    /// `in_force` are the lists of the database, as they were read from this file at start.
    pub(crate) fn new(
        path: &Path,
        database: Arc<Database>,
        in_force: InForce,
        metrics: Arc<Metrics>,
        oracle: Arc<dyn TimestampOracle>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let state = State {
            since: clock.now(),
            reload: None,
        };
        Self {
            path: path.to_owned(),
            database,
            in_force,
            metrics,
            oracle,
            clock,
            state: Mutex::new(state),
        }
    }

    /// Reads the file anew whenever the signal comes, for as long as it is polled.
    pub(crate) async fn follow(self: Arc<Self>, mut told: Signal, audit: Arc<Audit>) {
        while told.recv().await.is_some() {
            self.reload(&audit).await;
        }
    }

    async fn reload(&self, audit: &Audit) {
        let outcome = self.put_in_force(audit).await;
        let at = self.clock.now();
        let mut state = self.state.lock();
        let refused = match outcome {
            Ok(changed) => {
                self.metrics.algorithm_reloads.inc(AlgorithmReload::Loaded);
                if changed {
                    state.since = at;
                }
                tracing::info!(changed, "[crypto] of the configuration is in force");
                None
            }
            Err(error) => {
                self.metrics.algorithm_reloads.inc(AlgorithmReload::Refused);
                tracing::error!(
                    code = error.code(),
                    error = creto_errors::chain(&error),
                    "[crypto] of the configuration is refused; what was in force stays so"
                );
                Some(error.told())
            }
        };
        state.reload = Some(ListsReload { at, refused });
    }

    /// Whether that changed anything. Done also when it does not: of an exchange that failed
    /// the records may be in the logs all the same, and these say what holds.
    async fn put_in_force(&self, audit: &Audit) -> Result<bool, ListsError> {
        let lists = self.read().await?;
        let changed = lists != **self.in_force.now();
        let at = instant(&self.oracle).await?;
        let (recorded, outcome) = match self.database.put_in_force(lists, at).await {
            Ok(recorded) => (recorded, Ok(changed)),
            Err(error @ StoreError::Unavailable(_)) => {
                // It may be on record all the same, and is not in force: the logs say so.
                let at = instant(&self.oracle).await?;
                let recorded = self.database.record_in_force(at).await?;
                (recorded, Err(error.into()))
            }
            Err(error) => return Err(error.into()),
        };
        for org in recorded {
            audit.notify(org);
        }
        outcome
    }

    async fn read(&self) -> Result<AllowedAlgorithms, ListsError> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || ServerConfig::load(&path));
        Ok(read.await.map_err(ListsError::Unread)??.algorithms)
    }
}

#[async_trait]
impl ConfiguredAlgorithms for Lists {
    async fn lists(&self) -> ConfiguredLists {
        let configured = self.read().await.map_err(|error| error.told());
        let state = self.state.lock();
        ConfiguredLists {
            in_force: Arc::clone(&self.in_force.now()),
            since: state.since,
            configured,
            reload: state.reload.clone(),
        }
    }
}
