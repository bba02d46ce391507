//! An organization with an owner, a planner and a release bot, as in the demo.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use creto_audit::memory::{MemoryJournal, MemoryTiles};
use creto_audit::{Audit, AuditConfig, AuditError, LogKeySource, LogKeys};
use creto_authz::{Authz, Quota};
use creto_consensus::memory::{MemoryOrder, MemoryWindow};
use creto_consensus::{LocalOracle, OracleConfig, Sequencer, TimestampOracle};
use creto_governor::memory::{MemoryAlgorithms, MemoryGovernor};
use creto_governor::{
    ActionRequest, Bindings, BudgetRequest, Caller, CheckedBundle, CommitStore, DelegateRequest,
    Governor, GovernorConfig, OrganizationCreated, Parts, PolicyFiles, PolicyShadow, PolicyStore,
    PrincipalRequest, RecordChecker, RightAnswer, TokenRequest,
};
use creto_metering::memory::MemoryLedger;
use creto_metering::{LedgerStore, Meter, MeterConfig, PriceBook, RateLimit};
use creto_nhi::memory::MemoryNhiStore;
use creto_nhi::{IssuedTokens, KeyPurpose, Nhi, NhiStore};
use creto_oversight::memory::MemoryOversightStore;
use creto_oversight::{Oversight, OversightConfig};
use creto_runtime::{
    ExitReason, ExitReport, Limits, RunningSandbox, RuntimeError, SandboxId, SandboxRuntime,
    SandboxSpec,
};
use creto_telemetry::Metrics;
use creto_types::memory::MemoryCommits;
use creto_types::{
    Clock, Commit, Evidence, IdSource, LeafIndex, ManualClock, Money, OrgId, SeededRandom,
    Timestamp,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

pub(crate) struct World {
    pub(crate) governor: Arc<Governor>,
    pub(crate) nhi: Arc<Nhi>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) commits: Arc<MemoryCommits>,
    pub(crate) owner: Caller,
    pub(crate) planner: Caller,
    pub(crate) bot: Caller,
    pub(crate) planner_link: String,
    pub(crate) bot_link: String,
    pub(crate) authz: Arc<Authz>,
    pub(crate) runtime: Arc<ScriptedRuntime>,
    metrics: Arc<Metrics>,
    pub(crate) algorithms: Arc<MemoryAlgorithms>,
    pub(crate) stores: Stores,
    assemble: Box<dyn Fn(Stores) -> Arc<Governor> + Send + Sync>,
}

/// The stores that a test may put something in front of.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) policies: Arc<dyn PolicyStore>,
    pub(crate) commits: Arc<dyn CommitStore>,
    pub(crate) sequencer: Arc<dyn Sequencer>,
    pub(crate) egress_counted: bool,
    shadow: Arc<PolicyShadow>,
}

struct Keys(Arc<Nhi>);

impl LogKeySource for Keys {
    fn keys(&self, org: OrgId) -> Result<LogKeys, AuditError> {
        let signer = |purpose| self.0.signer(org, purpose).expect("the organization's key");
        Ok(LogKeys {
            ed25519: signer(KeyPurpose::LogEd25519),
            composite: signer(KeyPurpose::LogComposite),
            evidence: signer(KeyPurpose::Evidence),
            former: None,
        })
    }
}

pub(crate) fn usd(amount: &str) -> Money {
    Money::new(
        amount.parse().expect("a decimal"),
        "USD".parse().expect("a currency"),
    )
}

pub(crate) fn right(action: &str, resource: &str) -> RightAnswer {
    RightAnswer {
        action: action.to_owned(),
        resource: resource.to_owned(),
    }
}

pub(crate) fn action(name: &str) -> ActionRequest {
    ActionRequest {
        action: name.to_owned(),
        resource: "repo:creto".into(),
        context: std::collections::BTreeMap::new(),
        args: json!({ "version": "1.0.0" }),
        units: 1,
        grant: None,
    }
}

pub(crate) fn delegate(to: &str, budget: &str, at: Timestamp) -> DelegateRequest {
    DelegateRequest {
        delegatee: to.parse().expect("a name"),
        parent: None,
        rights: vec![
            right("history.read", "repo:*"),
            right("changelog.draft", "repo:*"),
            right("release.publish", "repo:*"),
            right("network_egress", "releases.example.test"),
        ],
        not_before: None,
        expires_at: at,
        max_depth: None,
        budget: Some(BudgetRequest {
            limit: usd(budget).into(),
            period: "total".to_owned(),
        }),
    }
}

impl World {
    /// A hundred calls a second, by a clock that stands still.
    pub(crate) async fn new() -> Self {
        Self::paced(100).await
    }

