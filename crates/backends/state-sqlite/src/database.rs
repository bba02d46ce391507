//! Opening the file, bringing its schema up to date, and the two doors in:
//! [`Database::write`] and [`Database::read`].

use std::error::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use creto_audit::{InForce, RecordClass, Sealer};
use creto_consensus::Epoch;
use creto_types::{Commit, Evidence, LeafIndex, OrgId, Receipt, StoreError, is_disk_full};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, Transaction, params};

use crate::checkpoint::Checkpoints;
use crate::consensus;
use crate::epoch;
use crate::keys;
use crate::leaves::{NewLeaf, append_leaf};
use crate::pool::ReadPool;
use crate::room;
use crate::subjects::{Change, Subject, Subjects, Whose};
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
    ("0014_order", include_str!("../migrations/0014_order.sql")),
    (
        "0015_wrapping_keys",
        include_str!("../migrations/0015_wrapping_keys.sql"),
    ),
    (
        "0016_journal",
        include_str!("../migrations/0016_journal.sql"),
    ),
    (
        "0017_secrets",
        include_str!("../migrations/0017_secrets.sql"),
    ),
    ("0018_search", include_str!("../migrations/0018_search.sql")),
    ("0019_roles", include_str!("../migrations/0019_roles.sql")),
    (
        "0020_principals",
        include_str!("../migrations/0020_principals.sql"),
    ),
    (
        "0021_prekeys",
        include_str!("../migrations/0021_prekeys.sql"),
    ),
    (
        "0022_principal_keys",
        include_str!("../migrations/0022_principal_keys.sql"),
    ),
    (
        "0023_payloads",
        include_str!("../migrations/0023_payloads.sql"),
    ),
    (
        "0024_held_policies",
        include_str!("../migrations/0024_held_policies.sql"),
    ),
    (
        "0025_connections",
        include_str!("../migrations/0025_connections.sql"),
    ),
    (
        "0026_payload_ciphers",
        include_str!("../migrations/0026_payload_ciphers.sql"),
    ),
    (
        "0027_secret_owners",
        include_str!("../migrations/0027_secret_owners.sql"),
    ),
    (
        "0028_former_log_keys",
        include_str!("../migrations/0028_former_log_keys.sql"),
    ),
    (
        "0029_secret_roots",
        include_str!("../migrations/0029_secret_roots.sql"),
    ),
    (
        "0030_algorithms_on_record",
        include_str!("../migrations/0030_algorithms_on_record.sql"),
    ),
    (
        "0031_search_tags",
        include_str!("../migrations/0031_search_tags.sql"),
    ),
];

pub(crate) const SECONDS_A_DAY: i64 = 86_400;

/// How long emptying the log of writes waits for readers, each time: the writer waits as
/// long for it. Between two tries both go on.
const TRUNCATE_WAIT: Duration = Duration::from_millis(100);
const TRUNCATE_PAUSE: Duration = Duration::from_millis(50);
const TRUNCATE_TRIES: usize = 100;

#[derive(Debug, thiserror::Error)]
#[error("the log of writes is in use all the time and cannot be emptied")]
struct LogBusy;

/// Enough for the few concurrent readers one machine has.
const READ_CONNECTIONS: usize = 4;

/// One open database file.
pub struct Database {
    /// Closed before the writer, whose connection is then the last: it moves what is left
    /// in the log of writes into the file.
    readers: ReadPool,
    writer: Writer,
    epoch: Epoch,
    subjects: Arc<Subjects>,
    path: PathBuf,
    /// Held for the length of a checkpoint.
    checkpointing: Arc<Mutex<()>>,
    /// Whether the log of writes was to be emptied and was not.
    to_empty: AtomicBool,
    /// Held while other lists of algorithms are put in force.
    pub(crate) replacing: tokio::sync::Mutex<()>,
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
    ///
    /// Payloads of records are sealed and opened by `sealer`.
    pub fn open_with(path: &Path, sealer: Sealer) -> Result<Arc<Self>, StoreError> {
        Self::open_file(path, sealer).map_err(|error| room::at_opening(path, error))
    }

