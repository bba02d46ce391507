//! One organization with a chain owner -> planner -> bot and a recorded quota.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use creto_authz::{
    Account, Action, Approval, Authz, AuthzConfig, Bound, CheckRequest, CompiledPolicies,
    ContextValue, Decision, Hold, HoldData, Holder, PolicyId, PolicySources, Quota, Refusal,
    ResourceRef, Spend,
};
use creto_nhi::{
    AgentIdentity, DelegationLink, Hop, KeyVersion, LinkStatus, PrincipalType, Right, Standing,
    TokenEnds,
};
use creto_types::{
    IdSource, ManualClock, Money, OrgId, PrincipalName, SeededRandom, SystemIds, Timestamp,
};
use parking_lot::Mutex;

pub(crate) fn name(text: &str) -> PrincipalName {
    text.parse().unwrap()
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn usd(amount: &str) -> Money {
    format!("{amount} USD").parse().unwrap()
}

/// Organization, agent, units and number of hops.
pub(crate) type Asked = (OrgId, String, u64, usize);

/// Answers what it is told to and remembers what it was asked.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) refuse: Mutex<Option<Refusal>>,
    pub(crate) asked: Mutex<Vec<Asked>>,
    pub(crate) given_back: AtomicU64,
    /// What happens while it is asked, once.
    pub(crate) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Recorder {
    fn takes_a_while(&self) {
        if let Some(meanwhile) = self.meanwhile.lock().take() {
            meanwhile();
        }
    }
}

struct Chain {
    recorder: Arc<Recorder>,
    org: OrgId,
    agent: String,
    hops: usize,
}

/// The quota that writes into a recorder.
struct Recording(Arc<Recorder>);

impl Quota for Recording {
    fn account(&self, identity: &Arc<AgentIdentity>) -> Arc<dyn Account> {
        Arc::new(Chain {
            recorder: Arc::clone(&self.0),
            org: identity.org,
            agent: identity.name.to_string(),
            hops: identity.hops.len(),
        })
    }
}

impl Account for Chain {
    fn fits(&self, _: &Spend<'_>, holds: &dyn Fn() -> bool) -> Result<(), Refusal> {
        self.recorder.takes_a_while();
        if !holds() {
            return Err(Refusal::Outdated);
        }
        match self.recorder.refuse.lock().clone() {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    fn again(self: Arc<Self>) -> Arc<dyn Account> {
        self
    }

    fn reserve_if(
        self: Arc<Self>,
        spend: &Spend<'_>,
        permitted: &mut dyn FnMut() -> bool,
    ) -> Option<Hold> {
        self.recorder.takes_a_while();
        let fits = self.recorder.refuse.lock().is_none();
        let reserves = fits && permitted();
        reserves.then(|| self.reserve(spend, &|| true).unwrap())
    }

    fn reserve(
        self: Arc<Self>,
        spend: &Spend<'_>,
        holds: &dyn Fn() -> bool,
    ) -> Result<Hold, Refusal> {
        let recorder = &self.recorder;
        recorder.takes_a_while();
        if !holds() {
            return Err(Refusal::Outdated);
        }
        recorder
            .asked
            .lock()
            .push((self.org, self.agent.clone(), spend.units, self.hops));
        if let Some(refusal) = recorder.refuse.lock().clone() {
            return Err(refusal);
        }
        Ok(Hold::new(
            Arc::new(Reserved(Arc::clone(recorder))),
            HoldData {
                asked_at: spend.now.wall_ns,
                at: spend.now.wall_ns,
                units: spend.units,
                action: spend.action.key(),
                amount: 250_000_000,
                over: false,
            },
        ))
    }
}

struct Reserved(Arc<Recorder>);

impl Holder for Reserved {
    fn give_back(&self, _: &HoldData) {
        self.0.given_back.fetch_add(1, Ordering::SeqCst);
    }

    fn cost(&self, _: &HoldData) -> Option<Money> {
        Some(usd("0.25"))
    }
}

pub(crate) struct World {
    pub(crate) authz: Authz,
    pub(crate) quota: Arc<Recorder>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) org: OrgId,
}

pub(crate) const EXPIRES: &str = "2026-06-01T00:00:00Z";

impl World {
    /// With no policies in force.
    pub(crate) fn empty() -> Self {
        Self::remembering(AuthzConfig::default())
    }

    pub(crate) fn remembering(config: AuthzConfig) -> Self {
        let clock = Arc::new(ManualClock::new(at("2026-05-01T00:00:00Z")));
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds::new(
            Arc::<ManualClock>::clone(&clock),
            Arc::new(SeededRandom::new(3)),
        ));
        let quota = Arc::new(Recorder::default());
        let org = ids.next();
        Self {
            authz: Authz::new(
                Arc::new(Recording(Arc::clone(&quota))),
                Arc::<ManualClock>::clone(&clock),
                config,
            ),
            quota,
            clock,
            ids,
            org,
        }
    }

    /// The quota that everything reserves with.
    pub(crate) fn recording(&self) -> Arc<dyn Quota> {
        Arc::new(Recording(Arc::clone(&self.quota)))
    }

    /// With the starter set.
    pub(crate) fn starter() -> Self {
        let world = Self::empty();
        let policies = CompiledPolicies::compile(&PolicySources::starter()).unwrap();
        world.authz.publish(world.org, policies);
        world
    }

    /// With the starter schema and these policies.
    pub(crate) fn with(policies: &str) -> Self {
        let world = Self::empty();
        world.publish(world.org, policies);
        world
    }

    pub(crate) fn publish(&self, org: OrgId, policies: &str) {
        let compiled = CompiledPolicies::compile(&sources(policies));
        self.authz.publish(org, compiled.unwrap());
    }

    pub(crate) fn hop(
        &self,
        above: Option<&Hop>,
        delegator: &str,
        delegatee: &str,
        rights: &[(&str, &str)],
    ) -> Hop {
        let right = |(action, resource): &(&str, &str)| Right::parse(action, resource).unwrap();
        Hop {
            link: Arc::new(DelegationLink {
                id: self.ids.next(),
                org: self.org,
                delegator: name(delegator),
                delegatee: name(delegatee),
                parent: above.map(|hop| hop.link.id),
                rights: rights.iter().map(right).collect(),
                not_before: at("2026-04-01T00:00:00Z"),
                expires_at: at(EXPIRES),
                max_depth: 3,
                budget: None,
                issued_at: at("2026-04-01T00:00:00Z"),
                key_version: KeyVersion::FIRST,
            }),
            status: Arc::new(LinkStatus::active()),
        }
    }

    pub(crate) fn identity(&self, who: &str, kind: PrincipalType, hops: Vec<Hop>) -> AgentIdentity {
        AgentIdentity {
            org: self.org,
            name: name(who),
            kind,
            standing: Standing::all_good(&name(who), &hops),
            authority: creto_nhi::test_util::authority(self.org),
            hops,
            narrowed: None,
            token_id: None,
            ends: TokenEnds::default(),
            expires_at: at(EXPIRES),
        }
    }

    /// bot, below planner, below the owner, with every right.
    pub(crate) fn bot(&self) -> AgentIdentity {
        let planner = self.hop(None, "owner", "planner", &[("*", "*")]);
        let bot = self.hop(Some(&planner), "planner", "bot", &[("*", "*")]);
        self.identity("bot", PrincipalType::Agent, vec![planner, bot])
    }

    pub(crate) fn owner(&self) -> AgentIdentity {
        self.identity("owner", PrincipalType::Human, Vec::new())
    }

    pub(crate) fn bind(&self, identity: AgentIdentity) -> Bound {
        self.authz.bind(Arc::new(identity))
    }

    pub(crate) fn ask(&self, identity: AgentIdentity, action: &str, resource: &str) -> Decision {
        self.ask_with(identity, action, resource, None)
    }

    pub(crate) fn ask_with(
        &self,
        identity: AgentIdentity,
        action: &str,
        resource: &str,
        approved: Option<&str>,
    ) -> Decision {
        let approval = approved.map(|id| Approval::Supposed {
            policies: PolicyId::from(id),
            oversight: None,
        });
        self.ask_by(identity, action, resource, approval.as_ref())
    }

    pub(crate) fn ask_by(
        &self,
        identity: AgentIdentity,
        action: &str,
        resource: &str,
        approval: Option<&Approval>,
    ) -> Decision {
        let resource = ResourceRef::resource(resource);
        let action = Action::named(action);
        let request = CheckRequest {
            reserve: true,
            approval,
            ..question(&action, &resource, &[])
        };
        self.authz.ask(&self.bind(identity), &request)
    }

    pub(crate) fn connect(
        &self,
        identity: AgentIdentity,
        host: &str,
        port: i64,
        protocol: &str,
    ) -> Decision {
        let resource = ResourceRef::host(host);
        let context = [
            ("port", ContextValue::Long(port)),
            ("protocol", ContextValue::Text(protocol)),
        ];
        let action = Action::named("network_egress");
        let request = question(&action, &resource, &context);
        self.authz.ask(&self.bind(identity), &request)
    }

    pub(crate) fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// A pure question about one unit.
pub(crate) fn question<'a>(
    action: &'a Action,
    resource: &'a ResourceRef,
    context: &'a [(&'a str, ContextValue<'a>)],
) -> CheckRequest<'a> {
    CheckRequest {
        action,
        resource,
        units: 1,
        reserve: false,
        context,
        approval: None,
    }
}

pub(crate) fn sources(policies: &str) -> PolicySources {
    PolicySources {
        policies: vec![("test.cedar".to_owned(), policies.to_owned())],
        ..PolicySources::starter()
    }
}

pub(crate) fn ids(policies: &[PolicyId]) -> Vec<&str> {
    policies.iter().map(PolicyId::as_str).collect()
}

/// The code and text of a denial.
pub(crate) fn denial(decision: Decision) -> (&'static str, String, Vec<String>) {
    match decision {
        Decision::Deny { reason, policies } => {
            let policies = policies.iter().map(ToString::to_string).collect();
            (reason.code, reason.text, policies)
        }
        other => panic!("expected a denial, got {other:?}"),
    }
}

pub(crate) fn code(decision: Decision) -> &'static str {
    denial(decision).0
}
