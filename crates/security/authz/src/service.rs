//! The check.
//!
//! Its order: the identity is live; every link's rights cover the action; the
//! policies, for everyone in the chain; oversight (`evaluate.rs` has the rule);
//! and last the quota. The first that says no answers. What is remembered as permitted is
//! looked up while the counters are locked, because it may still be on its way from memory;
//! where that does not end in an allow, the questions are asked in their order.
//!
//! Rights and policies are looked up in `cache.rs` before they are evaluated;
//! the rest is asked on every check.

use std::collections::HashMap;
use std::num::NonZeroU128;
use std::sync::Arc;

use creto_errors::Classify as _;
use creto_nhi::{AgentIdentity, IdentityError, LinkId, PrincipalType};
use creto_types::{Clock, OrgId, Reading};
use parking_lot::{Mutex, RwLock};

use crate::action::{self, Action};
use crate::bound::{Bound, Chain};
use crate::cache::{CacheKey, DecisionCache, Parts, Place};
use crate::counters::{Counters, Counts};
use crate::evaluate::{Question, Verdict, denied};
use crate::in_force::{InForce, OrgPolicies, Pinned, PolicyEpoch, Settled};
use crate::model::{CheckRequest, Decision, PolicyIds, ResourceRef, deny};
use crate::moment::{Moment, at_one_moment};
use crate::policies::CompiledPolicies;
use crate::ports::{Hold, Quota, Refusal, Spend};

/// How the decision point behaves.
#[derive(Clone, Copy, Debug)]
pub struct AuthzConfig {
    /// How many verdicts are remembered, rounded up to a power of two. Each takes
    /// 64 bytes, and an eighth as many have room for long names at 256; all of it is
    /// there from the start. Four times what is hot keeps nearly all of that. Zero
    /// remembers nothing, and gives the names of actions no numbers, which are for
    /// good.
    pub remembered: usize,
}

impl Default for AuthzConfig {
    /// 24 MiB.
    fn default() -> Self {
        Self {
            remembered: 1 << 18,
        }
    }
}

impl AuthzConfig {
    /// How many verdicts there is room for, besides those with long names.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.remembered.next_power_of_two()
    }

    /// What all of it takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.room() * 64 + self.room() / 8 * 256
    }
}

/// The decision point. See the crate's documentation.
pub struct Authz {
    quota: Arc<dyn Quota>,
    clock: Arc<dyn Clock>,
    orgs: RwLock<HashMap<OrgId, Arc<OrgPolicies>>>,
    humans: Mutex<HashMap<(OrgId, String), Option<NonZeroU128>>>,
    cache: DecisionCache,
    remembers: bool,
    counts: Counts,
}

impl Authz {
    /// A decision point without policies: until an organization's are published,
    /// everything in it is denied.
    #[must_use]
    pub fn new(quota: Arc<dyn Quota>, clock: Arc<dyn Clock>, config: AuthzConfig) -> Self {
        Self {
            quota,
            clock,
            orgs: RwLock::default(),
            humans: Mutex::default(),
            cache: DecisionCache::new(config.remembered),
            remembers: config.remembered > 0,
            counts: Counts::default(),
        }
    }

    /// Puts policies in force for one organization, in place of what was. No
    /// check that starts after this returns sees the old ones.
    pub fn publish(&self, org: OrgId, policies: impl Into<Arc<CompiledPolicies>>) {
        let policies = policies.into();
        if self.remembers {
            let names = || policies.report().actions.iter().map(String::as_str);
            action::intern(org, names());
            if names().any(|name| policies.reads(name).is_some_and(|reads| reads.units)) {
                self.cache.units_are_read();
            }
        }
        self.org(org).publish(policies);
    }

    /// The policies in force for an organization.
    #[must_use]
    pub fn policies(&self, org: OrgId) -> Option<Arc<CompiledPolicies>> {
        let org = self.orgs.read().get(&org).cloned()?;
        let pinned = org.load();
        Some(Arc::clone(&pinned.as_ref()?.policies))
    }

    /// A handle for an identity that was authenticated. It stays right whatever
    /// is published, revoked or expires later. What is remembered for it is known
    /// by the id of its last link, which must stand for one chain.
    #[must_use]
    pub fn bind(&self, identity: Arc<AgentIdentity>) -> Bound {
        let number = match identity.link() {
            Some(hop) => NonZeroU128::new(hop.link.id.uuid().as_u128()),
            None if identity.kind == PrincipalType::Human => self.number_of_human(&identity),
            None => None,
        };
        let account = self.quota.account(&identity);
        let org = self.org(identity.org);
        Bound::new(Chain::new(identity, org, account), number)
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
        let limits = if request.reserve {
            Limits::Taken
        } else {
            Limits::Unasked
        };
        let decision = self.decide(bound, request, limits);
        self.counts.decided(&decision);
        decision
    }

