//! Routes: the router and the description are both made of one list of them
//! (`table.rs`).

mod keys;
mod signing;
mod table;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::routing::{MethodFilter, MethodRouter};
use axum::{Extension, Router};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::app::Shared;
use crate::extract::{BODY_LIMIT, BodyLimit};
use crate::{auth, observe};

pub(crate) use table::table;

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Nothing.
    Public,
    /// A token, or the sandbox that the request comes from.
    Credential,
    /// A person's session or token.
    Page,
    /// A person's credential in the body.
    Login,
    /// An agent's token in the body.
    Exchange,
}

/// What is told about a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// With parameters in braces.
    pub path: &'static str,
    /// The operation's name in the description.
    pub operation: &'static str,
    /// What it asks of its caller.
    pub auth: Auth,
    /// Whether it takes an `Idempotency-Key`.
    pub idempotent: bool,
}

/// Every route there is.
#[must_use]
pub fn routes() -> Vec<RouteInfo> {
    table().iter().map(|route| route.info).collect()
}

pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The body of a successful answer.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    Json(SchemaOf),
    /// Of this media type.
    Other(&'static str),
    /// None: the answer leads elsewhere.
    None,
}

pub(crate) struct Route {
    pub(crate) info: RouteInfo,
    pub(crate) summary: &'static str,
    pub(crate) query: Option<SchemaOf>,
    pub(crate) request: Option<SchemaOf>,
    /// Whether the request is an HTML form.
    pub(crate) form: bool,
    pub(crate) answer: Body,
    pub(crate) status: u16,
    /// Whether it changes something; what does is never stopped half way.
    changes: bool,
    limit: Duration,
    body: usize,
    mount: Mount,
}

type Mount = fn(MethodFilter) -> MethodRouter<Shared>;

/// Enough for anything but what waits or walks the whole log.
const USUAL: Duration = Duration::from_secs(30);

/// Longer than the longest wait that may be asked for.
const WAITS: Duration = Duration::from_secs(60);

/// An export may have to search the whole log before its first byte, from where on no limit
/// is; a retirement seals payloads anew.
const WHOLE_LOG: Duration = Duration::from_secs(280);

/// A bundle of policies as JSON: twice its text, for what has to be escaped.
const BUNDLE_BODY: usize = 2 * creto_governor::MAX_POLICY_BYTES;

fn schema<T: JsonSchema>() -> SchemaOf {
    |generator| generator.subschema_for::<T>()
}

impl Route {
    fn new(
        method: &'static str,
        path: &'static str,
        operation: &'static str,
        summary: &'static str,
        mount: Mount,
    ) -> Self {
        Self {
            info: RouteInfo {
                method,
                path,
                operation,
                auth: Auth::Credential,
                idempotent: method == "POST",
            },
            summary,
            query: None,
            request: None,
            form: false,
            answer: Body::None,
            status: 200,
            changes: method == "POST",
            limit: USUAL,
            body: BODY_LIMIT,
            mount,
        }
    }

    fn get(
        path: &'static str,
        operation: &'static str,
        summary: &'static str,
        mount: Mount,
    ) -> Self {
        Self::new("GET", path, operation, summary, mount)
    }

    fn post(
        path: &'static str,
        operation: &'static str,
        summary: &'static str,
        mount: Mount,
    ) -> Self {
        Self::new("POST", path, operation, summary, mount)
    }

    fn takes<T: JsonSchema>(mut self) -> Self {
        self.request = Some(schema::<T>());
        self
    }

    fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(schema::<T>());
        self
    }

    fn gives<T: JsonSchema>(mut self) -> Self {
        self.answer = Body::Json(schema::<T>());
        self
    }

    fn gives_other(mut self, media_type: &'static str) -> Self {
        self.answer = Body::Other(media_type);
        self
    }

    /// A POST that changes nothing.
    fn question(mut self) -> Self {
        self.info.idempotent = false;
        self.changes = false;
        self
    }

    /// A POST that changes something and takes no `Idempotency-Key`.
    fn unkeyed(mut self) -> Self {
        self.info.idempotent = false;
        self
    }

    /// It is under way afterwards.
    fn accepted(mut self) -> Self {
        self.status = 202;
        self
    }

    /// The answer to it stands in the response itself.
    fn ok(mut self) -> Self {
        self.status = 200;
        self
    }

    /// Something new exists afterwards.
    fn created(mut self) -> Self {
        self.status = 201;
        self
    }

    fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// A body may be as large as a bundle of policies.
    fn large(mut self) -> Self {
        self.body = BUNDLE_BODY;
        self
    }

    fn public(mut self) -> Self {
        self.info.auth = Auth::Public;
        self
    }

    fn page(mut self) -> Self {
        self.info.auth = Auth::Page;
        self.answer = Body::Other("text/html");
        self
    }

    /// A form whose answer leads to a page.
    fn form<T: JsonSchema>(mut self, auth: Auth) -> Self {
        self.info.auth = auth;
        self.info.idempotent = false;
        self.request = Some(schema::<T>());
        self.form = true;
        self.status = 303;
        self
    }
}

/// The router; what all routes share is put around it by `observe.rs`.
pub(crate) fn router(app: &Shared) -> Router<Shared> {
    table().into_iter().fold(Router::new(), |router, route| {
        let filter = match route.info.method {
            "GET" => MethodFilter::GET,
            _ => MethodFilter::POST,
        };
        let mut mounted = (route.mount)(filter);
        if route.changes {
            mounted = mounted.route_layer(middleware::from_fn(observe::change));
        }
        let operation = route.info.operation;
        if let Auth::Credential | Auth::Page = route.info.auth {
            // Inside what tells who asks, so after it.
            mounted = mounted.route_layer(middleware::from_fn(move |request, next| {
                auth::role(operation, request, next)
            }));
        }
        if route.body != BODY_LIMIT {
            let limit = BodyLimit(route.body);
            mounted = mounted
                .route_layer(DefaultBodyLimit::max(route.body))
                .route_layer(Extension(limit));
        }
        let state = || Arc::clone(app);
        let guarded = match route.info.auth {
            Auth::Public => mounted,
            Auth::Credential => {
                mounted.route_layer(middleware::from_fn_with_state(state(), auth::credential))
            }
            Auth::Page => mounted.route_layer(middleware::from_fn_with_state(state(), auth::page)),
            Auth::Login => mounted.route_layer(middleware::from_fn(auth::login)),
            Auth::Exchange => {
                mounted.route_layer(middleware::from_fn_with_state(state(), auth::exchange))
            }
        };
        let limit = route.limit;
        let bounded =
            guarded.route_layer(middleware::from_fn(move |request: Request, next: Next| {
                observe::deadline(limit, request, next)
            }));
        router.route(route.info.path, bounded)
    })
}