    /// So many calls a second, and as many at once.
    pub(crate) async fn paced(calls: u32) -> Self {
        Self::over(calls, |store| store, |ledger| ledger).await
    }

    /// The same over other stores of identities and of the ledger.
    pub(crate) async fn over(
        calls: u32,
        store: impl FnOnce(Arc<dyn NhiStore>) -> Arc<dyn NhiStore>,
        ledger: impl FnOnce(Arc<dyn LedgerStore>) -> Arc<dyn LedgerStore>,
    ) -> Self {
        let calls = NonZeroU32::new(calls).expect("not zero");
        let config = MeterConfig {
            reservation_ttl: Duration::from_secs(60),
            rate: RateLimit::per_second(calls, calls),
            ..MeterConfig::default()
        };
        Self::made(config, store, ledger).await
    }

    /// With a meter that behaves like this.
    pub(crate) async fn metered(config: MeterConfig) -> Self {
        Self::made(config, |store| store, |ledger| ledger).await
    }

    async fn made(
        config: MeterConfig,
        store: impl FnOnce(Arc<dyn NhiStore>) -> Arc<dyn NhiStore>,
        ledger: impl FnOnce(Arc<dyn LedgerStore>) -> Arc<dyn LedgerStore>,
    ) -> Self {
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().expect("an instant");
        let clock = Arc::new(ManualClock::new(start));
        let commits = Arc::new(MemoryCommits::new());
        let store = store(Arc::new(MemoryNhiStore::with_commits(Arc::clone(&commits))));
        let ids: Arc<dyn IdSource> = Arc::new(creto_types::SystemIds::new(
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(SeededRandom::new(3)),
        ));
        let random = Arc::new(SeededRandom::new(4));
        let provider = Arc::new(creto_crypto::AwsLcProvider::new(random.clone()));
        let root = creto_crypto::RootKey::from_hex(&"7".repeat(64)).expect("a key");
        let nhi = Nhi::open(
            store,
            provider.clone(),
            Arc::new(creto_crypto::LocalKeystore::new(root, provider)),
            Arc::clone(&ids),
            clock.clone(),
            creto_nhi::NhiConfig::new("creto.test"),
        )
        .await
        .expect("identities open");
        let (_, owner) = found(&nhi, start).await;
        let oracle: Arc<dyn TimestampOracle> = Arc::new(
            LocalOracle::open(
                Arc::new(MemoryWindow::new()),
                clock.clone(),
                OracleConfig::default(),
            )
            .await
            .expect("the oracle opens"),
        );
        let audit = Audit::open(
            Arc::new(MemoryJournal::new()),
            Arc::new(MemoryTiles::new()),
            Arc::new(Keys(Arc::clone(&nhi))),
            clock.clone(),
            AuditConfig {
                origin_prefix: "creto.test/log".to_owned(),
                batch_size: 10,
                flush_interval: Duration::from_millis(5),
            },
        )
        .await
        .expect("the log opens");
        let prices = [
            ("history.read".to_owned(), usd("0.01")),
            ("changelog.draft".to_owned(), usd("0.30")),
            ("release.publish".to_owned(), usd("0.25")),
        ];
        let meter = Meter::open(
            ledger(Arc::new(MemoryLedger::new(Arc::clone(&commits)))),
            PriceBook::new("USD".parse().expect("a currency"), prices).expect("prices"),
            config,
            Arc::clone(&ids),
            clock.clone(),
        )
        .await
        .expect("the ledger opens");
        let authz = Arc::new(Authz::new(
            Arc::clone(&meter) as Arc<dyn Quota>,
            clock.clone(),
            creto_authz::AuthzConfig::default(),
        ));
        let oversight = Oversight::new(
            Arc::new(MemoryOversightStore::new(Arc::clone(&commits))),
            Arc::clone(&ids),
            clock.clone(),
            random,
            OversightConfig {
                request_ttl: Duration::from_secs(60),
                grant_ttl: Duration::from_secs(60),
            },
        );
        let bindings = Arc::new(Bindings::new());
        let runtime = Arc::new(ScriptedRuntime::default());
        let metrics = Arc::new(Metrics::new("test"));
        let algorithms = Arc::new(MemoryAlgorithms::default());
        let shadow = Arc::new(PolicyShadow::new(metrics.clone(), clock.clone()));
        let state = Arc::new(MemoryGovernor::new(Arc::clone(&commits)));
        let sequencer = Arc::new(MemoryOrder::new(Arc::clone(&commits)).open());
        let assemble = {
            let (nhi, oracle, audit) = (nhi.clone(), oracle.clone(), audit.clone());
            let (authz, meter, runtime) = (authz.clone(), meter.clone(), runtime.clone());
            let (bindings, state, metrics) = (bindings.clone(), state.clone(), metrics.clone());
            let (clock, algorithms) = (clock.clone(), algorithms.clone());
            move |stores: Stores| {
                Governor::new(
                    Parts {
                        nhi: nhi.clone(),
                        credentials: vec![Arc::new(IssuedTokens::new(nhi.clone()))],
                        oracle: oracle.clone(),
                        sequencer: stores.sequencer,
                        audit: audit.clone(),
                        authz: authz.clone(),
                        meter: meter.clone(),
                        oversight: oversight.clone(),
                        runtime: Some(runtime.clone()),
                        bindings: bindings.clone(),
                        commits: stores.commits,
                        replies: state.clone(),
                        records: state.clone(),
                        sandboxes: state.clone(),
                        policies: stores.policies,
                        algorithms: algorithms.clone(),
                        subjects: state.clone(),
                        shadow: stores.shadow,
                        ids: ids.clone(),
                        clock: clock.clone(),
                        metrics: metrics.clone(),
                    },
                    GovernorConfig {
                        public_url: "http://127.0.0.1:1".to_owned(),
                        volumes: BTreeMap::from([("history".to_owned(), "/srv/history".into())]),
                        limits: Limits::default(),
                        egress_counted: stores.egress_counted,
                    },
                )
            }
        };
        let stores = Stores {
            policies: state.clone(),
            commits: state,
            sequencer,
            egress_counted: false,
            shadow: shadow.clone(),
        };
        let governor = assemble(stores.clone());
        let starter = CheckedBundle::check(PolicyFiles::starter()).expect("passes");
        governor.serve_policies(Ok(starter)).await.expect("serves");
        let owner = governor.authenticate(&owner).expect("the owner's token");
        let expires = start + Duration::from_secs(86_400);
        for name in ["planner", "release-bot"] {
            let request = PrincipalRequest {
                name: name.parse().expect("a name"),
                kind: "agent".to_owned(),
            };
            let made = governor.create_principal(&owner, request, None).await;
            made.expect("an agent is made");
        }
        let planner_link = governor
            .delegate(&owner, delegate("planner", "5.00", expires), None)
            .await
            .expect("delegates")
            .id;
        let planner = enter(&governor, &owner, &planner_link).await;
        let bot_link = governor
            .delegate(&planner, delegate("release-bot", "1.00", expires), None)
            .await
            .expect("delegates on")
            .id;
        let bot = enter(&governor, &owner, &bot_link).await;
        Self {
            governor,
            nhi,
            meter,
            clock,
            commits,
            owner,
            planner,
            bot,
            planner_link,
            bot_link,
            authz,
            runtime,
            metrics,
            algorithms,
            stores,
            assemble: Box::new(assemble),
        }
    }

