//! The system's programs, run with a deadline and their errors kept.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Where the system's own programs are. Not the caller's `PATH`: a version
/// manager's stand-ins are of no use here.
pub(crate) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Programs that set up networks answer in milliseconds; this is for a machine
/// that is out of breath.
const DEADLINE: Duration = Duration::from_secs(20);

/// A program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("{program} could not be run")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} did not end in time")]
    Deadline { program: String },
    #[error("{program} failed: {message}")]
    Failed { program: String, message: String },
}

/// Finds a program in the system's folders.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    SYSTEM_PATH
        .split(':')
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
}

/// Runs a program to its end, gives it `input`, and returns what it printed.
pub(crate) async fn run(
    program: &Path,
    arguments: &[&str],
    input: &str,
) -> Result<String, CommandError> {
    let name = || program.display().to_string();
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", SYSTEM_PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| CommandError::Run {
            program: name(),
            source,
        })?;
    let stdin = child.stdin.take();
    let work = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input says so by its exit status.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = timeout(DEADLINE, work)
        .await
        .map_err(|_| CommandError::Deadline { program: name() })?
        .map_err(|source| CommandError::Run {
            program: name(),
            source,
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = match said.trim() {
        "" => output.status.to_string(),
        said => said.chars().take(500).collect(),
    };
    Err(CommandError::Failed {
        program: name(),
        message,
    })
}
