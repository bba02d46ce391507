//! The crate from outside: known answers, what must fail, and what is on disk.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod composite;
mod properties;
mod provider;
mod root_key;

use std::sync::Arc;

use creto_crypto::AwsLcProvider;
use creto_types::{SeededRandom, SystemRandom};

fn provider() -> AwsLcProvider {
    AwsLcProvider::new(Arc::new(SystemRandom))
}

fn seeded(seed: u64) -> AwsLcProvider {
    AwsLcProvider::new(Arc::new(SeededRandom::new(seed)))
}
