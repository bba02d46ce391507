//! What a human decides, for programs; `pages` is the same for people.

use axum::Json;
use axum::extract::State;
use creto_governor::OversightAnswer;
use creto_oversight::{RequestId, StateName};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Authenticated, Document, Key, List, Name, Params, limit, parse_after, wait};
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
    /// 1 to 500; 50 when absent.
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

pub(crate) async fn list(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<RequestsQuery>,
) -> Reply<List<OversightAnswer>> {
    let limit = limit(query.limit)?;
    let state = state(query.state.as_deref())?;
    let after = parse_after(query.after.as_deref())?;
    let items = app
        .governor
        .oversight_requests(&caller, state, after, limit + 1)
        .await?;
    Ok(Json(List::cut(items, limit, |item| item.id.clone())))
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
