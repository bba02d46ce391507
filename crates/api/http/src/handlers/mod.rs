//! One function a route: read the request, call the governor, give its answer.

pub(crate) mod actions;
pub(crate) mod authority;
pub(crate) mod authzen;
pub(crate) mod billing;
pub(crate) mod export;
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
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::error::ApiError;

/// A document, or why there is none.
pub(crate) type Reply<T> = Result<Json<T>, ApiError>;

/// A document about something that was made.
pub(crate) type Created<T> = Result<(StatusCode, Json<T>), ApiError>;

/// A document with a secret in it: written once, into room that it fills exactly, and wiped
/// when it is sent.
pub(crate) struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    pub(crate) fn of(document: &impl Serialize) -> Result<Self, ApiError> {
        let mut length = Length(0);
        serde_json::to_writer(&mut length, document).map_err(|_| ApiError::Internal)?;
        // Growing would leave parts of the secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
        serde_json::to_writer(&mut *bytes, document).map_err(|_| ApiError::Internal)?;
        Ok(Self(bytes))
    }
}

impl IntoResponse for Wiped {
    fn into_response(self) -> Response {
        let mut response = Bytes::from_owner(self.0).into_response();
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

/// Counts what is written.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Wiped;

    #[test]
    fn a_secret_is_written_into_room_that_it_fills() {
        let document = json!({ "value": "\"\u{7}é\n".repeat(500), "version": 1 });
        let Wiped(bytes) = Wiped::of(&document).unwrap();
        assert_eq!(bytes.capacity(), bytes.len());
        assert_eq!(*bytes, serde_json::to_vec(&document).unwrap());
    }
}
