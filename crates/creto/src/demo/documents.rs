//! Reading facts from the documents that commands and calls answer with.

use std::fmt::Display;

use creto_types::Money;
use serde_json::Value;

use super::error::DemoError;

/// The value at a JSON pointer.
pub(crate) fn value<'a>(document: &'a Value, pointer: &str) -> Result<&'a Value, DemoError> {
    document.pointer(pointer).ok_or_else(|| DemoError::Missing {
        field: pointer.to_owned(),
        document: document.to_string().chars().take(800).collect(),
    })
}

pub(crate) fn text<'a>(document: &'a Value, pointer: &str) -> Result<&'a str, DemoError> {
    value(document, pointer)?
        .as_str()
        .ok_or_else(|| DemoError::Fact(format!("`{pointer}` is not text in {document}")))
}

/// An instant, as people read it.
pub(crate) fn instant(document: &Value, pointer: &str) -> Result<String, DemoError> {
    text(document, pointer)?;
    Ok(crate::output::instant(document, pointer))
}

pub(crate) fn number(document: &Value, pointer: &str) -> Result<u64, DemoError> {
    value(document, pointer)?
        .as_u64()
        .ok_or_else(|| DemoError::Fact(format!("`{pointer}` is not a number in {document}")))
}

pub(crate) fn list<'a>(document: &'a Value, pointer: &str) -> Result<&'a [Value], DemoError> {
    value(document, pointer)?
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| DemoError::Fact(format!("`{pointer}` is not a list in {document}")))
}

pub(crate) fn money(document: &Value, pointer: &str) -> Result<Money, DemoError> {
    serde_json::from_value(value(document, pointer)?.clone())
        .map_err(|_| DemoError::Fact(format!("`{pointer}` is not money in {document}")))
}

/// The leaf an answer points to.
pub(crate) fn leaf(document: &Value) -> Result<u64, DemoError> {
    number(document, "/leaf")
}

pub(crate) fn sum(left: &Money, right: &Money) -> Result<Money, DemoError> {
    left.checked_add(right)
        .map_err(|error| DemoError::Fact(format!("{left} + {right}: {error}")))
}

pub(crate) fn difference(left: &Money, right: &Money) -> Result<Money, DemoError> {
    left.checked_sub(right)
        .map_err(|error| DemoError::Fact(format!("{left} - {right}: {error}")))
}

/// Fails unless the fact holds.
pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), DemoError> {
    if holds {
        Ok(())
    } else {
        Err(DemoError::Fact(otherwise()))
    }
}

/// Fails unless both are the same.
pub(crate) fn same<T: PartialEq + Display>(
    what: &str,
    expected: T,
    found: T,
) -> Result<(), DemoError> {
    ensure(expected == found, || {
        format!("{what}: expected {expected}, found {found}")
    })
}
