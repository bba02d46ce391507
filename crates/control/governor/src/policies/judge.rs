//! What policies alone say about one request: without tokens, revocations, rights,
//! budgets and rates, which policies do not change.

use std::sync::Arc;
use std::time::Duration;

use creto_authz::{
    Account, Action, Approval, Authz, CheckRequest, CompiledPolicies, ContextValue, Decision, Hold,
    PolicyId, Quota, Refusal, ResourceRef, Spend, deny,
};
use creto_crypto::sha256;
use creto_nhi::{
    AgentIdentity, Authority, DelegationLink, Hop, KeyVersion, LinkStatus, PrincipalType, Right,
    Standing, TokenEnds,
};
use creto_types::{Clock, OrgId, PrincipalName, Timestamp, canonical_json};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::OutcomeKind;
use crate::answers::refusal;
use crate::facts::{ContextJson, ContextMap, context_values, texts};

/// What policies say: `allow`, `deny` or `requires_oversight`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictAnswer {
    /// `allow`, `deny` or `requires_oversight`; budgets and rates are not asked.
    pub outcome: OutcomeKind,
    /// Why, as in the answers to actions.
    pub code: String,
    /// For people.
    pub message: String,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// The kind of approval, when one is needed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oversight: Option<String>,
}

/// The denials that policies or their absence cause; every other one comes from
/// the identity, the delegation or the quota.
const BY_POLICY: [&str; 7] = [
    deny::NO_POLICIES,
    deny::UNKNOWN_ACTION,
    deny::INVALID_REQUEST,
    deny::POLICY_FORBIDS,
    deny::NO_POLICY_PERMITS,
    deny::POLICY_ERROR,
    deny::OVERSIGHT_CONFLICT,
];

/// Whether a denial with this code is the policies' doing.
pub(crate) fn is_by_policy(code: &str) -> bool {
    BY_POLICY.contains(&code)
}

/// Whether a refusal with this code is that of a limit or a rate, asked once policies
/// permitted.
pub(crate) fn is_by_limits(code: &str) -> bool {
    [
        refusal::BUDGET_EXCEEDED,
        refusal::LIMIT_EXCEEDED,
        refusal::RATE_LIMITED,
        refusal::TOO_MANY_OPEN,
    ]
    .contains(&code)
}

impl VerdictAnswer {
    /// Whether nobody is told anything else: the same outcome, the same kind of approval
    /// where both are known, and no error in place of a denial.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let fails = |verdict: &Self| verdict.code == deny::POLICY_ERROR;
        let other_kind = |mine: &String| other.oversight.as_ref().is_some_and(|kind| kind != mine);
        self.outcome == other.outcome
            && fails(self) == fails(other)
            && !self.oversight.as_ref().is_some_and(other_kind)
    }

    /// What the policies said in this decision. `None` when they were not what
    /// decided.
    pub(crate) fn of(decision: &Decision) -> Option<Self> {
        let permitted = |policies: &[PolicyId]| Self {
            outcome: OutcomeKind::Allow,
            code: "permitted".to_owned(),
            message: "permitted".to_owned(),
            policies: names(policies),
            oversight: None,
        };
        match decision {
            // Budgets and rates are asked once policies permitted.
            Decision::Allow { policies, .. }
            | Decision::QuotaExceeded { policies, .. }
            | Decision::RateLimited { policies, .. } => Some(permitted(policies)),
            Decision::Deny { reason, policies } => is_by_policy(reason.code).then(|| Self {
                outcome: OutcomeKind::Deny,
                code: reason.code.to_owned(),
                message: reason.text.clone(),
                policies: names(policies),
                oversight: None,
            }),
            Decision::RequiresOversight {
                oversight,
                policies,
                ..
            } => Some(Self {
                outcome: OutcomeKind::RequiresOversight,
                code: refusal::NEEDS_APPROVAL.to_owned(),
                message: format!("a human has to approve this: {oversight}"),
                policies: names(policies),
                oversight: Some(oversight.clone()),
            }),
        }
    }
}

fn names(policies: &[PolicyId]) -> Vec<String> {
    policies.iter().map(ToString::to_string).collect()
}

/// A request as it can be kept and asked again.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) action: String,
    pub(crate) resource: ResourceRef,
    pub(crate) units: u64,
    pub(crate) context: ContextMap,
    /// What a human approved it for.
    pub(crate) approval: Option<Approved>,
}

