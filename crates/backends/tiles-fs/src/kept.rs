//! Small files that are replaced whole: what a witness and a monitor remember.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use creto_audit::WitnessStore;
use creto_types::StoreError;

use crate::{RefusedPath, TEMPORARY, blocking, create_dirs, failed, read, replace, sync_directory};

/// Twice as many hexadecimal digits fit in a file's name.
const MAX_ORIGIN_BYTES: usize = 120;

/// A directory with one checkpoint a log, for one witness: `<hex of the origin>`.
///
/// One process at a time: two would each cosign what the other does not know.
#[derive(Debug)]
pub struct FsWitness {
    root: PathBuf,
    next_temporary: AtomicU64,
    /// Held as long as the directory is used.
    _lock: File,
}

impl FsWitness {
    /// Opens or creates the directory, and keeps other processes out of it.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        create_dirs(root)?;
        let path = root.join(".lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| failed("open", &path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    what: "the witness's directory",
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
        }
        // What a killed process left half written.
        let temporary = root.join(TEMPORARY);
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &temporary, error));
            }
            _ => {}
        }
        create_dirs(&temporary)?;
        Ok(Self {
            root: root.to_owned(),
            next_temporary: AtomicU64::new(0),
            _lock: lock,
        })
    }

    fn target(&self, origin: &str) -> Result<PathBuf, StoreError> {
        if origin.is_empty() || origin.len() > MAX_ORIGIN_BYTES {
            return Err(StoreError::Corrupt {
                what: "origin of a log",
                source: Box::new(RefusedPath {
                    path: origin.chars().take(80).collect(),
                }),
            });
        }
        let name: String = origin.bytes().map(|b| format!("{b:02x}")).collect();
        Ok(self.root.join(name))
    }
}

#[async_trait]
impl WitnessStore for FsWitness {
    async fn get(&self, origin: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let target = self.target(origin)?;
        blocking(move || read(&target)).await
    }

    async fn put(&self, origin: &str, checkpoint: Vec<u8>) -> Result<(), StoreError> {
        let target = self.target(origin)?;
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(TEMPORARY).join(number.to_string());
        blocking(move || replace(&temporary, &target, &checkpoint)).await
    }
}

/// One file that is read and replaced whole.
#[derive(Debug)]
pub struct KeptFile(PathBuf);

impl KeptFile {
    /// The file at this path, whether it exists or not.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Its bytes, if it exists.
    pub fn get(&self) -> Result<Option<Vec<u8>>, StoreError> {
        read(&self.0)
    }

    /// Replaces it. Atomic, and durable on return.
    pub fn put(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut name = self.0.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let temporary = self.0.with_file_name(name);
        // One that a killed process of this number left behind.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &temporary, error));
            }
            _ => {}
        }
        replace(&temporary, &self.target()?, bytes)
    }

    /// Makes durable what is there: a replacement that failed may be there without being so.
    pub fn settle(&self) -> Result<(), StoreError> {
        let target = self.target()?;
        match target.parent() {
            Some(directory) if target.exists() => sync_directory(directory),
            _ => Ok(()),
        }
    }

    fn target(&self) -> Result<PathBuf, StoreError> {
        std::path::absolute(&self.0).map_err(|e| failed("find", &self.0, e))
    }
}
