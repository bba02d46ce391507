//! Setting limits and rates.
//!
//! The organization's gate is held alone meanwhile, so no reservation becomes
//! durable, and none is settled, between adding up the ledger and the moment the new
//! counter is in force. Decisions go on; what they reserve against a counter that is
//! replaced is void when it is to become durable. When the store cannot say whether a
//! change happened, memory takes over what it says then (`recover.rs`).

use std::sync::Arc;
use std::time::Duration;

use creto_types::{Commit, OrgId, Receipt, StoreError, Timestamp};

use super::cell::Count;
use super::history::Used;
use super::model::{
    Crossing, Limit, LimitId, LimitView, MAX_LIMITS, MAX_RATES, NoticeKey, RateId, RateRule, Scope,
    invalid,
};
use super::registry::{Org, changed};
use super::rule::{Measure, Rule};
use super::window::{Span, instant, nanos};
use crate::amount::Amount;
use crate::error::MeteringError;
use crate::model::Balance;
use crate::ports::UsedQuery;
use crate::service::{Core, Meter, detached};

/// How long somebody who asks for nothing new waits for the store.
const PATIENCE: Duration = Duration::from_secs(5);

impl Meter {
    /// Checks a limit and gives it the id it will have: that of the limit it
    /// replaces, if there is one. Changes nothing.
    pub fn draft_limit(&self, mut limit: Limit) -> Result<Limit, MeteringError> {
        limit.validate()?;
        let rule = Rule::set(&limit)?;
        self.core().counts_in(rule.measure)?;
        let org = self.core().org(limit.org);
        let registry = org.registry();
        if let Some(known) = registry.replaced_by(&limit) {
            limit.id = known.id;
        }
        if registry.beside(&limit) >= MAX_LIMITS {
            return Err(MeteringError::TooManyLimits { most: MAX_LIMITS });
        }
        Ok(limit)
    }

    /// Puts a limit in force. Once this returns, no decision uses what was in force
    /// before. What its window holds already counts: it may be set below that, and
    /// refuses until the window ends or enough is given back.
    ///
    /// A conflict means that another limit of its scope, event type, measure and
    /// window was set since it was drafted: draft it again.
    pub async fn set_limit(&self, limit: Limit, commit: Commit) -> Result<Receipt, MeteringError> {
        limit.validate()?;
        let limit = Arc::new(limit);
        let rule = Rule::set(&limit)?;
        self.core().counts_in(rule.measure)?;
        let core = self.shared_core();
        detached(commit.turn(), async move {
            let org = core.org(limit.org);
            let alone = Arc::clone(&org.gate).write_owned().await;
            core.settle_doubts(&org).await?;
            {
                let registry = org.registry();
                let replaced = registry.replaced_by(&limit);
                if replaced.is_some_and(|known| known.id != limit.id) {
                    return Err(StoreError::Conflict { what: "limit" }.into());
                }
                if registry.beside(&limit) >= MAX_LIMITS {
                    return Err(MeteringError::TooManyLimits { most: MAX_LIMITS });
                }
            }
            let (span, used) = core.counted(&org, &limit, &rule).await?;
            let done = core.store.put_limit(Limit::clone(&limit), commit).await;
            let (receipt, _alone) = core.known(done, &org, alone).await?;
            let mut registry = org.registry();
            registry.install(&limit, rule, span, used);
            changed(&org);
            let mut found = Vec::new();
            if let Some(cell) = registry.limit(limit.id) {
                let held = cell.lock();
                cell.present_crossings(&held, org.id, &mut found);
            }
            org.crossings.lock().append(&mut found);
            Ok(receipt)
        })
        .await
    }

    /// Ends a limit. Once this returns, no decision uses it.
    pub async fn remove_limit(
        &self,
        org: OrgId,
        id: LimitId,
        commit: Commit,
    ) -> Result<Receipt, MeteringError> {
        let core = self.shared_core();
        detached(commit.turn(), async move {
            let org = core.org(org);
            let alone = Arc::clone(&org.gate).write_owned().await;
            let done = core.store.remove_limit(org.id, id, commit).await;
            let (receipt, _alone) = core.known(done, &org, alone).await?;
            let mut registry = org.registry();
            registry.uninstall(id);
            changed(&org);
            Ok(receipt)
        })
        .await
    }

    /// Waits until limits and rates that are durable are in force: while it is open
    /// whether a change happened, until the store can say. When that takes longer than
    /// some seconds, the store is [`StoreError::Unavailable`].
    pub async fn in_force(&self, org: OrgId) -> Result<(), MeteringError> {
        let org = self.core().org(org);
        match tokio::time::timeout(PATIENCE, org.gate.read()).await {
            Ok(open) => {
                drop(open);
                Ok(())
            }
            Err(elapsed) => Err(StoreError::Unavailable(Box::new(elapsed)).into()),
        }
    }

