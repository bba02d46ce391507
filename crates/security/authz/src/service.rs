//! The check.
//!
//! Its order: the identity is live; every link's rights cover the action; the
//! policies, for everyone in the chain; oversight (`evaluate.rs` has the rule);
//! and last the quota. The first that says no answers.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use creto_errors::Classify as _;
use creto_nhi::{AgentIdentity, IdentityError, PrincipalType};
use creto_types::{Clock, OrgId};
use parking_lot::Mutex;

use crate::action::{self, Action};
use crate::evaluate::{Question, Verdict, denied};
use crate::model::{CheckRequest, Decision, ResourceRef, deny};
use crate::policies::CompiledPolicies;
use crate::ports::{Account, Quota, Refusal, Spend};

type Published = HashMap<OrgId, Arc<CompiledPolicies>>;

/// The decision point. See the crate's documentation.
pub struct Authz {
    quota: Arc<dyn Quota>,
    clock: Arc<dyn Clock>,
    published: ArcSwap<Published>,
    /// Publishing copies the map; two of them must not lose one another's.
    publishing: Mutex<()>,
    counts: Counts,
}

/// An authenticated identity, ready to be checked.
#[derive(Clone)]
pub struct Bound {
    identity: Arc<AgentIdentity>,
    account: Arc<dyn Account>,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bound").field(&self.identity).finish()
    }
}

impl Bound {
    /// Who it is.
    #[must_use]
    pub const fn identity(&self) -> &Arc<AgentIdentity> {
        &self.identity
    }
}

/// How often each outcome was answered since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Allowed.
    pub allowed: u64,
    /// Denied.
    pub denied: u64,
    /// Held for a human.
    pub requires_oversight: u64,
    /// Over a budget.
    pub quota_exceeded: u64,
    /// Too fast.
    pub rate_limited: u64,
    /// Of the denied: because a policy could not be evaluated.
    pub policy_errors: u64,
}

#[derive(Default)]
struct Counts {
    allowed: AtomicU64,
    denied: AtomicU64,
    requires_oversight: AtomicU64,
    quota_exceeded: AtomicU64,
    rate_limited: AtomicU64,
    policy_errors: AtomicU64,
}

