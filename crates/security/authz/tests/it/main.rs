//! The decision point as its callers see it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod checks;
mod depth;
mod explain;
mod loading;
mod memory;
mod oversight;
mod properties;
mod rights;
mod slices;
mod templates;
mod world;
