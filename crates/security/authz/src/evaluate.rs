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

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy_core::ast::{EntityUID, EntityUIDEntry, Request};
use cedar_policy_core::entities::Entities;
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use creto_nhi::{AgentIdentity, PrincipalType};

use crate::filled::{self, Person, people};
use crate::held::HeldBy;
use crate::model::{
    Approval, CheckRequest, ContextValue, Decision, DenyReason, PolicyId, PolicyIds, ResourceRef,
    deny,
};
use crate::policies::CompiledPolicies;
use crate::rules::Reads;
use crate::schema::{ActionShape, ResourceShape};
use crate::slice::Keys;

/// What the policies are asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// The action's name in the schema's namespace `Creto`.
    pub(crate) action: &'a str,
    /// What it is done to.
    pub(crate) resource: &'a ResourceRef,
    /// How many units it is expected to use.
    pub(crate) units: u64,
    /// The caller's values of the context.
    pub(crate) context: &'a [(&'a str, ContextValue<'a>)],
    /// The time of the decision, in nanoseconds since the Unix epoch.
    pub(crate) now: i64,
    /// The approval that came with the request.
    pub(crate) approval: Option<&'a Approval>,
}

impl<'a> Question<'a> {
    /// Of a request, at this time.
    pub(crate) fn of(request: &CheckRequest<'a>, now: i64) -> Self {
        Self {
            action: request.action.name(),
            resource: request.resource,
            units: request.units,
            context: request.context,
            now,
            approval: request.approval,
        }
    }

    /// One unit, without context.
    pub(crate) const fn bare(action: &'a str, resource: &'a ResourceRef) -> Self {
        Self {
            action,
            resource,
            units: 1,
            context: &[],
            now: 0,
            approval: None,
        }
    }
}

/// What the policies say. It holds no text of the request, so that one value may
/// stand for many requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    /// These permit it, to everyone in the chain.
    Permitted {
        /// Sorted.
        policies: Arc<[PolicyId]>,
    },
    /// These forbid it.
    Forbidden {
        /// Sorted.
        policies: Arc<[PolicyId]>,
    },
    /// Nothing permits it to this one of the chain: 0 is the human it starts from,
    /// `i` the delegatee of hop `i`.
    Unpermitted {
        /// Which.
        principal: u8,
    },
    /// A human may approve it.
    Oversight {
        /// Those that hold it back, sorted.
        policies: Arc<[PolicyId]>,
        /// The same, with what they say.
        held_by: HeldBy,
        /// The value of the annotation they share.
        oversight: Arc<str>,
    },
    /// Policies ask for different approvals.
    OversightConflict {
        /// Which, sorted.
        policies: Arc<[PolicyId]>,
    },
    /// The schema has no such action.
    UnknownAction,
    /// The request does not fit the schema, and why.
    Invalid(String),
    /// Policies that could not be evaluated, and why.
    Failed(Vec<(PolicyId, String)>),
}

pub(crate) fn denied(
    code: &'static str,
    text: impl Into<String>,
    policies: impl Into<PolicyIds>,
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
#[derive(Debug, Default)]
pub(crate) struct Round {
    permits: Vec<u32>,
    forbids: Vec<u32>,
    /// The place of someone whom nothing permits and nothing forbids it to.
    unpermitted: Option<u8>,
    errors: Vec<(u32, String)>,
}

impl Round {
    fn allowed(&self) -> bool {
        self.forbids.is_empty() && self.unpermitted.is_none()
    }
}

/// One principal of a question, with the policies whose scope fits.
pub(crate) struct Asking<'a> {
    pub(crate) person: Person<'a>,
    pub(crate) keys: Keys,
    pub(crate) candidates: Vec<u32>,
}

/// Which entities the conditions of the candidates look into.
#[derive(Clone, Copy, Default)]
struct Needs {
    people: bool,
    resource: bool,
    organization: bool,
    actions: bool,
}

/// A question that fits the schema.
pub(crate) struct Asked<'a> {
    policies: &'a CompiledPolicies,
    identity: &'a AgentIdentity,
    question: &'a Question<'a>,
    pub(crate) action: &'a ActionShape,
    resource: &'a ResourceShape,
    pub(crate) resource_keys: Keys,
    pub(crate) people: Vec<Asking<'a>>,
    needs: Needs,
    uids: OnceCell<Uids>,
    entities: OnceCell<Entities>,
}

/// The parts of Cedar's requests that are the same in both rounds.
struct Uids {
    people: Vec<Arc<EntityUID>>,
    resource: Arc<EntityUID>,
}

