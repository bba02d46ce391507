//! An organization behind a governor, in memory, for the tests of the interfaces: an
//! owner and an agent, each with a token, the starter policies, and a clock that
//! stands still.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot build its world has failed"
)]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use creto_audit::memory::{MemoryIndex, MemoryIndexKeys, MemoryJournal, MemoryTiles};
use creto_audit::{Audit, AuditConfig, AuditError, LogKeySource, LogKeys};
use creto_authz::{Authz, Quota};
use creto_consensus::memory::{MemoryOrder, MemoryWindow};
use creto_consensus::{LocalOracle, OracleConfig};
use creto_governor::memory::{MemoryAlgorithms, MemoryGovernor};
use creto_governor::{
    Bindings, BudgetRequest, CheckedBundle, DelegateRequest, Governor, GovernorConfig,
    OrganizationCreated, Parts, PolicyFiles, PolicyShadow, PrincipalRequest, RightAnswer,
    TokenRequest,
};
use creto_metering::memory::MemoryLedger;
use creto_metering::{Meter, MeterConfig, PriceBook, RateLimit};
use creto_nhi::memory::MemoryNhiStore;
use creto_nhi::{IssuedTokens, KeyPurpose, Nhi};
use creto_oversight::memory::MemoryOversightStore;
use creto_oversight::{Oversight, OversightConfig};
use creto_runtime::Limits;
use creto_telemetry::Metrics;
use creto_types::memory::MemoryCommits;
use creto_types::{
    Clock, Commit, Evidence, IdSource, ManualClock, OrgId, SeededRandom, SystemIds, Timestamp,
};

/// The organization. `release.publish` costs 0.25 USD and needs a human; the agent
/// `bot` may do everything the policies permit, for 1.00 USD in all.
pub struct World {
    /// The use cases.
    pub governor: Arc<Governor>,
    /// The log, whose journal is not fed by the use cases here.
    pub audit: Arc<Audit>,
    /// What the log is made of.
    pub journal: Arc<MemoryJournal>,
    /// Who there is.
    pub nhi: Arc<Nhi>,
    /// The algorithms that are in force.
    pub algorithms: creto_crypto::InForce,
    /// What the use cases made durable.
    pub commits: Arc<MemoryCommits>,
    /// The time of everything.
    pub clock: Arc<ManualClock>,
    /// The ids of everything.
    pub ids: Arc<dyn IdSource>,
    /// The randomness of everything.
    pub random: Arc<SeededRandom>,
    /// The owner's token.
    pub owner: String,
    /// The agent's token.
    pub agent: String,
    /// The agent's delegation.
    pub link: String,
}

struct Keys(Arc<Nhi>);

impl LogKeySource for Keys {
    fn keys(&self, org: OrgId) -> Result<LogKeys, AuditError> {
        let signer = |purpose| self.0.signer(org, purpose).unwrap();
        Ok(LogKeys {
            ed25519: signer(KeyPurpose::LogEd25519),
            composite: signer(KeyPurpose::LogComposite),
            evidence: signer(KeyPurpose::Evidence),
            former: None,
        })
    }
}

