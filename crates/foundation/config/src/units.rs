//! Numbers with bounds and units. The bounds are part of the type, so that the
//! reference and the check cannot drift apart.

use std::fmt;
use std::time::Duration;

use creto_errors::{Class, Classify};
use serde::{Deserialize, Deserializer, Serialize};

/// A number is outside its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} is outside {min} to {max}")]
pub struct BoundsError {
    value: u64,
    min: u64,
    max: u64,
}

impl Classify for BoundsError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "out_of_bounds"
    }
}

/// A whole number from `MIN` to `MAX`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Bounded<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Bounded<MIN, MAX> {
    /// The number, when it lies within the bounds.
    pub const fn new(value: u64) -> Result<Self, BoundsError> {
        if MIN <= value && value <= MAX {
            Ok(Self(value))
        } else {
            Err(BoundsError {
                value,
                min: MIN,
                max: MAX,
            })
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Bounded<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

macro_rules! duration_unit {
    ($name:ident, $from:path, $doc:literal) => {
        #[doc = $doc]
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name<const MIN: u64, const MAX: u64>(Bounded<MIN, MAX>);

        impl<const MIN: u64, const MAX: u64> $name<MIN, MAX> {
            /// The duration, when its number lies within the bounds.
            pub const fn new(value: u64) -> Result<Self, BoundsError> {
                match Bounded::new(value) {
                    Ok(value) => Ok(Self(value)),
                    Err(error) => Err(error),
                }
            }

            /// The number in this unit.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0.get()
            }

            /// The duration.
            #[must_use]
            pub const fn duration(self) -> Duration {
                $from(self.0.get())
            }
        }

        impl<const MIN: u64, const MAX: u64> fmt::Display for $name<MIN, MAX> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

duration_unit!(
    Millis,
    Duration::from_millis,
    "A number of milliseconds from `MIN` to `MAX`, both included."
);
duration_unit!(
    Seconds,
    Duration::from_secs,
    "A number of seconds from `MIN` to `MAX`, both included."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive() {
        assert!(Millis::<1, 10>::new(0).is_err());
        assert_eq!(
            Millis::<1, 10>::new(10).unwrap().duration(),
            Duration::from_millis(10)
        );
        let error = Seconds::<1, 10>::new(11).unwrap_err();
        assert_eq!(error.to_string(), "11 is outside 1 to 10");
    }
}
