//! What the records of prekeys say about each other: that none was given out twice.

use std::collections::{HashMap, HashSet};

use creto_nhi::{PrekeyId, PrekeyKind};
use creto_types::PrincipalName;

use super::{Fault, absent};
use crate::records::{PrekeyTaken, PrekeysPublished};

#[derive(Default)]
pub(super) struct PrekeyRecords {
    /// Those that were ever published.
    published: HashSet<PrekeyId>,
    /// Of each agent, those that serve once and were not taken.
    waiting: HashMap<PrincipalName, HashSet<PrekeyId>>,
    /// Of each agent, the one that serves when none of those is left.
    last_resort: HashMap<PrincipalName, PrekeyId>,
}

impl PrekeyRecords {
    pub(super) fn published(
        &mut self,
        actor: &PrincipalName,
        record: PrekeysPublished,
    ) -> Result<(), String> {
        let owner = record.owner;
        if *actor != owner {
            return Err(format!("publishes prekeys of {owner}, by {actor}"));
        }
        for id in record.one_time.iter().chain(&record.last_resort) {
            if !self.published.insert(id.clone()) {
                return Err(format!("publishes {id}, which was published before"));
            }
        }
        if let Some(id) = record.last_resort {
            self.last_resort.insert(owner.clone(), id);
        }
        self.waiting
            .entry(owner)
            .or_default()
            .extend(record.one_time);
        Ok(())
    }

    pub(super) fn taken(&mut self, record: &PrekeyTaken) -> Result<(), Fault> {
        let (owner, id) = (&record.owner, &record.id);
        let there = match record.kind {
            PrekeyKind::OneTime => {
                let waiting = self.waiting.get_mut(owner);
                waiting.is_some_and(|waiting| waiting.remove(id))
            }
            PrekeyKind::LastResort => self.last_resort.get(owner) == Some(id),
        };
        if there {
            return Ok(());
        }
        let message = format!("takes {id} of {owner}, which was never published or taken before");
        // One whose publication was read is not waiting for another record to say so.
        if self.published.contains(id) {
            return Err(Fault::Wrong(message));
        }
        Err(absent(message))
    }
}
