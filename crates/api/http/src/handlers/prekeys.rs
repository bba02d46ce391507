//! Prekeys.

use axum::Json;
use axum::extract::State;
use creto_governor::{
    PrekeysAnswer, PrekeysRequest, PublishPrekeysAnswer, TakePrekeyAnswer, TakePrekeyRequest,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::Shared;
use crate::extract::{Authenticated, Document, Key, Params};
use crate::handlers::Reply;

/// Whose are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerQuery {
    /// The SPIFFE id of an agent; the caller's own when absent, and of an agent always.
    #[serde(default)]
    pub(crate) spiffe_id: Option<String>,
}

pub(crate) async fn publish(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<PrekeysRequest>,
) -> Reply<PublishPrekeysAnswer> {
    let answer = app.governor.publish_prekeys(&caller, request, key);
    Ok(Json(answer.await?))
}

pub(crate) async fn left(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<OwnerQuery>,
) -> Reply<PrekeysAnswer> {
    let left = app.governor.prekeys(&caller, query.spiffe_id.as_deref());
    Ok(Json(left.await?))
}

pub(crate) async fn take(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<TakePrekeyRequest>,
) -> Reply<TakePrekeyAnswer> {
    Ok(Json(app.governor.take_prekey(&caller, request, key).await?))
}
