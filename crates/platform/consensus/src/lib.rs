//! When: timestamps that order everything.
//!
//! A [`TimestampOracle`] gives out [`HybridTimestamp`]s (46 bits of milliseconds,
//! 18 bits of counter) and promises that they strictly increase: over all callers
//! of the process, over restarts and kills, and over steps of the wall clock. A
//! step back within the tolerance is bridged by the counter; a larger one is
//! refused loudly.
//!
//! [`LocalOracle`] does this without I/O per timestamp: it stores an upper bound
//! *before* it gives out anything below it, and after a restart goes on at the
//! bound. What it is not: a consensus protocol between machines.

mod oracle;
mod ports;
mod timestamp;

pub use oracle::{
    LocalOracle, OracleConfig, OracleError, TimestampOracle, TimestampOracleExt, TimestampRange,
};
pub use ports::WindowStore;
pub use timestamp::HybridTimestamp;
