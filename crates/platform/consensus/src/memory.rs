//! Stores in memory that obey the full contracts; for tests. Keep one while what stands
//! on it is opened again to play a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use creto_types::{Evidence, HybridTimestamp, LeafIndex, OrgId, StoreError};
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

/// An order of events in memory.
#[derive(Debug, Default)]
pub struct MemoryOrder {
    state: Mutex<Ordered>,
}

#[derive(Debug, Default)]
struct Ordered {
    epoch: u64,
    /// The next place, and the last timestamp, of each organization.
    heads: HashMap<OrgId, (u64, HybridTimestamp)>,
}

/// One opening of it.
#[derive(Debug)]
pub struct MemorySequencer {
    order: Arc<MemoryOrder>,
    epoch: Epoch,
}

impl MemoryOrder {
    /// Nothing was ordered yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Opens it, and fences off whoever did before.
    #[must_use]
    pub fn open(self: &Arc<Self>) -> MemorySequencer {
        let mut state = self.state.lock();
        state.epoch += 1;
        MemorySequencer {
            order: Arc::clone(self),
            epoch: Epoch::from_u64(state.epoch),
        }
    }
}

#[async_trait]
impl Sequencer for MemorySequencer {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn order(&self, events: Vec<Evidence>) -> Result<Vec<Sequenced>, StoreError> {
        let mut state = self.order.state.lock();
        if state.epoch != self.epoch.as_u64() {
            return Err(StoreError::Fenced {
                own: self.epoch.as_u64(),
                newest: state.epoch,
            });
        }
        let mut heads = state.heads.clone();
        let mut ordered = Vec::with_capacity(events.len());
        for event in &events {
            let head = heads.get(&event.org).copied();
            let place = head.map_or(0, |(next, _)| next);
            let ts = HybridTimestamp::behind(head.map(|(_, last)| last), event.at).ok_or(
                StoreError::Conflict {
                    what: "the last timestamp",
                },
            )?;
            heads.insert(event.org, (place + 1, ts));
            ordered.push(Sequenced {
                org: event.org,
                place: LeafIndex(place),
                ts,
                epoch: self.epoch,
            });
        }
        state.heads = heads;
        Ok(ordered)
    }
}
