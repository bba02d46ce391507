//! Calendar windows in nanoseconds, so that the question "still the same one?" is
//! two comparisons.

use creto_nhi::BudgetPeriod;
use creto_types::Timestamp;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _, Zoned};

use super::model::Window;

/// `start <= t < end`, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Span {
    /// All of time.
    pub(crate) const ALWAYS: Self = Self {
        start: i64::MIN,
        end: i64::MAX,
    };

    pub(crate) const fn contains(self, at: i64) -> bool {
        self.start <= at && at < self.end
    }
}

/// Nanoseconds since the epoch; instants beyond the years 1677 to 2262 count as the
/// nearest one inside.
pub(crate) fn nanos(at: Timestamp) -> i64 {
    let nanos = at.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// The instant.
pub(crate) fn instant(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::MAX)
}

/// When a count starts anew.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    window: Window,
    zone: TimeZone,
}

impl Calendar {
    pub(crate) fn new(window: Window, zone: &str) -> Result<Self, jiff::Error> {
        Ok(Self {
            window,
            zone: TimeZone::get(zone)?,
        })
    }

    pub(crate) fn of(period: BudgetPeriod) -> Self {
        let window = match period {
            BudgetPeriod::Total => Window::Total,
            BudgetPeriod::Month => Window::Monthly,
            BudgetPeriod::Day => Window::Daily,
            BudgetPeriod::Hour => Window::Hourly,
        };
        Self {
            window,
            zone: TimeZone::UTC,
        }
    }

    /// The window that contains the instant. At the ends of countable time it is
    /// cut, and what has no end there lasts.
    pub(crate) fn span(&self, at: i64) -> Span {
        let here = instant(at).to_zoned(self.zone.clone());
        let bounds = match self.window {
            Window::Total => return Span::ALWAYS,
            Window::Hourly => hour(&here),
            Window::Daily => day(&here),
            Window::Monthly => here
                .first_of_month()
                .and_then(|first| first.start_of_day())
                .and_then(|start| {
                    let next = start.checked_add(1.month())?.start_of_day()?;
                    Ok((start, next))
                }),
        };
        let span = bounds.map(|(start, end)| Span {
            start: nanos(start.timestamp()),
            end: nanos(end.timestamp()),
        });
        match span {
            Ok(span) if span.contains(at) => span,
            // Only where the calendar itself ends.
            _ => Span {
                start: at,
                end: i64::MAX,
            },
        }
    }
}

/// A day as long as its zone makes it: 23, 24 or 25 hours around a change of clocks.
fn day(here: &Zoned) -> Result<(Zoned, Zoned), jiff::Error> {
    let start = here.start_of_day()?;
    let end = start.tomorrow()?.start_of_day()?;
    Ok((start, end))
}

/// An hour by the zone's clocks. The hour that is repeated when clocks go back is
/// two windows; where clocks move by less than an hour, the windows at the change
/// are shorter.
fn hour(here: &Zoned) -> Result<(Zoned, Zoned), jiff::Error> {
    let seconds = i64::from(here.minute()) * 60 + i64::from(here.second());
    let into = SignedDuration::new(seconds, here.subsec_nanosecond());
    let (at, zone) = (here.timestamp(), here.time_zone());
    let mut start = at.checked_sub(into)?;
    let mut end = start.checked_add(SignedDuration::from_hours(1))?;
    let just_after = at.checked_add(SignedDuration::from_nanos(1))?;
    if let Some(change) = zone.preceding(just_after).next() {
        start = start.max(change.timestamp());
    }
    if let Some(change) = zone.following(at).next() {
        end = end.min(change.timestamp());
    }
    Ok((start.to_zoned(zone.clone()), end.to_zoned(zone.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> i64 {
        nanos(text.parse().unwrap())
    }

    fn span(window: Window, zone: &str, text: &str) -> (String, String) {
        let span = Calendar::new(window, zone).unwrap().span(at(text));
        (
            instant(span.start).to_string(),
            instant(span.end).to_string(),
        )
    }

    fn expect(window: Window, zone: &str, text: &str, start: &str, end: &str) {
        assert_eq!(
            span(window, zone, text),
            (start.to_owned(), end.to_owned()),
            "{zone} {text}"
        );
    }

    #[test]
    fn days_are_as_long_as_the_zone_makes_them() {
        let berlin = "Europe/Berlin";
        let spring = "2026-03-29T12:00:00Z";
        expect(
            Window::Daily,
            berlin,
            spring,
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
        );
        let autumn = "2026-10-25T12:00:00Z";
        expect(
            Window::Daily,
            berlin,
            autumn,
            "2026-10-24T22:00:00Z",
            "2026-10-25T23:00:00Z",
        );
        // Clocks go forward at midnight: the day starts at one.
        let santiago = "2026-09-06T12:00:00Z";
        expect(
            Window::Daily,
            "America/Santiago",
            santiago,
            "2026-09-06T04:00:00Z",
            "2026-09-07T03:00:00Z",
        );
    }

    #[test]
    fn months_begin_in_their_zone() {
        let late = "2026-03-31T22:30:00Z";
        expect(
            Window::Monthly,
            "Europe/Berlin",
            late,
            "2026-03-31T22:00:00Z",
            "2026-04-30T22:00:00Z",
        );
        expect(
            Window::Monthly,
            "UTC",
            late,
            "2026-03-01T00:00:00Z",
            "2026-04-01T00:00:00Z",
        );
    }

    #[test]
    fn hours_are_those_of_the_clocks() {
        expect(
            Window::Hourly,
            "Asia/Kathmandu",
            "2026-01-01T00:20:00Z",
            "2026-01-01T00:15:00Z",
            "2026-01-01T01:15:00Z",
        );
        // 02:30 happens twice in Berlin: two windows.
        expect(
            Window::Hourly,
            "Europe/Berlin",
            "2026-10-25T00:30:00Z",
            "2026-10-25T00:00:00Z",
            "2026-10-25T01:00:00Z",
        );
        expect(
            Window::Hourly,
            "Europe/Berlin",
            "2026-10-25T01:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T02:00:00Z",
        );
        // Half an hour back at 02:00 on Lord Howe: 01:30 comes again.
        expect(
            Window::Hourly,
            "Australia/Lord_Howe",
            "2026-04-04T15:10:00Z",
            "2026-04-04T15:00:00Z",
            "2026-04-04T15:30:00Z",
        );
    }

    #[test]
    fn unknown_zones_are_refused() {
        assert!(Calendar::new(Window::Daily, "Mars/Olympus").is_err());
    }

    proptest! {
        /// Windows neither overlap nor leave gaps.
        #[test]
        fn windows_tile_time(
            second in 0_i64..4_000_000_000,
            window in proptest::sample::select(vec![Window::Hourly, Window::Daily, Window::Monthly]),
            zone in proptest::sample::select(vec!["UTC", "Europe/Berlin", "America/Santiago",
                "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"]),
        ) {
            let calendar = Calendar::new(window, zone).unwrap();
            let at = second * 1_000_000_000 + 7;
            let span = calendar.span(at);
            prop_assert!(span.contains(at));
            prop_assert_eq!(calendar.span(span.start), span);
            prop_assert_eq!(calendar.span(span.end - 1), span);
            prop_assert_eq!(calendar.span(span.end).start, span.end);
        }
    }
}
