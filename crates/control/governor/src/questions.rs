//! Pure questions: may this principal do this? What AuthZEN asks.
//!
//! A question goes through the decision that governed actions go through, and
//! then nothing happens: nothing is reserved, no human is asked, no record is
//! written. Budgets and rates are looked at and not touched: whether one has room is
//! only certain for whoever reserves it, and that is what [`Governor::submit`] does.

use creto_authz::{Action, Bound, CheckRequest, Decision, PolicyId, ResourceRef};
use creto_metering::MeteringError;
use creto_nhi::{LinkId, PrincipalType};
use creto_types::{OrgId, PrincipalName};

use crate::actions::{ahead, check_name, check_units, crowd, later, millis_up, over, wait_of};
use crate::answers::refusal;
use crate::delegation::link_id;
use crate::facts::{ContextJson as Fact, context_values, entity_type, texts};
use crate::{
    Call, Caller, GovernError, Governor, OutcomeKind, QuotaAnswer, RateExceededAnswer, ReasonAnswer,
};

/// The most questions of one batch.
pub const MAX_QUESTIONS: usize = 100;

/// The most values of a context.
pub const MAX_FACTS: usize = 64;

/// The most bytes of a value's name, of a text and of all texts of a set.
const MAX_FACT_NAME_BYTES: usize = 128;
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// The most texts of a set.
pub const MAX_TEXTS: usize = 256;

/// What the decision itself puts into the context.
const ENGINE_FACTS: [&str; 2] = ["oversight", "units"];

/// How far back an owner's question looks for the delegation an agent acts by
/// when none is named.
const NEWEST_DELEGATIONS: usize = 64;

/// Whom a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `agent` or `human`.
    pub kind: String,
    /// The name or the SPIFFE id.
    pub id: String,
    /// The delegation it acts by; needed when an agent holds several.
    pub delegation: Option<String>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// About whom; the caller itself when `None`.
    pub subject: Option<Subject>,
    /// The action, for example `release.publish`.
    pub action: String,
    /// The resource's entity type: with its namespace, or a bare name that stands
    /// in `Creto`.
    pub resource_type: String,
    /// The resource's id, for example `repo:creto`.
    pub resource_id: String,
    /// How many units it would use.
    pub units: u64,
    /// What the action's context declares beside what the decision fills in.
    pub context: Vec<(String, Fact)>,
}

/// What is answered. It holds for now: nothing was reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionAnswer {
    /// One of the five outcomes.
    pub outcome: OutcomeKind,
    /// Why.
    pub reason: ReasonAnswer,
    /// The policies that decided.
    pub policy_ids: Vec<String>,
    /// The approval that is needed, when one would let it through.
    pub approval: Option<ApprovalNeeded>,
    /// The limit that does not cover it.
    pub quota: Option<QuotaAnswer>,
    /// Whose calls are too many.
    pub rate: Option<RateExceededAnswer>,
    /// When to ask again, in milliseconds from now; `None` when there is no such time.
    pub retry_after_ms: Option<u64>,
}

impl QuestionAnswer {
    /// Whether the action is permitted as it was asked.
    #[must_use]
    pub const fn permitted(&self) -> bool {
        matches!(self.outcome, OutcomeKind::Allow)
    }

    fn new(
        outcome: OutcomeKind,
        code: &str,
        message: impl Into<String>,
        policies: &[PolicyId],
    ) -> Self {
        Self {
            outcome,
            reason: ReasonAnswer {
                code: code.to_owned(),
                message: message.into(),
            },
            policy_ids: policies.iter().map(ToString::to_string).collect(),
            approval: None,
            quota: None,
            rate: None,
            retry_after_ms: None,
        }
    }
}

/// Which approval is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalNeeded {
    /// The value of the `@oversight` annotation.
    pub kind: String,
    /// What the approval is bound to: the policy, or several joined by `+`.
    pub policy_id: String,
    /// Whether whoever asked may ask a human for it ([`Governor::request_access`]):
    /// about itself.
    pub requestable: bool,
}