impl<'a> Asked<'a> {
    /// Finds who is asked for and what might apply to them.
    pub(crate) fn new(
        policies: &'a CompiledPolicies,
        identity: &'a AgentIdentity,
        question: &'a Question<'a>,
        action: &'a ActionShape,
        resource: &'a ResourceShape,
    ) -> Self {
        let slices = &policies.slices;
        let numbers = &policies.numbers;
        let organization = if slices.names_one_of(numbers.organization) {
            let id = identity.org.to_string();
            [Some(slices.spot(numbers.organization, &id)), None]
        } else {
            [None, None]
        };
        let above: Vec<_> = organization.into_iter().flatten().collect();
        let spot = slices.spot(
            numbers.resource(&question.resource.kind),
            &question.resource.id,
        );
        let resource_keys = if resource.shape.organization {
            Keys::of(spot, &above)
        } else {
            Keys::of(spot, &[])
        };
        let layers = policies.layers(question.action);
        let mut asking: Vec<Asking<'a>> = Vec::with_capacity(1 + identity.hops.len());
        for person in people(identity) {
            let kind = match person.kind {
                PrincipalType::Human => numbers.human,
                PrincipalType::Agent => numbers.agent,
            };
            let keys = Keys::of(slices.spot(kind, person.name), &above);
            // Agents that no policy names have all policies in common.
            let candidates = match asking.last() {
                Some(last) if last.keys == keys => last.candidates.clone(),
                _ => slices.candidates(layers, &keys, &resource_keys),
            };
            asking.push(Asking {
                person,
                keys,
                candidates,
            });
        }
        let conditions = asking
            .iter()
            .flat_map(|asking| &asking.candidates)
            .filter_map(|number| slices.get(*number));
        let mut needs = Needs::default();
        for sliced in conditions {
            let facts = &sliced.facts;
            needs.people |= facts.of_principal || facts.of_others;
            needs.resource |= facts.of_resource || facts.of_others;
            needs.organization |= facts.of_others;
            needs.actions |= facts.actions;
        }
        Self {
            policies,
            identity,
            question,
            action,
            resource,
            resource_keys,
            people: asking,
            needs,
            uids: OnceCell::new(),
            entities: OnceCell::new(),
        }
    }

    fn uids(&self) -> &Uids {
        self.uids.get_or_init(|| {
            let served = &self.policies.served;
            let person = |asking: &Asking<'_>| {
                let person = asking.person;
                Arc::new(filled::uid(served.kind_of(person.kind), person.name))
            };
            Uids {
                people: self.people.iter().map(person).collect(),
                resource: Arc::new(filled::uid(&self.resource.kind, &self.question.resource.id)),
            }
        })
    }

    /// What it is done to, in Cedar.
    pub(crate) fn target(&self) -> &EntityUID {
        &self.uids().resource
    }

    /// The entities that conditions may look into; none when none does.
    fn entities(&self) -> Result<&Entities, String> {
        if let Some(known) = self.entities.get() {
            return Ok(known);
        }
        let served = &self.policies.served;
        let organization = served.organization(self.identity.org);
        let uids = self.uids();
        let mut all = Vec::with_capacity(2 + self.people.len());
        if self.needs.people {
            let root = self.identity.root().as_str();
            let owner = Arc::new(filled::uid(served.names.human(), root));
            for (asking, uid) in self.people.iter().zip(&uids.people) {
                let uid = EntityUID::clone(uid);
                all.push(match asking.person.kind {
                    PrincipalType::Human => filled::human(uid, &organization),
                    PrincipalType::Agent => {
                        filled::agent(uid, &owner, asking.person.place, &organization)
                    }
                });
            }
        }
        if self.needs.resource {
            let target = EntityUID::clone(&uids.resource);
            all.push(filled::resource(target, self.resource.shape, &organization));
        }
        if self.needs.organization {
            all.push(cedar_policy_core::ast::Entity::with_uid(organization));
        }
        let actions = self.needs.actions.then_some(&served.action_entities);
        let built = filled::together(actions, all)?;
        Ok(self.entities.get_or_init(|| built))
    }

    /// One evaluation for everyone, or why the question cannot be put.
    pub(crate) fn round(&self, approved: bool) -> Result<Round, String> {
        self.round_with(approved, |_, _, _| {})
    }

    /// The same, telling of every candidate whether it applied to whom.
    pub(crate) fn round_with(
        &self,
        approved: bool,
        mut tell: impl FnMut(usize, u32, &Result<bool, String>),
    ) -> Result<Round, String> {
        let mut round = Round::default();
        let slices = &self.policies.slices;
        let context = OnceCell::new();
        // What does not read the principal is the same for everyone.
        let mut shared: Vec<(u32, Result<bool, String>)> = Vec::new();
        for (position, asking) in self.people.iter().enumerate() {
            let mut evaluator: Option<Evaluator<'_>> = None;
            let permits = round.permits.len();
            let forbids = round.forbids.len();
            for number in &asking.candidates {
                let Some(sliced) = slices.get(*number) else {
                    continue;
                };
                let known = shared.iter().find(|(known, _)| known == number);
                let applies = if !sliced.has_condition() {
                    Ok(true)
                } else if let Some((_, known)) = known {
                    known.clone()
                } else {
                    if evaluator.is_none() {
                        evaluator = Some(self.evaluator(position, approved, &context)?);
                    }
                    let Some(evaluator) = &evaluator else {
                        continue;
                    };
                    let applies = sliced.applies(evaluator);
                    if !sliced.facts.principal {
                        shared.push((*number, applies.clone()));
                    }
                    applies
                };
                tell(position, *number, &applies);
                match applies {
                    Ok(false) => {}
                    Ok(true) if sliced.permits() => round.permits.push(*number),
                    Ok(true) => round.forbids.push(*number),
                    Err(error) => round.errors.push((*number, error)),
                }
            }
            if round.forbids.len() > forbids {
                // What permits it to someone whom it is forbidden to has no say.
                round.permits.truncate(permits);
            } else if round.permits.len() == permits {
                round.unpermitted.get_or_insert(asking.person.place);
            }
        }
        Ok(round)
    }

    fn evaluator(
        &self,
        position: usize,
        approved: bool,
        context: &OnceCell<cedar_policy_core::ast::Context>,
    ) -> Result<Evaluator<'_>, String> {
        let context = match context.get() {
            Some(context) => context.clone(),
            None => {
                let now = self.policies.served.now(self.question)?;
                let built = filled::context(self.question, approved, now)?;
                context.get_or_init(|| built).clone()
            }
        };
        let known = |uid: &Arc<EntityUID>| EntityUIDEntry::Known {
            euid: Arc::clone(uid),
            loc: None,
        };
        let uids = self.uids();
        let principal = uids
            .people
            .get(position)
            .ok_or_else(|| "nobody is asked for".to_owned())?;
        let request = Request::new_unchecked(
            known(principal),
            known(&self.action.uid),
            known(&uids.resource),
            Some(context),
        );
        Ok(Evaluator::new(
            request,
            self.entities()?,
            Extensions::all_available(),
        ))
    }
}

