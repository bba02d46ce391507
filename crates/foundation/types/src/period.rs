//! Half-open periods: an instant on the border belongs to the later one.

use creto_errors::{Class, Classify};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// `start <= t < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    start: Timestamp,
    end: Timestamp,
}

/// The end of a period is not after its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a period ends after it starts: {start} .. {end}")]
pub struct PeriodError {
    start: Timestamp,
    end: Timestamp,
}

impl Classify for PeriodError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "empty_period"
    }
}

impl Period {
    /// The period from `start`, inclusive, to `end`, exclusive.
    pub fn new(start: Timestamp, end: Timestamp) -> Result<Self, PeriodError> {
        if start < end {
            Ok(Self { start, end })
        } else {
            Err(PeriodError { start, end })
        }
    }

    /// The first instant inside.
    #[must_use]
    pub const fn start(&self) -> Timestamp {
        self.start
    }

    /// The first instant after it.
    #[must_use]
    pub const fn end(&self) -> Timestamp {
        self.end
    }

    /// Whether the instant lies inside.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_half_open() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let period = Period::new(at(10), at(20)).unwrap();
        assert!(period.contains(at(10)));
        assert!(!period.contains(at(20)));
        assert!(Period::new(at(10), at(10)).is_err());
    }
}
