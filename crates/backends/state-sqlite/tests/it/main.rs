//! The database as its ports see it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod database;
mod nhi;
mod oversight;
