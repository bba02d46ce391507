//! Limits and rates as callers set and see them.

use std::num::NonZeroU32;

use creto_metering::{
    Limit, LimitView, OnExceed, RateLimit, RatePeriod, RateRule, RateScope, Scope, Window,
};
use creto_types::{LeafIndex, PrincipalName, Quantity, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BalanceAnswer, GovernError};

/// What a limit is set on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitSubject {
    /// Everything in the organization.
    Organization,
    /// One principal, by name, whatever delegations it acts under.
    Agent(PrincipalName),
    /// One delegation, by id, and all below it.
    Delegation(String),
}

/// When a limit starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WindowName {
    /// At each full hour.
    Hourly,
    /// At the start of each day.
    Daily,
    /// With each month.
    Monthly,
    /// Never.
    Total,
}

/// What happens to a call that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExceedName {
    /// It is refused.
    #[default]
    Block,
    /// It is granted and marked as overage.
    AllowWithOverage,
    /// It is granted and marked as overage; the limit is there for its thresholds.
    NotifyOnly,
}

/// A limit to set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    /// What it is set on.
    pub scope: LimitSubject,
    /// Only this action counts; every action when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The most in one window.
    pub limit: Quantity,
    /// When it starts anew.
    pub window: WindowName,
    /// The IANA time zone of the window; `UTC` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What happens to a call that does not fit; `block` when absent.
    #[serde(default)]
    pub on_exceed: OnExceedName,
    /// With `block`: how much is still granted above the limit, marked as overage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Quantity>,
    /// Percents that are notified when they are reached; 80 and 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Vec<u8>>,
}

/// A limit in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitAnswer {
    /// The limit; the same when it is set anew.
    pub id: String,
    /// What it is set on.
    pub scope: LimitSubject,
    /// The one action it counts; absent when it counts all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event: Option<String>,
    /// The most in one window.
    pub limit: Quantity,
    /// When it starts anew.
    pub window: WindowName,
    /// The IANA time zone of the window.
    pub time_zone: String,
    /// What happens to a call that does not fit.
    pub on_exceed: OnExceedName,
    /// How much is still granted above the limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grace: Option<Quantity>,
    /// Percents that are notified.
    pub thresholds: Vec<u8>,
    /// When it was set last.
    pub set_at: Timestamp,
    /// By whom.
    pub set_by: PrincipalName,
    /// What is left in the present window; in lists.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub balance: Option<BalanceAnswer>,
    /// What is probably not meant: no schema in force declares the action.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub warning: Option<String>,
    /// Where it lies in the log that it was set.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// Whose calls a rate is set on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateSubject {
    /// All calls of the organization together.
    Organization,
    /// Each principal's own calls, unless a rate of its name is set.
    EveryAgent,
    /// One principal's calls, by name.
    Agent(PrincipalName),
}

/// A rate to set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateRequest {
    /// Whose calls.
    pub scope: RateSubject,
    /// Only calls of this action count; every call when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Calls a second in the long run. One of this, `per_minute` and `per_hour` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<NonZeroU32>,
    /// Calls a minute in the long run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<NonZeroU32>,
    /// Calls an hour in the long run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<NonZeroU32>,
    /// Calls that may come at once after a pause: 1 to 1073741823.
    #[schemars(range(min = 1, max = 1_073_741_823))]
    pub burst: NonZeroU32,
}

impl RateRequest {
    /// Of every action, so many a second.
    #[must_use]
    pub const fn per_second(scope: RateSubject, calls: NonZeroU32, burst: NonZeroU32) -> Self {
        Self {
            scope,
            event: None,
            per_second: Some(calls),
            per_minute: None,
            per_hour: None,
            burst,
        }
    }

    pub(super) fn rate(&self) -> Result<RateLimit, GovernError> {
        let calls = [self.per_second, self.per_minute, self.per_hour];
        let Some((calls, period)) = RatePeriod::only(calls) else {
            return Err(GovernError::invalid(
                "per_second",
                "one of `per_second`, `per_minute` and `per_hour` is expected",
            ));
        };
        if self.burst.get() > RateLimit::MOST_BURST {
            return Err(GovernError::invalid(
                "burst",
                format!("1 to {} is expected", RateLimit::MOST_BURST),
            ));
        }
        Ok(RateLimit::new(calls, period, self.burst))
    }
}

