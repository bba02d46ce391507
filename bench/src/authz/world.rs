//! An organization of any number of agents, and policies in any number.

use std::error::Error;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use creto_authz::{Authz, AuthzConfig, Bound, CompiledPolicies, PolicySources, Quota};
use creto_metering::memory::MemoryLedger;
use creto_metering::{Meter, MeterConfig, PriceBook, RateLimit};
use creto_nhi::test_util::{agent as acting_by, authority, hop, rights};
use creto_nhi::{Authority, Budget, BudgetPeriod, Hop, Standing};
use creto_types::memory::MemoryCommits;
use creto_types::{Clock, Currency, IdSource, Money, OrgId, SystemClock, SystemIds, SystemRandom};

/// Agents below one lead, and leads below one human.
const AGENTS: usize = 64;
const LEADS: usize = 16;

/// The actions; each has its price.
const ACTIONS: usize = 8;

/// What the agents of one lead have above them, and share: the hops of planner and
/// lead, and the standings of human, planner and lead.
struct Above {
    hops: [Hop; 2],
    standing: Arc<[Arc<Standing>]>,
}

/// The delegation of an agent and its standing.
pub(crate) struct Delegated {
    hop: Hop,
    standing: Arc<Standing>,
    lead: usize,
}

pub(crate) struct World {
    pub(crate) authz: Authz,
    pub(crate) meter: Arc<Meter>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) org: OrgId,
    ids: Arc<dyn IdSource>,
    currency: Currency,
    /// One for the organization, as everywhere.
    authority: Arc<Authority>,
    leads: std::cell::RefCell<std::collections::HashMap<usize, Above>>,
}

impl World {
    /// With room for so many hot questions.
    pub(crate) fn new(hot: usize) -> Result<Self, Box<dyn Error>> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let ids: Arc<dyn IdSource> =
            Arc::new(SystemIds::new(Arc::clone(&clock), Arc::new(SystemRandom)));
        let org = ids.next();
        let currency = "USD".parse()?;
        let rate = NonZeroU32::new(1_000_000_000).ok_or("not zero")?;
        let price = Money::new("0.000000001".parse()?, currency);
        let meter = tokio::runtime::Runtime::new()?.block_on(Meter::open(
            Arc::new(MemoryLedger::new(Arc::new(MemoryCommits::new()))),
            PriceBook::new(
                currency,
                (0..ACTIONS).map(|number| (format!("act.{number}"), price)),
            )?,
            MeterConfig {
                reservation_ttl: Duration::from_secs(60),
                rate: RateLimit::per_second(rate, rate),
                ..MeterConfig::default()
            },
            Arc::clone(&ids),
            Arc::clone(&clock),
        ))?;
        let quota: Arc<dyn Quota> = Arc::<Meter>::clone(&meter);
        let config = AuthzConfig {
            remembered: (4 * hot).max(AuthzConfig::default().remembered),
        };
        Ok(Self {
            authz: Authz::new(quota, Arc::clone(&clock), config),
            meter,
            clock,
            org,
            ids,
            currency,
            authority: authority(org),
            leads: std::cell::RefCell::default(),
        })
    }

    /// The same, with so many policies in force.
    pub(crate) fn with_policies(hot: usize, count: usize) -> Result<Self, Box<dyn Error>> {
        Self::with(hot, &policies(count))
    }

    /// The same, with these in force.
    pub(crate) fn with(hot: usize, policies: &PolicySources) -> Result<Self, Box<dyn Error>> {
        let world = Self::new(hot)?;
        let compiled = CompiledPolicies::compile(policies)?;
        world.authz.publish(world.org, compiled);
        Ok(world)
    }

    fn budget(&self) -> Option<Budget> {
        Some(Budget {
            limit: Money::new("1000000".parse().ok()?, self.currency).into(),
            period: BudgetPeriod::Day,
        })
    }

    /// The agent of this number: human, planner, lead, agent.
    pub(crate) fn agent(&self, number: usize) -> Bound {
        self.bind(self.delegate(number))
    }

    /// What a registry keeps of the agent of this number, bound or not.
    pub(crate) fn delegate(&self, number: usize) -> Delegated {
        let all = || rights(&[("*", "*")]);
        let lead = number / AGENTS;
        let human = format!("human-{}", lead / LEADS);
        let (planner_name, lead_name) = (format!("planner-{lead}"), format!("lead-{lead}"));
        let mut leads = self.leads.borrow_mut();
        let above = leads.entry(lead).or_insert_with(|| {
            let id = self.ids.next();
            let planner = hop(
                self.org,
                id,
                None,
                &human,
                &planner_name,
                all(),
                self.budget(),
            );
            let id = self.ids.next();
            let lead = hop(
                self.org,
                id,
                Some(&planner),
                &planner_name,
                &lead_name,
                all(),
                self.budget(),
            );
            let hops = [planner, lead];
            Above {
                standing: Standing::all_good(&hops[1].link.delegatee, &hops),
                hops,
            }
        });
        let [_, lead] = &above.hops;
        let third = hop(
            self.org,
            self.ids.next(),
            Some(lead),
            &lead.link.delegatee.to_string(),
            &format!("agent-{number}"),
            all(),
            self.budget(),
        );
        let standing = Arc::new(Standing::good(third.link.delegatee.clone()));
        Delegated {
            hop: third,
            standing,
            lead: number / AGENTS,
        }
    }

    /// The handle of an agent that was delegated to.
    pub(crate) fn bind(&self, agent: Delegated) -> Bound {
        let leads = self.leads.borrow();
        let above = leads.get(&agent.lead).expect("was made with the agent");
        let hops = above.hops.iter().cloned().chain([agent.hop]).collect();
        let mut identity = Arc::unwrap_or_clone(acting_by(hops));
        identity.authority = Arc::clone(&self.authority);
        let standing = above.standing.iter().cloned().chain([agent.standing]);
        identity.standing = standing.collect();
        self.authz.bind(Arc::new(identity))
    }
}

