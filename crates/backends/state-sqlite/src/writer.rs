//! The one writer: a thread that owns the read-write connection and commits jobs
//! in groups. While one group is being synced the next one queues up, so the
//! cost of a sync is shared by everyone who waited for it.

use std::sync::mpsc;
use std::thread::JoinHandle;

use creto_types::StoreError;
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::database::{sql, unavailable};

/// The most jobs that share one commit; bounds the latency of the first one.
const GROUP_LIMIT: usize = 1_024;

/// The most jobs that wait; a caller past it waits for room.
const QUEUE_LIMIT: usize = 8_192;

/// Runs inside the group's transaction. Returns what to call with the outcome of
/// the commit.
type Job = Box<dyn FnOnce(&Transaction<'_>) -> Finish + Send>;
type Finish = Box<dyn FnOnce(Result<(), &StoreError>) + Send>;

pub(crate) struct Writer {
    queue: Mutex<Option<mpsc::SyncSender<Job>>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, thiserror::Error)]
enum WriterError {
    #[error("the writer has stopped")]
    Stopped,
    #[error("too many writes are waiting")]
    Overloaded,
    #[error("the group's commit failed: {0}")]
    CommitFailed(String),
    #[error("the engine rolled the group back")]
    GroupLost,
}

impl Writer {
    pub(crate) fn start(connection: Connection) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::sync_channel(QUEUE_LIMIT);
        let thread = std::thread::Builder::new()
            .name("creto-sqlite".to_owned())
            .spawn(move || run(connection, &jobs))
            .map_err(unavailable)?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            thread: Some(thread),
        })
    }

    pub(crate) async fn submit<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, outcome) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let result = in_savepoint(tx, work);
            Box::new(move |committed| {
                let answer = match (result, committed) {
                    (Ok(value), Ok(())) => Ok(value),
                    (Err(error), _) => Err(error),
                    (Ok(_), Err(error)) => {
                        Err(unavailable(WriterError::CommitFailed(error.to_string())))
                    }
                };
                // The caller may have gone; the change stands all the same.
                let _ = reply.send(answer);
            })
        });
        self.enqueue(job)?;
        outcome
            .await
            .map_err(|_| unavailable(WriterError::Stopped))?
    }

    fn enqueue(&self, job: Job) -> Result<(), StoreError> {
        let queue = self.queue.lock();
        let sender = queue
            .as_ref()
            .ok_or_else(|| unavailable(WriterError::Stopped))?;
        sender.try_send(job).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => unavailable(WriterError::Overloaded),
            mpsc::TrySendError::Disconnected(_) => unavailable(WriterError::Stopped),
        })
    }
}

impl Drop for Writer {
    /// Finishes what was queued, then closes the file.
    fn drop(&mut self) {
        self.queue.lock().take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer thread panicked");
        }
    }
}

fn run(mut connection: Connection, jobs: &mpsc::Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        commit_group(&mut connection, first, jobs);
    }
}

fn commit_group(connection: &mut Connection, first: Job, jobs: &mpsc::Receiver<Job>) {
    let tx = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(tx) => tx,
        Err(error) => {
            // Dropping the job tells its caller that the write did not happen.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot begin a transaction"
            );
            return;
        }
    };
    let mut finish = vec![first(&tx)];
    while finish.len() < GROUP_LIMIT {
        match jobs.try_recv() {
            Ok(job) => finish.push(job(&tx)),
            Err(_) => break,
        }
    }
    let committed = tx.commit().map_err(sql);
    if let Err(error) = &committed {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "a group commit failed"
        );
    }
    for done in finish {
        done(committed.as_ref().copied());
    }
}

fn in_savepoint<T>(
    tx: &Transaction<'_>,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // A full disk or an I/O error makes SQLite end the whole transaction; a
    // savepoint opened after that would commit on its own.
    if tx.is_autocommit() {
        return Err(unavailable(WriterError::GroupLost));
    }
    tx.execute_batch("SAVEPOINT job").map_err(sql)?;
    match work(tx) {
        Ok(value) => {
            tx.execute_batch("RELEASE job").map_err(sql)?;
            Ok(value)
        }
        Err(error) => {
            tx.execute_batch("ROLLBACK TO job; RELEASE job")
                .map_err(sql)?;
            Err(error)
        }
    }
}
