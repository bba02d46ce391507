//! One governed action as a caller sees it: decided, reserved and durable with its
//! evidence, one caller at a time, against one sync of the same disk.

use std::error::Error;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use creto_authz::{Action, Authz, CompiledPolicies, Decision, PolicySources, Quota, ResourceRef};
use creto_metering::{Meter, MeterConfig, PriceBook, RateLimit};
use creto_nhi::test_util::{agent, hop, rights};
use creto_state_sqlite::{Database, SqliteLedger};
use creto_types::{
    Clock, Commit, Evidence, IdSource, Money, OrgId, SystemClock, SystemIds, SystemRandom,
    Timestamp,
};

use crate::report::{Entry, Report};
use crate::sample::Sample;

const NAME: &str = "actions/decide_and_commit";
const ACTIONS: usize = 3_000;

pub(crate) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    if !report.wants(NAME) {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let sync = crate::audit::syncs(directory.path())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let sample = runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let ids: Arc<dyn IdSource> =
            Arc::new(SystemIds::new(Arc::clone(&clock), Arc::new(SystemRandom)));
        let database = Database::open(&directory.path().join("bench.db"))?;
        let currency = "USD".parse()?;
        let rate = NonZeroU32::new(1_000_000).ok_or("not zero")?;
        let meter = Meter::open(
            Arc::new(SqliteLedger::new(database)),
            PriceBook::new(
                currency,
                [("history.read".to_owned(), Money::zero(currency))],
            )?,
            MeterConfig {
                reservation_ttl: Duration::from_secs(600),
                rate: RateLimit::per_second(rate, rate),
                ..MeterConfig::default()
            },
            Arc::clone(&ids),
            Arc::clone(&clock),
        )
        .await?;
        let quota: Arc<dyn Quota> = meter.clone();
        let authz = Authz::new(quota, clock, creto_authz::AuthzConfig::default());
        let org: OrgId = ids.next();
        authz.publish(org, CompiledPolicies::compile(&PolicySources::starter())?);
        let all = rights(&[("*", "*")]);
        let first = hop(org, ids.next(), None, "alice", "bot", all, None);
        let bound = authz.bind(agent(vec![first]));
        let resource = ResourceRef::resource("repo:creto");
        let mut sample = Sample::new();
        for _ in 0..ACTIONS {
            let start = Instant::now();
            let action_id = ids.next();
            let action = Action::named("history.read");
            let decision = authz.check(&bound, &action, &resource, 1);
            let Decision::Allow {
                hold: Some(hold), ..
            } = decision
            else {
                return Err(format!("{decision:?}").into());
            };
            let evidence = Evidence {
                org,
                kind: "action.decided".to_owned(),
                at: Timestamp::UNIX_EPOCH,
                actor: "bot".parse()?,
                action_id: Some(action_id),
                body: serde_json::json!({ "outcome": "allow" }),
            };
            meter
                .commit_reservation(action_id, &action, hold, Commit::of(evidence), || true)
                .await?;
            sample.add(start.elapsed());
        }
        Ok::<Sample, Box<dyn Error>>(sample)
    })?;
    let entry = Entry::latency(NAME, "us", sample.micros());
    report.add(entry.beside("4 KiB fdatasync", sync.micros().median));
    Ok(())
}
