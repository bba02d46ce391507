//! Limits and rates.

use axum::Json;
use axum::extract::State;
use creto_governor::{LimitAnswer, LimitRequest, RateAnswer, RateRequest, RemovalAnswer};
use creto_metering::{LimitId, RateId};

use crate::app::Shared;
use crate::extract::{Authenticated, Document, Key, List, ListQuery, Name, Params, parse_after};
use crate::handlers::Reply;
use crate::handlers::system::Nothing;

pub(crate) async fn set(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<LimitRequest>,
) -> Reply<LimitAnswer> {
    Ok(Json(app.governor.set_limit(&caller, request, key).await?))
}

pub(crate) async fn list(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ListQuery>,
) -> Reply<List<LimitAnswer>> {
    let limit = query.limit()?;
    let after = parse_after(query.after.as_deref())?;
    let items = app.governor.list_limits(&caller, after, limit + 1)?;
    Ok(Json(List::cut(items, limit, |item| item.id.clone())))
}

pub(crate) async fn remove(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<LimitId>,
    Key(key): Key,
    Document(Nothing {}): Document<Nothing>,
) -> Reply<RemovalAnswer> {
    Ok(Json(app.governor.remove_limit(&caller, id, key).await?))
}

pub(crate) async fn set_rate(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<RateRequest>,
) -> Reply<RateAnswer> {
    Ok(Json(app.governor.set_rate(&caller, request, key).await?))
}

pub(crate) async fn rates(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ListQuery>,
) -> Reply<List<RateAnswer>> {
    let limit = query.limit()?;
    let after = parse_after(query.after.as_deref())?;
    let items = app.governor.list_rates(&caller, after, limit + 1)?;
    Ok(Json(List::cut(items, limit, |item| item.id.clone())))
}

pub(crate) async fn remove_rate(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<RateId>,
    Key(key): Key,
    Document(Nothing {}): Document<Nothing>,
) -> Reply<RemovalAnswer> {
    Ok(Json(app.governor.remove_rate(&caller, id, key).await?))
}
