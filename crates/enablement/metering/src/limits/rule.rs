//! What a counter goes by: the terms of a limit or of a budget.

use std::collections::HashMap;
use std::sync::Arc;

use creto_authz::Action;
use creto_nhi::{Budget, BudgetPeriod, DelegationLink};
use creto_types::{Currency, Quantity};

use super::cell::Group;
use super::model::{DEFAULT_THRESHOLDS, Limit, OnExceed, invalid, is_money};
use super::window::{Calendar, Span};
use crate::amount::Amount;
use crate::error::MeteringError;

/// How many rules of budgets there are before those that nobody goes by are looked for.
const FEW_RULES: usize = 64;

/// What a cell counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Billionths of this currency's unit.
    Money(Currency),
    Units,
}

impl Measure {
    /// As much of this measure as a limit allows.
    pub(crate) fn of(quantity: &Quantity) -> Option<(Self, i128)> {
        match quantity {
            Quantity::Money(money) => {
                let most = Amount::floor(money)?.billionths();
                Some((Self::Money(money.currency()), most))
            }
            Quantity::Units(units) => Some((Self::Units, i128::from(*units))),
        }
    }

    /// For people and the wire. `None` beyond what money can express.
    pub(crate) fn quantity(self, count: i128) -> Option<Quantity> {
        match self {
            Self::Money(currency) => {
                let money = Amount::of_billionths(count).money(currency).ok()?;
                Some(Quantity::Money(money))
            }
            Self::Units => {
                let units = u64::try_from(count.max(0)).unwrap_or(u64::MAX);
                Some(Quantity::Units(units.min(Quantity::MAX_UNITS)))
            }
        }
    }
}

/// What does not change while the cell lives. Setting a limit anew makes a new cell.
/// Links that are given the same budget share one.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) measure: Measure,
    /// Only this action counts.
    pub(crate) event: Option<Action>,
    pub(crate) most: Quantity,
    /// The same as it is counted: up to here a call is granted without a second look, and
    /// thresholds are parts of it.
    pub(super) quiet: i128,
    pub(crate) on_exceed: OnExceed,
    /// The limit and the grace; calls above it are refused by a blocking limit.
    pub(super) ceiling: i128,
    calendar: Calendar,
    pub(super) thresholds: Box<[u8]>,
}

/// Which limit a cell counts, and its rule.
#[derive(Debug)]
pub(crate) enum Subject {
    /// The budget signed into a link.
    Budget {
        rule: Arc<Rule>,
        link: Arc<DelegationLink>,
    },
    /// One that was set.
    Set(Arc<SetLimit>),
}

/// A limit that was set.
#[derive(Debug)]
pub(crate) struct SetLimit {
    pub(crate) rule: Rule,
    pub(crate) limit: Arc<Limit>,
    /// What its cell is locked with, unless that is a tree of delegations.
    pub(crate) group: Option<Arc<Group>>,
}

impl Rule {
    pub(crate) fn budget(budget: &Budget) -> Option<Self> {
        let (measure, most) = Measure::of(&budget.limit)?;
        Some(Self {
            measure,
            event: None,
            most: budget.limit,
            quiet: most,
            on_exceed: OnExceed::Block,
            ceiling: most,
            calendar: Calendar::of(budget.period),
            thresholds: DEFAULT_THRESHOLDS.into(),
        })
    }

    pub(crate) fn set(limit: &Limit) -> Result<Self, MeteringError> {
        let calendar = Calendar::new(limit.window, &limit.time_zone)
            .map_err(|_| invalid("time_zone", "is not a time zone this build knows"))?;
        let out_of_range = || MeteringError::Money(creto_types::MoneyError::Overflow);
        let (measure, most) = Measure::of(&limit.limit).ok_or_else(out_of_range)?;
        let grace = match &limit.grace {
            Some(grace) => Measure::of(grace).ok_or_else(out_of_range)?.1,
            None => 0,
        };
        Ok(Self {
            measure,
            event: limit.event.as_deref().map(Action::named),
            most: limit.limit,
            quiet: most,
            on_exceed: limit.on_exceed,
            ceiling: most.saturating_add(grace),
            calendar,
            thresholds: limit.thresholds.clone().into(),
        })
    }

    pub(crate) fn is_money(&self) -> bool {
        is_money(&self.most)
    }

    /// What an amount and units are to this rule.
    pub(crate) fn share(&self, cost: i128, units: u64) -> i128 {
        if self.is_money() {
            cost
        } else {
            i128::from(units)
        }
    }

    pub(crate) fn span(&self, at: i64) -> Span {
        self.calendar.span(at)
    }
}

/// The rules of budgets signed into links: one for all links that are given the same.
#[derive(Debug, Default)]
pub(crate) struct BudgetRules {
    known: HashMap<(String, BudgetPeriod), Arc<Rule>>,
    prune_at: usize,
}

impl BudgetRules {
    pub(crate) fn of(&mut self, link: &DelegationLink) -> Option<Arc<Rule>> {
        let budget = link.budget.as_ref()?;
        // As it is written, because answers show it so.
        let key = (budget.limit.to_string(), budget.period);
        if let Some(known) = self.known.get(&key) {
            return Some(Arc::clone(known));
        }
        let rule = Arc::new(Rule::budget(budget)?);
        if self.known.len() >= self.prune_at {
            self.known.retain(|_, rule| Arc::strong_count(rule) > 1);
            self.prune_at = FEW_RULES.max(self.known.len().saturating_mul(2));
        }
        self.known.insert(key, Arc::clone(&rule));
        Some(rule)
    }
}
