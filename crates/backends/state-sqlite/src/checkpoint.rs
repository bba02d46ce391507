//! Moving what was committed from SQLite's log of writes into the file, beside the writer.
//!
//! A checkpoint copies pages and syncs the file, which takes longer than a commit. On the
//! writer's thread everybody would wait for it; here it runs while the writer goes on. It
//! never gets all, because more is committed meanwhile, so that the log would grow for
//! ever: when it is long, a few checkpoints follow each other, each with less to do than
//! the one before, and the writer does the rest itself, which is little by then, and
//! begins the log anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use creto_types::StoreError;
use parking_lot::Mutex;
use rusqlite::Connection;

use crate::database::unavailable;

/// Bytes committed between two checkpoints beside the writer. A commit that is synced
/// while the file is being synced waits for its pages too: the fewer there are, the
/// shorter.
const BESIDE: usize = 256 << 10;

/// Bytes committed until the log is to be begun anew; twice as many, and the writer does
/// whatever is left.
const REST: usize = 16 << 20;

/// Checkpoints beside the writer right before it does the rest.
const LAST: usize = 2;

/// What a change writes, about, beside its leaves: a few pages.
const CHANGE: usize = 16 << 10;

/// The thread, and the writer's end of it.
pub(crate) struct Checkpoints {
    wake: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Held for the length of a checkpoint: SQLite would refuse a second one.
    running: Arc<Mutex<()>>,
    /// Checkpoints that the thread was asked for, and those that it has behind it.
    asked: usize,
    made: Arc<AtomicUsize>,
    /// What `asked` is when the last ones are asked for; none while the log is short.
    last: Option<usize>,
    since_beside: usize,
    since_rest: usize,
}

impl Checkpoints {
    /// Starts the thread over a connection of its own.
    pub(crate) fn start(connection: Connection) -> Result<Self, StoreError> {
        // One that waits is enough: it takes all there is when its turn comes.
        let (wake, wakes) = mpsc::sync_channel(1);
        let running = Arc::new(Mutex::new(()));
        let made = Arc::new(AtomicUsize::new(0));
        let (held, count) = (Arc::clone(&running), Arc::clone(&made));
        let thread = std::thread::Builder::new()
            .name("creto-checkpoint".to_owned())
            .spawn(move || {
                while wakes.recv().is_ok() {
                    let one = held.lock();
                    checkpoint(&connection);
                    drop(one);
                    count.fetch_add(1, Ordering::Release);
                }
            })
            .map_err(unavailable)?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            running,
            asked: 0,
            made,
            last: None,
            since_beside: 0,
            since_rest: 0,
        })
    }

    /// Held for the length of a checkpoint, for whoever makes one of another kind.
    pub(crate) fn running(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.running)
    }

    /// Called by the writer after each commit, outside any transaction.
    pub(crate) fn committed(&mut self, writer: &Connection, jobs: usize, bytes: usize) {
        let changes = if bytes == 0 { jobs } else { 1 };
        let bytes = bytes.saturating_add(changes.saturating_mul(CHANGE));
        self.since_beside = self.since_beside.saturating_add(bytes);
        self.since_rest = self.since_rest.saturating_add(bytes);
        if self.since_rest < REST {
            if self.since_beside >= BESIDE {
                self.ask();
            }
            return;
        }
        let last = *self.last.get_or_insert(self.asked + LAST);
        let idle = self.made.load(Ordering::Acquire) == self.asked;
        let long = self.since_rest >= 2 * REST;
        if !long && idle && self.asked < last {
            self.ask();
        } else if long || idle {
            let _one = self.running.lock();
            checkpoint(writer);
            (self.since_beside, self.since_rest, self.last) = (0, 0, None);
        }
    }

    fn ask(&mut self) {
        self.since_beside = 0;
        // Otherwise one waits already, or the thread is no more.
        if let Some(wake) = &self.wake
            && wake.try_send(()).is_ok()
        {
            self.asked += 1;
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.wake.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that makes checkpoints panicked");
        }
    }
}

/// As much as goes without waiting for anybody. What fails is done by the next one: until
/// then the log of writes has it.
fn checkpoint(connection: &Connection) {
    let outcome = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if let Err(error) = outcome {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a checkpoint of the state store failed"
        );
    }
}
