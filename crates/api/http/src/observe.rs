//! Around every request: its id, its span, its metrics, its deadline, and the
//! last touch on its response.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use creto_errors::Classify as _;
use creto_ingress::NONCE_HEADER;
use creto_telemetry::{RequestId, request_span};
use tracing::Instrument as _;

use crate::app::Shared;
use crate::authzen;
use crate::error::ApiError;
use crate::extract::{self, BODY_LIMIT};
use crate::handlers::metadata;
use crate::hosts;
use crate::oauth;
use crate::pages;
use crate::problem::{self, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts everything around the routes that they share.
pub(crate) fn finish(routes: Router<Shared>, app: &Shared) -> Router {
    routes
        .fallback(async || ApiError::RouteNotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(
            Arc::clone(app),
            hosts::check,
        ))
        .layer(middleware::from_fn_with_state(Arc::clone(app), observe))
        .with_state(Arc::clone(app))
}

/// Bounds the time of a route.
pub(crate) async fn deadline(limit: Duration, request: Request, next: Next) -> Response {
    tokio::time::timeout(limit, next.run(request))
        .await
        .unwrap_or_else(|_elapsed| ApiError::TimedOut.into_response())
}

/// A change runs on by itself: neither a caller that goes away nor the deadline
/// stops it half way. Its body is read before it begins, so what runs on never
/// waits for a caller.
pub(crate) async fn change(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let mut unread = Request::new(body);
    // They carry the limit of the body.
    unread.extensions_mut().clone_from(&parts.extensions);
    let body = match extract::body(unread, &()).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let run = next.run(Request::from_parts(parts, Body::from(body)));
    tokio::spawn(run.in_current_span())
        .await
        .unwrap_or_else(|_panic| ApiError::Internal.into_response())
}

async fn observe(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let id: RequestId = app.ids.next();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let wire = Wire::of(request.uri().path());
    let given = authzen::is_request(request.uri().path())
        .then(|| request.headers().get(REQUEST_ID).cloned())
        .flatten();
    let speaks_dpop = creto_ingress::speaks_dpop(request.headers());
    let span = request_span(&id, method.as_str(), route.as_deref().unwrap_or("none"));
    let began = app.clock.monotonic();
    let mut response = next.run(request).instrument(span.clone()).await;
    let took = app.clock.monotonic().saturating_sub(began);

    let _entered = span.enter();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        report(&app, &mut response);
        response = explain(&app, problem, &id, wire, response);
    }
    let status = response.status();
    tracing::debug!(status = status.as_u16(), ?took, "answered");
    app.governor
        .metrics()
        .http_request(method.as_str(), route.as_deref(), status.as_u16(), took);

    let headers = response.headers_mut();
    if speaks_dpop && let Ok(nonce) = HeaderValue::from_str(&app.governor.proof_nonce()) {
        headers.insert(NONCE_HEADER, nonce);
    }
    let named = match given {
        Some(given) => {
            tracing::debug!(client_request_id = ?given, "the caller's own name of it");
            Some(given)
        }
        None => HeaderValue::from_str(&id.to_string()).ok(),
    };
    if let Some(value) = named {
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

/// In whose words a refusal is told.
#[derive(Clone, Copy)]
enum Wire {
    Page,
    OAuth,
    Api,
}

impl Wire {
    fn of(path: &str) -> Self {
        if pages::is_page(path) {
            Self::Page
        } else if path == oauth::PATH {
            Self::OAuth
        } else {
            Self::Api
        }
    }
}

/// The problem as a document, as a page for a browser, or as OAuth has it.
fn explain(
    app: &Shared,
    mut problem: Problem,
    id: &RequestId,
    wire: Wire,
    response: Response,
) -> Response {
    problem.request_id = id.to_string();
    let (mut parts, _) = response.into_parts();
    if let Some(challenge) = parts.extensions.remove() {
        let algorithms = metadata::proof_algorithms(app);
        let challenge = problem::dpop_challenge(challenge, &algorithms);
        parts.headers.append(header::WWW_AUTHENTICATE, challenge);
    }
    let mut shown = match wire {
        Wire::Page => pages::problem(app, &problem),
        Wire::OAuth => oauth::refusal(problem),
        Wire::Api => {
            let body = serde_json::to_vec(&problem).unwrap_or_default();
            let mut response = Response::from_parts(parts, Body::from(body));
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static(problem::MEDIA_TYPE),
            );
            return response;
        }
    };
    let challenged = shown.status() == StatusCode::UNAUTHORIZED || !matches!(wire, Wire::OAuth);
    for (name, value) in &parts.headers {
        if challenged || name != header::WWW_AUTHENTICATE {
            shown.headers_mut().append(name, value.clone());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::http::HeaderMap;
    use axum::routing::post;
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use tower::ServiceExt as _;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    fn route(handler: axum::routing::MethodRouter) -> Router {
        Router::new().route(
            "/",
            handler
                .route_layer(middleware::from_fn(change))
                .route_layer(middleware::from_fn(|request: Request, next: Next| {
                    deadline(LIMIT, request, next)
                })),
        )
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_let_go_at_the_deadline() {
        let held = Arc::new(());
        let guard = Arc::clone(&held);
        let endless = Full::new(Bytes::from("{")).with_trailers(async move {
            let _held = guard;
            std::future::pending::<Option<Result<HeaderMap, Infallible>>>().await
        });
        let router = route(post(async |_: Bytes| ()));
        let request = Request::post("/").body(Body::new(endless)).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&held), 1, "nobody waits for it any more");
    }

    #[tokio::test]
    async fn a_change_that_began_is_finished() {
        let done = Arc::new(AtomicBool::new(false));
        let set = Arc::clone(&done);
        let router = route(post(async move |body: Bytes| {
            tokio::time::sleep(2 * LIMIT).await;
            set.store(body == "{}", Ordering::Relaxed);
        }));
        let request = Request::post("/").body(Body::from("{}")).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(!done.load(Ordering::Relaxed));
        tokio::time::sleep(4 * LIMIT).await;
        assert!(done.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_change_has_a_largest_body() {
        let router = route(post(async |_: Bytes| ())).layer(DefaultBodyLimit::max(3));
        let send = async |body: &'static str| {
            let request = Request::post("/").body(Body::from(body)).unwrap();
            router.clone().oneshot(request).await.unwrap().status()
        };
        assert_eq!(send("123").await, StatusCode::OK);
        assert_eq!(send("1234").await, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
