//! The governor's ports in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use creto_types::memory::MemoryCommits;
use creto_types::{
    ActionId, Commit, LeafIndex, OrgId, PrincipalName, Receipt, StoreError, StoredReply,
};
use parking_lot::Mutex;

use crate::{ActionRecords, CommitStore, Replies, SandboxRow, SandboxState, SandboxStore};

/// All of the governor's ports over one in-memory journal.
#[derive(Debug, Default)]
pub struct MemoryGovernor {
    commits: Arc<MemoryCommits>,
    sandboxes: Mutex<BTreeMap<(OrgId, String), SandboxRow>>,
}

impl MemoryGovernor {
    /// Nothing is stored; commits go to `commits`.
    #[must_use]
    pub fn new(commits: Arc<MemoryCommits>) -> Self {
        Self {
            commits,
            sandboxes: Mutex::default(),
        }
    }
}

#[async_trait]
impl CommitStore for MemoryGovernor {
    async fn commit(&self, commit: Commit) -> Result<Receipt, StoreError> {
        self.commits.apply(&commit)
    }
}

#[async_trait]
impl Replies for MemoryGovernor {
    async fn find(
        &self,
        org: OrgId,
        caller: &PrincipalName,
        key: &str,
    ) -> Result<Option<StoredReply>, StoreError> {
        Ok(self.commits.reply(org, caller, key))
    }
}

#[async_trait]
impl ActionRecords for MemoryGovernor {
    async fn records(
        &self,
        org: OrgId,
        action: ActionId,
    ) -> Result<Vec<(LeafIndex, Vec<u8>)>, StoreError> {
        let evidence = self.commits.evidence(org);
        let numbered = evidence.iter().zip(0_u64..);
        numbered
            .filter(|(record, _)| record.action_id == Some(action))
            .map(|(record, index)| {
                let leaf = LeafIndex(index);
                creto_audit::leaf_bytes(leaf, creto_audit::RecordClass::Evidence, record)
                    .map(|bytes| (leaf, bytes))
                    .map_err(|error| StoreError::Corrupt {
                        what: "evidence",
                        source: Box::new(error),
                    })
            })
            .collect()
    }
}

#[async_trait]
impl SandboxStore for MemoryGovernor {
    async fn put(&self, mut row: SandboxRow, commit: Commit) -> Result<Receipt, StoreError> {
        let mut sandboxes = self.sandboxes.lock();
        let receipt = self.commits.apply(&commit)?;
        let key = (row.org, row.answer.id.clone());
        let before = sandboxes.get(&key).and_then(|row| row.answer.leaf);
        row.answer.leaf = receipt.leaf().or(before);
        sandboxes.insert(key, row);
        Ok(receipt)
    }

    async fn get(&self, org: OrgId, id: &str) -> Result<Option<SandboxRow>, StoreError> {
        Ok(self.sandboxes.lock().get(&(org, id.to_owned())).cloned())
    }

    async fn list(
        &self,
        org: OrgId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SandboxRow>, StoreError> {
        let sandboxes = self.sandboxes.lock();
        let rows = sandboxes.values().filter(|row| row.org == org);
        Ok(rows
            .filter(|row| after.is_none_or(|after| row.answer.id.as_str() > after))
            .take(limit)
            .cloned()
            .collect())
    }

    async fn running(&self) -> Result<Vec<SandboxRow>, StoreError> {
        let sandboxes = self.sandboxes.lock();
        Ok(sandboxes
            .values()
            .filter(|row| row.answer.state == SandboxState::Running)
            .cloned()
            .collect())
    }
}
