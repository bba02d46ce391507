//! Transparency logs as public formats: nothing here knows Creto.
//!
//! What it promises:
//!
//! - **The tree** of RFC 6962, section 2: leaf and node hashing, roots,
//!   inclusion and consistency proofs, made ([`ProofPlan`]) and verified
//!   ([`verify_inclusion`], [`verify_consistency`], after RFC 9162, section 2.1).
//! - **Tiles** of C2SP tlog-tiles: paths ([`Resource`]), hash tiles and entry
//!   bundles, full and partial; a tree grows by [`Frontier`], which emits them.
//! - **Checkpoints** of C2SP tlog-checkpoint inside C2SP signed-note
//!   ([`Checkpoint`], [`Note`], [`NoteKey`]), and C2SP tlog-proof
//!   ([`InclusionProof`]).
//! - **Cosignatures** of C2SP tlog-cosignature, with Ed25519 and with ML-DSA-44
//!   ([`Cosignature`]), and what C2SP tlog-witness sends for one
//!   ([`AddCheckpoint`]).
//!
//! Every parser is strict: what it accepts encodes back to the same bytes.
//!
//! What it is not: there is no I/O, no clock and no cryptography. Hashing
//! arrives as a function ([`Hasher::new`]), signatures as bytes that the caller
//! made or verifies; so one crate serves a log, a witness and an offline
//! verifier, and none of them links a provider it does not want.

mod checkpoint;
mod cosignature;
mod entries;
mod error;
mod frontier;
mod hash;
mod note;
mod proof;
mod tile;
mod tree;

pub use checkpoint::{Checkpoint, InclusionProof};
pub use cosignature::{AddCheckpoint, Cosignature, CosignatureType};
pub use entries::{Entries, MAX_ENTRY_LEN, encode_entries, parse_entries};
pub use error::{CheckpointError, EntryError, NoteError, ProofError, ResourceError, TileError};
pub use frontier::Frontier;
pub use hash::{Hash, Hasher};
pub use note::{Note, NoteKey, NoteKeyMaterial, NoteSignature};
pub use proof::{verify_consistency, verify_inclusion};
pub use tile::{Resource, TILE_WIDTH, Tile, TileSet};
pub use tree::{Node, ProofPlan};
