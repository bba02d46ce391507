//! One function a route: read the request, call the governor, give its answer.

pub(crate) mod actions;
pub(crate) mod authority;
pub(crate) mod authzen;
pub(crate) mod billing;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod metadata;
pub(crate) mod oversight;
pub(crate) mod policies;
pub(crate) mod prekeys;
pub(crate) mod sandboxes;
pub(crate) mod secrets;
pub(crate) mod signing;
pub(crate) mod system;

use axum::Json;
use axum::http::StatusCode;

use crate::error::ApiError;

/// A document, or why there is none.
pub(crate) type Reply<T> = Result<Json<T>, ApiError>;

/// A document about something that was made.
pub(crate) type Created<T> = Result<(StatusCode, Json<T>), ApiError>;
