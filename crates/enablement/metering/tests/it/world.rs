//! One organization with a chain owner -> planner -> bot, and its meter.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use creto_authz::{
    Account, Action, ActionKey, Authz, CompiledPolicies, Hold, PolicySources, Quota, Refusal, Spend,
};
use creto_metering::memory::MemoryLedger;
use creto_metering::{
    LedgerStore, Limit, LimitId, Meter, MeterConfig, MeteringError, OnExceed, PriceBook, RateLimit,
    Scope, Window,
};
use creto_nhi::test_util::{agent, hop, human, rights};
use creto_nhi::{Budget, BudgetPeriod, Hop};
use creto_types::memory::MemoryCommits;
use creto_types::{
    ActionId, Clock as _, Commit, Currency, Evidence, IdSource, ManualClock, Money, OrgId,
    PrincipalName, Quantity, SeededRandom, SystemIds, Timestamp,
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
        rate: RateLimit::per_second(
            NonZeroU32::new(per_second).unwrap(),
            NonZeroU32::new(burst).unwrap(),
        ),
        ..MeterConfig::default()
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
        declare(org, Arc::<Meter>::clone(&meter), Arc::clone(&clock));
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
        let mut hops: Vec<Hop> = Vec::new();
        for (delegatee, budget) in links {
            let above = hops.last().cloned();
            hops.push(self.below(above.as_ref(), delegatee, *budget));
        }
        hops
    }

    /// One link below another.
    pub(crate) fn below(
        &self,
        above: Option<&Hop>,
        delegatee: &str,
        budget: Option<(&str, BudgetPeriod)>,
    ) -> Hop {
        let delegator = above.map_or("owner", |hop| hop.link.delegatee.as_str());
        let budget = budget.map(|(limit, period)| Budget {
            limit: quantity(limit),
            period,
        });
        let all = rights(&[("*", "*")]);
        hop(
            self.org,
            self.ids.next(),
            above,
            delegator,
            delegatee,
            all,
            budget,
        )
    }

    pub(crate) fn next_action(&self) -> ActionId {
        self.ids.next()
    }

    pub(crate) fn account(&self, hops: &[Hop]) -> Arc<dyn Account> {
        self.account_of(&self.meter, hops)
    }

    fn account_of(&self, meter: &Meter, hops: &[Hop]) -> Arc<dyn Account> {
        let identity = if hops.is_empty() {
            human(self.org, "owner")
        } else {
            agent(hops.to_vec())
        };
        meter.account(&identity)
    }

    /// Reserves, in memory alone.
    pub(crate) fn ask(&self, hops: &[Hop], action: &str, units: u64) -> Result<Hold, Refusal> {
        self.ask_of(&self.meter, hops, action, units)
    }

    /// The same of another meter.
    pub(crate) fn ask_of(
        &self,
        meter: &Meter,
        hops: &[Hop],
        action: &str,
        units: u64,
    ) -> Result<Hold, Refusal> {
        self.account_of(meter, hops).reserve(
            &Spend {
                action: &Action::named(action),
                units,
                now: self.clock.reading(),
            },
            &|| true,
        )
    }

    pub(crate) async fn keep(&self, action: &str, hold: Hold) -> Result<ActionId, MeteringError> {
        let id = self.next_action();
        let commit = self.commit("action.allowed");
        let action = Action::named(action);
        let receipt = self
            .meter
            .commit_reservation(id, &action, hold, commit, || true);
        assert_eq!(receipt.await?.leaves.len(), 1);
        Ok(id)
    }

    /// Reserves and commits.
    pub(crate) async fn reserve(&self, hops: &[Hop], action: &str, units: u64) -> ActionId {
        let hold = self.ask(hops, action, units).unwrap();
        self.keep(action, hold).await.unwrap()
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
        let balance = meter.balance(hop, self.clock.now()).unwrap();
        [balance.used, balance.reserved, balance.remaining].map(|left| left.money().unwrap())
    }

    /// A daily limit of UTC that blocks; tests change what they are about.
    pub(crate) fn limit(&self, scope: Scope, most: &str) -> Limit {
        Limit {
            id: self.ids.next(),
            org: self.org,
            scope,
            event: None,
            limit: quantity(most),
            window: Window::Daily,
            time_zone: "UTC".to_owned(),
            on_exceed: OnExceed::Block,
            grace: None,
            thresholds: vec![80, 100],
            set_at: self.clock.now(),
            set_by: name("owner"),
        }
    }

    pub(crate) async fn set(&self, limit: Limit) -> LimitId {
        let drafted = self.meter.draft_limit(limit).unwrap();
        let id = drafted.id;
        let set = self.meter.set_limit(drafted, self.commit("limit.set"));
        set.await.unwrap();
        id
    }

    /// used, reserved, remaining of a limit that was set, as text.
    pub(crate) fn left(&self, meter: &Meter, id: LimitId) -> [String; 3] {
        let views = meter.limits(self.org, None, usize::MAX);
        let view = views.iter().find(|view| view.limit.id == id).unwrap();
        let balance = &view.balance;
        [balance.used, balance.reserved, balance.remaining].map(|left| left.to_string())
    }
}

/// `0.5` is USD; anything with a unit is that.
pub(crate) fn quantity(text: &str) -> Quantity {
    if text.contains(' ') {
        return text.parse().unwrap();
    }
    usd(text).into()
}

/// Gives the actions of these tests the numbers they have where a schema declares
/// them; `unheard` has none.
fn declare(org: OrgId, quota: Arc<dyn Quota>, clock: Arc<ManualClock>) {
    let mut sources = PolicySources::starter();
    let schema = r#"namespace Creto {
        action "draft", "read", "odd", "history", "free" appliesTo {
            principal: [Human, Agent],
            resource: [Resource],
            context: Request,
        };
    }"#;
    sources
        .schema
        .push(("tests.cedarschema".to_owned(), schema.to_owned()));
    let policies = CompiledPolicies::compile(&sources).unwrap();
    Authz::new(quota, clock, creto_authz::AuthzConfig::default()).publish(org, policies);
    assert_ne!(Action::named("draft").key(), ActionKey::UNKNOWN);
}
