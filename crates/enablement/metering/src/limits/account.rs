//! The account of one chain: its plan, and the one that replaced it.

use std::any::Any;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use creto_authz::{Account, Action, Hold, HoldData, Holder, Line, Lines, Refusal, Spend};
use creto_types::Money;

use super::plan::Plan;
use crate::amount::Amount;

impl Holder for Plan {
    fn give_back(&self, data: &HoldData) {
        self.take_back(None, data);
    }

    fn cost(&self, data: &HoldData) -> Option<Money> {
        Amount::of_billionths(data.amount)
            .money(self.above.prices.currency())
            .ok()
    }
}

/// A hold whose action, or an event type of whose plan, has no number.
struct Named {
    holder: Arc<dyn Holder>,
    action: Action,
}

/// What was reserved of a plan, held by `holder`, who has that plan.
fn hold(holder: Arc<dyn Holder>, numbered: bool, action: &Action, data: HoldData) -> Hold {
    if numbered {
        return Hold::new(holder, data);
    }
    let action = action.clone();
    Hold::new(Arc::new(Named { holder, action }), data)
}

impl Holder for Named {
    fn give_back(&self, data: &HoldData) {
        if let Some(plan) = plan_of(&*self.holder) {
            plan.take_back(Some(&self.action), data);
        }
    }

    fn cost(&self, data: &HoldData) -> Option<Money> {
        self.holder.cost(data)
    }
}

/// The plan that a hold was made by, if a meter made it.
pub(crate) fn plan_of(holder: &dyn Holder) -> Option<&Plan> {
    let any: &dyn Any = holder;
    if let Some(account) = any.downcast_ref::<ChainAccount>() {
        return Some(&account.plan);
    }
    match any.downcast_ref::<Named>() {
        Some(named) => plan_of(&*named.holder),
        None => any.downcast_ref::<Plan>(),
    }
}

/// The counters of one chain.
#[derive(Debug)]
pub(crate) struct ChainAccount {
    /// The plan that was in force when the chain was bound: it lies in the account,
    /// so that a check finds it without another step.
    plan: Plan,
    /// The one in force, once that is another.
    later: ArcSwapOption<Plan>,
}

impl ChainAccount {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            later: ArcSwapOption::empty(),
        }
    }

    #[cfg(test)]
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Asks the plan in force, of after a change of limits, until it was so while it
    /// answered.
    fn ask_later<T>(
        &self,
        spend: &Spend<'_>,
        ask: impl Fn(&Plan) -> Result<T, Refusal>,
    ) -> (Arc<Plan>, Result<T, Refusal>) {
        loop {
            let later = self.later.load_full();
            let plan = later
                .filter(|plan| plan.is_current())
                .unwrap_or_else(|| self.renewed(spend.now.wall_ns));
            let answer = ask(&plan);
            if !is_outdated(&answer, &plan) {
                return (plan, answer);
            }
        }
    }

    fn reserve_later<const PACED: bool>(
        &self,
        spend: &Spend<'_>,
        holds: &dyn Fn() -> bool,
    ) -> Result<Hold, Refusal> {
        let (plan, data) = self.ask_later(spend, |plan| plan.reserve::<PACED>(spend, holds));
        let numbered = plan.is_numbered(spend.action);
        Ok(hold(plan, numbered, spend.action, data?))
    }

    fn fits<const PACED: bool>(
        &self,
        spend: &Spend<'_>,
        holds: &dyn Fn() -> bool,
    ) -> Result<(), Refusal> {
        let fits = self.plan.fits::<PACED>(spend, holds);
        if is_outdated(&fits, &self.plan) {
            return self
                .ask_later(spend, |plan| plan.fits::<PACED>(spend, holds))
                .1;
        }
        fits
    }

    #[cold]
    fn renewed(&self, now: i64) -> Arc<Plan> {
        let plan = &self.plan;
        let plan = Arc::new(plan.org().resolve(&plan.identity, &plan.above.prices, now));
        self.later.store(Some(Arc::clone(&plan)));
        plan
    }
}

