//! What chains are bound to, found by their links.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use creto_nhi::LinkId;

use super::account::ChainAccount;
use super::cell::Cell;

/// How many there are before those that nobody holds any more are looked for.
const FEW: usize = 1_024;

/// What is found as long as somebody holds it.
#[derive(Debug)]
pub(super) struct HeldBy<K, V> {
    known: HashMap<K, Weak<V>>,
    prune_at: usize,
}

impl<K: Eq + Hash, V> HeldBy<K, V> {
    pub(super) fn new() -> Self {
        Self {
            known: HashMap::new(),
            prune_at: FEW,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.known.get(key).and_then(Weak::upgrade)
    }

    pub(super) fn insert(&mut self, key: K, value: &Arc<V>) {
        if self.known.len() >= self.prune_at {
            self.known.retain(|_, known| known.strong_count() > 0);
            self.prune_at = FEW.max(self.known.len().saturating_mul(2));
        }
        self.known.insert(key, Arc::downgrade(value));
    }
}

/// A link that was met since the server started.
#[derive(Debug)]
struct Met {
    /// Of its budget, if it has one.
    cell: Option<Arc<Cell>>,
    /// Of the chain that ends in it, as long as somebody holds that.
    account: Weak<ChainAccount>,
}

/// Every link that was met.
#[derive(Debug, Default)]
pub(super) struct Links {
    met: HashMap<LinkId, Met>,
    /// How many accounts were made since those that nobody holds were looked for.
    made: usize,
}

impl Links {
    /// The cell of a link's budget. The outer `None` is for a link that was not met.
    pub(super) fn budget(&self, link: LinkId) -> Option<Option<&Arc<Cell>>> {
        Some(self.met.get(&link)?.cell.as_ref())
    }

    pub(super) fn is_met(&self, link: LinkId) -> bool {
        self.met.contains_key(&link)
    }

    pub(super) fn meet(&mut self, link: LinkId, cell: Option<Arc<Cell>>) {
        let account = Weak::new();
        self.met.insert(link, Met { cell, account });
    }

    pub(super) fn account(&self, link: LinkId) -> Option<Arc<ChainAccount>> {
        self.met.get(&link)?.account.upgrade()
    }

    /// The account of the chain that ends in a link that was met.
    pub(super) fn bind(&mut self, link: LinkId, account: &Arc<ChainAccount>) {
        // What nobody holds keeps its memory until then: at most that of every other link.
        if self.made >= FEW.max(self.met.len() / 2) {
            let accounts = self.met.values_mut().map(|met| &mut met.account);
            let unheld = accounts.filter(|account| account.strong_count() == 0);
            unheld.for_each(|account| *account = Weak::new());
            self.made = 0;
        }
        if let Some(met) = self.met.get_mut(&link) {
            met.account = Arc::downgrade(account);
            self.made += 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::num::NonZeroU32;

    use creto_nhi::AgentIdentity;
    use creto_nhi::test_util::{agent, hop, rights};
    use creto_types::{Currency, OrgId};

    use super::*;
    use crate::limits::Org;
    use crate::prices::{PriceBook, PriceTable};
    use crate::rate::RateLimit;

    fn identity(number: usize) -> Arc<AgentIdentity> {
        let org: OrgId = format!("org_{:032x}", 1).parse().unwrap();
        let link = format!("lnk_{number:032x}").parse().unwrap();
        let (all, name) = (rights(&[("*", "*")]), format!("agent-{number}"));
        agent(vec![hop(org, link, None, "owner", &name, all, None)])
    }

    #[test]
    fn what_is_held_is_found_and_the_rest_is_not_kept() {
        let mut known = HeldBy::new();
        let held = Arc::new(0);
        known.insert(0, &held);
        for number in 1..4 * FEW {
            known.insert(number, &Arc::new(number));
            assert!(known.get(&number).is_none());
        }
        assert!(Arc::ptr_eq(&known.get(&0).unwrap(), &held));
        assert!(known.known.len() <= FEW, "{}", known.known.len());
    }

    /// One account for a chain as long as somebody holds it; and what nobody holds any
    /// more does not keep its memory for good.
    #[test]
    fn an_account_is_found_as_long_as_it_is_held() {
        let rate = RateLimit::per_second(NonZeroU32::MAX, NonZeroU32::MAX);
        let first = identity(0);
        let org = Arc::new(Org::new(first.org, rate));
        let prices = Arc::new(PriceTable::new(PriceBook::new(Currency::USD, []).unwrap()));
        let account = |identity: &Arc<AgentIdentity>| org.account(identity, &prices, 0);
        let held = account(&first);
        assert!(Arc::ptr_eq(&held, &account(&first)));
        let dropped = Arc::downgrade(&account(&identity(1)));
        assert_eq!(dropped.strong_count(), 0);
        let kept = || {
            let registry = org.registry();
            let weak = registry.links.met.values().map(|met| &met.account);
            weak.filter(|account| !account.ptr_eq(&Weak::new())).count()
        };
        assert_eq!(kept(), 2);
        let fresh = (2..2 + 3 * FEW).map(identity);
        fresh.for_each(|identity| drop(account(&identity)));
        let links = org.registry().links.met.len();
        assert!(kept() <= links / 2 + 1, "{} of {links}", kept());
        assert!(Arc::ptr_eq(&held, &account(&first)));
    }
}
