//! The governor's ports in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::memory::MemoryJournal;
use creto_audit::{
    Content, LeafError, Opening, RecordClass, StoredRecord, Withheld, is_kept, leaf_bytes,
    sealed_leaf_bytes,
};
use creto_crypto::AllowedAlgorithms;
use creto_types::memory::MemoryCommits;
use creto_types::{
    ActionId, Commit, Evidence, HybridTimestamp, LeafIndex, OrgId, PrincipalName, Receipt,
    StoreError, StoredReply, SubjectId, Timestamp,
};
use parking_lot::Mutex;

use crate::policies::PolicyFiles;
use crate::records::{ACTION_DECIDED, EGRESS_CHECKED};
use crate::{
    ActionRecords, CommitStore, ConfiguredAlgorithms, ConfiguredLists, Erasure, Expiry,
    PolicyStore, PolicyVersion, Replies, Resealed, SandboxRow, SandboxState, SandboxStore,
    ServedPolicies, SubjectStore,
};

/// Lists that are in force, and a configuration that says what a test lets it say.
#[derive(Debug, Default)]
pub struct MemoryAlgorithms {
    configured: Mutex<AllowedAlgorithms>,
}

impl MemoryAlgorithms {
    /// The configuration says this from now on; what is in force are the defaults.
    pub fn configure(&self, lists: AllowedAlgorithms) {
        *self.configured.lock() = lists;
    }
}

#[async_trait]
impl ConfiguredAlgorithms for MemoryAlgorithms {
    async fn lists(&self) -> ConfiguredLists {
        ConfiguredLists {
            in_force: Arc::default(),
            since: Timestamp::UNIX_EPOCH,
            configured: Ok(self.configured.lock().clone()),
            reload: None,
        }
    }
}

/// All of the governor's ports over one in-memory journal.
#[derive(Debug, Default)]
pub struct MemoryGovernor {
    commits: Arc<MemoryCommits>,
    sandboxes: Mutex<BTreeMap<(OrgId, String), SandboxRow>>,
    policies: Mutex<Policies>,
    /// Who was erased, and by which leaf. A record is its actor's here.
    erased: Mutex<BTreeMap<(OrgId, PrincipalName), LeafIndex>>,
    /// The last leaf whose payload was kept long enough.
    expired: Mutex<BTreeMap<OrgId, LeafIndex>>,
    /// Who is suspended, as far as the tests say.
    suspended: Mutex<BTreeSet<(OrgId, PrincipalName)>>,
}

#[derive(Debug, Default)]
struct Policies {
    versions: BTreeMap<(OrgId, u64), (PolicyVersion, PolicyFiles)>,
    served: BTreeMap<OrgId, ServedPolicies>,
    bundles: BTreeMap<(OrgId, String), PolicyFiles>,
}

impl MemoryGovernor {
    /// Nothing is stored; commits go to `commits`.
    #[must_use]
    pub fn new(commits: Arc<MemoryCommits>) -> Self {
        Self {
            commits,
            sandboxes: Mutex::default(),
            policies: Mutex::default(),
            erased: Mutex::default(),
            expired: Mutex::default(),
            suspended: Mutex::default(),
        }
    }

    /// Says who is suspended: identities are kept elsewhere.
    pub fn suspend(&self, org: OrgId, person: &PrincipalName) {
        self.suspended.lock().insert((org, person.clone()));
    }

    fn leaf(
        &self,
        (record, leaf, ts): Placed<'_>,
    ) -> Result<(LeafIndex, StoredRecord), StoreError> {
        let broken = |error: LeafError| StoreError::Corrupt {
            what: "evidence",
            source: Box::new(error),
        };
        let class = RecordClass::Evidence;
        let person = (record.org, record.actor.clone());
        let erased = self.erased.lock().get(&person).copied();
        let expired = self.expired.lock().get(&record.org).copied();
        let expired = expired.is_some_and(|through| leaf <= through && !is_kept(&record.kind));
        let why = match erased {
            Some(by) if leaf < by => Some(Withheld::Erased),
            _ => expired.then_some(Withheld::Expired),
        };
        let stored = if let Some(why) = why {
            let opening = Opening::of(record, [0; 32]).map_err(broken)?;
            let subject = MemoryJournal::subject(record.org, &record.actor);
            let commitment = opening.commitment();
            StoredRecord {
                leaf: sealed_leaf_bytes(leaf, ts, class, record, subject, commitment)
                    .map_err(broken)?,
                content: Content::Withheld(why),
            }
        } else {
            StoredRecord::clear(leaf_bytes(leaf, ts, class, record).map_err(broken)?)
        };
        Ok((leaf, stored))
    }
}

