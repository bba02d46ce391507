//! RFC 8785, the JSON Canonicalization Scheme: one byte string for one value,
//! so that a digest or a signature over JSON means the same to everyone.

use creto_errors::{Class, Classify};
use serde::Serialize;

/// A value has no canonical JSON form, for example a non-finite number or a map
/// whose keys are not strings.
#[derive(Debug, thiserror::Error)]
#[error("the value has no canonical JSON form (RFC 8785)")]
pub struct CanonicalError(#[source] serde_json::Error);

impl Classify for CanonicalError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "not_canonicalizable"
    }
}

/// Serializes a value as RFC 8785 canonical JSON.
pub fn canonical_json<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    serde_json_canonicalizer::to_vec(value).map_err(CanonicalError)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8785, section 3.2.2 and 3.2.3.
    #[test]
    fn rfc_8785_example() {
        let input: serde_json::Value = serde_json::from_str(
            r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
                "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
                "literals":[null,true,false]}"#,
        )
        .unwrap();
        let canonical = canonical_json(&input).unwrap();
        assert_eq!(
            String::from_utf8(canonical).unwrap(),
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
    }
}
