//! The last few actions that were closed.

use std::collections::{HashSet, VecDeque};

use creto_types::ActionId;

/// Closed actions an organization remembers, to tell a second settlement from
/// one of an action that never was.
const REMEMBERED: usize = 16_384;

#[derive(Debug, Default)]
pub(crate) struct Recent {
    order: VecDeque<ActionId>,
    known: HashSet<ActionId>,
}

impl Recent {
    pub(crate) fn add(&mut self, action: ActionId) {
        if self.known.insert(action) {
            self.order.push_back(action);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(crate) fn contains(&self, action: ActionId) -> bool {
        self.known.contains(&action)
    }
}
