//! An organization behind the router: an owner and an agent with a token.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use creto_audit::memory::{MemoryJournal, MemoryTiles};
use creto_audit::{Audit, AuditConfig, AuditError, LogKeySource, LogKeys};
use creto_authz::{Authz, Quota};
use creto_consensus::memory::MemoryWindow;
use creto_consensus::{LocalOracle, OracleConfig};
use creto_governor::memory::MemoryGovernor;
use creto_governor::{
    Bindings, CheckedBundle, Governor, GovernorConfig, OrganizationCreated, Parts, PolicyFiles,
    PolicyShadow,
};
use creto_metering::memory::MemoryLedger;
use creto_metering::{Meter, MeterConfig, PriceBook, RateLimit};
use creto_nhi::memory::MemoryNhiStore;
use creto_nhi::{KeyPurpose, Nhi};
use creto_oversight::memory::MemoryOversightStore;
use creto_oversight::{Oversight, OversightConfig};
use creto_runtime::Limits;
use creto_telemetry::Metrics;
use creto_types::memory::MemoryCommits;
use creto_types::{
    Clock, Commit, Evidence, IdSource, ManualClock, OrgId, SeededRandom, SystemIds, Timestamp,
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// Where the server listens.
pub(crate) const HOST: &str = "127.0.0.1:1";

pub(crate) struct World {
    pub(crate) governor: Arc<Governor>,
    pub(crate) router: Router,
    pub(crate) clock: Arc<ManualClock>,
    /// The owner's token.
    pub(crate) owner: String,
    /// The agent's token.
    pub(crate) agent: String,
    /// The agent's delegation.
    pub(crate) link: String,
}

/// A response, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// The problem's status and code.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(
            self.header(header::CONTENT_TYPE),
            "application/problem+json",
            "{}",
            self.body
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        (
            self.status.as_u16(),
            problem["code"].as_str().unwrap().to_owned(),
        )
    }
}

struct Keys(Arc<Nhi>);

impl LogKeySource for Keys {
    fn keys(&self, org: OrgId) -> Result<LogKeys, AuditError> {
        let signer = |purpose| self.0.signer(org, purpose).unwrap();
        Ok(LogKeys {
            ed25519: signer(KeyPurpose::LogEd25519),
            composite: signer(KeyPurpose::LogComposite),
            evidence: signer(KeyPurpose::Evidence),
        })
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let commits = Arc::new(MemoryCommits::new());
        let random = Arc::new(SeededRandom::new(4));
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds::new(clock.clone(), random.clone()));
        let nhi = Nhi::open(
            Arc::new(MemoryNhiStore::with_commits(commits.clone())),
            Arc::new(creto_crypto::AwsLcProvider::new(random.clone())),
            Arc::new(creto_crypto::RootKey::from_hex(&"7".repeat(64)).unwrap()),
            ids.clone(),
            clock.clone(),
            creto_nhi::NhiConfig::new("creto.test"),
        )
        .await
        .unwrap();
        let (_, owner) = found(&nhi, start).await;
        let window = Arc::new(MemoryWindow::new());
        let oracle = LocalOracle::open(window, clock.clone(), OracleConfig::default());
        let audit = Audit::open(
            Arc::new(MemoryJournal::new()),
            Arc::new(MemoryTiles::new()),
            Arc::new(Keys(nhi.clone())),
            clock.clone(),
            AuditConfig {
                origin_prefix: "creto.test/log".to_owned(),
                batch_size: 10,
                flush_interval: Duration::from_millis(5),
            },
        );
        let price = ("release.publish".to_owned(), "0.25 USD".parse().unwrap());
        let thousand = NonZeroU32::new(1_000).unwrap();
        let meter = Meter::open(
            Arc::new(MemoryLedger::new(commits.clone())),
            PriceBook::new("USD".parse().unwrap(), [price]).unwrap(),
            MeterConfig {
                reservation_ttl: Duration::from_secs(60),
                rate: RateLimit {
                    per_second: thousand,
                    burst: thousand,
                },
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
        let state = Arc::new(MemoryGovernor::new(commits));
        let governor = Governor::new(
            Parts {
                nhi,
                oracle: Arc::new(oracle.await.unwrap()),
                audit: audit.await.unwrap(),
                authz,
                meter,
                oversight,
                runtime: None,
                bindings: Arc::new(Bindings::new()),
                commits: state.clone(),
                replies: state.clone(),
                records: state.clone(),
                sandboxes: state.clone(),
                policies: state,
                shadow: Arc::new(PolicyShadow::new(metrics.clone(), clock.clone())),
                ids: ids.clone(),
                clock: clock.clone(),
                metrics,
            },
            GovernorConfig {
                public_url: format!("http://{HOST}"),
                volumes: BTreeMap::new(),
                limits: Limits::default(),
            },
        );
        let starter = CheckedBundle::check(PolicyFiles::starter()).unwrap();
        governor.serve_policies(starter).await.unwrap();
        let router = creto_http::router(
            governor.clone(),
            creto_http::Hosts::of(HOST.parse().unwrap()),
            ids,
            clock.clone(),
            random,
        );
        let mut world = Self {
            governor,
            router,
            clock,
            owner,
            agent: String::new(),
            link: String::new(),
        };
        world.admit_agent().await;
        world
    }

    /// As an administrator would, through the interface.
    async fn admit_agent(&mut self) {
        let made = self
            .post("/v1/principals", &self.owner, json!({ "name": "bot" }))
            .await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        let expires = self.clock.now() + Duration::from_secs(86_400);
        let delegation = json!({
            "delegatee": "bot",
            "rights": [{ "action": "*", "resource": "*" }],
            "expires_at": expires,
            "budget": { "limit": { "amount": "1.00", "currency": "USD" } },
        });
        let made = self.post("/v1/delegations", &self.owner, delegation).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        self.link = made.json()["id"].as_str().unwrap().to_owned();
        let request = json!({ "delegation": self.link });
        let made = self.post("/v1/tokens", &self.owner, request).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        self.agent = made.json()["token"].as_str().unwrap().to_owned();
    }

    /// To the host that the request names, this server's when it names none.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        request
            .headers_mut()
            .entry(header::HOST)
            .or_insert(header::HeaderValue::from_static(HOST));
        self.send_unchanged(request).await
    }

    pub(crate) async fn send_unchanged(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        let request = Request::post(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap())
            .await
    }

    /// Submits an action that a human has to approve; gives the request's id.
    pub(crate) async fn held(&self, args: Value) -> String {
        let answer = self.post("/v1/actions", &self.agent, publish(args)).await;
        let answer = answer.json();
        assert_eq!(answer["outcome"], "requires_oversight", "{answer}");
        answer["oversight"]["request_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

pub(crate) fn publish(args: Value) -> Value {
    json!({ "action": "release.publish", "resource": "repo:creto", "args": args, "units": 1 })
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