#[async_trait]
impl SubjectStore for MemoryGovernor {
    async fn subject(
        &self,
        org: OrgId,
        person: &PrincipalName,
    ) -> Result<Option<SubjectId>, StoreError> {
        let known = (org, person.clone());
        let any = self.commits.evidence(org);
        let any = any.iter().any(|record| record.actor == *person);
        let there = any && !self.erased.lock().contains_key(&known);
        Ok(there.then(|| MemoryJournal::subject(org, person)))
    }

    async fn erase(&self, erasure: Erasure, commit: Commit) -> Result<Receipt, StoreError> {
        let key = (erasure.org, erasure.person.clone());
        if !self.suspended.lock().contains(&key) {
            return Err(StoreError::Conflict { what: "suspension" });
        }
        if self.subject(erasure.org, &erasure.person).await? != Some(erasure.subject) {
            return Err(StoreError::Conflict { what: "subject" });
        }
        let receipt = self.commits.apply(&commit)?;
        let leaf = receipt.leaf().unwrap_or(LeafIndex(u64::MAX));
        self.erased.lock().insert(key, leaf);
        Ok(receipt)
    }

    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn reseal(&self, _: OrgId) -> Result<Resealed, StoreError> {
        // Nothing is sealed here.
        Ok(Resealed::default())
    }

    async fn forget_replies(&self, _before: Timestamp) -> Result<(), StoreError> {
        // Nothing outlives the process.
        Ok(())
    }

    async fn newest(&self, org: OrgId) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.commits.evidence(org).last().map(|record| record.at))
    }

    async fn expirable(
        &self,
        org: OrgId,
        class: RecordClass,
        before: Timestamp,
    ) -> Result<Option<LeafIndex>, StoreError> {
        // What is committed here is evidence.
        if class != RecordClass::Evidence {
            return Ok(None);
        }
        let before = HybridTimestamp::of_instant(before);
        let ended = self.expired.lock().get(&org).copied();
        let evidence = self.commits.evidence(org);
        let past: Vec<_> = placed(&evidence).filter(|(.., ts)| *ts < before).collect();
        let kept = past.iter().any(|(record, leaf, _)| {
            ended.is_none_or(|ended| *leaf > ended) && !is_kept(&record.kind)
        });
        Ok(past.last().map(|(_, leaf, _)| *leaf).filter(|_| kept))
    }

    async fn expire(&self, expiry: Expiry, commit: Commit) -> Result<Receipt, StoreError> {
        let mut expired = self.expired.lock();
        let before = expired.get(&expiry.org);
        if before.is_some_and(|before| *before >= expiry.through) {
            return Err(StoreError::Conflict { what: "expiry" });
        }
        let receipt = self.commits.apply(&commit)?;
        expired.insert(expiry.org, expiry.through);
        Ok(receipt)
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        Ok(true)
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
    ) -> Result<Vec<(LeafIndex, StoredRecord)>, StoreError> {
        let evidence = self.commits.evidence(org);
        placed(&evidence)
            .filter(|(record, ..)| record.action_id == Some(action))
            .map(|placed| self.leaf(placed))
            .collect()
    }

    async fn decisions(
        &self,
        org: OrgId,
        before: Option<LeafIndex>,
        limit: usize,
    ) -> Result<Vec<(LeafIndex, StoredRecord)>, StoreError> {
        let evidence = self.commits.evidence(org);
        let numbered: Vec<_> = placed(&evidence).collect();
        numbered
            .into_iter()
            .rev()
            .filter(|(_, index, _)| before.is_none_or(|before| *index < before))
            .filter(|(record, ..)| [ACTION_DECIDED, EGRESS_CHECKED].contains(&&*record.kind))
            .take(limit)
            .map(|placed| self.leaf(placed))
            .collect()
    }
}

