//! Limits and rates in the log: at most one in force for a subject, set and ended by
//! whoever may, and notified once an amount, window and threshold.

use std::collections::{BTreeMap, HashMap, HashSet};

use creto_metering::{Limit, LimitId, RateId, RateRule, RateScope, Scope, reaches};
use creto_nhi::LinkId;
use creto_types::{OrgId, PrincipalName, Quantity, Timestamp};
use serde::Deserialize;

use super::Known;
use super::faults::{Fault, LIMITS, RATES, absent};
use crate::limits::within_budget;

#[derive(Default)]
pub(super) struct LimitRecords {
    limits: BTreeMap<LimitId, Limit>,
    rates: BTreeMap<RateId, RateRule>,
    /// Every limit that ever was, with each value it had.
    values: HashMap<LimitId, Vec<Quantity>>,
    noticed: HashSet<(String, Option<Timestamp>, Quantity, u8)>,
}

/// `limit.threshold`, as far as it is checked.
#[derive(Deserialize)]
pub(super) struct Reached {
    limit_id: String,
    threshold: u8,
    window_start: Option<Timestamp>,
    limit: Quantity,
    taken: Quantity,
}

impl LimitRecords {
    pub(super) fn set(&mut self, known: &Known<'_>, limit: Limit) -> Result<(), Fault> {
        by_its_actor(known, limit.org, &limit.set_by)?;
        if let Some(before) = self.limits.get(&limit.id)
            && !limit.replaces(before)
        {
            let message = format!("makes of {} a limit of something else", limit.id);
            return Err(Fault::Wrong(message));
        }
        within(known, &limit)?;
        self.may_change(known, &limit)?;
        let mut others = self.limits.values().filter(|other| other.id != limit.id);
        if let Some(other) = others.find(|other| limit.replaces(other)) {
            return Err(absent(
                LIMITS,
                format!(
                    "sets {}, while {} is in force for the same",
                    limit.id, other.id
                ),
            ));
        }
        self.values.entry(limit.id).or_default().push(limit.limit);
        self.limits.insert(limit.id, limit);
        Ok(())
    }

    pub(super) fn removed(&mut self, known: &Known<'_>, limit: &Limit) -> Result<(), Fault> {
        self.may_change(known, limit)?;
        match self.limits.remove(&limit.id) {
            None => Err(absent(
                LIMITS,
                format!("ends {}, which was not in force", limit.id),
            )),
            Some(before) if before != *limit => Err(absent(
                LIMITS,
                format!("ends {} as it was not in force", limit.id),
            )),
            Some(_) => Ok(()),
        }
    }