impl World {
    /// The organization with its agent. `listen` is where the server of the tests is said to listen; requests for a
    /// human lead there.
    pub async fn new(listen: &str) -> Self {
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let commits = Arc::new(MemoryCommits::new());
        let random = Arc::new(SeededRandom::new(4));
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds::new(clock.clone(), random.clone()));
        let provider = Arc::new(creto_crypto::AwsLcProvider::new(random.clone()));
        let root = creto_crypto::RootKey::from_hex(&"7".repeat(64)).unwrap();
        let config = creto_nhi::NhiConfig::new("creto.test");
        let algorithms = config.algorithms.clone();
        let nhi = Nhi::open(
            Arc::new(MemoryNhiStore::with_commits(commits.clone())),
            provider.clone(),
            Arc::new(creto_crypto::LocalKeystore::new(root, provider)),
            ids.clone(),
            clock.clone(),
            config,
        )
        .await
        .unwrap();
        let (_, owner) = found(&nhi, start).await;
        let window = Arc::new(MemoryWindow::new());
        let oracle = LocalOracle::open(window, clock.clone(), OracleConfig::default());
        let journal = Arc::new(MemoryJournal::new());
        let audit = Audit::open(
            journal.clone(),
            Arc::new(MemoryTiles::new()),
            Arc::new(Keys(nhi.clone())),
            clock.clone(),
            AuditConfig {
                origin_prefix: "creto.test/log".to_owned(),
                batch_size: 10,
                flush_interval: Duration::from_millis(5),
            },
        )
        .await
        .unwrap();
        audit.index_with(Arc::new(MemoryIndex::new()), Arc::new(MemoryIndexKeys));
        let price = ("release.publish".to_owned(), "0.25 USD".parse().unwrap());
        let thousand = NonZeroU32::new(1_000).unwrap();
        let meter = Meter::open(
            Arc::new(MemoryLedger::new(commits.clone())),
            PriceBook::new("USD".parse().unwrap(), [price]).unwrap(),
            MeterConfig {
                reservation_ttl: Duration::from_secs(60),
                rate: RateLimit::per_second(thousand, thousand),
                ..MeterConfig::default()
            },
            ids.clone(),
            clock.clone(),
        )
        .await
        .unwrap();
        let authz = Arc::new(Authz::new(
            meter.clone() as Arc<dyn Quota>,
            clock.clone(),
            creto_authz::AuthzConfig::default(),
        ));
        let oversight = Oversight::new(
            Arc::new(MemoryOversightStore::new(commits.clone())),
            ids.clone(),
            clock.clone(),
            random.clone(),
            OversightConfig {
                request_ttl: Duration::from_secs(600),
                grant_ttl: Duration::from_secs(60),
            },
        );
        let metrics = Arc::new(Metrics::new("test"));
        let sequencer = Arc::new(MemoryOrder::new(commits.clone()).open());
        let state = Arc::new(MemoryGovernor::new(commits.clone()));
        let governor = Governor::new(
            Parts {
                nhi: nhi.clone(),
                credentials: vec![Arc::new(IssuedTokens::new(nhi.clone()))],
                oracle: Arc::new(oracle.await.unwrap()),
                sequencer,
                audit: audit.clone(),
                authz,
                meter,
                oversight,
                runtime: None,
                bindings: Arc::new(Bindings::new()),
                commits: state.clone(),
                replies: state.clone(),
                records: state.clone(),
                sandboxes: state.clone(),
                policies: state.clone(),
                algorithms: Arc::new(MemoryAlgorithms::default()),
                subjects: state,
                shadow: Arc::new(PolicyShadow::new(metrics.clone(), clock.clone())),
                ids: ids.clone(),
                clock: clock.clone(),
                metrics,
            },
            GovernorConfig {
                public_url: format!("http://{listen}"),
                volumes: BTreeMap::new(),
                limits: Limits::default(),
                egress_counted: false,
            },
        );
        let starter = CheckedBundle::check(PolicyFiles::starter()).unwrap();
        governor.serve_policies(Ok(starter)).await.unwrap();
        let mut world = Self {
            governor,
            nhi,
            algorithms,
            audit,
            journal,
            commits,
            clock,
            ids,
            random,
            owner,
            agent: String::new(),
            link: String::new(),
        };
        world.admit_agent().await;
        world
    }

    /// The owner admits an agent and delegates to it.
    async fn admit_agent(&mut self) {
        let governor = &self.governor;
        let owner = governor.authenticate(&self.owner).unwrap();
        let agent = PrincipalRequest {
            name: "bot".parse().unwrap(),
            kind: "agent".to_owned(),
        };
        governor
            .create_principal(&owner, agent, None)
            .await
            .unwrap();
        let delegation = DelegateRequest {
            delegatee: "bot".parse().unwrap(),
            parent: None,
            rights: vec![RightAnswer {
                action: "*".to_owned(),
                resource: "*".to_owned(),
            }],
            not_before: None,
            expires_at: self.clock.now() + Duration::from_secs(86_400),
            max_depth: None,
            budget: Some(BudgetRequest {
                limit: "1.00 USD".parse().unwrap(),
                period: "total".to_owned(),
            }),
        };
        let made = governor.delegate(&owner, delegation, None).await.unwrap();
        self.link = made.id;
        let request = TokenRequest {
            delegation: Some(self.link.clone()),
            ttl_seconds: None,
            instance: None,
            jkt: None,
        };
        let made = governor.issue_token(&owner, request, None).await.unwrap();
        self.agent = made.token.unwrap();
    }
}

async fn found(nhi: &Nhi, at: Timestamp) -> (OrgId, String) {
    let draft = nhi
        .draft_organization("Test", "alice".parse().unwrap())
        .unwrap();
    let org = draft.organization().id;
    let owner = draft.owner().name.clone();
    let body = OrganizationCreated {
        organization: draft.organization().clone(),
        owner: draft.owner().clone(),
    };
    let evidence = Evidence {
        org,
        kind: "organization.created".to_owned(),
        at,
        actor: owner.clone(),
        action_id: None,
        body: serde_json::to_value(body).unwrap(),
    };
    nhi.commit_organization(draft, Commit::of(evidence))
        .await
        .unwrap();
    let identity = nhi.identity_for_human(org, &owner).unwrap();
    let token = nhi.issue_token(&identity, Some(Duration::from_secs(86_400)));
    (org, token.unwrap().token)
}
