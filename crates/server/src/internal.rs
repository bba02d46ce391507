//! `http://creto.internal/` as sandboxes see it: the same API, with the sandbox
//! itself as the credential.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use creto_governor::Governor;
use creto_runtime::{InternalService, SandboxId};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

/// Serves sandboxes.
pub(crate) struct SandboxApi {
    governor: Arc<Governor>,
    router: Router,
}

impl SandboxApi {
    pub(crate) fn new(governor: Arc<Governor>, router: Router) -> Self {
        Self { governor, router }
    }
}

#[async_trait]
impl InternalService for SandboxApi {
    async fn serve(&self, sandbox: SandboxId, request: Request<Bytes>) -> Response<Bytes> {
        let Some(caller) = self.governor.sandbox_caller(sandbox) else {
            return status(StatusCode::FORBIDDEN);
        };
        let mut request = request.map(Body::from);
        request.extensions_mut().insert(caller);
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        match body.collect().await {
            Ok(body) => Response::from_parts(parts, body.to_bytes()),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an answer to a sandbox was cut short"
                );
                status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}
