//! The embedded state engine: SQLite behind the state ports.
//!
//! One writer thread runs every change of every port inside one transaction at a
//! time and commits them in groups (WAL, `synchronous=FULL`): a call returns
//! only after its group is on disk, so what was acknowledged survives a kill and
//! a power cut. Each change runs in its own savepoint; one that fails takes
//! nothing else with it. Plain appends to the journal are made on their callers' side as
//! far as they can be, and only put in their places by the writer. Reads run beside it on a small pool of read-only
//! connections and see every change that was acknowledged before they started.
//!
//! One process owns a database file at a time ([`Database::open`] takes a lock). Each
//! opening takes an epoch, too: where the lock failed to keep a second process out, the
//! one that opened first is fenced off ([`creto_types::StoreError::Fenced`]).

mod algorithms;
mod audit;
mod checkpoint;
mod consensus;
mod database;
mod epoch;
mod erasure;
mod governor;
mod keys;
mod leaves;
mod leftovers;
mod load;
mod metering;
mod nhi;
mod oversight;
mod policies;
mod pool;
mod prekeys;
mod principal_keys;
mod principals;
mod replies;
mod reseal;
mod retention;
mod room;
mod search;
mod secrets;
mod subjects;
mod writer;

pub use audit::SqliteJournal;
pub use consensus::{SqliteSequencer, SqliteWindow};
pub use database::Database;
pub use erasure::SqliteSubjects;
pub use governor::SqliteGovernor;
pub use metering::SqliteLedger;
pub use nhi::SqliteNhi;
pub use oversight::SqliteOversight;
pub use replies::SqliteReplies;
pub use search::{SqliteIndex, SqliteIndexKeys};
pub use subjects::Change;
