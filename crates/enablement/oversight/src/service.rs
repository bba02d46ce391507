//! The use cases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use creto_types::{
    Claim, Clock, Commit, IdSource, OrgId, PrincipalName, Randomness, Receipt, StoreError,
    Timestamp,
};

use crate::waiters::Waiters;
use crate::{
    ActionDigest, Filter, Grant, GrantError, HeldAction, NewRequest, OversightError,
    OversightRequest, OversightStore, RequestId, State, Verdict,
};

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OversightConfig {
    /// How long a human may take.
    pub request_ttl: Duration,
    /// How long the agent may take to use the approval.
    pub grant_ttl: Duration,
}

/// A grant that opens the action it was checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The request that was approved.
    pub request_id: RequestId,
    /// The policies that asked for a human, each with the digest of what it said.
    pub policy_digests: BTreeMap<String, String>,
    /// The kind of approval that they asked for.
    pub oversight: String,
    /// Belongs in the commit of the decision that the grant opens; without it
    /// the grant is not used up.
    pub claim: Claim,
}

/// Makes, decides and looks up oversight requests.
pub struct Oversight {
    store: Arc<dyn OversightStore>,
    ids: Arc<dyn IdSource>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Randomness>,
    config: OversightConfig,
    waiters: Arc<Waiters>,
}

