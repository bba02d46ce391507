//! The backend against the real thing: runsc, namespaces, cgroups.
//!
//! These need root and what `scripts/setup.sh` installs, and fail without it. A
//! machine that cannot run sandboxes says so with `CRETO_SKIP_SANDBOX_TESTS=1`.

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

mod doctor;
mod egress;
mod leftovers;
mod life;
mod limits;
mod resolve;
mod world;
