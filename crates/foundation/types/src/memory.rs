//! The in-memory side of a [`Commit`], shared by in-memory backends so that they
//! obey the same contract as the durable ones.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::{
    Claim, Commit, Evidence, LeafIndex, OrgId, PrincipalName, Receipt, StoreError, StoredReply,
};

type ReplyKey = (OrgId, PrincipalName, String);

/// Evidence, claims and replies in memory.
#[derive(Debug, Default)]
pub struct MemoryCommits {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    evidence: HashMap<OrgId, Vec<Evidence>>,
    replies: HashMap<ReplyKey, StoredReply>,
    claims: HashSet<Claim>,
}

impl MemoryCommits {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a commit, or changes nothing.
    pub fn apply(&self, commit: &Commit) -> Result<Receipt, StoreError> {
        let mut state = self.state.lock();
        if let Some(record) = &commit.idempotency {
            let key = (record.org, record.caller.clone(), record.key.clone());
            if let Some(reply) = state.replies.get(&key) {
                return Err(StoreError::Replayed(Box::new(reply.clone())));
            }
        }
        if let Some(claim) = commit
            .claims
            .iter()
            .find(|claim| state.claims.contains(claim))
        {
            return Err(StoreError::AlreadyClaimed {
                claim: claim.clone(),
            });
        }
        let mut leaves = Vec::with_capacity(commit.evidence.len());
        for evidence in &commit.evidence {
            let log = state.evidence.entry(evidence.org).or_default();
            leaves.push(LeafIndex(log.len() as u64));
            log.push(evidence.clone());
        }
        state.claims.extend(commit.claims.iter().cloned());
        if let Some(record) = &commit.idempotency {
            state.replies.insert(
                (record.org, record.caller.clone(), record.key.clone()),
                StoredReply {
                    request_digest: record.request_digest,
                    response: record.response.clone(),
                    leaves: leaves.clone(),
                },
            );
        }
        Ok(Receipt { leaves })
    }

    /// The reply kept for a key.
    pub fn reply(&self, org: OrgId, caller: &PrincipalName, key: &str) -> Option<StoredReply> {
        self.state
            .lock()
            .replies
            .get(&(org, caller.clone(), key.to_owned()))
            .cloned()
    }

    /// All evidence of an organization, in order.
    pub fn evidence(&self, org: OrgId) -> Vec<Evidence> {
        self.state
            .lock()
            .evidence
            .get(&org)
            .cloned()
            .unwrap_or_default()
    }
}
