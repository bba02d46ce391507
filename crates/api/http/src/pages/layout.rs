//! What every page has around it.

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::app::App;
use crate::sessions;

const STYLE: &str = include_str!("style.css");

/// A whole page. The style is the only thing that runs, by a nonce that no
/// injected text can know.
pub(crate) fn page(app: &App, title: &str, body: &Markup) -> Response {
    let nonce = sessions::random_text(app.random.as_ref());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Creto" }
                style nonce=(nonce.as_str()) { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{}'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'",
        nonce.as_str()
    );
    let mut response = page.into_string().into_response();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}
