use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use creto_consensus::{LocalOracle, TimestampOracle as _, TimestampOracleExt as _, WindowStore};
use creto_types::{ManualClock, StoreError};
use tokio::sync::Semaphore;

use crate::{START_MS, config, instant};

/// A store that is slow until it is told to go on.
struct Gated {
    gate: Semaphore,
}

#[async_trait]
impl WindowStore for Gated {
    async fn upper_bound(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    async fn raise(&self, _to_ms: u64) -> Result<(), StoreError> {
        self.gate.acquire().await.expect("stays open").forget();
        Ok(())
    }
}

/// A caller that stops polling while it waits must not stop the others.
#[tokio::test]
async fn a_frozen_caller_holds_nobody_up() {
    let store = Arc::new(Gated {
        gate: Semaphore::new(0),
    });
    let clock = Arc::new(ManualClock::new(instant(START_MS)));
    let oracle = LocalOracle::open(store.clone(), clock, config()).await;
    let oracle = oracle.unwrap();
    let mut frozen = pin!(oracle.reserve(NonZeroU32::MIN));
    poll_fn(|context| {
        assert!(frozen.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    tokio::task::yield_now().await;
    store.gate.add_permits(2);
    let next = tokio::time::timeout(Duration::from_secs(10), oracle.next()).await;
    next.expect("is not held up").unwrap();
}
