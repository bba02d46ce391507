//! The audit log as its callers see it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use creto_tlog::{Hash, InclusionProof, Note, ProofPlan, Resource, TileSet, verify_inclusion};
use creto_types::{Clock, Evidence, LeafIndex, OrgId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::{corrupt, proof_fault, tile_fault};
use crate::head::{HASHER, HeadKeys};
use crate::log::{Log, Stores};
use crate::trace::Tracer;
use crate::{AuditError, Checkpointed, Journal, LogKeySource, TileStore, bundle};

/// How the log is run.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// The origin of an organization's log is this, a slash and its id; for
    /// example `creto.example/log`.
    pub origin_prefix: String,
    /// Trace records written in one transaction.
    pub batch_size: usize,
    /// The longest that a trace record waits for its batch, and that a
    /// committed leaf waits for its checkpoint.
    pub flush_interval: Duration,
}

/// That a leaf is in the log, for someone offline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafProof {
    /// Its place.
    pub index: LeafIndex,
    /// The leaf.
    pub bytes: Vec<u8>,
    /// C2SP tlog-proof.
    pub proof: String,
    /// The checkpoint that the proof leads to, as in the proof.
    pub checkpoint: Vec<u8>,
}

/// The logs of every organization. See the crate's documentation.
pub struct Audit {
    shared: Arc<Shared>,
    tracer: Tracer,
}

type Slot = Arc<tokio::sync::Mutex<Option<Log>>>;

struct Shared {
    stores: Stores,
    keys: Arc<dyn LogKeySource>,
    clock: Arc<dyn Clock>,
    config: AuditConfig,
    /// One log is opened and advanced by one task at a time.
    logs: Mutex<HashMap<OrgId, Slot>>,
    dirty: Mutex<BTreeSet<OrgId>>,
    wake: Notify,
    closed: AtomicBool,
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
            dirty: Mutex::default(),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
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

    /// Brings everything durable into the tree now and returns the checkpoint
    /// over it.
    pub async fn checkpoint(&self, org: OrgId) -> Result<Checkpointed, AuditError> {
        self.shared.advance(org).await
    }

    /// Proves that a leaf is in the log.
    pub async fn prove(&self, org: OrgId, leaf: LeafIndex) -> Result<LeafProof, AuditError> {
        let head = match self.shared.published(org).await {
            Some(head) if head.size > leaf.0 => head,
            _ => self.shared.advance(org).await?,
        };
        let size = head.size;
        let plan = ProofPlan::inclusion(leaf.0, size).map_err(|_| AuditError::UnknownLeaf {
            org,
            leaf,
            size,
        })?;
        let mut tiles = TileSet::new();
        for tile in plan.tiles() {
            let bytes = self.shared.tile(org, tile).await?;
            tiles
                .insert(tile, &bytes)
                .map_err(|e| tile_fault(org, &e))?;
        }
        let hashes = plan
            .resolve(HASHER, &tiles)
            .map_err(|e| tile_fault(org, &e))?;
        let bytes = self
            .shared
            .stores
            .journal
            .read(org, leaf.0, 1)
            .await?
            .pop()
            .ok_or_else(|| corrupt(org, format!("leaf {leaf}"), "the journal does not have it"))?;
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

    /// The evidence bundle of everything recorded until now, as relative paths
    /// and bytes; see `docs/formats/evidence-bundle.md`. Pending trace records
    /// are written first. `attachments` are files that leaves refer to, under
    /// `attachments/`.
    pub async fn export(
        &self,
        org: OrgId,
        attachments: Vec<(String, Vec<u8>)>,
    ) -> Result<BTreeMap<String, Vec<u8>>, AuditError> {
        self.tracer.flush().await?;
        let head = self.shared.advance(org).await?;
        let (keys, names) = self.shared.keys_of(org)?;
        let source = bundle::Source {
            org,
            journal: &*self.shared.stores.journal,
            keys: &keys,
            names: &names,
            head,
            at: self.shared.clock.now(),
        };
        bundle::export(source, attachments).await
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
    }
}

impl Shared {
    fn notify(&self, org: OrgId) {
        self.dirty.lock().insert(org);
        self.wake.notify_one();
    }

    fn keys_of(&self, org: OrgId) -> Result<(crate::LogKeys, HeadKeys), AuditError> {
        let keys = self.keys.keys(org)?;
        let origin = format!("{}/{org}", self.config.origin_prefix);
        let names = HeadKeys::new(
            &origin,
            keys.ed25519.verifying_key(),
            keys.composite.verifying_key(),
        )
        .map_err(|e| e.into_audit(&origin))?;
        bundle::check_evidence_key(&keys)?;
        Ok((keys, names))
    }

    fn slot(&self, org: OrgId) -> Slot {
        Arc::clone(self.logs.lock().entry(org).or_default())
    }

    async fn published(&self, org: OrgId) -> Option<Checkpointed> {
        let slot = self.slot(org);
        let log = slot.lock().await;
        log.as_ref().and_then(|log| log.published().cloned())
    }

    /// Opens the log if it is not open yet, and advances it.
    ///
    /// In a task of its own: a caller that goes away never leaves a write behind
    /// that could overtake a later one.
    async fn advance(self: &Arc<Self>, org: OrgId) -> Result<Checkpointed, AuditError> {
        let shared = Arc::clone(self);
        let work = tokio::spawn(async move {
            let slot = shared.slot(org);
            let mut slot = slot.lock().await;
            let log = match slot.take() {
                Some(log) => log,
                None => {
                    let (keys, names) = shared.keys_of(org)?;
                    Log::open(org, keys, names, &shared.stores).await?
                }
            };
            slot.insert(log).advance(&shared.stores).await
        });
        work.await.map_err(|_| AuditError::Stopped)?
    }

    async fn tile(&self, org: OrgId, tile: creto_tlog::Tile) -> Result<Vec<u8>, AuditError> {
        let path = tile.to_string();
        if let Some(bytes) = self.stores.tiles.get(org, &path).await? {
            return Ok(bytes);
        }
        // The partial version may have made way for the full one meanwhile.
        let full = creto_tlog::Tile::new(tile.level(), tile.index(), creto_tlog::TILE_WIDTH);
        if let Some(full) = full
            && let Some(mut bytes) = self.stores.tiles.get(org, &full.to_string()).await?
        {
            let hashes = usize::try_from(tile.width()).unwrap_or(usize::MAX);
            bytes.truncate(hashes.saturating_mul(Hash::LEN));
            return Ok(bytes);
        }
        Err(corrupt(org, path, "the file is missing"))
    }

    /// The background task: integrates what was committed.
    async fn integrate(self: Arc<Self>) {
        while !self.closed.load(Ordering::Acquire) {
            self.wake.notified().await;
            // Leaves that come close together share a checkpoint.
            tokio::select! {
                () = tokio::time::sleep(self.config.flush_interval) => {}
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
            return;
        };
        tracing::error!(
            %org, error = &error as &dyn std::error::Error,
            "leaves are durable but cannot be brought into the log"
        );
        let retry = matches!(
            creto_errors::Classify::class(&error),
            creto_errors::Class::Transient
        );
        if retry && !self.closed.load(Ordering::Acquire) {
            self.notify(org);
        }
    }
}
