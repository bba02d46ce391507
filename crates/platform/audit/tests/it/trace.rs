//! Trace records: batched, bounded, never lost silently.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use creto_audit::conformance::{org, record};
use creto_audit::{AuditConfig, Journal, RecordClass, StoredRecord};
use creto_errors::Classify as _;
use creto_types::{Evidence, LeafIndex, OrgId, StoreError};
use tokio::sync::Semaphore;

use crate::{World, config};

#[tokio::test]
async fn a_record_is_durable_after_the_interval_and_counted_in_the_log() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    audit.trace(record(org(1), 0)).await.unwrap();
    while world.journal.size(org(1)).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // And published, without anybody asking.
    while audit
        .resource(org(1), "checkpoint")
        .await
        .unwrap()
        .is_none()
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let leaf = world.journal.read(org(1), 0, 1).await.unwrap().remove(0);
    let leaf: serde_json::Value = serde_json::from_slice(&leaf).unwrap();
    assert_eq!(leaf["class"], "trace");
}

#[tokio::test]
async fn flush_and_drop_write_what_is_pending() {
    let world = World::new();
    let slow = AuditConfig {
        flush_interval: Duration::from_secs(3_600),
        batch_size: 100,
        ..config()
    };
    let audit = world.open_over(world.journal.clone(), slow).await.unwrap();
    for n in 0..150 {
        audit.trace(record(org(1), n)).await.unwrap();
    }
    audit.flush().await.unwrap();
    assert_eq!(world.journal.size(org(1)).await.unwrap(), 150);
    assert_eq!(audit.checkpoint(org(1)).await.unwrap().size, 150);
    audit.trace(record(org(1), 150)).await.unwrap();
    drop(audit);
    while world.journal.size(org(1)).await.unwrap() != 151 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_failing_batch_is_kept_and_new_records_are_refused_meanwhile() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.journal.fail_appends(0, 5);
    let mut accepted = 0;
    let refused = loop {
        match audit.trace(record(org(1), accepted)).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(refused.code(), "trace_unavailable");
    assert!(audit.flush().await.is_err());
    // The engine comes back: everything accepted is there, once.
    while world.journal.size(org(1)).await.unwrap() != accepted {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    audit.trace(record(org(1), accepted)).await.unwrap();
    audit.flush().await.unwrap();
    assert_eq!(world.journal.size(org(1)).await.unwrap(), accepted + 1);
    let stored = world.journal.records(org(1), 0, 1_000).await.unwrap();
    for (n, stored) in stored.iter().enumerate() {
        let record = stored.read().unwrap().whole().unwrap();
        assert_eq!(record["body"]["n"], n);
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_a_leaf_is_refused_alone() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    let mut long = record(org(1), 0);
    long.body = "x".repeat(70_000).into();
    let error = audit.trace(long).await.unwrap_err();
    assert_eq!(error.code(), "log_record_too_long");
    audit.trace(record(org(1), 1)).await.unwrap();
    audit.flush().await.unwrap();
    assert_eq!(world.journal.size(org(1)).await.unwrap(), 1);
}

/// A journal that appends only when it is let to.
struct Gated {
    inner: Arc<dyn Journal>,
    gate: Arc<Semaphore>,
    /// Records of the largest transaction.
    largest: AtomicUsize,
}

#[async_trait]
impl Journal for Gated {
    async fn append(
        &self,
        class: RecordClass,
        records: Vec<Evidence>,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        self.largest.fetch_max(records.len(), Ordering::SeqCst);
        let _turn = self.gate.acquire().await.unwrap();
        self.inner.append(class, records).await
    }

    async fn read(&self, org: OrgId, from: u64, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        self.inner.read(org, from, max).await
    }

    async fn records(
        &self,
        org: OrgId,
        from: u64,
        max: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        self.inner.records(org, from, max).await
    }

    async fn size(&self, org: OrgId) -> Result<u64, StoreError> {
        self.inner.size(org).await
    }

    async fn organizations(&self) -> Result<Vec<OrgId>, StoreError> {
        self.inner.organizations().await
    }
}

#[tokio::test]
async fn a_slow_engine_slows_its_producer_and_loses_nothing() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let journal = Arc::new(Gated {
        inner: world.journal.clone(),
        gate: gate.clone(),
        largest: AtomicUsize::new(0),
    });
    let audit = world.open_over(journal.clone(), config()).await.unwrap();
    let mut accepted = 0;
    // The queue is bounded: in the end there is no room.
    while let Ok(done) = tokio::time::timeout(
        Duration::from_millis(200),
        audit.trace(record(org(1), accepted)),
    )
    .await
    {
        done.unwrap();
        accepted += 1;
        // The batch that is being written, and four behind it.
        assert!(accepted <= 5 * config().batch_size as u64);
    }
    assert_eq!(world.journal.size(org(1)).await.unwrap(), 0);
    gate.add_permits(1);
    audit.flush().await.unwrap();
    assert_eq!(world.journal.size(org(1)).await.unwrap(), accepted);
    assert_eq!(journal.largest.load(Ordering::SeqCst), config().batch_size);
}
