//! The embedded state engine: SQLite behind the state ports.
//!
//! One writer thread runs every change of every port inside one transaction at a
//! time and commits them in groups (WAL, `synchronous=FULL`): a call returns
//! only after its group is on disk, so what was acknowledged survives a kill and
//! a power cut. Each change runs in its own savepoint; one that fails takes
//! nothing else with it. Reads run beside it on a small pool of read-only
//! connections and see every change that was acknowledged before they started.
//!
//! One process owns a database file at a time ([`Database::open`] takes a lock).

mod audit;
mod consensus;
mod database;
mod governor;
mod keys;
mod metering;
mod nhi;
mod oversight;
mod policies;
mod pool;
mod replies;
mod secrets;
mod writer;

pub use audit::SqliteJournal;
pub use consensus::SqliteWindow;
pub use database::Database;
pub use governor::SqliteGovernor;
pub use metering::SqliteLedger;
pub use nhi::SqliteNhi;
pub use oversight::SqliteOversight;
pub use replies::SqliteReplies;
