//! The crate from outside: known answers, what must fail, and what is on disk.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod acvp;
mod composite;
mod hashes;
mod keystore;
mod properties;
mod provider;
mod root_key;
mod wycheproof;
mod xwing;

use std::sync::{Arc, Mutex};

use creto_crypto::AwsLcProvider;
use creto_types::{Randomness, SeededRandom, SystemRandom};

fn provider() -> AwsLcProvider {
    AwsLcProvider::new(Arc::new(SystemRandom))
}

fn seeded(seed: u64) -> AwsLcProvider {
    AwsLcProvider::new(Arc::new(SeededRandom::new(seed)))
}

/// Gives out these bytes, and no more than there are.
struct Fixed(Mutex<Vec<u8>>);

impl Fixed {
    fn new(bytes: &[u8]) -> Self {
        Self(Mutex::new(bytes.to_vec()))
    }
}

impl Randomness for Fixed {
    fn fill(&self, buffer: &mut [u8]) {
        let mut left = self.0.lock().unwrap();
        let rest = left.split_off(buffer.len());
        buffer.copy_from_slice(&left);
        *left = rest;
    }
}
