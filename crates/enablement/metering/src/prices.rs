//! What a unit of each action costs.

use std::collections::HashMap;
use std::sync::OnceLock;

use creto_authz::{Action, ActionKey};
use creto_types::{Currency, Money};

use crate::amount::{Amount, SCALE};
use crate::error::PriceBookError;

/// Unit prices by exact action name, all in one currency. What is not listed is
/// free.
#[derive(Clone, Debug)]
pub struct PriceBook {
    currency: Currency,
    prices: HashMap<String, (Money, Amount)>,
}

impl PriceBook {
    /// Checks every price: one currency, not negative, at most nine decimal
    /// places, and no action twice.
    pub fn new(
        currency: Currency,
        prices: impl IntoIterator<Item = (String, Money)>,
    ) -> Result<Self, PriceBookError> {
        let mut book = HashMap::new();
        for (action, price) in prices {
            if price.currency() != currency {
                return Err(PriceBookError::Currency {
                    action,
                    price,
                    currency,
                });
            }
            if price.is_negative() {
                return Err(PriceBookError::Negative { action, price });
            }
            let Some(amount) = Amount::exact(&price) else {
                return Err(PriceBookError::TooFine {
                    action,
                    price,
                    places: SCALE,
                });
            };
            if book.contains_key(&action) {
                return Err(PriceBookError::Twice { action });
            }
            book.insert(action, (price, amount));
        }
        Ok(Self {
            currency,
            prices: book,
        })
    }

    /// The price of one unit; zero for an action that is not listed.
    #[must_use]
    pub fn price(&self, action: &str) -> Money {
        self.prices
            .get(action)
            .map_or_else(|| Money::zero(self.currency), |(money, _)| *money)
    }

    /// The currency of every price.
    #[must_use]
    pub const fn currency(&self) -> Currency {
        self.currency
    }

    pub(crate) fn amount(&self, action: &str) -> Amount {
        self.prices
            .get(action)
            .map_or(Amount::ZERO, |(_, amount)| *amount)
    }
}

/// Names with a number below this have their price looked up once.
const SLOTS: usize = 4_096;

/// The most that one call may cost, in billionths: what money can express for sure,
/// 2^96 - 1.
const MOST: i128 = (1 << 96) - 1;

/// A price book as decisions read it: by an action's number, without a lock.
#[derive(Debug)]
pub(crate) struct PriceTable {
    book: PriceBook,
    slots: Box<[OnceLock<i128>]>,
}

impl PriceTable {
    pub(crate) fn new(book: PriceBook) -> Self {
        Self {
            book,
            slots: (0..SLOTS).map(|_| OnceLock::new()).collect(),
        }
    }

    pub(crate) const fn book(&self) -> &PriceBook {
        &self.book
    }

    pub(crate) const fn currency(&self) -> Currency {
        self.book.currency()
    }

    /// What so many units cost, in billionths; `None` when that, or the units, cannot
    /// be counted.
    #[inline]
    pub(crate) fn cost(&self, action: &Action, units: u64) -> Option<i128> {
        let slot = usize::try_from(action.key().number())
            .ok()
            .filter(|_| action.key() != ActionKey::UNKNOWN)
            .and_then(|number| self.slots.get(number));
        let price = match slot {
            Some(slot) => *slot.get_or_init(|| self.price(action)),
            None => self.price(action),
        };
        // The store counts units in 63 bits.
        let units = i64::try_from(units).ok()?;
        price
            .checked_mul(i128::from(units))
            .filter(|cost| *cost <= MOST)
    }

    #[cold]
    fn price(&self, action: &Action) -> i128 {
        self.book.amount(action.name()).billionths()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use creto_errors::Classify as _;

    fn book(prices: &[(&str, &str)]) -> Result<PriceBook, PriceBookError> {
        PriceBook::new(
            Currency::USD,
            prices
                .iter()
                .map(|(action, price)| ((*action).to_owned(), price.parse().unwrap())),
        )
    }

    #[test]
    fn bad_prices_are_refused_by_name() {
        let code = |prices: &[_]| book(prices).unwrap_err().code();
        assert_eq!(code(&[("a", "1 EUR")]), "price_currency");
        assert_eq!(code(&[("a", "-1 USD")]), "price_negative");
        assert_eq!(code(&[("a", "0.0000000001 USD")]), "price_too_fine");
        assert_eq!(
            code(&[("a", "1 USD"), ("a", "2 USD")]),
            "price_listed_twice"
        );
    }

    #[test]
    fn what_is_not_listed_is_free() {
        let book = book(&[("a", "0.25 USD")]).unwrap();
        assert_eq!(book.price("a"), "0.25 USD".parse().unwrap());
        assert_eq!(book.price("b"), Money::zero(Currency::USD));
    }
}
