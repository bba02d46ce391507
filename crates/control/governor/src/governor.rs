//! The value that ties the products together.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use creto_audit::{
    Audit, ConsistencyProof, LeafProof, MAX_VALUE_BYTES, SearchPage, SearchQuery, SearchTerm,
};
use creto_authz::{Authz, Bound, deny};
use creto_consensus::{Sequencer, TimestampOracle, TimestampOracleExt};
use creto_metering::Meter;
use creto_nhi::{HumanCredentials, Nhi, TokensEnded, VerifiedTokens};
use creto_oversight::Oversight;
use creto_runtime::{Limits, SandboxId, SandboxRuntime};
use creto_telemetry::{CheckTotals, LeafClass, Metrics};
use creto_types::{
    ActionId, Clock, Commit, Evidence, IdSource, LeafIndex, OrgId, PrincipalName, Reading, Receipt,
    Timestamp,
};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{OwnedMutexGuard, Semaphore};

use crate::algorithms::ConfiguredAlgorithms;
use crate::caller::{Caller, Origin};
use crate::export::EXPORTS_AT_ONCE;
use crate::idempotency::Turns;
use crate::policies::{InForce, PolicyShadow};
use crate::ports::{ActionRecords, CommitStore, PolicyStore, Replies, SandboxStore, SubjectStore};
use crate::roles::Call;
use crate::sandboxes::{Bindings, Sandboxes};
use crate::timestamps::Taken;
use crate::{GovernError, HopAnswer, SelfAnswer};

/// What the governor ties together.
pub struct Parts {
    /// Identities and delegations.
    pub nhi: Arc<Nhi>,
    /// By what people begin a session, each of another kind.
    pub credentials: Vec<Arc<dyn HumanCredentials>>,
    /// The instants of evidence.
    pub oracle: Arc<dyn TimestampOracle>,
    /// The order of the log, for events of others.
    pub sequencer: Arc<dyn Sequencer>,
    /// The log.
    pub audit: Arc<Audit>,
    /// Decisions.
    pub authz: Arc<Authz>,
    /// Budgets, usage, invoices.
    pub meter: Arc<Meter>,
    /// Requests for a human.
    pub oversight: Arc<Oversight>,
    /// Sandboxes; `None` where this machine cannot run them.
    pub runtime: Option<Arc<dyn SandboxRuntime>>,
    /// Who the running sandboxes are; shared with the egress decision.
    pub bindings: Arc<Bindings>,
    /// Evidence without a change of a product's state.
    pub commits: Arc<dyn CommitStore>,
    /// Replies kept for idempotency keys.
    pub replies: Arc<dyn Replies>,
    /// The journal by action.
    pub records: Arc<dyn ActionRecords>,
    /// Sandboxes over a restart.
    pub sandboxes: Arc<dyn SandboxStore>,
    /// Published policies.
    pub policies: Arc<dyn PolicyStore>,
    /// The algorithms that are in force, and those of the configuration.
    pub algorithms: Arc<dyn ConfiguredAlgorithms>,
    /// Whose records there are.
    pub subjects: Arc<dyn SubjectStore>,
    /// Candidate policies; shared with the egress decision.
    pub shadow: Arc<PolicyShadow>,
    /// New ids.
    pub ids: Arc<dyn IdSource>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What operators see.
    pub metrics: Arc<Metrics>,
}

/// What a deployment chooses.
#[derive(Clone, Debug)]
pub struct GovernorConfig {
    /// Where people open `/oversight/requests/{id}`, without a trailing slash.
    pub public_url: String,
    /// Directories that sandboxes may mount, by name; always read-only.
    pub volumes: BTreeMap<String, PathBuf>,
    /// The limits of a sandbox that asks for none, and the most one may ask for.
    pub limits: Limits,
    /// Whether connections out of sandboxes count as actions do: in budgets, limits and
    /// rates, and at their price.
    pub egress_counted: bool,
}

/// The governance plane: see the crate's documentation for what it promises.
pub struct Governor {
    /// Itself, for what goes on after a call returned.
    pub(crate) me: Weak<Self>,
    pub(crate) parts: Parts,
    pub(crate) config: GovernorConfig,
    pub(crate) running: Sandboxes,
    pub(crate) in_force: InForce,
    /// Calls with a key that is being used wait for the one before.
    pub(crate) turns: Arc<Turns>,
    pub(crate) limiting: Limiting,
    pub(crate) timestamps: Taken,
    /// What bundles that are made hold.
    pub(crate) exports: Arc<Semaphore>,
    /// Whom the tokens stand for that were verified.
    pub(crate) verified: VerifiedTokens<Bound>,
}

/// One change of limits and rates of an organization at a time: who may change one
/// depends on who set it last, its record says what it was, and a call with a key that
/// is being used finds the answer of the other.
#[derive(Default)]
pub(crate) struct Limiting(Mutex<HashMap<OrgId, Arc<tokio::sync::Mutex<()>>>>);

