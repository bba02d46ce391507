//! The timestamp oracle over restarts, kills, clock steps and crowds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod frozen;
mod oracle;
mod properties;
mod timestamp;

use std::sync::Arc;
use std::time::Duration;

use creto_consensus::memory::MemoryWindow;
use creto_consensus::{LocalOracle, OracleConfig, OracleError};
use creto_types::{ManualClock, Timestamp};

pub(crate) const START_MS: u64 = 1_700_000_000_000;

pub(crate) fn instant(ms: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH
        .checked_add(Duration::from_millis(ms))
        .unwrap()
}

/// What outlives a process.
pub(crate) struct World {
    pub(crate) store: Arc<MemoryWindow>,
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            store: Arc::new(MemoryWindow::new()),
            clock: Arc::new(ManualClock::new(instant(START_MS))),
        }
    }

    pub(crate) async fn open(&self) -> Result<LocalOracle, OracleError> {
        LocalOracle::open(self.store.clone(), self.clock.clone(), config()).await
    }
}

pub(crate) fn config() -> OracleConfig {
    OracleConfig {
        window: Duration::from_millis(1_000),
        max_backward_step: Duration::from_millis(5_000),
        max_forward_step: Duration::from_millis(5_000),
        max_downtime: Duration::from_secs(30 * 86_400),
    }
}
