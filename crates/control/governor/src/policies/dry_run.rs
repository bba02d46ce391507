//! A candidate set of policies, asked what was decided before.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use creto_authz::ResourceRef;
use creto_nhi::{AgentIdentity, LinkId};
use creto_oversight::{OversightRequest, RequestId};
use creto_types::{ActionId, LeafIndex, OrgId, PrincipalName, StoreError, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answers::FailedTestsAnswer;
use super::bundle::PolicyFiles;
use super::judge::{Approved, Asked, Judge, VerdictAnswer, is_by_limits, is_by_policy};
use super::shadow::DifferenceAnswer;
use crate::answers::refusal;
use crate::egress::NETWORK_EGRESS;
use crate::facts::{ContextJson, ContextMap, ResourceJson};
use crate::records::{Checked, EGRESS_CHECKED, EgressChecked};
use crate::{Call, Caller, GovernError, Governor, OutcomeKind, ReasonAnswer};

/// Decisions that one call looks at; the next one goes on.
const AT_ONCE: usize = 5_000;

/// Decisions read from the journal at a time.
const PAGE: usize = 500;

/// Differences that one answer lists.
const LISTED: usize = 100;

/// Commits do not land in the exact order of their instants: how far back one may
/// lie behind a later leaf.
const DISORDER: Duration = Duration::from_secs(60);

/// The same of connections, which are recorded in batches, and again when a batch failed.
const LATE: Duration = Duration::from_secs(60 * 60);

/// What to ask a candidate about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DryRunRequest {
    /// Texts by name: `NAME.cedarschema`, `NAME.cedar`, `NAME.test.json`.
    pub files: BTreeMap<String, String>,
    /// Decisions from this instant on.
    pub since: Timestamp,
    /// Before this instant; up to now when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The `next` of the answer before; the newest decision when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<LeafIndex>,
}

/// How often the outcome changes from one to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeCount {
    /// What policies said then. A limit or a rate may have refused what they allowed.
    pub enforced: OutcomeKind,
    /// What the candidate says.
    pub candidate: OutcomeKind,
    /// How often.
    pub count: u64,
}

/// What a candidate says to what was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DryRunAnswer {
    /// SHA-256 of the candidate's bundle, in hexadecimal.
    pub digest: String,
    /// Tests beside the candidate that fail; absent when none does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tests_failed: Option<FailedTestsAnswer>,
    /// Decisions that the candidate was asked about.
    pub judged: u64,
    /// Decisions it was not asked about, because policies did not decide them: a
    /// delegation was revoked, a right was missing, a grant did not fit, a gateway let
    /// nothing through. Or because it is not known any more who asked.
    pub skipped: u64,
    /// Of those judged, how many would have been decided differently: another outcome,
    /// another kind of approval, or an error where there was a denial, or the other way
    /// round.
    pub different: u64,
    /// The same by kind.
    pub changes: Vec<ChangeCount>,
    /// Some of them, newest first.
    pub items: Vec<DifferenceAnswer>,
    /// Go on with this as `before`; absent when the period was seen to its begin.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<LeafIndex>,
}

/// A decision as its leaf holds it.
#[derive(Deserialize)]
struct Leaf {
    kind: String,
    at: Timestamp,
    actor: PrincipalName,
    #[serde(default)]
    action_id: Option<ActionId>,
    body: Value,
}

/// The body of `action.decided`.
#[derive(Deserialize)]
struct Decided {
    action: String,
    resource: ResourceJson,
    #[serde(default)]
    context: ContextMap,
    units: u64,
    delegations: Vec<LinkId>,
    outcome: OutcomeKind,
    reason: ReasonAnswer,
    policy_ids: Vec<String>,
    #[serde(default)]
    oversight_request: Option<String>,
}

impl Decided {
    /// What policies said then; `None` when they did not decide.
    fn verdict(&self) -> Option<VerdictAnswer> {
        let outcome = match self.outcome {
            // Budgets and rates are asked once policies permitted.
            OutcomeKind::Allow | OutcomeKind::QuotaExceeded | OutcomeKind::RateLimited => {
                OutcomeKind::Allow
            }
            OutcomeKind::Deny if !is_by_policy(&self.reason.code) => return None,
            other => other,
        };
        Some(VerdictAnswer {
            outcome,
            code: self.reason.code.clone(),
            message: self.reason.message.clone(),
            policies: self.policy_ids.clone(),
            oversight: None,
        })
    }
}

