//! Log files in a local directory: `<root>/<org>/checkpoint`,
//! `<root>/<org>/tile/...`, as a static file server can serve them.
//!
//! A write goes to a temporary file beside its target, is synced, renamed over
//! the target, and its directory is synced: after a crash the old bytes are
//! there or the new ones, never a part. A temporary file that a crash left
//! behind is removed when the directory is opened.
//!
//! Paths are relative, of plain parts only: nothing outside `<root>/<org>` is
//! ever read or written.
//!
//! One process owns a directory at a time. Two writes of one path that run at
//! the same time leave one of the two.
//!
//! In the same way are kept what a witness ([`FsWitness`]) and a monitor
//! ([`KeptFile`]) remember.

mod kept;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use creto_audit::TileStore;
use creto_types::{OrgId, StoreError, is_disk_full};

pub use kept::{FsWitness, KeptFile};

/// Temporary files are below the root, outside every organization.
const TEMPORARY: &str = ".tmp";

/// The operation that makes names durable.
const SYNC: &str = "sync";

/// A directory of log files.
#[derive(Debug)]
pub struct FsTiles {
    root: PathBuf,
    next_temporary: AtomicU64,
}

/// A path is not one of plain relative parts.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` is not a path of a log file")]
struct RefusedPath {
    path: String,
}

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
struct FileError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FsTiles {
    /// Opens or creates the directory.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
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
        })
    }

    fn target(&self, org: OrgId, path: &str) -> Result<PathBuf, StoreError> {
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
        };
        if path.split('/').all(plain) {
            Ok(self.root.join(org.to_string()).join(path))
        } else {
            Err(StoreError::Corrupt {
                what: "log file path",
                source: Box::new(RefusedPath {
                    path: path.chars().take(80).collect(),
                }),
            })
        }
    }

    fn temporary(&self) -> PathBuf {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        self.root.join(TEMPORARY).join(number.to_string())
    }
}

#[async_trait]
impl TileStore for FsTiles {
    async fn put(&self, org: OrgId, path: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let target = self.target(org, path)?;
        let temporary = self.temporary();
        blocking(move || replace(&temporary, &target, &bytes)).await
    }

    async fn get(&self, org: OrgId, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let target = self.target(org, path)?;
        blocking(move || read(&target)).await
    }

    async fn get_all(
        &self,
        org: OrgId,
        paths: Vec<String>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let targets = paths
            .iter()
            .map(|path| self.target(org, path))
            .collect::<Result<Vec<_>, _>>()?;
        blocking(move || targets.iter().map(|target| read(target)).collect()).await
    }

    async fn remove_partials(&self, org: OrgId, full: &str) -> Result<(), StoreError> {
        let partials = self.target(org, &format!("{full}.p"))?;
        blocking(move || match fs::remove_dir_all(&partials) {
            Err(error) if !is_absent(&error) => Err(failed("remove", &partials, error)),
            _ => Ok(()),
        })
        .await
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// A directory where a file would be means that there is no such file, too.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

fn replace(temporary: &Path, target: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let directory = target.parent().unwrap_or(target);
    create_dirs(directory)?;
    let written = write_synced(temporary, bytes)
        .map_err(|e| failed("write", temporary, e))
        .and_then(|()| fs::rename(temporary, target).map_err(|e| failed("rename to", target, e)));
    if let Err(error) = written {
        // What is left is removed at the next start at the latest.
        let _ = fs::remove_file(temporary);
        return Err(error);
    }
    sync_directory(directory)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Creates the directory and the ones above it; each new one is made durable in
/// the one that holds it.
fn create_dirs(directory: &Path) -> Result<(), StoreError> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent();
    if let Some(parent) = parent {
        create_dirs(parent)?;
    }
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("create", directory, error));
        }
        _ => {}
    }
    match parent {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}

fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| failed(SYNC, directory, e))
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> StoreError {
    let full = is_disk_full(&source);
    let error = Box::new(FileError {
        operation,
        path: path.to_owned(),
        source,
    });
    // After a rename the file is there, whatever the sync of its name says.
    if full && operation != SYNC {
        StoreError::Full(error)
    } else {
        StoreError::Unavailable(error)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| StoreError::Unavailable(Box::new(e)))?
}