/// A rate in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RateAnswer {
    /// The rate; the same when it is set anew.
    pub id: String,
    /// Whose calls.
    pub scope: RateSubject,
    /// The one action it counts; absent when it counts all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event: Option<String>,
    /// Calls a second in the long run. One of this, `per_minute` and `per_hour` is there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub per_second: Option<u32>,
    /// Calls a minute in the long run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub per_minute: Option<u32>,
    /// Calls an hour in the long run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub per_hour: Option<u32>,
    /// Calls that may come at once after a pause.
    pub burst: u32,
    /// When it was set last.
    pub set_at: Timestamp,
    /// By whom.
    pub set_by: PrincipalName,
    /// What is probably not meant: no schema in force declares the action.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub warning: Option<String>,
    /// Where it lies in the log that it was set.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// A limit or a rate was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovalAnswer {
    /// Which.
    pub id: String,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl From<WindowName> for Window {
    fn from(name: WindowName) -> Self {
        match name {
            WindowName::Hourly => Self::Hourly,
            WindowName::Daily => Self::Daily,
            WindowName::Monthly => Self::Monthly,
            WindowName::Total => Self::Total,
        }
    }
}

impl From<Window> for WindowName {
    fn from(window: Window) -> Self {
        match window {
            Window::Hourly => Self::Hourly,
            Window::Daily => Self::Daily,
            Window::Monthly => Self::Monthly,
            Window::Total => Self::Total,
        }
    }
}

impl From<OnExceedName> for OnExceed {
    fn from(name: OnExceedName) -> Self {
        match name {
            OnExceedName::Block => Self::Block,
            OnExceedName::AllowWithOverage => Self::AllowWithOverage,
            OnExceedName::NotifyOnly => Self::NotifyOnly,
        }
    }
}

impl From<OnExceed> for OnExceedName {
    fn from(action: OnExceed) -> Self {
        match action {
            OnExceed::Block => Self::Block,
            OnExceed::AllowWithOverage => Self::AllowWithOverage,
            OnExceed::NotifyOnly => Self::NotifyOnly,
        }
    }
}

pub(super) fn limit_answer(limit: &Limit) -> LimitAnswer {
    LimitAnswer {
        id: limit.id.to_string(),
        scope: match &limit.scope {
            Scope::Organization => LimitSubject::Organization,
            Scope::Agent(name) => LimitSubject::Agent(name.clone()),
            Scope::Delegation { link, .. } => LimitSubject::Delegation(link.to_string()),
        },
        event: limit.event.clone(),
        limit: limit.limit,
        window: limit.window.into(),
        time_zone: limit.time_zone.clone(),
        on_exceed: limit.on_exceed.into(),
        grace: limit.grace,
        thresholds: limit.thresholds.clone(),
        set_at: limit.set_at,
        set_by: limit.set_by.clone(),
        balance: None,
        warning: None,
        leaf: None,
    }
}

pub(super) fn view_answer(view: LimitView) -> LimitAnswer {
    LimitAnswer {
        balance: Some(view.balance.into()),
        ..limit_answer(&view.limit)
    }
}

pub(super) fn rate_answer(rule: &RateRule) -> RateAnswer {
    let of = |period| (rule.rate.period() == period).then(|| rule.rate.calls().get());
    RateAnswer {
        id: rule.id.to_string(),
        scope: match &rule.scope {
            RateScope::Organization => RateSubject::Organization,
            RateScope::EveryAgent => RateSubject::EveryAgent,
            RateScope::Agent(name) => RateSubject::Agent(name.clone()),
        },
        event: rule.event.clone(),
        per_second: of(RatePeriod::Second),
        per_minute: of(RatePeriod::Minute),
        per_hour: of(RatePeriod::Hour),
        burst: rule.rate.burst().get(),
        set_at: rule.set_at,
        set_by: rule.set_by.clone(),
        warning: None,
        leaf: None,
    }
}