/// When a batch of questions ends before all are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchRule {
    /// It does not.
    #[default]
    ExecuteAll,
    /// After the first that is not permitted, or that has no answer.
    DenyOnFirstDeny,
    /// After the first that is permitted.
    PermitOnFirstPermit,
}

impl BatchRule {
    /// Whether an answer, permitted or not, is the last one.
    #[must_use]
    pub const fn ends(self, permitted: bool) -> bool {
        match self {
            Self::ExecuteAll => false,
            Self::DenyOnFirstDeny => !permitted,
            Self::PermitOnFirstPermit => permitted,
        }
    }
}

/// A caller that was heard and may ask now.
pub struct Asking<'a> {
    governor: &'a Governor,
    caller: &'a Caller,
}

impl Governor {
    /// Hears a caller: one admission, for one question or one batch of at most
    /// [`MAX_QUESTIONS`].
    pub fn asking<'a>(&'a self, caller: &'a Caller) -> Result<Asking<'a>, GovernError> {
        caller.allowed(Call::Ask)?;
        self.admit(caller)?;
        Ok(Asking {
            governor: self,
            caller,
        })
    }
}

impl Asking<'_> {
    /// Answers one question. Callers may ask about themselves, owners about every
    /// principal of the organization. Errors are for questions that could not be
    /// judged at all.
    pub fn ask(&self, question: &Question) -> Result<QuestionAnswer, GovernError> {
        question.validate()?;
        let (bound, own) = match self.who(question.subject.as_ref())? {
            Who::Caller => (self.caller.bound().clone(), true),
            Who::Is(bound) => (bound, false),
            Who::Nobody(answer) => return Ok(*answer),
        };
        let resource = ResourceRef::new(question.entity_type(), question.resource_id.as_str());
        let given = || question.context.iter().map(|(name, fact)| (name, fact));
        let texts = texts(given().map(|(_, fact)| fact));
        let context = context_values(given(), &texts);
        let asked = CheckRequest {
            action: &Action::named(&question.action),
            resource: &resource,
            units: question.units,
            reserve: false,
            context: &context,
            approval: None,
        };
        let parts = &self.governor.parts;
        let decision = parts.authz.would(&bound, &asked);
        let shadow = &parts.shadow;
        shadow.observe(bound.identity(), None, &asked, &decision);
        let identity = bound.identity();
        let crowded = || parts.meter.room(identity.org, &identity.name).err();
        let mut answer = match decision {
            Decision::Allow { policies, hold } => match crowded() {
                None => QuestionAnswer::from(Decision::Allow { policies, hold }),
                Some(crowded) => QuestionAnswer::crowded(&crowded, &policies),
            },
            Decision::QuotaExceeded { exceeded, policies } => {
                let exceeded = Box::new(later(*exceeded, crowded().as_ref()));
                QuestionAnswer::from(Decision::QuotaExceeded { exceeded, policies })
            }
            Decision::RateLimited {
                mut too_fast,
                policies,
            } => {
                too_fast.retry_after = too_fast.retry_after.max(wait_of(crowded().as_ref()));
                QuestionAnswer::from(Decision::RateLimited { too_fast, policies })
            }
            decision => QuestionAnswer::from(decision),
        };
        if let Some(approval) = &mut answer.approval {
            approval.requestable = own;
        }
        Ok(answer)
    }

    /// Whose authority the question is about.
    fn who(&self, subject: Option<&Subject>) -> Result<Who, GovernError> {
        let caller = self.caller;
        let Some(subject) = subject else {
            return Ok(Who::Caller);
        };
        if caller.is(subject)? {
            return Ok(Who::Caller);
        }
        if !caller.is_human() {
            return Err(GovernError::forbidden(format!(
                "{} is an agent and may ask about itself alone, acting by its own delegation; \
                 the organization's owner may ask about everybody",
                caller.name()
            )));
        }
        caller.live(self.governor.now())?;
        self.another(subject)
    }

    /// What an owner asks about: anybody of the organization.
    fn another(&self, subject: &Subject) -> Result<Who, GovernError> {
        let org = self.caller.org();
        let nhi = &self.governor.parts.nhi;
        let last = subject.id.rsplit('/').next().unwrap_or_default();
        let found = last
            .parse::<PrincipalName>()
            .ok()
            .and_then(|name| nhi.principal(org, &name))
            .filter(|found| found.kind.as_str() == subject.kind)
            .filter(|found| subject.id == found.name.as_str() || subject.id == found.spiffe_id);
        let Some(principal) = found else {
            return Ok(Who::nobody(
                refusal::UNKNOWN_SUBJECT,
                format!(
                    "the organization has no {} of this name",
                    match subject.kind.as_str() {
                        "agent" | "human" => subject.kind.as_str(),
                        _ => "principal of this type (`agent` or `human`)",
                    }
                ),
            ));
        };
        let identity = match (principal.kind, &subject.delegation) {
            (PrincipalType::Human, None) => nhi.identity_for_human(org, &principal.name)?,
            (PrincipalType::Human, Some(_)) => {
                return Err(GovernError::invalid(
                    DELEGATION,
                    "a human acts in person, under no delegation",
                ));
            }
            (PrincipalType::Agent, named) => {
                let named = named.as_deref();
                let governor = self.governor;
                match governor.delegation_of(org, &principal.name, named, DELEGATION)? {
                    Some(link) => nhi.identity_for_link(org, link)?,
                    None => {
                        return Ok(Who::nobody(
                            creto_authz::deny::NO_DELEGATION,
                            format!(
                                "nothing was delegated to agent {}, which has no authority of \
                                 its own",
                                principal.name
                            ),
                        ));
                    }
                }
            }
        };
        Ok(Who::Is(self.governor.parts.authz.bind(identity)))
    }
}

