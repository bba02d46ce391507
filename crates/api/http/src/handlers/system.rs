//! The process itself.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use creto_governor::GovernError;
use creto_telemetry::METRICS_CONTENT_TYPE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Authenticated;

/// That it is so.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Status {
    /// `ok`.
    status: &'static str,
}

/// A request that says nothing but that it is made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// How long to wait.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// Answer once something happened, or after this time; at once when absent.
    #[serde(default)]
    pub(crate) wait_seconds: Option<u64>,
}

pub(crate) async fn health() -> Json<Status> {
    Json(Status { status: "ok" })
}

pub(crate) async fn ready(State(app): State<Shared>) -> Result<Json<Status>, ApiError> {
    app.governor.ready().await?;
    Ok(Json(Status { status: "ok" }))
}

pub(crate) async fn description(State(app): State<Shared>) -> Response {
    let body = app.description.clone();
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

pub(crate) async fn jwks(State(app): State<Shared>) -> Response {
    let body = app.governor.jwks().to_string();
    ([(CONTENT_TYPE, "application/jwk-set+json")], body).into_response()
}

pub(crate) async fn trust_bundle(State(app): State<Shared>) -> Response {
    let body = app.governor.trust_bundle().to_string();
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

pub(crate) async fn metrics(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
) -> Result<Response, ApiError> {
    if !caller.is_human() {
        let message = format!(
            "only people of the organization may read metrics; {} is an agent",
            caller.name()
        );
        return Err(GovernError::Forbidden { message }.into());
    }
    let body = app.governor.metrics_text();
    Ok(([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], body).into_response())
}
