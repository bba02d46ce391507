//! Every counter of one organization, and where to find it.
//!
//! Decisions do not come here: they have their plan. The registry makes plans, and
//! settles, gives back and sets limits anew, all under its own lock, which is taken
//! before any group's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use creto_authz::LimitScope;
use creto_nhi::{DelegationLink, LinkId};
use creto_types::{ActionId, OrgId, PrincipalName};
use parking_lot::Mutex;

use super::account::ChainAccount;
use super::cell::{Answer, Cell, Group, Held};
use super::found::{HeldBy, Links};
use super::history::{History, Used};
use super::model::{Crossing, Limit, LimitId, OnExceed, RateId, RateRule, Scope};
use super::open::{Open, Reservations, Use};
use super::plan::{Above, Version};
use super::rates::RateBook;
use super::rule::{BudgetRules, Measure, Rule, SetLimit, Subject};
use super::subjects::Subjects;
use super::tree::Tree;
use super::window::Span;
use crate::rate::{Pace, RateLimit};
use crate::recent::Recent;

/// One organization's counters. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Org {
    pub(crate) id: OrgId,
    version: Version,
    /// Held shared from the beginning of a change of the ledger until memory
    /// followed it, and alone while limits change: so what the ledger and the open
    /// reservations say together is exact.
    pub(crate) gate: Arc<tokio::sync::RwLock<()>>,
    registry: Mutex<Registry>,
    /// What is to be notified.
    pub(crate) crossings: Mutex<Vec<Crossing>>,
    /// The pace of each principal's questions, and the rate it goes by.
    pub(crate) questions: Mutex<HashMap<PrincipalName, (Pace, RateLimit)>>,
    /// The pace of each agent's changes of limits.
    pub(crate) changes: Mutex<HashMap<PrincipalName, Pace>>,
}

#[derive(Debug)]
pub(crate) struct Registry {
    trees: HashMap<LinkId, Arc<Tree>>,
    agents: HashMap<PrincipalName, Arc<Group>>,
    pub(super) whole: Arc<Group>,
    pub(super) links: Links,
    budget_rules: BudgetRules,
    /// Of links that were not.
    history: HashMap<LinkId, History>,
    limits: BTreeMap<LimitId, Arc<Cell>>,
    /// The same limits, by what they are limits of.
    pub(super) subjects: Subjects,
    rates: RateBook,
    pub(crate) held: Reservations,
    pub(crate) closed: Recent,
    /// The accounts of those who act without a link.
    pub(super) people: HeldBy<PrincipalName, ChainAccount>,
    /// What chains share that go on below a link.
    pub(super) above: HeldBy<LinkId, Above>,
}

impl Org {
    pub(crate) fn new(id: OrgId, rate: RateLimit) -> Self {
        Self {
            id,
            version: Version::default(),
            gate: Arc::default(),
            registry: Mutex::new(Registry {
                trees: HashMap::new(),
                agents: HashMap::new(),
                whole: Arc::default(),
                links: Links::default(),
                budget_rules: BudgetRules::default(),
                history: HashMap::new(),
                limits: BTreeMap::new(),
                subjects: Subjects::default(),
                rates: RateBook::new(rate),
                held: Reservations::default(),
                closed: Recent::default(),
                people: HeldBy::new(),
                above: HeldBy::new(),
            }),
            crossings: Mutex::default(),
            questions: Mutex::default(),
            changes: Mutex::default(),
        }
    }

    /// The version of limits and rates in force.
    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    pub(crate) fn registry(&self) -> parking_lot::MutexGuard<'_, Registry> {
        self.registry.lock()
    }

    /// Notes the thresholds that were reached before the server started.
    pub(crate) fn note_all(&self) {
        let mut found = Vec::new();
        let registry = self.registry.lock();
        for cell in registry.limits.values() {
            let held = cell.lock();
            cell.present_crossings(&held, self.id, &mut found);
        }
        self.crossings.lock().append(&mut found);
    }

    /// Notes the thresholds that this use reached.
    pub(crate) fn note(&self, registry: &Registry, by: &Use<'_>) {
        let mut found = Vec::new();
        registry.locked(by, |held| {
            for cell in registry.counting(by) {
                cell.crossings(held, by.at, self.id, Some(by.agent), &mut found);
            }
        });
        if !found.is_empty() {
            self.crossings.lock().append(&mut found);
        }
    }
}

impl Registry {
    pub(crate) fn tree(&mut self, root: LinkId) -> Arc<Tree> {
        Arc::clone(self.trees.entry(root).or_default())
    }

    fn group(&mut self, agent: &PrincipalName) -> Arc<Group> {
        Arc::clone(self.agents.entry(agent.clone()).or_default())
    }