/// What is taken for approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Approved {
    /// The policies that held it back, joined by `+`.
    pub(crate) policies: String,
    /// The kind of approval, where it is known.
    pub(crate) oversight: Option<String>,
}

impl From<&str> for Approved {
    fn from(policies: &str) -> Self {
        Self {
            policies: policies.to_owned(),
            oversight: None,
        }
    }
}

impl Asked {
    pub(crate) fn of(request: &CheckRequest<'_>) -> Self {
        let value = |value: &ContextValue<'_>| match value {
            ContextValue::Bool(value) => ContextJson::Bool(*value),
            ContextValue::Long(value) => ContextJson::Long(*value),
            ContextValue::Text(value) => ContextJson::Text((*value).to_owned()),
            ContextValue::Texts(values) => {
                ContextJson::Texts(values.iter().map(|text| (*text).to_owned()).collect())
            }
        };
        Self {
            action: request.action.name().to_owned(),
            resource: request.resource.clone(),
            units: request.units,
            context: request
                .context
                .iter()
                .map(|(name, given)| ((*name).to_owned(), value(given)))
                .collect(),
            approval: request.approval.map(|approval| match approval {
                Approval::Given { held_by, oversight } => Approved {
                    policies: held_by.policy_id().to_string(),
                    oversight: Some(oversight.clone()),
                },
                Approval::Supposed {
                    policies,
                    oversight,
                } => Approved {
                    policies: policies.to_string(),
                    oversight: oversight.clone(),
                },
            }),
        }
    }

    /// Asks this of a decision point, as a pure question.
    pub(crate) fn ask(&self, authz: &Authz, identity: Arc<AgentIdentity>) -> Decision {
        self.with(|request| authz.ask(&authz.bind(identity), request))
    }

    /// Hands this over as a pure question.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&CheckRequest<'_>) -> T) -> T {
        let texts = texts(self.context.values());
        let context = context_values(self.context.iter(), &texts);
        let approval = self.approval.as_ref().map(|approved| Approval::Supposed {
            policies: PolicyId::from(approved.policies.as_str()),
            oversight: approved.oversight.clone(),
        });
        ask(&CheckRequest {
            action: &Action::named(&self.action),
            resource: &self.resource,
            units: self.units,
            reserve: false,
            context: &context,
            approval: approval.as_ref(),
        })
    }
}

/// Asks one set of policies, which need not be in force, for one organization.
pub(crate) struct Judge {
    authz: Authz,
    clock: Arc<Told>,
}

/// Pure questions reserve nothing; should one ever try, it is refused.
struct Nothing;

impl Quota for Nothing {
    fn account(&self, _: &Arc<AgentIdentity>) -> Arc<dyn Account> {
        Arc::new(Self)
    }
}

impl Account for Nothing {
    fn reserve(self: Arc<Self>, _: &Spend<'_>, _: &dyn Fn() -> bool) -> Result<Hold, Refusal> {
        Err(nothing())
    }

    fn fits(&self, _: &Spend<'_>, _: &dyn Fn() -> bool) -> Result<(), Refusal> {
        Err(nothing())
    }

    fn again(self: Arc<Self>) -> Arc<dyn Account> {
        self
    }
}

fn nothing() -> Refusal {
    Refusal::Refused {
        code: deny::INVALID_REQUEST,
        text: "nothing is reserved for a question".to_owned(),
    }
}

/// The instant that is asked about: policies may read it.
#[derive(Debug, Default)]
struct Told(Mutex<Timestamp>);

impl Clock for Told {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

impl Judge {
    pub(crate) fn new(org: OrgId, policies: Arc<CompiledPolicies>) -> Self {
        let clock = Arc::new(Told::default());
        let authz = Authz::new(
            Arc::new(Nothing),
            Arc::clone(&clock) as Arc<dyn Clock>,
            creto_authz::AuthzConfig { remembered: 0 },
        );
        authz.publish(org, policies);
        Self { authz, clock }
    }

    /// What would be decided at this instant, were they in force. One question at a
    /// time.
    pub(crate) fn decides(
        &mut self,
        identity: Arc<AgentIdentity>,
        asked: &Asked,
        at: Timestamp,
    ) -> Decision {
        *self.clock.0.lock() = at;
        asked.ask(&self.authz, identity)
    }

