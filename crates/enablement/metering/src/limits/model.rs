//! Limits and rates as their owners set them.

use creto_nhi::LinkId;
use creto_types::{Id, IdKind, OrgId, PrincipalName, Quantity, Timestamp};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::rule::Measure;
use crate::amount::{Amount, SCALE};
use crate::error::MeteringError;
use crate::rate::RateLimit;

/// The most limits on one subject: an agent, a link or the organization. Each of
/// them is looked at in every decision about that subject.
pub const MAX_LIMITS: usize = 64;

/// The most rates of one organization: each is looked at when a principal is bound.
pub const MAX_RATES: usize = 1_024;

/// The most thresholds of one limit.
pub const MAX_THRESHOLDS: usize = 8;

/// What a limit notifies at, in percent, unless it says otherwise.
pub const DEFAULT_THRESHOLDS: [u8; 2] = [80, 100];

/// The most bytes of an event type's name.
const MAX_EVENT_BYTES: usize = 512;

/// The kind of [`LimitId`].
#[derive(Debug)]
pub enum LimitKind {}

impl IdKind for LimitKind {
    const PREFIX: &'static str = "lim";
}

/// One limit that was set.
pub type LimitId = Id<LimitKind>;

/// The kind of [`RateId`].
#[derive(Debug)]
pub enum RateKind {}

impl IdKind for RateKind {
    const PREFIX: &'static str = "rat";
}

/// One rate that was set.
pub type RateId = Id<RateKind>;

/// Whose use a limit counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scope {
    /// Everything in the organization.
    Organization,
    /// What one principal does, whatever delegations it acts under.
    Agent(PrincipalName),
    /// What is done under one delegation link, by its holder and everyone below.
    Delegation {
        /// The link.
        link: LinkId,
        /// The first link of its chain.
        root: LinkId,
        /// Who was given it.
        holder: PrincipalName,
    },
}

/// When the count of a limit starts anew. Calendar periods of its time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// At each full hour of the zone's clocks.
    Hourly,
    /// At the start of each day.
    Daily,
    /// At the start of the first day of each month.
    Monthly,
    /// Never.
    Total,
}

impl Window {
    /// Every window, the longest first.
    pub const ALL: [Self; 4] = [Self::Total, Self::Monthly, Self::Daily, Self::Hourly];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Monthly => "monthly",
            Self::Total => "total",
        }
    }
}

/// What happens to a call that does not fit a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExceed {
    /// It is refused, once the grace is used up too.
    #[default]
    Block,
    /// It is granted, counted and marked as overage.
    AllowWithOverage,
    /// Grants what goes beyond the limit, which counts and is not marked: the thresholds
    /// are all that is wanted of it.
    NotifyOnly,
}

impl OnExceed {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::AllowWithOverage => "allow_with_overage",
            Self::NotifyOnly => "notify_only",
        }
    }
}

/// One limit. At most one is in force for a scope, event type, measure and window
/// ([`Limit::replaces`]); it may be set anew while it is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Its id; kept when it is set anew.
    pub id: LimitId,
    /// The organization.
    pub org: OrgId,
    /// Whose use counts.
    pub scope: Scope,
    /// Only actions of this name count; every action when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event: Option<String>,
    /// The most in one window.
    pub limit: Quantity,
    /// When the count starts anew.
    pub window: Window,
    /// The IANA time zone of its calendar.
    pub time_zone: String,
    /// What happens to a call that does not fit.
    pub on_exceed: OnExceed,
    /// With [`OnExceed::Block`]: how much is still granted above the limit, marked
    /// as overage.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grace: Option<Quantity>,
    /// Percents of the limit that are notified when they are reached.
    pub thresholds: Vec<u8>,
    /// When it was set last.
    pub set_at: Timestamp,
    /// By whom.
    pub set_by: PrincipalName,
}

impl Limit {
    /// Whether this takes the other's place: same scope, event type, measure and
    /// window.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        self.org == other.org
            && self.scope == other.scope
            && self.event == other.event
            && self.window == other.window
            && is_money(&self.limit) == is_money(&other.limit)
    }

    /// Checks what can be checked of the limit alone.
    pub(crate) fn validate(&self) -> Result<(), MeteringError> {
        if let Some(event) = &self.event {
            event_name(event)?;
        }
        if TimeZone::get(&self.time_zone).is_err() {
            return Err(invalid(
                "time_zone",
                "an IANA time zone such as `Europe/Berlin` or `UTC` is expected",
            ));
        }
        if let Some(grace) = &self.grace {
            if self.on_exceed != OnExceed::Block {
                return Err(invalid(
                    "grace",
                    "a grace belongs to `block`; nothing is refused otherwise",
                ));
            }
            if !grace.is_like(&self.limit) {
                return Err(invalid("grace", "of the limit's measure is expected"));
            }
        }
        for (field, quantity) in [("limit", Some(&self.limit)), ("grace", self.grace.as_ref())] {
            let Some(money) = quantity.and_then(Quantity::money) else {
                continue;
            };
            if money.is_negative() {
                return Err(invalid(field, "not below zero is expected"));
            }
            // The counter would stand for less than what is on record.
            if Amount::exact(&money).is_none() {
                let message = format!("at most {SCALE} decimal places are expected");
                return Err(invalid(field, &message));
            }
        }
        let rising = self
            .thresholds
            .iter()
            .zip(self.thresholds.iter().skip(1))
            .all(|(one, next)| one < next);
        let percents = self.thresholds.iter().all(|at| (1..=200).contains(at));
        if !rising || !percents || self.thresholds.len() > MAX_THRESHOLDS {
            return Err(invalid(
                "thresholds",
                "at most eight different percents from 1 to 200 are expected, in rising order",
            ));
        }
        if self.on_exceed == OnExceed::NotifyOnly && self.thresholds.iter().all(|at| *at < 100) {
            return Err(invalid(
                "thresholds",
                "a limit that only notifies needs one of 100 percent or more: it would be \
                 exceeded and nobody told",
            ));
        }
        Ok(())
    }
}

