//! An instant and a counter in 64 bits: what puts everything into one order.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Timestamp;

/// Milliseconds since the Unix epoch in the upper 46 bits, a counter within the
/// millisecond in the lower 18. Their order is the order of the numbers.
///
/// As text, in JSON too, it is both parts with a plus between: `1700000000000+7`. The
/// number itself is beyond what JSON carries exactly (RFC 8785, section 3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HybridTimestamp(u64);

impl HybridTimestamp {
    /// Bits of the counter.
    pub const LOGICAL_BITS: u32 = 18;
    /// Counter values in a millisecond: 262,144, fewer than its 10^6
    /// nanoseconds.
    pub const PER_MILLI: u64 = 1 << Self::LOGICAL_BITS;
    /// The last millisecond that both this and [`Timestamp`] can say: the year
    /// 4199.
    pub const MAX_MILLIS: u64 = u64::MAX >> Self::LOGICAL_BITS;
    /// The last of all.
    pub const MAX: Self = Self(u64::MAX);

    /// The timestamp with these parts, when each fits.
    #[must_use]
    pub const fn from_parts(millis: u64, logical: u32) -> Option<Self> {
        if millis <= Self::MAX_MILLIS && (logical as u64) < Self::PER_MILLI {
            Some(Self(millis << Self::LOGICAL_BITS | logical as u64))
        } else {
            None
        }
    }

    /// The timestamp with this number.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The wall part: milliseconds since the Unix epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 >> Self::LOGICAL_BITS
    }

    /// The counter within the millisecond.
    #[must_use]
    pub const fn logical(self) -> u32 {
        // The remainder of 2^18 fits 32 bits.
        (self.0 % Self::PER_MILLI) as u32
    }

    /// The instant: the wall part and one nanosecond per count. Distinct
    /// timestamps give distinct instants, in the same order.
    #[must_use]
    pub fn to_instant(self) -> Timestamp {
        let since_epoch =
            Duration::from_millis(self.millis()) + Duration::from_nanos(self.logical().into());
        Timestamp::UNIX_EPOCH
            .checked_add(since_epoch)
            .expect("46 bits of milliseconds end in the year 4199, before the last instant")
    }

    /// The timestamp of an instant: the reverse of [`Self::to_instant`]. Of instants
    /// that are none's, the order is kept and the distance is not: what lies past the
    /// last count of a millisecond gives that count, what lies before 1970 the first
    /// timestamp of all, what lies past the year 4199 the last.
    #[must_use]
    pub fn of_instant(at: Timestamp) -> Self {
        let nanos = at.as_nanosecond();
        let Ok(millis) = u64::try_from(nanos.div_euclid(1_000_000)) else {
            return Self(0);
        };
        let within = u64::try_from(nanos.rem_euclid(1_000_000)).unwrap_or(0);
        if millis > Self::MAX_MILLIS {
            return Self::MAX;
        }
        Self(millis << Self::LOGICAL_BITS | within.min(Self::PER_MILLI - 1))
    }

    /// The next one; none after the last.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// What something that happened `at` gets when it takes its place behind `last`: its
    /// own timestamp, or the one right after `last` when it was overtaken. None when
    /// there is none left.
    #[must_use]
    pub fn behind(last: Option<Self>, at: Timestamp) -> Option<Self> {
        let own = Self::of_instant(at);
        match last {
            None => Some(own),
            Some(last) => Some(last.next()?.max(own)),
        }
    }
}

impl fmt::Display for HybridTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.millis(), self.logical())
    }
}

/// The text is not a timestamp in its one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a timestamp is milliseconds below 2^46, `+`, and a count below 2^18, without leading zeros"
)]
pub struct HybridTimestampError;

impl FromStr for HybridTimestamp {
    type Err = HybridTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (millis, logical) = text.split_once('+').ok_or(HybridTimestampError)?;
        let parsed = millis
            .parse()
            .ok()
            .zip(logical.parse().ok())
            .and_then(|(millis, logical)| Self::from_parts(millis, logical));
        parsed
            .filter(|read| read.to_string() == text)
            .ok_or(HybridTimestampError)
    }
}

impl Serialize for HybridTimestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HybridTimestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_has_one_form() {
        let at = HybridTimestamp::from_parts(1_700_000_000_000, 7).unwrap();
        assert_eq!(at.to_string(), "1700000000000+7");
        assert_eq!("1700000000000+7".parse(), Ok(at));
        for text in [
            "",
            "+",
            "1",
            "1+",
            "+1",
            "01+1",
            "1+01",
            "1++1",
            "-1+1",
            "1+1 ",
            "70368744177664+0",
            "0+262144",
        ] {
            assert_eq!(
                text.parse::<HybridTimestamp>(),
                Err(HybridTimestampError),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_overtaken_comes_right_behind() {
        let of = |millis, logical| HybridTimestamp::from_parts(millis, logical).unwrap();
        let at = of(5, 3);
        assert_eq!(
            HybridTimestamp::behind(None, at.to_instant()),
            Some(of(5, 3))
        );
        for (last, expected) in [
            (of(5, 2), of(5, 3)),
            (of(5, 3), of(5, 4)),
            (of(9, 262_143), of(10, 0)),
        ] {
            let placed = HybridTimestamp::behind(Some(last), at.to_instant());
            assert_eq!(placed, Some(expected));
        }
        let last = Some(HybridTimestamp::MAX);
        assert_eq!(HybridTimestamp::behind(last, at.to_instant()), None);
    }

    proptest! {
        #[test]
        fn an_instant_gives_its_timestamp_back(number: u64) {
            let at = HybridTimestamp::from_u64(number);
            prop_assert_eq!(HybridTimestamp::of_instant(at.to_instant()), at);
            prop_assert_eq!(at.to_string().parse(), Ok(at));
        }

        #[test]
        fn instants_keep_their_order(a in -10_i64..200_000_000_000, b in -10_i64..200_000_000_000) {
            let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
            let of = |seconds| HybridTimestamp::of_instant(at(seconds));
            if a <= b {
                prop_assert!(of(a) <= of(b));
            }
        }
    }
}