/// So many policies over the actions. The first of each action permits it to
/// everyone under a condition; the others name one principal and one resource.
pub(crate) fn policies(count: usize) -> PolicySources {
    let mut text = String::new();
    for number in 0..count.min(ACTIONS) {
        text.push_str(&format!(
            "permit (principal, action == Creto::Action::\"act.{number}\", resource) \
             when {{ context.units <= 100 && !(resource.id like \"secret:*\") }};\n"
        ));
    }
    for number in ACTIONS..count {
        let action = number % ACTIONS;
        let effect = if number % 3 == 0 { "forbid" } else { "permit" };
        text.push_str(&format!(
            "{effect} (principal == Creto::Agent::\"other-{number}\", \
             action == Creto::Action::\"act.{action}\", \
             resource == Creto::Resource::\"other:{}\") when {{ principal.depth < 4 }};\n",
            number / 2
        ));
    }
    let actions: Vec<String> = (0..ACTIONS)
        .map(|number| format!("\"act.{number}\""))
        .collect();
    let schema = format!(
        "namespace Creto {{ action {} appliesTo {{ principal: [Human, Agent], \
         resource: [Resource], context: Request }}; }}",
        actions.join(", ")
    );
    let mut sources = PolicySources::starter();
    sources
        .schema
        .push(("bench.cedarschema".to_owned(), schema));
    sources.policies = vec![("bench.cedar".to_owned(), text)];
    sources
}

/// The same with one more policy for each action, whose condition looks at every
/// principal of the chain.
pub(crate) fn with_attributes(mut sources: PolicySources) -> PolicySources {
    let mut text = String::new();
    for number in 0..ACTIONS {
        text.push_str(&format!(
            "forbid (principal is Creto::Agent, action == Creto::Action::\"act.{number}\", \
             resource) when {{ principal.depth > 3 }};\n"
        ));
    }
    sources.policies.push(("attributes.cedar".to_owned(), text));
    sources
}
