//! What can be wrong with a configuration file. No message shows the value of
//! a variable or of a secret.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use creto_errors::{Class, Classify};

use crate::SecretError;

/// A place in the text, counted from one; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

impl Position {
    /// The place of a byte offset. Offsets beyond the text give its end.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let before = text.get(..end).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.bytes().filter(|b| *b == b'\n').count() + 1,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
        }
    }

    pub(crate) fn of_span(text: &str, span: Option<Range<usize>>) -> Self {
        Self::of(text, span.map_or(0, |span| span.start))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text is longer than a configuration may be.
    #[error("the configuration has {size} bytes; at most {limit} are read")]
    TooLarge {
        /// Its length in bytes.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The text is not TOML, or nests deeper than is read.
    #[error("{at}: {message}")]
    Syntax {
        /// Where.
        at: Position,
        /// What the parser says.
        message: String,
    },
    /// `${NAME}` names a variable that is not set.
    #[error("{at}: `{key}` needs the environment variable {variable}, which is not set")]
    VariableMissing {
        /// The key whose value names it.
        key: String,
        /// The variable.
        variable: String,
        /// Where the value stands.
        at: Position,
    },
    /// The variable is set to something that is not UTF-8.
    #[error("{at}: `{key}` needs the environment variable {variable}, which is not UTF-8 text")]
    VariableNotText {
        /// The key whose value names it.
        key: String,
        /// The variable.
        variable: String,
        /// Where the value stands.
        at: Position,
    },
    /// A `${` that is not `${NAME}` nor `${NAME:-default}`.
    #[error("{at}: `{key}` {why}; write `$${{` for a literal `${{`")]
    Interpolation {
        /// The key.
        key: String,
        /// What is wrong.
        why: &'static str,
        /// Where the value stands.
        at: Position,
    },
    /// A key is unknown or missing, or its value has the wrong type or range.
    #[error("{at}: `{key}`: {message}")]
    Value {
        /// The key path; `.` for the file as a whole.
        key: String,
        /// What the type says.
        message: String,
        /// Where the value or key stands.
        at: Position,
    },
    /// Every value is well-formed, but they do not fit together.
    #[error("`{key}` {why}")]
    Invalid {
        /// The key path.
        key: String,
        /// What does not fit.
        why: String,
    },
    /// A secret cannot be read.
    #[error("`{key}` cannot be used as a secret")]
    Secret {
        /// The key path.
        key: String,
        /// Why.
        #[source]
        source: SecretError,
    },
}

impl Classify for ConfigError {
    fn class(&self) -> Class {
        match self {
            Self::Secret { source, .. } => source.class(),
            _ => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "config_unreadable",
            Self::TooLarge { .. } => "config_too_large",
            Self::Syntax { .. } => "config_syntax",
            Self::VariableMissing { .. } => "config_variable_missing",
            Self::VariableNotText { .. } => "config_variable_not_text",
            Self::Interpolation { .. } => "config_interpolation",
            Self::Value { .. } => "config_value",
            Self::Invalid { .. } => "config_invalid",
            Self::Secret { source, .. } => source.code(),
        }
    }
}
