//! Why an answer is what it is, and what is missing for another one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use creto_authz::{
    CompiledPolicies, Explanation, MissingPermit, Outcome, PolicyExplanation, PolicyInfo,
    PrincipalExplanation, Unfit, deny,
};
use creto_nhi::{AgentIdentity, Hop, PrincipalType};
use creto_types::PrincipalName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answers::FailedTestsAnswer;
use super::bundle::PolicyFiles;
use super::judge::{Asked, Judge, VerdictAnswer};
use crate::actions::{check_name, check_units};
use crate::answers::refusal;
use crate::facts::{ContextJson, ResourceJson, check_context};
use crate::questions::QuestionAnswer;
use crate::{Call, Caller, GovernError, Governor, OutcomeKind, ReasonAnswer};

/// The most policies that are listed for one principal, and rights for one link.
const LISTED: usize = 50;

/// What to explain: a request as an action or a connection would make it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Who asks: a person, in person, or an agent, by its delegation. The caller
    /// when neither this nor a delegation is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalName>,
    /// The delegation that the agent acts by; needed when it holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<String>,
    /// For what, for example `release.publish`.
    pub action: String,
    /// On what: the id of a `Creto::Resource`, or a type and an id.
    pub resource: ResourceJson,
    /// How many units; 1 when absent.
    #[serde(default = "one")]
    pub units: u64,
    /// What the action's context declares beside what the server fills in.
    #[serde(default)]
    pub context: BTreeMap<String, ContextJson>,
    /// The policies that a human is taken to have approved it for, joined by `+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// Candidate policies to ask instead of those in force: texts by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<BTreeMap<String, String>>,
}

const fn one() -> u64 {
    1
}

/// What decides, and what is missing. Limits and rates are not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainAnswer {
    /// Who asks.
    pub principal: PrincipalName,
    /// By which delegation; absent for a person, and for an agent without any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delegation: Option<String>,
    /// What is decided: `allow`, `deny` or `requires_oversight`.
    pub outcome: OutcomeKind,
    /// Why: the first thing that refuses it.
    pub reason: ReasonAnswer,
    /// The policies that decided.
    pub policy_ids: Vec<String>,
    /// The kind of approval, when one would let it through.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oversight: Option<String>,
    /// Links of the chain whose rights do not cover it, from the person down. No
    /// policy makes up for one.
    pub rights: Vec<ExceededRights>,
    /// What policies alone say, whatever else refuses it; absent when there are
    /// none or there is no chain to ask them for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict: Option<VerdictAnswer>,
    /// Everyone in the chain, from the person down, with the policies whose scope
    /// fits.
    pub principals: Vec<ExplainedPrincipal>,
    /// The permit that somebody in the chain lacks.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub missing: Option<MissingPermitAnswer>,
    /// Tests beside the candidate that fail; absent when none does, or none is asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tests_failed: Option<FailedTestsAnswer>,
}

/// A delegation that does not cover the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExceededRights {
    /// Which.
    pub delegation: String,
    /// Who gave it, and may give one that does.
    pub delegator: PrincipalName,
    /// To whom.
    pub delegatee: PrincipalName,
    /// Its rights, those that come nearest first.
    pub rights: Vec<NearRight>,
}

/// A right that does not cover the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NearRight {
    /// Names of actions.
    pub action: String,
    /// Ids of resources.
    pub resource: String,
    /// What of it does not fit: `action`, `resource`.
    pub unfit: Vec<String>,
}

/// What the policies say for one principal of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedPrincipal {
    /// In Cedar, such as `Creto::Agent::"bot"`.
    pub principal: String,
    /// Whether some policy permits and none forbids it, without an approval.
    pub permitted: bool,
    /// Policies whose scope fits: those that apply or fail first, at most 50.
    pub policies: Vec<ExplainedPolicy>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_none", default)]
    pub more: usize,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
const fn is_none(count: &usize) -> bool {
    *count == 0
}

/// What one policy whose scope fits says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedPolicy {
    /// Which, and where it stands.
    #[serde(flatten)]
    pub policy: PolicyPlace,
    /// `permit` or `forbid`.
    pub effect: String,
    /// `applies`, `condition_false` or `error`.
    pub outcome: String,
    /// The kind of approval that lifts it, when it is a forbid that one lifts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oversight: Option<String>,
    /// What whoever is refused reads.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Why it could not be evaluated.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// Where a policy stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyPlace {
    /// Its name.
    pub id: String,
    /// The file it stands in.
    pub file: String,
    /// The line it starts in, counted from one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line: Option<usize>,
}

/// The permit that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingPermitAnswer {
    /// The principals nothing permits it to.
    pub principals: Vec<String>,
    /// The permits that come nearest, nearest first.
    pub nearest: Vec<NearPermitAnswer>,
    /// Cedar policies that would permit this action on this resource, with any units and
    /// context, to those whom nothing does.
    pub policy: String,
}

