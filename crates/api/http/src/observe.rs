//! Around every request: its id, its span, its metrics, its deadline, and the
//! last touch on its response.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use creto_errors::Classify as _;
use creto_telemetry::{RequestId, request_span};
use tracing::Instrument as _;

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::BODY_LIMIT;
use crate::pages;
use crate::problem::{self, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts everything around the routes that they share.
pub(crate) fn finish(routes: Router<Shared>, app: &Shared) -> Router {
    routes
        .fallback(async || ApiError::RouteNotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(Arc::clone(app), observe))
        .with_state(Arc::clone(app))
}

/// Bounds the time of a route. A change runs on by itself: neither a caller that
/// goes away nor the deadline stops it half way.
pub(crate) async fn deadline(limit: Duration, request: Request, next: Next) -> Response {
    let changes = request.method() == Method::POST;
    let run = next.run(request);
    let finished = if changes {
        let task = tokio::spawn(run.in_current_span());
        tokio::time::timeout(limit, task)
            .await
            .map(|joined| joined.unwrap_or_else(|_panic| ApiError::Internal.into_response()))
    } else {
        tokio::time::timeout(limit, run).await
    };
    finished.unwrap_or_else(|_elapsed| ApiError::TimedOut.into_response())
}

async fn observe(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let id: RequestId = app.ids.next();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let page = pages::is_page(request.uri().path());
    let span = request_span(&id, method.as_str(), route.as_deref().unwrap_or("none"));
    let began = app.clock.monotonic();
    let mut response = next.run(request).instrument(span.clone()).await;
    let took = app.clock.monotonic().saturating_sub(began);

    let _entered = span.enter();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        report(&app, &mut response);
        response = explain(&app, problem, &id, page, response);
    }
    let status = response.status();
    tracing::debug!(status = status.as_u16(), ?took, "answered");
    app.governor
        .metrics()
        .http_request(method.as_str(), route.as_deref(), status.as_u16(), took);

    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// What operators see of an error; callers get its top message only.
fn report(app: &Shared, response: &mut Response) {
    let Some(error) = response.extensions_mut().remove::<Arc<ApiError>>() else {
        return;
    };
    app.governor.metrics().error(error.as_ref());
    if response.status().is_server_error() {
        tracing::error!(
            code = error.code(),
            error = creto_errors::chain(error.as_ref()),
            "failed"
        );
    } else {
        tracing::debug!(code = error.code(), "refused");
    }
}

/// The problem as a document, or as a page for a browser.
fn explain(
    app: &Shared,
    mut problem: Problem,
    id: &RequestId,
    page: bool,
    response: Response,
) -> Response {
    problem.request_id = id.to_string();
    let (parts, _) = response.into_parts();
    if page {
        let mut shown = pages::problem(app, &problem);
        for (name, value) in &parts.headers {
            shown.headers_mut().insert(name, value.clone());
        }
        return shown;
    }
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::from_parts(parts, Body::from(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(problem::MEDIA_TYPE),
    );
    response
}
