//! The database as its ports see it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod algorithms;
mod audit;
mod consensus;
mod crash;
mod database;
mod erasure;
mod governor;
mod keystore;
mod metering;
mod nhi;
mod oversight;
mod payloads;
mod retention;
mod search;

/// Changes a database that nobody has open, as a broken or hostile machine would.
pub(crate) fn sqlite(path: &std::path::Path, statements: &str) {
    let raw = rusqlite::Connection::open(path).unwrap();
    raw.execute_batch(statements).unwrap();
}
