//! An organization behind the router.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use creto_audit::Audit;
use creto_audit::memory::MemoryJournal;
use creto_governor::Governor;
use creto_nhi::Nhi;
use creto_types::ManualClock;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// Where the server listens.
pub(crate) const HOST: &str = "127.0.0.1:1";

pub(crate) struct World {
    pub(crate) governor: Arc<Governor>,
    pub(crate) nhi: Arc<Nhi>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) journal: Arc<MemoryJournal>,
    pub(crate) algorithms: creto_crypto::InForce,
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

impl World {
    pub(crate) async fn new() -> Self {
        let world = creto_world::World::new(HOST).await;
        let router = creto_http::router(
            world.governor.clone(),
            creto_http::Hosts::of(HOST.parse().unwrap()),
            world.ids,
            world.clock.clone(),
            world.random,
        );
        Self {
            governor: world.governor,
            nhi: world.nhi,
            audit: world.audit,
            journal: world.journal,
            algorithms: world.algorithms,
            router,
            clock: world.clock,
            owner: world.owner,
            agent: world.agent,
            link: world.link,
        }
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

    /// Publishes the starter set with an action on tickets, which may say a country and
    /// needs a human.
    pub(crate) async fn publish_tickets(&self) {
        let mut files = creto_governor::PolicyFiles::starter().files().clone();
        let schema = r#"namespace Creto {
            entity Ticket in [Organization] = { id: String };
            action "ticket.close" appliesTo {
                principal: [Human, Agent],
                resource: [Ticket],
                context: { oversight: Oversight, units: Long, country?: String },
            };
        }"#;
        let policies = r#"@id("close")
            permit (principal, action == Creto::Action::"ticket.close", resource);
            @id("close-with-a-human")
            @oversight("support")
            forbid (principal, action == Creto::Action::"ticket.close", resource)
            unless { context.oversight.approved };"#;
        files.insert("tickets.cedarschema".to_owned(), schema.to_owned());
        files.insert("tickets.cedar".to_owned(), policies.to_owned());
        let request = json!({ "files": files, "reason": "tickets" });
        let answer = self.post("/v1/policies", &self.owner, request).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
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
