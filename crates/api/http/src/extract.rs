//! Reading requests: strictly, with errors that name what is wrong.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use creto_governor::{Caller, IdempotencyKey};
use creto_ingress::CredentialError;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// The largest body.
pub(crate) const BODY_LIMIT: usize = 1024 * 1024;

/// What a JSON document is not and a form is.
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A JSON document, read strictly. No body at all counts as `{}`.
pub(crate) struct Document<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Document<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let media_type = is_media_type(request.headers(), JSON);
        let body = body(request, state).await?;
        if body.is_empty() {
            return parse(b"{}").map(Self);
        }
        if !media_type {
            return Err(ApiError::MediaType { expected: JSON });
        }
        parse(&body).map(Self)
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let reader = &mut serde_json::Deserializer::from_slice(body);
    let value =
        serde_path_to_error::deserialize(&mut *reader).map_err(|error| ApiError::InvalidBody {
            field: error.path().to_string(),
            message: error.inner().to_string(),
        })?;
    reader.end().map_err(|error| ApiError::InvalidBody {
        field: String::new(),
        message: error.to_string(),
    })?;
    Ok(value)
}

/// The body of a JSON document, unread.
pub(crate) async fn json_body<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Bytes, ApiError> {
    let media_type = is_media_type(request.headers(), JSON);
    let body = body(request, state).await?;
    if media_type {
        Ok(body)
    } else {
        Err(ApiError::MediaType { expected: JSON })
    }
}

/// An HTML form.
pub(crate) struct Form<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let media_type = is_media_type(request.headers(), FORM);
        let body = body(request, state).await?;
        if !media_type && !body.is_empty() {
            return Err(ApiError::MediaType { expected: FORM });
        }
        let mut decoded = Request::new(axum::body::Body::from(body));
        decoded
            .headers_mut()
            .insert(CONTENT_TYPE, axum::http::HeaderValue::from_static(FORM));
        *decoded.method_mut() = axum::http::Method::POST;
        axum::Form::<T>::from_request(decoded, state)
            .await
            .map(|axum::Form(form)| Self(form))
            .map_err(|rejection| ApiError::InvalidBody {
                field: String::new(),
                message: rejection.body_text(),
            })
    }
}

/// The largest body of a route that has another limit than most.
#[derive(Clone, Copy)]
pub(crate) struct BodyLimit(pub(crate) usize);

/// The whole body, up to the limit.
pub(crate) async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let limit = request.extensions().get::<BodyLimit>();
    let limit = limit.map_or(BODY_LIMIT, |limit| limit.0);
    Bytes::from_request(request, state).await.map_err(|error| {
        if error.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::BodyTooLarge { limit }
        } else {
            ApiError::BodyUnreadable
        }
    })
}

fn is_media_type(headers: &HeaderMap, expected: &str) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|given| given.trim().eq_ignore_ascii_case(expected))
}

/// The query of the address.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(query)| Self(query))
            .map_err(|rejection| ApiError::InvalidQuery {
                message: rejection.body_text(),
            })
    }
}

/// The only parameter of the path.
pub(crate) struct Name<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Name<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::value("path", rejection.body_text()))?;
        text.parse()
            .map(Self)
            .map_err(|error: T::Err| ApiError::value("id", error.to_string()))
    }
}

/// Who asks; put there by `auth.rs` on every route that needs a credential.
pub(crate) struct Authenticated(pub(crate) Caller);

impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned();
        Ok(caller.map(Self).ok_or(CredentialError::Missing)?)
    }
}

/// The `Idempotency-Key`, when there is one.
pub(crate) struct Key(pub(crate) Option<IdempotencyKey>);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(KEY_HEADER).iter();
        let Some(value) = values.next() else {
            return Ok(Self(None));
        };
        let text = value.to_str().unwrap_or_default();
        let key = IdempotencyKey::new(text)?;
        if values.next().is_some() {
            return Err(ApiError::value(KEY_HEADER, "more than one is given"));
        }
        Ok(Self(Some(key)))
    }
}

/// The header of [`Key`].
pub(crate) const KEY_HEADER: &str = "Idempotency-Key";

/// A page of a list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// The `next` of the page before; the beginning when absent.
    #[serde(default)]
    pub(crate) after: Option<String>,
    /// 1 to 500; 50 when absent.
    #[serde(default)]
    pub(crate) limit: Option<usize>,
}

impl ListQuery {
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        limit(self.limit, 500)
    }
}

pub(crate) fn limit(asked: Option<usize>, most: usize) -> Result<usize, ApiError> {
    let limit = asked.unwrap_or(50);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::value(
        "limit",
        format!("1 to {most} are expected, not {limit}"),
    ))
}

/// Reads an optional id of the query.
pub(crate) fn parse_after<T>(after: Option<&str>) -> Result<Option<T>, ApiError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    after
        .map(|text| {
            text.parse()
                .map_err(|error: T::Err| ApiError::value("after", error.to_string()))
        })
        .transpose()
}

/// A part of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub(crate) struct List<T> {
    /// In order.
    pub(crate) items: Vec<T>,
    /// `after` of the next part; `null` at the end.
    pub(crate) next: Option<String>,
}

impl<T> List<T> {
    /// Cuts what was asked with one item more than `limit`, to know whether there
    /// is more.
    pub(crate) fn cut(mut items: Vec<T>, limit: usize, id: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(id);
        Self { items, next }
    }
}

/// How long a call may wait for something to happen.
pub(crate) fn wait(seconds: Option<u64>) -> Result<Option<std::time::Duration>, ApiError> {
    match seconds {
        Some(seconds) if seconds > MAX_WAIT_SECONDS => Err(ApiError::value(
            "wait_seconds",
            format!("at most {MAX_WAIT_SECONDS} are allowed; ask again afterwards"),
        )),
        Some(seconds) => Ok(Some(std::time::Duration::from_secs(seconds))),
        None => Ok(None),
    }
}

/// Below the time after which proxies commonly give up.
pub(crate) const MAX_WAIT_SECONDS: u64 = 50;

/// Takes in what a refused caller is still sending, within bounds. A connection that
/// is closed over unread bytes is reset, and the reset overtakes the refusal.
pub(crate) async fn let_arrive(request: Request) {
    const AT_MOST: usize = 64 * 1024;
    const PATIENCE: Duration = Duration::from_secs(1);
    let body = axum::body::to_bytes(request.into_body(), AT_MOST);
    // A longer or slower body is cut off; its caller may see the reset.
    let _ = tokio::time::timeout(PATIENCE, body).await;
}
