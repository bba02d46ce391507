//! Why a decision is what it is, and what is missing.
//!
//! An explanation looks at every policy of the set, so it is for people and not for
//! the path of decisions. What it says comes from the same evaluation.

use creto_nhi::AgentIdentity;
use creto_types::Reading;
use serde::Serialize;

use crate::evaluate::{Asked, Question, Verdict};
use crate::filled;
use crate::model::{CheckRequest, Decision, PolicyId};
use crate::policies::CompiledPolicies;
use crate::slice::{Keys, Sliced};

/// The most policies named as near to what is missing.
const NEAREST: usize = 5;

/// What the policies say to a request, and why. Rights, budgets and rates are not
/// looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The outcome's name: `allow`, `deny` or `requires_oversight`.
    pub outcome: &'static str,
    /// The code of a denial.
    pub code: Option<&'static str>,
    /// The text of a denial.
    pub text: Option<String>,
    /// The policies that decided.
    pub policies: Vec<PolicyId>,
    /// The kind of approval, when one would let it through.
    pub oversight: Option<String>,
    /// Everyone the request is asked for, from the human the chain starts from.
    pub principals: Vec<PrincipalExplanation>,
    /// The permit that somebody in the chain lacks. Where something forbids it as
    /// well, it would still be missing without that.
    pub missing: Option<MissingPermit>,
}

/// What the policies say for one principal of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrincipalExplanation {
    /// In Cedar, such as `Creto::Agent::"bot"`.
    pub principal: String,
    /// Whether some policy permits and none forbids it, without any approval.
    pub permitted: bool,
    /// Every policy whose scope fits.
    pub policies: Vec<PolicyExplanation>,
}

impl PrincipalExplanation {
    /// Whether some policy of this effect applies.
    fn applies(&self, effect: &str) -> bool {
        let mut policies = self.policies.iter();
        policies.any(|one| one.effect == effect && one.outcome == Outcome::Applies)
    }
}

/// What one policy whose scope fits says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyExplanation {
    /// Which.
    pub id: PolicyId,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// Whether it applies.
    pub outcome: Outcome,
    /// Why it could not be evaluated.
    pub error: Option<String>,
}

/// Whether a policy whose scope fits applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its conditions hold, or it has none.
    Applies,
    /// Its conditions do not hold.
    ConditionFalse,
    /// Its conditions cannot be evaluated.
    Error,
}

/// The permit that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingPermit {
    /// The principals nothing permits it to.
    pub principals: Vec<String>,
    /// The existing permits that come nearest, nearest first.
    pub nearest: Vec<NearPermit>,
    /// Cedar policies that would permit this action on this resource, with any units and
    /// context, to those whom nothing does.
    pub policy: String,
}

/// A permit that does not cover the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NearPermit {
    /// Which.
    pub id: PolicyId,
    /// The principal it was looked at for.
    pub principal: String,
    /// What of it does not fit.
    pub unfit: Vec<Unfit>,
    /// Its scope, in Cedar.
    pub scope: String,
}

/// A part of a policy that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unfit {
    /// The principal of its scope.
    Principal,
    /// The action of its scope.
    Action,
    /// The resource of its scope.
    Resource,
    /// Its conditions.
    Condition,
}

impl CompiledPolicies {
    /// Says what the policies decide about a request at this instant, and why.
    #[must_use]
    pub fn explain(
        &self,
        identity: &AgentIdentity,
        request: &CheckRequest<'_>,
        now: Reading,
    ) -> Explanation {
        let question = Question {
            action: request.action.name(),
            resource: request.resource,
            units: request.units,
            context: request.context,
            now: now.wall_ns,
            approval: request.approval,
        };
        let verdict = self.judge(identity, &question);
        let decision = self.render(&verdict, identity, &question);
        let outcome = decision.name();
        let mut explanation = Explanation {
            outcome,
            code: None,
            text: None,
            policies: Vec::new(),
            oversight: None,
            principals: Vec::new(),
            missing: None,
        };
        match decision {
            Decision::Deny { reason, policies } => {
                explanation.code = Some(reason.code);
                explanation.text = Some(reason.text);
                explanation.policies = policies.to_vec();
            }
            Decision::RequiresOversight {
                oversight,
                policies,
                ..
            } => {
                explanation.oversight = Some(oversight);
                explanation.policies = policies.to_vec();
            }
            Decision::Allow { policies, .. }
            | Decision::QuotaExceeded { policies, .. }
            | Decision::RateLimited { policies, .. } => explanation.policies = policies.to_vec(),
        }
        // A question that cannot be put has its reason in the text.
        if let Ok(asked) = self.asked(identity, &question) {
            explanation.principals = self.principals(&asked);
            if let Verdict::Unpermitted { .. }
            | Verdict::Forbidden { .. }
            | Verdict::OversightConflict { .. } = verdict
            {
                explanation.missing = self.missing(&asked, &explanation.principals);
            }
        }
        explanation
    }

