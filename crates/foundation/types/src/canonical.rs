//! RFC 8785, the JSON Canonicalization Scheme: one byte string for one value,
//! so that a digest or a signature over JSON means the same to everyone.

use std::cmp::Ordering;
use std::io::Write as _;

use creto_errors::{Class, Classify};
use serde::Serialize;
use serde_json::{Map, Number, Value};

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

/// Appends the bytes that [`canonical_json`] gives for the value. For what is written for
/// every record of a log: nothing but the order of members is kept beside the output. When
/// it fails, part of the value may have been appended.
pub fn append_canonical(value: &Value, output: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => output.extend_from_slice(b"null"),
        Value::Bool(true) => output.extend_from_slice(b"true"),
        Value::Bool(false) => output.extend_from_slice(b"false"),
        Value::Number(number) => append_number(number, output)?,
        Value::String(text) => append_canonical_str(text, output)?,
        Value::Array(items) => {
            output.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    output.push(b',');
                }
                append_canonical(item, output)?;
            }
            output.push(b']');
        }
        Value::Object(members) => append_members(members, output)?,
    }
    Ok(())
}

fn append_members(
    members: &Map<String, Value>,
    output: &mut Vec<u8>,
) -> Result<(), CanonicalError> {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_unstable_by(|(one, _), (other, _)| order_of_names(one, other));
    output.push(b'{');
    for (n, (name, value)) in members.into_iter().enumerate() {
        if n > 0 {
            output.push(b',');
        }
        append_canonical_str(name, output)?;
        output.push(b':');
        append_canonical(value, output)?;
    }
    output.push(b'}');
    Ok(())
}

/// Appends the bytes that [`canonical_json`] gives for the text.
pub fn append_canonical_str(text: &str, output: &mut Vec<u8>) -> Result<(), CanonicalError> {
    serde_json::to_writer(output, text).map_err(CanonicalError)
}

/// Whole numbers that a double holds exactly are written as they are; the others are a
/// matter of ECMAScript (section 3.2.2.3).
fn append_number(number: &Number, output: &mut Vec<u8>) -> Result<(), CanonicalError> {
    const EXACT: u64 = 1 << 53;
    match number.as_i64().filter(|n| n.unsigned_abs() <= EXACT) {
        // Writing to memory does not fail.
        Some(whole) => write!(output, "{whole}").unwrap_or_default(),
        None => serde_json_canonicalizer::to_writer(number, output).map_err(CanonicalError)?,
    }
    Ok(())
}

/// That of UTF-16 (section 3.2.3), which is that of the bytes unless characters beyond the
/// basic plane are among them.
fn order_of_names(one: &str, other: &str) -> Ordering {
    if one.is_ascii() && other.is_ascii() {
        return one.cmp(other);
    }
    one.encode_utf16().cmp(other.encode_utf16())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            any::<String>(),
            "[\u{0}-\u{ff}]{0,6}",
            "[\u{d7ff}\u{e000}\u{ffff}\u{10000}a]{0,3}"
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-9_i64..10).prop_map(|n| json!((1_i64 << 53) + n)),
            any::<f64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_appended_is_what_the_library_gives(value in value()) {
            let mut output = b"before".to_vec();
            append_canonical(&value, &mut output).unwrap();
            let expected = [b"before".as_slice(), &canonical_json(&value).unwrap()].concat();
            prop_assert_eq!(output, expected);
        }
    }

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
