//! Usage and invoices.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use creto_governor::{InvoiceAnswer, InvoiceRequest, UsageAnswer, UsageQuery};
use creto_metering::InvoiceId;

use crate::app::Shared;
use crate::extract::{Authenticated, Document, Key, List, ListQuery, Name, Params, parse_after};
use crate::handlers::{Created, Reply};

pub(crate) async fn usage(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<UsageQuery>,
) -> Reply<UsageAnswer> {
    Ok(Json(app.governor.usage(&caller, query).await?))
}

pub(crate) async fn issue(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<InvoiceRequest>,
) -> Created<InvoiceAnswer> {
    let answer = app.governor.issue_invoice(&caller, request, key).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(crate) async fn list(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ListQuery>,
) -> Reply<List<InvoiceAnswer>> {
    let limit = query.limit()?;
    let after = parse_after(query.after.as_deref())?;
    let items = app.governor.invoices(&caller, after, limit + 1).await?;
    Ok(Json(List::cut(items, limit, |item| item.id.clone())))
}

pub(crate) async fn get(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<InvoiceId>,
) -> Reply<InvoiceAnswer> {
    Ok(Json(app.governor.invoice(&caller, id).await?))
}
