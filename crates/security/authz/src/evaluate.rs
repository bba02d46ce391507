//! What policies say about one request, and the rule of oversight.
//!
//! A `forbid` with an `@oversight` annotation fires whether or not anything
//! permits the action. A request becomes a question to a human only when the
//! approval would really let it through:
//!
//! 1. Evaluate without the approval, for everyone in the chain. Allowed for all
//!    is an allow. A denial that no `forbid` causes is a denial: nothing permits.
//! 2. Every `forbid` that fired carries the annotation, all with one value.
//! 3. The same request with `context.oversight.approved = true` is allowed for
//!    everyone.
//!
//! Whatever fails makes it a denial. An approval names the policies it was asked
//! for, and lets the action through only when all that hold it back are named.

use std::collections::BTreeSet;

use cedar_policy::{Authorizer, Context, Decision as CedarDecision, Entities, EntityUid, Request};
use creto_nhi::AgentIdentity;

use crate::model::{Approval, CheckRequest, Decision, DenyReason, PolicyId, deny};
use crate::policies::{CompiledPolicies, JOIN};
use crate::schema::Served;

/// A policy decision before quota.
pub(crate) enum Judgement {
    /// These permit it.
    Permitted(Vec<PolicyId>),
    /// Anything else, ready to be answered.
    Other(Decision),
}

pub(crate) fn denied(
    code: &'static str,
    text: impl Into<String>,
    policies: Vec<PolicyId>,
) -> Decision {
    Decision::Deny {
        reason: DenyReason {
            code,
            text: text.into(),
        },
        policies: policies.into(),
    }
}

/// One evaluation for everyone in the chain.
#[derive(Default)]
struct Round {
    permits: BTreeSet<PolicyId>,
    forbids: BTreeSet<PolicyId>,
    /// Someone whom nothing permits and nothing forbids it to.
    unpermitted: Option<EntityUid>,
    errors: Vec<(PolicyId, String)>,
}

impl Round {
    fn allowed(&self) -> bool {
        self.forbids.is_empty() && self.unpermitted.is_none()
    }
}

struct Asked<'a> {
    policies: &'a CompiledPolicies,
    principals: Vec<EntityUid>,
    action: EntityUid,
    resource: EntityUid,
    entities: Entities,
}

impl Asked<'_> {
    fn round(&self, context: &Context) -> Result<Round, String> {
        let mut round = Round::default();
        for principal in &self.principals {
            let request = Request::new(
                principal.clone(),
                self.action.clone(),
                self.resource.clone(),
                context.clone(),
                Some(&self.policies.served.schema),
            )
            .map_err(|error| creto_errors::chain(&error))?;
            let response =
                Authorizer::new().is_authorized(&request, &self.policies.set, &self.entities);
            let diagnostics = response.diagnostics();
            for error in diagnostics.errors() {
                let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
                let id: &str = error.policy_id().as_ref();
                let text = error.inner().to_string();
                round.errors.push((PolicyId::from(id), text));
            }
            let reasons = diagnostics.reason().map(|id| {
                let id: &str = id.as_ref();
                PolicyId::from(id)
            });
            match response.decision() {
                CedarDecision::Allow => round.permits.extend(reasons),
                CedarDecision::Deny => {
                    // Cedar names the forbids that fired, or nothing.
                    let fired: Vec<PolicyId> = reasons.collect();
                    if fired.is_empty() {
                        round.unpermitted.get_or_insert_with(|| principal.clone());
                    }
                    round.forbids.extend(fired);
                }
            }
        }
        Ok(round)
    }
}

/// Asks the policies for everyone in the chain.
pub(crate) fn judge(
    policies: &CompiledPolicies,
    identity: &AgentIdentity,
    request: &CheckRequest<'_>,
) -> Judgement {
    match try_judge(policies, identity, request) {
        Ok(judgement) => judgement,
        Err(refusal) => Judgement::Other(*refusal),
    }
}