/// Whether it is the plan that is outdated, and not what was decided before.
fn is_outdated<T>(answer: &Result<T, Refusal>, plan: &Plan) -> bool {
    matches!(answer, Err(Refusal::Outdated)) && !plan.is_current()
}

impl Holder for ChainAccount {
    fn give_back(&self, data: &HoldData) {
        self.plan.give_back(data);
    }

    fn cost(&self, data: &HoldData) -> Option<Money> {
        self.plan.cost(data)
    }
}

impl Account for ChainAccount {
    fn is_current(&self) -> bool {
        self.plan.is_current()
    }

    fn lines(&self) -> Lines {
        self.plan.lines(Line::of(self))
    }

    fn reserve(
        self: Arc<Self>,
        spend: &Spend<'_>,
        holds: &dyn Fn() -> bool,
    ) -> Result<Hold, Refusal> {
        let data = self.plan.reserve::<true>(spend, holds);
        if is_outdated(&data, &self.plan) {
            return self.reserve_later::<true>(spend, holds);
        }
        let numbered = self.plan.is_numbered(spend.action);
        Ok(hold(self, numbered, spend.action, data?))
    }

    fn reserve_if(
        self: Arc<Self>,
        spend: &Spend<'_>,
        permitted: &mut dyn FnMut() -> bool,
    ) -> Option<Hold> {
        let data = self.plan.reserve_if(spend, permitted)?;
        let numbered = self.plan.is_numbered(spend.action);
        Some(hold(self, numbered, spend.action, data))
    }

    fn fits(&self, spend: &Spend<'_>, holds: &dyn Fn() -> bool) -> Result<(), Refusal> {
        self.fits::<true>(spend, holds)
    }

    fn again(self: Arc<Self>) -> Arc<dyn Account> {
        Arc::new(Again(self))
    }
}

/// An account for a call that the rates counted before.
#[derive(Debug)]
struct Again(Arc<ChainAccount>);

impl Account for Again {
    fn reserve(
        self: Arc<Self>,
        spend: &Spend<'_>,
        holds: &dyn Fn() -> bool,
    ) -> Result<Hold, Refusal> {
        self.0.reserve_later::<false>(spend, holds)
    }

    fn lines(&self) -> Lines {
        self.0.lines()
    }

    fn fits(&self, spend: &Spend<'_>, holds: &dyn Fn() -> bool) -> Result<(), Refusal> {
        self.0.fits::<false>(spend, holds)
    }

