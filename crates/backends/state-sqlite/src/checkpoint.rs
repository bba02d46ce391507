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
    /// Those that the thread has behind it.
    made: Arc<AtomicUsize>,
    due: Due,
}

/// What is due after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    /// A checkpoint beside the writer.
    Beside,
    /// The writer does what is left.
    Rest,
}

/// When which checkpoint is due.
#[derive(Debug, Default)]
struct Due {
    /// Checkpoints that the thread was asked for.
    asked: usize,
    /// What `asked` is when the last ones are asked for; none while the log is short.
    last: Option<usize>,
    since_beside: usize,
    since_rest: usize,
}

impl Due {
    /// After a commit of so many bytes, when the thread has so many checkpoints behind it.
    fn committed(&mut self, bytes: usize, made: usize) -> Next {
        self.since_beside = self.since_beside.saturating_add(bytes);
        self.since_rest = self.since_rest.saturating_add(bytes);
        if self.since_rest < REST {
            let due = self.since_beside >= BESIDE;
            return if due { Next::Beside } else { Next::Nothing };
        }
        let last = *self.last.get_or_insert(self.asked + LAST);
        let idle = made == self.asked;
        if self.since_rest >= 2 * REST {
            return Next::Rest;
        }
        match idle {
            true if self.asked < last => Next::Beside,
            true => Next::Rest,
            false => Next::Nothing,
        }
    }

    /// The thread was woken, or one waits already that takes all there is.
    fn woken(&mut self, taken: bool) {
        self.since_beside = 0;
        self.asked += usize::from(taken);
    }

    /// The writer did the rest.
    fn begun_anew(&mut self) {
        (self.since_beside, self.since_rest, self.last) = (0, 0, None);
    }
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
            made,
            due: Due::default(),
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
        match self.due.committed(bytes, self.made.load(Ordering::Acquire)) {
            Next::Nothing => {}
            Next::Beside => {
                // Otherwise one waits already, or the thread is no more.
                let wake = self.wake.as_ref();
                let taken = wake.is_some_and(|wake| wake.try_send(()).is_ok());
                self.due.woken(taken);
            }
            Next::Rest => {
                let _one = self.running.lock();
                checkpoint(writer);
                self.due.begun_anew();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits of these bytes until the writer does the rest, with a thread that has a
    /// checkpoint behind it so many commits after it was woken, or never. Gives how often
    /// it was woken before and after the log was long, and the log's length at the end.
    fn until_the_rest(due: &mut Due, bytes: usize, takes: Option<usize>) -> (usize, usize, usize) {
        let (mut made, mut ready) = (due.asked, None);
        let (mut before, mut after, mut length) = (0, 0, 0);
        for commit in 0.. {
            if ready.is_some_and(|at| commit >= at) {
                (made, ready) = (due.asked, None);
            }
            length += bytes;
            match due.committed(bytes, made) {
                Next::Nothing => {}
                Next::Beside => {
                    // One waits while one is made.
                    let taken = due.asked - made < 2;
                    due.woken(taken);
                    ready = ready.or(takes.map(|takes| commit + takes));
                    let long = length >= REST;
                    (before, after) = (before + usize::from(!long), after + usize::from(long));
                }
                Next::Rest => break,
            }
        }
        due.begun_anew();
        (before, after, length)
    }

    #[test]
    fn a_quick_thread_leaves_the_writer_little() {
        let mut due = Due::default();
        let bytes = BESIDE / 8;
        for _ in 0..3 {
            let (before, after, length) = until_the_rest(&mut due, bytes, Some(2));
            assert_eq!(after, LAST, "one after the other once the log is long");
            assert!(before >= REST / BESIDE - 1, "{before} while it grew");
            assert!(length < REST + (LAST + 1) * 4 * bytes, "{length}");
        }
    }

    #[test]
    fn the_log_has_an_end_whatever_the_thread_does() {
        for takes in [None, Some(10_000)] {
            let mut due = Due::default();
            for _ in 0..3 {
                let (_, _, length) = until_the_rest(&mut due, BESIDE, takes);
                assert!((2 * REST..2 * REST + BESIDE).contains(&length), "{length}");
            }
        }
        // Nor is a commit too long.
        assert_eq!(Due::default().committed(usize::MAX, 0), Next::Rest);
    }

    #[test]
    fn what_is_little_waits() {
        let mut due = Due::default();
        assert_eq!(due.committed(BESIDE - 1, 0), Next::Nothing);
        assert_eq!(due.committed(1, 0), Next::Beside);
        due.woken(true);
        assert_eq!(due.committed(BESIDE - 1, 0), Next::Nothing);
    }
}
