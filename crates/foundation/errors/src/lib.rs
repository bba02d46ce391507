//! How every error in Creto is classified.
//!
//! An error says two things that code may act on: its [`Class`], which decides
//! what a caller does next, and its stable code, which names a page in
//! `docs/errors/`. Resilience, retries and wire mappings read these and never
//! the text of an error.

use std::fmt;

/// What a caller may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The same call may succeed later; retry with backoff.
    Transient,
    /// The same call will fail again; the caller must change something.
    Permanent,
    /// A dependency is missing or slow; a declared fallback may answer.
    Degraded,
    /// Authentication, authorization or integrity failed. Never retried, never
    /// answered by a fallback.
    Security,
}

impl Class {
    /// The lower-case name used in logs, metrics and problem details.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Degraded => "degraded",
            Self::Security => "security",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Gives an error its class and its stable code.
///
/// Codes are `snake_case`, unique in the product and never reused: each is the
/// name of a page in `docs/errors/`.
pub trait Classify: std::error::Error {
    /// What a caller may do about it.
    fn class(&self) -> Class;

    /// The stable code, for example `delegation_exceeds_parent`.
    fn code(&self) -> &'static str;
}

/// The text of an error together with every cause below it, for operators.
///
/// Clients get [`Classify::code`] and the top message only.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot open the ledger")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_chain_keeps_every_cause() {
        let error = Outer(std::io::Error::other("disk full"));
        assert_eq!(chain(&error), "cannot open the ledger: disk full");
    }
}
