//! Texts that neither `Debug` nor the error of a malformed request shows.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The text of a single-use grant, as it is given and handed back.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct GrantText(String);

impl GrantText {
    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for GrantText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for GrantText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantText(..)")
    }
}

impl<'de> Deserialize<'de> for GrantText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer).map(Self)
    }
}

/// Reads a text, and refuses other types without quoting what they hold.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    // Asked for a string, `serde_json` would refuse them itself, and quote.
    deserializer.deserialize_any(Text)
}

struct Text;

impl Text {
    fn refuse<E: Error>(&self, what: &str) -> Result<String, E> {
        Err(E::invalid_type(Unexpected::Other(what), self))
    }
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<String, E> {
        self.refuse("boolean")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<String, E> {
        self.refuse("number")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<String, E> {
        self.refuse("number")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<String, E> {
        self.refuse("number")
    }
}

#[cfg(test)]
mod tests {
    use crate::{ActionRequest, SecretReadRequest, SecretRequest};

    #[test]
    fn a_value_of_another_type_is_not_quoted_back() {
        for value in [
            "8675309",
            "-8675309",
            "8675309.5",
            "86753090000000000000000000",
            "[8675309]",
            "{\"8675309\": 8675309}",
            "true",
            "null",
        ] {
            let put = format!(r#"{{"name": "a", "value": {value}}}"#);
            let error = serde_json::from_str::<SecretRequest>(&put).unwrap_err();
            let shown = error.to_string();
            assert!(shown.contains("expected a string"), "{shown}");
            assert!(
                !shown.contains("86753") && !shown.contains("true"),
                "{shown}"
            );
        }
        let error = serde_json::from_str::<SecretReadRequest>(r#"{"grant": 8675309}"#);
        let shown = error.unwrap_err().to_string();
        assert!(!shown.contains("86753"), "{shown}");
    }

    #[test]
    fn debug_shows_no_grant() {
        let text = r#"{"action": "a", "resource": "r", "grant": "grt_hunter2"}"#;
        let request: ActionRequest = serde_json::from_str(text).unwrap();
        let shown = format!("{request:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(request.grant.unwrap().as_str(), "grt_hunter2");
    }
}