impl Counts {
    fn count(&self, decision: &Decision) {
        let counter = match decision {
            Decision::Allow { .. } => &self.allowed,
            Decision::Deny { reason, .. } => {
                if reason.code == deny::POLICY_ERROR {
                    self.policy_errors.fetch_add(1, Ordering::Relaxed);
                }
                &self.denied
            }
            Decision::RequiresOversight { .. } => &self.requires_oversight,
            Decision::QuotaExceeded { .. } => &self.quota_exceeded,
            Decision::RateLimited { .. } => &self.rate_limited,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Authz {
    /// A decision point without policies: until an organization's are published,
    /// everything in it is denied.
    #[must_use]
    pub fn new(quota: Arc<dyn Quota>, clock: Arc<dyn Clock>) -> Self {
        Self {
            quota,
            clock,
            published: ArcSwap::default(),
            publishing: Mutex::new(()),
            counts: Counts::default(),
        }
    }

    /// Puts policies in force for one organization, in place of what was. No
    /// check that starts after this returns sees the old ones.
    pub fn publish(&self, org: OrgId, policies: impl Into<Arc<CompiledPolicies>>) {
        let _one_at_a_time = self.publishing.lock();
        let policies = policies.into();
        action::intern(policies.report().actions.iter().map(String::as_str));
        let mut next = Published::clone(&self.published.load());
        next.insert(org, policies);
        self.published.store(Arc::new(next));
    }

    /// The policies in force for an organization.
    #[must_use]
    pub fn policies(&self, org: OrgId) -> Option<Arc<CompiledPolicies>> {
        self.published.load().get(&org).cloned()
    }

    /// A handle for an identity that was authenticated. It stays right whatever
    /// is published, revoked or expires later.
    #[must_use]
    pub fn bind(&self, identity: Arc<AgentIdentity>) -> Bound {
        let account = self.quota.account(&identity);
        Bound { identity, account }
    }

    /// May it do this now? An allow has reserved the units, for every hop of the
    /// chain.
    #[must_use]
    pub fn check(
        &self,
        bound: &Bound,
        action: &Action,
        resource: &ResourceRef,
        units: u64,
    ) -> Decision {
        self.ask(
            bound,
            &CheckRequest {
                action,
                resource,
                units,
                reserve: true,
                context: &[],
                approval: None,
            },
        )
    }

    /// The check in its general form: with context, with an approval, or as a pure
    /// question.
    #[must_use]
    pub fn ask(&self, bound: &Bound, request: &CheckRequest<'_>) -> Decision {
        let decision = self.decide(bound, request);
        self.counts.count(&decision);
        decision
    }

    /// How often each outcome was answered.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            allowed: read(&self.counts.allowed),
            denied: read(&self.counts.denied),
            requires_oversight: read(&self.counts.requires_oversight),
            quota_exceeded: read(&self.counts.quota_exceeded),
            rate_limited: read(&self.counts.rate_limited),
            policy_errors: read(&self.counts.policy_errors),
        }
    }

    fn decide(&self, bound: &Bound, request: &CheckRequest<'_>) -> Decision {
        let identity = &*bound.identity;
        let now = self.clock.reading();
        if let Err(error) = identity.live(self.clock.now()) {
            return not_live(identity, error);
        }
        if let Some(refusal) = outside_rights(identity, request) {
            return refusal;
        }
        let Some(policies) = self.policies(identity.org) else {
            return denied(
                deny::NO_POLICIES,
                "the organization has no policies in force; its operator must load some",
                Vec::new(),
            );
        };
        let question = Question {
            action: request.action.name(),
            resource: request.resource,
            units: request.units,
            context: request.context,
            now: now.wall_ns,
            approval: request.approval,
        };
        let permits = match policies.judge(identity, &question) {
            Verdict::Permitted { policies } => policies,
            other => return policies.render(&other, identity, &question),
        };
        if !request.reserve {
            return Decision::Allow {
                policies: permits.into(),
                hold: None,
            };
        }
        match bound.account.reserve(&Spend {
            action: request.action,
            units: request.units,
            now,
        }) {
            Ok(hold) => Decision::Allow {
                policies: permits.into(),
                hold: Some(hold),
            },
            Err(Refusal::Exceeded(exceeded)) => Decision::QuotaExceeded {
                exceeded,
                policies: permits.into(),
            },
            Err(Refusal::RateLimited { scope, retry_after }) => Decision::RateLimited {
                scope,
                retry_after,
                policies: permits.into(),
            },
            Err(Refusal::Refused { code, text }) => denied(code, text, Vec::new()),
        }
    }
}

fn not_live(identity: &AgentIdentity, error: IdentityError) -> Decision {
    let delegator = |link| {
        let hop = identity.hops.iter().find(|hop| hop.link.id == link)?;
        Some(hop.link.delegator.as_str())
    };
    let advice = match &error {
        IdentityError::Revoked { link } | IdentityError::Expired { link: Some(link) } => {
            format!(
                "ask {} for a new delegation",
                delegator(*link).unwrap_or("its delegator")
            )
        }
        IdentityError::Suspended { .. } => "ask the owner to resume it".to_owned(),
        IdentityError::Expired { link: None } => "get a new token".to_owned(),
        IdentityError::NotYetValid { .. } => "wait until it is".to_owned(),
        IdentityError::Broken => "authenticate again".to_owned(),
    };
    denied(error.code(), format!("{error}; {advice}"), Vec::new())
}

/// Why the links of the chain do not cover the action, if they do not.
fn outside_rights(identity: &AgentIdentity, request: &CheckRequest<'_>) -> Option<Decision> {
    if identity.hops.is_empty() && identity.kind == PrincipalType::Agent {
        return Some(denied(
            deny::NO_DELEGATION,
            format!(
                "agent {} acts under no delegation and has no authority of its own; ask a human \
                 for a delegation",
                identity.name
            ),
            Vec::new(),
        ));
    }
    let outside = identity
        .hops
        .iter()
        .map(|hop| &hop.link)
        .find(|link| !link.allows(request.action.name(), &request.resource.id))?;
    Some(denied(
        deny::RIGHT_NOT_DELEGATED,
        format!(
            "delegation {} from {} to {} does not cover `{}` on `{}`; ask {} for one that does",
            outside.id,
            outside.delegator,
            outside.delegatee,
            request.action.name(),
            request.resource.id,
            outside.delegator
        ),
        Vec::new(),
    ))
}
