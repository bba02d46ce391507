//! The policy directory, looked at while the server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{BundleError, CheckedBundle, Governor, PolicyFiles};

/// How often the directory is looked at. It is read whole: what an editor, a
/// renamed directory or a network file system tell about changes differs, what
/// the files say does not.
const INTERVAL: Duration = Duration::from_secs(1);

/// What was in the directory.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Files with this digest.
    Files(String),
    /// Nothing that can be read; the reason.
    Unreadable(String),
}

/// Follows the directory for as long as it is polled. `taken` is what was found in it
/// at start.
///
/// What was found has to stay as it is from one look to the next before it
/// counts: a file that is being written is not a policy.
pub(crate) async fn follow(governor: Arc<Governor>, directory: PathBuf, mut taken: Seen) {
    let mut last = taken.clone();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some((seen, files)) = look(&directory).await else {
            continue;
        };
        let settled = seen == last;
        last = seen.clone();
        if !settled || seen == taken {
            continue;
        }
        let checked = match files {
            Ok(files) => check(files).await,
            Err(error) => Some(Err(error)),
        };
        let Some(checked) = checked else {
            continue;
        };
        match governor.reload_policies(checked).await {
            Ok(()) => taken = seen,
            // Found again at the next look.
            Err(error) => tracing::error!(
                code = error.code(),
                error = &error as &dyn std::error::Error,
                "the policy directory could not be put in force everywhere; it is tried again"
            ),
        }
    }
}

/// `None` when the thread that looked did not come back.
async fn look(directory: &Path) -> Option<(Seen, Result<PolicyFiles, BundleError>)> {
    let directory = directory.to_owned();
    tokio::task::spawn_blocking(move || read(&directory))
        .await
        .ok()
}

/// What is in the directory.
pub(crate) fn read(directory: &Path) -> (Seen, Result<PolicyFiles, BundleError>) {
    let files = PolicyFiles::from_dir(directory);
    let digest = match &files {
        Ok(files) => files.digest().map_err(|error| error.to_string()),
        Err(error) => Err(creto_errors::chain(error)),
    };
    (digest.map_or_else(Seen::Unreadable, Seen::Files), files)
}

async fn check(files: PolicyFiles) -> Option<Result<CheckedBundle, BundleError>> {
    tokio::task::spawn_blocking(move || CheckedBundle::check(files))
        .await
        .ok()
}