    /// The group of a principal that calls, with its rates.
    pub(super) fn agent(&mut self, name: &PrincipalName) -> Arc<Group> {
        let group = self.group(name);
        let mut held = group.lock();
        if held.is_empty() {
            held.renew(self.rates.of_agent(name), 0);
        }
        drop(held);
        group
    }

    /// What a limit's cell is locked with: a tree or a group.
    fn home_of(&mut self, scope: &Scope) -> (Option<Arc<Tree>>, Option<Arc<Group>>) {
        match scope {
            Scope::Organization => (None, Some(Arc::clone(&self.whole))),
            Scope::Agent(name) => (None, Some(self.group(name))),
            Scope::Delegation { root, .. } => (Some(self.tree(*root)), None),
        }
    }

    /// The cell of the link's own budget.
    pub(super) fn budget(
        &mut self,
        link: &Arc<DelegationLink>,
        tree: &Arc<Tree>,
        now: i64,
    ) -> Option<Arc<Cell>> {
        if let Some(known) = self.links.budget(link.id) {
            return known.cloned();
        }
        let cell = self.budget_rules.of(link).and_then(|rule| {
            let cell = self.fresh_budget(link, rule, tree, now)?;
            Some(Arc::new(cell))
        });
        self.history.remove(&link.id);
        self.links.meet(link.id, cell.clone());
        cell
    }

    /// A cell for the link's budget, with what the ledger said about it.
    fn fresh_budget(
        &self,
        link: &Arc<DelegationLink>,
        rule: Arc<Rule>,
        tree: &Arc<Tree>,
        now: i64,
    ) -> Option<Cell> {
        let period = link.budget.as_ref()?.period;
        let span = rule.span(now);
        let is_money = rule.is_money();
        let link_id = link.id;
        let subject = Subject::Budget {
            rule,
            link: Arc::clone(link),
        };
        let Some(history) = self.history.get(&link_id) else {
            return Some(Cell::new(subject, Some(Arc::clone(tree)), span, 0));
        };
        let (span, used) = history.at(period, now);
        let used = if is_money { used.cost } else { used.units };
        let cell = Cell::new(subject, Some(Arc::clone(tree)), span, used);
        let held = tree.lock();
        for open in self.held.values() {
            let by = Use::of(&open.reservation);
            if by.hops.contains(&link_id) {
                let (share, kept) = (open.share(cell.rule()), open.kept_share(cell.rule()));
                cell.count(&held, by.at, share, kept, 0);
            }
        }
        drop(held);
        Some(cell)
    }

    /// What the link's budget holds, without making it known.
    pub(crate) fn budget_count(
        &self,
        link: &Arc<DelegationLink>,
        now: i64,
    ) -> Option<(Measure, super::cell::Count)> {
        if let Some(known) = self.links.budget(link.id) {
            let cell = known?;
            let held = cell.lock();
            return Some((cell.rule().measure, cell.read(&held, now)));
        }
        let rule = Arc::new(Rule::budget(link.budget.as_ref()?)?);
        let cell = self.fresh_budget(link, rule, &Arc::default(), now)?;
        let held = cell.lock();
        Some((cell.rule().measure, cell.read(&held, now)))
    }

    /// Whether every link of a chain was met, so that its budgets are known.
    pub(crate) fn knows(&self, hops: &[LinkId]) -> bool {
        hops.iter().all(|link| self.links.is_met(*link))
    }

