//! Trace records: batched, bounded, never lost silently.

use std::sync::Arc;
use std::time::Duration;

use creto_types::{Evidence, HybridTimestamp, LeafIndex, OrgId, StoreError, SubjectId};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::{AuditError, Commitment, Journal, Opening, RecordClass, sealed_leaf_bytes};

/// Batches that wait behind the one being written.
const QUEUED_BATCHES: usize = 4;

type Failing = Arc<Mutex<Option<Arc<StoreError>>>>;
type Flushed = oneshot::Sender<Result<(), AuditError>>;

/// The producers' end.
pub(crate) struct Tracer {
    records: mpsc::Sender<Evidence>,
    flushes: mpsc::Sender<Flushed>,
    failing: Failing,
}

impl Tracer {
    /// Starts the writer. `written` learns whose logs grew.
    pub(crate) fn start(
        journal: Arc<dyn Journal>,
        batch_size: usize,
        flush_interval: Duration,
        written: impl Fn(OrgId) + Send + 'static,
    ) -> Self {
        let batch_size = batch_size.max(1);
        let (records, queue) = mpsc::channel(batch_size.saturating_mul(QUEUED_BATCHES));
        let (flushes, flush_queue) = mpsc::channel(1);
        let failing = Failing::default();
        let writer = Writer {
            journal,
            queue,
            flushes: flush_queue,
            failing: Arc::clone(&failing),
            batch_size,
            flush_interval,
            pending: Vec::new(),
            written: Box::new(written),
        };
        tokio::spawn(writer.run());
        Self {
            records,
            flushes,
            failing,
        }
    }

    /// Hands the record over; waits while the queue is full.
    pub(crate) async fn trace(&self, record: Evidence) -> Result<(), AuditError> {
        // A record that is accepted fits, whoever's it is and wherever it lands.
        Opening::of(&record, [0; 32])?;
        let (leaf, ts) = (LeafIndex(u64::MAX), HybridTimestamp::MAX);
        let (subject, commitment) = (
            SubjectId::of_random([0; 16]),
            Commitment::from_bytes([0; 32]),
        );
        sealed_leaf_bytes(leaf, ts, RecordClass::Trace, &record, subject, commitment)?;
        self.healthy()?;
        let room = self
            .records
            .reserve()
            .await
            .map_err(|_| AuditError::Stopped)?;
        // The batch that was waited for may have failed.
        self.healthy()?;
        room.send(record);
        Ok(())
    }

    fn healthy(&self) -> Result<(), AuditError> {
        match self.failing.lock().as_ref() {
            Some(error) => Err(AuditError::TraceFailing(Arc::clone(error))),
            None => Ok(()),
        }
    }

    /// Returns once everything handed over before is durable, or could not be
    /// made so.
    pub(crate) async fn flush(&self) -> Result<(), AuditError> {
        let (done, outcome) = oneshot::channel();
        self.flushes
            .send(done)
            .await
            .map_err(|_| AuditError::Stopped)?;
        outcome.await.map_err(|_| AuditError::Stopped)?
    }
}

struct Writer {
    journal: Arc<dyn Journal>,
    queue: mpsc::Receiver<Evidence>,
    flushes: mpsc::Receiver<Flushed>,
    failing: Failing,
    batch_size: usize,
    flush_interval: Duration,
    pending: Vec<Evidence>,
    written: Box<dyn Fn(OrgId) + Send>,
}

enum Wake {
    Record(Evidence),
    Due,
    Flush(Flushed),
    Closed,
}

impl Writer {
    async fn run(mut self) {
        // When the oldest pending record must be written, or tried again.
        let mut due: Option<Instant> = None;
        loop {
            match self.wait(due).await {
                Wake::Record(record) => {
                    self.pending.push(record);
                    due = due.or_else(|| Some(self.later()));
                    if self.pending.len() >= self.batch_size {
                        due = self.write_batch().await.err().map(|_| self.later());
                    }
                }
                Wake::Due => due = self.write_batch().await.err().map(|_| self.later()),
                Wake::Flush(done) => {
                    let outcome = self.write_all().await;
                    due = outcome.is_err().then(|| self.later());
                    // Whoever asked may have gone.
                    let _ = done.send(outcome.map_err(AuditError::TraceFailing));
                }
                Wake::Closed => {
                    if let Err(error) = self.write_all().await {
                        tracing::error!(
                            records = self.pending.len(),
                            error = &error as &dyn std::error::Error,
                            "trace records are lost at shutdown"
                        );
                    }
                    return;
                }
            }
        }
    }

    fn later(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.flush_interval).unwrap_or(now)
    }

    async fn wait(&mut self, due: Option<Instant>) -> Wake {
        // A full batch that failed takes no more; the queue fills up behind it
        // and its producers wait.
        let room = self.pending.len() < self.batch_size;
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // Closed means that the producers' end is gone as a whole.
            done = self.flushes.recv() => done.map_or(Wake::Closed, Wake::Flush),
            () = timer => Wake::Due,
            record = self.queue.recv(), if room => record.map_or(Wake::Closed, Wake::Record),
        }
    }

    /// Writes what is pending and what is queued.
    async fn write_all(&mut self) -> Result<(), Arc<StoreError>> {
        loop {
            while self.pending.len() < self.batch_size
                && let Ok(record) = self.queue.try_recv()
            {
                self.pending.push(record);
            }
            if self.pending.is_empty() {
                return Ok(());
            }
            self.write_batch().await?;
        }
    }

    /// Writes what is pending; keeps it when that fails.
    ///
    /// An engine that failed but applied the batch makes it appear twice: a
    /// trace record is written at least once.
    async fn write_batch(&mut self) -> Result<(), Arc<StoreError>> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let outcome = self
            .journal
            .append(RecordClass::Trace, self.pending.clone())
            .await;
        match outcome {
            Ok(_) => {
                *self.failing.lock() = None;
                for record in self.pending.drain(..) {
                    (self.written)(record.org);
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!(
                    records = self.pending.len(),
                    error = &error as &dyn std::error::Error,
                    "trace records cannot be written; they are kept and tried again"
                );
                let error = Arc::new(error);
                *self.failing.lock() = Some(Arc::clone(&error));
                Err(error)
            }
        }
    }
}
