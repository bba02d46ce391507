//! The token endpoint of OAuth 2.0 (RFC 6749, section 3.2) with the one grant there
//! is, the token exchange of RFC 8693: what arrives, and what is answered. What a
//! parameter asks for is honoured or refused; those that no specification of these
//! knows are ignored, as RFC 6749 demands.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use creto_governor::{ExchangeRequest, TokenAnswer};
use creto_types::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::problem::Problem;

/// Where it is.
pub(crate) const PATH: &str = "/oauth/token";

/// The only `grant_type` (RFC 8693, section 2.1).
pub(crate) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// RFC 8693, section 3. A token of Creto is both: an access token, and a JWT.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The only `audience` there is.
const AUDIENCE: &str = "creto";

/// A token exchange. A parameter without a value counts as absent (RFC 6749, section
/// 3.2); one that is there twice is refused.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ExchangeForm {
    /// `urn:ietf:params:oauth:grant-type:token-exchange`.
    grant_type: Option<String>,
    /// The agent's token.
    subject_token: Option<String>,
    /// `urn:ietf:params:oauth:token-type:access_token` or `...:jwt`.
    subject_token_type: Option<String>,
    /// Another token of the same agent and delegation, of the instance that acts.
    actor_token: Option<String>,
    /// Of the same kinds; there when `actor_token` is.
    actor_token_type: Option<String>,
    /// Of the same kinds; an access token when absent.
    requested_token_type: Option<String>,
    /// `creto`, or absent.
    audience: Option<String>,
    /// Always refused: tokens are for Creto.
    resource: Option<String>,
    /// Always refused: a token has the rights of its delegation.
    scope: Option<String>,
    /// The instance of the agent that the new token is bound to.
    creto_instance: Option<String>,
    /// The thumbprint (RFC 7638) of the key that the new token is bound to; that of the
    /// proof in the header `DPoP`, if any, when absent.
    creto_jkt: Option<String>,
    /// How many seconds it is good for; never longer than the tokens given.
    creto_ttl_seconds: Option<String>,
}

/// What a form asks for.
pub(crate) struct Asked {
    pub(crate) subject: String,
    pub(crate) actor: Option<String>,
    pub(crate) issued_type: &'static str,
    pub(crate) request: ExchangeRequest,
}

impl ExchangeForm {
    pub(crate) fn read(self) -> Result<Asked, ApiError> {
        match given(self.grant_type).as_deref() {
            Some(TOKEN_EXCHANGE) => {}
            Some(_) => return Err(ApiError::GrantUnsupported),
            None => return Err(missing("grant_type")),
        }
        let subject = given(self.subject_token).ok_or_else(|| missing("subject_token"))?;
        let kind = given(self.subject_token_type).ok_or_else(|| missing("subject_token_type"))?;
        token_type("subject_token_type", &kind)?;
        let actor = given(self.actor_token);
        match (&actor, given(self.actor_token_type)) {
            (Some(_), Some(kind)) => {
                token_type("actor_token_type", &kind)?;
            }
            (None, None) => {}
            (Some(_), None) => return Err(missing("actor_token_type")),
            (None, Some(_)) => return Err(missing("actor_token")),
        }
        let issued_type = match given(self.requested_token_type) {
            Some(kind) => token_type("requested_token_type", &kind)?,
            None => ACCESS_TOKEN,
        };
        let elsewhere = given(self.audience).is_some_and(|audience| audience != AUDIENCE);
        if elsewhere || given(self.resource).is_some() {
            return Err(ApiError::TargetUnknown);
        }
        if given(self.scope).is_some() {
            return Err(ApiError::ScopeUnsupported);
        }
        let ttl_seconds = given(self.creto_ttl_seconds)
            .map(|text| text.parse())
            .transpose()
            .map_err(|_| ApiError::value("creto_ttl_seconds", "a whole number is expected"))?;
        Ok(Asked {
            subject,
            actor,
            issued_type,
            request: ExchangeRequest {
                instance: given(self.creto_instance),
                jkt: given(self.creto_jkt),
                ttl_seconds,
            },
        })
    }
}

