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
//! - **A wrong clock leaves nothing behind.** A step ahead of more than
//!   `max_forward_step` is refused as loudly ([`OracleError::ClockSteppedForward`]) and
//!   raises no bound: when the clock is put right the oracle goes on at once.
//! - **Nor does a clock that is wrong at the start**, as far as that can be known: one that
//!   is ahead of everything recorded by more than nothing can have run is refused
//!   ([`OracleError::ClockAhead`]).
//! - **One order of commits.** [`Sequencer::order`] gives each event its place in the
//!   transaction that makes it durable, without gaps, and refuses whoever holds an
//!   earlier [`Epoch`].
//! - **No I/O on the fast path**: one durable write per window of time.
//!
//! What it is not: a consensus protocol. [`LocalOracle`] orders the events of
//! one process, and others through it over gRPC; a [`WindowStore`] shared by two
//! processes at a time is not supported, which its backends prevent by owning their
//! file, and by the epoch where owning it fails.

#[cfg(feature = "test-util")]
pub mod conformance;
mod error;
mod local;
#[cfg(feature = "test-util")]
pub mod memory;
mod order;
mod ports;
mod timestamp;

pub use creto_types::HybridTimestamp;
pub use error::OracleError;
pub use local::{LocalOracle, OracleConfig, keep_time};
pub use order::{Epoch, Sequenced};
pub use ports::{Sequencer, TimestampOracle, TimestampOracleExt, WindowStore};
pub use timestamp::TimestampRange;