fn try_judge(
    policies: &CompiledPolicies,
    identity: &AgentIdentity,
    request: &CheckRequest<'_>,
) -> Result<Judgement, Box<Decision>> {
    let Some(action) = policies.served.action(request.action.name()) else {
        return Err(Box::new(denied(
            deny::UNKNOWN_ACTION,
            format!(
                "the organization's policy schema has no action `{}`; declare it there",
                request.action.name()
            ),
            Vec::new(),
        )));
    };
    let invalid = |problem: String| {
        Box::new(denied(
            deny::INVALID_REQUEST,
            format!(
                "the request for `{}` does not fit the policy schema: {problem}",
                request.action.name()
            ),
            Vec::new(),
        ))
    };
    let (principals, resource, entities) = policies
        .served
        .entities(identity, request.resource)
        .map_err(invalid)?;
    let asked = Asked {
        policies,
        principals,
        action: action.clone(),
        resource,
        entities,
    };
    let round = |approved: bool| -> Result<Round, Box<Decision>> {
        let context = Served::context(request.context, request.units, approved).map_err(invalid)?;
        let round = asked.round(&context).map_err(invalid)?;
        if round.errors.is_empty() {
            return Ok(round);
        }
        Err(Box::new(failed(&round.errors)))
    };

    let first = round(false)?;
    if first.allowed() {
        return Ok(Judgement::Permitted(first.permits.into_iter().collect()));
    }
    if let Some(principal) = &first.unpermitted
        && first.forbids.is_empty()
    {
        return Err(Box::new(unpermitted(request, principal)));
    }
    let held: Vec<PolicyId> = first.forbids.iter().cloned().collect();
    let plain: Vec<PolicyId> = held
        .iter()
        .filter(|id| policies.oversight(id).is_none())
        .cloned()
        .collect();
    if !plain.is_empty() {
        return Err(Box::new(forbidden(policies, request, plain)));
    }
    if let Some(principal) = &first.unpermitted {
        return Err(Box::new(unpermitted(request, principal)));
    }
    let second = round(true)?;
    if !second.forbids.is_empty() {
        let still = second.forbids.into_iter().collect();
        return Err(Box::new(forbidden(policies, request, still)));
    }
    if let Some(principal) = &second.unpermitted {
        return Err(Box::new(unpermitted(request, principal)));
    }
    let kinds: BTreeSet<&str> = held
        .iter()
        .filter_map(|id| policies.oversight(id))
        .collect();
    let mut kinds = kinds.into_iter();
    let (Some(oversight), None) = (kinds.next(), kinds.next()) else {
        return Err(Box::new(denied(
            deny::OVERSIGHT_CONFLICT,
            format!(
                "{} ask for different approvals of one action; give them one @oversight value \
                 or let only one of them match",
                list(&held)
            ),
            held,
        )));
    };
    if request
        .approval
        .is_some_and(|approval| covers(approval, &held))
    {
        return Ok(Judgement::Permitted(second.permits.into_iter().collect()));
    }
    Ok(Judgement::Other(Decision::RequiresOversight {
        policy_id: joined(&held),
        oversight: oversight.to_owned(),
        policies: held.into(),
    }))
}

/// The name an approval of all these is bound to.
fn joined(held: &[PolicyId]) -> PolicyId {
    let ids: Vec<&str> = held.iter().map(PolicyId::as_str).collect();
    PolicyId::from(ids.join(&JOIN.to_string()))
}

/// Whether the approval names every policy that holds the action back.
fn covers(approval: &Approval, held: &[PolicyId]) -> bool {
    let named: BTreeSet<&str> = approval.policy_id.as_str().split(JOIN).collect();
    held.iter().all(|id| named.contains(id.as_str()))
}

fn list(ids: &[PolicyId]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    match ids.as_slice() {
        [one] => format!("policy {one}"),
        _ => format!("policies {}", ids.join(", ")),
    }
}

fn forbidden(
    policies: &CompiledPolicies,
    request: &CheckRequest<'_>,
    by: Vec<PolicyId>,
) -> Decision {
    let verb = if by.len() == 1 { "forbids" } else { "forbid" };
    let mut text = format!(
        "{} {verb} `{}` on `{}`",
        list(&by),
        request.action.name(),
        request.resource.id
    );
    if let Some(reason) = by.iter().find_map(|id| policies.reason(id)) {
        text.push_str(": ");
        text.push_str(reason);
    }
    denied(deny::POLICY_FORBIDS, text, by)
}

fn unpermitted(request: &CheckRequest<'_>, principal: &EntityUid) -> Decision {
    let name = principal.id().unescaped();
    denied(
        deny::NO_POLICY_PERMITS,
        format!(
            "no policy permits {name} to do `{}` on `{}`; ask for a permit policy that covers it",
            request.action.name(),
            request.resource.id
        ),
        Vec::new(),
    )
}

fn failed(errors: &[(PolicyId, String)]) -> Decision {
    let ids: BTreeSet<PolicyId> = errors.iter().map(|(id, _)| id.clone()).collect();
    let ids: Vec<PolicyId> = ids.into_iter().collect();
    let why = errors.first().map_or("", |(_, text)| text.as_str());
    tracing::warn!(policies = %list(&ids), error = why, "a policy cannot be evaluated");
    let text = format!(
        "{} cannot be evaluated for this request, so it is denied; correct the policy: {why}",
        list(&ids)
    );
    denied(deny::POLICY_ERROR, text, ids)
}