impl Limiting {
    /// Waits for the organization's other changes.
    pub(crate) async fn alone(&self, org: OrgId) -> OwnedMutexGuard<()> {
        let gate = Arc::clone(self.0.lock().entry(org).or_default());
        gate.lock_owned().await
    }
}

impl Governor {
    /// Ties the parts together.
    #[must_use]
    pub fn new(parts: Parts, config: GovernorConfig) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            parts,
            config,
            running: Sandboxes::default(),
            in_force: InForce::default(),
            turns: Arc::default(),
            limiting: Limiting::default(),
            timestamps: Taken::default(),
            exports: Arc::new(Semaphore::new(EXPORTS_AT_ONCE)),
            verified: VerifiedTokens::new(),
        })
    }

    /// Verifies a bearer token: signature, validity, the whole chain. Of one that was
    /// verified before only what may have ended since is looked at again. One that is bound
    /// to a key is refused: see [`Governor::authenticate_with_proof`].
    pub fn authenticate(&self, token: &str) -> Result<Caller, GovernError> {
        // Before anything of it is looked at: what ends meanwhile is not missed.
        let ended = self.parts.nhi.tokens_ended();
        let now = self.parts.clock.reading();
        // One that holds no more is verified again for the sake of the reason.
        let holds = |bound: &Bound| bound.live(now).is_ok();
        if let Some(bound) = self.verified.get(token, ended, now, holds)
            // So is one that is nothing without a proof.
            && bound.identity().confirmation().is_none()
        {
            let bound = self.renewed(token, ended, now, bound);
            return Ok(Caller::new(bound, Origin::Token));
        }
        let identity = self.parts.nhi.verify_token(token)?;
        let bound = self.parts.authz.bind(identity);
        self.verified.keep(token, ended, now, bound.clone());
        Ok(Caller::new(bound, Origin::Token))
    }

    /// The handle of a token that is kept, bound anew if limits or rates changed since.
    pub(crate) fn renewed(
        &self,
        token: &str,
        ended: TokensEnded,
        now: Reading,
        bound: Bound,
    ) -> Bound {
        if bound.is_current() {
            return bound;
        }
        let anew = self.parts.authz.bind(Arc::clone(bound.identity()));
        self.verified.keep(token, ended, now, anew.clone());
        anew
    }

    /// The agent that a running sandbox is bound to.
    #[must_use]
    pub fn sandbox_caller(&self, sandbox: SandboxId) -> Option<Caller> {
        let bound = self.parts.bindings.current(sandbox, &self.parts.authz)?;
        Some(Caller::new(bound, Origin::Sandbox(sandbox)))
    }

    /// Who the caller is, and what is left of the budgets it acts under.
    pub fn whoami(&self, caller: &Caller) -> Result<SelfAnswer, GovernError> {
        let now = self.now();
        caller.may(Call::Whoami, now)?;
        let identity = caller.identity();
        let chain = identity
            .hops
            .iter()
            .map(|hop| HopAnswer {
                delegation: hop.link.id.to_string(),
                delegator: hop.link.delegator.clone(),
                delegatee: hop.link.delegatee.clone(),
                balance: self.balance(hop, now),
            })
            .collect();
        Ok(SelfAnswer {
            org: identity.org,
            name: identity.name.clone(),
            kind: identity.kind.to_string(),
            role: caller.role().map(|role| role.to_string()),
            spiffe_id: identity.acting_id(),
            origin: match caller.origin() {
                Origin::Token => "token".to_owned(),
                Origin::Session => "session".to_owned(),
                Origin::Sandbox(_) => "sandbox".to_owned(),
            },
            jkt: identity.confirmation().map(String::from),
            chain,
        })
    }

    /// The public keys that tokens are verified with (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.parts.nhi.jwks()
    }

    /// The same keys as a SPIFFE bundle.
    #[must_use]
    pub fn trust_bundle(&self) -> Value {
        self.parts.nhi.trust_bundle()
    }

    /// Where a person decides this request.
    #[must_use]
    pub fn approver_page(&self, request_id: &str) -> String {
        format!("{}/oversight/requests/{request_id}", self.config.public_url)
    }

    /// Whether the state can be read and written: the two things without which
    /// every decision would be a refusal.
    pub async fn ready(&self) -> Result<(), GovernError> {
        self.parts.sandboxes.running().await?;
        self.parts.oracle.next().await?;
        Ok(())
    }

    /// The metrics, for whoever serves them.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// Every metric as text, as of now.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let counted = self.parts.authz.counters();
        self.parts.metrics.observe_checks(CheckTotals {
            checks: counted.allowed
                + counted.denied
                + counted.requires_oversight
                + counted.quota_exceeded
                + counted.rate_limited,
            evaluations: counted.evaluated,
            denied: deny::ALL.into_iter().zip(counted.denied_by).collect(),
        });
        self.parts.metrics.encode()
    }

    /// The signed checkpoint over everything that is durable now.
    pub async fn checkpoint(&self, caller: &Caller) -> Result<Vec<u8>, GovernError> {
        caller.may(Call::GetCheckpoint, self.now())?;
        Ok(self.parts.audit.checkpoint(caller.org()).await?.note)
    }

    /// One leaf with the proof that it lies in the tree.
    pub async fn leaf(&self, caller: &Caller, leaf: LeafIndex) -> Result<LeafProof, GovernError> {
        caller.may(Call::GetLeaf, self.now())?;
        caller.require_person("read the log")?;
        Ok(self.parts.audit.prove(caller.org(), leaf).await?)
    }

    /// The newest records of the log that say what is asked for.
    pub async fn search_log(
        &self,
        caller: &Caller,
        query: SearchQuery,
    ) -> Result<SearchPage, GovernError> {
        caller.may(Call::SearchRecords, self.now())?;
        caller.require_person("search the log")?;
        searchable(&query)?;
        Ok(self.parts.audit.search(caller.org(), query).await?)
    }

    /// Proof that the log of `to` leaves, or of all, continues the one of `from`.
    pub async fn log_consistency(
        &self,
        caller: &Caller,
        from: u64,
        to: Option<u64>,
    ) -> Result<ConsistencyProof, GovernError> {
        caller.may(Call::GetConsistency, self.now())?;
        caller.require_person("read the log")?;
        Ok(self.parts.audit.consistency(caller.org(), from, to).await?)
    }

    /// A file of the log as C2SP tlog-tiles names it: `checkpoint`, `tile/...`.
    pub async fn log_resource(&self, caller: &Caller, path: &str) -> Result<Vec<u8>, GovernError> {
        caller.may(Call::GetTile, self.now())?;
        caller.require_person("read the log")?;
        self.parts
            .audit
            .resource(caller.org(), path)
            .await?
            .ok_or(GovernError::NotFound {
                what: "file of the log",
            })
    }

    /// What time alone brings about: reservations and requests for a human that
    /// ran out, and what is to be notified. Called about once a second.
    pub async fn sweep(&self) -> Result<(), GovernError> {
        // What a caller that went away, or a store that could not answer, left uncounted.
        let open = self.parts.meter.open_reservations();
        self.parts.metrics.reservations_open.set(open);
        // One that fails keeps none of the others back.
        let outcomes = [
            self.close_expired().await,
            self.expire_requests().await,
            self.notify_thresholds().await,
        ];
        outcomes.into_iter().collect()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Refuses an agent that asks too often to be heard: what it asks for costs
    /// records, and the disk is everybody's.
    pub(crate) fn admit(&self, caller: &Caller) -> Result<(), GovernError> {
        if caller.is_human() {
            return Ok(());
        }
        self.parts
            .meter
            .admit(caller.org(), caller.name())
            .map_err(|retry_after| GovernError::TooManyRequests { retry_after })
    }

    /// A record for the log, at the oracle's next instant.
    pub(crate) async fn record(
        &self,
        org: OrgId,
        actor: &PrincipalName,
        kind: &str,
        action_id: Option<ActionId>,
        body: &impl Serialize,
    ) -> Result<Evidence, GovernError> {
        let at = self.parts.oracle.next().await?.to_instant();
        Ok(Evidence {
            org,
            kind: kind.to_owned(),
            at,
            actor: actor.clone(),
            action_id,
            body: serde_json::to_value(body).map_err(GovernError::Encoding)?,
        })
    }

    /// Makes evidence durable that comes without a change of a product's state.
    pub(crate) async fn commit(&self, commit: Commit) -> Result<Receipt, GovernError> {
        Ok(self.parts.commits.commit(commit).await?)
    }

    /// Tells the log about new leaves and returns the first of them.
    pub(crate) fn committed(&self, org: OrgId, receipt: &Receipt) -> Option<LeafIndex> {
        let leaves = u64::try_from(receipt.leaves.len()).unwrap_or(u64::MAX);
        self.parts.metrics.leaves.add(LeafClass::Evidence, leaves);
        self.parts.audit.notify(org);
        receipt.leaf()
    }
}

/// What is longer than an index holds would never be found.
pub(crate) fn searchable(query: &SearchQuery) -> Result<(), GovernError> {
    let unusable = |term: &&SearchTerm| !(1..=MAX_VALUE_BYTES).contains(&term.value.len());
    match query.terms.iter().find(unusable) {
        None => Ok(()),
        Some(term) => Err(GovernError::invalid(
            term.field.name(),
            format!("1 to {MAX_VALUE_BYTES} bytes are expected"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn organizations_do_not_wait_for_each_other() {
        let limiting = Limiting::default();
        let [one, other] = [1, 2].map(|number| {
            let id = format!("org_{number:032x}");
            id.parse().unwrap()
        });
        let held = limiting.alone(one).await;
        // The same one waits, another does not.
        tokio::select! {
            biased;
            _ = limiting.alone(one) => panic!("it is held"),
            _ = limiting.alone(other) => {}
        }
        drop(held);
        limiting.alone(one).await;
    }
}
