//! Pages for the person who approves, most likely on a phone: what is asked, in
//! full, and two buttons. No script, nothing from elsewhere, no change on GET.

mod layout;
mod show;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{COOKIE, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use creto_errors::{Class, Classify as _};
use creto_governor::{Caller, GovernError, IdempotencyKey};
use creto_ingress::CredentialError;
use creto_nhi::{DpopError, NhiError, Presented};
use creto_oversight::{OversightError, RequestId};
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::app::{App, Shared};
use crate::error::ApiError;
use crate::extract::{Form, Name, Params, parse_after};
use crate::handlers::oversight::{state, walk};
use crate::problem::Problem;
use crate::sessions::{self, Session};

/// Where a person starts.
pub(crate) const HOME: &str = "/oversight";

/// How many requests one page shows.
const PAGE_LENGTH: usize = 20;

/// Who looks at a page; put there by `auth.rs`.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) caller: Caller,
    /// The browser's session; none for a bearer token, which gets no forms.
    pub(crate) session: Option<Arc<Session>>,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _: &S,
    ) -> Result<Self, ApiError> {
        let visitor = parts.extensions.get::<Self>().cloned();
        Ok(visitor.ok_or(CredentialError::Missing)?)
    }
}

impl Visitor {
    /// Refuses a form that this session did not show.
    fn check(&self, form_token: &str) -> Result<(), ApiError> {
        let own = self.session.as_ref().map(|session| &session.form_token);
        match own {
            Some(own) if sessions::same(own, form_token) => Ok(()),
            _ => Err(ApiError::Forgery),
        }
    }
}

/// Which requests to show.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListPageQuery {
    /// `all`, or the name of a state; `pending` when absent.
    #[serde(default)]
    state: Option<String>,
    /// Where the page before ended.
    #[serde(default)]
    after: Option<String>,
}

/// The form to decide a request.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionForm {
    /// The session's token.
    #[serde(default)]
    form_token: String,
    /// The digest of what the page showed.
    #[serde(default)]
    digest: String,
    /// Makes a double tap one decision.
    #[serde(default)]
    key: String,
    /// Why; may be empty.
    #[serde(default)]
    reason: String,
}

/// The form to log in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginForm {
    /// The token of the login cookie.
    #[serde(default)]
    form_token: String,
    /// The kind of the credential.
    #[serde(default = "token")]
    kind: String,
    /// What proves who the person is; of the kind `token` a bearer token, for one that is
    /// bound to a key begins no session.
    #[serde(default)]
    credential: String,
    /// The page to go on to.
    #[serde(default)]
    next: String,
}

fn token() -> String {
    "token".to_owned()
}

/// The form to log out.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogoutForm {
    /// The session's token.
    #[serde(default)]
    form_token: String,
}

/// Whether a path belongs to the pages, whose problems are pages too.
pub(crate) fn is_page(path: &str) -> bool {
    path == HOME
        || path
            .strip_prefix(HOME)
            .is_some_and(|rest| rest.starts_with('/'))
}

pub(crate) async fn list(
    State(app): State<Shared>,
    visitor: Visitor,
    Params(query): Params<ListPageQuery>,
) -> Result<Response, ApiError> {
    let shown = query.state.as_deref().unwrap_or("pending");
    let wanted = state(Some(shown).filter(|shown| *shown != "all"))?;
    let after = parse_after(query.after.as_deref())?;
    let mut items = Vec::new();
    let more = walk(
        &app,
        &visitor.caller,
        wanted,
        after,
        PAGE_LENGTH,
        |mut item| {
            // The list does not show them, and they may be large.
            item.args = serde_json::Value::Null;
            items.push(item);
            Ok(true)
        },
    )
    .await?;
    let next = items.last().filter(|_| more).map(|item| item.id.clone());
    let body = show::list(&visitor, &items, shown, next.as_deref(), app.clock.now());
    Ok(layout::page(&app, "Requests", &body))
}

pub(crate) async fn request(
    State(app): State<Shared>,
    visitor: Visitor,
    Name(id): Name<RequestId>,
) -> Result<Response, ApiError> {
    let request = app
        .governor
        .oversight_request(&visitor.caller, id, None)
        .await?;
    let key = sessions::random_text(app.random.as_ref());
    let body = show::request(&visitor, &request, &key, app.clock.now());
    Ok(layout::page(&app, &request.action, &body))
}

pub(crate) async fn approve(
    State(app): State<Shared>,
    visitor: Visitor,
    Name(id): Name<RequestId>,
    Form(form): Form<DecisionForm>,
) -> Result<Response, ApiError> {
    decide(&app, &visitor, id, form, true).await
}

pub(crate) async fn deny(
    State(app): State<Shared>,
    visitor: Visitor,
    Name(id): Name<RequestId>,
    Form(form): Form<DecisionForm>,
) -> Result<Response, ApiError> {
    decide(&app, &visitor, id, form, false).await
}

