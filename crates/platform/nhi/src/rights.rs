//! What a delegation allows: pairs of patterns over actions and resources.

use std::fmt;
use std::str::FromStr;

use creto_errors::{Class, Classify};
use serde::{Deserialize, Serialize};

/// The longest pattern, in bytes.
pub const MAX_PATTERN_LEN: usize = 256;

/// An exact text, or every text with a given prefix, written with one `*` at the
/// end: `repo:changelog`, `repo:*`, `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Box<str>);

/// A text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a pattern: 1 to {MAX_PATTERN_LEN} bytes without control characters, \
     and at most one `*`, at the end"
)]
pub struct PatternError {
    text: String,
}

impl Classify for PatternError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "invalid_pattern"
    }
}

impl Pattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    /// Whether the text is one of the pattern's.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self.prefix() {
            Some(prefix) => text.starts_with(prefix),
            None => *self.0 == *text,
        }
    }

    /// Whether every text that `other` matches is matched by this one too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self.prefix(), other.prefix()) {
            (Some(mine), Some(theirs)) => theirs.starts_with(mine),
            (None, Some(_)) => false,
            (_, None) => self.matches(&other.0),
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fixed = text.strip_suffix('*').unwrap_or(text);
        let valid = (1..=MAX_PATTERN_LEN).contains(&text.len())
            && !fixed.contains('*')
            && !text.chars().any(char::is_control);
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(PatternError {
                text: text.chars().take(80).collect(),
            })
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.into()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Some actions on some resources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Right {
    /// Names of actions.
    pub action: Pattern,
    /// Ids of resources.
    pub resource: Pattern,
}

impl Right {
    /// The right from the text of its two patterns.
    pub fn parse(action: &str, resource: &str) -> Result<Self, PatternError> {
        Ok(Self {
            action: action.parse()?,
            resource: resource.parse()?,
        })
    }

    /// Whether it allows this action on this resource.
    #[must_use]
    pub fn matches(&self, action: &str, resource: &str) -> bool {
        self.action.matches(action) && self.resource.matches(resource)
    }

    /// Whether it allows everything that `other` allows.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.action.covers(&other.action) && self.resource.covers(&other.resource)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.action, self.resource)
    }
}