    /// What would be answered to this request if it reserved: as a pure question, and
    /// then by budgets and rates as they are now. Nothing is taken.
    #[must_use]
    pub fn would(&self, bound: &Bound, request: &CheckRequest<'_>) -> Decision {
        let decision = self.decide(bound, request, Limits::Asked);
        self.counts.decided(&decision);
        decision
    }

    /// Whether what was decided after `epoch` was read would be decided by the same
    /// policies now, for a chain that is live now. Budgets and rates are not asked,
    /// nor is anything counted. As exact as a check: it is false once whatever
    /// revoked, suspended or published meanwhile has returned.
    #[must_use]
    pub fn still(&self, bound: &Bound, epoch: PolicyEpoch) -> bool {
        let chain = bound.chain();
        chain.live(self.clock.reading()).is_ok() && chain.org.epoch() == epoch
    }

    /// How often each outcome was answered.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counts.read()
    }

    fn org(&self, id: OrgId) -> Arc<OrgPolicies> {
        if let Some(org) = self.orgs.read().get(&id) {
            return Arc::clone(org);
        }
        Arc::clone(self.orgs.write().entry(id).or_default())
    }

    /// Humans are few and have no link to be known by. The ids of links are UUIDs
    /// of version 7, far above these numbers.
    fn number_of_human(&self, identity: &AgentIdentity) -> Option<NonZeroU128> {
        let mut humans = self.humans.lock();
        let next = u128::try_from(humans.len() + 1).ok();
        let known = humans
            .entry((identity.org, identity.name.to_string()))
            .or_insert_with(|| next.and_then(NonZeroU128::new));
        *known
    }

    fn decide(&self, bound: &Bound, request: &CheckRequest<'_>, limits: Limits) -> Decision {
        match self.attempt(bound, request, limits) {
            Some(decision) => decision,
            None => self.decide_anew(bound, request, limits),
        }
    }

    #[cold]
    fn decide_anew(&self, bound: &Bound, request: &CheckRequest<'_>, limits: Limits) -> Decision {
        loop {
            if let Some(decision) = self.attempt(bound, request, limits) {
                return decision;
            }
        }
    }

    /// `None` when policies were replaced meanwhile.
    fn attempt(
        &self,
        bound: &Bound,
        request: &CheckRequest<'_>,
        limits: Limits,
    ) -> Option<Decision> {
        // What is far away in memory is asked for at once, before anything waits.
        bound.ask_memory(limits != Limits::Unasked);
        let action = request.action.key();
        let known = bound.number.map(|number| {
            let place = self
                .cache
                .place(number, action, request.resource, request.units);
            (number, place)
        });
        let chain = bound.chain();
        // Policies are looked at before the chain, for the time that memory takes.
        let policies = || {
            let pinned = chain.org.load();
            let known = known.zip(pinned.as_ref());
            let key = known.and_then(|(known, in_force)| self.key(known, in_force, request));
            (pinned, key)
        };
        let live = || {
            let now = self.clock.reading();
            (now, chain.live(now))
        };
        let changes = || chain.authority.epoch();
        let latest = |(pinned, _): &(Pinned, _)| chain.org.is_latest(PolicyEpoch::of(pinned));
        let ((pinned, key), (now, live), moment) = at_one_moment(changes, policies, latest, live);
        if let Err(error) = live {
            return Some(not_live(&chain.identity, &error));
        }
        if bound.number.is_none() && chain.identity.is_powerless() {
            return Some(powerless(&chain.identity));
        }
        let question = Question::of(request, now.wall_ns);
        let Some(in_force) = &*pinned else {
            return Some(match rights(&chain.identity, &question) {
                Err(hop) => outside_rights(&chain.identity, hop, &question),
                Ok(()) => denied(
                    deny::NO_POLICIES,
                    "the organization has no policies in force; its operator must load some",
                    Vec::new(),
                ),
            });
        };
        let epoch = PolicyEpoch::of(&pinned);
        if let Some(key) = key.as_ref().filter(|_| limits == Limits::Taken) {
            let lasts = || moment.lasts(changes, || chain.org.is_latest(epoch));
            let permitted = self.reserve_permitted(chain, in_force, request, now, (key, lasts));
            if let Some((hold, number)) = permitted {
                return Some(Decision::Allow {
                    policies: PolicyIds::pinned(pinned, number),
                    hold: Some(hold),
                });
            }
        }
        let permitted = |policies| self.limited(chain, request, limits, epoch, moment, policies);
        let settled = match self.settled(chain, in_force, &question, key.as_ref()) {
            Found::Number(number) => match in_force.settled.get(number) {
                Some(Settled::Policies(Verdict::Permitted { .. })) => {
                    return permitted(PolicyIds::pinned(pinned, number));
                }
                Some(settled) => settled.clone(),
                // Never so: a number is given before it is remembered.
                None => evaluate(chain, in_force, &question),
            },
            Found::Evaluated(settled) => settled,
        };
        match settled {
            Settled::OutsideRights(hop) => Some(outside_rights(&chain.identity, hop, &question)),
            Settled::Policies(Verdict::Permitted { policies }) => permitted(policies.into()),
            Settled::Policies(verdict) => {
                let policies = &in_force.policies;
                Some(policies.render(&verdict, &chain.identity, &question))
            }
        }
    }

    /// What policies permit, if limits have room for it at a moment at which the chain is
    /// live and no other policies are in force. `None` when there are other ones: otherwise
    /// what they said stays, however often authority changes.
    #[inline(never)]
    fn limited(
        &self,
        chain: &Chain,
        request: &CheckRequest<'_>,
        limits: Limits,
        epoch: PolicyEpoch,
        mut moment: Moment,
        policies: PolicyIds,
    ) -> Option<Decision> {
        let changes = || chain.authority.epoch();
        let latest = || chain.org.is_latest(epoch);
        loop {
            let lasts = || moment.lasts(changes, latest);
            let spend = spend(request, self.clock.reading());
            let hold = match limits {
                Limits::Unasked => Ok(None),
                Limits::Asked => chain.account.fits(&spend, &lasts).map(|()| None),
                Limits::Taken => Arc::clone(&chain.account).reserve(&spend, &lasts).map(Some),
            };
            return Some(match hold {
                Ok(hold) => Decision::Allow { policies, hold },
                Err(Refusal::Exceeded(exceeded)) => Decision::QuotaExceeded { exceeded, policies },
                Err(Refusal::RateLimited(too_fast)) => Decision::RateLimited { too_fast, policies },
                Err(Refusal::Refused { code, text }) => denied(code, text, Vec::new()),
                Err(Refusal::Outdated) if latest() => {
                    moment = Moment::from(changes);
                    match chain.live(self.clock.reading()) {
                        Ok(()) => continue,
                        Err(error) => not_live(&chain.identity, &error),
                    }
                }
                Err(Refusal::Outdated) => return None,
            });
        }
    }

    /// Reserves what is remembered as permitted, under this number, and fits beyond doubt.
    /// Whatever else there is to say is said by the questions in their order.
    #[inline]
    fn reserve_permitted(
        &self,
        chain: &Chain,
        in_force: &InForce,
        request: &CheckRequest<'_>,
        now: Reading,
        (key, lasts): (&CacheKey, impl Fn() -> bool),
    ) -> Option<(Hold, u32)> {
        let mut permitted = None;
        let account = Arc::clone(&chain.account);
        let hold = account.reserve_if(&spend(request, now), &mut || {
            permitted = self.cache.get(in_force.epoch, key).filter(|number| {
                let settled = in_force.settled.get(*number);
                matches!(settled, Some(Settled::Policies(Verdict::Permitted { .. })))
            });
            permitted.is_some() && lasts()
        });
        hold.zip(permitted)
    }

    /// What rights and policies say: remembered, or evaluated and remembered.
    fn settled(
        &self,
        chain: &Chain,
        in_force: &InForce,
        question: &Question<'_>,
        key: Option<&CacheKey>,
    ) -> Found {
        let Some(key) = key else {
            self.counts.evaluated();
            return Found::Evaluated(evaluate(chain, in_force, question));
        };
        if let Some(number) = self.cache.get(in_force.epoch, key) {
            return Found::Number(number);
        }
        let _alone = chain.org.flights.alone(key);
        if let Some(number) = self.cache.get(in_force.epoch, key) {
            return Found::Number(number);
        }
        self.counts.evaluated();
        let settled = evaluate(chain, in_force, question);
        // Errors and what does not fit are evaluated each time.
        let lasting = !matches!(
            settled,
            Settled::Policies(Verdict::UnknownAction | Verdict::Invalid(_) | Verdict::Failed(_))
        );
        if lasting && let Some(number) = in_force.settled.number(&settled) {
            self.cache.put(in_force.epoch, key, number);
        }
        Found::Evaluated(settled)
    }

    /// The key that a question is remembered by; `None` when it is to be evaluated
    /// each time: with an approval, when policies read the time, when the schema
    /// might refuse it, or when it does not fit a slot.
    fn key(
        &self,
        (chain, place): (NonZeroU128, Place),
        in_force: &InForce,
        request: &CheckRequest<'_>,
    ) -> Option<CacheKey> {
        if request.approval.is_some() {
            return None;
        }
        let facts = in_force.action(request.action.key())?;
        if facts.reads.time {
            return None;
        }
        let parts = Parts {
            chain,
            action: request.action.key(),
            kind: in_force.kind(&request.resource.kind)?,
            resource: &request.resource.id,
            units: facts.reads.units.then_some(request.units),
            context: &[],
        };
        if request.context.is_empty() {
            let fits = facts.fits_bare(parts.kind, request.units);
            return fits.then(|| self.cache.key(place, &parts)).flatten();
        }
        // The time is not in the key, and whether a question fits does not depend on it.
        if !in_force.policies.plainly_fits(&Question::of(request, 0)) {
            return None;
        }
        let read = |name: &str| facts.reads.names.iter().any(|known| **known == *name);
        let context: Vec<_> = request
            .context
            .iter()
            .filter(|(name, _)| read(name))
            .collect();
        self.cache.key(
            place,
            &Parts {
                context: &context,
                ..parts
            },
        )
    }
}

