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

    /// The plan in force, when it may be another than the account's own.
    fn in_force(&self, spend: &Spend<'_>) -> Arc<Plan> {
        let later = self.later.load_full();
        later
            .filter(|plan| plan.is_current())
            .unwrap_or_else(|| self.renewed(spend.now.wall_ns))
    }

    #[cold]
    fn renewed(&self, now: i64) -> Arc<Plan> {
        let plan = &self.plan;
        let plan = Arc::new(plan.org().resolve(&plan.identity, &plan.above.prices, now));
        self.later.store(Some(Arc::clone(&plan)));
        plan
    }
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

    fn reserve(self: Arc<Self>, spend: &Spend<'_>) -> Result<Hold, Refusal> {
        if self.plan.is_current() {
            let data = self.plan.reserve::<true>(spend)?;
            let numbered = self.plan.is_numbered(spend.action);
            return Ok(hold(self, numbered, spend.action, data));
        }
        let plan = self.in_force(spend);
        let data = plan.reserve::<true>(spend)?;
        let numbered = plan.is_numbered(spend.action);
        Ok(hold(plan, numbered, spend.action, data))
    }

    fn reserve_if(
        self: Arc<Self>,
        spend: &Spend<'_>,
        permitted: &mut dyn FnMut() -> bool,
    ) -> Option<Hold> {
        if self.plan.is_current() {
            let data = self.plan.reserve_if(spend, permitted)?;
            let numbered = self.plan.is_numbered(spend.action);
            return Some(hold(self, numbered, spend.action, data));
        }
        let plan = self.in_force(spend);
        let data = plan.reserve_if(spend, permitted)?;
        let numbered = plan.is_numbered(spend.action);
        Some(hold(plan, numbered, spend.action, data))
    }

    fn fits(&self, spend: &Spend<'_>) -> Result<(), Refusal> {
        if self.plan.is_current() {
            return self.plan.fits(spend);
        }
        self.in_force(spend).fits(spend)
    }

    fn again(self: Arc<Self>) -> Arc<dyn Account> {
        Arc::new(Again(self))
    }
}

/// An account for a call that the rates counted before.
#[derive(Debug)]
struct Again(Arc<ChainAccount>);

impl Account for Again {
    fn reserve(self: Arc<Self>, spend: &Spend<'_>) -> Result<Hold, Refusal> {
        let plan = self.0.in_force(spend);
        let data = plan.reserve::<false>(spend)?;
        let numbered = plan.is_numbered(spend.action);
        Ok(hold(plan, numbered, spend.action, data))
    }

    fn lines(&self) -> Lines {
        self.0.lines()
    }

    fn fits(&self, spend: &Spend<'_>) -> Result<(), Refusal> {
        self.0.fits(spend)
    }

    fn again(self: Arc<Self>) -> Arc<dyn Account> {
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::num::NonZeroU32;

    use creto_nhi::Hop;
    use creto_nhi::test_util::{agent, hop, rights};
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
        let reserve = |permitted| Arc::clone(&before).reserve_if(&spend, &mut || permitted);
        assert!(reserve(true).is_some());
        assert!(reserve(false).is_none());
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