    /// A governor that knows what is stored and nothing else.
    pub(crate) fn restarted(&self) -> Arc<Governor> {
        self.restarted_with(|_| {})
    }

    /// The same over other stores.
    pub(crate) fn restarted_with(&self, change: impl FnOnce(&mut Stores)) -> Arc<Governor> {
        let shadow = PolicyShadow::new(self.metrics.clone(), self.clock.clone());
        let mut stores = Stores {
            shadow: Arc::new(shadow),
            ..self.stores.clone()
        };
        change(&mut stores);
        (self.assemble)(stores)
    }

    /// The owner of another organization on the same server.
    pub(crate) async fn stranger(&self) -> Caller {
        let (_, token) = found(&self.nhi, self.clock.now()).await;
        self.governor.authenticate(&token).expect("a good token")
    }

    /// Every record of the organization, checked as an offline verifier would.
    pub(crate) async fn check_records(&self) -> Result<(), String> {
        let mut checker = RecordChecker::new();
        let evidence = self.commits.evidence(self.owner.org());
        for (record, index) in evidence.iter().zip(0_u64..) {
            let value = serde_json::to_value(record).expect("a record is JSON");
            checker.leaf(LeafIndex(index), &value)?;
        }
        let files = self.invoice_files().await.into_iter();
        for (path, bytes) in files.chain(self.policy_files().await) {
            checker.attachment(&path, &bytes)?;
        }
        match checker.missing().as_slice() {
            [] => Ok(()),
            missing => Err(format!("{missing:?}")),
        }
    }

    /// The release bot, as a program in its sandbox.
    pub(crate) async fn inside_a_sandbox(&self) -> Caller {
        let request = creto_governor::SandboxRequest {
            delegation: self.bot_link.clone(),
            argv: vec!["true".to_owned()],
            env: BTreeMap::new(),
            mounts: Vec::new(),
            limits: creto_governor::LimitsRequest::default(),
        };
        let started = self.governor.launch(&self.owner, request, None).await;
        let id = started.expect("starts").id.parse().expect("an id");
        self.governor.sandbox_caller(id).expect("is bound")
    }

