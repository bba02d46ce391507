//! Starts `runsc run` so that it dies with this process, inside its cgroup, with
//! a `/proc/sys/net` of its own.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::command::SYSTEM_PATH;

/// Enters the cgroups named before `--`, covers `/proc/sys/net` and becomes the
/// command after it. Only runsc's own mount namespace has the cover: some kernels
/// show entries there that runsc refuses to start with. The namespace follows the
/// host's unmounts, or it would keep the removed networks of other sandboxes alive.
const SCRIPT: &str = r#"set -eu
while [ "$1" != "--" ]; do echo 0 > "$1"; shift; done
shift
[ ! -d /proc/sys/net ] || mount -t tmpfs -o ro,nosuid,nodev,noexec,size=4096 tmpfs /proc/sys/net
exec "$@"
"#;

/// The system's programs that a launch goes through.
#[derive(Clone, Debug)]
pub(crate) struct LaunchTools {
    pub(crate) setpriv: PathBuf,
    pub(crate) unshare: PathBuf,
    pub(crate) sh: PathBuf,
}

/// A command that was started.
pub(crate) struct Launched {
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
    /// Says how it ended.
    pub(crate) ended: oneshot::Receiver<io::Result<ExitStatus>>,
}

/// Starts the command. The kernel kills it when the thread that started it ends
/// (`PR_SET_PDEATHSIG` goes by thread), so that thread is its own and waits for
/// the command; it ends early only with the whole process.
pub(crate) async fn launch(
    tools: &LaunchTools,
    cgroup_entrances: Vec<PathBuf>,
    command: Vec<OsString>,
) -> io::Result<Launched> {
    let (stdout, stdout_writer) = io::pipe()?;
    let (stderr, stderr_writer) = io::pipe()?;
    let stdout = pipe::Receiver::from_owned_fd(stdout.into())?;
    let stderr = pipe::Receiver::from_owned_fd(stderr.into())?;
    let tools = tools.clone();
    let (tell_started, started) = oneshot::channel();
    let (tell_ended, ended) = oneshot::channel();
    thread::Builder::new()
        .name("creto-sandbox".to_owned())
        .spawn(move || {
            let child = Command::new(&tools.setpriv)
                .args(["--pdeathsig", "KILL", "--"])
                .arg(&tools.unshare)
                .args(["--mount", "--propagation", "slave", "--"])
                .arg(&tools.sh)
                .args(["-c", SCRIPT, "creto-sandbox"])
                .args(cgroup_entrances)
                .arg("--")
                .args(command)
                .env_clear()
                .env("PATH", SYSTEM_PATH)
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(stdout_writer)
                .stderr(stderr_writer)
                .spawn();
            match child {
                Ok(mut child) => {
                    let _ = tell_started.send(Ok(()));
                    let _ = tell_ended.send(child.wait());
                }
                Err(error) => {
                    let _ = tell_started.send(Err(error));
                }
            }
        })?;
    started
        .await
        .map_err(|_| io::Error::other("the launching thread ended early"))??;
    Ok(Launched {
        stdout,
        stderr,
        ended,
    })
}
