//! Stores in memory that obey the full contracts; for tests. Keep one while what stands
//! on it is opened again to play a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use creto_types::memory::MemoryCommits;
use creto_types::{Commit, HybridTimestamp, LeafIndex, OrgId, StoreError};
use parking_lot::Mutex;

use crate::{Epoch, Sequenced, Sequencer, WindowStore};

/// The bound in memory.
#[derive(Debug, Default)]
pub struct MemoryWindow {
    bound: Mutex<Option<u64>>,
    raises: AtomicUsize,
    fail: Mutex<Option<Failure>>,
}

/// How the next raise fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing is stored.
    NotApplied,
    /// The bound is stored, but the caller gets an error.
    Applied,
}

#[derive(Debug, thiserror::Error)]
#[error("this write was made to fail")]
struct Injected;

impl MemoryWindow {
    /// No bound yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How often the bound was raised: the oracle's durable writes.
    #[must_use]
    pub fn raises(&self) -> usize {
        self.raises.load(Ordering::SeqCst)
    }

    /// Makes the next raise fail.
    pub fn fail_next(&self, failure: Failure) {
        *self.fail.lock() = Some(failure);
    }
}

#[async_trait]
impl WindowStore for MemoryWindow {
    async fn upper_bound(&self) -> Result<Option<u64>, StoreError> {
        Ok(*self.bound.lock())
    }

    async fn raise(&self, to_ms: u64) -> Result<(), StoreError> {
        let injected = || StoreError::Unavailable(Box::new(Injected));
        let failure = self.fail.lock().take();
        if failure == Some(Failure::NotApplied) {
            return Err(injected());
        }
        let mut bound = self.bound.lock();
        if bound.is_some_and(|bound| to_ms <= bound) {
            return Err(StoreError::Conflict {
                what: "timestamp bound",
            });
        }
        *bound = Some(to_ms);
        self.raises.fetch_add(1, Ordering::SeqCst);
        match failure {
            Some(Failure::Applied) => Err(injected()),
            _ => Ok(()),
        }
    }
}

/// An order of events in memory: that of the evidence of these commits.
#[derive(Debug, Default)]
pub struct MemoryOrder {
    commits: Arc<MemoryCommits>,
    epoch: Mutex<u64>,
}

/// One opening of it.
#[derive(Debug)]
pub struct MemorySequencer {
    order: Arc<MemoryOrder>,
    epoch: Epoch,
}

impl MemoryOrder {
    /// What the commits hold is in order already.
    #[must_use]
    pub fn new(commits: Arc<MemoryCommits>) -> Arc<Self> {
        Arc::new(Self {
            commits,
            epoch: Mutex::default(),
        })
    }

    /// Opens it, and fences off whoever did before.
    #[must_use]
    pub fn open(self: &Arc<Self>) -> MemorySequencer {
        let mut epoch = self.epoch.lock();
        *epoch += 1;
        MemorySequencer {
            order: Arc::clone(self),
            epoch: Epoch::from_u64(*epoch),
        }
    }

    /// The timestamp of every event, in order.
    fn timestamps(&self, org: OrgId) -> Result<Vec<HybridTimestamp>, StoreError> {
        let mut last = None;
        let mut all = Vec::new();
        for event in self.commits.evidence(org) {
            last = HybridTimestamp::behind(last, event.at);
            all.push(last.ok_or(StoreError::Conflict {
                what: "the last timestamp",
            })?);
        }
        Ok(all)
    }
}

#[async_trait]
impl Sequencer for MemorySequencer {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn order(&self, commit: Commit) -> Result<Vec<Sequenced>, StoreError> {
        let newest = self.order.epoch.lock();
        if *newest != self.epoch.as_u64() {
            return Err(StoreError::Fenced {
                own: self.epoch.as_u64(),
                newest: *newest,
            });
        }
        let receipt = self.order.commits.apply(&commit)?;
        let placed = commit.evidence.iter().zip(receipt.leaves);
        placed
            .map(|(event, place)| {
                let index = usize::try_from(place.0).unwrap_or(usize::MAX);
                let all = self.order.timestamps(event.org)?;
                let ts = all
                    .get(index)
                    .copied()
                    .ok_or(StoreError::NotFound { what: "event" })?;
                Ok(Sequenced {
                    org: event.org,
                    place,
                    ts,
                    epoch: self.epoch,
                })
            })
            .collect()
    }

    async fn timestamps(
        &self,
        org: OrgId,
        from: LeafIndex,
        count: usize,
    ) -> Result<Vec<HybridTimestamp>, StoreError> {
        let from = usize::try_from(from.0).unwrap_or(usize::MAX);
        let all = self.order.timestamps(org)?;
        Ok(all.into_iter().skip(from).take(count).collect())
    }
}
