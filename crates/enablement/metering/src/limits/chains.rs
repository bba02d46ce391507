//! The plans and accounts of chains: made once, and anew after limits or rates changed.

use std::sync::{Arc, OnceLock};

use creto_authz::Account as _;
use creto_nhi::{AgentIdentity, DelegationLink};

use super::account::ChainAccount;
use super::cell::Cell;
use super::plan::{Above, Cells, Counted, Foreign, Plan, is_counted};
use super::registry::{Org, Registry};
use super::tree::Tree;
use crate::prices::PriceTable;

impl Org {
    /// The plan of a chain as things are now.
    pub(crate) fn resolve(
        self: &Arc<Self>,
        identity: &Arc<AgentIdentity>,
        prices: &Arc<PriceTable>,
        now: i64,
    ) -> Plan {
        let mut registry = self.registry();
        self.plan(&mut registry, identity, prices, now)
    }

    pub(crate) fn plan(
        self: &Arc<Self>,
        registry: &mut Registry,
        identity: &Arc<AgentIdentity>,
        prices: &Arc<PriceTable>,
        now: i64,
    ) -> Plan {
        let mut above = self.above(registry, identity, prices, now);
        let mut own = Cells::new();
        if let Some(hop) = identity.link() {
            let tree = above.tree.as_ref();
            let foreign = registry.add_link(&mut own, &hop.link, tree, prices, now);
            if foreign.is_some() {
                // It is this chain's alone.
                let of_others = Above::clone(&above);
                above = Arc::new(Above {
                    foreign,
                    ..of_others
                });
            }
        }
        // Whom its last link is given to, under whose lock is what counts below that link.
        let link = identity.link();
        let name = link.map_or(&identity.name, |hop| &hop.link.delegatee);
        own.extend(counted(registry.subjects.of_agent(name)));
        let group = registry.agent(name);
        let plan = Plan::new(Arc::clone(identity), group, own, above);
        let mut found = Vec::new();
        for counted in plan.cells() {
            let held = counted.cell.lock();
            if counted.cell.limit().is_none() {
                counted.cell.present_crossings(&held, self.id, &mut found);
            }
        }
        self.crossings.lock().append(&mut found);
        plan
    }

    /// What counts above the last link of a chain, as things are now.
    fn above(
        self: &Arc<Self>,
        registry: &mut Registry,
        identity: &AgentIdentity,
        prices: &Arc<PriceTable>,
        now: i64,
    ) -> Arc<Above> {
        let version = self.version().now();
        let links = match &identity.hops[..] {
            [links @ .., _last] => links,
            [] => &[],
        };
        // A link stands for everyone above it.
        let key = links.last().map(|hop| hop.link.id);
        let known = key.and_then(|key| registry.above.get(&key));
        if let Some(known) = known.filter(|known| known.version == version) {
            return known;
        }
        let tree = identity
            .hops
            .first()
            .map(|root| registry.tree(root.link.id));
        let (mut cells, mut foreign) = (Cells::new(), None);
        for link in links.iter().rev().map(|hop| &hop.link) {
            let other = registry.add_link(&mut cells, link, tree.as_ref(), prices, now);
            foreign = foreign.or(other);
        }
        cells.extend(counted(&registry.subjects.whole));
        let limited = !registry.subjects.whole.is_empty();
        let whole = limited || !registry.whole.lock().is_empty();
        let above = Arc::new(Above {
            version,
            org: Arc::clone(self),
            prices: Arc::clone(prices),
            tree,
            whole: whole.then(|| Arc::clone(&registry.whole)),
            numbered: cells.iter().all(Counted::is_numbered),
            cells,
            split: OnceLock::new(),
            foreign,
        });
        if let Some(key) = key {
            registry.above.insert(key, &above);
        }
        above
    }

    /// The account of a chain, with the plan in force.
    pub(crate) fn account(
        self: &Arc<Self>,
        identity: &Arc<AgentIdentity>,
        prices: &Arc<PriceTable>,
        now: i64,
    ) -> Arc<ChainAccount> {
        let link = identity.link().map(|hop| hop.link.id);
        let mut registry = self.registry();
        let known = match link {
            Some(link) => registry.links.account(link),
            None => registry.people.get(&identity.name),
        };
        if let Some(account) = known.filter(|account| account.is_current()) {
            return account;
        }
        let plan = self.plan(&mut registry, identity, prices, now);
        let account = Arc::new(ChainAccount::new(plan));
        match link {
            Some(link) => registry.links.bind(link, &account),
            None => registry.people.insert(identity.name.clone(), &account),
        }
        account
    }
}

impl Registry {
    /// Adds what counts below a link: its budget and the limits on it. Tells when prices
    /// cannot count in its budget.
    fn add_link(
        &mut self,
        cells: &mut Cells,
        link: &Arc<DelegationLink>,
        tree: Option<&Arc<Tree>>,
        prices: &PriceTable,
        now: i64,
    ) -> Option<Foreign> {
        let mut foreign = None;
        if let Some(cell) = tree.and_then(|tree| self.budget(link, tree, now)) {
            if is_counted(cell.rule().measure, prices) {
                cells.push(Counted::new(cell));
            } else {
                foreign = Some(no_such_currency(link, prices));
            }
        }
        cells.extend(counted(self.subjects.of_link(link.id)));
        foreign
    }
}

fn counted(cells: &[Arc<Cell>]) -> impl Iterator<Item = Counted> {
    cells.iter().map(|cell| Counted::new(Arc::clone(cell)))
}

fn no_such_currency(link: &DelegationLink, prices: &PriceTable) -> Foreign {
    let budget = link.budget.map(|budget| budget.limit.to_string());
    let currency = prices.currency();
    Foreign(format!(
        "the budget of delegation {} is {}, prices are in {currency}; ask {} for a delegation \
         with a budget in {currency}",
        link.id,
        budget.unwrap_or_default(),
        link.delegator,
    ))
}