    /// One limit of the organization.
    #[must_use]
    pub fn limit(&self, org: OrgId, id: LimitId) -> Option<Limit> {
        let org = self.core().org(org);
        let registry = org.registry();
        let (limit, _) = registry.limits(None).find(|(limit, _)| limit.id == id)?;
        Some(Limit::clone(limit))
    }

    /// The limits and rates of this event type that are in force, as text with the
    /// organizations they are in.
    #[must_use]
    pub fn limiting(&self, event: &str) -> Vec<String> {
        let is_of = |named: &Option<String>| named.as_deref() == Some(event);
        let in_org = |org: Arc<Org>| {
            let registry = org.registry();
            let limits = registry.limits(None).map(|(limit, _)| limit);
            let limits = limits.filter(|limit| is_of(&limit.event));
            let rates = registry.rates().after(None);
            let rates = rates.filter(|rule| is_of(&rule.event));
            let ids = limits.map(|limit| limit.id.to_string());
            let ids = ids.chain(rates.map(|rule| rule.id.to_string()));
            ids.map(|id| format!("{id} of {}", org.id))
                .collect::<Vec<_>>()
        };
        let orgs = self.core().orgs().into_iter();
        orgs.flat_map(in_org).collect()
    }

    /// The organization's limits in the order of their ids, with what is left of
    /// them: at most `most`, after the given one.
    #[must_use]
    pub fn limits(&self, org: OrgId, after: Option<LimitId>, most: usize) -> Vec<LimitView> {
        let now = nanos(self.core().clock.now());
        let org = self.core().org(org);
        let registry = org.registry();
        registry
            .limits(after)
            .filter_map(|(limit, cell)| {
                let held = cell.lock();
                let count = cell.read(&held, now);
                drop(held);
                let balance = balance(limit.limit, cell.rule().measure, count)?;
                Some(LimitView {
                    limit: Limit::clone(limit),
                    balance,
                })
            })
            .take(most)
            .collect()
    }

    /// Checks a rate and gives it the id it will have. Changes nothing.
    pub fn draft_rate(&self, mut rule: RateRule) -> Result<RateRule, MeteringError> {
        rule.validate()?;
        let org = self.core().org(rule.org);
        let registry = org.registry();
        if let Some(known) = registry.rates().replaced_by(&rule) {
            rule.id = known.id;
        }
        if registry.rates().beside(&rule) >= MAX_RATES {
            return Err(MeteringError::TooManyLimits { most: MAX_RATES });
        }
        Ok(rule)
    }

    /// Puts a rate in force. Once this returns, no decision uses the one before. How
    /// far ahead of their pace the calls are is kept, as far as the new rate lets
    /// them be.
    pub async fn set_rate(&self, rule: RateRule, commit: Commit) -> Result<Receipt, MeteringError> {
        rule.validate()?;
        let core = self.shared_core();
        detached(commit.turn(), async move {
            let org = core.org(rule.org);
            let alone = Arc::clone(&org.gate).write_owned().await;
            {
                let registry = org.registry();
                let replaced = registry.rates().replaced_by(&rule);
                if replaced.is_some_and(|known| known.id != rule.id) {
                    return Err(StoreError::Conflict { what: "rate" }.into());
                }
                if registry.rates().beside(&rule) >= MAX_RATES {
                    return Err(MeteringError::TooManyLimits { most: MAX_RATES });
                }
            }
            let done = core.store.put_rate(rule.clone(), commit).await;
            let (receipt, _alone) = core.known(done, &org, alone).await?;
            org.registry().set_rate(rule, core.mono());
            changed(&org);
            Ok(receipt)
        })
        .await
    }

    /// Ends a rate: the one of every agent, or the configured one, holds instead.
    pub async fn remove_rate(
        &self,
        org: OrgId,
        id: RateId,
        commit: Commit,
    ) -> Result<Receipt, MeteringError> {
        let core = self.shared_core();
        detached(commit.turn(), async move {
            let org = core.org(org);
            let alone = Arc::clone(&org.gate).write_owned().await;
            let done = core.store.remove_rate(org.id, id, commit).await;
            let (receipt, _alone) = core.known(done, &org, alone).await?;
            org.registry().remove_rate(id, core.mono());
            changed(&org);
            Ok(receipt)
        })
        .await
    }

    /// One rate of the organization.
    #[must_use]
    pub fn rate(&self, org: OrgId, id: RateId) -> Option<RateRule> {
        self.core().org(org).registry().rates().get(id).cloned()
    }

