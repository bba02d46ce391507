//! One organization's log: from the journal to the public files.

use std::sync::Arc;

use creto_tlog::{Checkpoint, Note, Resource};
use creto_types::OrgId;
use tokio::task::JoinSet;

use crate::error::corrupt;
use crate::signing::Signing;
use crate::tree::{LogFile, LogTree};
use crate::{AuditError, Checkpointed, Journal, TileStore};

/// Leaves read from the journal at a time.
const CHUNK: usize = 512;

/// The stores behind every log.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) tiles: Arc<dyn TileStore>,
}

pub(crate) struct Log {
    org: OrgId,
    signing: Arc<Signing>,
    tree: LogTree,
    published: Option<Published>,
}

struct Published {
    head: Checkpointed,
    /// Whether its lines are those of the keys that sign now.
    current: bool,
}

impl Log {
    /// Rebuilds the log from the journal and compares it with every file that
    /// the published checkpoint covers. Files that are missing are made again;
    /// one that differs, or a checkpoint with another root, is a contradiction.
    pub(crate) async fn open(
        org: OrgId,
        signing: Arc<Signing>,
        stores: &Stores,
    ) -> Result<Self, AuditError> {
        let mut log = Self {
            org,
            signing,
            tree: LogTree::new(org),
            published: None,
        };
        if let Some(note) = stores.tiles.get(org, "checkpoint").await? {
            let (checkpoint, current) = log
                .signing
                .read(&note)
                .map_err(|finding| corrupt(org, finding.place, finding.message))?;
            log.rebuild(&checkpoint, stores).await?;
            let head = Checkpointed::of(&checkpoint, note);
            log.published = Some(Published { head, current });
        }
        Ok(log)
    }

    /// Signs with these keys from now on. The published checkpoint has their lines after
    /// the next [`Log::advance`].
    pub(crate) fn sign_with(&mut self, signing: Arc<Signing>) -> Result<(), AuditError> {
        if let Some(published) = &mut self.published {
            let note = Note::parse(&published.head.note)
                .map_err(|error| corrupt(self.org, "checkpoint", error))?;
            published.current = signing.signs(note.signatures());
        }
        self.signing = signing;
        Ok(())
    }

    async fn rebuild(
        &mut self,
        checkpoint: &Checkpoint,
        stores: &Stores,
    ) -> Result<(), AuditError> {
        let stored = stores.journal.size(self.org).await?;
        if stored < checkpoint.size {
            let detail = format!(
                "the journal has {stored} leaves, the checkpoint covers {}",
                checkpoint.size
            );
            return Err(corrupt(self.org, "journal", detail));
        }
        let mut missing = Vec::new();
        while self.tree.size() < checkpoint.size {
            let leaves = self
                .next_leaves(&self.tree, checkpoint.size, stores)
                .await?;
            for leaf in leaves {
                for file in self.tree.push(leaf)? {
                    self.compare(file, stores, &mut missing).await?;
                }
            }
        }
        for file in self.tree.partials()? {
            self.compare(file, stores, &mut missing).await?;
        }
        if self.tree.root() != checkpoint.root {
            let detail = format!(
                "the journal leads to the root {}, the checkpoint says {}",
                self.tree.root(),
                checkpoint.root
            );
            return Err(corrupt(self.org, "checkpoint", detail));
        }
        // Only now is it known that the journal is the one that was signed.
        for file in missing {
            tracing::warn!(org = %self.org, file = %file.resource, "a file of the log is missing; it is made again from the journal");
            put(self.org, file, stores).await?;
        }
        Ok(())
    }

    async fn compare(
        &self,
        file: LogFile,
        stores: &Stores,
        missing: &mut Vec<LogFile>,
    ) -> Result<(), AuditError> {
        match stores
            .tiles
            .get(self.org, &file.resource.to_string())
            .await?
        {
            Some(bytes) if bytes == file.bytes => Ok(()),
            Some(_) => Err(corrupt(
                self.org,
                file.resource,
                "it is not what the journal leads to",
            )),
            None => {
                missing.push(file);
                Ok(())
            }
        }
    }

