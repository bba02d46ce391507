//! Exact money: a decimal amount and an ISO 4217 currency.
//!
//! Amounts keep every digit until the one place that rounds, the invoice line
//! ([`Money::round_to_minor_unit`]). Two currencies never mix silently.

use std::fmt;
use std::str::FromStr;

use creto_errors::{Class, Classify};
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

/// An ISO 4217 currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// The US dollar.
    pub const USD: Self = Self(iso_currency::Currency::USD);

    /// The three-letter code.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Digits after the decimal point of the minor unit: 2 for USD, 0 for JPY.
    #[must_use]
    pub fn minor_digits(self) -> u32 {
        self.0.exponent().map_or(0, u32::from)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        iso_currency::Currency::from_code(text)
            .map(Self)
            .ok_or_else(|| MoneyError::UnknownCurrency {
                code: text.to_owned(),
            })
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        code.parse().map_err(serde::de::Error::custom)
    }
}

/// An exact amount in one currency. On the wire: `{"amount":"0.10","currency":"USD"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    amount: Decimal,
    currency: Currency,
}

/// What can go wrong with money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The code is not in ISO 4217.
    #[error("`{code}` is not an ISO 4217 currency code")]
    UnknownCurrency {
        /// What was given.
        code: String,
    },
    /// Two currencies met in one sum.
    #[error("cannot combine {left} with {right}")]
    CurrencyMismatch {
        /// The left side's currency.
        left: Currency,
        /// The right side's currency.
        right: Currency,
    },
    /// The result does not fit 96 bits of mantissa.
    #[error("the amount is out of range")]
    Overflow,
    /// The text is not `AMOUNT CURRENCY`.
    #[error("expected an amount and a currency such as `5.00 USD`, got `{text}`")]
    Malformed {
        /// What was given.
        text: String,
    },
}

impl Classify for MoneyError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        match self {
            Self::UnknownCurrency { .. } => "unknown_currency",
            Self::CurrencyMismatch { .. } => "currency_mismatch",
            Self::Overflow => "amount_out_of_range",
            Self::Malformed { .. } => "malformed_money",
        }
    }
}

impl Money {
    /// This amount of this currency.
    #[must_use]
    pub const fn new(amount: Decimal, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Nothing, in this currency, with the digits of its minor unit: `0.00`.
    #[must_use]
    pub fn zero(currency: Currency) -> Self {
        let mut amount = Decimal::ZERO;
        amount.rescale(currency.minor_digits());
        Self { amount, currency }
    }

    /// The exact amount.
    #[must_use]
    pub const fn amount(&self) -> Decimal {
        self.amount
    }

    /// The currency.
    #[must_use]
    pub const fn currency(&self) -> Currency {
        self.currency
    }

    /// The sum; both must be of one currency.
    pub fn checked_add(&self, other: &Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let amount = self
            .amount
            .checked_add(other.amount)
            .ok_or(MoneyError::Overflow)?;
        Ok(Self::new(amount, self.currency))
    }

    /// The difference; both must be of one currency.
    pub fn checked_sub(&self, other: &Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let amount = self
            .amount
            .checked_sub(other.amount)
            .ok_or(MoneyError::Overflow)?;
        Ok(Self::new(amount, self.currency))
    }

    /// A unit price times a number of units, exactly.
    pub fn checked_mul(&self, units: u64) -> Result<Self, MoneyError> {
        let amount = self
            .amount
            .checked_mul(Decimal::from(units))
            .ok_or(MoneyError::Overflow)?;
        Ok(Self::new(amount, self.currency))
    }

    /// Whether this is at most `other`; both must be of one currency.
    pub fn at_most(&self, other: &Self) -> Result<bool, MoneyError> {
        self.same_currency(other)?;
        Ok(self.amount <= other.amount)
    }

    /// Whether the amount is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.amount.is_sign_negative() && !self.amount.is_zero()
    }

    /// Whole minor units (cents), rounding half away from zero: the one rounding
    /// rule, used once per invoice line.
    #[must_use]
    pub fn round_to_minor_unit(&self) -> Self {
        let digits = self.currency.minor_digits();
        let mut amount = self
            .amount
            .round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
        amount.rescale(digits);
        Self::new(amount, self.currency)
    }

    fn same_currency(&self, other: &Self) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::CurrencyMismatch {
                left: self.currency,
                right: other.currency,
            })
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.amount.normalize();
        if shown.scale() < self.currency.minor_digits() {
            shown.rescale(self.currency.minor_digits());
        }
        write!(f, "{shown} {}", self.currency)
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || MoneyError::Malformed {
            text: text.to_owned(),
        };
        let (amount, currency) = text.trim().split_once(' ').ok_or_else(malformed)?;
        let amount = Decimal::from_str_exact(amount).map_err(|_| malformed())?;
        Ok(Self::new(amount, currency.trim().parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(text: &str) -> Money {
        format!("{text} USD").parse().unwrap()
    }

    #[test]
    fn cents_are_shown_even_when_zero() {
        assert_eq!(usd("5").to_string(), "5.00 USD");
        assert_eq!(usd("0.001").to_string(), "0.001 USD");
        assert_eq!("7 JPY".parse::<Money>().unwrap().to_string(), "7 JPY");
        let zero = serde_json::to_value(Money::zero(Currency::USD)).unwrap();
        assert_eq!(zero["amount"], "0.00");
    }

    #[test]
    fn halves_round_away_from_zero_once() {
        assert_eq!(usd("0.125").round_to_minor_unit(), usd("0.13"));
        assert_eq!(usd("-0.125").round_to_minor_unit(), usd("-0.13"));
        assert_eq!(usd("0.1249999").round_to_minor_unit(), usd("0.12"));
    }

    #[test]
    fn currencies_do_not_mix() {
        let error = usd("1").checked_add(&"1 EUR".parse().unwrap()).unwrap_err();
        assert_eq!(error.code(), "currency_mismatch");
    }

    #[test]
    fn overflow_is_an_error() {
        let most = Money::new(Decimal::MAX, Currency::USD);
        assert_eq!(most.checked_add(&usd("1")), Err(MoneyError::Overflow));
        assert_eq!(most.checked_mul(2), Err(MoneyError::Overflow));
    }

    proptest! {
        #[test]
        fn text_and_json_keep_the_amount(mantissa in any::<i64>(), scale in 0_u32..10) {
            let money = Money::new(Decimal::new(mantissa, scale), Currency::USD);
            prop_assert_eq!(money.to_string().parse::<Money>().unwrap(), money);
            let json = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
        }
    }
}
