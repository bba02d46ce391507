//! A candidate set of policies, asked what was decided before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use creto_nhi::{AgentIdentity, LinkId};
use creto_oversight::RequestId;
use creto_types::{ActionId, LeafIndex, OrgId, PrincipalName, StoreError, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bundle::PolicyFiles;
use super::judge::{Asked, Judge, VerdictAnswer, is_by_policy};
use super::shadow::DifferenceAnswer;
use crate::facts::{ContextMap, ResourceJson};
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
    /// What was decided.
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
    /// Decisions that the candidate was asked about.
    pub judged: u64,
    /// Decisions it was not asked about, because policies did not decide them: a
    /// delegation was revoked, a right was missing, a grant did not fit.
    pub skipped: u64,
    /// Of those judged, how many would have been decided differently.
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
    at: Timestamp,
    actor: PrincipalName,
    #[serde(default)]
    action_id: Option<ActionId>,
    body: Body,
}

#[derive(Deserialize)]
struct Body {
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

impl Body {
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

impl Governor {
    /// Asks a candidate about every action that was decided in a period, and says what
    /// it would have decided differently. Connections are not asked about again. Nothing
    /// is changed, and what has happened since, revocations and budgets, is not looked
    /// at.
    pub async fn dry_run_policies(
        &self,
        caller: &Caller,
        request: DryRunRequest,
    ) -> Result<DryRunAnswer, GovernError> {
        caller.may(Call::DryRunPolicies, self.now())?;
        caller.require_person("try policies")?;
        let org = caller.org();
        let bundle = self
            .check_bundle(PolicyFiles::new(request.files)?)
            .await??;
        let mut judge = Judge::new(org, Arc::clone(&bundle.compiled));
        let mut answer = DryRunAnswer {
            digest: bundle.digest,
            judged: 0,
            skipped: 0,
            different: 0,
            changes: Vec::new(),
            items: Vec::new(),
            next: None,
        };
        let mut changes = BTreeMap::new();
        let mut before = request.before;
        let mut seen = 0_usize;
        let stop = request
            .since
            .checked_sub(DISORDER)
            .unwrap_or(Timestamp::MIN);
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
                    answer.skipped += 1;
                    continue;
                };
                let decided: Leaf =
                    serde_json::from_value(record).map_err(GovernError::Encoding)?;
                if decided.at < stop {
                    before = None;
                    break 'pages;
                }
                let inside = decided.at >= request.since
                    && request.until.is_none_or(|until| decided.at < until);
                if inside {
                    self.judge_again(org, &mut judge, leaf, decided, &mut answer, &mut changes)
                        .await?;
                }
            }
            // Others share this thread.
            tokio::task::yield_now().await;
        }
        answer.next = before;
        answer.changes = changes.into_values().collect();
        Ok(answer)
    }

    async fn judge_again(
        &self,
        org: OrgId,
        judge: &mut Judge,
        leaf: LeafIndex,
        decided: Leaf,
        answer: &mut DryRunAnswer,
        changes: &mut BTreeMap<(&'static str, &'static str), ChangeCount>,
    ) -> Result<(), GovernError> {
        let identity = self.decided_by(org, &decided);
        let (Some(enforced), Some(identity)) = (decided.body.verdict(), identity) else {
            answer.skipped += 1;
            return Ok(());
        };
        let asked = Asked {
            action: decided.body.action,
            resource: decided.body.resource.to_ref(),
            units: decided.body.units,
            context: decided.body.context,
            approval: match decided.body.outcome {
                OutcomeKind::RequiresOversight => None,
                _ => {
                    let request = decided.body.oversight_request.as_deref();
                    self.approved_policies(org, request).await?
                }
            },
        };
        let candidate = judge.verdict(&identity, &asked, decided.at);
        answer.judged += 1;
        if candidate.outcome == enforced.outcome {
            return Ok(());
        }
        answer.different += 1;
        changes
            .entry((enforced.outcome.as_str(), candidate.outcome.as_str()))
            .or_insert_with(|| ChangeCount {
                enforced: enforced.outcome,
                candidate: candidate.outcome,
                count: 0,
            })
            .count += 1;
        if answer.items.len() < LISTED {
            let (at, who) = (decided.at, decided.actor);
            answer.items.push(DifferenceAnswer {
                action_id: decided.action_id,
                leaf: Some(leaf),
                ..DifferenceAnswer::new(at, who, asked, enforced, candidate)
            });
        }
        Ok(())
    }

    /// Who asked then. Delegations are never removed, so the chain is still there.
    fn decided_by(&self, org: OrgId, decided: &Leaf) -> Option<Arc<AgentIdentity>> {
        let nhi = &self.parts.nhi;
        match decided.body.delegations.last() {
            Some(link) => nhi.identity_for_link(org, *link).ok(),
            None => nhi.identity_for_human(org, &decided.actor).ok(),
        }
    }

    /// The policies that a human approved the action for.
    async fn approved_policies(
        &self,
        org: OrgId,
        request: Option<&str>,
    ) -> Result<Option<String>, GovernError> {
        let Some(id) = request.and_then(|text| text.parse::<RequestId>().ok()) else {
            return Ok(None);
        };
        let request = self.parts.oversight.get(org, id).await?;
        Ok(request.map(|request| request.held.policy_id))
    }
}