    fn again(self: Arc<Self>) -> Arc<dyn Account> {
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::num::NonZeroU32;

    use creto_nhi::test_util::{agent, hop, rights};
    use creto_nhi::{Budget, BudgetPeriod, Hop};
    use creto_types::{Currency, OrgId, Reading};

    use super::*;
    use crate::limits::registry::Org;
    use crate::prices::{PriceBook, PriceTable};
    use crate::rate::RateLimit;

    /// With the two counts that an `Arc` keeps before it.
    #[test]
    fn an_account_takes_one_cache_line() {
        let counts = 2 * size_of::<usize>();
        assert_eq!(size_of::<ChainAccount>() + counts, 64);
    }

    #[test]
    fn an_account_of_before_a_change_tells_so_and_reserves_all_the_same() {
        let id: OrgId = format!("org_{:032x}", 1).parse().unwrap();
        let rate = RateLimit::per_second(NonZeroU32::MAX, NonZeroU32::MAX);
        let org = Arc::new(Org::new(id, rate));
        let book = PriceBook::new(Currency::USD, []).unwrap();
        let prices = Arc::new(PriceTable::new(book));
        let link = format!("lnk_{:032x}", 1).parse().unwrap();
        let hops = vec![hop(
            id,
            link,
            None,
            "owner",
            "lead",
            rights(&[("*", "*")]),
            None,
        )];
        let identity = agent(hops);
        let before = org.account(&identity, &prices, 0);
        assert!(before.is_current());
        org.version().next();
        assert!(!before.is_current());
        assert!(org.account(&identity, &prices, 0).is_current());
        let action = Action::named("read");
        let spend = Spend {
            action: &action,
            units: 1,
            now: Reading {
                wall_ns: 0,
                mono_ns: 1,
            },
        };
        let reserve = |holds| Arc::clone(&before).reserve(&spend, &|| holds);
        assert!(reserve(true).is_ok());
        assert_eq!(reserve(false).unwrap_err(), Refusal::Outdated);
        assert!(before.fits::<true>(&spend, &|| true).is_ok());
        assert!(
            Arc::clone(&before)
                .reserve_if(&spend, &mut || true)
                .is_none()
        );
    }

    /// A limit that is set while a call waits for the counters counts it.
    #[test]
    fn the_plan_is_in_force_while_the_counters_are_locked() {
        let id: OrgId = format!("org_{:032x}", 1).parse().unwrap();
        let rate = RateLimit::per_second(NonZeroU32::MAX, NonZeroU32::MAX);
        let org = Arc::new(Org::new(id, rate));
        let book = PriceBook::new(Currency::USD, []).unwrap();
        let prices = Arc::new(PriceTable::new(book));
        let link = format!("lnk_{:032x}", 1).parse().unwrap();
        let all = rights(&[("*", "*")]);
        let budget = Some(Budget {
            limit: "5 units".parse().unwrap(),
            period: BudgetPeriod::Total,
        });
        let hops = vec![hop(id, link, None, "owner", "lead", all, budget)];
        let account = org.account(&agent(hops), &prices, 0);
        let tree = Arc::clone(account.plan.above.tree.as_ref().unwrap());
        let action = Action::named("read");
        let spend = Spend {
            action: &action,
            units: 1,
            now: Reading {
                wall_ns: 0,
                mono_ns: 1,
            },
        };
        let while_it_waits = |ask: &(dyn Fn() -> Option<bool> + Sync)| {
            let before = tree.waits();
            let whole = tree.lock();
            std::thread::scope(|scope| {
                let asking = scope.spawn(ask);
                while tree.waits() == before {
                    std::thread::yield_now();
                }
                org.version().next();
                drop(whole);
                asking.join().unwrap()
            })
        };
        let anew = while_it_waits(&|| {
            let reserved = Arc::clone(&account).reserve(&spend, &|| true);
            let (holder, _) = reserved.ok()?.into_parts();
            Some(plan_of(&*holder)?.is_current())
        });
        assert_eq!(anew, Some(true));
        let account = org.account(&account.plan.identity, &prices, 0);
        let quiet = while_it_waits(&|| {
            let reserved = Arc::clone(&account).reserve_if(&spend, &mut || true);
            Some(reserved.is_some())
        });
        assert_eq!(quiet, Some(false));
    }

    #[test]
    fn chains_below_one_link_share_what_is_above() {
        let id: OrgId = format!("org_{:032x}", 1).parse().unwrap();
        let below = |parent: Option<&Hop>, number: u8, name: &str| {
            let link = format!("lnk_{number:032x}").parse().unwrap();
            let delegator = parent.map_or("owner", |hop| hop.link.delegatee.as_str());
            let all = rights(&[("*", "*")]);
            hop(id, link, parent, delegator, name, all, None)
        };
        let rate = RateLimit::per_second(NonZeroU32::MAX, NonZeroU32::MAX);
        let org = Arc::new(Org::new(id, rate));
        let book = PriceBook::new(Currency::USD, []).unwrap();
        let prices = Arc::new(PriceTable::new(book));
        let account = |hops| org.account(&agent(hops), &prices, 0);
        let lead = below(None, 1, "lead");
        let one = account(vec![lead.clone(), below(Some(&lead), 2, "one")]);
        let two = account(vec![lead.clone(), below(Some(&lead), 3, "two")]);
        assert!(Arc::ptr_eq(&one.plan.above, &two.plan.above));
        let other = below(None, 4, "other");
        let three = account(vec![other.clone(), below(Some(&other), 5, "three")]);
        assert!(!Arc::ptr_eq(&one.plan.above, &three.plan.above));
        // The lead's own calls are not counted as from below it.
        let leads = account(vec![lead]);
        assert!(!Arc::ptr_eq(&one.plan.above, &leads.plan.above));
    }
}
