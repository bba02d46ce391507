//! Limits and rates: what they are, the counters behind them, and setting them.

mod cell;
mod history;
mod model;
mod pacer;
mod plan;
mod recover;
mod registry;
mod rule;
mod service;
mod subjects;
mod window;

pub use model::{
    Crossing, DEFAULT_THRESHOLDS, Limit, LimitId, LimitKind, LimitRef, LimitView, MAX_LIMITS,
    MAX_RATES, MAX_THRESHOLDS, NoticeKey, OnExceed, RateId, RateKind, RateRule, RateScope, Scope,
    Window,
};

pub(crate) use plan::{Plan, plan_of};
pub(crate) use registry::{Open, Org, Registry, Use};
pub(crate) use rule::Rule;
pub(crate) use service::balance;
pub(crate) use window::{instant, nanos};
