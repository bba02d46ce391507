//! A candidate set of policies, asked beside the one in force.
//!
//! What was decided is handed over when the decision is made, through a bounded
//! queue that drops when it is full, and judged by a task of its own: a candidate
//! delays nobody and answers nobody. What it would have said differently is
//! counted, with a few samples of each kind.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use creto_authz::{CheckRequest, Decision, ResourceRef};
use creto_nhi::AgentIdentity;
use creto_telemetry::{Metrics, PolicyShadow as Label};
use creto_types::{
    ActionId, Clock, Commit, Evidence, LeafIndex, OrgId, PrincipalName, StoreError, Timestamp,
};
use parking_lot::{Mutex, RwLock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use super::answers::FailedTestsAnswer;
use super::bundle::{Candidate, PolicyFiles};
use super::judge::{Asked, Judge, VerdictAnswer};
use super::publish::FilesRequest;
use crate::answers::Answer;
use crate::facts::ContextJson;
use crate::idempotency::{Begun, Ticket};
use crate::{Call, Caller, GovernError, Governor, IdempotencyKey, OutcomeKind};

/// Decisions that wait to be judged; later ones are dropped and counted.
const QUEUE: usize = 1_024;

/// Samples that are kept of each kind of difference, the newest.
const SAMPLES: usize = 20;

/// The candidates of every organization. Shared by all that decide.
pub struct PolicyShadow {
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// Whether there is any candidate: the one thing that is read when there is
    /// none.
    any: AtomicBool,
    runs: RwLock<HashMap<OrgId, Arc<Run>>>,
    /// One start or stop at a time, so that what the log says and what is asked
    /// follow one order.
    changing: tokio::sync::Mutex<()>,
    /// Each organization's last change, where the store could not say whether it
    /// happened.
    open: Mutex<HashMap<OrgId, Open>>,
}

/// A start or stop that may be in the log and was not done. Who repeats it by its key
/// tells that it is there.
struct Open {
    by: PrincipalName,
    key: IdempotencyKey,
    /// What is to be asked; nothing any more when absent.
    candidate: Option<Candidate>,
}

/// One candidate while it is asked.
struct Run {
    digest: String,
    started_at: Timestamp,
    started_by: PrincipalName,
    policies: usize,
    tests_failed: Option<FailedTestsAnswer>,
    queue: mpsc::Sender<Seen>,
    dropped: AtomicU64,
    seen: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    judged: u64,
    different: u64,
    kinds: BTreeMap<(&'static str, &'static str), Kind>,
}

#[derive(Default)]
struct Kind {
    count: u64,
    samples: VecDeque<DifferenceAnswer>,
}

struct Seen {
    at: Timestamp,
    action_id: Option<ActionId>,
    identity: Arc<AgentIdentity>,
    asked: Asked,
    enforced: VerdictAnswer,
}

/// One decision that the candidate would have made differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DifferenceAnswer {
    /// When it was decided.
    pub at: Timestamp,
    /// The governed action; absent for questions, and for connections that do not count.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action_id: Option<ActionId>,
    /// Where the decision lies in the log; absent for live traffic.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
    /// Who asked.
    pub principal: PrincipalName,
    /// For what.
    pub action: String,
    /// On what.
    pub resource: String,
    /// Of this entity type; a `Creto::Resource` when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource_type: Option<String>,
    /// How many.
    pub units: u64,
    /// In this context.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub context: BTreeMap<String, ContextJson>,
    /// What was decided.
    pub enforced: VerdictAnswer,
    /// What the candidate says.
    pub candidate: VerdictAnswer,
}

/// Differences of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DifferenceKindAnswer {
    /// What was decided.
    pub enforced: OutcomeKind,
    /// What the candidate says.
    pub candidate: OutcomeKind,
    /// How often.
    pub count: u64,
    /// Some of them, newest first.
    pub samples: Vec<DifferenceAnswer>,
}

