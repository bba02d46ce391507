//! What a delegation may cost, and in which period.

use std::fmt;

use creto_types::{Period, Quantity, Timestamp};
use jiff::ToSpan;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// After which time a budget starts anew. Hours, days and months are those of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetPeriod {
    /// Never.
    Total,
    /// On the first of each month.
    Month,
    /// At each midnight.
    Day,
    /// At each full hour.
    Hour,
}

impl BudgetPeriod {
    /// Every period, the longest first.
    pub const ALL: [Self; 4] = [Self::Total, Self::Month, Self::Day, Self::Hour];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Month => "month",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }

    /// The calendar period that contains the instant; `None` for a total, which
    /// has none. At the very end of representable time the last period is cut.
    #[must_use]
    pub fn window(self, at: Timestamp) -> Option<Period> {
        let date = at.to_zoned(TimeZone::UTC).date();
        let (first, span) = match self {
            Self::Total => return None,
            Self::Month => (date.first_of_month(), 1.month()),
            Self::Day => (date, 1.day()),
            Self::Hour => return hour(at),
        };
        let midnight = |date: jiff::civil::Date| {
            date.to_zoned(TimeZone::UTC)
                .map(|zoned| zoned.timestamp())
                .ok()
        };
        let start = midnight(first).unwrap_or(Timestamp::MIN);
        let end = first
            .checked_add(span)
            .ok()
            .and_then(midnight)
            .unwrap_or(Timestamp::MAX);
        Period::new(start, end).ok()
    }
}

/// UTC has no offset: its hours are whole multiples of 3,600 s since the epoch.
fn hour(at: Timestamp) -> Option<Period> {
    const SECONDS: i64 = 60 * 60;
    let instant = |second: Option<i64>| Timestamp::from_second(second?).ok();
    let first = at
        .as_nanosecond()
        .div_euclid(i128::from(SECONDS) * 1_000_000_000);
    let first = i64::try_from(first).ok()?.checked_mul(SECONDS);
    let end = first.and_then(|first| first.checked_add(SECONDS));
    Period::new(
        instant(first).unwrap_or(Timestamp::MIN),
        instant(end).unwrap_or(Timestamp::MAX),
    )
    .ok()
}

impl fmt::Display for BudgetPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The most that may be spent or used in a period, by the holder of a delegation
/// and everyone below together. Units are those of every action they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The most.
    pub limit: Quantity,
    /// Per what.
    pub period: BudgetPeriod,
}

impl Budget {
    /// Digits after the decimal point that a limit in money may have: what is counted
    /// is whole billionths of the currency unit.
    pub const MAX_PLACES: u32 = 9;

    /// Whether its limit is counted as it stands.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.limit
            .money()
            .is_none_or(|money| money.amount().normalize().scale() <= Self::MAX_PLACES)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {}", self.limit, self.period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn trailing_zeros_are_no_places() {
        for (limit, exact) in [
            ("0.0100000005 USD", false),
            ("0.010000000500 USD", false),
            ("0.010000000 USD", true),
            ("0.01000000000 USD", true),
            ("7 units", true),
        ] {
            let budget = Budget {
                limit: limit.parse().unwrap(),
                period: BudgetPeriod::Total,
            };
            assert_eq!(budget.is_exact(), exact, "{limit}");
        }
    }

    #[test]
    fn windows_are_calendar_periods_of_utc() {
        let month = BudgetPeriod::Month
            .window(at("2028-02-29T23:59:59.999Z"))
            .unwrap();
        assert_eq!(month.start(), at("2028-02-01T00:00:00Z"));
        assert_eq!(month.end(), at("2028-03-01T00:00:00Z"));
        let day = BudgetPeriod::Day
            .window(at("2026-12-31T00:00:00Z"))
            .unwrap();
        assert_eq!(day.start(), at("2026-12-31T00:00:00Z"));
        assert_eq!(day.end(), at("2027-01-01T00:00:00Z"));
        assert_eq!(BudgetPeriod::Total.window(at("2026-01-01T00:00:00Z")), None);
        let hour = BudgetPeriod::Hour
            .window(at("2026-12-31T23:59:59.999999999Z"))
            .unwrap();
        assert_eq!(hour.start(), at("2026-12-31T23:00:00Z"));
        assert_eq!(hour.end(), at("2027-01-01T00:00:00Z"));
        assert_eq!(
            BudgetPeriod::Hour
                .window(at("2027-01-01T00:00:00Z"))
                .unwrap()
                .start(),
            hour.end()
        );
        let before_1970 = BudgetPeriod::Hour
            .window(at("1969-12-31T23:59:59.5Z"))
            .unwrap();
        assert_eq!(before_1970.end(), Timestamp::UNIX_EPOCH);
        for period in [BudgetPeriod::Month, BudgetPeriod::Hour] {
            for end in [Timestamp::MIN, Timestamp::MAX] {
                assert!(period.window(end).is_some(), "{period} {end}");
            }
        }
    }
}