    /// Invoices as an evidence bundle carries them.
    pub(crate) async fn invoice_files(&self) -> Vec<(String, Vec<u8>)> {
        let invoices = self.meter.invoices(self.owner.org(), None, 100).await;
        let invoices = invoices.expect("lists").into_iter();
        invoices
            .map(|invoice| {
                let bytes = creto_types::canonical_json(&invoice).expect("canonical");
                (format!("invoices/{}.json", invoice.id), bytes)
            })
            .collect()
    }

    /// Policies as an evidence bundle carries them.
    pub(crate) async fn policy_files(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        let next = async |after: Option<String>| {
            let bundle = self
                .stores
                .policies
                .bundle(self.owner.org(), after.as_deref());
            bundle.await.expect("reads")
        };
        while let Some((digest, files)) = next(after).await {
            let bytes = creto_types::canonical_json(files.files()).expect("canonical");
            found.push((format!("policies/{digest}.json"), bytes));
            after = Some(digest);
        }
        found
    }

    /// A reader that has read every leaf and no invoice yet.
    pub(crate) fn after_the_leaves(&self) -> RecordChecker {
        let mut checker = RecordChecker::new();
        let evidence = self.commits.evidence(self.owner.org());
        for (record, index) in evidence.iter().zip(0_u64..) {
            let value = serde_json::to_value(record).expect("a record is JSON");
            checker.leaf(LeafIndex(index), &value).expect("holds");
        }
        checker
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        let evidence = self.commits.evidence(self.owner.org());
        evidence.into_iter().map(|record| record.kind).collect()
    }
}

async fn found(nhi: &Nhi, at: Timestamp) -> (OrgId, String) {
    let draft = nhi
        .draft_organization("Test", "alice".parse().expect("a name"))
        .expect("drafts");
    let org = draft.organization().id;
    let body = OrganizationCreated {
        organization: draft.organization().clone(),
        owner: draft.owner().clone(),
    };
    let evidence = Evidence {
        org,
        kind: "organization.created".to_owned(),
        at,
        actor: draft.owner().name.clone(),
        action_id: None,
        body: serde_json::to_value(body).expect("JSON"),
    };
    let owner = draft.owner().name.clone();
    nhi.commit_organization(draft, Commit::of(evidence))
        .await
        .expect("founds");
    let identity = nhi.identity_for_human(org, &owner).expect("the owner");
    let token = nhi.issue_token(&identity, Some(Duration::from_secs(80_000)));
    (org, token.expect("a token").token)
}

pub(crate) async fn enter(governor: &Governor, owner: &Caller, link: &str) -> Caller {
    let request = TokenRequest {
        delegation: Some(link.to_owned()),
        ttl_seconds: Some(3_600),
        instance: None,
        jkt: None,
    };
    let answer = governor.issue_token(owner, request, None).await;
    let token = answer
        .expect("a token is issued")
        .token
        .expect("shown once");
    governor.authenticate(&token).expect("the token is good")
}

/// A runtime that runs nothing: a program ends when the test says so.
#[derive(Default)]
pub(crate) struct ScriptedRuntime {
    pub(crate) started: Mutex<Vec<SandboxSpec>>,
    pub(crate) fail: Mutex<bool>,
    pub(crate) finish: Arc<Notify>,
}

struct Scripted {
    id: SandboxId,
    finish: Arc<Notify>,
    killed: Arc<Notify>,
}

#[async_trait]
impl SandboxRuntime for ScriptedRuntime {
    async fn start(&self, spec: SandboxSpec) -> Result<Arc<dyn RunningSandbox>, RuntimeError> {
        if *self.fail.lock() {
            return Err(RuntimeError::start("create", "no such program"));
        }
        let id = spec.id;
        self.started.lock().push(spec);
        Ok(Arc::new(Scripted {
            id,
            finish: Arc::clone(&self.finish),
            killed: Arc::new(Notify::new()),
        }))
    }

    async fn cleanup_leftovers(&self) -> Result<Vec<SandboxId>, RuntimeError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl RunningSandbox for Scripted {
    fn id(&self) -> SandboxId {
        self.id
    }

    async fn wait(&self) -> Result<ExitReport, RuntimeError> {
        let reason = tokio::select! {
            () = self.finish.notified() => ExitReason::Exited { code: 0 },
            () = self.killed.notified() => ExitReason::Killed,
        };
        Ok(ExitReport {
            reason,
            stdout: b"done".to_vec(),
            stderr: Vec::new(),
            stdout_truncated: false,
            stderr_truncated: false,
        })
    }

    async fn kill(&self) -> Result<(), RuntimeError> {
        self.killed.notify_one();
        Ok(())
    }
}