impl Governor {
    /// The delegation that an agent acts by: the one that is named, which has to be
    /// the agent's, or the one that is live. When none is live the newest, whose
    /// denial says what became of it; `None` when it never had any.
    pub(crate) fn delegation_of(
        &self,
        org: OrgId,
        holder: &PrincipalName,
        named: Option<&str>,
        field: &'static str,
    ) -> Result<Option<LinkId>, GovernError> {
        let nhi = &self.parts.nhi;
        if let Some(text) = named {
            let id = link_id(field, text)?;
            return match nhi.link(org, id) {
                Some(view) if view.signed.link.delegatee == *holder => Ok(Some(id)),
                _ => Err(GovernError::NotFound { what: "delegation" }),
            };
        }
        let held = nhi.held_by(org, holder, NEWEST_DELEGATIONS + 1);
        let now = self.now();
        let mut live = Vec::new();
        for id in held.iter().map(|view| view.signed.link.id) {
            if nhi.identity_for_link(org, id)?.live(now).is_ok() {
                live.push(id);
            }
        }
        match live.as_slice() {
            [] => Ok(held.first().map(|newest| newest.signed.link.id)),
            [one] if held.len() <= NEWEST_DELEGATIONS => Ok(Some(*one)),
            _ => Err(GovernError::DelegationAmbiguous {
                holder: holder.clone(),
            }),
        }
    }
}

/// The field of a question that names a delegation.
const DELEGATION: &str = "subject.properties.delegation";

enum Who {
    /// The caller itself, acting by its own delegation.
    Caller,
    /// Somebody else of the organization.
    Is(Bound),
    /// Nobody with any authority: the answer is clear without policies.
    Nobody(Box<QuestionAnswer>),
}

impl Who {
    fn nobody(code: &str, message: String) -> Self {
        let answer = QuestionAnswer::new(OutcomeKind::Deny, code, message, &[]);
        Self::Nobody(Box::new(answer))
    }
}

impl Caller {
    /// Whether a question about this subject is about the caller, acting by its own
    /// delegation.
    pub(crate) fn is(&self, subject: &Subject) -> Result<bool, GovernError> {
        let identity = self.identity();
        let named = subject.kind == identity.kind.as_str()
            && (subject.id == identity.name.as_str()
                || subject.id == identity.spiffe_id()
                || subject.id == identity.acting_id());
        let own = match &subject.delegation {
            Some(text) => Some(link_id(DELEGATION, text)?) == self.link(),
            None => true,
        };
        Ok(named && own)
    }
}

