//! Secrets and their leases.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use creto_governor::{
    HandOverAnswer, HandOverRequest, LeaseAnswer, LeaseRequest, SecretAnswer, SecretReadRequest,
    SecretRequest,
};

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Authenticated, Document, Key, List, ListQuery, Name, Params};
use crate::handlers::system::Nothing;
use crate::handlers::{Created, Reply, Wiped};

pub(crate) async fn put(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Document(request): Document<SecretRequest>,
) -> Created<SecretAnswer> {
    let answer = app.governor.put_secret(&caller, request).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(crate) async fn list(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ListQuery>,
) -> Reply<List<SecretAnswer>> {
    let limit = query.limit()?;
    let after = query.after.as_deref();
    let items = app.governor.secrets(&caller, after, limit + 1).await?;
    Ok(Json(List::cut(items, limit, |item| item.name.clone())))
}

pub(crate) async fn hand_over(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(name): Name<String>,
    Key(key): Key,
    Document(request): Document<HandOverRequest>,
) -> Reply<HandOverAnswer> {
    let answer = app.governor.hand_over_secret(&caller, &name, request, key);
    Ok(Json(answer.await?))
}

pub(crate) async fn lease(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(name): Name<String>,
    Key(key): Key,
    Document(request): Document<LeaseRequest>,
) -> Created<LeaseAnswer> {
    let answer = app.governor.lease_secret(&caller, &name, request, key);
    Ok((StatusCode::CREATED, Json(answer.await?)))
}

pub(crate) async fn read(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(name): Name<String>,
    Document(request): Document<SecretReadRequest>,
) -> Result<Wiped, ApiError> {
    let reading = app.governor.read_secret(&caller, &name, request);
    Wiped::of(&reading.await?)
}

pub(crate) async fn leases(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ListQuery>,
) -> Reply<List<LeaseAnswer>> {
    let limit = query.limit()?;
    let after = query.after.as_deref();
    let items = app.governor.leases(&caller, after, limit + 1).await?;
    Ok(Json(List::cut(items, limit, |item| item.id.clone())))
}

pub(crate) async fn revoke(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<String>,
    Key(key): Key,
    Document(Nothing {}): Document<Nothing>,
) -> Reply<LeaseAnswer> {
    Ok(Json(app.governor.revoke_lease(&caller, &id, key).await?))
}
