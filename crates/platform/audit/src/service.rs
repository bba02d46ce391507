//! The audit log as its callers see it.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use creto_tlog::{
    Hash, InclusionProof, Note, ProofPlan, Resource, verify_consistency, verify_inclusion,
};
use creto_types::{Clock, Evidence, LeafIndex, OrgId, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cosign::{AskedWitness, WITNESSED, Witnessing};
use crate::error::{corrupt, proof_fault};
use crate::head::HASHER;
use crate::log::{Log, Stores};
use crate::search::{Follower, LeafSet};
use crate::signing::Signing;
use crate::trace::Tracer;
use crate::{
    Attachments, AuditError, Checkpointed, Content, Export, IndexKeys, Journal, LogKeySource,
    Record, SearchIndex, SearchPage, SearchQuery, StoredRecord, TileStore, search,
};

/// How soon leaves that could not be brought into a log are tried again, when no further
/// one comes before.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a committed leaf waits for others to share its checkpoint, at most; less
/// when trace records are written sooner. A signed head and the files below it cost some
/// syncs, and ten of them a second are no burden. Nobody who needs a proof waits this
/// long: asking for one publishes.
const TOGETHER: Duration = Duration::from_millis(100);

/// How the log is run.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// The origin of an organization's log is this, a slash and its id; for
    /// example `creto.example/log`.
    pub origin_prefix: String,
    /// Trace records written in one transaction.
    pub batch_size: usize,
    /// The longest that a trace record waits for its batch.
    pub flush_interval: Duration,
}

/// That a leaf is in the log, for someone offline.
#[derive(Clone, Debug, PartialEq)]
pub struct LeafProof {
    /// Its place.
    pub index: LeafIndex,
    /// The leaf.
    pub bytes: Vec<u8>,
    /// What it commits to.
    pub content: Content,
    /// The record of both.
    pub record: Record,
    /// C2SP tlog-proof.
    pub proof: String,
    /// The checkpoint that the proof leads to, as in the proof.
    pub checkpoint: Vec<u8>,
}

/// That one state of a log continues an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// The earlier size.
    pub from: u64,
    /// The root at it.
    pub from_root: Hash,
    /// The later size.
    pub to: u64,
    /// The root at it.
    pub to_root: Hash,
    /// RFC 6962, section 2.1.2.
    pub hashes: Vec<Hash>,
    /// The published checkpoint, which covers both sizes.
    pub checkpoint: Vec<u8>,
}

/// The logs of every organization. See the crate's documentation.
pub struct Audit {
    shared: Arc<Shared>,
    tracer: Tracer,
}

/// A published checkpoint, and what signed it.
#[derive(Clone)]
pub(crate) struct Published {
    pub(crate) head: Checkpointed,
    pub(crate) signing: Arc<Signing>,
}

/// Which keys an open log goes on with.
#[derive(Clone, Copy)]
enum Keys {
    Kept,
    ReadAnew,
}

type Slot = Arc<tokio::sync::Mutex<Option<Log>>>;

