//! Opening the file, bringing its schema up to date, and the two doors in:
//! [`Database::write`] and [`Database::read`].

use std::error::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use creto_types::{Commit, LeafIndex, Receipt, StoreError};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};

use crate::pool::ReadPool;
use crate::writer::Writer;

/// Every migration, oldest first. A released one never changes; its place in
/// this list is its version (`PRAGMA user_version`).
const MIGRATIONS: &[(&str, &str)] = &[
    (
        "0001_commits",
        include_str!("../migrations/0001_commits.sql"),
    ),
    ("0002_nhi", include_str!("../migrations/0002_nhi.sql")),
    (
        "0003_consensus",
        include_str!("../migrations/0003_consensus.sql"),
    ),
    (
        "0004_metering",
        include_str!("../migrations/0004_metering.sql"),
    ),
    (
        "0005_oversight",
        include_str!("../migrations/0005_oversight.sql"),
    ),
    (
        "0006_sandboxes",
        include_str!("../migrations/0006_sandboxes.sql"),
    ),
    (
        "0007_credentials",
        include_str!("../migrations/0007_credentials.sql"),
    ),
    ("0008_limits", include_str!("../migrations/0008_limits.sql")),
    (
        "0009_suspension",
        include_str!("../migrations/0009_suspension.sql"),
    ),
    (
        "0010_policies",
        include_str!("../migrations/0010_policies.sql"),
    ),
    (
        "0011_bundles",
        include_str!("../migrations/0011_bundles.sql"),
    ),
    (
        "0012_notices",
        include_str!("../migrations/0012_notices.sql"),
    ),
    (
        "0013_held_context",
        include_str!("../migrations/0013_held_context.sql"),
    ),
    (
        "0014_wrapping_keys",
        include_str!("../migrations/0014_wrapping_keys.sql"),
    ),
    (
        "0030_secrets",
        include_str!("../migrations/0030_secrets.sql"),
    ),
];

/// Enough for the few concurrent readers one machine has.
const READ_CONNECTIONS: usize = 4;

/// One open database file.
pub struct Database {
    writer: Writer,
    readers: ReadPool,
    /// Held for as long as the database is open: one owner per file.
    _lock: File,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    /// Opens or creates the file and brings its schema up to date.
    ///
    /// Fails when another process owns the file, when the file was written by a
    /// newer version, or when it cannot be read. Nothing is repaired silently.
    pub fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        let lock = lock_file(path)?;
        let mut connection = Connection::open(path).map_err(sql)?;
        restrict_to_owner(path)?;
        configure(&connection)?;
        migrate(&mut connection)?;
        let readers = ReadPool::new((0..READ_CONNECTIONS).map(|_| open_reader(path)))?;
        let writer = Writer::start(connection)?;
        Ok(Arc::new(Self {
            writer,
            readers,
            _lock: lock,
        }))
    }

    /// Runs a change on the writer thread and returns once it is on disk.
    ///
    /// A job that returns an error leaves no trace; only [`StoreError::Unavailable`]
    /// leaves open whether the change is on disk. When the returned future is dropped
    /// the change may still happen.
    pub async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.writer.submit(job).await
    }

    /// Runs a query on a read-only connection, away from the async threads.
    pub async fn read<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.readers.run(job).await
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn lock_file(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock_path(path))
        .map_err(unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
            what: "the database file",
        }),
        Err(TryLockError::Error(error)) => Err(unavailable(error)),
    }
}

/// The file holds wrapped keys and business data: nobody else reads it.
fn restrict_to_owner(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(unavailable)
}

fn configure(connection: &Connection) -> Result<(), StoreError> {
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF;",
        )
        .map_err(sql)
}

fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    connection
        .execute_batch("PRAGMA query_only = ON;")
        .map_err(sql)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(sql)?;
    let done = usize::try_from(version).map_err(|e| corrupt("schema version", e))?;
    if done > MIGRATIONS.len() {
        return Err(corrupt(
            "schema",
            format!(
                "schema version {done} is newer than this build's {}",
                MIGRATIONS.len()
            ),
        ));
    }
    for (index, (_, text)) in MIGRATIONS.iter().enumerate().skip(done) {
        let tx = connection.transaction().map_err(sql)?;
        tx.execute_batch(text).map_err(sql)?;
        let next = i64::try_from(index + 1).map_err(|e| corrupt("schema version", e))?;
        tx.pragma_update(None, "user_version", next).map_err(sql)?;
        tx.commit().map_err(sql)?;
    }
    Ok(())
}

/// Makes the commit's records part of the running transaction.
pub(crate) fn apply_commit(tx: &Transaction<'_>, commit: &Commit) -> Result<Receipt, StoreError> {
    if let Some(record) = &commit.idempotency {
        let stored = crate::replies::find(tx, record.org, record.caller.as_str(), &record.key)?;
        if let Some(reply) = stored {
            return Err(StoreError::Replayed(Box::new(reply)));
        }
    }
    for claim in &commit.claims {
        let added = tx
            .prepare_cached("INSERT OR IGNORE INTO claims (org, token) VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![claim.org.to_string(), claim.token]))
            .map_err(sql)?;
        if added == 0 {
            return Err(StoreError::AlreadyClaimed {
                token: claim.token.clone(),
            });
        }
    }
    let mut leaves = Vec::with_capacity(commit.evidence.len());
    for evidence in &commit.evidence {
        leaves.push(append_leaf(
            tx,
            creto_audit::RecordClass::Evidence,
            evidence,
        )?);
    }
    if let Some(record) = &commit.idempotency {
        crate::replies::insert(tx, record, &leaves)?;
    }
    Ok(Receipt { leaves })
}

/// Appends one record to its organization's log and returns its place.
pub(crate) fn append_leaf(
    tx: &Transaction<'_>,
    class: creto_audit::RecordClass,
    evidence: &creto_types::Evidence,
) -> Result<LeafIndex, StoreError> {
    let org = evidence.org.to_string();
    let last: Option<i64> = tx
        .prepare_cached("SELECT leaf FROM journal WHERE org = ?1 ORDER BY leaf DESC LIMIT 1")
        .and_then(|mut s| s.query_row([&org], |row| row.get(0)).optional())
        .map_err(sql)?;
    let next = last.map_or(0, |leaf| leaf.saturating_add(1));
    let leaf = LeafIndex(u64::try_from(next).map_err(|e| corrupt("leaf index", e))?);
    let bytes = creto_audit::leaf_bytes(leaf, class, evidence).map_err(|error| match error {
        creto_audit::LeafError::TooLong { len, limit } => StoreError::TooLarge {
            what: "evidence record",
            size: len,
            limit,
        },
        creto_audit::LeafError::Canonical(error) => corrupt("evidence", error),
    })?;
    tx.prepare_cached(
        "INSERT INTO journal (org, leaf, class, kind, at, actor, action_id, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .and_then(|mut s| {
        s.execute(params![
            org,
            next,
            class.as_str(),
            evidence.kind,
            evidence.at.to_string(),
            evidence.actor.as_str(),
            evidence.action_id.map(|id| id.to_string()),
            bytes,
        ])
    })
    .map_err(sql)?;
    Ok(leaf)
}

/// An engine error. Constraint violations that a port expects are recognised
/// before they get here.
pub(crate) fn sql(error: rusqlite::Error) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

pub(crate) fn unavailable(error: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

/// A change that leaves no trace.
pub(crate) fn not_done(error: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError::NotDone(Box::new(error))
}

pub(crate) fn corrupt(
    what: &'static str,
    error: impl Into<Box<dyn Error + Send + Sync>>,
) -> StoreError {
    StoreError::Corrupt {
        what,
        source: error.into(),
    }
}
