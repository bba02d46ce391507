//! Programs that run as an agent.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use creto_governor::{SandboxAnswer, SandboxRequest};

use crate::app::Shared;
use crate::extract::{Authenticated, Document, Key, List, ListQuery, Name, Params, wait};
use crate::handlers::system::{Nothing, WaitQuery};
use crate::handlers::{Created, Reply};

pub(crate) async fn launch(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<SandboxRequest>,
) -> Created<SandboxAnswer> {
    let answer = app.governor.launch(&caller, request, key).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(crate) async fn list(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ListQuery>,
) -> Reply<List<SandboxAnswer>> {
    let limit = query.limit()?;
    let after = query.after.as_deref();
    let items = app.governor.sandboxes(&caller, after, limit + 1).await?;
    Ok(Json(List::cut(items, limit, |item| item.id.clone())))
}

pub(crate) async fn get(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<String>,
    Params(query): Params<WaitQuery>,
) -> Reply<SandboxAnswer> {
    let wait = wait(query.wait_seconds)?;
    Ok(Json(app.governor.sandbox(&caller, &id, wait).await?))
}

/// Repeating it gives the same state again, so it needs no key.
pub(crate) async fn kill(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<String>,
    Document(Nothing {}): Document<Nothing>,
) -> Reply<SandboxAnswer> {
    Ok(Json(app.governor.kill(&caller, &id).await?))
}