impl CompiledPolicies {
    /// Asks the policies for everyone in the chain.
    pub(crate) fn judge(&self, identity: &AgentIdentity, question: &Question<'_>) -> Verdict {
        match self.try_judge(identity, question) {
            Ok(verdict) | Err(verdict) => verdict,
        }
    }

    fn try_judge(
        &self,
        identity: &AgentIdentity,
        question: &Question<'_>,
    ) -> Result<Verdict, Verdict> {
        let asked = self.asked(identity, question)?;
        let round = |approved: bool| -> Result<Round, Verdict> {
            let round = asked.round(approved).map_err(Verdict::Invalid)?;
            if round.errors.is_empty() {
                return Ok(round);
            }
            Err(Verdict::Failed(self.named_errors(round.errors)))
        };
        let first = round(false)?;
        if first.allowed() {
            return Ok(Verdict::Permitted {
                policies: self.ids(first.permits),
            });
        }
        if let Some(principal) = first.unpermitted
            && first.forbids.is_empty()
        {
            return Err(Verdict::Unpermitted { principal });
        }
        let plain: Vec<u32> = first
            .forbids
            .iter()
            .copied()
            .filter(|number| self.oversight_of(*number).is_none())
            .collect();
        if !plain.is_empty() {
            return Err(Verdict::Forbidden {
                policies: self.ids(plain),
            });
        }
        if let Some(principal) = first.unpermitted {
            return Err(Verdict::Unpermitted { principal });
        }
        let second = round(true)?;
        if !second.forbids.is_empty() {
            return Err(Verdict::Forbidden {
                policies: self.ids(second.forbids),
            });
        }
        if let Some(principal) = second.unpermitted {
            return Err(Verdict::Unpermitted { principal });
        }
        let kinds: BTreeSet<&str> = first
            .forbids
            .iter()
            .filter_map(|number| self.oversight_of(*number))
            .collect();
        let held = self.ids(first.forbids);
        let held_by = self.held_by(&held);
        let mut kinds = kinds.into_iter();
        let (Some(oversight), None) = (kinds.next(), kinds.next()) else {
            return Err(Verdict::OversightConflict { policies: held });
        };
        if question
            .approval
            .is_some_and(|approval| approval.lifts(&held_by, oversight))
        {
            return Ok(Verdict::Permitted {
                policies: self.ids(second.permits),
            });
        }
        Ok(Verdict::Oversight {
            policies: held,
            held_by,
            oversight: oversight.into(),
        })
    }

