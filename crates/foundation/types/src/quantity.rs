//! How much of something: money, or units of what is done.

use std::fmt;
use std::str::FromStr;

use creto_errors::{Class, Classify};
use rust_decimal::Decimal;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Currency, Money, MoneyError};

/// An amount of money or a number of units. Money and units are two measures, and
/// so are two currencies: quantities of different measures are never compared.
///
/// On the wire money is what [`Money`] is, `{"amount":"5.00","currency":"USD"}`;
/// units are `{"units":1000}`. As text: `5.00 USD`, `1000 units`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantity {
    /// So much money.
    Money(Money),
    /// So many units; at most [`Quantity::MAX_UNITS`] in anything that is stored
    /// or signed.
    Units(u64),
}

/// A text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text is neither money nor units.
    #[error("expected money such as `5.00 USD` or units such as `1000 units`, got `{text}`")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// More units than an exact number in JSON can be.
    #[error("there are at most {} units, got {units}", Quantity::MAX_UNITS)]
    TooManyUnits {
        /// What was given.
        units: u64,
    },
    /// It reads like money and is not.
    #[error(transparent)]
    Money(MoneyError),
}

impl Classify for QuantityError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed_quantity",
            Self::TooManyUnits { .. } => "units_out_of_range",
            Self::Money(error) => error.code(),
        }
    }
}

impl Quantity {
    /// The most units: the greatest integer that every JSON implementation reads
    /// exactly (RFC 8785, section 3.2.2.3; RFC 7493, section 2.2).
    pub const MAX_UNITS: u64 = (1 << 53) - 1;

    /// Whether this is at most `other`; `None` when they are of two measures.
    #[must_use]
    pub fn at_most(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Money(mine), Self::Money(theirs)) => mine.at_most(theirs).ok(),
            (Self::Units(mine), Self::Units(theirs)) => Some(mine <= theirs),
            _ => None,
        }
    }

    /// Whether both are money, of whatever currency, or both are units.
    #[must_use]
    pub const fn is_like(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Money(_), Self::Money(_)) | (Self::Units(_), Self::Units(_))
        )
    }

    /// The money; `None` for units.
    #[must_use]
    pub const fn money(&self) -> Option<Money> {
        match self {
            Self::Money(money) => Some(*money),
            Self::Units(_) => None,
        }
    }
}

impl From<Money> for Quantity {
    fn from(money: Money) -> Self {
        Self::Money(money)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Money(money) => money.fmt(f),
            Self::Units(1) => f.write_str("1 unit"),
            Self::Units(units) => write!(f, "{units} units"),
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || QuantityError::Malformed {
            text: text.chars().take(80).collect(),
        };
        let (number, measure) = text.trim().split_once(' ').ok_or_else(malformed)?;
        if !matches!(measure.trim(), "units" | "unit") {
            return match text.parse() {
                Ok(money) => Ok(Self::Money(money)),
                Err(MoneyError::Malformed { .. }) => Err(malformed()),
                Err(error) => Err(QuantityError::Money(error)),
            };
        }
        // `u64` would also read a sign.
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed());
        }
        units(number.parse().map_err(|_| malformed())?)
    }
}

fn units(units: u64) -> Result<Quantity, QuantityError> {
    if units > Quantity::MAX_UNITS {
        return Err(QuantityError::TooManyUnits { units });
    }
    Ok(Quantity::Units(units))
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Money(money) => money.serialize(serializer),
            Self::Units(units) => {
                let mut fields = serializer.serialize_struct("Units", 1)?;
                fields.serialize_field("units", units)?;
                fields.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            #[serde(default, deserialize_with = "present")]
            amount: Option<Decimal>,
            #[serde(default, deserialize_with = "present")]
            currency: Option<Currency>,
            #[serde(default, deserialize_with = "present")]
            units: Option<u64>,
        }

        match Fields::deserialize(deserializer)? {
            Fields {
                amount: Some(amount),
                currency: Some(currency),
                units: None,
            } => Ok(Self::Money(Money::new(amount, currency))),
            Fields {
                amount: None,
                currency: None,
                units: Some(count),
            } => units(count).map_err(D::Error::custom),
            _ => Err(D::Error::custom(
                "expected either `amount` and `currency`, or `units`",
            )),
        }
    }
}

/// A field that is there has a value: `null` is none.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    fn code(text: &str) -> &'static str {
        text.parse::<Quantity>().unwrap_err().code()
    }

    #[test]
    fn money_keeps_the_wire_form_it_has_alone() {
        let money: Money = "5.00 USD".parse().unwrap();
        let wire = r#"{"amount":"5.00","currency":"USD"}"#;
        assert_eq!(serde_json::to_string(&money).unwrap(), wire);
        assert_eq!(
            serde_json::to_string(&Quantity::Money(money)).unwrap(),
            wire
        );
        assert_eq!(
            serde_json::to_string(&Quantity::Units(1_000)).unwrap(),
            r#"{"units":1000}"#
        );
    }

    #[test]
    fn only_one_whole_measure_is_read() {
        for bad in [
            "{}",
            r#"{"amount":"1"}"#,
            r#"{"currency":"USD"}"#,
            r#"{"amount":"1","currency":"USD","units":1}"#,
            r#"{"units":null}"#,
            r#"{"units":1,"amount":null}"#,
            r#"{"units":1,"units":1}"#,
            r#"{"units":1,"of":"tokens"}"#,
            r#"{"units":-1}"#,
            r#"{"units":1.5}"#,
            r#"{"units":"1"}"#,
            r#"{"units":9007199254740992}"#,
            "1",
            r#""5.00 USD""#,
        ] {
            assert!(serde_json::from_str::<Quantity>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_are_read_strictly() {
        assert_eq!(quantity("1 unit"), Quantity::Units(1));
        assert_eq!(quantity(" 1000  units "), Quantity::Units(1_000));
        assert_eq!(quantity("5 USD").money().unwrap().to_string(), "5.00 USD");
        assert_eq!(Quantity::Units(1).to_string(), "1 unit");
        for bad in [
            "",
            "units",
            "5",
            "-1 units",
            "+1 units",
            "1.5 units",
            "x USD",
        ] {
            assert_eq!(code(bad), "malformed_quantity", "{bad}");
        }
        assert_eq!(code("9007199254740992 units"), "units_out_of_range");
        assert_eq!(code("5 Units"), "unknown_currency");
    }

    #[test]
    fn measures_are_not_compared() {
        let (five, euros, units) = (quantity("5 USD"), quantity("5 EUR"), quantity("5 units"));
        assert_eq!(five.at_most(&quantity("5.00 USD")), Some(true));
        assert_eq!(quantity("6 units").at_most(&units), Some(false));
        assert_eq!(five.at_most(&euros), None);
        assert_eq!(five.at_most(&units), None);
        assert!(five.is_like(&euros));
        assert!(!units.is_like(&five));
    }

    proptest! {
        #[test]
        fn units_survive_text_and_json(count in 0..=Quantity::MAX_UNITS) {
            let units = Quantity::Units(count);
            prop_assert_eq!(quantity(&units.to_string()), units);
            let json = serde_json::to_string(&units).unwrap();
            prop_assert_eq!(serde_json::from_str::<Quantity>(&json).unwrap(), units);
            prop_assert_eq!(crate::canonical_json(&units).unwrap(), json.into_bytes());
        }
    }
}