impl EgressChecked {
    /// What policies said then; `None` when they did not decide.
    fn verdict(&self) -> Option<VerdictAnswer> {
        let permitted = || ReasonAnswer {
            code: "permitted".to_owned(),
            message: "permitted".to_owned(),
        };
        let (outcome, reason) = match (self.outcome, &self.reason) {
            (Checked::Allow, _) => (OutcomeKind::Allow, permitted()),
            (Checked::Refuse, Some(reason)) if reason.code == refusal::NEEDS_APPROVAL => {
                (OutcomeKind::RequiresOversight, reason.clone())
            }
            (Checked::Refuse, Some(reason)) if is_by_policy(&reason.code) => {
                (OutcomeKind::Deny, reason.clone())
            }
            // Budgets and rates are asked once policies permitted.
            (Checked::Refuse, Some(reason)) if is_by_limits(&reason.code) => {
                (OutcomeKind::Allow, permitted())
            }
            (Checked::Refuse, _) => return None,
        };
        Some(VerdictAnswer {
            outcome,
            code: reason.code,
            message: reason.message,
            policies: self.policy_ids.clone(),
            oversight: None,
        })
    }

    fn asked(self) -> Asked {
        let context = [
            ("port", ContextJson::Long(self.port.into())),
            ("protocol", ContextJson::Text(self.protocol)),
        ];
        Asked {
            action: NETWORK_EGRESS.to_owned(),
            resource: ResourceRef::host(self.destination),
            units: 1,
            context: context
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            approval: None,
        }
    }
}

/// What is asked again: by whom, what, and what policies said then.
type Again = (Arc<AgentIdentity>, Asked, VerdictAnswer);

/// One candidate on its way through the log.
struct Trial {
    org: OrgId,
    judge: Judge,
    answer: DryRunAnswer,
    changes: BTreeMap<(&'static str, &'static str), ChangeCount>,
    /// Who the sandboxes were that connected.
    sandboxes: HashMap<String, Option<Arc<AgentIdentity>>>,
}

impl Trial {
    fn judge(&mut self, leaf: LeafIndex, decided: Leaf, again: Option<Again>) {
        let Some((identity, asked, enforced)) = again else {
            self.answer.skipped += 1;
            return;
        };
        let candidate = self.judge.verdict(&identity, &asked, decided.at);
        self.answer.judged += 1;
        if candidate.is_same(&enforced) {
            return;
        }
        self.answer.different += 1;
        self.changes
            .entry((enforced.outcome.as_str(), candidate.outcome.as_str()))
            .or_insert_with(|| ChangeCount {
                enforced: enforced.outcome,
                candidate: candidate.outcome,
                count: 0,
            })
            .count += 1;
        if self.answer.items.len() < LISTED {
            let (at, who) = (decided.at, decided.actor);
            self.answer.items.push(DifferenceAnswer {
                action_id: decided.action_id,
                leaf: Some(leaf),
                ..DifferenceAnswer::new(at, who, asked, enforced, candidate)
            });
        }
    }
}

