//! Lists, page by page.

use std::collections::VecDeque;

use serde_json::Value;

use crate::{Client, ClientError};

/// The items of a list, in the server's order; asks for the next page when the
/// last one is used up. Ends after an error.
pub struct Pages<'a> {
    client: &'a Client,
    path: String,
    items: VecDeque<Value>,
    next: Next,
}

enum Next {
    First,
    After(String),
    Nothing,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(client: &'a Client, path: &str) -> Self {
        Self {
            client,
            path: path.to_owned(),
            items: VecDeque::new(),
            next: Next::First,
        }
    }

    fn fetch(&mut self) -> Result<(), ClientError> {
        let path = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Nothing => return Ok(()),
            Next::First => self.path.clone(),
            Next::After(id) => {
                let joint = if self.path.contains('?') { '&' } else { '?' };
                format!("{}{joint}after={}", self.path, encode(&id))
            }
        };
        let mut page = self.client.get(&path)?;
        let next = page.get("next").and_then(Value::as_str).map(str::to_owned);
        let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) else {
            return Err(ClientError::NotAList);
        };
        self.items = items.into();
        if let Some(next) = next {
            self.next = Next::After(next);
        }
        Ok(())
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Value, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Some(Ok(item));
            }
            if matches!(self.next, Next::Nothing) {
                return None;
            }
            if let Err(error) = self.fetch() {
                return Some(Err(error));
            }
        }
    }
}

/// A text as part of a path or query: percent-encodes what is not unreserved
/// (RFC 3986, section 2.3).
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
