//! Saying of a full disk that it is full, and which.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use creto_types::{StoreError, is_disk_full};
use rusqlite::ErrorCode;

/// What opening a database needs at least besides the file: the index of the log of
/// writes, which SQLite makes in pieces of 32 KiB, and some pages of that log.
const NEEDED: u64 = 64 * 1024;

/// The index has 8 bytes for each page of the log, which has more than 4,096 for it; twice
/// as much, because it grows in pieces.
const LOG_BYTES_PER_INDEX_BYTE: u64 = 4_096 / 8 / 2;

#[derive(Debug, thiserror::Error)]
#[error("there is no room for {}", path.display())]
struct NoRoom {
    path: PathBuf,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

/// Refuses an opening for which there is no room. SQLite maps the index into memory, and
/// where a file system gives room in pieces smaller than a page, touching what it has no
/// room for ends the process.
pub(crate) fn look(path: &Path) -> Result<(), StoreError> {
    match make_room(path) {
        Err(error) if is_disk_full(&error) => Err(full(path, Box::new(error))),
        // Whatever else is the matter, the opening says better.
        _ => Ok(()),
    }
}

/// The same error; one of a full disk with the file that needs room.
pub(crate) fn named(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Full(source) => full(path, source),
        other => other,
    }
}

/// The same for one of the opening. What SQLite finds no room for then is often files of
/// its own, and it says nothing but that input or output failed; so it is looked whether
/// there is room.
pub(crate) fn at_opening(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(source) if is_io(source.as_ref()) && look(path).is_err() => {
            full(path, source)
        }
        other => named(path, other),
    }
}

fn full(path: &Path, source: Box<dyn Error + Send + Sync>) -> StoreError {
    StoreError::Full(Box::new(NoRoom {
        path: path.to_owned(),
        source,
    }))
}

fn is_io(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let code = error
        .downcast_ref::<rusqlite::Error>()
        .and_then(rusqlite::Error::sqlite_error_code);
    matches!(
        code,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen)
    )
}

/// Writes as much beside the file as opening it takes, and removes it again.
fn make_room(path: &Path) -> io::Result<()> {
    let log = std::fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
    let needed = NEEDED + log / LOG_BYTES_PER_INDEX_BYTE;
    let probe = beside(path, ".room");
    let written = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&probe)
        .and_then(|mut file| {
            io::copy(&mut io::repeat(0).take(needed), &mut file)?;
            file.sync_all()
        });
    // Nobody reads one that stays behind, and the next one takes its place.
    let _ = std::fs::remove_file(&probe);
    written
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}
