//! What a unit of each action costs.

use std::collections::HashMap;

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