/// A candidate and what it said so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowAnswer {
    /// Whether this candidate is asked now; of all that a repeated call answers, this
    /// alone is as of the repetition.
    pub active: bool,
    /// SHA-256 of its bundle, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<String>,
    /// How many policies it has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policies: Option<usize>,
    /// Tests beside the candidate that fail; absent when none does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tests_failed: Option<FailedTestsAnswer>,
    /// Since when. A restart of the server ends it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_at: Option<Timestamp>,
    /// Who set it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_by: Option<PrincipalName>,
    /// Decisions it was asked about.
    pub judged: u64,
    /// Of those, how many it would have decided differently: another outcome, another
    /// kind of approval, or an error where there was a denial, or the other way round.
    pub different: u64,
    /// Decisions it was not asked about, because too much was decided at once.
    pub dropped: u64,
    /// The differences by kind.
    pub differences: Vec<DifferenceKindAnswer>,
    /// Where the change lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl Answer for ShadowAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

impl ShadowAnswer {
    fn none() -> Self {
        Self {
            active: false,
            digest: None,
            policies: None,
            tests_failed: None,
            started_at: None,
            started_by: None,
            judged: 0,
            different: 0,
            dropped: 0,
            differences: Vec::new(),
            leaf: None,
        }
    }
}

impl Run {
    fn answer(&self) -> ShadowAnswer {
        let counts = self.seen.lock();
        ShadowAnswer {
            active: true,
            digest: Some(self.digest.clone()),
            policies: Some(self.policies),
            tests_failed: self.tests_failed.clone(),
            started_at: Some(self.started_at),
            started_by: Some(self.started_by.clone()),
            judged: counts.judged,
            different: counts.different,
            dropped: self.dropped.load(Ordering::Relaxed),
            differences: counts.kinds.values().filter_map(Kind::answer).collect(),
            leaf: None,
        }
    }

    fn judge(&self, judge: &mut Judge, seen: Seen, metrics: &Metrics) {
        let candidate = judge.verdict(&seen.identity, &seen.asked, seen.at);
        let same = candidate.is_same(&seen.enforced);
        metrics
            .policy_shadow
            .inc(if same { Label::Same } else { Label::Different });
        let mut counts = self.seen.lock();
        counts.judged += 1;
        if same {
            return;
        }
        counts.different += 1;
        let names = (seen.enforced.outcome.as_str(), candidate.outcome.as_str());
        let kind = counts.kinds.entry(names).or_default();
        kind.count += 1;
        if kind.samples.len() == SAMPLES {
            kind.samples.pop_back();
        }
        kind.samples.push_front(DifferenceAnswer {
            action_id: seen.action_id,
            ..DifferenceAnswer::new(
                seen.at,
                seen.identity.name.clone(),
                seen.asked,
                seen.enforced,
                candidate,
            )
        });
    }
}

impl DifferenceAnswer {
    pub(super) fn new(
        at: Timestamp,
        principal: PrincipalName,
        asked: Asked,
        enforced: VerdictAnswer,
        candidate: VerdictAnswer,
    ) -> Self {
        let ResourceRef { kind, id } = asked.resource;
        Self {
            at,
            action_id: None,
            leaf: None,
            principal,
            action: asked.action,
            resource: id,
            resource_type: (kind != ResourceRef::RESOURCE).then_some(kind),
            units: asked.units,
            context: asked.context,
            enforced,
            candidate,
        }
    }
}

impl Kind {
    fn answer(&self) -> Option<DifferenceKindAnswer> {
        let newest = self.samples.front()?;
        Some(DifferenceKindAnswer {
            enforced: newest.enforced.outcome,
            candidate: newest.candidate.outcome,
            count: self.count,
            samples: self.samples.iter().cloned().collect(),
        })
    }
}

/// A decision that was not handed over yet.
pub(crate) struct Observed {
    run: Arc<Run>,
    metrics: Arc<Metrics>,
    seen: Seen,
}

impl Observed {
    pub(crate) fn hand_over(self) {
        if self.run.queue.try_send(self.seen).is_err() {
            self.run.dropped.fetch_add(1, Ordering::Relaxed);
            self.metrics.policy_shadow.inc(Label::Dropped);
        }
    }
}

