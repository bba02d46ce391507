//! Requests in memory, under the full contract; for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use creto_types::memory::MemoryCommits;
use creto_types::{Claim, Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use parking_lot::Mutex;

use crate::{
    ActionDigest, Filter, Grant, OversightError, OversightRequest, OversightStore, PENDING_LIMIT,
    RequestId, State,
};

const WHAT: &str = "oversight request";

/// A token that no grant can be: the probe of [`MemoryOversightStore::is_claimed`].
const PROBE: &str = "oversight-probe";

/// An [`OversightStore`] whose commits go to a shared in-memory journal.
#[derive(Debug)]
pub struct MemoryOversightStore {
    commits: Arc<MemoryCommits>,
    rows: Mutex<BTreeMap<(OrgId, RequestId), OversightRequest>>,
}

impl MemoryOversightStore {
    /// An empty store over this journal.
    #[must_use]
    pub fn new(commits: Arc<MemoryCommits>) -> Self {
        Self {
            commits,
            rows: Mutex::default(),
        }
    }

    /// The journal refuses a commit at its first claim that is taken and changes
    /// nothing. Behind the token asked about stands one that is always taken, so
    /// the refusal tells about the first and claims neither.
    fn is_claimed(&self, org: OrgId, token: &str) -> bool {
        let claim = |token: &str| Claim {
            org,
            token: token.to_owned(),
        };
        let _ = self
            .commits
            .apply(&Commit::default().with_claim(claim(PROBE)));
        let probe = Commit::default()
            .with_claim(claim(token))
            .with_claim(claim(PROBE));
        matches!(
            self.commits.apply(&probe),
            Err(StoreError::AlreadyClaimed { claim }) if claim.token == token
        )
    }

    /// A repeated call is answered with its reply, not with a conflict.
    fn refuse_replay(&self, commit: &Commit) -> Result<(), StoreError> {
        let reply = commit
            .idempotency
            .as_ref()
            .and_then(|record| self.commits.reply(record.org, &record.caller, &record.key));
        reply.map_or(Ok(()), |reply| Err(StoreError::Replayed(Box::new(reply))))
    }

    fn read(&self, row: &OversightRequest) -> OversightRequest {
        let used = row
            .grant()
            .is_some_and(|grant| self.is_claimed(row.org, grant.as_str()));
        OversightRequest {
            used,
            ..row.clone()
        }
    }

    fn find(&self, test: impl Fn(&OversightRequest) -> bool) -> Option<OversightRequest> {
        let rows = self.rows.lock();
        rows.values()
            .find(|row| test(row))
            .map(|row| self.read(row))
    }
}

#[async_trait]
impl OversightStore for MemoryOversightStore {
    async fn insert(
        &self,
        request: OversightRequest,
        commit: Commit,
    ) -> Result<Receipt, OversightError> {
        let mut rows = self.rows.lock();
        self.refuse_replay(&commit)?;
        let key = (request.org, request.id);
        let waiting = || {
            rows.values().filter(|row| {
                row.org == request.org
                    && row.held.agent == request.held.agent
                    && row.state == State::Pending
                    && row.expires_at > request.created_at
            })
        };
        let taken = rows.contains_key(&key)
            || waiting().any(|row| row.digest == request.digest && row.link == request.link);
        if taken {
            return Err(StoreError::Conflict { what: WHAT }.into());
        }
        if waiting().count() >= PENDING_LIMIT {
            return Err(OversightError::TooManyPending {
                agent: request.held.agent,
                limit: PENDING_LIMIT,
            });
        }
        let receipt = self.commits.apply(&commit)?;
        let leaf = receipt.leaf();
        rows.insert(key, OversightRequest { leaf, ..request });
        Ok(receipt)
    }

    async fn decide(&self, next: OversightRequest, commit: Commit) -> Result<Receipt, StoreError> {
        let mut rows = self.rows.lock();
        self.refuse_replay(&commit)?;
        let row = rows
            .get_mut(&(next.org, next.id))
            .ok_or(StoreError::NotFound { what: WHAT })?;
        if row.state != State::Pending {
            return Err(StoreError::Conflict { what: WHAT });
        }
        let receipt = self.commits.apply(&commit)?;
        row.state = next.state;
        row.leaf = receipt.leaf().or(row.leaf);
        Ok(receipt)
    }

    async fn get(&self, org: OrgId, id: RequestId) -> Result<Option<OversightRequest>, StoreError> {
        Ok(self.find(|row| row.org == org && row.id == id))
    }

    async fn find_pending(
        &self,
        org: OrgId,
        agent: &PrincipalName,
        link: Option<&str>,
        digest: &ActionDigest,
        now: Timestamp,
    ) -> Result<Option<OversightRequest>, StoreError> {
        Ok(self.find(|row| {
            row.org == org
                && row.held.agent == *agent
                && row.link.as_deref() == link
                && row.digest == *digest
                && row.state == State::Pending
                && row.expires_at > now
        }))
    }

    async fn find_by_grant(
        &self,
        org: OrgId,
        grant: &Grant,
    ) -> Result<Option<OversightRequest>, StoreError> {
        Ok(self.find(|row| row.org == org && row.grant() == Some(grant)))
    }

    async fn list(
        &self,
        org: OrgId,
        filter: &Filter,
        now: Timestamp,
        after: Option<RequestId>,
        limit: usize,
    ) -> Result<Vec<OversightRequest>, StoreError> {
        let rows = self.rows.lock();
        Ok(rows
            .values()
            .filter(|row| row.org == org && after.is_none_or(|after| row.id > after))
            .map(|row| self.read(row))
            .filter(|row| filter.matches(&row.clone().shown_at(now)))
            .take(limit)
            .collect())
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<OversightRequest>, StoreError> {
        let rows = self.rows.lock();
        let mut due: Vec<_> = rows
            .values()
            .filter(|row| row.is_due(now))
            .cloned()
            .collect();
        due.sort_by_key(|row| (row.expires_at, row.id));
        due.truncate(limit);
        Ok(due)
    }
}