    /// The organization's rates in the order of their ids: at most `most`, after the
    /// given one.
    #[must_use]
    pub fn rates(&self, org: OrgId, after: Option<RateId>, most: usize) -> Vec<RateRule> {
        let org = self.core().org(org);
        let registry = org.registry();
        registry.rates().after(after).take(most).cloned().collect()
    }

    /// Thresholds that were reached and are to be notified, each once since the
    /// server started. Whoever asks records them with [`Meter::notice`], or gives
    /// them back with [`Meter::not_noticed`].
    #[must_use]
    pub fn crossings(&self) -> Vec<Crossing> {
        let orgs: Vec<Arc<Org>> = self.core().orgs();
        let mut found = Vec::new();
        for org in orgs {
            found.append(&mut org.crossings.lock());
        }
        found
    }

    /// Takes crossings back that could not be recorded now.
    pub fn not_noticed(&self, crossings: impl IntoIterator<Item = Crossing>) {
        for crossing in crossings {
            let org = self.core().org(crossing.org);
            org.crossings.lock().push(crossing);
        }
    }

    /// Records a notification; `None` when it was recorded before, by whichever
    /// process.
    pub async fn notice(
        &self,
        key: NoticeKey,
        commit: Commit,
    ) -> Result<Option<Receipt>, MeteringError> {
        match self.core().store.notice(key, commit).await {
            Ok(receipt) => Ok(Some(receipt)),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Core {
    /// The window that a limit counts in from now on, and what the ledger says was used
    /// in it. The gate is held alone.
    ///
    /// Where the clock stepped back over the start of a window that something was counted
    /// in already, it is that one: once it comes again it is not given twice.
    pub(super) async fn counted(
        &self,
        org: &Org,
        limit: &Limit,
        rule: &Rule,
    ) -> Result<(Span, Used), MeteringError> {
        let now = nanos(self.clock.now());
        let mut span = rule.span(org.registry().counted_until(limit, now));
        let issued = issued(&limit.scope);
        let query = |span: Span| {
            let start = (span.start != i64::MIN).then(|| instant(span.start));
            UsedQuery {
                scope: limit.scope.clone(),
                event: limit.event.clone(),
                since: start.max(issued),
                until: (span.end != i64::MAX).then(|| instant(span.end)),
            }
        };
        if let Some(until) = query(span).until {
            let later = UsedQuery {
                since: Some(until).max(issued),
                until: None,
                ..query(span)
            };
            if let Some(latest) = self.store.latest(org.id, later).await? {
                span = rule.span(nanos(latest));
            }
        }
        Ok((span, self.used(org.id, query(span)).await?))
    }

    /// Adds up what the ledger says.
    async fn used(&self, org: OrgId, query: UsedQuery) -> Result<Used, MeteringError> {
        let mut used = Used::default();
        for priced in self.store.used(org, query).await? {
            let price = self.own(&priced.unit_price)?;
            let cost = price
                .times(priced.units)
                .map_or(i128::MAX, Amount::billionths);
            used.add(cost, i128::from(priced.units));
        }
        Ok(used)
    }

    fn counts_in(&self, measure: Measure) -> Result<(), MeteringError> {
        match measure {
            Measure::Money(currency) if currency != self.prices.currency() => Err(invalid(
                "limit",
                &format!("the ledger counts in {}", self.prices.currency()),
            )),
            Measure::Money(_) | Measure::Units => Ok(()),
        }
    }
}

/// How far below the instant that a link was made at something may be dated that was
/// done under it. The oracle takes no record of a clock that stepped back by more than
/// seconds, and nothing is done without a record.
const STEPPED_BACK: Duration = Duration::from_secs(60 * 60);

/// Before when nothing of this scope can have been counted. The ledger of an organization
/// is long, and an agent that may set limits on a link it made yesterday has no
/// business to have all of it read. An id begins with the time it was made at.
fn issued(scope: &Scope) -> Option<Timestamp> {
    let Scope::Delegation { link, .. } = scope else {
        return None;
    };
    let (seconds, _) = link.uuid().get_timestamp()?.to_unix();
    let made = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    made.checked_sub(STEPPED_BACK).ok()
}

/// What is left, for people and the wire.
pub(crate) fn balance(
    limit: creto_types::Quantity,
    measure: Measure,
    count: Count,
) -> Option<Balance> {
    let (_, most) = Measure::of(&limit)?;
    let left = most.saturating_sub(count.taken).max(0);
    Some(Balance {
        limit,
        used: measure.quantity(count.used)?,
        reserved: measure.quantity(count.taken.saturating_sub(count.used).max(0))?,
        remaining: measure.quantity(left)?,
        resets_at: (count.span.end != i64::MAX).then(|| instant(count.span.end)),
    })
}