async fn decide(
    app: &App,
    visitor: &Visitor,
    id: RequestId,
    form: DecisionForm,
    approve: bool,
) -> Result<Response, ApiError> {
    visitor.check(&form.form_token)?;
    let caller = &visitor.caller;
    let shown = app.governor.oversight_request(caller, id, None).await?;
    if shown.digest != form.digest {
        return Err(ApiError::ApprovalMismatch);
    }
    let key = Some(IdempotencyKey::new(&form.key)?);
    let reason = Some(form.reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    let decided = if approve {
        app.governor.approve(caller, id, reason, key).await
    } else {
        app.governor.deny_request(caller, id, reason, key).await
    };
    match decided {
        // The page says how it was decided, and by whom.
        Ok(_)
        | Err(GovernError::Oversight(
            OversightError::AlreadyDecided { .. } | OversightError::Expired { .. },
        )) => Ok(see_other(&format!("{HOME}/requests/{id}"))),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn login(
    State(app): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Result<Response, ApiError> {
    let credential = Zeroizing::new(form.credential);
    let credential = credential.trim();
    let next = safe_next(&form.next);
    if credential.is_empty() {
        return Ok(login_needed(&app, &headers, next, None));
    }
    // Nobody logs somebody else's browser in: the form repeats a cookie that
    // another site can neither read nor set.
    let cookie = sessions::cookie(&headers, sessions::LOGIN_COOKIE).unwrap_or_default();
    if !sessions::same(cookie, &form.form_token) {
        return Err(ApiError::Forgery);
    }
    let presented = Presented {
        credential,
        challenge: cookie,
    };
    let caller = match app.governor.log_in(&form.kind, presented).await {
        Ok(caller) => caller,
        Err(GovernError::Nhi(NhiError::NotHuman { name })) => {
            let name = name.to_string();
            return Err(ApiError::PageForPeople { name });
        }
        // No other credential would help.
        Err(error @ GovernError::Invalid { .. }) => return Err(error.into()),
        Err(error) if error.class() == Class::Transient => return Err(error.into()),
        Err(error) => {
            let why = match &error {
                // A browser has no key to prove, so no form can help: see decision 0022.
                GovernError::Nhi(NhiError::Dpop(DpopError::ProofRequired)) => {
                    "This credential is bound to a key, which a browser cannot prove to have: it \
                     begins no session. Use one that is not bound."
                }
                _ => "This credential is not valid, or not any more.",
            };
            return Ok(login_needed(&app, &headers, next, Some(why)));
        }
    };
    let id = app.sessions.begin(caller);
    let mut response = see_other(next);
    set_cookie(
        &mut response,
        &headers,
        sessions::COOKIE,
        &id,
        sessions::LIFETIME.as_secs(),
    );
    set_cookie(&mut response, &headers, sessions::LOGIN_COOKIE, "", 0);
    Ok(response)
}

pub(crate) async fn logout(
    State(app): State<Shared>,
    headers: HeaderMap,
    visitor: Visitor,
    Form(form): Form<LogoutForm>,
) -> Result<Response, ApiError> {
    visitor.check(&form.form_token)?;
    if let Some(id) = sessions::cookie(&headers, sessions::COOKIE) {
        app.sessions.remove(id);
    }
    let mut response = see_other(HOME);
    set_cookie(&mut response, &headers, sessions::COOKIE, "", 0);
    Ok(response)
}

/// The login form instead of the page that was asked for.
pub(crate) fn login_needed(
    app: &App,
    headers: &HeaderMap,
    next: &str,
    why: Option<&str>,
) -> Response {
    let token = sessions::random_text(app.random.as_ref());
    let body = show::login(&token, safe_next(next), why);
    let mut response = layout::page(app, "Log in", &body);
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(
        WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"creto\""),
    );
    let minutes = 30;
    set_cookie(
        &mut response,
        headers,
        sessions::LOGIN_COOKIE,
        &token,
        minutes * 60,
    );
    response
}

/// A problem as a page.
pub(crate) fn problem(app: &App, problem: &Problem) -> Response {
    let mut response = layout::page(app, &problem.title, &show::problem(problem));
    *response.status_mut() = problem.status();
    response
}

/// A page of this server and nothing else: the text comes back from a form.
fn safe_next(next: &str) -> &str {
    let plain = next
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-'));
    if plain && is_page(next) && !next.contains("//") {
        next
    } else {
        HOME
    }
}

fn see_other(path: &str) -> Response {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static(HOME));
    (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response()
}

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Sets a cookie that no script reads and no other site sends. Behind a proxy that
/// terminates TLS it is sent over TLS only.
fn set_cookie(response: &mut Response, request: &HeaderMap, name: &str, value: &str, age: u64) {
    let secure = match request.get(FORWARDED_PROTO) {
        Some(scheme) if scheme == "https" => "; Secure",
        _ => "",
    };
    let cookie = Zeroizing::new(format!(
        "{name}={value}; Path={HOME}; HttpOnly; SameSite=Strict; Max-Age={age}{secure}"
    ));
    if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
        cookie.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
        .headers_mut()
        .append(axum::http::header::VARY, HeaderValue::from_name(COOKIE));
}
