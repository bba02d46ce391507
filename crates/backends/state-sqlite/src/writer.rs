//! The one writer: a thread that owns the read-write connection and commits jobs
//! in groups. While one group is being synced the next one queues up, so the
//! cost of a sync is shared by everyone who waited for it. A group is bounded in jobs,
//! bytes and time; nobody waits for it to fill up.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use creto_audit::InForce;
use creto_consensus::Epoch;
use creto_types::{LeafIndex, StoreError};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::checkpoint::Checkpoints;
use crate::database::{not_done, sql, unavailable};
use crate::epoch;
use crate::leaves::{Heads, NewLeaf};

/// The most jobs that share one commit; bounds the latency of the first one.
const GROUP_LIMIT: usize = 1_024;

/// The most bytes of leaves that share one commit, but for the last job's; what one sync
/// has to carry.
const GROUP_BYTES: usize = 1 << 20;

/// How long jobs are taken into a group after its first one has begun.
const GROUP_TIME: Duration = Duration::from_millis(5);

/// Statements that stay prepared: more than the ports have.
const STATEMENTS: usize = 128;

/// The most jobs that wait; those past it are refused.
const QUEUE_LIMIT: usize = 8_192;

/// Runs inside the group's transaction, or learns why there is none. Returns what to
/// call with the outcome of the commit.
type Run = Box<dyn FnOnce(Result<Group<'_>, NoGroup<'_>>) -> Finish + Send>;

struct Job {
    run: Run,
    /// Of leaves, about; most changes count for their place alone.
    bytes: usize,
    /// Whether nothing follows it in its group.
    last: bool,
}

/// What a job works on.
struct Group<'a> {
    tx: &'a Transaction<'a>,
    heads: &'a mut Heads,
}

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
    pub(crate) fn start(
        connection: Connection,
        epoch: Epoch,
        checkpoints: Option<Checkpoints>,
        algorithms: InForce,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::sync_channel(QUEUE_LIMIT);
        let thread = std::thread::Builder::new()
            .name("creto-sqlite".to_owned())
            .spawn(move || run(connection, epoch, checkpoints, algorithms, &jobs))
            .map_err(unavailable)?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            thread: Some(thread),
        })
    }

    /// Runs work that brings so many bytes to the disk.
    pub(crate) async fn submit<T, F>(&self, bytes: usize, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.queue(bytes, changing(work), None::<fn()>).await
    }

    /// Runs work that ends its group. Once that is on disk `then` runs, before the next
    /// group begins.
    pub(crate) async fn submit_last<T, F, U>(&self, work: F, then: U) -> Result<T, StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
        U: FnOnce() + Send + 'static,
    {
        self.queue(0, changing(work), Some(then)).await
    }

    /// Appends the leaves, all or none.
    pub(crate) async fn append(&self, leaves: Vec<NewLeaf>) -> Result<Vec<LeafIndex>, StoreError> {
        let bytes = leaves.iter().map(NewLeaf::size).sum();
        self.queue(bytes, move |group| group.append(&leaves), None::<fn()>)
            .await
    }

    /// What has something to do `then` ends its group: no other job may have been done as
    /// if that had not happened.
    async fn queue<T, F, U>(&self, bytes: usize, work: F, then: Option<U>) -> Result<T, StoreError>
    where
        F: FnOnce(Group<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
        U: FnOnce() + Send + 'static,
    {
        let last = then.is_some();
        let (reply, outcome) = oneshot::channel();
        let run: Run = Box::new(move |group| {
            let result = match group {
                Ok(group) => work(group),
                Err(why) => Err(why.refusal()),
            };
            Box::new(move |committed| {
                let answer = match (result, committed) {
                    (Ok(value), Ok(())) => {
                        if let Some(then) = then {
                            then();
                        }
                        Ok(value)
                    }
                    (Err(error), _) => Err(error),
                    (Ok(_), Err(error)) => Err(not_committed(error)),
                };
                // The caller may have gone; the change stands all the same.
                let _ = reply.send(answer);
            })
        });
        self.enqueue(Job { run, bytes, last })?;
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

impl Group<'_> {
    fn append(self, leaves: &[NewLeaf]) -> Result<Vec<LeafIndex>, StoreError> {
        let Self { tx, heads } = self;
        let mut all = |tx: &Transaction<'_>| {
            leaves
                .iter()
                .map(|leaf| heads.append(tx, leaf).map(|(index, _)| index))
                .collect()
        };
        // One alone leaves nothing behind when it fails: SQLite undoes its statement.
        let appended = match leaves {
            [_] => whole(tx).and_then(|()| all(tx)).map_err(undone),
            _ => in_savepoint(tx, all),
        };
        if appended.is_err() {
            heads.forget();
        }
        appended
    }
}