pub(crate) struct Shared {
    pub(crate) stores: Stores,
    keys: Arc<dyn LogKeySource>,
    clock: Arc<dyn Clock>,
    config: AuditConfig,
    /// One log is opened and advanced by one task at a time.
    logs: Mutex<HashMap<OrgId, Slot>>,
    /// What is published, for readers: they never wait for who writes.
    heads: Mutex<HashMap<OrgId, Published>>,
    dirty: Mutex<BTreeSet<OrgId>>,
    /// Why leaves were not brought into a log when that was tried last.
    failing: Mutex<HashMap<OrgId, String>>,
    /// Those that are tried again in a moment.
    retrying: Mutex<BTreeSet<OrgId>>,
    wake: Notify,
    pub(crate) closed: AtomicBool,
    witnessing: OnceLock<Arc<Witnessing>>,
    follower: OnceLock<Arc<Follower>>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Audit {
    /// Opens every organization's log: rebuilds it from the journal, compares
    /// it with the published files, and publishes what is not yet. Refuses to
    /// start on a contradiction ([`AuditError::Corrupt`]).
    ///
    /// Must be called inside a Tokio runtime; the background tasks end when the
    /// service is dropped.
    pub async fn open(
        journal: Arc<dyn Journal>,
        tiles: Arc<dyn TileStore>,
        keys: Arc<dyn LogKeySource>,
        clock: Arc<dyn Clock>,
        config: AuditConfig,
    ) -> Result<Arc<Self>, AuditError> {
        let shared = Arc::new(Shared {
            stores: Stores {
                journal: Arc::clone(&journal),
                tiles,
            },
            keys,
            clock,
            config,
            logs: Mutex::default(),
            heads: Mutex::default(),
            dirty: Mutex::default(),
            failing: Mutex::default(),
            retrying: Mutex::default(),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
            witnessing: OnceLock::new(),
            follower: OnceLock::new(),
        });
        for org in journal.organizations().await? {
            shared.advance(org).await?;
        }
        tokio::spawn(Arc::clone(&shared).integrate());
        let grown = Arc::clone(&shared);
        let tracer = Tracer::start(
            journal,
            shared.config.batch_size,
            shared.config.flush_interval,
            move |org| grown.notify(org),
        );
        Ok(Arc::new(Self { shared, tracer }))
    }

    /// Accepts a trace record.
    ///
    /// Returns once the record is queued; it becomes durable with its batch, at
    /// most `flush_interval` later. Waits while the queue is full. While
    /// batches fail, what was accepted is kept and tried again, and new records
    /// are refused with [`AuditError::TraceFailing`], so that a caller can
    /// refuse what it cannot trace. A killed process loses the records of its
    /// last `flush_interval`.
    pub async fn trace(&self, record: Evidence) -> Result<(), AuditError> {
        self.tracer.trace(record).await
    }

    /// Says that somebody's transaction committed leaves: they are brought into
    /// the tree soon, in the background.
    pub fn notify(&self, org: OrgId) {
        self.shared.notify(org);
    }

    /// From now on has every published checkpoint cosigned by these witnesses, in the
    /// background, as far as they answer. [`Audit::public_checkpoint`] shows the
    /// newest one with at least `quorum` cosignatures. May be called once.
    ///
    /// Must be called inside a Tokio runtime.
    pub fn ask_witnesses(&self, witnesses: Vec<AskedWitness>, quorum: usize) {
        let witnessing = Arc::new(Witnessing::new(witnesses, quorum));
        if self.shared.witnessing.set(Arc::clone(&witnessing)).is_err() {
            return;
        }
        for org in self.shared.heads.lock().keys() {
            witnessing.published(*org);
        }
        tokio::spawn(witnessing.run(Arc::clone(&self.shared)));
    }

    /// From now on keeps this index behind the journal, in the background, for
    /// [`Audit::search`]; what it is given is tagged under these keys. May be called once.
    ///
    /// Must be called inside a Tokio runtime.
    pub fn index_with(&self, index: Arc<dyn SearchIndex>, keys: Arc<dyn IndexKeys>) {
        let journal = Arc::clone(&self.shared.stores.journal);
        let follower = Follower::new(journal, index, keys);
        if self.shared.follower.set(Arc::clone(&follower)).is_ok() {
            tokio::spawn(follower.run());
        }
    }

    /// The newest records that say what is asked for. Waits a moment for the index to
    /// have what was durable before the call, and says when it has not; never for the
    /// tree.
    pub async fn search(&self, org: OrgId, query: SearchQuery) -> Result<SearchPage, AuditError> {
        let follower = self.shared.follower.get();
        search::search(follower.ok_or(AuditError::NotIndexed)?, org, query).await
    }

    /// Brings everything durable into the tree now and returns the checkpoint
    /// over it, with the lines of those witnesses that have cosigned it already.
    pub async fn checkpoint(&self, org: OrgId) -> Result<Checkpointed, AuditError> {
        let head = self.shared.advance(org).await?;
        Ok(self.shared.with_cosignatures(org, head))
    }

    /// The checkpoint that strangers are shown: the newest published one, or, when
    /// witnesses are asked with a quorum, the newest one that reaches it. Read from
    /// the published files: it never waits for the writer, and makes none.
    pub async fn public_checkpoint(&self, org: OrgId) -> Result<Option<Vec<u8>>, AuditError> {
        let tiles = &self.shared.stores.tiles;
        let newest = tiles.get(org, "checkpoint").await?;
        let Some(witnessing) = self.shared.witnessing.get() else {
            return Ok(newest);
        };
        let witnessed = tiles.get(org, WITNESSED).await?;
        witnessing
            .public(newest, witnessed.as_deref())
            .map_err(|e| corrupt(org, WITNESSED, e))
    }

    /// Takes the keys that are in force now into use and publishes a checkpoint that they
    /// signed, if the published one is not; so is the one that witnesses have cosigned. The tree is the same one, and leaves are
    /// appended meanwhile as ever.
    ///
    /// After an error the published checkpoint may be one that the keys before signed; to
    /// be called again then. Opening the log does the same.
    pub async fn rekey(&self, org: OrgId) -> Result<Checkpointed, AuditError> {
        let published = self.shared.publish(org, Keys::ReadAnew).await?;
        // Not left to the background, where witnesses that do not answer are waited for.
        if let Some(witnessing) = self.shared.witnessing.get() {
            witnessing.renew(org, &published, &self.shared).await?;
        }
        Ok(self.shared.with_cosignatures(org, published.head))
    }

    /// The verifier keys in force of an organization's log, as note tools read them:
    /// Ed25519 first, then the one that holds against quantum computers.
    pub fn verifier_keys(&self, org: OrgId) -> Result<[String; 2], AuditError> {
        Ok(self.shared.signing_of(org)?.names().note_keys())
    }

    /// The same of the pair that signs besides; `None` when there is none.
    pub fn former_verifier_keys(&self, org: OrgId) -> Result<Option<[String; 2]>, AuditError> {
        let signing = self.shared.signing_of(org)?;
        Ok(signing.former().map(|names| names.note_keys()))
    }

    /// Proves that the log of `to` leaves continues the one of `from`. Without `to`
    /// it is the newest one.
    pub async fn consistency(
        &self,
        org: OrgId,
        from: u64,
        to: Option<u64>,
    ) -> Result<ConsistencyProof, AuditError> {
        let asked = to.unwrap_or(from).max(from);
        let head = match self.shared.published(org) {
            Some(head) if to.is_some() && head.size >= asked => head,
            _ => self.shared.advance(org).await?,
        };
        let to = to.unwrap_or(head.size);
        if to > head.size || from > to {
            return Err(AuditError::UnknownSize {
                org,
                from,
                to,
                size: head.size,
            });
        }
        let hashes = self.shared.consistency(org, from, to, head.size).await?;
        let from_root = self.shared.root_at(org, from, head.size).await?;
        // What was signed, where there is such a thing.
        let to_root = if to == head.size {
            Hash::from_bytes(head.root)
        } else {
            self.shared.root_at(org, to, head.size).await?
        };
        // A proof that does not hold is never handed out.
        verify_consistency(HASHER, from, &from_root, to, &to_root, &hashes)
            .map_err(|e| corrupt(org, format!("size {from}"), e))?;
        let head = self.shared.with_cosignatures(org, head);
        Ok(ConsistencyProof {
            from,
            from_root,
            to,
            to_root,
            hashes,
            checkpoint: head.note,
        })
    }

    /// Proves that a leaf is in the log.
    pub async fn prove(&self, org: OrgId, leaf: LeafIndex) -> Result<LeafProof, AuditError> {
        let head = match self.shared.published(org) {
            Some(head) if head.size > leaf.0 => head,
            _ => self.shared.advance(org).await?,
        };
        let head = self.shared.with_cosignatures(org, head);
        let size = head.size;
        let plan = ProofPlan::inclusion(leaf.0, size).map_err(|_| AuditError::UnknownLeaf {
            org,
            leaf,
            size,
        })?;
        let hashes = self.shared.resolve(org, &plan, size).await?;
        let stored = self.shared.stores.journal.records(org, leaf.0, 1).await?;
        let stored = stored.into_iter().next();
        let stored = stored
            .ok_or_else(|| corrupt(org, format!("leaf {leaf}"), "the journal does not have it"))?;
        let record = stored
            .read()
            .map_err(|fault| corrupt(org, format!("leaf {leaf}"), fault))?;
        let StoredRecord {
            leaf: bytes,
            content,
        } = stored;
        // A proof that does not hold is never handed out.
        let root = Hash::from_bytes(head.root);
        verify_inclusion(HASHER, &HASHER.leaf(&bytes), leaf.0, size, &hashes, &root)
            .map_err(|e| proof_fault(org, leaf.0, &e))?;
        let checkpoint = Note::parse(&head.note).map_err(|e| corrupt(org, "checkpoint", e))?;
        let proof = InclusionProof {
            index: leaf.0,
            hashes,
            checkpoint,
        };
        Ok(LeafProof {
            index: leaf,
            bytes,
            content,
            record,
            proof: proof.to_string(),
            checkpoint: head.note,
        })
    }

    /// A public file of the log as it is published: `checkpoint`,
    /// `tile/0/000`, `tile/entries/000.p/7`. Nothing at any other path.
    pub async fn resource(&self, org: OrgId, path: &str) -> Result<Option<Vec<u8>>, AuditError> {
        if path.parse::<Resource>().is_err() {
            return Ok(None);
        }
        Ok(self.shared.stores.tiles.get(org, path).await?)
    }

    /// Begins the evidence bundle of everything recorded until now; see
    /// `docs/formats/evidence-bundle.md`. Pending trace records are written first.
    ///
    /// With a query that asks for something, it has the payloads of those records alone that
    /// say it, and the attachments that these refer to; the pages of the query are not looked
    /// at. Every leaf is there, so that the bundle proves as much as a whole one.
    pub async fn export(
        &self,
        org: OrgId,
        attachments: Arc<dyn Attachments>,
        query: Option<&SearchQuery>,
    ) -> Result<Export, AuditError> {
        self.tracer.flush().await?;
        Export::begin(Arc::clone(&self.shared), org, attachments, query).await
    }

    /// Makes pending trace records durable and brings every log up to date; to
    /// be called before the process ends.
    pub async fn flush(&self) -> Result<(), AuditError> {
        self.tracer.flush().await?;
        for org in self.shared.stores.journal.organizations().await? {
            self.shared.advance(org).await?;
        }
        Ok(())
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        if let Some(witnessing) = self.shared.witnessing.get() {
            witnessing.stop();
        }
        if let Some(follower) = self.shared.follower.get() {
            follower.stop();
        }
    }
}

impl Shared {
    fn with_cosignatures(&self, org: OrgId, mut head: Checkpointed) -> Checkpointed {
        if let Some(note) = self.witnessing.get().and_then(|w| w.note_of(org, &head)) {
            head.note = note;
        }
        head
    }

