//! One organization with a chain owner -> planner -> bot, and its meter.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use creto_metering::memory::MemoryLedger;
use creto_metering::{LedgerStore, Meter, MeterConfig, PriceBook, RateLimit};
use creto_metering::{QuotaDecision, QuotaRequest};
use creto_nhi::{Budget, BudgetPeriod, DelegationLink, Hop, LinkStatus, Right};
use creto_types::memory::MemoryCommits;
use creto_types::{
    ActionId, Commit, Currency, Evidence, IdSource, ManualClock, Money, OrgId, PrincipalName,
    SeededRandom, SystemIds, Timestamp,
};

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) org: OrgId,
    pub(crate) store: Arc<dyn LedgerStore>,
    pub(crate) commits: Arc<MemoryCommits>,
    pub(crate) meter: Arc<Meter>,
}

pub(crate) fn name(text: &str) -> PrincipalName {
    text.parse().unwrap()
}

pub(crate) fn usd(amount: &str) -> Money {
    format!("{amount} USD").parse().unwrap()
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) const TTL: Duration = Duration::from_secs(60);

pub(crate) fn config(per_second: u32, burst: u32) -> MeterConfig {
    MeterConfig {
        reservation_ttl: TTL,
        rate: RateLimit {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        },
    }
}

pub(crate) fn no_rate() -> MeterConfig {
    config(1_000_000_000, u32::MAX)
}

pub(crate) fn prices() -> PriceBook {
    let prices = [("draft", "0.25"), ("read", "0.001"), ("odd", "0.333333333")];
    PriceBook::new(
        Currency::USD,
        prices.map(|(action, price)| (action.to_owned(), usd(price))),
    )
    .unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(no_rate(), |store| store).await
    }

    pub(crate) async fn with(
        config: MeterConfig,
        wrap: impl FnOnce(Arc<dyn LedgerStore>) -> Arc<dyn LedgerStore>,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(at("2026-03-31T23:00:00Z")));
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds::new(
            Arc::<ManualClock>::clone(&clock),
            Arc::new(SeededRandom::new(42)),
        ));
        let commits = Arc::new(MemoryCommits::new());
        let store = wrap(Arc::new(MemoryLedger::new(Arc::clone(&commits))));
        let meter = Meter::open(
            Arc::clone(&store),
            prices(),
            config,
            Arc::clone(&ids),
            Arc::<ManualClock>::clone(&clock),
        )
        .await
        .unwrap();
        let org = ids.next();
        Self {
            clock,
            ids,
            org,
            store,
            commits,
            meter,
        }
    }

    /// The meter as after a restart.
    pub(crate) async fn reopen(&self) -> Arc<Meter> {
        Meter::open(
            Arc::clone(&self.store),
            prices(),
            no_rate(),
            Arc::clone(&self.ids),
            Arc::<ManualClock>::clone(&self.clock),
        )
        .await
        .unwrap()
    }

    /// A chain from the owner through the names, with their budgets.
    pub(crate) fn chain(&self, links: &[(&str, Option<(&str, BudgetPeriod)>)]) -> Vec<Hop> {
        let mut above = name("owner");
        let mut hops: Vec<Hop> = Vec::new();
        for (delegatee, budget) in links {
            let link = DelegationLink {
                id: self.ids.next(),
                org: self.org,
                delegator: above.clone(),
                delegatee: name(delegatee),
                parent: hops.last().map(|hop| hop.link.id),
                rights: vec![Right::parse("*", "*").unwrap()],
                not_before: at("2026-01-01T00:00:00Z"),
                expires_at: at("2027-01-01T00:00:00Z"),
                max_depth: 3,
                budget: budget.map(|(limit, period)| Budget {
                    limit: usd(limit).into(),
                    period,
                }),
                issued_at: at("2026-01-01T00:00:00Z"),
            };
            above = link.delegatee.clone();
            hops.push(Hop {
                link: Arc::new(link),
                status: Arc::new(LinkStatus::active()),
            });
        }
        hops
    }

    pub(crate) fn next_action(&self) -> ActionId {
        self.ids.next()
    }

    pub(crate) fn ask(&self, hops: &[Hop], action: &str, units: u64) -> (ActionId, QuotaDecision) {
        let id = self.next_action();
        (id, self.ask_as(id, hops, action, units))
    }

    pub(crate) fn ask_as(
        &self,
        action_id: ActionId,
        hops: &[Hop],
        action: &str,
        units: u64,
    ) -> QuotaDecision {
        let agent = hops.last().map(|hop| hop.link.delegatee.clone());
        self.meter.reserve(&QuotaRequest {
            action_id,
            org: self.org,
            agent: &agent.unwrap_or_else(|| name("owner")),
            hops,
            action,
            units,
        })
    }

    /// Reserves and commits.
    pub(crate) async fn reserve(&self, hops: &[Hop], action: &str, units: u64) -> ActionId {
        let (id, decision) = self.ask(hops, action, units);
        assert!(
            matches!(decision, QuotaDecision::Granted { .. }),
            "{decision:?}"
        );
        let commit = self.commit("action.allowed");
        let receipt = self.meter.commit_reservation(self.org, id, commit).await;
        assert_eq!(receipt.unwrap().leaves.len(), 1);
        id
    }

    pub(crate) async fn settle(&self, action: ActionId, units: u64) {
        let draft = self
            .meter
            .draft_settlement(self.org, action, units)
            .unwrap();
        let commit = self.commit("usage.settled");
        self.meter.settle(draft, commit).await.unwrap();
    }

    pub(crate) fn commit(&self, kind: &str) -> Commit {
        Commit::of(Evidence {
            org: self.org,
            kind: kind.to_owned(),
            at: Timestamp::UNIX_EPOCH,
            actor: name("bot"),
            action_id: None,
            body: serde_json::json!({}),
        })
    }

    /// used, reserved, remaining.
    pub(crate) fn balance(&self, meter: &Meter, hop: &Hop) -> [Money; 3] {
        use creto_types::Clock as _;
        let balance = meter.balance(hop, self.clock.now()).unwrap();
        [balance.used, balance.reserved, balance.remaining]
    }
}