/// A permit that does not cover the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NearPermitAnswer {
    /// Which, and where it stands.
    #[serde(flatten)]
    pub policy: PolicyPlace,
    /// The principal it was looked at for.
    pub principal: String,
    /// What of it does not fit: `principal`, `action`, `resource`, `condition`.
    pub unfit: Vec<String>,
    /// Its scope, in Cedar.
    pub scope: String,
}

impl Governor {
    /// Says why a request is answered as it is, or would be under candidate
    /// policies. Reserves nothing, asks nobody, records nothing. For owners.
    pub async fn explain_policies(
        &self,
        caller: &Caller,
        request: ExplainRequest,
    ) -> Result<ExplainAnswer, GovernError> {
        caller.may(Call::ExplainPolicies, self.now())?;
        caller.require_person("ask why")?;
        let asked = request.asked()?;
        let org = caller.org();
        let candidate = match request.files {
            Some(files) => Some(self.check_candidate(PolicyFiles::new(files)?).await??),
            None => None,
        };
        let failed = candidate.as_ref().map(|candidate| &candidate.tests);
        let tests_failed = failed.and_then(FailedTestsAnswer::of);
        let candidate = candidate.map(|candidate| candidate.compiled);
        let principal = request.principal.as_ref();
        let Some(identity) = self.asked_for(caller, principal, request.delegation.as_deref())?
        else {
            let name = principal.unwrap_or(caller.name()).clone();
            return Ok(ExplainAnswer {
                tests_failed,
                ..ExplainAnswer::without_delegation(name)
            });
        };
        let now = self.parts.clock.reading();
        let decision = match &candidate {
            Some(policies) => Judge::new(org, Arc::clone(policies)).decides(
                Arc::clone(&identity),
                &asked,
                self.now(),
            ),
            None => asked.ask(&self.parts.authz, Arc::clone(&identity)),
        };
        let policies = candidate.or_else(|| self.parts.authz.policies(org));
        let mut answer = ExplainAnswer::of(&identity, QuestionAnswer::from(decision));
        answer.tests_failed = tests_failed;
        answer.rights = exceeded(&identity.hops, &asked);
        if let Some(policies) = policies {
            let explained = asked.with(|request| policies.explain(&identity, request, now));
            answer.explained(&policies, explained);
        }
        Ok(answer)
    }

    /// Whose request it is; `None` for an agent that nothing was delegated to.
    fn asked_for(
        &self,
        caller: &Caller,
        principal: Option<&PrincipalName>,
        delegation: Option<&str>,
    ) -> Result<Option<Arc<AgentIdentity>>, GovernError> {
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        let name = match (principal, delegation) {
            (Some(name), _) => name,
            (None, None) => caller.name(),
            (None, Some(named)) => {
                return Ok(Some(nhi.identity_for_link(
                    org,
                    crate::delegation::link_id("delegation", named)?,
                )?));
            }
        };
        let known = nhi.principal(org, name);
        let known = known.ok_or(GovernError::NotFound { what: "principal" })?;
        match (known.kind, delegation) {
            (PrincipalType::Human, None) => Ok(Some(nhi.identity_for_human(org, name)?)),
            (PrincipalType::Human, Some(_)) => Err(GovernError::invalid(
                "delegation",
                "a human acts in person, under no delegation",
            )),
            (PrincipalType::Agent, named) => self
                .delegation_of(org, name, named, "delegation")?
                .map(|link| Ok(nhi.identity_for_link(org, link)?))
                .transpose(),
        }
    }
}

impl ExplainRequest {
    fn asked(&self) -> Result<Asked, GovernError> {
        check_name("action", &self.action)?;
        let resource = self.resource.to_ref();
        check_name("resource", &resource.id)?;
        check_name("resource", &resource.kind)?;
        check_units(self.units)?;
        check_context(&self.context)?;
        if let Some(approval) = &self.approval {
            check_name("approval", approval)?;
        }
        Ok(Asked {
            action: self.action.clone(),
            resource,
            units: self.units,
            context: self.context.clone(),
            approval: self.approval.as_deref().map(Into::into),
        })
    }
}

impl ExplainAnswer {
    fn of(identity: &AgentIdentity, decided: QuestionAnswer) -> Self {
        Self {
            principal: identity.name.clone(),
            delegation: identity.link().map(|hop| hop.link.id.to_string()),
            outcome: decided.outcome,
            reason: decided.reason,
            policy_ids: decided.policy_ids,
            oversight: decided.approval.map(|approval| approval.kind),
            rights: Vec::new(),
            verdict: None,
            principals: Vec::new(),
            missing: None,
            tests_failed: None,
        }
    }

    fn without_delegation(name: PrincipalName) -> Self {
        Self {
            delegation: None,
            outcome: OutcomeKind::Deny,
            reason: ReasonAnswer {
                code: deny::NO_DELEGATION.to_owned(),
                message: format!(
                    "nothing was delegated to agent {name}, which has no authority of its own"
                ),
            },
            policy_ids: Vec::new(),
            oversight: None,
            rights: Vec::new(),
            verdict: None,
            principals: Vec::new(),
            missing: None,
            tests_failed: None,
            principal: name,
        }
    }

