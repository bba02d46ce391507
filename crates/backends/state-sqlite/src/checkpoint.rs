//! Moving what was committed from SQLite's log of writes into the file, beside the writer.
//!
//! A checkpoint copies pages and syncs the file, which takes longer than a commit. On the
//! writer's thread everybody would wait for it; here it runs while the writer goes on. It
//! never gets all, because more is committed meanwhile, so that the log would grow for
//! ever: when it is long, the writer does the rest itself, which is little by then, and
//! begins it anew.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use creto_types::StoreError;
use parking_lot::Mutex;
use rusqlite::Connection;

use crate::database::unavailable;

/// Bytes committed between two checkpoints beside the writer.
const BESIDE: usize = 2 << 20;

/// Bytes committed until the writer does the rest.
const REST: usize = 16 << 20;

/// What a change writes, about, beside its leaves: a few pages.
const CHANGE: usize = 16 << 10;

/// The thread, and the writer's end of it.
pub(crate) struct Checkpoints {
    wake: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Held for the length of a checkpoint: SQLite would refuse a second one.
    running: Arc<Mutex<()>>,
    since_beside: usize,
    since_rest: usize,
}

impl Checkpoints {
    /// Starts the thread over a connection of its own.
    pub(crate) fn start(connection: Connection) -> Result<Self, StoreError> {
        // One that waits is enough: it takes all there is when its turn comes.
        let (wake, wakes) = mpsc::sync_channel(1);
        let running = Arc::new(Mutex::new(()));
        let held = Arc::clone(&running);
        let thread = std::thread::Builder::new()
            .name("creto-checkpoint".to_owned())
            .spawn(move || {
                while wakes.recv().is_ok() {
                    let _one = held.lock();
                    checkpoint(&connection);
                }
            })
            .map_err(unavailable)?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            running,
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
        if self.since_rest >= REST {
            let _one = self.running.lock();
            checkpoint(writer);
            (self.since_beside, self.since_rest) = (0, 0);
        } else if self.since_beside >= BESIDE {
            self.since_beside = 0;
            if let Some(wake) = &self.wake {
                // One waits already.
                let _ = wake.try_send(());
            }
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
