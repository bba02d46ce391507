//! One instant of the order: wall time and a counter in 64 bits.

use std::fmt;

use creto_types::Timestamp;

/// Bits of the counter.
const LOGICAL_BITS: u32 = 18;

/// The largest counter: 262,143, so as nanoseconds it stays below a millisecond.
const MAX_LOGICAL: u64 = (1 << LOGICAL_BITS) - 1;

/// A hybrid logical timestamp: 46 bits of milliseconds since the Unix epoch (up
/// to the year 4199) and 18 bits that count within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HybridTimestamp(u64);

impl HybridTimestamp {
    /// How many timestamps one millisecond holds.
    pub const PER_MILLISECOND: u64 = MAX_LOGICAL + 1;

    /// The timestamp with this packed form.
    #[must_use]
    pub const fn from_packed(packed: u64) -> Self {
        Self(packed)
    }

    /// The first timestamp of a millisecond; `None` past 46 bits.
    #[must_use]
    pub const fn first_of(millis: u64) -> Option<Self> {
        if millis >> (u64::BITS - LOGICAL_BITS) == 0 {
            Some(Self(millis << LOGICAL_BITS))
        } else {
            None
        }
    }

    /// Both parts in one number that orders like the timestamp.
    #[must_use]
    pub const fn packed(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }

    /// The counter within the millisecond.
    #[must_use]
    pub const fn logical(self) -> u64 {
        self.0 & MAX_LOGICAL
    }

    /// The timestamp as an instant: the counter becomes nanoseconds, which loses
    /// nothing and keeps the order, because it is always below a million.
    #[must_use]
    pub fn to_instant(self) -> Timestamp {
        let millis = i64::try_from(self.millis()).unwrap_or(i64::MAX);
        let nanos = i64::try_from(self.logical()).unwrap_or(0);
        Timestamp::from_millisecond(millis)
            .and_then(|at| at.checked_add(std::time::Duration::from_nanos(nanos.unsigned_abs())))
            .unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for HybridTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis(), self.logical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn instants_order_like_timestamps(a in 0..(1_u64 << 60), b in 0..(1_u64 << 60)) {
            let (a, b) = (HybridTimestamp(a), HybridTimestamp(b));
            prop_assert_eq!(a.cmp(&b), a.to_instant().cmp(&b.to_instant()));
        }
    }

    #[test]
    fn both_parts_survive() {
        let at = HybridTimestamp::first_of(1_764_000_000_123).map(|t| HybridTimestamp(t.0 + 7));
        let at = at.expect("46 bits");
        assert_eq!((at.millis(), at.logical()), (1_764_000_000_123, 7));
        assert_eq!(at.to_instant().as_nanosecond(), 1_764_000_000_123_000_007);
        assert!(HybridTimestamp::first_of(1 << 46).is_none());
    }
}
