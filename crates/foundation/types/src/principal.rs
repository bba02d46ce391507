//! The short name of a principal inside its organization.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use creto_errors::{Class, Classify};
use serde::{Deserialize, Serialize};

/// A principal's name: 1 to 63 of `a-z`, `0-9`, `-`, `_`, `.`, starting with a
/// letter or digit. It is the last segment of the SPIFFE id, hence the alphabet
/// (SPIFFE-ID, section 2.2). Clones share one text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalName(Arc<str>);

/// A text is not a principal's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a principal name: 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`, \
     starting with a letter or digit"
)]
pub struct PrincipalNameError {
    text: String,
}

impl Classify for PrincipalNameError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "invalid_principal_name"
    }
}

impl PrincipalName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PrincipalName {
    type Err = PrincipalNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let letter_or_digit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let valid = (1..=63).contains(&text.len())
            && text.bytes().next().is_some_and(letter_or_digit)
            && text
                .bytes()
                .all(|b| letter_or_digit(b) || matches!(b, b'-' | b'_' | b'.'));
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(PrincipalNameError {
                text: text.chars().take(80).collect(),
            })
        }
    }
}

impl TryFrom<String> for PrincipalName {
    type Error = PrincipalNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PrincipalName> for String {
    fn from(name: PrincipalName) -> Self {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_spiffe_path_segment() {
        for good in ["planner", "release-bot", "a", "0x.y_z"] {
            assert!(good.parse::<PrincipalName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "A", "a/b", "a b", "-a", "é", &"a".repeat(64)] {
            assert!(bad.parse::<PrincipalName>().is_err(), "{bad}");
        }
    }
}
