//! The rates of an organization, found by whose they are.

use std::collections::{BTreeMap, HashMap};

use creto_types::PrincipalName;

use super::model::{RateId, RateRule, RateScope};
use super::pacer::Rates;
use crate::rate::RateLimit;

/// One rate for each event type, and the one of all calls.
type ByEvent = BTreeMap<Option<String>, RateId>;

/// Every rate of one organization.
#[derive(Debug)]
pub(crate) struct RateBook {
    /// Of every principal without a rate of its own.
    configured: RateLimit,
    rules: BTreeMap<RateId, RateRule>,
    whole: ByEvent,
    every_agent: ByEvent,
    agents: HashMap<PrincipalName, ByEvent>,
}

impl RateBook {
    pub(crate) fn new(configured: RateLimit) -> Self {
        Self {
            configured,
            rules: BTreeMap::new(),
            whole: ByEvent::new(),
            every_agent: ByEvent::new(),
            agents: HashMap::new(),
        }
    }

    /// In the order of their ids, after the given one.
    pub(crate) fn after(&self, after: Option<RateId>) -> impl Iterator<Item = &RateRule> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.rules
            .range((from, std::ops::Bound::Unbounded))
            .map(|(_, rule)| rule)
    }

    pub(crate) fn get(&self, id: RateId) -> Option<&RateRule> {
        self.rules.get(&id)
    }

    /// The rate in force that this one would replace.
    pub(crate) fn replaced_by(&self, rule: &RateRule) -> Option<&RateRule> {
        let beside = match &rule.scope {
            RateScope::Organization => &self.whole,
            RateScope::EveryAgent => &self.every_agent,
            RateScope::Agent(name) => self.agents.get(name)?,
        };
        self.rules.get(beside.get(&rule.event)?)
    }

    /// How many rates there are without this one.
    pub(crate) fn beside(&self, rule: &RateRule) -> usize {
        let known = usize::from(self.rules.contains_key(&rule.id));
        self.rules.len().saturating_sub(known)
    }

    pub(super) fn set(&mut self, rule: RateRule) {
        self.remove(rule.id);
        let beside = match &rule.scope {
            RateScope::Organization => &mut self.whole,
            RateScope::EveryAgent => &mut self.every_agent,
            RateScope::Agent(name) => self.agents.entry(name.clone()).or_default(),
        };
        beside.insert(rule.event.clone(), rule.id);
        self.rules.insert(rule.id, rule);
    }

    pub(super) fn remove(&mut self, id: RateId) {
        let Some(rule) = self.rules.remove(&id) else {
            return;
        };
        match &rule.scope {
            RateScope::Organization => forget(&mut self.whole, &rule),
            RateScope::EveryAgent => forget(&mut self.every_agent, &rule),
            RateScope::Agent(name) => {
                if let Some(own) = self.agents.get_mut(name) {
                    forget(own, &rule);
                    if own.is_empty() {
                        self.agents.remove(name);
                    }
                }
            }
        }
    }

    /// The rate of all calls of a principal.
    pub(crate) fn of_all_calls(&self, agent: &PrincipalName) -> RateLimit {
        let own = self.agents.get(agent).and_then(|own| own.get(&None));
        own.or_else(|| self.every_agent.get(&None))
            .and_then(|id| self.rules.get(id))
            .map_or(self.configured, |rule| rule.rate)
    }

    /// The rates by event type of a principal. One of its own name takes the place of
    /// the one of every agent.
    pub(super) fn of_agent(&self, agent: &PrincipalName) -> Rates {
        let mut found = BTreeMap::from([(None, self.configured)]);
        found.extend(self.named(&self.every_agent));
        if let Some(own) = self.agents.get(agent) {
            found.extend(self.named(own));
        }
        found.into_iter().collect()
    }

    /// The rates by event type of the organization.
    pub(super) fn of_organization(&self) -> Rates {
        self.named(&self.whole).collect()
    }

    fn named(&self, of: &ByEvent) -> impl Iterator<Item = (Option<String>, RateLimit)> {
        of.iter()
            .filter_map(|(event, id)| Some((event.clone(), self.rules.get(id)?.rate)))
    }
}

/// Another rate may stand in its place already.
fn forget(beside: &mut ByEvent, rule: &RateRule) {
    if beside.get(&rule.event) == Some(&rule.id) {
        beside.remove(&rule.event);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use creto_types::Timestamp;

    use super::*;

    fn rate(per_second: u32) -> RateLimit {
        RateLimit::per_second(NonZeroU32::new(per_second).unwrap(), NonZeroU32::MIN)
    }

    fn rule(number: u32, scope: RateScope, event: Option<&str>) -> RateRule {
        RateRule {
            id: id(number),
            org: format!("org_{:032x}", 1).parse().unwrap(),
            scope,
            event: event.map(str::to_owned),
            rate: rate(number),
            set_at: Timestamp::UNIX_EPOCH,
            set_by: "owner".parse().unwrap(),
        }
    }

    fn id(number: u32) -> RateId {
        format!("rat_{number:032x}").parse().unwrap()
    }

    #[test]
    fn the_nearest_rate_counts_and_the_next_one_once_it_ends() {
        let bot: PrincipalName = "bot".parse().unwrap();
        let own = || RateScope::Agent("bot".parse().unwrap());
        let mut book = RateBook::new(rate(1));
        let all = |book: &RateBook| book.of_all_calls(&bot).calls().get();
        assert_eq!(all(&book), 1);
        book.set(rule(2, RateScope::EveryAgent, None));
        book.set(rule(3, own(), Some("read")));
        assert_eq!(all(&book), 2);
        book.set(rule(4, own(), None));
        assert_eq!(all(&book), 4);
        let found = |book: &RateBook| {
            let rates = book.of_agent(&bot).into_iter();
            rates
                .map(|(event, rate)| (event, rate.calls().get()))
                .collect::<Vec<_>>()
        };
        let read = || (Some("read".to_owned()), 3);
        assert_eq!(found(&book), [(None, 4), read()]);
        assert_eq!(book.replaced_by(&rule(9, own(), None)), book.get(id(4)));
        book.remove(id(4));
        assert_eq!(found(&book), [(None, 2), read()]);
        book.remove(id(2));
        book.remove(id(3));
        assert_eq!(found(&book), [(None, 1)]);
        assert_eq!(book.of_organization(), []);
        assert!(book.agents.is_empty() && book.after(None).next().is_none());
    }
}
