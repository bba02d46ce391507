//! `${NAME}` and `${NAME:-default}` inside one string value.
//!
//! One pass from left to right: what a variable holds is copied and never
//! scanned, so a value can neither name another variable nor escape anything.

use zeroize::{Zeroize as _, Zeroizing};

use crate::Environment;

/// What a variable contributed; kept so that error texts can leave it out.
pub(crate) struct Substitution {
    pub(crate) variable: String,
    pub(crate) text: Zeroizing<String>,
}

/// Why a value cannot be interpolated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing(String),
    NotText(String),
    Malformed(&'static str),
}

/// A piece of the value that comes out.
enum Piece<'a> {
    Written(&'a str),
    Held(Substitution),
}

impl Piece<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Written(text) => text,
            Self::Held(substitution) => &substitution.text,
        }
    }
}

/// The value with every reference replaced, or `None` when it has none.
pub(crate) fn interpolate(
    value: &str,
    environment: &dyn Environment,
    substitutions: &mut Vec<Substitution>,
) -> Result<Option<Zeroizing<String>>, Fault> {
    if !value.contains("${") {
        return Ok(None);
    }
    let mut pieces = Vec::new();
    let mut rest = value;
    while let Some(dollar) = rest.find('$') {
        let (before, from_dollar) = rest.split_at(dollar);
        pieces.push(Piece::Written(before));
        if let Some(after) = from_dollar.strip_prefix("$${") {
            pieces.push(Piece::Written("${"));
            rest = after;
        } else if let Some(after) = from_dollar.strip_prefix("${") {
            let (reference, after) = after
                .split_once('}')
                .ok_or(Fault::Malformed("has a `${` without its `}`"))?;
            pieces.push(resolve(reference, environment)?);
            rest = after;
        } else {
            pieces.push(Piece::Written("$"));
            rest = from_dollar.get(1..).unwrap_or("");
        }
    }
    pieces.push(Piece::Written(rest));
    // Room for all of it: growing would leave parts of a secret behind.
    let length = pieces.iter().map(|piece| piece.text().len()).sum();
    let mut out = Zeroizing::new(String::with_capacity(length));
    for piece in pieces {
        out.push_str(piece.text());
        if let Piece::Held(substitution) = piece {
            substitutions.push(substitution);
        }
    }
    Ok(Some(out))
}

fn resolve<'a>(reference: &'a str, environment: &dyn Environment) -> Result<Piece<'a>, Fault> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !is_variable_name(name) {
        return Err(Fault::Malformed(
            "has a reference that is neither `${NAME}` nor `${NAME:-default}`",
        ));
    }
    let found = match environment.variable(name).map(|held| held.into_string()) {
        Some(Ok(text)) => Some(Zeroizing::new(text)),
        Some(Err(other)) => {
            other.into_encoded_bytes().zeroize();
            return Err(Fault::NotText(name.to_owned()));
        }
        None => None,
    };
    match (found, default) {
        // As in POSIX shells, `:-` also covers a variable set to nothing
        // (IEEE Std 1003.1, XCU 2.6.2).
        (Some(text), Some(default)) if text.is_empty() => Ok(Piece::Written(default)),
        (Some(text), _) => Ok(Piece::Held(Substitution {
            variable: name.to_owned(),
            text,
        })),
        (None, Some(default)) => Ok(Piece::Written(default)),
        (None, None) => Err(Fault::Missing(name.to_owned())),
    }
}

fn is_variable_name(name: &str) -> bool {
    name.bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn environment() -> BTreeMap<String, String> {
        [("A", "1"), ("NESTED", "${A} $${B}"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn run(value: &str) -> Result<String, Fault> {
        interpolate(value, &environment(), &mut Vec::new())
            .map(|text| text.map_or_else(|| value.to_owned(), |text| text.to_string()))
    }

    #[test]
    fn a_value_has_room_from_the_start() {
        let long = [("KEY".to_owned(), "k".repeat(1_000))];
        let mut held = Vec::new();
        let text = interpolate("a ${KEY}, ${KEY} $${KEY}", &BTreeMap::from(long), &mut held);
        let text = text.unwrap().unwrap();
        assert_eq!(text.capacity(), text.len());
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn references_are_replaced_once() {
        for (value, expected) in [
            ("plain", "plain"),
            ("${A}", "1"),
            ("x${A}y${A}z", "x1y1z"),
            ("${NESTED}", "${A} $${B}"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("$A $ $$", "$A $ $$"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NONE:-${A}", "${A"),
            ("${EMPTY}", ""),
            ("${EMPTY:-full}", "full"),
            ("${A:-unused}", "1"),
            ("é${A}é", "é1é"),
        ] {
            assert_eq!(run(value).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn faults_name_the_variable() {
        assert_eq!(run("${NONE}"), Err(Fault::Missing("NONE".to_owned())));
        for malformed in [
            "${", "${A", "${}", "${1A}", "${A B}", "${A-}", "${é}", "${:-x}",
        ] {
            assert!(
                matches!(run(malformed), Err(Fault::Malformed(_))),
                "{malformed}"
            );
        }
    }

    proptest! {
        #[test]
        fn text_without_references_is_untouched(value in "[^$]{0,64}") {
            prop_assert_eq!(run(&value), Ok(value));
        }

        #[test]
        fn escaping_every_reference_gives_the_text_back(value in "[a${}:A-]{0,32}") {
            // `$${` cannot be told from `$` followed by `${` once escaped.
            prop_assume!(!value.contains("$$"));
            prop_assert_eq!(run(&value.replace("${", "$${")), Ok(value));
        }
    }
}
