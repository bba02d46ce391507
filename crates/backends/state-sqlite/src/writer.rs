//! The one writer: a thread that owns the read-write connection and commits jobs
//! in groups. While one group is being synced the next one queues up, so the
//! cost of a sync is shared by everyone who waited for it.

use std::sync::mpsc;
use std::thread::JoinHandle;

use creto_consensus::Epoch;
use creto_types::StoreError;
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::database::{not_done, sql, unavailable};
use crate::epoch;

/// The most jobs that share one commit; bounds the latency of the first one.
const GROUP_LIMIT: usize = 1_024;

/// The most jobs that wait; those past it are refused.
const QUEUE_LIMIT: usize = 8_192;

/// Runs inside the group's transaction, or learns why there is none. Returns what to
/// call with the outcome of the commit.
type Job = Box<dyn FnOnce(Result<&Transaction<'_>, NoGroup<'_>>) -> Finish + Send>;
type Finish = Box<dyn FnOnce(Result<(), &StoreError>) + Send>;

/// Why no job runs.
#[derive(Clone, Copy)]
enum NoGroup<'a> {
    /// No transaction can be begun.
    NotBegun(&'a rusqlite::Error),
    /// The file is somebody else's by now, or whose it is cannot be read.
    NotOurs(&'a StoreError),
}

impl NoGroup<'_> {
    fn refusal(self) -> StoreError {
        match self {
            Self::NotBegun(error) => not_done(WriterError::NotBegun(error.to_string())),
            Self::NotOurs(StoreError::Fenced { own, newest }) => StoreError::Fenced {
                own: *own,
                newest: *newest,
            },
            Self::NotOurs(error) => not_done(WriterError::NotBegun(error.to_string())),
        }
    }
}

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
    #[error("no transaction can be begun: {0}")]
    NotBegun(String),
    #[error("the group's commit failed: {0}")]
    CommitFailed(String),
    #[error("the engine rolled the group back")]
    GroupLost,
}

impl Writer {
    /// For the opening of the file that took this epoch.
    pub(crate) fn start(connection: Connection, epoch: Epoch) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::sync_channel(QUEUE_LIMIT);
        let thread = std::thread::Builder::new()
            .name("creto-sqlite".to_owned())
            .spawn(move || run(connection, epoch, &jobs))
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
            let result = match tx {
                Ok(tx) => in_savepoint(tx, work),
                Err(why) => Err(why.refusal()),
            };
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
            .ok_or_else(|| not_done(WriterError::Stopped))?;
        sender.try_send(job).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => not_done(WriterError::Overloaded),
            mpsc::TrySendError::Disconnected(_) => not_done(WriterError::Stopped),
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

fn run(mut connection: Connection, epoch: Epoch, jobs: &mpsc::Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        commit_group(&mut connection, epoch, first, jobs);
    }
}

fn commit_group(connection: &mut Connection, epoch: Epoch, first: Job, jobs: &mpsc::Receiver<Job>) {
    let tx = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(tx) => tx,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot begin a transaction"
            );
            first(Err(NoGroup::NotBegun(&error)))(Ok(()));
            return;
        }
    };
    if let Err(error) = epoch::check(&tx, epoch) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "this process may not write"
        );
        first(Err(NoGroup::NotOurs(&error)))(Ok(()));
        return;
    }
    let mut finish = vec![first(Ok(&tx))];
    while finish.len() < GROUP_LIMIT {
        match jobs.try_recv() {
            Ok(job) => finish.push(job(Ok(&tx))),
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

/// Runs the work so that its error undoes all of it.
fn in_savepoint<T>(
    tx: &Transaction<'_>,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // A full disk or an I/O error makes SQLite end the whole transaction; a
    // savepoint opened after that would commit on its own.
    if tx.is_autocommit() {
        return Err(not_done(WriterError::GroupLost));
    }
    tx.execute_batch("SAVEPOINT job").map_err(not_done)?;
    match work(tx) {
        Ok(value) => {
            tx.execute_batch("RELEASE job").map_err(sql)?;
            Ok(value)
        }
        Err(error) => {
            // When the engine ended the transaction, there is nothing to undo.
            if !tx.is_autocommit() {
                tx.execute_batch("ROLLBACK TO job; RELEASE job")
                    .map_err(sql)?;
            }
            Err(match error {
                StoreError::Unavailable(source) => StoreError::NotDone(source),
                other => other,
            })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    const OWN: Epoch = Epoch::from_u64(1);

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (n INTEGER NOT NULL UNIQUE) STRICT;
                 CREATE TABLE epoch (number INTEGER NOT NULL) STRICT;
                 INSERT INTO epoch VALUES (1);",
            )
            .unwrap();
        connection
    }

    fn insert(tx: &Transaction<'_>, n: usize) -> Result<usize, StoreError> {
        let n = i64::try_from(n).map_err(unavailable)?;
        tx.execute("INSERT INTO t (n) VALUES (?1)", [n])
            .map_err(sql)
    }

    async fn rows(writer: &Writer) -> i64 {
        let count = writer.submit(|tx| {
            tx.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .map_err(sql)
        });
        count.await.unwrap()
    }

    async fn waits<T>(mut write: Pin<&mut impl Future<Output = T>>) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx).is_pending())).await
    }

    fn is_not_done<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
        assert!(
            matches!(outcome, Err(StoreError::NotDone(_))),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn what_never_got_into_the_queue_was_not_done() {
        let writer = Writer::start(connection(), OWN).unwrap();
        let (started, begun) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let mut first = Box::pin(writer.submit(move |_| {
            started.send(()).map_err(unavailable)?;
            wait.recv().map_err(unavailable)
        }));
        assert!(waits(first.as_mut()).await);
        begun.recv().unwrap();
        let mut queued: Vec<_> = (0..QUEUE_LIMIT)
            .map(|n| Box::pin(writer.submit(move |tx| insert(tx, n))))
            .collect();
        for write in &mut queued {
            assert!(waits(write.as_mut()).await);
        }
        is_not_done(writer.submit(|tx| insert(tx, QUEUE_LIMIT)).await);
        go_on.send(()).unwrap();
        first.await.unwrap();
        for write in queued {
            write.await.unwrap();
        }
        assert_eq!(usize::try_from(rows(&writer).await), Ok(QUEUE_LIMIT));
    }

    #[tokio::test]
    async fn a_change_that_fails_alone_was_not_done() {
        let writer = Writer::start(connection(), OWN).unwrap();
        writer.submit(|tx| insert(tx, 1)).await.unwrap();
        let twice = writer.submit(|tx| {
            insert(tx, 2)?;
            insert(tx, 1)
        });
        is_not_done(twice.await);
        assert_eq!(rows(&writer).await, 1);
    }

    #[tokio::test]
    async fn without_a_transaction_nothing_is_done() {
        let connection = connection();
        connection.execute_batch("BEGIN").unwrap();
        let writer = Writer::start(connection, OWN).unwrap();
        is_not_done(writer.submit(|tx| insert(tx, 1)).await);
    }
}