    fn explained(&mut self, policies: &CompiledPolicies, explained: Explanation) {
        let infos: HashMap<&str, &PolicyInfo> = policies
            .report()
            .policies
            .iter()
            .map(|info| (info.id.as_str(), info))
            .collect();
        let places = Places(infos);
        self.verdict = Some(verdict(&explained));
        let principals = explained.principals.into_iter();
        self.principals = principals.map(|one| places.principal(one)).collect();
        self.missing = explained.missing.map(|missing| places.missing(missing));
    }
}

/// What the policies say, in the words of other answers.
fn verdict(explained: &Explanation) -> VerdictAnswer {
    let outcome = match explained.outcome {
        "allow" => OutcomeKind::Allow,
        "requires_oversight" => OutcomeKind::RequiresOversight,
        _ => OutcomeKind::Deny,
    };
    let (code, message) = match (&explained.code, &explained.oversight) {
        (Some(code), _) => (*code, explained.text.clone().unwrap_or_default()),
        (None, Some(kind)) => (
            refusal::NEEDS_APPROVAL,
            format!("a human has to approve this: {kind}"),
        ),
        (None, None) => ("permitted", "permitted".to_owned()),
    };
    VerdictAnswer {
        outcome,
        code: code.to_owned(),
        message,
        policies: explained.policies.iter().map(ToString::to_string).collect(),
        oversight: explained.oversight.clone(),
    }
}

/// The links whose rights do not cover it.
fn exceeded(hops: &[Hop], asked: &Asked) -> Vec<ExceededRights> {
    let (action, resource) = (asked.action.as_str(), asked.resource.id.as_str());
    let outside = hops.iter().map(|hop| &hop.link);
    outside
        .filter(|link| !link.allows(action, resource))
        .map(|link| {
            let mut rights: Vec<NearRight> = link
                .rights
                .iter()
                .map(|right| {
                    let parts = [
                        ("action", right.action.matches(action)),
                        ("resource", right.resource.matches(resource)),
                    ];
                    let unfit = parts.into_iter().filter(|(_, fits)| !fits);
                    NearRight {
                        action: right.action.to_string(),
                        resource: right.resource.to_string(),
                        unfit: unfit.map(|(part, _)| part.to_owned()).collect(),
                    }
                })
                .collect();
            rights.sort_by_key(|right| right.unfit.len());
            rights.truncate(LISTED);
            ExceededRights {
                delegation: link.id.to_string(),
                delegator: link.delegator.clone(),
                delegatee: link.delegatee.clone(),
                rights,
            }
        })
        .collect()
}

/// Where each policy stands.
struct Places<'a>(HashMap<&'a str, &'a PolicyInfo>);

impl Places<'_> {
    fn place(&self, id: &str) -> PolicyPlace {
        let info = self.0.get(id);
        PolicyPlace {
            id: id.to_owned(),
            file: info.map_or_else(String::new, |info| info.file.clone()),
            line: info.and_then(|info| info.line),
        }
    }

    fn principal(&self, explained: PrincipalExplanation) -> ExplainedPrincipal {
        let mut policies = explained.policies;
        // What has no say comes last.
        policies.sort_by_key(|policy| policy.outcome == Outcome::ConditionFalse);
        let more = policies.len().saturating_sub(LISTED);
        policies.truncate(LISTED);
        ExplainedPrincipal {
            principal: explained.principal,
            permitted: explained.permitted,
            policies: policies.into_iter().map(|one| self.policy(one)).collect(),
            more,
        }
    }

    fn policy(&self, explained: PolicyExplanation) -> ExplainedPolicy {
        let info = self.0.get(explained.id.as_str());
        let outcome = match explained.outcome {
            Outcome::Applies => "applies",
            Outcome::ConditionFalse => "condition_false",
            Outcome::Error => "error",
        };
        ExplainedPolicy {
            policy: self.place(explained.id.as_str()),
            effect: explained.effect.to_owned(),
            outcome: outcome.to_owned(),
            oversight: info.and_then(|info| info.oversight.clone()),
            reason: info.and_then(|info| info.reason.clone()),
            error: explained.error,
        }
    }

    fn missing(&self, missing: MissingPermit) -> MissingPermitAnswer {
        let unfit = |unfit: &Unfit| {
            match unfit {
                Unfit::Principal => "principal",
                Unfit::Action => "action",
                Unfit::Resource => "resource",
                Unfit::Condition => "condition",
            }
            .to_owned()
        };
        let nearest = missing.nearest.into_iter().map(|near| NearPermitAnswer {
            policy: self.place(near.id.as_str()),
            principal: near.principal,
            unfit: near.unfit.iter().map(unfit).collect(),
            scope: near.scope,
        });
        MissingPermitAnswer {
            principals: missing.principals,
            nearest: nearest.collect(),
            policy: missing.policy,
        }
    }
}