    fn notify(&self, org: OrgId) {
        self.dirty.lock().insert(org);
        self.wake.notify_one();
        if let Some(follower) = self.follower.get() {
            follower.notify(org);
        }
    }

    fn signing_of(&self, org: OrgId) -> Result<Arc<Signing>, AuditError> {
        let keys = self.keys.keys(org)?;
        let origin = format!("{}/{org}", self.config.origin_prefix);
        Ok(Arc::new(Signing::new(&origin, keys)?))
    }

    fn slot(&self, org: OrgId) -> Slot {
        Arc::clone(self.logs.lock().entry(org).or_default())
    }

    pub(crate) fn published(&self, org: OrgId) -> Option<Checkpointed> {
        self.heads.lock().get(&org).map(|found| found.head.clone())
    }

    pub(crate) fn signed(&self, org: OrgId) -> Option<Published> {
        self.heads.lock().get(&org).cloned()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Every leaf below `size` that says what is asked for.
    pub(crate) async fn matching(
        &self,
        org: OrgId,
        query: &SearchQuery,
        size: u64,
    ) -> Result<LeafSet, AuditError> {
        let follower = self.follower.get().ok_or(AuditError::NotIndexed)?;
        search::all(follower, org, query, size).await
    }

    /// Brings everything durable into the tree, signed by the keys that are in force now.
    pub(crate) async fn signed_in_force(
        self: &Arc<Self>,
        org: OrgId,
    ) -> Result<Published, AuditError> {
        self.publish(org, Keys::ReadAnew).await
    }

    async fn advance(self: &Arc<Self>, org: OrgId) -> Result<Checkpointed, AuditError> {
        Ok(self.publish(org, Keys::Kept).await?.head)
    }

    /// Opens the log if it is not open yet, and advances it.
    ///
    /// In a task of its own: a caller that goes away never leaves a write behind
    /// that could overtake a later one.
    async fn publish(self: &Arc<Self>, org: OrgId, keys: Keys) -> Result<Published, AuditError> {
        let shared = Arc::clone(self);
        let work = tokio::spawn(async move {
            let slot = shared.slot(org);
            let mut slot = slot.lock().await;
            // Keys are read under the lock: what was read before never replaces what was
            // read after.
            let log = match &mut *slot {
                Some(log) => {
                    if matches!(keys, Keys::ReadAnew) {
                        log.sign_with(shared.signing_of(org)?)?;
                    }
                    log
                }
                None => {
                    let signing = shared.signing_of(org)?;
                    slot.insert(Log::open(org, signing, &shared.stores).await?)
                }
            };
            let before = log.published().map(|head| head.note.clone());
            let head = log.advance(&shared.stores).await?;
            let published = Published {
                head,
                signing: Arc::clone(log.signing()),
            };
            shared.heads.lock().insert(org, published.clone());
            if before.as_ref() != Some(&published.head.note)
                && let Some(witnessing) = shared.witnessing.get()
            {
                witnessing.published(org);
            }
            Ok(published)
        });
        work.await.map_err(|_| AuditError::Stopped)?
    }

    /// The background task: integrates what was committed.
    async fn integrate(self: Arc<Self>) {
        while !self.closed.load(Ordering::Acquire) {
            self.wake.notified().await;
            // Leaves that come close together share a checkpoint.
            tokio::select! {
                () = tokio::time::sleep(TOGETHER.min(self.config.flush_interval)) => {}
                () = self.until_closed() => {}
            }
            let orgs = std::mem::take(&mut *self.dirty.lock());
            for org in orgs {
                self.integrate_one(org).await;
            }
        }
    }

    async fn until_closed(&self) {
        while !self.closed.load(Ordering::Acquire) {
            self.wake.notified().await;
        }
    }

    async fn integrate_one(self: &Arc<Self>, org: OrgId) {
        let Err(error) = self.advance(org).await else {
            self.failing.lock().remove(&org);
            return;
        };
        // It is tried again and again: what is new is said once.
        let why = creto_errors::chain(&error);
        if self.failing.lock().insert(org, why.clone()) != Some(why) {
            tracing::error!(
                %org, error = &error as &dyn std::error::Error,
                "leaves are durable but cannot be brought into the log"
            );
        }
        let retry = matches!(
            creto_errors::Classify::class(&error),
            creto_errors::Class::Transient
        );
        if retry && self.retrying.lock().insert(org) {
            let shared = Arc::downgrade(self);
            tokio::spawn(async move {
                tokio::time::sleep(AGAIN).await;
                if let Some(shared) = shared.upgrade() {
                    shared.retrying.lock().remove(&org);
                    shared.notify(org);
                }
            });
        }
    }
}
