//! The monitoring interface of C2SP tlog-tiles: every organization's log below
//! `/log/<org>/`, for anybody, on an address of its own.
//!
//! It serves files that are published and nothing else: no credential is looked at,
//! nothing is signed or written for a reader, and the API is not reachable there.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use creto_audit::{Audit, AuditError};
use creto_errors::{Class, Classify as _};
use creto_types::OrgId;

/// The text of a checkpoint.
const NOTE: &str = "text/plain; charset=utf-8";

/// A checkpoint is replaced by the next one.
const FRESH: &str = "no-cache";

/// A tile never has other bytes. A year is the longest that RFC 9111 caches keep to.
const FOREVER: &str = "public, max-age=31536000, immutable";

struct Monitoring {
    audit: Arc<Audit>,
    entries: bool,
}

/// The public files of every log. `entries` says whether the records themselves are
/// among them, or only the hashes that prove things about them.
pub fn monitoring(audit: Arc<Audit>, entries: bool) -> Router {
    Router::new()
        .route("/log/{org}/checkpoint", get(checkpoint))
        .route("/log/{org}/tile/{*path}", get(tile))
        .fallback(async || refused(StatusCode::NOT_FOUND, "there is no such file"))
        .with_state(Arc::new(Monitoring { audit, entries }))
}

async fn checkpoint(State(state): State<Arc<Monitoring>>, Path(org): Path<String>) -> Response {
    let Ok(org) = org.parse::<OrgId>() else {
        return absent();
    };
    match state.audit.public_checkpoint(org).await {
        Ok(Some(note)) => file(NOTE, FRESH, note),
        Ok(None) => absent(),
        Err(error) => failed(org, &error),
    }
}

async fn tile(
    State(state): State<Arc<Monitoring>>,
    Path((org, path)): Path<(String, String)>,
) -> Response {
    let Ok(org) = org.parse::<OrgId>() else {
        return absent();
    };
    if path.starts_with("entries/") && !state.entries {
        return refused(
            StatusCode::FORBIDDEN,
            "this log shows its hashes, and its entries only to who belongs to it",
        );
    }
    match state.audit.resource(org, &format!("tile/{path}")).await {
        Ok(Some(bytes)) => file("application/octet-stream", FOREVER, bytes),
        Ok(None) => absent(),
        Err(error) => failed(org, &error),
    }
}

fn file(media_type: &'static str, caching: &'static str, bytes: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, caching),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, bytes).into_response()
}

fn absent() -> Response {
    refused(StatusCode::NOT_FOUND, "there is no such file")
}

fn refused(status: StatusCode, text: &'static str) -> Response {
    let mut response = (status, format!("{text}\n")).into_response();
    // It may be there a moment later.
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Strangers learn that it failed, operators why.
fn failed(org: OrgId, error: &AuditError) -> Response {
    tracing::error!(
        %org, code = error.code(), error = error as &dyn std::error::Error,
        "a public file of the log cannot be read"
    );
    if error.class() == Class::Transient {
        refused(StatusCode::SERVICE_UNAVAILABLE, "try again later")
    } else {
        refused(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read")
    }
}
