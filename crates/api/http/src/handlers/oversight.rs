//! What a human decides, for programs; `pages` is the same for people.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use creto_governor::{Caller, OversightAnswer};
use creto_oversight::{RequestId, StateName};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::{App, Shared};
use crate::error::ApiError;
use crate::extract::{Authenticated, Document, Key, Name, Params, limit, parse_after, wait};
use crate::handlers::Reply;
use crate::handlers::system::WaitQuery;

/// Which requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestsQuery {
    /// `pending`, `approved`, `used`, `denied` or `expired`; all when absent.
    #[serde(default)]
    state: Option<String>,
    /// The `next` of the page before; the beginning when absent.
    #[serde(default)]
    after: Option<String>,
    /// 1 to 50; 50 when absent. A page may end earlier: `next` tells.
    #[serde(default)]
    limit: Option<usize>,
}

/// What the approver writes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionRequest {
    /// Why; the agent reads it.
    #[serde(default)]
    reason: Option<String>,
}

/// The most requests of one list.
const MOST: usize = 50;

/// A list ends early rather than grow beyond this, unless its first item does.
const LIST_BYTES: usize = 1024 * 1024;

/// How many requests are in memory at a time. Arguments take many times the room
/// of their text there, and agents choose them.
const AT_A_TIME: usize = 4;

/// Gives requests to `keep`, oldest first, until there is none left, `limit` are
/// kept or it refuses one. Whether there are more.
pub(crate) async fn walk(
    app: &App,
    caller: &Caller,
    state: Option<StateName>,
    mut after: Option<RequestId>,
    limit: usize,
    mut keep: impl FnMut(OversightAnswer) -> Result<bool, ApiError>,
) -> Result<bool, ApiError> {
    let mut left = limit;
    loop {
        // When none is left to keep, one tells that there are more.
        let asked = left.saturating_add(1).min(AT_A_TIME);
        let batch = app
            .governor
            .oversight_requests(caller, state, after, asked)
            .await?;
        let ends = batch.len() < asked;
        for item in batch {
            let id = item.id.parse().map_err(|_| ApiError::Internal)?;
            if left == 0 || !keep(item)? {
                return Ok(true);
            }
            after = Some(id);
            left -= 1;
        }
        if ends {
            return Ok(false);
        }
    }
}

/// A [`crate::extract::List`] as it is sent, made one item after the other.
struct ListText {
    bytes: Vec<u8>,
    last: Option<String>,
}

impl ListText {
    fn new() -> Self {
        Self {
            bytes: b"{\"items\":[".to_vec(),
            last: None,
        }
    }

    /// Whether there was room for it.
    fn push(&mut self, item: OversightAnswer) -> Result<bool, ApiError> {
        let text = serde_json::to_vec(&item).map_err(|_| ApiError::Internal)?;
        if self.last.is_some() {
            if self.bytes.len().saturating_add(text.len()) > LIST_BYTES {
                return Ok(false);
            }
            self.bytes.push(b',');
        }
        self.bytes.extend(text);
        self.last = Some(item.id);
        Ok(true)
    }

    fn end(mut self, more: bool) -> Result<Response, ApiError> {
        self.bytes.extend(b"],\"next\":");
        let next = self.last.filter(|_| more);
        let next = serde_json::to_vec(&next).map_err(|_| ApiError::Internal)?;
        self.bytes.extend(next);
        self.bytes.push(b'}');
        let json = HeaderValue::from_static("application/json");
        Ok(([(CONTENT_TYPE, json)], self.bytes).into_response())
    }
}

pub(crate) async fn list(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<RequestsQuery>,
) -> Result<Response, ApiError> {
    let limit = limit(query.limit, MOST)?;
    let state = state(query.state.as_deref())?;
    let after = parse_after(query.after.as_deref())?;
    let mut text = ListText::new();
    let more = walk(&app, &caller, state, after, limit, |item| text.push(item)).await?;
    text.end(more)
}

pub(crate) fn state(text: Option<&str>) -> Result<Option<StateName>, ApiError> {
    text.map(|text| {
        text.parse()
            .map_err(|error: creto_oversight::UnknownState| {
                ApiError::value("state", error.to_string())
            })
    })
    .transpose()
}

pub(crate) async fn get(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<RequestId>,
    Params(query): Params<WaitQuery>,
) -> Reply<OversightAnswer> {
    let wait = wait(query.wait_seconds)?;
    Ok(Json(
        app.governor.oversight_request(&caller, id, wait).await?,
    ))
}

pub(crate) async fn approve(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<RequestId>,
    Key(key): Key,
    Document(request): Document<DecisionRequest>,
) -> Reply<OversightAnswer> {
    let answer = app
        .governor
        .approve(&caller, id, request.reason, key)
        .await?;
    Ok(Json(answer))
}

pub(crate) async fn deny(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<RequestId>,
    Key(key): Key,
    Document(request): Document<DecisionRequest>,
) -> Reply<OversightAnswer> {
    let answer = app
        .governor
        .deny_request(&caller, id, request.reason, key)
        .await?;
    Ok(Json(answer))
}
