//! What the log needs from outside.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use creto_crypto::Signer;
use creto_types::{Evidence, LeafIndex, OrgId, StoreError};

use crate::{AuditError, RecordClass, StoredRecord};

/// The records of every organization, in the order in which they became
/// durable. It is the truth; tiles and checkpoints are made from it and can be
/// made again.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Appends the records in one transaction and returns the place of each.
    /// Durable on return. Each organization's places count up from zero without
    /// a gap, also under concurrent calls.
    async fn append(
        &self,
        class: RecordClass,
        records: Vec<Evidence>,
    ) -> Result<Vec<LeafIndex>, StoreError>;

    /// Up to `max` leaves from the place `from` on, in order: what the tree is over.
    async fn read(&self, org: OrgId, from: u64, max: usize) -> Result<Vec<Vec<u8>>, StoreError>;

    /// The same leaves, each with what is kept beside it. A payload is given only when it
    /// opens; why one is not there is told.
    async fn records(
        &self,
        org: OrgId,
        from: u64,
        max: usize,
    ) -> Result<Vec<StoredRecord>, StoreError>;

    /// The number of leaves.
    async fn size(&self, org: OrgId) -> Result<u64, StoreError>;

    /// Every organization that has a leaf.
    async fn organizations(&self) -> Result<Vec<OrgId>, StoreError>;
}

/// The public files of each organization's log, by the paths of C2SP
/// tlog-tiles.
#[async_trait]
pub trait TileStore: Send + Sync {
    /// Writes the file, replacing what was there. Atomic: a reader, and a
    /// process that starts after a crash, sees the old bytes or the new ones.
    /// Durable on return.
    async fn put(&self, org: OrgId, path: &str, bytes: Vec<u8>) -> Result<(), StoreError>;

    /// The file's bytes.
    async fn get(&self, org: OrgId, path: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// The bytes of several files, in the order they are asked for. A proof takes some
    /// tiles; a store that can reads them in one step.
    async fn get_all(
        &self,
        org: OrgId,
        paths: Vec<String>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            files.push(self.get(org, &path).await?);
        }
        Ok(files)
    }

    /// Removes the partial versions (`<full>.p/<W>`) of a full tile or bundle,
    /// which C2SP tlog-tiles allows once the full one is there. Nothing to
    /// remove is no error.
    async fn remove_partials(&self, org: OrgId, full: &str) -> Result<(), StoreError>;
}

/// The files beside a log that its records refer to. One that is kept stays as it is, and
/// is kept in the transaction of the first record that refers to it.
#[async_trait]
pub trait Attachments: Send + Sync {
    /// The names of all that are kept, each once.
    async fn names(&self, org: OrgId) -> Result<Vec<String>, StoreError>;

    /// One of them.
    async fn read(&self, org: OrgId, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// The name of the one that a record refers to.
    fn referred(&self, record: &serde_json::Value) -> Option<String>;
}

/// The keys that sign for one organization's log.
#[derive(Clone)]
pub struct LogKeys {
    /// Signs checkpoints for tools that know C2SP signature type 0x01. Ed25519.
    pub ed25519: Arc<dyn Signer>,
    /// Signs checkpoints too, by an algorithm that takes a context: the composite one of
    /// ML-DSA-65 and Ed25519, or ML-DSA-65.
    pub composite: Arc<dyn Signer>,
    /// Signs evidence bundles. As the one before.
    pub evidence: Arc<dyn Signer>,
    /// The pair that signed checkpoints before. It signs besides until it is retired, so
    /// that readers who know it alone have time to learn the pair in force.
    pub former: Option<FormerLogKeys>,
}

impl fmt::Debug for LogKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogKeys")
            .field("ed25519", self.ed25519.verifying_key())
            .field("composite", self.composite.verifying_key())
            .field("evidence", self.evidence.verifying_key())
            .field("former", &self.former)
            .finish()
    }
}

/// The pair of keys that signed an organization's checkpoints before the one in force.
#[derive(Clone)]
pub struct FormerLogKeys {
    /// As [`LogKeys::ed25519`].
    pub ed25519: Arc<dyn Signer>,
    /// As [`LogKeys::composite`].
    pub composite: Arc<dyn Signer>,
}

impl fmt::Debug for FormerLogKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormerLogKeys")
            .field("ed25519", self.ed25519.verifying_key())
            .field("composite", self.composite.verifying_key())
            .finish()
    }
}

/// Where the keys come from.
///
/// They may change while a log is open; [`crate::Audit::rekey`] takes the new ones into
/// use. The published checkpoint is what a log is believed by when it is opened, and it is
/// older than a change until `rekey` has returned. So the source keeps this order: the pair
/// in force becomes the former one with the change that replaces it, and is taken away, or
/// gives way to another, only after a `rekey` that did not fail.
pub trait LogKeySource: Send + Sync {
    /// The organization's log keys in force, all of one moment: a pair that is half old
    /// and half new would sign a checkpoint that no later opening believes.
    fn keys(&self, org: OrgId) -> Result<LogKeys, AuditError>;
}