    /// The timestamp bound in the file, if there is one, without opening the database: no
    /// epoch is taken and no schema brought up to date.
    ///
    /// Fails when another process owns the file, or when it cannot be read.
    pub fn timestamp_bound(path: &Path) -> Result<Option<u64>, StoreError> {
        match path.exists() {
            true => read_bound(path).map_err(|error| room::at_opening(path, error)),
            false => Ok(None),
        }
    }

    fn open_file(path: &Path, sealer: Sealer) -> Result<Arc<Self>, StoreError> {
        let lock = lock_file(path)?;
        room::look(path)?;
        let mut connection = Connection::open(path).map_err(sql)?;
        restrict_to_owner(path)?;
        configure(&connection)?;
        migrate(&mut connection)?;
        let epoch = epoch::take(&mut connection)?;
        // A process that was killed behind an erasure leaves pages of before.
        empty_log(&connection)?;
        let subjects = Subjects::new(sealer);
        let wrapping = keys::all_wrapping_keys(&connection)?;
        for (org, key) in &wrapping {
            // Whoever opens identities in this database is told when the keystore fails.
            let _ = subjects.open_wrapping(*org, key);
        }
        let readers = ReadPool::new((0..READ_CONNECTIONS).map(|_| open_reader(path)))?;
        let beside = Connection::open(path).map_err(sql)?;
        configure(&beside)?;
        let checkpoints = Checkpoints::start(beside)?;
        let checkpointing = checkpoints.running();
        let algorithms = subjects.algorithms().clone();
        let writer = Writer::start(connection, epoch, Some(checkpoints), algorithms)?;
        Ok(Arc::new(Self {
            readers,
            writer,
            epoch,
            subjects: Arc::new(subjects),
            path: path.to_owned(),
            checkpointing,
            to_empty: AtomicBool::new(false),
            replacing: tokio::sync::Mutex::default(),
            _lock: lock,
        }))
    }

