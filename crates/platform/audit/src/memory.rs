//! Backends in memory that obey the full contract of the ports; for tests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use creto_crypto::{Secret, sha256};
use creto_types::{
    Evidence, HybridTimestamp, LeafIndex, OrgId, PrincipalName, StoreError, SubjectId,
};
use parking_lot::Mutex;

use crate::record::{ReadLeaf, read_leaf};
use crate::{
    Attachments, Commitment, Content, Found, IndexKey, IndexKeys, Journal, LeafError, Opening,
    RecordClass, SealedHead, SearchIndex, SearchTag, StoredRecord, TileStore, Withheld, intersect,
    leaf_bytes, sealed_leaf_bytes,
};

/// A journal in memory. Payloads lie beside their leaves; the key that erasing destroys
/// is the payload itself.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    logs: Mutex<HashMap<OrgId, Vec<Vec<u8>>>>,
    payloads: Mutex<HashMap<(OrgId, Commitment), Content>>,
    /// Whether leaves are as they were before payloads were sealed.
    clear: bool,
    /// The timestamp of each log's last leaf.
    last: Mutex<HashMap<OrgId, HybridTimestamp>>,
    failures: Failures,
}

/// Files in memory.
#[derive(Debug, Default)]
pub struct MemoryTiles {
    files: Mutex<BTreeMap<(OrgId, String), Vec<u8>>>,
    failures: Failures,
}

/// Files beside a log, in memory.
pub struct MemoryAttachments {
    files: Mutex<Vec<(String, Vec<u8>)>>,
    refers: fn(&serde_json::Value) -> Option<String>,
    reads: AtomicUsize,
}

impl MemoryAttachments {
    /// These files, of which a record refers to the one that `refers` gives.
    #[must_use]
    pub fn new(
        files: Vec<(String, Vec<u8>)>,
        refers: fn(&serde_json::Value) -> Option<String>,
    ) -> Self {
        Self {
            files: Mutex::new(files),
            refers,
            reads: AtomicUsize::new(0),
        }
    }

    /// Keeps one more.
    pub fn keep(&self, name: &str, bytes: &[u8]) {
        self.files.lock().push((name.to_owned(), bytes.to_vec()));
    }

    /// How many were read so far.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Attachments for MemoryAttachments {
    async fn names(&self, _org: OrgId) -> Result<Vec<String>, StoreError> {
        let files = self.files.lock();
        Ok(files.iter().map(|(name, _)| name.clone()).collect())
    }

    async fn read(&self, _org: OrgId, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let files = self.files.lock();
        let found = files.iter().find(|(kept, _)| kept == name);
        Ok(found.map(|(_, bytes)| bytes.clone()))
    }

    fn referred(&self, record: &serde_json::Value) -> Option<String> {
        (self.refers)(record)
    }
}

/// Writes that are made to fail.
#[derive(Debug, Default)]
struct Failures {
    /// Writes that succeed before.
    after: AtomicUsize,
    count: AtomicUsize,
    /// Whether a failing write is applied all the same.
    applied: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
#[error("this write was made to fail")]
struct Injected;

impl Failures {
    fn set(&self, after: usize, count: usize, applied: bool) {
        self.applied.store(applied, Ordering::SeqCst);
        self.after.store(after, Ordering::SeqCst);
        self.count.store(count, Ordering::SeqCst);
    }

    fn pass(&self) -> Result<(), StoreError> {
        let take = |counter: &AtomicUsize| {
            counter
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok()
        };
        if self.count.load(Ordering::SeqCst) == 0 || take(&self.after) {
            return Ok(());
        }
        take(&self.count);
        Err(StoreError::Unavailable(Box::new(Injected)))
    }
}

impl MemoryJournal {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty journal whose leaves are as they were before payloads were sealed.
    #[must_use]
    pub fn clear() -> Self {
        Self {
            clear: true,
            ..Self::default()
        }
    }

    /// Whose records those of this actor are.
    #[must_use]
    pub fn subject(org: OrgId, actor: &PrincipalName) -> SubjectId {
        let digest = sha256(format!("{org} {actor}").as_bytes());
        let mut bytes = [0; 16];
        for (byte, of) in bytes.iter_mut().zip(digest) {
            *byte = of;
        }
        SubjectId::of_random(bytes)
    }

