//! Signatures, and the keys by which they are checked.

use axum::Json;
use axum::extract::State;
use creto_governor::{PublicKeysAnswer, SignRequest, SigningAnswer};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::Shared;
use crate::extract::{Authenticated, Document, Key, Params};
use crate::handlers::Reply;

/// Whose keys are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeysQuery {
    /// The SPIFFE id of a principal of the organization, or of an instance of it.
    pub(crate) spiffe_id: String,
}

pub(crate) async fn sign(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<SignRequest>,
) -> Reply<SigningAnswer> {
    Ok(Json(app.governor.sign(&caller, request, key).await?))
}

pub(crate) async fn public_keys(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<KeysQuery>,
) -> Reply<PublicKeysAnswer> {
    let keys = app.governor.public_keys(&caller, &query.spiffe_id)?;
    Ok(Json(keys))
}
