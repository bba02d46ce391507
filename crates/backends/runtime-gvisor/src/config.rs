//! Where the backend keeps its state and what it may use.

use std::path::PathBuf;
use std::time::Duration;

/// The backend's settings.
#[derive(Clone, Debug)]
pub struct GvisorConfig {
    /// A folder of this server's own; made when missing. Holds the bundles and
    /// `runsc`'s state while sandboxes run. One server at a time uses it.
    pub state_dir: PathBuf,
    /// The `runsc` program; looked up in the system's program folders when absent.
    pub runsc: Option<PathBuf>,
    /// Sandboxes that run at the same time.
    pub max_sandboxes: usize,
    /// The size of `/tmp` in a sandbox. It lies in the sandbox's memory.
    pub tmp_bytes: u64,
    /// How long a sandbox may take until its program runs.
    pub start_timeout: Duration,
}

impl GvisorConfig {
    /// The defaults, with this state folder.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            runsc: None,
            max_sandboxes: 32,
            tmp_bytes: 64 * 1024 * 1024,
            start_timeout: Duration::from_secs(30),
        }
    }
}
