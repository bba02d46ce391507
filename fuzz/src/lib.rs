//! What the targets check is shared with the test that replays the corpus.

#[path = "../../tests/tests/decoders/targets.rs"]
mod targets;

pub use targets::{authzen, eval, policy, proof, request};