/// A record with its place and the timestamp that puts it there.
type Placed<'a> = (&'a Evidence, LeafIndex, HybridTimestamp);

fn placed(evidence: &[Evidence]) -> impl Iterator<Item = Placed<'_>> {
    let mut last = None;
    evidence.iter().zip(0..).map(move |(record, index)| {
        let ts = HybridTimestamp::behind(last, record.at).unwrap_or(HybridTimestamp::MAX);
        last = Some(ts);
        (record, LeafIndex(index), ts)
    })
}

#[async_trait]
impl PolicyStore for MemoryGovernor {
    async fn publish(
        &self,
        mut version: PolicyVersion,
        files: PolicyFiles,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut policies = self.policies.lock();
        let org = version.org;
        let newest = newest(&policies, org);
        if version.version != newest + 1 {
            // A repeated call is told so before anything else, as by any store.
            if let Some(record) = &commit.idempotency
                && let Some(reply) = self.commits.reply(org, &record.caller, &record.key)
            {
                return Err(StoreError::Replayed(Box::new(reply)));
            }
            return Err(StoreError::Conflict {
                what: "policy version",
            });
        }
        let receipt = self.commits.apply(&commit)?;
        version.leaf = receipt.leaf();
        let number = version.version;
        let digest = version.digest.clone();
        policies.bundles.insert((org, digest), files.clone());
        policies.versions.insert((org, number), (version, files));
        let served = ServedPolicies::Published { version: number };
        policies.served.insert(org, served);
        Ok(receipt)
    }

    async fn follow_directory(
        &self,
        org: OrgId,
        digest: String,
        files: PolicyFiles,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let mut policies = self.policies.lock();
        let receipt = self.commits.apply(&commit)?;
        policies.bundles.insert((org, digest.clone()), files);
        let served = ServedPolicies::Directory { digest };
        policies.served.insert(org, served);
        Ok(receipt)
    }

    async fn bundle(
        &self,
        org: OrgId,
        after: Option<&str>,
    ) -> Result<Option<(String, PolicyFiles)>, StoreError> {
        let policies = self.policies.lock();
        let after = after.unwrap_or_default().to_owned();
        let mut later = policies
            .bundles
            .range((Bound::Excluded((org, after)), Bound::Unbounded));
        let found = later.next().filter(|((of, _), _)| *of == org);
        Ok(found.map(|((_, digest), files)| (digest.clone(), files.clone())))
    }

    async fn kept(&self, org: OrgId, digest: &str) -> Result<Option<PolicyFiles>, StoreError> {
        let policies = self.policies.lock();
        Ok(policies.bundles.get(&(org, digest.to_owned())).cloned())
    }

    async fn served(&self, org: OrgId) -> Result<Option<ServedPolicies>, StoreError> {
        Ok(self.policies.lock().served.get(&org).cloned())
    }

    async fn get(
        &self,
        org: OrgId,
        version: u64,
    ) -> Result<Option<(PolicyVersion, PolicyFiles)>, StoreError> {
        Ok(self.policies.lock().versions.get(&(org, version)).cloned())
    }

    async fn list(
        &self,
        org: OrgId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<PolicyVersion>, StoreError> {
        let policies = self.policies.lock();
        let below = policies
            .versions
            .range((org, 0)..(org, before.unwrap_or(u64::MAX)));
        Ok(below
            .rev()
            .take(limit)
            .map(|(_, (version, _))| version.clone())
            .collect())
    }
}

fn newest(policies: &Policies, org: OrgId) -> u64 {
    let versions = policies.versions.range((org, 0)..=(org, u64::MAX));
    versions.last().map_or(0, |((_, version), _)| *version)
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