    /// As [`Database::open_with`], under keys that everybody knows.
    #[cfg(feature = "test-util")]
    pub fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        Self::open_with(path, Sealer::for_tests())
    }

    /// The epoch that this opening took.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Runs a change on the writer thread and returns once it is on disk. Refused with
    /// [`StoreError::Fenced`] once the file was opened anew.
    ///
    /// A job that returns an error leaves no trace; only [`StoreError::Unavailable`]
    /// leaves open whether the change is on disk. When the returned future is dropped
    /// the change may still happen.
    pub async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Change<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.write_bytes(0, job).await
    }

    /// The same of a change that brings so many bytes to the disk.
    pub(crate) async fn write_bytes<T, F>(&self, bytes: usize, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Change<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let done = self.writer.submit(bytes, self.on_change(job)).await;
        done.map_err(|error| room::named(&self.path, error))
    }

    /// The same of a change with something that is not of the database: `then` is run when
    /// the change is on disk, before the next one begins.
    pub(crate) async fn write_then<T, F, U>(&self, job: F, then: U) -> Result<T, StoreError>
    where
        F: FnOnce(&Change<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
        U: FnOnce() + Send + 'static,
    {
        let done = self.writer.submit_last(self.on_change(job), then).await;
        done.map_err(|error| room::named(&self.path, error))
    }

    fn on_change<T, F>(
        &self,
        job: F,
    ) -> impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + use<T, F>
    where
        F: FnOnce(&Change<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let subjects = Arc::clone(&self.subjects);
        move |tx: &Transaction<'_>| job(&Change::new(tx, &subjects))
    }

    /// Makes leaves of the records, on the caller's side: whatever needs no place in a
    /// log is done before the writer is asked.
    pub(crate) async fn seal(
        &self,
        class: RecordClass,
        records: &[Evidence],
    ) -> Result<Vec<NewLeaf>, StoreError> {
        let mut leaves = Vec::with_capacity(records.len());
        for record in records {
            let subject = self.subject_of(record.org, Whose::of(record)).await?;
            leaves.push(self.subjects.leaf(class, record, &subject)?);
        }
        Ok(leaves)
    }

    /// Whose records these are; made when it has none yet.
    pub(crate) async fn subject_of(&self, org: OrgId, whose: Whose) -> Result<Subject, StoreError> {
        if let Some(subject) = self.subjects.known(org, &whose) {
            return Ok(subject);
        }
        let (subjects, asked) = (Arc::clone(&self.subjects), whose.clone());
        let stored = self
            .read(move |connection| subjects.look(connection, org, &asked))
            .await?;
        match stored {
            Some(subject) => Ok(subject),
            None => self.write(move |change| change.subject(org, &whose)).await,
        }
    }

    /// The lists of algorithms that are in force.
    pub(crate) fn algorithms(&self) -> &InForce {
        self.subjects.algorithms()
    }

    pub(crate) fn subjects(&self) -> Arc<Subjects> {
        Arc::clone(&self.subjects)
    }

    /// Appends leaves on the writer thread, all or none; returns once they are on disk.
    pub(crate) async fn append(&self, leaves: Vec<NewLeaf>) -> Result<Vec<LeafIndex>, StoreError> {
        let appended = self.writer.append(leaves).await;
        appended.map_err(|error| room::named(&self.path, error))
    }

    /// Moves everything from SQLite's log of writes into the file and empties the log, in
    /// which pages lie as they were before. Waits for whoever reads or writes.
    pub(crate) async fn truncate_log(&self) -> Result<(), StoreError> {
        self.to_empty.store(true, Ordering::SeqCst);
        let (path, checkpointing) = (self.path.clone(), Arc::clone(&self.checkpointing));
        let emptied = tokio::task::spawn_blocking(move || {
            let connection = Connection::open(&path).map_err(sql)?;
            connection.busy_timeout(TRUNCATE_WAIT).map_err(sql)?;
            for _ in 0..TRUNCATE_TRIES {
                // SQLite refuses at once while another checkpoint is under way.
                let one = checkpointing.lock();
                let emptied = empty_log(&connection)?;
                drop(one);
                if emptied {
                    return Ok(());
                }
                std::thread::sleep(TRUNCATE_PAUSE);
            }
            Err(unavailable(LogBusy))
        })
        .await
        .map_err(unavailable)?;
        if emptied.is_ok() {
            self.to_empty.store(false, Ordering::SeqCst);
        }
        emptied
    }

    /// Empties the log of writes when that failed before.
    pub(crate) async fn truncate_log_at_last(&self) -> Result<(), StoreError> {
        match self.to_empty.load(Ordering::SeqCst) {
            true => self.truncate_log().await,
            false => Ok(()),
        }
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

fn read_bound(path: &Path) -> Result<Option<u64>, StoreError> {
    let _lock = lock_file(path)?;
    room::look(path)?;
    // What a killed process left in the log of writes counts, and to read it takes a
    // connection that may write.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    let kept: bool = connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'timestamp_bound')",
            [],
            |row| row.get(0),
        )
        .map_err(sql)?;
    match kept {
        true => consensus::bound(&connection),
        // From before there were timestamps.
        false => Ok(None),
    }
}

/// Whether SQLite's log of writes is empty now. Not, when somebody reads or writes.
fn empty_log(connection: &Connection) -> Result<bool, StoreError> {
    let busy: bool = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(sql)?;
    Ok(!busy)
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
        .map_err(file)?;
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
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(file)
}

fn configure(connection: &Connection) -> Result<(), StoreError> {
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA secure_delete = ON;
             PRAGMA wal_autocheckpoint = 16000;
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
pub(crate) fn apply_commit(tx: &Change<'_>, commit: &Commit) -> Result<Receipt, StoreError> {
    admit_commit(tx, commit)?;
    record_commit(tx, commit)
}

/// The first half: what refuses a commit before anything is changed.
pub(crate) fn admit_commit(tx: &Change<'_>, commit: &Commit) -> Result<(), StoreError> {
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
                claim: claim.clone(),
            });
        }
    }
    Ok(())
}

