//! What is printed: one JSON document, or text for people.

use std::fmt::Write as _;
use std::io::Write as _;

use creto_types::Timestamp;
use serde_json::Value;

/// The result of a command, both ways.
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) json: Value,
    /// Whether what was asked for came true; decides the exit status.
    pub(crate) good: bool,
    /// The exit status, where it is one of its own.
    pub(crate) status: Option<u8>,
}

impl Reply {
    pub(crate) fn new(text: impl Into<String>, json: Value) -> Self {
        Self {
            text: text.into(),
            json,
            good: true,
            status: None,
        }
    }

    pub(crate) fn print(&self, as_json: bool) -> std::io::Result<()> {
        if as_json {
            print(&format!("{:#}\n", self.json))
        } else {
            print(&self.text)
        }
    }
}

/// Writes to standard output. A reader that went away has seen enough.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A table with aligned columns.
pub(crate) fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headers.iter().map(|text| text.chars().count()).collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let headers: Vec<String> = headers.iter().map(|text| (*text).to_owned()).collect();
    for row in std::iter::once(&headers).chain(&rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// One field a line, names aligned; empty ones are left out.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(out, "{name:<width$}  {}", printable(value));
    }
    out
}

/// The value at a JSON pointer as text; empty when there is none.
pub(crate) fn at(document: &Value, pointer: &str) -> String {
    match document.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// The money at a JSON pointer: `1.00 USD`; empty when there is none.
pub(crate) fn money(document: &Value, pointer: &str) -> String {
    document
        .pointer(pointer)
        .and_then(|value| serde_json::from_value::<creto_types::Money>(value.clone()).ok())
        .map_or_else(String::new, |money| money.to_string())
}

/// The money or units at a JSON pointer: `1.00 USD`, `1000 units`; empty when
/// there is none.
pub(crate) fn quantity(document: &Value, pointer: &str) -> String {
    document
        .pointer(pointer)
        .and_then(|value| serde_json::from_value::<creto_types::Quantity>(value.clone()).ok())
        .map_or_else(String::new, |quantity| quantity.to_string())
}

/// Text from elsewhere without the power to steer a terminal: control and
/// direction characters are shown as escapes.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let steers = c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            let (kept, escaped) = if steers {
                (None, Some(c.escape_unicode()))
            } else {
                (Some(c), None)
            };
            kept.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

/// The same for text of several lines, which stay lines.
pub(crate) fn printable_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

/// The instant at a JSON pointer; empty when there is none.
pub(crate) fn instant(document: &Value, pointer: &str) -> String {
    let text = at(document, pointer);
    text.parse().map_or(text, shown_instant)
}

/// An instant as people read it: `2026-12-23 03:09:29Z`. Programs get every
/// digit.
pub(crate) fn shown_instant(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Text in lines of at most this many characters, broken between words where
/// there are any. At least one line.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        let start = if used == 0 { 0 } else { used + 1 };
        if start + length <= width {
            if let Some(line) = lines.last_mut() {
                if used > 0 {
                    line.push(' ');
                }
                line.push_str(word);
            }
            used = start + length;
            continue;
        }
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(width.max(1)) {
            if used > 0 {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.extend(piece);
            }
            used = piece.len();
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_cannot_steer_the_terminal_of_its_approver() {
        let shown = table(&["args"], &[vec!["\u{1b}[2Jok\u{202e}".to_owned()]]);
        assert!(
            !shown.contains('\u{1b}') && !shown.contains('\u{202e}'),
            "{shown:?}"
        );
        assert!(shown.contains("\\u{1b}[2Jok"), "{shown}");
    }

    #[test]
    fn lines_stay_lines_and_nothing_else_steers() {
        assert_eq!(printable_lines("a\n\u{1b}b\r\n"), "a\n\\u{1b}b\\u{d}\n");
        assert_eq!(printable("a\nb"), "a\\u{a}b");
    }

    #[test]
    fn people_see_seconds() {
        let document = serde_json::json!({"at": "2026-12-23T03:09:29.123456789Z", "no": "soon"});
        assert_eq!(instant(&document, "/at"), "2026-12-23 03:09:29Z");
        assert_eq!(instant(&document, "/no"), "soon");
        assert_eq!(instant(&document, "/none"), "");
    }

    #[test]
    fn nothing_is_lost_when_a_text_is_wrapped() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a abcdefgh b", 3), ["a", "abc", "def", "gh", "b"]);
        assert_eq!(wrapped("exactly", 7), ["exactly"]);
        assert_eq!(wrapped("", 7), [""]);
    }

    #[test]
    fn columns_line_up() {
        let shown = table(
            &["a", "bb"],
            &[
                vec!["long".into(), "x".into()],
                vec!["s".into(), "y".into()],
            ],
        );
        assert_eq!(shown, "a     bb\nlong  x\ns     y\n");
    }

    #[test]
    fn absent_values_are_empty() {
        let document = serde_json::json!({"a": {"b": 1}, "m": {"amount": "1", "currency": "USD"}});
        assert_eq!(at(&document, "/a/b"), "1");
        assert_eq!(at(&document, "/a/c"), "");
        assert_eq!(money(&document, "/m"), "1.00 USD");
        assert_eq!(money(&document, "/a"), "");
    }
}
