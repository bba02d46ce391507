//! The two spans by which a log can be searched.

use creto_types::{ActionId, Id, IdKind};
use tracing::Span;
use tracing::field::{Empty, display};

/// The kind of [`RequestId`].
#[derive(Debug)]
pub enum RequestKind {}

impl IdKind for RequestKind {
    const PREFIX: &'static str = "req";
}

/// One request from outside; every answer carries it.
pub type RequestId = Id<RequestKind>;

/// The span of one request. `route` is the matched pattern (`/v1/actions/{id}`),
/// never the path, which may hold what a caller wrote. [`record_action`] fills
/// in `action_id` once the action is known.
#[must_use]
pub fn request_span(request_id: &RequestId, method: &str, route: &str) -> Span {
    tracing::info_span!(
        "request",
        request_id = %request_id,
        method,
        route,
        action_id = Empty
    )
}

/// The span of one governed action, for work that no request waits for.
#[must_use]
pub fn action_span(action_id: &ActionId) -> Span {
    tracing::info_span!("action", action_id = %action_id)
}

/// Names the governed action in the current span, which [`request_span`] made.
pub fn record_action(action_id: &ActionId) {
    Span::current().record("action_id", display(action_id));
}