    /// Brings every leaf that the journal has now into the tree and publishes a
    /// checkpoint over them, when there is anything new: leaves, or keys, by which the
    /// same tree is signed anew. Leaves that come meanwhile are for the next one, which a
    /// steady stream would put off for ever.
    ///
    /// Everything that a checkpoint covers is durable before it. When this
    /// fails, the state in memory is the one before it; files that were already
    /// written have the bytes they will be written with again.
    pub(crate) async fn advance(&mut self, stores: &Stores) -> Result<Checkpointed, AuditError> {
        let size = stores.journal.size(self.org).await?;
        let grown = size > self.tree.size();
        if let Some(published) = &self.published
            && !grown
            && published.current
        {
            return Ok(published.head.clone());
        }
        let mut next = self.tree.clone();
        let mut filled = Vec::new();
        while next.size() < size {
            let mut files = Vec::new();
            for leaf in self.next_leaves(&next, size, stores).await? {
                files.extend(next.push(leaf)?);
            }
            filled.extend(files.iter().map(|file| file.resource));
            put_all(self.org, files, stores).await?;
        }
        if grown {
            put_all(self.org, next.partials()?, stores).await?;
        }
        let signed = self.signing.sign(next.size(), next.root())?;
        stores
            .tiles
            .put(self.org, "checkpoint", signed.note.clone())
            .await?;
        self.tree = next;
        self.published = Some(Published {
            head: signed.clone(),
            current: true,
        });
        self.remove_partials(&filled, stores).await;
        Ok(signed)
    }

    /// Leaves after those of the tree, some at a time, up to `size`.
    async fn next_leaves(
        &self,
        tree: &LogTree,
        size: u64,
        stores: &Stores,
    ) -> Result<Vec<Vec<u8>>, AuditError> {
        let from = tree.size();
        let left = usize::try_from(size.saturating_sub(from)).unwrap_or(CHUNK);
        let leaves = stores.journal.read(self.org, from, left.min(CHUNK)).await?;
        if leaves.is_empty() {
            let place = format!("leaf {from}");
            return Err(corrupt(self.org, place, "the journal does not have it"));
        }
        Ok(leaves)
    }

    /// Frees the space of partial files whose full one is published. Failing is
    /// harmless: they only stay.
    async fn remove_partials(&self, filled: &[Resource], stores: &Stores) {
        for resource in filled {
            let full = resource.to_string();
            if let Err(error) = stores.tiles.remove_partials(self.org, &full).await {
                tracing::warn!(
                    org = %self.org, file = full, error = &error as &dyn std::error::Error,
                    "cannot remove the partial versions of a full tile"
                );
            }
        }
    }

    pub(crate) fn published(&self) -> Option<&Checkpointed> {
        self.published.as_ref().map(|published| &published.head)
    }

    pub(crate) fn signing(&self) -> &Arc<Signing> {
        &self.signing
    }
}

/// Writes files side by side, so that they wait for the disk together. All have ended on
/// return, whatever becomes of one: none is left to overtake a later write.
async fn put_all(org: OrgId, files: Vec<LogFile>, stores: &Stores) -> Result<(), AuditError> {
    let mut writing = JoinSet::new();
    for file in files {
        let tiles = Arc::clone(&stores.tiles);
        let path = file.resource.to_string();
        writing.spawn(async move { tiles.put(org, &path, file.bytes).await });
    }
    let mut outcome = Ok(());
    while let Some(written) = writing.join_next().await {
        let written = written.map_err(|_| AuditError::Stopped);
        let written = written.and_then(|put| Ok(put?));
        outcome = outcome.and(written);
    }
    outcome
}

async fn put(org: OrgId, file: LogFile, stores: &Stores) -> Result<(), AuditError> {
    let path = file.resource.to_string();
    Ok(stores.tiles.put(org, &path, file.bytes).await?)
}
