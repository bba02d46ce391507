//! What every link of an organization has spent and holds back.

use std::collections::{BTreeMap, HashMap};

use creto_nhi::LinkId;
use creto_types::{Period, Timestamp};

use crate::amount::Amount;

/// A UTC day, counted from 1970-01-01. Every budget window is a row of days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(i64);

impl Day {
    pub(crate) fn of(at: Timestamp) -> Self {
        const SECONDS: i64 = 24 * 60 * 60;
        Self(at.as_second().div_euclid(SECONDS))
    }
}

/// Settled and held amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) used: Amount,
    pub(crate) reserved: Amount,
}

impl Tally {
    pub(crate) fn both(self) -> Amount {
        self.used.saturating_plus(self.reserved)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            used: self.used.saturating_plus(other.used),
            reserved: self.reserved.saturating_plus(other.reserved),
        }
    }
}

/// One link: in all, and by day.
#[derive(Debug, Default)]
struct Link {
    total: Tally,
    days: BTreeMap<Day, Tally>,
}

/// All links of one organization.
///
/// Kept for every link, with or without a budget and whatever its window, so a
/// budget can be judged from the first call on.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    links: HashMap<LinkId, Link>,
}

impl Counters {
    /// What the link spent and holds in the window; `None` is all time.
    pub(crate) fn tally(&self, link: LinkId, window: Option<Period>) -> Tally {
        let Some(link) = self.links.get(&link) else {
            return Tally::default();
        };
        let Some(window) = window else {
            return link.total;
        };
        let days = Day::of(window.start())..Day::of(window.end());
        link.days
            .range(days)
            .fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally))
    }

    /// Whether this much more can be counted at all.
    pub(crate) fn has_room(&self, hops: &[LinkId], cost: Amount) -> bool {
        hops.iter().all(|link| {
            let total = self
                .links
                .get(link)
                .map_or(Amount::ZERO, |l| l.total.both());
            total.plus(cost).is_some()
        })
    }

    /// Holds an amount back on every link.
    pub(crate) fn hold(&mut self, hops: &[LinkId], day: Day, cost: Amount) {
        self.each(hops, day, |tally| {
            tally.reserved = tally.reserved.saturating_plus(cost);
        });
    }

    /// Gives a held amount back.
    pub(crate) fn give_back(&mut self, hops: &[LinkId], day: Day, cost: Amount) {
        self.each(hops, day, |tally| {
            tally.reserved = tally.reserved.minus_to_zero(cost);
        });
    }

    /// Counts an amount as spent.
    pub(crate) fn spend(&mut self, hops: &[LinkId], day: Day, cost: Amount) {
        self.each(hops, day, |tally| {
            tally.used = tally.used.saturating_plus(cost);
        });
    }

    fn each(&mut self, hops: &[LinkId], day: Day, change: impl Fn(&mut Tally)) {
        for id in hops {
            let link = self.links.entry(*id).or_default();
            change(&mut link.total);
            change(link.days.entry(day).or_default());
        }
    }
}
