//! The interface as its callers see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod access;
mod access_requests;
mod api;
mod authzen;
mod description;
mod dpop;
mod exchange;
mod export;
mod log;
mod pages;
mod problems;
mod world;