/// A change, as a job: it may append leaves, or undo them.
fn changing<T, F>(work: F) -> impl FnOnce(Group<'_>) -> Result<T, StoreError> + Send + 'static
where
    F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    T: Send + 'static,
{
    move |group: Group<'_>| {
        group.heads.forget();
        in_savepoint(group.tx, work)
    }
}

/// What a caller learns when the group it was in is not known to be on disk.
fn not_committed(error: &StoreError) -> StoreError {
    let failed = WriterError::CommitFailed(error.to_string());
    match error {
        StoreError::Full(_) => StoreError::Full(Box::new(failed)),
        StoreError::NotDone(_) => not_done(failed),
        _ => unavailable(failed),
    }
}

fn run(
    mut connection: Connection,
    epoch: Epoch,
    mut checkpoints: Option<Checkpoints>,
    algorithms: InForce,
    jobs: &mpsc::Receiver<Job>,
) {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let mut heads = Heads::new(algorithms);
    while let Ok(first) = jobs.recv() {
        let (jobs, bytes) = commit_group(&mut connection, epoch, &mut heads, first, jobs);
        if let Some(checkpoints) = &mut checkpoints {
            checkpoints.committed(&connection, jobs, bytes);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a group is open bounds a wait; it is part of no result"
)]
fn opened() -> Instant {
    Instant::now()
}

/// Gives how many jobs there were, and the bytes of their leaves.
fn commit_group(
    connection: &mut Connection,
    epoch: Epoch,
    heads: &mut Heads,
    first: Job,
    jobs: &mpsc::Receiver<Job>,
) -> (usize, usize) {
    let tx = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(tx) => tx,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot begin a transaction"
            );
            (first.run)(Err(NoGroup::NotBegun(&error)))(Ok(()));
            return (0, 0);
        }
    };
    if let Err(error) = epoch::check(&tx, epoch) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "this process may not write"
        );
        (first.run)(Err(NoGroup::NotOurs(&error)))(Ok(()));
        return (0, 0);
    }
    let since = opened();
    let mut bytes = 0_usize;
    let mut finish = Vec::new();
    let mut next = Some(first);
    while let Some(job) = next {
        bytes = bytes.saturating_add(job.bytes);
        finish.push((job.run)(Ok(Group {
            tx: &tx,
            heads: &mut *heads,
        })));
        let room = !job.last && finish.len() < GROUP_LIMIT && bytes < GROUP_BYTES;
        next = (room && since.elapsed() < GROUP_TIME)
            .then(|| jobs.try_recv().ok())
            .flatten();
    }
    let committed = if tx.is_autocommit() {
        Err(not_done(WriterError::GroupLost))
    } else {
        tx.commit().map_err(sql)
    };
    if let Err(error) = &committed {
        heads.forget();
        tracing::error!(
            error = error as &dyn std::error::Error,
            "a group commit failed"
        );
    }
    let taken = finish.len();
    for done in finish {
        done(committed.as_ref().copied());
    }
    (taken, bytes)
}

/// A full disk or an I/O error makes SQLite end the whole transaction; what is done after
/// that would be committed on its own.
fn whole(tx: &Transaction<'_>) -> Result<(), StoreError> {
    if tx.is_autocommit() {
        Err(not_done(WriterError::GroupLost))
    } else {
        Ok(())
    }
}

/// An error of the engine before the commit: nothing is left of the change.
fn undone(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(source) => StoreError::NotDone(source),
        other => other,
    }
}

/// Runs the work so that its error undoes all of it.
fn in_savepoint<T>(
    tx: &Transaction<'_>,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    whole(tx)?;
    step(tx, "SAVEPOINT job").map_err(not_done)?;
    match work(tx) {
        Ok(value) => {
            step(tx, "RELEASE job").map_err(sql)?;
            Ok(value)
        }
        Err(error) => {
            // When the engine ended the transaction, there is nothing to undo.
            if !tx.is_autocommit() {
                step(tx, "ROLLBACK TO job").map_err(sql)?;
                step(tx, "RELEASE job").map_err(sql)?;
            }
            Err(undone(error))
        }
    }
}