impl std::fmt::Debug for Oversight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oversight")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Oversight {
    /// The service over this store.
    #[must_use]
    pub fn new(
        store: Arc<dyn OversightStore>,
        ids: Arc<dyn IdSource>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Randomness>,
        config: OversightConfig,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            ids,
            clock,
            random,
            config,
            waiters: Arc::new(Waiters::default()),
        })
    }

    /// A pending request for this action; nothing is stored.
    pub fn draft_request(&self, new: NewRequest) -> Result<OversightRequest, OversightError> {
        let digest = new.held.digest()?;
        let now = self.clock.now();
        Ok(OversightRequest {
            id: self.ids.next(),
            org: new.held.org,
            action_id: new.action_id,
            digest,
            held: new.held,
            link: new.link,
            chain: new.chain,
            cost: new.cost,
            spent: new.spent,
            oversight: new.oversight,
            created_at: now,
            expires_at: later(now, self.config.request_ttl),
            state: State::Pending,
            used: false,
            leaf: None,
        })
    }

    /// Stores a drafted request. [`StoreError::Conflict`] when the same agent
    /// already waits, under the same delegation, for a decision on the same digest;
    /// [`OversightError::TooManyPending`] when it waits for too many others.
    pub async fn create(
        &self,
        request: OversightRequest,
        commit: Commit,
    ) -> Result<Receipt, OversightError> {
        self.store.insert(request, commit).await
    }

    /// The request of this agent, delegation and digest that a human can still
    /// decide.
    pub async fn find_pending(
        &self,
        org: OrgId,
        agent: &PrincipalName,
        link: Option<&str>,
        digest: &ActionDigest,
    ) -> Result<Option<OversightRequest>, OversightError> {
        let now = self.clock.now();
        let found = self.store.find_pending(org, agent, link, digest, now).await;
        Ok(found?)
    }

    /// The request as it would be after this verdict; nothing is stored.
    pub async fn draft_decision(
        &self,
        org: OrgId,
        id: RequestId,
        verdict: Verdict,
        by: PrincipalName,
        reason: Option<String>,
    ) -> Result<OversightRequest, OversightError> {
        let request = self
            .store
            .get(org, id)
            .await?
            .ok_or(OversightError::NotFound { id })?;
        let now = self.clock.now();
        match verdict {
            Verdict::Approve => {
                let grant = Grant::generate(self.random.as_ref());
                request.approve(by, now, reason, grant, later(now, self.config.grant_ttl))
            }
            Verdict::Deny => request.deny(by, now, reason),
        }
    }

    /// Stores a drafted decision or expiry and wakes whoever waits for it.
    /// [`StoreError::Conflict`] when another one came first.
    pub async fn decide(
        &self,
        next: OversightRequest,
        commit: Commit,
    ) -> Result<Receipt, OversightError> {
        let (org, id) = (next.org, next.id);
        let late = next.expires_at <= self.clock.now();
        match &next.state {
            State::Pending => return Err(OversightError::NoDecision { id }),
            State::Approved { .. } | State::Denied { .. } if late => {
                return Err(OversightError::Expired {
                    id,
                    at: next.expires_at,
                });
            }
            State::Expired { .. } if !late => {
                return Err(OversightError::NotDue {
                    id,
                    expires_at: next.expires_at,
                });
            }
            State::Approved { .. } | State::Denied { .. } | State::Expired { .. } => {}
        }
        let outcome = self.store.decide(next, commit).await;
        // A failed commit may have been applied all the same: whoever waits
        // looks again.
        self.waiters.wake(org, id);
        Ok(outcome?)
    }

    /// Requests of every organization whose time is over and whose expiry is not
    /// recorded yet.
    pub async fn due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<OversightRequest>, OversightError> {
        Ok(self.store.due(now, limit).await?)
    }

    /// The request as it would be after its expiry; nothing is stored. A request
    /// that is decided or not due is returned as it is, which
    /// [`Oversight::decide`] refuses.
    #[must_use]
    pub fn draft_expiry(&self, request: &OversightRequest) -> OversightRequest {
        request
            .clone()
            .expire(self.clock.now())
            .unwrap_or_else(|_| request.clone())
    }

    /// One request, as it is to be shown now.
    pub async fn get(
        &self,
        org: OrgId,
        id: RequestId,
    ) -> Result<Option<OversightRequest>, OversightError> {
        let found = self.store.get(org, id).await?;
        Ok(found.map(|request| request.shown_at(self.clock.now())))
    }

    /// Requests with an id greater than `after`, by id, as they are to be shown
    /// now.
    pub async fn list(
        &self,
        org: OrgId,
        filter: Filter,
        after: Option<RequestId>,
        limit: usize,
    ) -> Result<Vec<OversightRequest>, OversightError> {
        let now = self.clock.now();
        let found = self.store.list(org, &filter, now, after, limit).await?;
        Ok(found
            .into_iter()
            .map(|request| request.shown_at(now))
            .collect())
    }

    /// Returns the request when it is not pending any more, or as it is after the
    /// timeout. `None` when there is no such request.
    pub async fn wait(
        &self,
        org: OrgId,
        id: RequestId,
        timeout: Duration,
    ) -> Result<Option<OversightRequest>, OversightError> {
        match tokio::time::timeout(timeout, self.until_decided(org, id)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => self.get(org, id).await,
        }
    }

    async fn until_decided(
        &self,
        org: OrgId,
        id: RequestId,
    ) -> Result<Option<OversightRequest>, OversightError> {
        let mut subscription = self.waiters.subscribe(org, id);
        loop {
            let Some(request) = self.get(org, id).await? else {
                return Ok(None);
            };
            if request.state != State::Pending {
                return Ok(Some(request));
            }
            let left = Duration::try_from(self.clock.now().duration_until(request.expires_at))
                .unwrap_or_default()
                .max(SHORTEST_SLEEP);
            // Either way the next round looks again.
            let _ = tokio::time::timeout(left, subscription.changed()).await;
        }
    }

    /// Whether this grant opens exactly this action of this agent under this
    /// delegation, now. The policies of `held` are ignored: they are those of the
    /// approved request.
    ///
    /// The answer is advice until the [`Granted::claim`] is committed: of two
    /// callers that both got it, one commit goes through.
    pub async fn check_grant(
        &self,
        org: OrgId,
        grant: &str,
        agent: &PrincipalName,
        link: Option<&str>,
        held: &HeldAction,
    ) -> Result<Granted, GrantError> {
        let grant: Grant = grant.parse().map_err(|_| GrantError::Unknown)?;
        let request = self
            .store
            .find_by_grant(org, &grant)
            .await?
            .ok_or(GrantError::Unknown)?;
        let State::Approved {
            grant_expires_at, ..
        } = request.state
        else {
            return Err(GrantError::Unknown);
        };
        if request.held.agent != *agent {
            return Err(GrantError::NotYours);
        }
        if request.link.as_deref() != link {
            return Err(GrantError::OtherDelegation);
        }
        let asked = HeldAction {
            policy_id: request.held.policy_id.clone(),
            policy_digests: request.held.policy_digests.clone(),
            ..held.clone()
        }
        .digest()?;
        if asked != request.digest {
            return Err(GrantError::ActionMismatch {
                digests: Box::new((request.digest, asked)),
            });
        }
        if request.used {
            return Err(GrantError::Used);
        }
        if grant_expires_at <= self.clock.now() {
            return Err(GrantError::Expired {
                at: grant_expires_at,
            });
        }
        Ok(Granted {
            request_id: request.id,
            policy_digests: request.held.policy_digests,
            oversight: request.oversight,
            claim: Claim {
                org,
                token: grant.into(),
            },
        })
    }
}

/// Bounds how often a waiter looks when the wall clock lags behind the timer.
const SHORTEST_SLEEP: Duration = Duration::from_millis(20);

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// The store's refusal of a second use, in the words of a grant.
impl GrantError {
    /// Turns the error of the commit that carried [`Granted::claim`] into
    /// [`GrantError::Used`] when it was refused for that claim.
    #[must_use]
    pub fn of_commit(error: StoreError, claim: &Claim) -> Self {
        match error {
            StoreError::AlreadyClaimed { claim: taken } if taken == *claim => Self::Used,
            other => Self::Store(other),
        }
    }
}