/// What a decision does with limits and rates, once policies permit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limits {
    Unasked,
    Asked,
    Taken,
}

enum Found {
    /// Remembered under this number.
    Number(u32),
    /// Evaluated now.
    Evaluated(Settled),
}

/// What rights and policies say, without any memory.
fn evaluate(chain: &Chain, in_force: &InForce, question: &Question<'_>) -> Settled {
    match rights(&chain.identity, question) {
        Err(hop) => Settled::OutsideRights(hop),
        Ok(()) => Settled::Policies(in_force.policies.judge(&chain.identity, question)),
    }
}

const fn spend<'a>(request: &CheckRequest<'a>, now: Reading) -> Spend<'a> {
    Spend {
        action: request.action,
        units: request.units,
        now,
    }
}

fn not_live(identity: &AgentIdentity, error: &IdentityError) -> Decision {
    let delegator = |link: &LinkId| {
        let hop = identity.hops.iter().find(|hop| hop.link.id == *link)?;
        Some(hop.link.delegator.as_str())
    };
    let advice = match &error {
        IdentityError::Revoked { link }
        | IdentityError::KeyRevoked { link, .. }
        | IdentityError::Expired { link: Some(link) } => {
            format!(
                "ask {} for a new delegation",
                delegator(link).unwrap_or("its delegator")
            )
        }
        IdentityError::PrincipalRevoked { .. } => {
            "ask the owner for another agent to do it".to_owned()
        }
        IdentityError::Suspended { .. } => "ask the owner to resume it".to_owned(),
        IdentityError::Expired { link: None }
        | IdentityError::Superseded
        | IdentityError::IssuerRetired => "get a new token".to_owned(),
        IdentityError::NotYetValid { .. } => "wait until it is".to_owned(),
        IdentityError::Broken => "authenticate again".to_owned(),
    };
    denied(error.code(), format!("{error}; {advice}"), Vec::new())
}