fn step(tx: &Transaction<'_>, statement: &str) -> rusqlite::Result<()> {
    tx.prepare_cached(statement)?.execute([]).map(|_| ())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    const OWN: Epoch = Epoch::from_u64(1);

    const TABLES: &str = "PRAGMA journal_mode = WAL;
        CREATE TABLE t (n INTEGER NOT NULL UNIQUE) STRICT;
        CREATE TABLE epoch (number INTEGER NOT NULL) STRICT;
        INSERT INTO epoch VALUES (1);";

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        connection
    }

    fn insert(tx: &Transaction<'_>, n: usize) -> Result<usize, StoreError> {
        let n = i64::try_from(n).map_err(unavailable)?;
        tx.execute("INSERT INTO t (n) VALUES (?1)", [n])
            .map_err(sql)
    }

    async fn rows(writer: &Writer) -> i64 {
        let count = writer.submit(0, |tx| {
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
        let writer = Writer::start(connection(), OWN, None, InForce::default()).unwrap();
        let (started, begun) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let mut first = Box::pin(writer.submit(0, move |_| {
            started.send(()).map_err(unavailable)?;
            wait.recv().map_err(unavailable)
        }));
        assert!(waits(first.as_mut()).await);
        begun.recv().unwrap();
        let mut queued: Vec<_> = (0..QUEUE_LIMIT)
            .map(|n| Box::pin(writer.submit(0, move |tx| insert(tx, n))))
            .collect();
        for write in &mut queued {
            assert!(waits(write.as_mut()).await);
        }
        is_not_done(writer.submit(0, |tx| insert(tx, QUEUE_LIMIT)).await);
        go_on.send(()).unwrap();
        first.await.unwrap();
        for write in queued {
            write.await.unwrap();
        }
        assert_eq!(usize::try_from(rows(&writer).await), Ok(QUEUE_LIMIT));
    }

    #[tokio::test]
    async fn a_change_that_fails_alone_was_not_done() {
        let writer = Writer::start(connection(), OWN, None, InForce::default()).unwrap();
        writer.submit(0, |tx| insert(tx, 1)).await.unwrap();
        let twice = writer.submit(0, |tx| {
            insert(tx, 2)?;
            insert(tx, 1)
        });
        is_not_done(twice.await);
        assert_eq!(rows(&writer).await, 1);
    }

    #[tokio::test]
    async fn what_follows_a_change_happens_when_it_is_on_disk_and_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let file = Connection::open(&path).unwrap();
        file.execute_batch(TABLES).unwrap();
        let writer = Writer::start(file, OWN, None, InForce::default()).unwrap();
        let (say, said) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        // All of them are waiting before the first one goes on, and could share its group.
        let mut first = Box::pin(writer.submit(0, move |tx| {
            wait.recv().map_err(unavailable)?;
            insert(tx, 1)
        }));
        assert!(waits(first.as_mut()).await);
        let mut last = Box::pin(writer.submit_last(|tx| insert(tx, 2), {
            let say = say.clone();
            move || {
                let other = Connection::open(&path).unwrap();
                let seen = "SELECT count(*) FROM t";
                let seen: i64 = other.query_row(seen, [], |row| row.get(0)).unwrap();
                say.send(seen).unwrap();
            }
        }));
        assert!(waits(last.as_mut()).await);
        let mut next = Box::pin(writer.submit(0, move |tx| {
            say.send(-1).map_err(unavailable)?;
            insert(tx, 3)
        }));
        assert!(waits(next.as_mut()).await);
        go_on.send(()).unwrap();
        first.await.unwrap();
        last.await.unwrap();
        next.await.unwrap();
        assert_eq!(said.try_iter().collect::<Vec<_>>(), [2, -1]);

        // Nothing follows what was not done.
        let (say, said) = mpsc::channel();
        let twice = writer.submit_last(|tx| insert(tx, 3), move || say.send(()).unwrap());
        is_not_done(twice.await);
        assert!(said.try_recv().is_err());
    }

    #[tokio::test]
    async fn without_a_transaction_nothing_is_done() {
        let connection = connection();
        connection.execute_batch("BEGIN").unwrap();
        let writer = Writer::start(connection, OWN, None, InForce::default()).unwrap();
        is_not_done(writer.submit(0, |tx| insert(tx, 1)).await);
    }
}
