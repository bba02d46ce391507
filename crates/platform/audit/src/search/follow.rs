//! Keeping the index behind the journal, not far.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use creto_errors::{Class, Classify as _};
use creto_types::OrgId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::terms::{Known, Reader};
use super::{Found, IndexKeys, SearchIndex, SearchTerm};
use crate::{AuditError, Journal};

/// Leaves that enter the index in one transaction. Small: appends wait for it.
const BATCH: usize = 256;

/// How long new leaves wait for others, while nobody searches.
const TOGETHER: Duration = Duration::from_millis(200);

/// While nobody searches and the log grows, the follower pauses this many times as long as its
/// batch took: it then takes at most a fifth of what appends could have.
const PAUSES: u32 = 4;

/// How long a search waits for the index to have what was written before it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Brings leaves into the index, in the background.
pub(crate) struct Follower {
    pub(super) journal: Arc<dyn Journal>,
    index: Arc<dyn SearchIndex>,
    keys: Arc<dyn IndexKeys>,
    /// Logs that grew, each once.
    behind: Mutex<VecDeque<OrgId>>,
    /// Grows with every log.
    growth: AtomicU64,
    /// Something is behind.
    wake: Notify,
    /// Somebody waits.
    hurry: Notify,
    waiting: AtomicUsize,
    /// The index grew.
    grown: Notify,
    closed: AtomicBool,
}

impl Follower {
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        index: Arc<dyn SearchIndex>,
        keys: Arc<dyn IndexKeys>,
    ) -> Arc<Self> {
        Arc::new(Self {
            journal,
            index,
            keys,
            behind: Mutex::default(),
            growth: AtomicU64::new(0),
            wake: Notify::new(),
            hurry: Notify::new(),
            waiting: AtomicUsize::new(0),
            grown: Notify::new(),
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
        self.hurry.notify_one();
    }

    /// Says that the log grew.
    pub(crate) fn notify(&self, org: OrgId) {
        self.growth.fetch_add(1, Ordering::Relaxed);
        self.go_on(org);
    }

    fn go_on(&self, org: OrgId) {
        let mut behind = self.behind.lock();
        if !behind.contains(&org) {
            behind.push_back(org);
        }
        drop(behind);
        self.wake.notify_one();
    }

    /// What the index has of the span by these terms.
    pub(super) async fn find(
        &self,
        org: OrgId,
        span: Range<u64>,
        terms: &[SearchTerm],
        max: usize,
    ) -> Result<Found, AuditError> {
        // Of a log without leaves nothing is asked, its key neither.
        if span.is_empty() {
            return Ok(Found::default());
        }
        let tags = self.keys.key(org).await?.tags(terms);
        Ok(self.index.find(org, span, tags, max).await?)
    }

    /// Waits until the index has `size` leaves, but not long, and gives how many it has.
    pub(super) async fn reach(&self, org: OrgId, size: u64) -> Result<u64, AuditError> {
        let covered = self.index.covered(org).await?;
        if covered >= size {
            return Ok(covered);
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        self.go_on(org);
        self.hurry.notify_one();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Before the look, so that nothing is missed between the two.
            let mut grown = std::pin::pin!(self.grown.notified());
            grown.as_mut().enable();
            let covered = self.index.covered(org).await?;
            let late = covered < size && tokio::time::timeout_at(deadline, grown).await.is_err();
            if covered >= size || late {
                return Ok(covered);
            }
        }
    }

    /// The background task.
    pub(crate) async fn run(self: Arc<Self>) {
        match self.journal.organizations().await {
            Ok(orgs) => orgs.into_iter().for_each(|org| self.go_on(org)),
            Err(error) => failed(&error.into(), None),
        }
        let mut reader = Reader::default();
        // It is tried again and again: what is new is said once.
        let mut failing: HashMap<OrgId, String> = HashMap::new();
        while !self.closed() {
            let Some(org) = self.behind.lock().pop_front() else {
                self.wake.notified().await;
                self.pause(TOGETHER).await;
                continue;
            };
            let (begun, growth) = (Instant::now(), self.growth.load(Ordering::Relaxed));
            match self.advance(org, &mut reader).await {
                Ok(more) => {
                    failing.remove(&org);
                    self.grown.notify_waiters();
                    if more {
                        self.go_on(org);
                        if self.growth.load(Ordering::Relaxed) != growth {
                            self.pause((begun.elapsed() * PAUSES).min(RETRY)).await;
                        }
                    }
                }
                Err(error) => {
                    let why = creto_errors::chain(&error);
                    if failing.insert(org, why.clone()) != Some(why) {
                        failed(&error, Some(org));
                    }
                    // What contradicts itself does so the next time too: the index stays
                    // where it is, and every search says where that is.
                    if error.class() == Class::Transient {
                        self.go_on(org);
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    /// Brings the next leaves into the index. Whether there may be more.
    async fn advance(&self, org: OrgId, reader: &mut Reader) -> Result<bool, AuditError> {
        let (journal, index) = (&*self.journal, &*self.index);
        let from = index.covered(org).await?;
        let leaves = journal.records(org, from, BATCH).await?;
        if leaves.is_empty() {
            return Ok(false);
        }
        let key = self.keys.key(org).await?;
        let known = Known {
            journal,
            index,
            key: &key,
        };
        let terms = reader.read(org, from, &leaves, &known).await?;
        let tags = terms.iter().map(|terms| key.tags(terms)).collect();
        index.extend(org, from, tags).await?;
        Ok(leaves.len() == BATCH)
    }

    fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    async fn pause(&self, length: Duration) {
        if self.closed() || self.waiting.load(Ordering::SeqCst) > 0 {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(length) => {}
            () = self.hurry.notified() => {}
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Brings everything into the index as the background task does it, and says what fails.
#[cfg(feature = "test-util")]
pub async fn index_all(
    org: OrgId,
    journal: Arc<dyn Journal>,
    index: Arc<dyn SearchIndex>,
    keys: Arc<dyn IndexKeys>,
) -> Result<(), AuditError> {
    let follower = Follower::new(journal, index, keys);
    let mut reader = Reader::default();
    while follower.advance(org, &mut reader).await? {}
    Ok(())
}

fn failed(error: &AuditError, org: Option<OrgId>) {
    tracing::error!(
        org = org.map(tracing::field::display),
        error = error as &dyn std::error::Error,
        "leaves cannot be brought into the search index"
    );
}
