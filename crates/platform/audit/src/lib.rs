//! The audit log: what was done, in an order nobody can change afterwards, in a
//! form that a stranger checks offline.
//!
//! What this crate promises:
//!
//! - **The journal is the truth.** Records get their place in the transaction
//!   that makes them durable ([`Journal`]). The tree, its tiles and checkpoints
//!   follow from it, in the background, and can be made from it again.
//! - **Two classes.** *Evidence* is durable before its effect: it reaches the
//!   journal in the transaction of the change it describes, and the log is told
//!   with [`Audit::notify`]. *Trace* ([`Audit::trace`]) is batched and bounded;
//!   it slows its producer and refuses, and is never dropped silently.
//! - **Leaves commit, payloads are sealed.** A leaf says when something of a kind was
//!   recorded, about whose pseudonym, and commits to the rest with a salt. The rest lies
//!   beside it under the key of that subject ([`Sealer`]). Whoever destroys the key has
//!   erased it, and every proof holds as before. [`StoredRecord::read`] is the one way
//!   from a leaf to its record.
//! - **A checkpoint never contradicts an earlier one.** Everything it covers is
//!   durable before it, and a log whose journal no longer leads to the root that
//!   was signed is refused when it is opened. Opening reads the whole journal
//!   once, for that reason.
//! - **Public formats.** Files are those of C2SP tlog-tiles; checkpoints are
//!   C2SP signed notes with an Ed25519 line and one of ML-DSA-65, composite or alone;
//!   proofs are C2SP tlog-proof.
//! - **Keys may be replaced** ([`Audit::rekey`]) while the log is used. The pair that signed
//!   before signs besides until it is retired, so that who knows the one or the other can
//!   check every checkpoint meanwhile.
//! - **Evidence bundles** ([`Audit::export`], [`verify_bundle`]) leave no byte
//!   free: one that is changed, added or removed anywhere is found and named.
//!
//! - **Witnesses** are asked to cosign what is published ([`Audit::ask_witnesses`]);
//!   the log never waits for them. [`Witness`] is the other side: it cosigns a log
//!   only as the continuation of what it cosigned, and remembers before it signs.
//! - **Proofs** ([`Audit::prove`], [`Audit::consistency`]) stand alone: [`check_proof`]
//!   takes a file and public keys.
//! - **Search** ([`Audit::search`]) finds records by what they say, in an index that
//!   follows the journal and can be made from it again.
//! - **A monitor** ([`Monitor`]) follows a log it is not part of, and tells a fork
//!   from a log that cannot be reached. A watch ([`Watch`]) is one that looks again and
//!   again, and counts for how long something that should come has not.
//!
//! What it is not: a network. Who carries requests to witnesses and files to a
//! monitor is behind ports.
//!
//! Formats are described in `docs/formats/log.md` and
//! `docs/formats/evidence-bundle.md`.

/// The kind of the record that a subject was erased; its body names the `subject`.
pub const SUBJECT_ERASED: &str = "subject.erased";

/// The kind of the record that payloads were destroyed because they were kept long enough:
/// those of a `class`, up to and with the leaf `through`.
pub const PAYLOADS_EXPIRED: &str = "payloads.expired";

mod bundle;
#[cfg(feature = "test-util")]
pub mod conformance;
mod cosign;
mod error;
mod head;
mod log;
#[cfg(feature = "test-util")]
pub mod memory;
mod monitor;
#[cfg(feature = "test-util")]
mod noting;
mod payload;
mod ports;
mod proven;
mod record;
mod resolve;
mod seal;
mod search;
mod service;
mod signing;
mod trace;
mod tree;
mod verifier;
mod watch;
mod witness;
mod witness_key;

pub use bundle::{
    ARCHIVE_END, ArchiveError, AttachmentCheck, BundleArchive, BundleFile, BundleReader,
    DirectoryBundle, Export, Finding, LeafCheck, Trust, Unread, VerifyReport, entry_header,
    entry_padding, is_kept, is_reason, verify_bundle,
};
pub use cosign::{AskedWitness, WitnessAnswer, WitnessClient};
pub use error::{AuditError, LeafError, RecordFault};
pub use head::Checkpointed;
pub use monitor::{Alarm, AlarmKind, LogReader, Monitor, Observation, Seen, Unproven, WatchError};
#[cfg(feature = "test-util")]
pub use noting::NotingKeystore;
pub use payload::{Commitment, Content, Opening, Record, StoredRecord, UnknownWithheld, Withheld};
pub use ports::{Attachments, FormerLogKeys, Journal, LogKeySource, LogKeys, TileStore};
pub use proven::{Proven, UnprovenError, check_proof};
pub use record::{LeafForm, RecordClass, SealedHead, UnknownClass, leaf_bytes, sealed_leaf_bytes};
pub use seal::{NewSubject, Sealer, SubjectKey, sealed_by, unparsed, unreadable};
#[cfg(feature = "test-util")]
pub use search::index_all;
// What a store is asked for, and asks.
pub use creto_crypto::{AeadAlgorithm, AlgorithmsInUse, Allowed, AllowedAlgorithms, InForce};
pub use creto_tlog::CosignatureType;
pub use search::{
    Found, IndexKey, IndexKeys, MAX_VALUE_BYTES, SearchField, SearchIndex, SearchPage, SearchQuery,
    SearchTag, SearchTerm, TAG_BYTES, intersect,
};
pub use service::{Audit, AuditConfig, ConsistencyProof, LeafProof};
pub use verifier::{BadSignature, NoteVerifier, VerifierError};
pub use watch::{Cosigners, Looked, Memory, Patience, QuorumError, Steady, Watch};
pub use witness::{Witness, WitnessError, WitnessStore};
pub use witness_key::{WitnessKey, WitnessKeyError};