    /// The cells that count what was used.
    fn counting<'a>(&'a self, by: &'a Use<'_>) -> impl Iterator<Item = &'a Arc<Cell>> {
        let budgets = by.hops.iter().filter_map(|link| self.links.budget(*link)?);
        let links = by.hops.iter().flat_map(|link| self.subjects.of_link(*link));
        let limits = links
            .chain(self.subjects.of_agent(by.agent))
            .chain(&self.subjects.whole)
            .filter(|cell| {
                let event = cell.rule().event.as_ref();
                event.is_none_or(|event| event.name() == by.action)
            });
        budgets.chain(limits)
    }

    /// Runs this under the locks of everything a use touches.
    fn locked<T>(&self, by: &Use<'_>, run: impl FnOnce(&Held<'_>) -> T) -> T {
        let tree = by.hops.first().and_then(|root| self.trees.get(root));
        let _tree = tree.map(|tree| tree.lock());
        let agent = self.agents.get(by.agent);
        let _agent = agent.map(|group| group.lock());
        let whole = self.whole.lock();
        run(&whole)
    }

    /// Counts an event of the ledger, or an open reservation, at start.
    pub(crate) fn recall(&mut self, by: &Use<'_>, cost: i128, units: u64, settled: bool) {
        self.locked(by, |held| {
            for cell in self.counting(by) {
                let share = cell.rule().share(cost, units);
                cell.count(held, by.at, share, share, if settled { share } else { 0 });
            }
        });
        for link in by.hops {
            let history = self.history.entry(*link).or_default();
            if settled {
                history.add(by.at, cost, i128::from(units));
            }
        }
    }

    /// The reservation is durable, or possibly so.
    pub(crate) fn keep(&mut self, action: ActionId) {
        if let Some(open) = self.held.get_mut(action) {
            open.kept = true;
        }
        if let Some(open) = self.held.get(action) {
            self.kept(&Use::of(&open.reservation), open.cost, open.units);
        }
    }

    /// The reservation may be closed in the ledger, or may never have come there.
    pub(crate) fn doubt(&mut self, action: ActionId) {
        if let Some(open) = self.held.get_mut(action) {
            open.doubtful = true;
        }
    }

    /// What [`Registry::surplus`] took is the reservation's: durable, or possibly so.
    /// False when there is no such reservation any more.
    pub(crate) fn extend(&mut self, action: ActionId, cost: i128, units: u64) -> bool {
        let Some(open) = self.held.get_mut(action) else {
            return false;
        };
        open.cost = open.cost.saturating_add(cost);
        open.units = open.units.saturating_add(units);
        if let Some(open) = self.held.get(action) {
            self.kept(&Use::of(&open.reservation), cost, units);
        }
        true
    }

    fn kept(&self, by: &Use<'_>, cost: i128, units: u64) {
        self.locked(by, |held| {
            for cell in self.counting(by) {
                cell.keep(held, by.at, cell.rule().share(cost, units));
            }
        });
    }

    /// Takes the reservation out, gives back what it holds, and counts what was
    /// really used of it, in one step.
    pub(crate) fn close(&mut self, action: ActionId, used: Option<(i128, u64)>) -> Option<Open> {
        let open = self.held.remove(action)?;
        let by = Use::of(&open.reservation);
        self.locked(&by, |held| {
            for cell in self.counting(&by) {
                let rule = cell.rule();
                let used = used.map_or(0, |(cost, units)| rule.share(cost, units));
                cell.close(held, by.at, open.share(rule), open.kept_share(rule), used);
            }
        });
        if let Some((cost, units)) = used {
            for link in by.hops {
                if !self.links.is_met(*link) {
                    let history = self.history.entry(*link).or_default();
                    history.add(by.at, cost, i128::from(units));
                }
            }
        }
        Some(open)
    }

    /// Whether more than was reserved fits now: whether it is overage, or the limit that
    /// does not cover it. When it does and `take` says so to that answer, it is counted
    /// as reserved, in the same step.
    ///
    /// What room a window had that is over is not known: a limit that blocks does not
    /// cover the rest then, one that allows it counts it as overage. That depends on the
    /// time alone, and not on who called meanwhile.
    pub(crate) fn surplus(
        &self,
        by: &Use<'_>,
        cost: i128,
        units: u64,
        now: i64,
        take: impl FnOnce(bool) -> bool,
    ) -> Result<bool, String> {
        if !self.knows(by.hops) {
            return Err("the budgets above it were not looked at since the server started".into());
        }
        self.locked(by, |held| {
            let shares = || {
                self.counting(by)
                    .map(|cell| (cell, cell.rule().share(cost, units)))
                    .filter(|(_, share)| *share != 0)
            };
            let mut over = false;
            for (cell, share) in shares() {
                let rule = cell.rule();
                cell.roll(held, now);
                let answer = if cell.stands_at(held, by.at) {
                    cell.judge(held, share)
                } else {
                    match rule.on_exceed {
                        OnExceed::NotifyOnly => Answer::Fits,
                        OnExceed::AllowWithOverage => Answer::Over,
                        OnExceed::Block => {
                            return Err(format!(
                                "the window in which the limit of {} for {} counted it is over",
                                rule.most,
                                whose(&cell.scope())
                            ));
                        }
                    }
                };
                match answer {
                    Answer::Fits => {}
                    Answer::Over => over = true,
                    Answer::Refused | Answer::Full => {
                        return Err(format!(
                            "the limit of {} for {} does not cover the rest",
                            rule.most,
                            whose(&cell.scope())
                        ));
                    }
                }
            }
            if take(over) {
                for (cell, share) in shares() {
                    if cell.stands_at(held, by.at) {
                        cell.take(held, share);
                    }
                }
            }
            Ok(over)
        })
    }

    /// Gives back what [`Registry::surplus`] took.
    pub(crate) fn give_back(&self, by: &Use<'_>, cost: i128, units: u64) {
        self.locked(by, |held| {
            for cell in self.counting(by) {
                let share = cell.rule().share(cost, units);
                cell.give_back(held, by.at, share);
            }
        });
    }

    /// The limit in force that this one would replace.
    pub(crate) fn replaced_by(&self, limit: &Limit) -> Option<&Arc<Limit>> {
        let mut beside = self.subjects.of(&limit.scope).iter().filter_map(set_limit);
        beside.find(|known| known.replaces(limit))
    }

    /// How many limits there are on the subject of this one, without it.
    pub(crate) fn beside(&self, limit: &Limit) -> usize {
        let beside = self.subjects.of(&limit.scope).iter().filter_map(set_limit);
        beside.filter(|known| known.id != limit.id).count()
    }

    pub(crate) fn limit(&self, id: LimitId) -> Option<&Arc<Cell>> {
        self.limits.get(&id)
    }

    pub(super) fn in_force(&self, id: LimitId) -> Option<Arc<Limit>> {
        self.limits.get(&id).and_then(set_limit).cloned()
    }

    pub(crate) fn limits(
        &self,
        after: Option<LimitId>,
    ) -> impl Iterator<Item = (&Arc<Limit>, &Arc<Cell>)> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.limits
            .range((from, std::ops::Bound::Unbounded))
            .filter_map(|(_, cell)| Some((set_limit(cell)?, cell)))
    }

    /// The latest instant that a limit has counted already, from `now` on: of an open
    /// reservation, or where the limit stands that it replaces. Where the clock stepped
    /// back that is later than now.
    pub(crate) fn counted_until(&self, limit: &Limit, now: i64) -> i64 {
        let replaced = self.limits.get(&limit.id).map(|cell| {
            let held = cell.lock();
            cell.counts_at(&held, now)
        });
        let open = self.held.values().map(|open| Use::of(&open.reservation));
        let counted = open.filter(|by| counts(limit, by)).map(|by| by.at);
        counted.chain(replaced).fold(now, i64::max)
    }

    /// Puts a limit in force with what was used of its window, and what is reserved.
    pub(crate) fn install(&mut self, limit: &Arc<Limit>, rule: Rule, span: Span, used: Used) {
        let used = if rule.is_money() {
            used.cost
        } else {
            used.units
        };
        let (tree, group) = self.home_of(&limit.scope);
        let limit = Arc::clone(limit);
        let set = Arc::new(SetLimit { rule, limit, group });
        let cell = Arc::new(Cell::new(Subject::Set(Arc::clone(&set)), tree, span, used));
        let limit = &set.limit;
        let held = cell.lock();
        for open in self.held.values() {
            let by = Use::of(&open.reservation);
            if counts(limit, &by) {
                let (share, kept) = (open.share(cell.rule()), open.kept_share(cell.rule()));
                cell.count(&held, by.at, share, kept, 0);
            }
        }
        drop(held);
        self.uninstall(limit.id);
        self.subjects.entry(&limit.scope).push(Arc::clone(&cell));
        self.limits.insert(limit.id, cell);
    }

    pub(crate) fn uninstall(&mut self, id: LimitId) {
        let Some(cell) = self.limits.remove(&id) else {
            return;
        };
        if let Some(limit) = set_limit(&cell) {
            let beside = self.subjects.entry(&limit.scope);
            beside.retain(|known| !Arc::ptr_eq(known, &cell));
        }
    }

    // --- rates ---------------------------------------------------------------

    pub(crate) const fn rates(&self) -> &RateBook {
        &self.rates
    }

    pub(crate) fn set_rate(&mut self, rule: RateRule, now: u64) {
        self.rates.set(rule);
        self.renew_pacers(now);
    }

    pub(crate) fn remove_rate(&mut self, id: RateId, now: u64) {
        self.rates.remove(id);
        self.renew_pacers(now);
    }

    fn renew_pacers(&self, now: u64) {
        self.whole.lock().renew(self.rates.of_organization(), now);
        for (name, group) in &self.agents {
            group.lock().renew(self.rates.of_agent(name), now);
        }
    }
}

fn set_limit(cell: &Arc<Cell>) -> Option<&Arc<Limit>> {
    cell.limit()
}

/// Whether a limit counts a use.
fn counts(limit: &Limit, by: &Use<'_>) -> bool {
    let of_scope = match &limit.scope {
        Scope::Organization => true,
        Scope::Agent(name) => name == by.agent,
        Scope::Delegation { link, .. } => by.hops.contains(link),
    };
    of_scope && limit.event.as_ref().is_none_or(|event| event == by.action)
}

/// The subject of a limit, for people.
pub(crate) fn whose(scope: &LimitScope) -> String {
    match scope {
        LimitScope::Organization => "the organization".to_owned(),
        LimitScope::Agent(name) => format!("agent {name}"),
        LimitScope::Delegation { link, holder } => format!("{holder} (delegation {link})"),
    }
}

/// Raised to the next version by whoever changed limits or rates, under the
/// registry's lock.
pub(crate) fn changed(org: &Org) {
    org.version.next();
}