fn powerless(identity: &AgentIdentity) -> Decision {
    denied(
        deny::NO_DELEGATION,
        format!(
            "agent {} acts under no delegation and has no authority of its own; ask a human for a \
             delegation",
            identity.name
        ),
        Vec::new(),
    )
}

/// Whether every hop's rights cover the question; otherwise the place of the first
/// that does not.
fn rights(identity: &AgentIdentity, question: &Question<'_>) -> Result<(), u8> {
    let outside = identity
        .hops
        .iter()
        .position(|hop| !hop.link.allows(question.action, &question.resource.id));
    match outside {
        None => Ok(()),
        Some(hop) => Err(u8::try_from(hop).unwrap_or(u8::MAX)),
    }
}

fn outside_rights(identity: &AgentIdentity, hop: u8, question: &Question<'_>) -> Decision {
    let (action, resource) = (question.action, &question.resource.id);
    let text = match identity.hops.get(usize::from(hop)) {
        Some(hop) => format!(
            "delegation {} from {} to {} does not cover `{action}` on `{resource}`; ask {} for \
             one that does",
            hop.link.id, hop.link.delegator, hop.link.delegatee, hop.link.delegator
        ),
        None => format!("a delegation does not cover `{action}` on `{resource}`"),
    };
    denied(deny::RIGHT_NOT_DELEGATED, text, Vec::new())
}