fn given(parameter: Option<String>) -> Option<String> {
    parameter.filter(|text| !text.is_empty())
}

fn missing(field: &'static str) -> ApiError {
    ApiError::value(field, "is expected")
}

fn token_type(field: &'static str, text: &str) -> Result<&'static str, ApiError> {
    [ACCESS_TOKEN, JWT]
        .into_iter()
        .find(|known| *known == text)
        .ok_or_else(|| ApiError::value(field, format!("{ACCESS_TOKEN} or {JWT} is expected")))
}

/// A token for a token (RFC 8693, section 2.2.1).
#[derive(Serialize, JsonSchema)]
pub(crate) struct Exchanged {
    /// The token; it is shown once.
    access_token: String,
    /// As asked.
    issued_token_type: &'static str,
    /// `Bearer`, or `DPoP` for one that is bound to a key (RFC 9449, section 5).
    token_type: &'static str,
    /// For how many seconds it is valid.
    expires_in: u64,
}

impl Exchanged {
    pub(crate) fn of(
        answer: TokenAnswer,
        issued_token_type: &'static str,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            access_token: answer.token.ok_or(ApiError::Internal)?,
            issued_token_type,
            token_type: match answer.jkt {
                Some(_) => "DPoP",
                None => "Bearer",
            },
            // A begun second is not told as a whole one.
            expires_in: u64::try_from(answer.expires_at.duration_since(now).as_secs())
                .unwrap_or_default(),
        })
    }
}

/// Why there is no token (RFC 6749, section 5.2).
#[derive(Serialize, JsonSchema)]
pub(crate) struct Refusal {
    /// Of RFC 6749, section 5.2, RFC 8693, section 2.2.2, and RFC 9449, sections 5 and 8; `slow_down` as in RFC
    /// 8628, section 3.5; `temporarily_unavailable` and `server_error` as in RFC 6749,
    /// section 4.1.2.1.
    error: &'static str,
    /// What happened this time.
    error_description: String,
    /// Creto's own code: the name of a page in `docs/errors/`.
    code: String,
    /// Names this request in the server's log.
    request_id: String,
}

/// The same refusal in OAuth's words. What is wrong with a token that was given, or
/// with what it may do, is an invalid request (RFC 8693, section 2.2.2).
pub(crate) fn refusal(problem: Problem) -> Response {
    let own = [
        "invalid_client",
        "unsupported_grant_type",
        "invalid_target",
        "invalid_scope",
        "invalid_dpop_proof",
        "use_dpop_nonce",
    ];
    let own = own.into_iter().find(|error| *error == problem.code);
    let (status, error) = match (own, problem.status()) {
        (Some("invalid_client"), _) => (StatusCode::UNAUTHORIZED, "invalid_client"),
        (Some(error), _) => (StatusCode::BAD_REQUEST, error),
        // RFC 9449 has one word for whatever is wrong with a proof.
        (None, _) if problem.oauth == Some("invalid_dpop_proof") => {
            (StatusCode::BAD_REQUEST, "invalid_dpop_proof")
        }
        (None, status @ StatusCode::TOO_MANY_REQUESTS) => (status, "slow_down"),
        (None, status @ StatusCode::SERVICE_UNAVAILABLE) => (status, "temporarily_unavailable"),
        (None, status) if status.is_server_error() => (status, "server_error"),
        (
            None,
            status @ (StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::MISDIRECTED_REQUEST),
        ) => (status, "invalid_request"),
        (None, _) => (StatusCode::BAD_REQUEST, "invalid_request"),
    };
    let body = Refusal {
        error,
        error_description: problem.detail.chars().map(printable).collect(),
        code: problem.code,
        request_id: problem.request_id,
    };
    (status, axum::Json(body)).into_response()
}

/// RFC 6749, section 5.2: printable ASCII but for the quote and the backslash.
fn printable(c: char) -> char {
    match c {
        '"' | '\\' => '\'',
        ' '..='~' => c,
        _ => '?',
    }
}