impl Governor {
    /// Asks a candidate about every action that was decided, and every connection of a
    /// sandbox that was checked, in a period, and says what it would have decided
    /// differently. Nothing is changed, and what has happened since, revocations and
    /// budgets, is not looked at.
    pub async fn dry_run_policies(
        &self,
        caller: &Caller,
        request: DryRunRequest,
    ) -> Result<DryRunAnswer, GovernError> {
        caller.may(Call::DryRunPolicies, self.now())?;
        caller.require_person("try policies")?;
        let org = caller.org();
        let bundle = self
            .check_candidate(PolicyFiles::new(request.files)?)
            .await??;
        let mut trial = Trial {
            org,
            judge: Judge::new(org, Arc::clone(&bundle.compiled)),
            answer: DryRunAnswer {
                digest: bundle.digest,
                tests_failed: FailedTestsAnswer::of(&bundle.tests),
                judged: 0,
                skipped: 0,
                different: 0,
                changes: Vec::new(),
                items: Vec::new(),
                next: None,
            },
            changes: BTreeMap::new(),
            sandboxes: HashMap::new(),
        };
        let mut before = request.before;
        let mut seen = 0_usize;
        let before_since = |by| request.since.checked_sub(by).unwrap_or(Timestamp::MIN);
        let (stop, last) = (before_since(DISORDER), before_since(LATE));
        'pages: while seen < AT_ONCE {
            let page = self.parts.records.decisions(org, before, PAGE).await?;
            if page.is_empty() {
                before = None;
                break;
            }
            for (leaf, stored) in page {
                before = Some(leaf);
                seen += 1;
                let record = stored.read().map_err(StoreError::from)?;
                let Some(record) = record.whole() else {
                    // Of whom nothing is known any more nothing can be judged.
                    trial.answer.skipped += 1;
                    continue;
                };
                let decided: Leaf =
                    serde_json::from_value(record).map_err(GovernError::Encoding)?;
                let connected = decided.kind == EGRESS_CHECKED;
                if decided.at < if connected { last } else { stop } {
                    before = None;
                    break 'pages;
                }
                let inside = decided.at >= request.since
                    && request.until.is_none_or(|until| decided.at < until);
                if inside {
                    let again = self.asked_again(&mut trial, &decided).await?;
                    trial.judge(leaf, decided, again);
                }
            }
            // Others share this thread.
            tokio::task::yield_now().await;
        }
        Ok(DryRunAnswer {
            next: before,
            changes: trial.changes.into_values().collect(),
            ..trial.answer
        })
    }

    /// What to ask a candidate of a recorded decision; `None` when policies did not
    /// decide it, or it is not known any more who asked.
    async fn asked_again(
        &self,
        trial: &mut Trial,
        leaf: &Leaf,
    ) -> Result<Option<Again>, GovernError> {
        let body = leaf.body.clone();
        if leaf.kind == EGRESS_CHECKED {
            let checked: EgressChecked =
                serde_json::from_value(body).map_err(GovernError::Encoding)?;
            let Some(enforced) = checked.verdict() else {
                return Ok(None);
            };
            let identity = self.connected_by(trial, &checked.sandbox_id).await?;
            return Ok(identity.map(|identity| (identity, checked.asked(), enforced)));
        }
        let decided: Decided = serde_json::from_value(body).map_err(GovernError::Encoding)?;
        let (Some(mut enforced), Some(identity)) = (
            decided.verdict(),
            self.decided_by(trial.org, leaf, &decided),
        ) else {
            return Ok(None);
        };
        let request = decided.oversight_request.as_deref();
        let request = self.held_by(trial.org, request).await?;
        let mut approval = None;
        if decided.outcome == OutcomeKind::RequiresOversight {
            enforced.oversight = request.map(|request| request.oversight);
        } else {
            approval = request.map(|request| Approved {
                policies: request.held.policy_id,
                oversight: Some(request.oversight),
            });
        }
        let asked = Asked {
            action: decided.action,
            resource: decided.resource.to_ref(),
            units: decided.units,
            context: decided.context,
            approval,
        };
        Ok(Some((identity, asked, enforced)))
    }

    /// Who asked then. Delegations are never removed, so the chain is still there.
    fn decided_by(&self, org: OrgId, leaf: &Leaf, decided: &Decided) -> Option<Arc<AgentIdentity>> {
        let nhi = &self.parts.nhi;
        match decided.delegations.last() {
            Some(link) => nhi.identity_for_link(org, *link).ok(),
            None => nhi.identity_for_human(org, &leaf.actor).ok(),
        }
    }

    /// The agent that a sandbox was bound to.
    async fn connected_by(
        &self,
        trial: &mut Trial,
        sandbox: &str,
    ) -> Result<Option<Arc<AgentIdentity>>, GovernError> {
        if let Some(known) = trial.sandboxes.get(sandbox) {
            return Ok(known.clone());
        }
        let row = self.parts.sandboxes.get(trial.org, sandbox).await?;
        let link = row.and_then(|row| row.answer.delegation.parse::<LinkId>().ok());
        let identity = link.and_then(|link| self.parts.nhi.identity_for_link(trial.org, link).ok());
        trial.sandboxes.insert(sandbox.to_owned(), identity.clone());
        Ok(identity)
    }

    /// The request that an action was held or let through by.
    async fn held_by(
        &self,
        org: OrgId,
        request: Option<&str>,
    ) -> Result<Option<OversightRequest>, GovernError> {
        let Some(id) = request.and_then(|text| text.parse::<RequestId>().ok()) else {
            return Ok(None);
        };
        Ok(self.parts.oversight.get(org, id).await?)
    }
}
