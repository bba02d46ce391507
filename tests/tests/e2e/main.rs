//! The real program from outside: started, called, killed, and called again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod access;
mod algorithms;
mod authzen;
mod budget;
mod clock;
mod delegation;
mod demo;
mod dpop;
mod erasure;
mod evidence;
mod exports;
mod expulsion;
mod full_disk;
mod grpc;
mod harness;
mod https;
mod limits;
mod log_keys;
mod narrowed;
mod people;
mod policies;
mod policy_eval;
mod prekeys;
mod principal_keys;
mod restart;
mod retention;
mod revocation;
mod rotation;
mod search;
mod secrets;
mod signing;
mod start;
mod suspension;
mod sweep;
mod tokens;
mod transparency;
mod watching;
mod withheld;
