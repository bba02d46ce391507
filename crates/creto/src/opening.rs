//! What a leaf commits to, as the server gives it and as files keep it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::error::CliError;

/// The record of a leaf, which commits to this salt and payload.
pub(crate) fn record(leaf: &[u8], opening: &Value) -> Result<Value, CliError> {
    let (salt, payload) = (decoded(opening, "salt")?, decoded(opening, "payload")?);
    creto_server::opened(leaf, &salt, payload).map_err(CliError::server)
}

/// Bytes that are in base64.
pub(crate) fn decoded(document: &Value, name: &'static str) -> Result<Vec<u8>, CliError> {
    document
        .get(name)
        .and_then(Value::as_str)
        .and_then(|text| STANDARD.decode(text).ok())
        .ok_or(CliError::Answer { what: name })
}