    /// Loses the payloads of the leaves that `of` names, for this reason.
    pub fn withhold(&self, org: OrgId, why: Withheld, of: impl Fn(u64, &SealedHead) -> bool) {
        let logs = self.logs.lock();
        let mut payloads = self.payloads.lock();
        for (leaf, index) in logs.get(&org).into_iter().flatten().zip(0..) {
            if let Ok(read) = read_leaf(leaf, org, index)
                && let Some(head) = read.sealed
                && of(index, &head)
            {
                payloads.insert((org, head.commitment), Content::Withheld(why));
            }
        }
    }

    /// Puts other content beside a leaf, as a broken or hostile machine would.
    pub fn replace(&self, org: OrgId, commitment: Commitment, content: Content) {
        self.payloads.lock().insert((org, commitment), content);
    }

    fn leaf(
        &self,
        place: LeafIndex,
        ts: HybridTimestamp,
        class: RecordClass,
        record: &Evidence,
    ) -> Result<(Vec<u8>, Option<Opening>), LeafError> {
        if self.clear {
            return Ok((leaf_bytes(place, ts, class, record)?, None));
        }
        let salt = sha256(format!("{} {place}", record.org).as_bytes());
        let opening = Opening::of(record, salt)?;
        let subject = Self::subject(record.org, &record.actor);
        let commitment = opening.commitment();
        let leaf = sealed_leaf_bytes(place, ts, class, record, subject, commitment)?;
        Ok((leaf, Some(opening)))
    }

    /// Lets `after` appends succeed, then fails `count` of them, which are not
    /// applied.
    pub fn fail_appends(&self, after: usize, count: usize) {
        self.failures.set(after, count, false);
    }

    /// Changes what is stored, as a broken or hostile machine would.
    pub fn tamper(&self, org: OrgId, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        change(self.logs.lock().entry(org).or_default());
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(
        &self,
        class: RecordClass,
        records: Vec<Evidence>,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        self.failures.pass()?;
        let mut logs = self.logs.lock();
        let mut last = self.last.lock();
        let mut after = last.clone();
        let mut grown: HashMap<OrgId, Vec<Vec<u8>>> = HashMap::new();
        let mut places = Vec::with_capacity(records.len());
        let mut openings = Vec::new();
        for record in &records {
            let before = logs.get(&record.org).map_or(0, Vec::len);
            let tail = grown.entry(record.org).or_default();
            let place = LeafIndex((before + tail.len()) as u64);
            let ts = HybridTimestamp::behind(after.get(&record.org).copied(), record.at)
                .unwrap_or(HybridTimestamp::MAX);
            after.insert(record.org, ts);
            let (bytes, opening) =
                self.leaf(place, ts, class, record)
                    .map_err(|e| StoreError::Corrupt {
                        what: "evidence",
                        source: Box::new(e),
                    })?;
            tail.push(bytes);
            openings.extend(opening.map(|opening| (record.org, opening)));
            places.push(place);
        }
        for (org, tail) in grown {
            logs.entry(org).or_default().extend(tail);
        }
        *last = after;
        let mut payloads = self.payloads.lock();
        for (org, opening) in openings {
            payloads.insert((org, opening.commitment()), Content::Opened(opening));
        }
        Ok(places)
    }

    async fn records(
        &self,
        org: OrgId,
        from: u64,
        max: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let leaves = self.read(org, from, max).await?;
        let payloads = self.payloads.lock();
        let content = |leaf: &[u8], index| match read_leaf(leaf, org, index) {
            Ok(ReadLeaf {
                sealed: Some(head), ..
            }) => payloads
                .get(&(org, head.commitment))
                .cloned()
                .unwrap_or(Content::Withheld(Withheld::Expired)),
            _ => Content::Clear,
        };
        Ok(leaves
            .into_iter()
            .zip(from..)
            .map(|(leaf, index)| StoredRecord {
                content: content(&leaf, index),
                leaf,
            })
            .collect())
    }

    async fn read(&self, org: OrgId, from: u64, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        Ok(self
            .logs
            .lock()
            .get(&org)
            .map(|log| log.iter().skip(from).take(max).cloned().collect())
            .unwrap_or_default())
    }

    async fn size(&self, org: OrgId) -> Result<u64, StoreError> {
        Ok(self.logs.lock().get(&org).map_or(0, |log| log.len() as u64))
    }

    async fn organizations(&self) -> Result<Vec<OrgId>, StoreError> {
        let logs = self.logs.lock();
        let mut orgs: Vec<OrgId> = logs
            .iter()
            .filter(|(_, log)| !log.is_empty())
            .map(|(org, _)| *org)
            .collect();
        orgs.sort();
        Ok(orgs)
    }
}

impl MemoryTiles {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `after` writes succeed, then fails `count` of them, which are
    /// applied all the same or not.
    pub fn fail_puts(&self, after: usize, count: usize, applied: bool) {
        self.failures.set(after, count, applied);
    }

