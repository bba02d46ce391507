//! The log: leaves, proofs, files, and the bundle to take away.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use creto_governor::GovernError;
use creto_types::LeafIndex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Authenticated, Name, Params};
use crate::handlers::Reply;

/// One leaf and its proof.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LeafAnswer {
    /// Its place.
    index: LeafIndex,
    /// The leaf; its RFC 8785 form is what was hashed.
    record: Value,
    /// The leaf's bytes, in base64.
    leaf: String,
    /// C2SP tlog-proof.
    proof: String,
    /// The signed checkpoint that the proof leads to.
    checkpoint: String,
}

/// The keys that sign the log's checkpoints, as note tools read them.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LogKeysAnswer {
    /// The log's name.
    origin: String,
    /// Of the first signature line; C2SP signature type 0x01.
    ed25519: String,
    /// Of the second line, which holds against quantum computers.
    composite: String,
}

/// Two sizes of the log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsistencyQuery {
    /// The earlier size.
    from: u64,
    /// The later size; the newest one when absent.
    to: Option<u64>,
}

/// That the log of one size continues the one of another.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConsistencyAnswer {
    /// The earlier size.
    from: u64,
    /// The root at it, in base64.
    from_root: String,
    /// The later size.
    to: u64,
    /// The root at it, in base64.
    to_root: String,
    /// RFC 6962, section 2.1.2; each in base64.
    hashes: Vec<String>,
    /// A signed checkpoint that covers both.
    checkpoint: String,
}

/// An evidence bundle.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ExportAnswer {
    /// Relative paths, and contents in base64.
    files: BTreeMap<String, String>,
}

pub(crate) async fn checkpoint(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
) -> Result<Response, ApiError> {
    let note = app.governor.checkpoint(&caller).await?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], note).into_response())
}

pub(crate) async fn leaf(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(index): Name<u64>,
) -> Reply<LeafAnswer> {
    let proof = app.governor.leaf(&caller, LeafIndex(index)).await?;
    let record = serde_json::from_slice(&proof.bytes).map_err(GovernError::Encoding)?;
    Ok(Json(LeafAnswer {
        index: proof.index,
        record,
        leaf: STANDARD.encode(&proof.bytes),
        proof: proof.proof,
        checkpoint: String::from_utf8_lossy(&proof.checkpoint).into_owned(),
    }))
}

pub(crate) async fn keys(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
) -> Reply<LogKeysAnswer> {
    let [ed25519, composite] = app.governor.log_keys(&caller)?;
    let origin = ed25519.split('+').next().unwrap_or_default().to_owned();
    Ok(Json(LogKeysAnswer {
        origin,
        ed25519,
        composite,
    }))
}

pub(crate) async fn consistency(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ConsistencyQuery>,
) -> Reply<ConsistencyAnswer> {
    let ConsistencyQuery { from, to } = query;
    let proof = app.governor.log_consistency(&caller, from, to).await?;
    Ok(Json(ConsistencyAnswer {
        from: proof.from,
        from_root: proof.from_root.to_string(),
        to: proof.to,
        to_root: proof.to_root.to_string(),
        hashes: proof.hashes.iter().map(ToString::to_string).collect(),
        checkpoint: String::from_utf8_lossy(&proof.checkpoint).into_owned(),
    }))
}

pub(crate) async fn tile(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Path(path): Path<String>,
) -> Result<Response, ApiError> {
    let path = format!("tile/{path}");
    let bytes = app.governor.log_resource(&caller, &path).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

pub(crate) async fn export(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
) -> Reply<ExportAnswer> {
    let files = app.governor.export(&caller).await?;
    let encoded = files
        .into_iter()
        .map(|(path, bytes)| (path, STANDARD.encode(bytes)))
        .collect();
    Ok(Json(ExportAnswer { files: encoded }))
}
