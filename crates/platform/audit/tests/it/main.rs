//! The audit log from outside, over stores that can be made to fail and lie.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod bad_lines;
mod bundle;
mod consistency;
mod contracts;
mod cosigners;
mod exports;
mod log;
mod monitors;
mod narrowed;
mod others;
mod proofs;
mod reading;
mod rekeyed_readers;
mod rekeys;
mod search;
mod second_line;
mod trace;
mod watches;
mod witnesses;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use creto_audit::conformance::record;
use creto_audit::memory::{MemoryJournal, MemoryTiles};
use creto_audit::{
    Audit, AuditConfig, AuditError, FormerLogKeys, Journal, LogKeySource, LogKeys, RecordClass,
};
use creto_crypto::{AwsLcProvider, CryptoProvider, LocalSigner, SignatureAlgorithm, Signer};
use creto_types::{ManualClock, OrgId, SeededRandom, Timestamp};
use parking_lot::Mutex;

/// Keys made on first use and kept until they are replaced.
pub(crate) struct Keys {
    provider: Arc<AwsLcProvider>,
    made: Mutex<HashMap<OrgId, LogKeys>>,
    /// Of new keys, but the Ed25519 one.
    algorithm: Mutex<SignatureAlgorithm>,
    away: AtomicBool,
}

impl Keys {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            provider: Arc::new(AwsLcProvider::new(Arc::new(SeededRandom::new(seed)))),
            made: Mutex::default(),
            algorithm: Mutex::new(SignatureAlgorithm::MlDsa65Ed25519),
            away: AtomicBool::new(false),
        })
    }

    fn signer(&self, algorithm: SignatureAlgorithm) -> Arc<dyn Signer> {
        let key = self.provider.generate_signing_key(algorithm).unwrap();
        Arc::new(LocalSigner::new(key, self.provider.clone()))
    }

    /// New keys are of this algorithm, but the Ed25519 one.
    pub(crate) fn make_by(&self, algorithm: SignatureAlgorithm) {
        *self.algorithm.lock() = algorithm;
    }

    fn make(&self) -> LogKeys {
        let algorithm = *self.algorithm.lock();
        LogKeys {
            ed25519: self.signer(SignatureAlgorithm::Ed25519),
            composite: self.signer(algorithm),
            evidence: self.signer(algorithm),
            former: None,
        }
    }

    /// Puts new keys in force; the pair that was is the former one.
    pub(crate) fn replace(&self, org: OrgId) {
        let new = self.make();
        let old = self.keys(org).unwrap();
        self.set(
            org,
            LogKeys {
                former: Some(FormerLogKeys {
                    ed25519: old.ed25519,
                    composite: old.composite,
                }),
                ..new
            },
        );
    }

    /// The former pair signs no more.
    pub(crate) fn retire(&self, org: OrgId) {
        let keys = self.keys(org).unwrap();
        self.set(
            org,
            LogKeys {
                former: None,
                ..keys
            },
        );
    }

    pub(crate) fn set(&self, org: OrgId, keys: LogKeys) {
        self.made.lock().insert(org, keys);
    }

    pub(crate) fn be_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }
}

impl LogKeySource for Keys {
    fn keys(&self, org: OrgId) -> Result<LogKeys, AuditError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(AuditError::Keys {
                org,
                source: "they are away".into(),
            });
        }
        let mut made = self.made.lock();
        let keys = made.entry(org).or_insert_with(|| self.make());
        Ok(keys.clone())
    }
}

/// What outlives a process, and the process.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) journal: Arc<MemoryJournal>,
    pub(crate) tiles: Arc<MemoryTiles>,
    pub(crate) keys: Arc<Keys>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            journal: Arc::new(MemoryJournal::new()),
            tiles: Arc::new(MemoryTiles::new()),
            keys: Keys::new(7),
        }
    }

    pub(crate) async fn open(&self) -> Result<Arc<Audit>, AuditError> {
        self.open_over(self.journal.clone(), config()).await
    }

    pub(crate) async fn open_over(
        &self,
        journal: Arc<dyn Journal>,
        config: AuditConfig,
    ) -> Result<Arc<Audit>, AuditError> {
        let clock = ManualClock::new(Timestamp::from_second(1_700_000_000).unwrap());
        Audit::open(
            journal,
            self.tiles.clone(),
            self.keys.clone(),
            Arc::new(clock),
            config,
        )
        .await
    }

    /// Commits evidence as a state store's transaction would.
    pub(crate) async fn commit(&self, org: OrgId, count: u64) {
        let size = self.journal.size(org).await.unwrap();
        let records = (size..size + count).map(|n| record(org, n)).collect();
        self.journal
            .append(RecordClass::Evidence, records)
            .await
            .unwrap();
    }
}

pub(crate) fn config() -> AuditConfig {
    AuditConfig {
        origin_prefix: "creto.example/log".to_owned(),
        batch_size: 4,
        flush_interval: Duration::from_millis(5),
    }
}