    /// Every path of an organization.
    #[must_use]
    pub fn paths(&self, org: OrgId) -> Vec<String> {
        let files = self.files.lock();
        files
            .keys()
            .filter(|(owner, _)| *owner == org)
            .map(|(_, path)| path.clone())
            .collect()
    }

    /// Changes or removes a stored file, as a broken or hostile machine would.
    pub fn tamper(&self, org: OrgId, path: &str, change: impl FnOnce(&mut Option<Vec<u8>>)) {
        let mut files = self.files.lock();
        let key = (org, path.to_owned());
        let mut file = files.remove(&key);
        change(&mut file);
        if let Some(bytes) = file {
            files.insert(key, bytes);
        }
    }
}

#[async_trait]
impl TileStore for MemoryTiles {
    async fn put(&self, org: OrgId, path: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let outcome = self.failures.pass();
        if outcome.is_ok() || self.failures.applied.load(Ordering::SeqCst) {
            self.files.lock().insert((org, path.to_owned()), bytes);
        }
        outcome
    }

    async fn get(&self, org: OrgId, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.files.lock().get(&(org, path.to_owned())).cloned())
    }

    async fn remove_partials(&self, org: OrgId, full: &str) -> Result<(), StoreError> {
        let partials = format!("{full}.p/");
        self.files
            .lock()
            .retain(|(owner, path), _| *owner != org || !path.starts_with(&partials));
        Ok(())
    }
}

/// A search index in memory.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    logs: Mutex<HashMap<OrgId, Indexed>>,
    failures: Failures,
}

#[derive(Debug, Default)]
struct Indexed {
    covered: u64,
    tags: HashMap<SearchTag, BTreeSet<u64>>,
}

impl MemoryIndex {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `after` extensions succeed, then fails `count` of them, which are applied all
    /// the same or not.
    pub fn fail_extensions(&self, after: usize, count: usize, applied: bool) {
        self.failures.set(after, count, applied);
    }
}

#[async_trait]
impl SearchIndex for MemoryIndex {
    async fn covered(&self, org: OrgId) -> Result<u64, StoreError> {
        Ok(self.logs.lock().get(&org).map_or(0, |log| log.covered))
    }

    async fn extend(
        &self,
        org: OrgId,
        from: u64,
        leaves: Vec<Vec<SearchTag>>,
    ) -> Result<u64, StoreError> {
        let outcome = self.failures.pass();
        if outcome.is_err() && !self.failures.applied.load(Ordering::SeqCst) {
            return outcome.map(|()| 0);
        }
        let mut logs = self.logs.lock();
        let log = logs.entry(org).or_default();
        if log.covered == from {
            for tags in leaves {
                for tag in tags {
                    log.tags.entry(tag).or_default().insert(log.covered);
                }
                log.covered += 1;
            }
        }
        outcome.map(|()| log.covered)
    }

    async fn find(
        &self,
        org: OrgId,
        span: Range<u64>,
        tags: Vec<SearchTag>,
        max: usize,
    ) -> Result<Found, StoreError> {
        let logs = self.logs.lock();
        let none = Indexed::default();
        let log = logs.get(&org).unwrap_or(&none);
        let span = span.start..span.end.min(log.covered);
        let found = intersect::<Infallible>(span, &tags, max, |tag, below| {
            let leaves = log.tags.get(tag);
            Ok(leaves.and_then(|leaves| leaves.range(..below).next_back().copied()))
        });
        match found {
            Ok(found) => Ok(found),
            Err(never) => match never {},
        }
    }
}

/// Keys of search indexes that everybody knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryIndexKeys;

#[async_trait]
impl IndexKeys for MemoryIndexKeys {
    async fn key(&self, org: OrgId) -> Result<IndexKey, StoreError> {
        Ok(IndexKey::of(&Secret::copy_of(&sha256(
            org.to_string().as_bytes(),
        ))))
    }
}
