//! What the records of prekeys say about each other: that none was given out twice.

use std::collections::{HashMap, HashSet};

use creto_nhi::{PrekeyId, PrekeyKind};
use creto_types::PrincipalName;

use super::keys::KeyRecords;
use crate::records::{PrekeyTaken, PrekeysPublished};

#[derive(Default)]
pub(super) struct PrekeyRecords {
    /// Those that were ever published, and the key that signed each where that is told.
    published: HashMap<PrekeyId, Option<String>>,
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
        keys: &KeyRecords,
    ) -> Result<(), String> {
        let owner = record.owner;
        if *actor != owner {
            return Err(format!("publishes prekeys of {owner}, by {actor}"));
        }
        if let Some(kid) = &record.kid {
            keys.in_force(&owner, kid)?;
        }
        for id in record.one_time.iter().chain(&record.last_resort) {
            let kid = record.kid.clone();
            if self.published.insert(id.clone(), kid).is_some() {
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

    pub(super) fn taken(&mut self, record: &PrekeyTaken, keys: &KeyRecords) -> Result<(), String> {
        let (owner, id) = (&record.owner, &record.id);
        if let Some(Some(kid)) = self.published.get(id) {
            keys.in_force(owner, kid)?;
        }
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
        Err(format!(
            "takes {id} of {owner}, which was never published or taken before"
        ))
    }
}
