//! One timestamp in 64 bits.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use creto_types::Timestamp;

/// Milliseconds since the Unix epoch in the upper 46 bits, a counter within the
/// millisecond in the lower 18. Their order is the order of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HybridTimestamp(u64);

impl HybridTimestamp {
    /// Bits of the counter.
    pub(crate) const LOGICAL_BITS: u32 = 18;
    /// Counter values in a millisecond: 262,144, fewer than its 10^6
    /// nanoseconds.
    pub(crate) const PER_MILLI: u64 = 1 << Self::LOGICAL_BITS;
    /// The last millisecond that both this and [`Timestamp`] can say: the year
    /// 4199.
    pub(crate) const MAX_MILLIS: u64 = u64::MAX >> Self::LOGICAL_BITS;

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
}

impl fmt::Display for HybridTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.millis(), self.logical())
    }
}

/// Consecutive timestamps handed out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampRange {
    first: u64,
    count: NonZeroU32,
}

impl TimestampRange {
    /// The range that starts here; none when it would run past the last
    /// timestamp.
    #[must_use]
    pub const fn new(first: HybridTimestamp, count: NonZeroU32) -> Option<Self> {
        match first.0.checked_add(count.get() as u64 - 1) {
            Some(_) => Some(Self {
                first: first.0,
                count,
            }),
            None => None,
        }
    }

    /// The first.
    #[must_use]
    pub const fn first(&self) -> HybridTimestamp {
        HybridTimestamp(self.first)
    }

    /// The last.
    #[must_use]
    pub const fn last(&self) -> HybridTimestamp {
        HybridTimestamp(self.first + (self.count.get() as u64 - 1))
    }

    /// How many.
    #[must_use]
    pub const fn count(&self) -> NonZeroU32 {
        self.count
    }

    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = HybridTimestamp> + use<> {
        (self.first..=self.last().0).map(HybridTimestamp)
    }
}
