//! Amounts as integers, so that sums are exact whatever their order.

use creto_types::{Currency, Money, MoneyError};
use rust_decimal::Decimal;

/// Digits after the decimal point that a price may have.
pub(crate) const SCALE: u32 = 9;

/// Billionths of a currency unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(i128);

impl Amount {
    pub(crate) const ZERO: Self = Self(0);

    /// The amount of money, when it has at most [`SCALE`] decimal places.
    pub(crate) fn exact(money: &Money) -> Option<Self> {
        let amount = money.amount().normalize();
        let places = SCALE.checked_sub(amount.scale())?;
        amount
            .mantissa()
            .checked_mul(10_i128.checked_pow(places)?)
            .map(Self)
    }

    /// The largest amount that is not above the money. Every cost is a whole
    /// number of billionths, so a cost fits a limit exactly when it fits this.
    pub(crate) fn floor(money: &Money) -> Option<Self> {
        Self::exact(money).or_else(|| {
            let amount = money.amount().normalize();
            let surplus = amount.scale().checked_sub(SCALE)?;
            Some(Self(
                amount.mantissa().div_euclid(10_i128.checked_pow(surplus)?),
            ))
        })
    }

    /// As money, with at least the minor unit's digits.
    pub(crate) fn money(self, currency: Currency) -> Result<Money, MoneyError> {
        let mut amount = Decimal::try_from_i128_with_scale(self.0, SCALE)
            .map_err(|_| MoneyError::Overflow)?
            .normalize();
        if amount.scale() < currency.minor_digits() {
            amount.rescale(currency.minor_digits());
        }
        Ok(Money::new(amount, currency))
    }

    pub(crate) const fn billionths(self) -> i128 {
        self.0
    }

    pub(crate) const fn of_billionths(count: i128) -> Self {
        Self(count)
    }

    pub(crate) fn times(self, units: u64) -> Option<Self> {
        self.0.checked_mul(i128::from(units)).map(Self)
    }

    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
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
    fn a_limit_with_more_places_is_floored() {
        assert_eq!(Amount::exact(&usd("0.0000000019")), None);
        assert_eq!(Amount::floor(&usd("0.0000000019")), Some(Amount(1)));
        assert_eq!(Amount::floor(&usd("-0.0000000019")), Some(Amount(-2)));
        assert_eq!(Amount::floor(&usd("5")), Some(Amount(5_000_000_000)));
    }

    #[test]
    fn the_largest_decimal_fits() {
        let most = Money::new(Decimal::MAX, Currency::USD);
        assert!(Amount::exact(&most).is_some());
        assert!(Amount(i128::MAX).money(Currency::USD).is_err());
    }

    proptest! {
        #[test]
        fn money_survives(mantissa in any::<i64>(), scale in 0_u32..=SCALE) {
            let money = Money::new(Decimal::new(mantissa, scale), Currency::USD);
            let amount = Amount::exact(&money).unwrap();
            prop_assert_eq!(amount.money(Currency::USD).unwrap(), money);
        }
    }
}
