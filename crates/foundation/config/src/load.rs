//! Text to type: parse, interpolate, deserialize, and say where it went wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;
use zeroize::Zeroizing;

use crate::interpolate::{Fault, Substitution, interpolate};
use crate::{ConfigError, Environment, Position};

/// The most text that is read: 256 KiB.
pub const MAX_CONFIG_BYTES: u64 = 256 * 1024;

/// Dots in one key, and brackets open at once. Together they bound how deep the
/// value tree is, and with it every recursion over it.
const MAX_DOTS: usize = 8;
const MAX_OPEN_BRACKETS: usize = 16;

/// Reads a file and [`load`]s it.
pub fn load_file<T: DeserializeOwned>(
    path: &Path,
    environment: &dyn Environment,
) -> Result<T, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    check_size(size)?;
    // Secrets may be written in it.
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
    load(&text, environment)
}

/// Reads TOML text into `T`, replacing `${NAME}` and `${NAME:-default}` inside
/// string values; `$${` stands for a literal `${`.
///
/// In a table that says `enabled = false`, and in every table below it, nothing
/// is replaced: nobody reads it, so its variables need not exist.
pub fn load<T: DeserializeOwned>(
    text: &str,
    environment: &dyn Environment,
) -> Result<T, ConfigError> {
    check_size(text.len() as u64)?;
    check_depth(text)?;
    let mut root = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        at: Position::of_span(text, error.span()),
        message: error.message().to_owned(),
    })?;
    let mut walk = Walk {
        text,
        environment,
        path: Vec::new(),
        replaced: Vec::new(),
        texts: Texts::new(),
    };
    walk.table(root.get_ref())?;
    let Walk {
        replaced, texts, ..
    } = walk;
    lend(root.get_mut(), &texts);

    serde_path_to_error::deserialize(toml::de::Deserializer::from(root)).map_err(|error| {
        let key = error.path().to_string();
        let error = error.into_inner();
        ConfigError::Value {
            key,
            at: Position::of_span(text, error.span()),
            message: without_values(error.message(), error.span(), &replaced),
        }
    })
}

fn check_size(size: u64) -> Result<(), ConfigError> {
    if size > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge {
            size,
            limit: MAX_CONFIG_BYTES,
        });
    }
    Ok(())
}

/// The parser bounds nested arrays and inline tables but not dotted keys, whose
/// tables nest just as deep.
fn check_depth(text: &str) -> Result<(), ConfigError> {
    let mut dots = 0_usize;
    let mut open = 0_usize;
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Whitespace
            | TokenKind::Atom
            | TokenKind::BasicString
            | TokenKind::LiteralString
            | TokenKind::MlBasicString
            | TokenKind::MlLiteralString => {}
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                open += 1;
                dots = 0;
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                open = open.saturating_sub(1);
                dots = 0;
            }
            _ => dots = 0,
        }
        if dots > MAX_DOTS || open > MAX_OPEN_BRACKETS {
            return Err(ConfigError::Syntax {
                at: Position::of(text, token.span().start()),
                message: format!(
                    "nested too deep: a key has at most {MAX_DOTS} dots, and at most \
                     {MAX_OPEN_BRACKETS} brackets are open at once"
                ),
            });
        }
    }
    Ok(())
}

struct Replaced {
    span: Range<usize>,
    substitution: Substitution,
}

/// Values that have references, by where they begin, with these replaced.
type Texts = BTreeMap<usize, Zeroizing<String>>;

struct Walk<'a> {
    text: &'a str,
    environment: &'a dyn Environment,
    path: Vec<String>,
    replaced: Vec<Replaced>,
    texts: Texts,
}

impl Walk<'_> {
    fn table(&mut self, table: &DeTable<'_>) -> Result<(), ConfigError> {
        let disabled = table
            .get("enabled")
            .is_some_and(|value| value.get_ref().as_bool() == Some(false));
        if disabled {
            return Ok(());
        }
        for (key, value) in table.iter() {
            self.path.push(key.get_ref().to_string());
            self.value(value)?;
            self.path.pop();
        }
        Ok(())
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) -> Result<(), ConfigError> {
        let span = value.span();
        match value.get_ref() {
            DeValue::String(string) => self.string(string, span),
            DeValue::Table(table) => self.table(table),
            DeValue::Array(array) => {
                for (index, item) in array.iter().enumerate() {
                    self.path.push(format!("[{index}]"));
                    self.value(item)?;
                    self.path.pop();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn string(&mut self, string: &str, span: Range<usize>) -> Result<(), ConfigError> {
        let mut substitutions = Vec::new();
        let result = interpolate(string, self.environment, &mut substitutions);
        self.replaced
            .extend(substitutions.into_iter().map(|substitution| Replaced {
                span: span.clone(),
                substitution,
            }));
        match result {
            Ok(Some(text)) => {
                self.texts.insert(span.start, text);
            }
            Ok(None) => {}
            Err(fault) => {
                let key = self.key();
                let at = Position::of(self.text, span.start);
                return Err(match fault {
                    Fault::Missing(variable) => ConfigError::VariableMissing { key, variable, at },
                    Fault::NotText(variable) => ConfigError::VariableNotText { key, variable, at },
                    Fault::Malformed(why) => ConfigError::Interpolation { key, why, at },
                });
            }
        }
        Ok(())
    }

    fn key(&self) -> String {
        let mut key = String::new();
        for part in &self.path {
            if !key.is_empty() && !part.starts_with('[') {
                key.push('.');
            }
            key.push_str(part);
        }
        key
    }
}

/// Puts the texts in place. They are lent, so that they are wiped whatever becomes of the
/// table; a table of this depth may be walked by calls.
fn lend<'a>(table: &mut DeTable<'a>, texts: &'a Texts) {
    for (_, value) in table.iter_mut() {
        lend_value(value, texts);
    }
}

fn lend_value<'a>(value: &mut Spanned<DeValue<'a>>, texts: &'a Texts) {
    let start = value.span().start;
    match value.get_mut() {
        DeValue::String(string) => {
            if let Some(text) = texts.get(&start) {
                *string = Cow::Borrowed(text.as_str());
            }
        }
        DeValue::Table(table) => lend(table, texts),
        DeValue::Array(array) => {
            for item in array.iter_mut() {
                lend_value(item, texts);
            }
        }
        _ => {}
    }
}

/// Deserializers quote the value they refuse. When that value came from a
/// variable it may be a secret, so the message is replaced as a whole.
fn without_values(message: &str, span: Option<Range<usize>>, replaced: &[Replaced]) -> String {
    let leaks = |item: &&Replaced| {
        let value = item.substitution.text.as_str();
        // A byte becomes six at most, as in `\u{7f}`.
        let room = value.len().saturating_mul(6).saturating_add(2);
        let mut escaped = Zeroizing::new(String::with_capacity(room));
        let _ = write!(escaped, "{value:?}");
        let escaped = escaped.trim_matches('"');
        let overlaps = span
            .as_ref()
            .is_none_or(|span| span.start < item.span.end && item.span.start < span.end);
        // A short value elsewhere in the file matches any message by chance.
        (overlaps || value.len() >= 4)
            && !value.is_empty()
            && (message.contains(value) || message.contains(escaped))
    };
    match replaced.iter().find(leaks) {
        Some(item) => format!(
            "the value of the environment variable {} is not accepted here (it is not shown)",
            item.substitution.variable
        ),
        None => message.to_owned(),
    }
}
