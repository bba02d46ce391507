//! Refuses what is meant for another server.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use creto_governor::Caller;

use crate::app::Shared;
use crate::error::ApiError;

/// What comes from a sandbox did not come by a name.
pub(crate) async fn check(
    State(app): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let bound = request.extensions().get::<Caller>().is_some();
    if !bound && !app.hosts.are_meant_by(&request) {
        return Err(ApiError::Misdirected);
    }
    Ok(next.run(request).await)
}