impl PolicyShadow {
    /// No candidates.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Self {
            metrics,
            clock,
            any: AtomicBool::new(false),
            runs: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            open: Mutex::default(),
        }
    }

    /// Hands over what was decided. Waits for nothing; costs one load when there
    /// is no candidate.
    pub fn observe(
        &self,
        identity: &Arc<AgentIdentity>,
        action_id: Option<ActionId>,
        request: &CheckRequest<'_>,
        decision: &Decision,
    ) {
        if let Some(observed) = self.observed(identity, action_id, request, decision) {
            observed.hand_over();
        }
    }

    /// The same for a decision that may turn out void: it is kept until it is handed
    /// over. `None` when nobody wants it.
    pub(crate) fn observed(
        &self,
        identity: &Arc<AgentIdentity>,
        action_id: Option<ActionId>,
        request: &CheckRequest<'_>,
        decision: &Decision,
    ) -> Option<Observed> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let run = self.runs.read().get(&identity.org).cloned()?;
        // A revoked delegation or a missing right is no business of policies.
        let enforced = VerdictAnswer::of(decision)?;
        Some(Observed {
            run,
            metrics: Arc::clone(&self.metrics),
            seen: Seen {
                at: self.clock.now(),
                action_id,
                identity: Arc::clone(identity),
                asked: Asked::of(request),
                enforced,
            },
        })
    }

    fn start(&self, org: OrgId, by: &PrincipalName, bundle: &Candidate) {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let run = Arc::new(Run {
            digest: bundle.digest.clone(),
            started_at: self.clock.now(),
            started_by: by.clone(),
            policies: bundle.compiled.report().policies.len(),
            tests_failed: FailedTestsAnswer::of(&bundle.tests),
            queue,
            dropped: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        let mut judge = Judge::new(org, Arc::clone(&bundle.compiled));
        let metrics = Arc::clone(&self.metrics);
        // It ends with the run, whose sender is the only one.
        let weak = Arc::downgrade(&run);
        tokio::spawn(async move {
            while let Some(seen) = waiting.recv().await {
                let Some(run) = weak.upgrade() else {
                    return;
                };
                run.judge(&mut judge, seen, &metrics);
                // Others share this thread.
                tokio::task::yield_now().await;
            }
        });
        self.runs.write().insert(org, run);
        self.any.store(true, Ordering::Relaxed);
    }

    fn stop(&self, org: OrgId) {
        let mut runs = self.runs.write();
        runs.remove(&org);
        self.any.store(!runs.is_empty(), Ordering::Relaxed);
    }

    fn answer(&self, org: OrgId) -> ShadowAnswer {
        let runs = self.runs.read();
        runs.get(&org)
            .map_or_else(ShadowAnswer::none, |run| run.answer())
    }

    /// Does a change that is in the log: what was open before it is overruled.
    fn change(&self, org: OrgId, by: &PrincipalName, candidate: Option<&Candidate>) {
        self.open.lock().remove(&org);
        match candidate {
            Some(bundle) => self.start(org, by, bundle),
            None => self.stop(org),
        }
    }

    /// Keeps a change of unknown outcome until somebody repeats it. Without a key
    /// nobody can.
    fn keep_open(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        candidate: Option<Candidate>,
    ) {
        let mut open = self.open.lock();
        open.remove(&caller.org());
        if let Some(key) = key {
            let change = Open {
                by: caller.name().clone(),
                key: key.clone(),
                candidate,
            };
            open.insert(caller.org(), change);
        }
    }

    /// The answer of a call that was made before, which is therefore in the log: it is
    /// done now if that was open. Whether its candidate is asked is said as of now,
    /// since a restart or a later call may have ended it.
    fn again(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        was: ShadowAnswer,
    ) -> ShadowAnswer {
        let org = caller.org();
        let mine = |open: &Open| open.by == *caller.name() && Some(&open.key) == key;
        let open = {
            let mut all = self.open.lock();
            if all.get(&org).is_some_and(mine) {
                all.remove(&org)
            } else {
                None
            }
        };
        if let Some(open) = open {
            self.change(org, &open.by, open.candidate.as_ref());
        }
        let runs = self.runs.read();
        let asked = runs.get(&org).map(|run| &run.digest);
        ShadowAnswer {
            active: asked.is_some() && asked == was.digest.as_ref(),
            ..was
        }
    }
}

impl Governor {
    /// Asks a candidate beside the policies in force from now on, in place of any
    /// other candidate. It lasts until it is stopped or the server ends.
    pub async fn start_policy_shadow(
        &self,
        caller: &Caller,
        request: FilesRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<ShadowAnswer, GovernError> {
        caller.may(Call::StartPolicyShadow, self.now())?;
        caller.require_person("try policies")?;
        let shadow = &self.parts.shadow;
        let begun = self.begin(caller, key.clone(), "policy.shadow", &request);
        let ticket = match begun.await? {
            Begun::Replay(answer) => {
                let _one_at_a_time = shadow.changing.lock().await;
                return Ok(shadow.again(caller, key.as_ref(), answer));
            }
            Begun::Fresh(ticket) => ticket,
        };
        let bundle = self
            .check_candidate(PolicyFiles::new(request.files)?)
            .await??;
        let _one_at_a_time = shadow.changing.lock().await;
        let body = json!({ "digest": bundle.digest });
        let evidence = self
            .record(
                caller.org(),
                caller.name(),
                "policy.shadow_started",
                None,
                &body,
            )
            .await?;
        let answer = ShadowAnswer {
            active: true,
            digest: Some(bundle.digest.clone()),
            policies: Some(bundle.compiled.report().policies.len()),
            tests_failed: FailedTestsAnswer::of(&bundle.tests),
            started_at: Some(self.now()),
            started_by: Some(caller.name().clone()),
            ..ShadowAnswer::none()
        };
        self.change_shadow(caller, &ticket, evidence, answer, Some(bundle))
            .await
    }

    /// Asks no candidate any more, and says what the last one said.
    pub async fn stop_policy_shadow(
        &self,
        caller: &Caller,
        key: Option<IdempotencyKey>,
    ) -> Result<ShadowAnswer, GovernError> {
        caller.may(Call::StopPolicyShadow, self.now())?;
        caller.require_person("try policies")?;
        let shadow = &self.parts.shadow;
        let begun = self.begin(caller, key.clone(), "policy.shadow_stop", &());
        let begun = begun.await?;
        let _one_at_a_time = shadow.changing.lock().await;
        let ticket = match begun {
            Begun::Replay(answer) => return Ok(shadow.again(caller, key.as_ref(), answer)),
            Begun::Fresh(ticket) => ticket,
        };
        let answer = ShadowAnswer {
            active: false,
            ..shadow.answer(caller.org())
        };
        if answer.digest.is_none() {
            return Err(GovernError::NotFound {
                what: "candidate set of policies",
            });
        }
        let body = json!({
            "digest": answer.digest,
            "judged": answer.judged,
            "different": answer.different,
            "dropped": answer.dropped,
        });
        let evidence = self
            .record(
                caller.org(),
                caller.name(),
                "policy.shadow_stopped",
                None,
                &body,
            )
            .await?;
        self.change_shadow(caller, &ticket, evidence, answer, None)
            .await
    }

    /// Records a start or a stop, and then does it.
    async fn change_shadow(
        &self,
        caller: &Caller,
        ticket: &Ticket,
        evidence: Evidence,
        answer: ShadowAnswer,
        candidate: Option<Candidate>,
    ) -> Result<ShadowAnswer, GovernError> {
        let (org, shadow) = (caller.org(), &self.parts.shadow);
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        match self.commit(commit).await {
            Ok(receipt) => {
                shadow.change(org, caller.name(), candidate.as_ref());
                ticket.finish(answer, Ok(self.committed(org, &receipt)))
            }
            Err(error) => {
                if let GovernError::Store(StoreError::Unavailable(_)) = error {
                    shadow.keep_open(caller, ticket.key(), candidate);
                }
                let was = ticket.finish(answer, Err(error))?;
                Ok(shadow.again(caller, ticket.key(), was))
            }
        }
    }

    /// What the candidate said so far.
    pub fn policy_shadow(&self, caller: &Caller) -> Result<ShadowAnswer, GovernError> {
        caller.may(Call::GetPolicyShadow, self.now())?;
        caller.require_person("try policies")?;
        Ok(self.parts.shadow.answer(caller.org()))
    }
}
