//! The governor over HTTP: a JSON API under `/v1`, and pages under `/oversight`
//! where a person approves or denies.
//!
//! What this crate promises:
//!
//! - **One list of routes** ([`routes`]) makes the router and the description at
//!   `/openapi.json` (OpenAPI 3.1), so neither can say what the other does not.
//! - **Nothing works without a credential** but health, the description and the
//!   public keys. A bearer token is verified for every request, the whole chain
//!   included. A request that carries a [`creto_governor::Caller`] as an extension
//!   comes from a sandbox: the sandbox is its credential, and it may not bring
//!   another one.
//! - **Errors are problem documents** (RFC 9457) with a stable `code`; one file
//!   (`problem.rs`) maps every error to its status. A refused request changed
//!   nothing.
//! - **A change that began is finished** even when its caller goes away, so what
//!   is in memory and what is durable never part.
//! - **Pages change nothing on GET.** A form needs a session, which is a random id
//!   in an `HttpOnly`, `SameSite=Strict` cookie and never the credential, and the
//!   session's token against forged requests. No script runs on them.
//!
//! It is a mapping only: who may do what, and what is recorded, is decided below.

mod app;
mod auth;
mod error;
mod extract;
mod handlers;
mod observe;
mod openapi;
mod pages;
mod problem;
mod routes;
mod sessions;

use std::sync::Arc;

use axum::Router;
use creto_governor::Governor;
use creto_types::{Clock, IdSource, Randomness};

pub use problem::Problem;
pub use routes::{Auth, RouteInfo, routes};

/// The whole interface. Requests from sandboxes carry their
/// [`creto_governor::Caller`] as an extension.
pub fn router(
    governor: Arc<Governor>,
    ids: Arc<dyn IdSource>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Randomness>,
) -> Router {
    let app = app::App::new(governor, ids, clock, random);
    observe::finish(routes::router(&app), &app)
}
