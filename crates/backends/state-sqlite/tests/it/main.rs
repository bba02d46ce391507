//! The database as its ports see it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod audit;
mod consensus;
mod crash;
mod database;
mod governor;
mod metering;
mod nhi;
mod oversight;
