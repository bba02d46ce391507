//! An organization behind the interface, and clients that call it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use creto_governor::Governor;
use creto_grpc::{Grpc, Hosts};
use creto_nhi::Nhi;
use creto_proto::authz::v1::authz_client::AuthzClient;
use creto_proto::authz::v1::{CheckRequest, Resource, Subject, SubmitRequest};
use creto_types::memory::MemoryCommits;
use creto_types::{ManualClock, OrgId};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::util::BoxCloneSyncService;

/// Where the server listens.
pub(crate) const HOST: &str = "127.0.0.1:1";

pub(crate) type Client =
    AuthzClient<BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>>;

pub(crate) struct World {
    pub(crate) grpc: Grpc,
    pub(crate) governor: Arc<Governor>,
    pub(crate) nhi: Arc<Nhi>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) commits: Arc<MemoryCommits>,
    pub(crate) org: OrgId,
    /// The owner's token.
    pub(crate) owner: String,
    /// The agent's token.
    pub(crate) agent: String,
    /// The agent's delegation.
    pub(crate) link: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        let world = creto_world::World::new(HOST).await;
        let org = world.governor.authenticate(&world.owner).unwrap().org();
        Self {
            grpc: Grpc::new(
                world.governor.clone(),
                Hosts::of(HOST.parse().unwrap()),
                world.ids,
                world.clock.clone(),
            ),
            governor: world.governor,
            nhi: world.nhi,
            clock: world.clock,
            commits: world.commits,
            org,
            owner: world.owner,
            agent: world.agent,
            link: world.link,
        }
    }

    /// Of somebody with this token, without a connection between.
    pub(crate) fn client(&self, token: &str) -> Client {
        self.client_of(HOST, Some(&format!("Bearer {token}")))
    }

    pub(crate) fn client_of(&self, host: &str, credential: Option<&str>) -> Client {
        let mut headers = HeaderMap::new();
        if let Some(credential) = credential {
            let value = HeaderValue::from_str(credential).unwrap();
            headers.insert(http::header::AUTHORIZATION, value);
        }
        let grpc = self.grpc.clone();
        let service = tower::service_fn(move |mut request: Request<Body>| {
            let (grpc, headers) = (grpc.clone(), headers.clone());
            request.headers_mut().extend(headers);
            async move { Ok::<_, Infallible>(grpc.answer(request).await) }
        });
        let origin: Uri = format!("http://{host}").parse().unwrap();
        AuthzClient::with_origin(BoxCloneSyncService::new(service), origin)
    }
}

pub(crate) fn check(subject: Option<&str>, action: &str, id: &str) -> CheckRequest {
    CheckRequest {
        subject: subject.map(|id| Subject {
            r#type: "agent".to_owned(),
            id: id.to_owned(),
            delegation: None,
        }),
        action: action.to_owned(),
        resource: Some(Resource {
            r#type: String::new(),
            id: id.to_owned(),
        }),
        ..CheckRequest::default()
    }
}

pub(crate) fn submit(action: &str, args: &str, key: Option<&str>) -> SubmitRequest {
    SubmitRequest {
        action: action.to_owned(),
        resource: "repo:creto".to_owned(),
        args_json: args.to_owned(),
        idempotency_key: key.map(ToOwned::to_owned),
        ..SubmitRequest::default()
    }
}

/// The code, the product's own code and class, and the field; checks what every
/// refusal has.
pub(crate) fn refusal(status: &Status) -> (Code, String, String, Option<String>) {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "creto");
    assert_eq!(info.reason, info.metadata["code"].to_uppercase());
    let id = &details.request_info().unwrap().request_id;
    assert_eq!(*id, request_id(status.metadata()));
    let class = info.metadata["class"].clone();
    let retry = details.retry_info().and_then(|info| info.retry_delay);
    assert_eq!(retry.is_some(), class == "transient", "{status:?}");
    assert!(retry.unwrap_or_default() < Duration::from_secs(60));
    (
        status.code(),
        info.metadata["code"].clone(),
        class,
        info.metadata.get("field").cloned(),
    )
}

pub(crate) fn request_id(metadata: &MetadataMap) -> String {
    metadata
        .get("x-request-id")
        .expect("every answer names its call")
        .to_str()
        .unwrap()
        .to_owned()
}
