//! What the records of prekeys say about each other: that none was given out twice, and
//! that whoever has some has one of last resort and no more that wait than may.

use std::collections::{HashMap, HashSet};

use creto_nhi::{MAX_ONE_TIME_PREKEYS, PrekeyId, PrekeyKind};
use creto_types::PrincipalName;

use super::faults::{Fault, PREKEYS, PREKEYS_GONE, absent};
use super::keys::KeyRecords;
use crate::records::{PrekeyTaken, PrekeysPublished};

#[derive(Default)]
pub(super) struct PrekeyRecords {
    /// Those that were ever published, and the key that signed each.
    published: HashMap<PrekeyId, String>,
    /// Of each agent, those that serve once and were not taken or withdrawn.
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
    ) -> Result<(), Fault> {
        let owner = record.owner;
        if *actor != owner {
            return Err(Fault::Wrong(format!(
                "publishes prekeys of {owner}, by {actor}"
            )));
        }
        if record.one_time.is_empty() && record.last_resort.is_none() {
            return Err(Fault::Wrong("publishes no prekey".to_owned()));
        }
        if record.last_resort.is_none() && !self.last_resort.contains_key(&owner) {
            return Err(absent(
                PREKEYS,
                format!("publishes the first of {owner}, none of last resort"),
            ));
        }
        let waiting = self.waiting.entry(owner.clone()).or_default();
        if let Some(id) = record.withdrawn.iter().find(|id| !waiting.remove(*id)) {
            let message = format!("withdraws {id} of {owner}, which did not wait");
            return Err(match self.published.contains_key(id) {
                true => Fault::Wrong(message),
                false => absent(PREKEYS, message),
            });
        }
        // Records of before name no key: there was one alone then.
        let kid = record.kid.or_else(|| keys.only(&owner).map(str::to_owned));
        let kid = kid
            .ok_or_else(|| format!("publishes prekeys of {owner}, and not by which of its keys"))?;
        keys.in_force(&owner, &kid)?;
        for id in record.one_time.iter().chain(&record.last_resort) {
            if self.published.insert(id.clone(), kid.clone()).is_some() {
                return Err(Fault::Wrong(format!(
                    "publishes {id}, which was published before"
                )));
            }
        }
        waiting.extend(record.one_time);
        if let Some(id) = record.last_resort {
            self.last_resort.insert(owner.clone(), id);
        }
        // Last, for who took them may not have been read. Those that a revoked key signed are given to nobody, and take no place.
        let placed = waiting.iter().filter(|id| {
            let kid = self.published.get(*id);
            kid.is_some_and(|kid| keys.in_force(&owner, kid).is_ok())
        });
        let placed = placed.count();
        if placed > MAX_ONE_TIME_PREKEYS {
            return Err(absent(
                PREKEYS_GONE,
                format!("leaves {placed} of {owner} to wait"),
            ));
        }
        Ok(())
    }

    pub(super) fn taken(
        &mut self,
        actor: &PrincipalName,
        record: &PrekeyTaken,
        keys: &KeyRecords,
    ) -> Result<(), Fault> {
        let (owner, id) = (&record.owner, &record.id);
        if actor == owner {
            return Err(Fault::Wrong(format!(
                "takes a prekey of {owner}, by itself"
            )));
        }
        if let Some(kid) = self.published.get(id) {
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
        let message = format!("takes {id} of {owner}, which was never published or taken before");
        // One whose publication was read is not waiting for another record to say so.
        if self.published.contains_key(id) {
            return Err(Fault::Wrong(message));
        }
        Err(absent(PREKEYS, message))
    }
}