    /// The question with what might apply to it, or why it cannot be put.
    pub(crate) fn asked<'a>(
        &'a self,
        identity: &'a AgentIdentity,
        question: &'a Question<'a>,
    ) -> Result<Asked<'a>, Verdict> {
        let Some(action) = self.served.action(question.action) else {
            return Err(Verdict::UnknownAction);
        };
        self.served
            .check(identity, question, action)
            .map_err(Verdict::Invalid)?;
        let Some(resource) = self.served.resource(&question.resource.kind) else {
            let kind = &question.resource.kind;
            return Err(Verdict::Invalid(format!(
                "the schema has no resource type `{kind}`"
            )));
        };
        Ok(Asked::new(self, identity, question, action, resource))
    }

    /// The names of policies, sorted, each once.
    pub(crate) fn ids(&self, mut numbers: Vec<u32>) -> Arc<[PolicyId]> {
        numbers.sort_unstable();
        numbers.dedup();
        let mut ids: Vec<PolicyId> = numbers
            .into_iter()
            .filter_map(|number| Some(self.slices.get(number)?.id.clone()))
            .collect();
        ids.sort_unstable();
        ids.into()
    }

    fn named_errors(&self, errors: Vec<(u32, String)>) -> Vec<(PolicyId, String)> {
        errors
            .into_iter()
            .filter_map(|(number, text)| Some((self.slices.get(number)?.id.clone(), text)))
            .collect()
    }

    /// What the policies of an action may read of a request; `None` for an action
    /// the schema does not know.
    pub(crate) fn reads(&self, action: &str) -> Option<&Reads> {
        self.rules(action).map(|rules| &rules.reads)
    }

    /// Whether a question fits the schema, as far as that is seen without Cedar:
    /// `false` says that only [`Self::judge`] knows. A verdict that was found for
    /// another request stands for this one only if this one fits.
    pub(crate) fn plainly_fits(&self, question: &Question<'_>) -> bool {
        self.served
            .action(question.action)
            .is_some_and(|action| self.served.plainly_fits(question, action))
    }

    /// A verdict as a decision, with its text.
    pub(crate) fn render(
        &self,
        verdict: &Verdict,
        identity: &AgentIdentity,
        question: &Question<'_>,
    ) -> Decision {
        let action = question.action;
        match verdict {
            Verdict::Permitted { policies } => Decision::Allow {
                policies: Arc::clone(policies).into(),
                hold: None,
            },
            Verdict::Forbidden { policies } => forbidden(self, question, policies),
            Verdict::Unpermitted { principal } => {
                unpermitted(question, name_at(identity, *principal))
            }
            Verdict::Oversight {
                policies,
                held_by,
                oversight,
            } => Decision::RequiresOversight {
                held_by: held_by.clone(),
                oversight: oversight.as_ref().to_owned(),
                policies: Arc::clone(policies).into(),
            },
            Verdict::OversightConflict { policies } => denied(
                deny::OVERSIGHT_CONFLICT,
                format!(
                    "{} ask for different approvals of one action; give them one @oversight \
                     value or let only one of them match",
                    list(policies)
                ),
                Arc::clone(policies),
            ),
            Verdict::UnknownAction => denied(
                deny::UNKNOWN_ACTION,
                format!(
                    "the organization's policy schema has no action `{action}`; declare it there"
                ),
                Vec::new(),
            ),
            Verdict::Invalid(problem) => denied(
                deny::INVALID_REQUEST,
                format!("the request for `{action}` does not fit the policy schema: {problem}"),
                Vec::new(),
            ),
            Verdict::Failed(errors) => failed(errors),
        }
    }
}

/// Who stands at a place of the chain.
pub(crate) fn name_at(identity: &AgentIdentity, place: u8) -> &str {
    let hop = usize::from(place).checked_sub(1);
    hop.and_then(|hop| identity.hops.get(hop))
        .map_or_else(|| identity.root(), |hop| &hop.link.delegatee)
        .as_str()
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
    question: &Question<'_>,
    by: &Arc<[PolicyId]>,
) -> Decision {
    let verb = if by.len() == 1 { "forbids" } else { "forbid" };
    let mut text = format!(
        "{} {verb} `{}` on `{}`",
        list(by),
        question.action,
        question.resource.id
    );
    if let Some(reason) = by.iter().find_map(|id| policies.reason(id)) {
        text.push_str(": ");
        text.push_str(reason);
    }
    denied(deny::POLICY_FORBIDS, text, Arc::clone(by))
}

fn unpermitted(question: &Question<'_>, name: &str) -> Decision {
    denied(
        deny::NO_POLICY_PERMITS,
        format!(
            "no policy permits {name} to do `{}` on `{}`; ask for a permit policy that covers it",
            question.action, question.resource.id
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
