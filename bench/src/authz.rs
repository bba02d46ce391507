//! The decision: a chain of three, quota on each hop, against one bare evaluation
//! of the same policies by Cedar.

use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use cedar_policy::{Authorizer, Context, Entities, EntityUid, PolicySet, Request};
use creto_authz::{Action, Authz, CompiledPolicies, Decision, PolicySources, Quota, ResourceRef};
use creto_metering::memory::MemoryLedger;
use creto_metering::{Meter, MeterConfig, PriceBook, RateLimit};
use creto_nhi::test_util::{agent, hop, rights};
use creto_nhi::{Budget, BudgetPeriod};
use creto_types::memory::MemoryCommits;
use creto_types::{Clock, IdSource, Money, SystemClock, SystemIds, SystemRandom};

use crate::report::{Peer, Report};
use crate::sample::Sample;

const BUDGET: Duration = Duration::from_secs(3);

pub(crate) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let ids: Arc<dyn IdSource> =
        Arc::new(SystemIds::new(Arc::clone(&clock), Arc::new(SystemRandom)));
    let currency = "USD".parse()?;
    let rate = NonZeroU32::new(1_000_000).ok_or("not zero")?;
    let meter = tokio::runtime::Runtime::new()?.block_on(Meter::open(
        Arc::new(MemoryLedger::new(Arc::new(MemoryCommits::new()))),
        PriceBook::new(
            currency,
            [("history.read".to_owned(), Money::zero(currency))],
        )?,
        MeterConfig {
            reservation_ttl: Duration::from_secs(60),
            rate: RateLimit {
                per_second: rate,
                burst: rate,
            },
        },
        Arc::clone(&ids),
        Arc::clone(&clock),
    ))?;
    let quota: Arc<dyn Quota> = meter;
    let authz = Authz::new(quota, clock);
    let org = ids.next();
    let sources = PolicySources::starter();
    authz.publish(org, CompiledPolicies::compile(&sources)?);
    let budget = Some(Budget {
        limit: Money::new("1000000".parse()?, currency).into(),
        period: BudgetPeriod::Total,
    });
    let all = || rights(&[("*", "*")]);
    let first = hop(org, ids.next(), None, "alice", "planner", all(), budget);
    let second = hop(
        org,
        ids.next(),
        Some(&first),
        "planner",
        "lead",
        all(),
        budget,
    );
    let third = hop(org, ids.next(), Some(&second), "lead", "bot", all(), budget);
    let bound = authz.bind(agent(vec![first, second, third]));
    let resource = ResourceRef::resource("repo:creto");

    let action = Action::named("history.read");
    let check = Sample::time(BUDGET, 1, || {
        let decision = authz.check(&bound, &action, &resource, 1);
        assert!(matches!(decision, Decision::Allow { .. }), "{decision:?}");
    });

    let mut text = String::new();
    for (_, policies) in &sources.policies {
        text.push_str(policies);
    }
    let policies = PolicySet::from_str(&text)?;
    let entities = Entities::from_json_value(
        serde_json::json!([
            {"uid": {"type": "Creto::Agent", "id": "bot"}, "attrs": {}, "parents": []},
            {"uid": {"type": "Creto::Resource", "id": "repo:creto"},
             "attrs": {"name": "repo:creto"}, "parents": []},
        ]),
        None,
    )?;
    let authorizer = Authorizer::new();
    let cedar = Sample::time(BUDGET, 1, || {
        let request = Request::new(
            uid("Creto::Agent::\"bot\""),
            uid("Creto::Action::\"history.read\""),
            uid("Creto::Resource::\"repo:creto\""),
            Context::from_json_value(serde_json::json!({"oversight": {"approved": false}}), None)
                .expect("a context"),
            None,
        )
        .expect("a request");
        black_box(authorizer.is_authorized(&request, &policies, &entities));
    });
    report.latency(
        "authz/check/chain3",
        "ns",
        check.nanos(),
        Peer {
            name: "cedar-policy, one principal",
            value: cedar.nanos().median,
        },
    );
    Ok(())
}

fn uid(text: &str) -> EntityUid {
    text.parse().expect("a literal is an entity uid")
}
