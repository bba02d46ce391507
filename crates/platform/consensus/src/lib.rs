//! Timestamps that order everything: a hybrid of wall time and a counter, each
//! greater than every one handed out before.
//!
//! What this crate promises:
//!
//! - **Strictly increasing**, across concurrent callers, restarts, kills and
//!   steps of the wall clock. A bound is made durable *before* any timestamp
//!   below it is handed out ([`WindowStore`]), and a process starts above the
//!   bound of the one before it.
//! - **Close to wall time.** The wall part follows the clock. When the clock
//!   steps back a little the oracle stays where it is and counts on; when it
//!   steps back further than `max_backward_step` the oracle refuses loudly
//!   ([`OracleError::ClockStepped`]), because timestamps would then be far from
//!   any wall time.
//! - **No I/O on the fast path**: one durable write per window of time.
//!
//! What it is not: a consensus protocol. [`LocalOracle`] orders the events of
//! one process; a [`WindowStore`] shared by two processes at a time is not
//! supported, which its backends prevent by owning their file.

#[cfg(feature = "test-util")]
pub mod conformance;
mod error;
mod local;
#[cfg(feature = "test-util")]
pub mod memory;
mod ports;
mod timestamp;

pub use error::OracleError;
pub use local::{LocalOracle, OracleConfig};
pub use ports::{TimestampOracle, TimestampOracleExt, WindowStore};
pub use timestamp::{HybridTimestamp, TimestampRange};
