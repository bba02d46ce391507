//! The crate against published vectors and against RFC 6962 written down
//! naively.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod cosignatures;
mod formats;
mod growth;
mod naive;
mod proofs;
mod vectors;

use creto_tlog::{Hash, Hasher};

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap()
}

pub(crate) const HASHER: Hasher = Hasher::new(sha256);

pub(crate) fn hash(hex_text: &str) -> Hash {
    Hash::from_bytes(hex::decode(hex_text).unwrap().try_into().unwrap())
}

/// Leaf hashes of the entries 0, 1, 2, ...
pub(crate) fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|n| HASHER.leaf(&n.to_be_bytes())).collect()
}