impl Question {
    /// Whether it can be asked at all.
    pub(crate) fn validate(&self) -> Result<(), GovernError> {
        check_name("action.name", &self.action)?;
        check_name("resource.type", &self.resource_type)?;
        check_name("resource.id", &self.resource_id)?;
        check_units(self.units)?;
        let facts = self.context.iter();
        check_facts(facts.map(|(name, fact)| (name.as_str(), fact.size())))
    }

    /// The resource's entity type, with its namespace.
    #[must_use]
    pub fn entity_type(&self) -> String {
        entity_type(&self.resource_type)
    }
}

/// Refuses a context that is too large, or that has what the decision fills in:
/// names, and how many texts of how many bytes each has.
pub(crate) fn check_facts<'a>(
    facts: impl ExactSizeIterator<Item = (&'a str, (usize, usize))>,
) -> Result<(), GovernError> {
    if facts.len() > MAX_FACTS {
        return Err(unusable(format!("at most {MAX_FACTS} values are allowed")));
    }
    for (name, (texts, bytes)) in facts {
        if name.is_empty() || name.len() > MAX_FACT_NAME_BYTES {
            return Err(unusable(format!(
                "names of 1 to {MAX_FACT_NAME_BYTES} bytes are expected"
            )));
        }
        if ENGINE_FACTS.contains(&name) {
            return Err(unusable(format!("`{name}` is filled in by the decision")));
        }
        if texts > MAX_TEXTS || bytes > MAX_TEXT_BYTES {
            return Err(unusable(format!(
                "`{name}` is too long: at most {MAX_TEXTS} texts of {MAX_TEXT_BYTES} bytes in all"
            )));
        }
    }
    Ok(())
}

impl QuestionAnswer {
    /// It would be one open reservation too many.
    fn crowded(error: &MeteringError, policies: &[PolicyId]) -> Self {
        let mut answer = Self::new(
            OutcomeKind::RateLimited,
            refusal::TOO_MANY_OPEN,
            error.to_string(),
            policies,
        );
        (answer.rate, answer.retry_after_ms) = crowd(error);
        answer
    }
}

fn unusable(message: String) -> GovernError {
    GovernError::invalid("context", message)
}

impl From<Decision> for QuestionAnswer {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allow { policies, .. } => {
                Self::new(OutcomeKind::Allow, "permitted", "permitted", &policies)
            }
            Decision::Deny { reason, policies } => {
                Self::new(OutcomeKind::Deny, reason.code, reason.text, &policies)
            }
            Decision::RequiresOversight {
                held_by,
                oversight,
                policies,
            } => Self {
                approval: Some(ApprovalNeeded {
                    kind: oversight,
                    policy_id: held_by.policy_id().to_string(),
                    requestable: false,
                }),
                ..Self::new(
                    OutcomeKind::RequiresOversight,
                    refusal::NEEDS_APPROVAL,
                    "a human has to approve this first; submit it as an action to ask one",
                    &policies,
                )
            },
            Decision::QuotaExceeded { exceeded, policies } => {
                let (code, message) = over(&exceeded);
                Self {
                    retry_after_ms: exceeded.retry_after.map(millis_up),
                    quota: Some(QuotaAnswer::from(*exceeded)),
                    ..Self::new(OutcomeKind::QuotaExceeded, code, message, &policies)
                }
            }
            Decision::RateLimited { too_fast, policies } => {
                let message = ahead(&too_fast);
                Self {
                    retry_after_ms: Some(millis_up(too_fast.retry_after)),
                    rate: Some(RateExceededAnswer::from(*too_fast)),
                    ..Self::new(
                        OutcomeKind::RateLimited,
                        refusal::RATE_LIMITED,
                        message,
                        &policies,
                    )
                }
            }
        }
    }
}
