//! What links used, as the ledger tells at start, until it is known what their
//! budgets count.

use creto_nhi::BudgetPeriod;

use super::window::{Calendar, Span};

/// Settled amounts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) cost: i128,
    pub(crate) units: i128,
}

impl Used {
    pub(crate) const fn add(&mut self, cost: i128, units: i128) {
        self.cost = self.cost.saturating_add(cost);
        self.units = self.units.saturating_add(units);
    }
}

/// One link: in all, and in the latest month, day and hour it was used in.
#[derive(Debug)]
pub(crate) struct History {
    total: Used,
    latest: [(BudgetPeriod, Span, Used); 3],
}

/// A window before all others.
const NEVER: Span = Span {
    start: i64::MIN,
    end: i64::MIN,
};

impl Default for History {
    fn default() -> Self {
        Self {
            total: Used::default(),
            latest: [BudgetPeriod::Month, BudgetPeriod::Day, BudgetPeriod::Hour]
                .map(|period| (period, NEVER, Used::default())),
        }
    }
}

impl History {
    /// Counts what was decided at this instant.
    pub(crate) fn add(&mut self, at: i64, cost: i128, units: i128) {
        self.total.add(cost, units);
        for (period, span, used) in &mut self.latest {
            if at >= span.end {
                *span = Calendar::of(*period).span(at);
                *used = Used::default();
            }
            if span.contains(at) {
                used.add(cost, units);
            }
        }
    }

    /// The window of a period at this instant, or a later one that was used already,
    /// and what was used in it.
    pub(crate) fn at(&self, period: BudgetPeriod, now: i64) -> (Span, Used) {
        let latest = self.latest.iter().find(|(of, ..)| *of == period);
        match latest {
            None => (Span::ALWAYS, self.total),
            Some((_, span, used)) if now < span.end => (*span, *used),
            Some(_) => (Calendar::of(period).span(now), Used::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_window_counts() {
        const HOUR: i64 = 3_600_000_000_000;
        let mut history = History::default();
        history.add(5 * HOUR, 3, 1);
        history.add(5 * HOUR + 1, 4, 1);
        history.add(4 * HOUR, 10, 2);
        let used = |period, now| {
            let (_, used) = history.at(period, now);
            (used.cost, used.units)
        };
        assert_eq!(used(BudgetPeriod::Total, 0), (17, 4));
        assert_eq!(used(BudgetPeriod::Day, 6 * HOUR), (17, 4));
        assert_eq!(used(BudgetPeriod::Hour, 5 * HOUR + 9), (7, 2));
        assert_eq!(used(BudgetPeriod::Hour, 6 * HOUR), (0, 0));
        // The clock stepped back: the later window stays.
        assert_eq!(used(BudgetPeriod::Hour, 4 * HOUR), (7, 2));
    }
}