    /// Owners and operators change any; an agent one on a delegation that it gave, unless
    /// somebody else set it.
    fn may_change(&self, known: &Known<'_>, limit: &Limit) -> Result<(), Fault> {
        if known.by_operator() {
            return Ok(());
        }
        let message = || format!("{} may not set limits there", known.actor);
        let gave = match &limit.scope {
            Scope::Delegation { link, .. } => {
                let signed = known.links.get(link);
                let signed = signed.ok_or_else(|| Fault::Ungranted(*link, message()))?;
                signed.link.delegator == *known.actor
            }
            Scope::Agent(_) | Scope::Organization => false,
        };
        if !gave {
            return Err(known.lacks_role(message()));
        }
        match self.limits.get(&limit.id) {
            Some(before) if before.set_by != *known.actor => Err(absent(
                LIMITS,
                format!("{} may not change what {} set", known.actor, before.set_by),
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn reached(&mut self, known: &Known<'_>, reached: Reached) -> Result<(), Fault> {
        let id = &reached.limit_id;
        let message = format!("{id} was never a limit of {}", reached.limit);
        let had = match (id.parse::<LimitId>(), id.parse::<LinkId>()) {
            (Ok(limit), _) => self
                .values
                .get(&limit)
                .is_some_and(|values| values.contains(&reached.limit)),
            (_, Ok(link)) => {
                let budget = known.links.get(&link).and_then(|signed| signed.link.budget);
                budget.is_some_and(|budget| budget.limit == reached.limit)
            }
            _ => false,
        };
        if reaches(&reached.taken, reached.threshold, &reached.limit) != Some(true) {
            return Err(Fault::Wrong(format!(
                "{} is less than {} % of {}",
                reached.taken, reached.threshold, reached.limit
            )));
        }
        let unknown = (!had).then(|| match id.parse::<LinkId>() {
            Ok(link) if !known.links.contains_key(&link) => Fault::Ungranted(link, message),
            Ok(_) => Fault::Wrong(message),
            Err(_) => absent(LIMITS, message),
        });
        let Reached {
            limit_id,
            window_start,
            limit,
            threshold,
            ..
        } = reached;
        let notice = (limit_id, window_start, limit, threshold);
        if !self.noticed.insert(notice) {
            let message = "this threshold was notified before";
            return Err(Fault::Wrong(message.to_owned()));
        }
        unknown.map_or(Ok(()), Err)
    }

    pub(super) fn rate_set(&mut self, known: &Known<'_>, rule: RateRule) -> Result<(), Fault> {
        by_its_actor(known, rule.org, &rule.set_by)?;
        if let Some(before) = self.rates.get(&rule.id)
            && !rule.replaces(before)
        {
            let message = format!("makes of {} a rate of something else", rule.id);
            return Err(Fault::Wrong(message));
        }
        known.operator_only("set rates")?;
        if let RateScope::Agent(name) = &rule.scope {
            known.exists(name)?;
        }
        let mut others = self.rates.values().filter(|other| other.id != rule.id);
        if let Some(other) = others.find(|other| rule.replaces(other)) {
            return Err(absent(
                RATES,
                format!(
                    "sets {}, while {} is in force for the same",
                    rule.id, other.id
                ),
            ));
        }
        self.rates.insert(rule.id, rule);
        Ok(())
    }

    pub(super) fn rate_removed(&mut self, known: &Known<'_>, rule: &RateRule) -> Result<(), Fault> {
        known.operator_only("remove rates")?;
        match self.rates.remove(&rule.id) {
            None => Err(absent(
                RATES,
                format!("ends {}, which was not in force", rule.id),
            )),
            Some(before) if before != *rule => Err(absent(
                RATES,
                format!("ends {} as it was not in force", rule.id),
            )),
            Some(_) => Ok(()),
        }
    }
}

/// What is set says who set it, and where.
fn by_its_actor(known: &Known<'_>, org: OrgId, set_by: &PrincipalName) -> Result<(), Fault> {
    if set_by != known.actor {
        let message = format!("says that {set_by} set it, not {}", known.actor);
        return Err(Fault::Wrong(message));
    }
    match known.org {
        Some(own) if own != org => Err(Fault::Wrong(format!("is of organization {org}"))),
        _ => Ok(()),
    }
}

/// The subject is there, and what is set on a delegation lies within its budget.
fn within(known: &Known<'_>, limit: &Limit) -> Result<(), Fault> {
    let (link, root, holder) = match &limit.scope {
        Scope::Organization => return Ok(()),
        Scope::Agent(name) => return known.exists(name),
        Scope::Delegation { link, root, holder } => (link, root, holder),
    };
    let granted = known.links.get(link).ok_or_else(|| {
        Fault::Ungranted(*link, format!("is about {link}, which was never granted"))
    })?;
    let mut first = granted;
    while let Some(above) = first.link.parent.and_then(|id| known.links.get(&id)) {
        first = above;
    }
    let message = || format!("does not name root and holder of {link}");
    if granted.link.delegatee != *holder {
        return Err(Fault::Wrong(message()));
    }
    within_budget(
        limit.window.into(),
        &limit.limit,
        granted.link.budget.as_ref(),
    )
    .map_err(|error| error.to_string())?;
    match first.link.parent {
        None if first.link.id != *root => Err(Fault::Wrong(message())),
        Some(above) => Err(Fault::Ungranted(above, message())),
        None => Ok(()),
    }
}