/// Whether this much is at least so many percent of a limit, as the limit's counter
/// judges it; `None` when they are of two measures.
#[must_use]
pub fn reaches(taken: &Quantity, percent: u8, most: &Quantity) -> Option<bool> {
    let (measure, taken) = Measure::of(taken)?;
    let (of_limit, most) = Measure::of(most)?;
    (measure == of_limit).then(|| is_part_reached(taken, percent, most))
}

/// The same of what a counter counts.
pub(crate) fn is_part_reached(taken: i128, percent: u8, most: i128) -> bool {
    most.saturating_mul(i128::from(percent)) <= taken.saturating_mul(100)
}

pub(crate) const fn is_money(quantity: &Quantity) -> bool {
    matches!(quantity, Quantity::Money(_))
}

fn event_name(event: &str) -> Result<(), MeteringError> {
    let printable = event.chars().all(|c| !c.is_control());
    if event.is_empty() || event.len() > MAX_EVENT_BYTES || !printable {
        return Err(invalid(
            "event",
            "the name of an action: 1 to 512 bytes without control characters",
        ));
    }
    Ok(())
}

pub(crate) fn invalid(field: &'static str, message: &str) -> MeteringError {
    MeteringError::LimitInvalid {
        field,
        message: message.to_owned(),
    }
}

/// A limit and how much of it is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitView {
    /// The limit.
    pub limit: Limit,
    /// What is left in its present window.
    pub balance: crate::Balance,
}

/// Whose calls a rate counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RateScope {
    /// All calls of the organization together.
    Organization,
    /// Each principal's own, unless a rate of its name is set.
    EveryAgent,
    /// One principal's.
    Agent(PrincipalName),
}

/// One rate. At most one is in force for a scope and event type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateRule {
    /// Its id; kept when it is set anew.
    pub id: RateId,
    /// The organization.
    pub org: OrgId,
    /// Whose calls count.
    pub scope: RateScope,
    /// Only calls of this action count; every call when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event: Option<String>,
    /// How many.
    pub rate: RateLimit,
    /// When it was set last.
    pub set_at: Timestamp,
    /// By whom.
    pub set_by: PrincipalName,
}

impl RateRule {
    /// Whether this takes the other's place.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        self.org == other.org && self.scope == other.scope && self.event == other.event
    }

    pub(crate) fn validate(&self) -> Result<(), MeteringError> {
        self.event.as_deref().map_or(Ok(()), event_name)
    }
}

/// Which limit a notification is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LimitRef {
    /// One that was set.
    Set(LimitId),
    /// The budget signed into a delegation link.
    Budget(LinkId),
}

impl std::fmt::Display for LimitRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set(id) => id.fmt(f),
            Self::Budget(link) => link.fmt(f),
        }
    }
}

/// A limit reached one of its thresholds; to be recorded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// The organization.
    pub org: OrgId,
    /// Which limit.
    pub limit: LimitRef,
    /// Whose use it counts.
    pub scope: creto_authz::LimitScope,
    /// The event type it counts.
    pub event: Option<String>,
    /// The threshold, in percent.
    pub threshold: u8,
    /// The start of the window; `None` for a total, which has one window alone.
    pub window_start: Option<Timestamp>,
    /// The limit.
    pub most: Quantity,
    /// What is used or durably reserved.
    pub taken: Quantity,
    /// Who caused it, when it was one action.
    pub agent: Option<PrincipalName>,
}

/// What makes a notification the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NoticeKey {
    /// The organization.
    pub org: OrgId,
    /// Which limit.
    pub limit: LimitRef,
    /// The start of the window.
    pub window_start: Option<Timestamp>,
    /// The amount of the limit: set to another one, it is notified anew.
    pub most: Quantity,
    /// The threshold, in percent.
    pub threshold: u8,
}

impl Crossing {
    /// What makes it the same one.
    #[must_use]
    pub fn key(&self) -> NoticeKey {
        NoticeKey {
            org: self.org,
            limit: self.limit.clone(),
            window_start: self.window_start,
            most: self.most,
            threshold: self.threshold,
        }
    }
}