    /// What they alone say at this instant. One question at a time.
    pub(crate) fn verdict(
        &mut self,
        identity: &AgentIdentity,
        asked: &Asked,
        at: Timestamp,
    ) -> VerdictAnswer {
        let decision = self.decides(Arc::new(timeless(identity)), asked, at);
        VerdictAnswer::of(&decision).unwrap_or_else(|| VerdictAnswer {
            outcome: OutcomeKind::Deny,
            code: deny::INVALID_REQUEST.to_owned(),
            message: "the policies cannot be asked for this identity".to_owned(),
            policies: Vec::new(),
            oversight: None,
        })
    }
}

/// The same chain with every right and no end: only policies are left to say no.
fn timeless(identity: &AgentIdentity) -> AgentIdentity {
    let hops = identity.hops.iter().map(|hop| Hop {
        link: Arc::new(DelegationLink {
            rights: everything(),
            not_before: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::MAX,
            ..DelegationLink::clone(&hop.link)
        }),
        status: Arc::new(LinkStatus::active()),
    });
    let hops: Vec<Hop> = hops.collect();
    AgentIdentity {
        standing: Standing::all_good(&identity.name, &hops),
        hops,
        ends: TokenEnds::default(),
        expires_at: Timestamp::MAX,
        ..identity.clone()
    }
}

fn everything() -> Vec<Right> {
    Right::parse("*", "*").into_iter().collect()
}

/// A chain of principals that need not exist: the first is the human it starts
/// from, each further one an agent below the one before.
///
/// A link's id stands for the whole chain down to it, here as everywhere: it is
/// made of the names.
pub(crate) fn chain_identity(org: OrgId, chain: &[PrincipalName]) -> Option<AgentIdentity> {
    let name = chain.last()?.clone();
    let mut hops: Vec<Hop> = Vec::new();
    let mut names = Vec::new();
    for pair in chain.windows(2) {
        let [delegator, delegatee] = pair else {
            continue;
        };
        names.push((delegator, delegatee));
        let digest = hex::encode(sha256(&canonical_json(&names).ok()?));
        hops.push(Hop {
            link: Arc::new(DelegationLink {
                id: format!("lnk_{}", digest.get(..32)?).parse().ok()?,
                org,
                delegator: delegator.clone(),
                delegatee: delegatee.clone(),
                parent: hops.last().map(|above| above.link.id),
                rights: everything(),
                not_before: Timestamp::UNIX_EPOCH,
                expires_at: Timestamp::MAX,
                max_depth: u8::MAX,
                budget: None,
                issued_at: Timestamp::UNIX_EPOCH,
                key_version: KeyVersion::FIRST,
            }),
            status: Arc::new(LinkStatus::active()),
        });
    }
    let kind = if hops.is_empty() {
        PrincipalType::Human
    } else {
        PrincipalType::Agent
    };
    Some(AgentIdentity {
        org,
        standing: Standing::all_good(&name, &hops),
        authority: Arc::new(Authority::new(format!("spiffe://test/org/{org}"))),
        name,
        kind,
        hops,
        narrowed: None,
        token_id: None,
        ends: TokenEnds::default(),
        expires_at: Timestamp::MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_is_told_otherwise_is_the_same() {
        let verdict = |outcome, code: &str, kind: Option<&str>| VerdictAnswer {
            outcome,
            code: code.to_owned(),
            message: String::new(),
            policies: Vec::new(),
            oversight: kind.map(str::to_owned),
        };
        use OutcomeKind::{Allow, Deny, RequiresOversight};
        let forbidden = verdict(Deny, deny::POLICY_FORBIDS, None);
        let unpermitted = verdict(Deny, deny::NO_POLICY_PERMITS, None);
        let failed = verdict(Deny, deny::POLICY_ERROR, None);
        let [one, two, unknown] = [Some("one"), Some("two"), None]
            .map(|kind| verdict(RequiresOversight, refusal::NEEDS_APPROVAL, kind));
        let allowed = verdict(Allow, "permitted", None);
        for (a, b, same) in [
            (&forbidden, &unpermitted, true),
            (&forbidden, &failed, false),
            (&failed, &failed, true),
            (&one, &two, false),
            (&one, &unknown, true),
            (&one, &forbidden, false),
            (&allowed, &one, false),
            (&allowed, &allowed, true),
        ] {
            assert_eq!((a.is_same(b), b.is_same(a)), (same, same), "{a:?} {b:?}");
        }
    }
}
