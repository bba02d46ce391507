//! One organization with a chain owner -> planner -> bot and a recorded quota.

use std::sync::Arc;
use std::time::Duration;

use creto_authz::{
    Approval, Authz, Bound, CheckRequest, CompiledPolicies, ContextValue, Decision, PolicyId,
    PolicySources, Quota, QuotaDecision, QuotaRequest, ResourceRef,
};
use creto_nhi::{AgentIdentity, DelegationLink, Hop, LinkStatus, PrincipalType, Right};
use creto_types::{
    ActionId, IdSource, ManualClock, Money, OrgId, PrincipalName, SeededRandom, SystemIds,
    Timestamp,
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

/// Action, organization, agent, units and number of hops.
pub(crate) type Asked = (ActionId, OrgId, String, u64, usize);

/// Answers what it is told to and remembers what it was asked.
pub(crate) struct Recorder {
    pub(crate) answer: Mutex<QuotaDecision>,
    pub(crate) asked: Mutex<Vec<Asked>>,
}

impl Quota for Recorder {
    fn reserve(&self, request: &QuotaRequest<'_>) -> QuotaDecision {
        self.asked.lock().push((
            request.action_id,
            request.org,
            request.agent.to_string(),
            request.units,
            request.hops.len(),
        ));
        self.answer.lock().clone()
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
        let clock = Arc::new(ManualClock::new(at("2026-05-01T00:00:00Z")));
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds::new(
            Arc::<ManualClock>::clone(&clock),
            Arc::new(SeededRandom::new(3)),
        ));
        let quota = Arc::new(Recorder {
            answer: Mutex::new(QuotaDecision::Granted { cost: usd("0.25") }),
            asked: Mutex::default(),
        });
        let org = ids.next();
        Self {
            authz: Authz::new(
                Arc::<Recorder>::clone(&quota),
                Arc::<ManualClock>::clone(&clock),
            ),
            quota,
            clock,
            ids,
            org,
        }
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
            }),
            status: Arc::new(LinkStatus::active()),
        }
    }

    pub(crate) fn identity(&self, who: &str, kind: PrincipalType, hops: Vec<Hop>) -> AgentIdentity {
        AgentIdentity {
            org: self.org,
            name: name(who),
            kind,
            spiffe_id: format!("spiffe://creto.test/org/{}/{kind}/{who}", self.org),
            hops,
            token_id: None,
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
        let approval = approved.map(|id| Approval {
            policy_id: PolicyId::from(id),
        });
        let resource = ResourceRef::resource(resource);
        let request = CheckRequest {
            action_id: Some(self.ids.next()),
            approval: approval.as_ref(),
            ..question(action, &resource, &[])
        };
        self.authz.check(&self.bind(identity), &request)
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
        let request = question("network_egress", &resource, &context);
        self.authz.check(&self.bind(identity), &request)
    }

    pub(crate) fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// A pure question about one unit.
pub(crate) fn question<'a>(
    action: &'a str,
    resource: &'a ResourceRef,
    context: &'a [(&'a str, ContextValue<'a>)],
) -> CheckRequest<'a> {
    CheckRequest {
        action_id: None,
        action,
        resource,
        units: 1,
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