/// The second half, for a change that has to be made before its records can be sealed.
pub(crate) fn record_commit(tx: &Change<'_>, commit: &Commit) -> Result<Receipt, StoreError> {
    let mut leaves = Vec::with_capacity(commit.evidence.len());
    for evidence in &commit.evidence {
        let (leaf, _) = append_leaf(tx, RecordClass::Evidence, evidence)?;
        leaves.push(leaf);
    }
    if let Some(record) = &commit.idempotency {
        let at = commit.evidence.first().map(|evidence| evidence.at);
        // One without a record has no day, and no end.
        let day = at.map_or(i64::MAX, |at| at.as_second().div_euclid(SECONDS_A_DAY));
        crate::replies::insert(tx, record, &leaves, day)?;
    }
    Ok(Receipt { leaves })
}

/// An engine error. Constraint violations that a port expects are recognised
/// before they get here.
pub(crate) fn sql(error: rusqlite::Error) -> StoreError {
    // SQLite says so when a write finds no room, which is before the group is whole.
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        StoreError::Full(Box::new(error))
    } else {
        StoreError::Unavailable(Box::new(error))
    }
}

/// An error of a file beside the engine's.
fn file(error: std::io::Error) -> StoreError {
    if is_disk_full(&error) {
        StoreError::Full(Box::new(error))
    } else {
        unavailable(error)
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use creto_audit::{Journal as _, RecordClass, conformance};

    use super::*;
    use crate::SqliteJournal;

    /// Version 14 is the last with the journal of one row a leaf under its organization.
    const BEFORE: usize = 14;

    #[tokio::test]
    async fn a_journal_of_an_older_version_is_read_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let old = Connection::open(&path).unwrap();
        for (_, text) in &MIGRATIONS[..BEFORE] {
            old.execute_batch(text).unwrap();
        }
        let version = i64::try_from(BEFORE).unwrap();
        old.pragma_update(None, "user_version", version).unwrap();
        let orgs = [conformance::org(2), conformance::org(1)];
        for (org, leaf) in [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)] {
            let bytes = format!("{org} {leaf}").into_bytes();
            let action = (leaf == 1).then_some("act_1");
            let ts = (leaf > 0).then_some(5 + leaf);
            old.execute(
                "INSERT INTO journal (org, leaf, class, kind, at, actor, action_id, bytes, ts)
                 VALUES (?1, ?2, 'evidence', 'k', '2026-01-01T00:00:00Z', 'a', ?3, ?4, ?5)",
                params![orgs[org].to_string(), leaf, action, bytes, ts],
            )
            .unwrap();
        }
        drop(old);

        let db = Database::open(&path).unwrap();
        let journal = SqliteJournal::new(Arc::clone(&db));
        let texts = async |org| -> Vec<String> {
            let leaves = journal.read(org, 0, 10).await.unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            leaves.into_iter().map(text).collect()
        };
        assert_eq!(texts(orgs[0]).await, ["0 0", "0 1", "0 2"]);
        assert_eq!(texts(orgs[1]).await, ["1 0", "1 1"]);
        let mut sorted = orgs.to_vec();
        sorted.sort();
        assert_eq!(journal.organizations().await.unwrap(), sorted);
        let of_action: i64 = db
            .read(|connection| {
                connection
                    .query_row(
                        "SELECT count(*) FROM journal WHERE action_id = 'act_1'",
                        [],
                        |row| row.get(0),
                    )
                    .map_err(sql)
            })
            .await
            .unwrap();
        assert_eq!(of_action, 2);
        let more = vec![conformance::record(orgs[0], 1)];
        let place = journal.append(RecordClass::Evidence, more).await.unwrap();
        assert_eq!(place, [LeafIndex(3)]);
    }
}
