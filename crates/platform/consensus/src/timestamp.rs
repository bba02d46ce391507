//! Timestamps that are handed out together.

use std::num::NonZeroU32;

use creto_types::HybridTimestamp;

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
        match first.as_u64().checked_add(count.get() as u64 - 1) {
            Some(_) => Some(Self {
                first: first.as_u64(),
                count,
            }),
            None => None,
        }
    }

    /// The first.
    #[must_use]
    pub const fn first(&self) -> HybridTimestamp {
        HybridTimestamp::from_u64(self.first)
    }

    /// The last.
    #[must_use]
    pub const fn last(&self) -> HybridTimestamp {
        HybridTimestamp::from_u64(self.first + (self.count.get() as u64 - 1))
    }

    /// How many.
    #[must_use]
    pub const fn count(&self) -> NonZeroU32 {
        self.count
    }

    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = HybridTimestamp> + use<> {
        (self.first..=self.last().as_u64()).map(HybridTimestamp::from_u64)
    }

    /// The first `count` of these, and the rest; none when the rest would be empty or
    /// there are fewer.
    #[must_use]
    pub fn split(self, count: NonZeroU32) -> Option<(Self, Self)> {
        let rest = NonZeroU32::new(self.count.get().checked_sub(count.get())?)?;
        let front = Self {
            first: self.first,
            count,
        };
        let back = Self {
            first: self.first.checked_add(u64::from(count.get()))?,
            count: rest,
        };
        Some((front, back))
    }
}