    fn principals(&self, asked: &Asked<'_>) -> Vec<PrincipalExplanation> {
        let mut all: Vec<PrincipalExplanation> = asked
            .people
            .iter()
            .map(|asking| {
                let kind = self.served.kind_of(asking.person.kind);
                PrincipalExplanation {
                    principal: filled::uid(kind, asking.person.name).to_string(),
                    permitted: false,
                    policies: Vec::new(),
                }
            })
            .collect();
        let told = asked.round_with(false, |position, number, applies| {
            let (Some(principal), Some(sliced)) = (all.get_mut(position), self.slices.get(number))
            else {
                return;
            };
            let (outcome, error) = match applies {
                Ok(true) => (Outcome::Applies, None),
                Ok(false) => (Outcome::ConditionFalse, None),
                Err(error) => (Outcome::Error, Some(error.clone())),
            };
            principal.policies.push(PolicyExplanation {
                id: sliced.id.clone(),
                effect: if sliced.permits() { "permit" } else { "forbid" },
                outcome,
                error,
            });
        });
        if told.is_err() {
            return all;
        }
        for principal in &mut all {
            let failed = principal
                .policies
                .iter()
                .any(|one| one.outcome == Outcome::Error);
            principal.permitted =
                principal.applies("permit") && !principal.applies("forbid") && !failed;
        }
        all
    }

    fn missing(
        &self,
        asked: &Asked<'_>,
        principals: &[PrincipalExplanation],
    ) -> Option<MissingPermit> {
        let without: Vec<usize> = principals
            .iter()
            .enumerate()
            .filter(|(_, principal)| !principal.applies("permit"))
            .map(|(position, _)| position)
            .collect();
        let first = *without.first()?;
        let named = |position: usize| Some(principals.get(position)?.principal.clone());
        let target = asked.target();
        let policies: Vec<String> = without
            .iter()
            .filter_map(|position| {
                Some(format!(
                    "permit (\n  principal == {},\n  action == {},\n  resource == {target}\n);\n",
                    named(*position)?,
                    asked.action.uid,
                ))
            })
            .collect();
        Some(MissingPermit {
            principals: without
                .iter()
                .filter_map(|position| named(*position))
                .collect(),
            nearest: self.nearest(asked, first, &named(first)?),
            policy: policies.concat(),
        })
    }

    /// The permits with the fewest parts that do not fit this principal.
    fn nearest(&self, asked: &Asked<'_>, position: usize, principal: &str) -> Vec<NearPermit> {
        let Some(asking) = asked.people.get(position) else {
            return Vec::new();
        };
        let above: Vec<_> = asked
            .action
            .ancestors
            .iter()
            .map(|uid| self.slices.spot_of(uid))
            .collect();
        let action = Keys::of(self.slices.spot_of(&asked.action.uid), &above);
        let unfit = |sliced: &Sliced| -> Vec<Unfit> {
            let fits = self
                .slices
                .fit(&sliced.policy, &asking.keys, &action, &asked.resource_keys);
            let parts = [Unfit::Principal, Unfit::Action, Unfit::Resource];
            let mut unfit: Vec<Unfit> = parts
                .into_iter()
                .zip(fits)
                .filter(|(_, fits)| !fits)
                .map(|(part, _)| part)
                .collect();
            // Nothing permits it, so a permit whose scope fits fails by this.
            if unfit.is_empty() {
                unfit.push(Unfit::Condition);
            }
            unfit
        };
        let mut near: Vec<(Vec<Unfit>, &Sliced)> = self
            .slices
            .policies()
            .iter()
            .filter(|sliced| sliced.permits())
            .map(|sliced| (unfit(sliced), sliced))
            .filter(|(unfit, _)| unfit.len() < 3)
            .collect();
        near.sort_by_key(|(unfit, _)| unfit.len());
        near.truncate(NEAREST);
        near.into_iter()
            .map(|(unfit, sliced)| NearPermit {
                id: sliced.id.clone(),
                principal: principal.to_owned(),
                unfit,
                scope: format!(
                    "{}, {}, {}",
                    sliced.policy.principal_constraint(),
                    sliced.policy.action_constraint(),
                    sliced.policy.resource_constraint()
                ),
            })
            .collect()
    }
}
