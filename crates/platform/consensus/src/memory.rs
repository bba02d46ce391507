//! A window store in memory that obeys the full contract; for tests. Keep it
//! while the oracle is opened again to play a restart.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use creto_types::StoreError;
use parking_lot::Mutex;

use crate::WindowStore;

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
