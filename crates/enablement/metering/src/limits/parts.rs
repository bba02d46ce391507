//! Reserving in one part of a tree, by what is set aside there.
//!
//! The agent's own counters need nothing set aside: what counts below the last link of a
//! chain alone is counted by that link's holder, whose lock is held, and so is that of the
//! organization. Whatever does not simply fit is left to who locks the whole tree.

use std::sync::Arc;

use creto_authz::{HoldData, Spend};

use super::cell::Cell;
use super::plan::{Counted, Plan, Split};
use super::tree::{Advances, InPart, Tree, Whole};

/// A counter, and what is set aside of it if it is of the tree and shared.
type Shared<'a> = (&'a Counted, Option<&'a Advances>);

impl Plan {
    /// Every counter of the chain, and one part of its tree; `None` while that has no parts.
    #[inline]
    fn in_part(&self) -> Option<(InPart<'_>, impl Iterator<Item = Shared<'_>> + Clone)> {
        let split = self.above.split.get()?;
        let part = split.parts.lock_one(self.above.tree.as_ref()?)?;
        let above = self.above.cells.iter();
        let above = above.zip(split.advances.iter().map(Option::as_ref));
        let own = self.own().iter().map(|counted| (counted, None));
        Some((part, own.chain(above)))
    }

    /// Reserves for every cell, or for none: false where it is not sure that there is room,
    /// or where the answer to the last question is no. `None` while the tree has no parts.
    #[inline]
    pub(super) fn reserve_in_part<const PACED: bool>(
        &self,
        spend: &Spend<'_>,
        data: &HoldData,
        last: impl FnOnce() -> bool,
    ) -> Option<bool> {
        let (part, cells) = self.in_part()?;
        let (action, now) = (spend.action, spend.now.mono_ns);
        let mut locks = self.lock();
        if PACED && !locks.in_time(action, now) {
            return Some(false);
        }
        let shares = cells
            .filter(|(counted, _)| counted.counts(action))
            .map(|(counted, advances)| {
                let share = counted.share(data.amount, i128::from(data.units));
                (counted.cell.as_ref(), advances, share)
            })
            .filter(|(.., share)| *share != 0);
        let fits = |(cell, advances, share): (&Cell, Option<&Advances>, i128)| match advances {
            Some(advances) => advances.cover(&part, data.at, share),
            None => cell.quiet(&locks.agent, data.at, share),
        };
        if !shares.clone().all(fits) || !last() {
            return Some(false);
        }
        for (cell, advances, share) in shares {
            match advances {
                Some(advances) => advances.take(&part, share),
                None => cell.take(&locks.agent, share),
            }
        }
        if PACED {
            locks.count_call(action, now);
        }
        Some(true)
    }

    /// Gives back to every cell, or to none: false where a window is another by now.
    #[inline]
    pub(super) fn take_back_in_part(
        &self,
        counts: impl Fn(&Counted) -> bool,
        data: &HoldData,
    ) -> bool {
        let Some((part, cells)) = self.in_part() else {
            return false;
        };
        let locks = self.lock();
        let shares = cells
            .filter(|(counted, _)| counts(counted))
            .map(|(counted, advances)| {
                let share = counted.share(data.amount, i128::from(data.units));
                (counted.cell.as_ref(), advances, share)
            });
        let mut aside = shares
            .clone()
            .filter_map(|(_, advances, share)| Some((advances?, share)));
        if !aside.all(|(advances, share)| advances.have_room(&part, data.at, share)) {
            return false;
        }
        for (cell, advances, share) in shares {
            match advances {
                Some(advances) => advances.give_back(&part, share),
                None => cell.give_back(&locks.agent, data.at, share),
            }
        }
        true
    }

    /// After a call that needed the whole tree: gives a tree parts that so many waited for,
    /// and sets something aside for the part that this thread takes.
    #[inline]
    pub(super) fn share_out(&self, whole: Option<Whole<'_>>, at: i64) {
        if let (Some(tree), Some(whole)) = (&self.above.tree, whole)
            && tree.is_busy()
        {
            self.share_out_busy(tree, &whole, at);
        }
    }

    #[cold]
    fn share_out_busy(&self, tree: &Arc<Tree>, whole: &Whole<'_>, at: i64) {
        let parts = whole.parts();
        if whole.len() == 0 {
            // Whoever locks the tree next locks them too.
            return;
        }
        let cells = &self.above.cells;
        let split = self.above.split.get_or_init(|| Split {
            parts: parts.clone(),
            advances: cells
                .iter()
                .map(|counted| {
                    counted
                        .cell
                        .is_of(tree)
                        .then(|| counted.cell.advances(whole))
                })
                .collect(),
        });
        for (counted, advances) in cells.iter().zip(&split.advances) {
            if let Some(advance) = advances.as_ref().and_then(|them| them.usual(whole)) {
                counted.cell.set_aside(whole, advance, at);
            }
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod against_whole;
