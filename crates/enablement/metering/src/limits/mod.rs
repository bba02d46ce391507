//! Limits and rates: what they are, the counters behind them, and setting them.

mod account;
mod cell;
mod chains;
mod found;
mod history;
mod model;
mod open;
mod pacer;
mod parts;
mod plan;
mod rates;
mod recover;
mod registry;
mod rule;
mod service;
mod subjects;
mod tree;
mod window;

pub use model::{
    Crossing, DEFAULT_THRESHOLDS, Limit, LimitId, LimitKind, LimitRef, LimitView, MAX_LIMITS,
    MAX_RATES, MAX_THRESHOLDS, NoticeKey, OnExceed, RateId, RateKind, RateRule, RateScope, Scope,
    Window, reaches,
};

pub use open::OpenBounds;

pub(crate) use account::plan_of;
pub(crate) use open::{Open, Use};
pub(crate) use plan::Plan;
pub(crate) use registry::{Org, Registry, whose};
pub(crate) use rule::Rule;
pub(crate) use service::balance;
pub(crate) use window::{instant, nanos};
