//! Governed actions.

use axum::Json;
use axum::extract::State;
use creto_audit::Withheld;
use creto_governor::{ActionAnswer, ActionRequest, SettlementAnswer};
use creto_types::{ActionId, LeafIndex};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::Shared;
use crate::extract::{Authenticated, Document, Key, List, Name};
use crate::handlers::Reply;
use crate::handlers::system::Nothing;

/// What was used.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettleRequest {
    /// At most what was reserved.
    units: u64,
}

/// One record of an action.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ActionRecord {
    /// Where it lies in the log.
    leaf: LeafIndex,
    /// The record, as `docs/formats/log.md` describes it.
    record: Value,
    /// Why the record has the fields of its leaf alone: `erased` or `expired`. Absent
    /// when it is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    withheld: Option<&'static str>,
}

pub(crate) async fn submit(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<ActionRequest>,
) -> Reply<ActionAnswer> {
    Ok(Json(app.governor.submit(&caller, request, key).await?))
}

pub(crate) async fn records(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<ActionId>,
) -> Reply<List<ActionRecord>> {
    let records = app.governor.action_records(&caller, id).await?;
    let items = records
        .into_iter()
        .map(|(leaf, record)| {
            let (record, withheld) = record.into_parts();
            ActionRecord {
                leaf,
                record,
                withheld: withheld.map(Withheld::as_str),
            }
        })
        .collect();
    Ok(Json(List { items, next: None }))
}

pub(crate) async fn settle(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<ActionId>,
    Key(key): Key,
    Document(request): Document<SettleRequest>,
) -> Reply<SettlementAnswer> {
    let answer = app.governor.settle(&caller, id, request.units, key).await?;
    Ok(Json(answer))
}

pub(crate) async fn release(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<ActionId>,
    Key(key): Key,
    Document(Nothing {}): Document<Nothing>,
) -> Reply<SettlementAnswer> {
    Ok(Json(app.governor.release(&caller, id, key).await?))
}
