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
//! - **A request means this server** or is refused: it names the address that is
//!   listened on, or the same port of `localhost`. A page elsewhere whose name
//!   leads here does not.
//! - **Errors are problem documents** (RFC 9457) with a stable `code`; one file
//!   (`problem.rs`) maps every error to its status. A refused request changed
//!   nothing.
//! - **A change that began is finished** even when its caller goes away, so what
//!   is in memory and what is durable never part. It begins when the whole request
//!   was read.
//! - **Answers are bounded.** What agents may make large is listed until the answer
//!   is full; `next` leads on.
//! - **Pages change nothing on GET.** A form needs a session, which is a random id
//!   in an `HttpOnly`, `SameSite=Strict` cookie and never the credential, and the
//!   session's token against forged requests. No script runs on them.
//!
//! [`monitoring`] is a second, smaller interface for another address: the logs'
//! public files, for strangers.
//!
//! It is a mapping only: who may do what, and what is recorded, is decided below.

mod app;
mod auth;
pub mod authzen;
mod error;
mod extract;
mod handlers;
mod hosts;
mod monitoring;
mod oauth;
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

pub use creto_ingress::Hosts;
pub use monitoring::monitoring;
pub use problem::Problem;
pub use routes::{Auth, RouteInfo, routes};

/// The whole interface, for requests that name one of these hosts. Requests from
/// sandboxes carry their [`creto_governor::Caller`] as an extension and may name
/// any.
pub fn router(
    governor: Arc<Governor>,
    hosts: Hosts,
    ids: Arc<dyn IdSource>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Randomness>,
) -> Router {
    let app = app::App::new(governor, hosts, ids, clock, random);
    observe::finish(routes::router(&app), &app)
}
