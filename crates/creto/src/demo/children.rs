//! The programs the demo starts. Each is a child of this process, is stopped by
//! its own handle and never by name.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use creto_client::{Client, ServerAddress};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::error::DemoError;
use super::workspace::{Workspace, file_error, tail};

/// How often a child is asked whether it is ready, or has ended.
const PAUSE: Duration = Duration::from_millis(25);
/// A server replays its state at start; this is far more than it needs.
const START_TRIES: u32 = 30_000 / 25;
const STOP_TRIES: u32 = 10_000 / 25;

/// This program, for the commands a user would type.
pub(crate) fn creto() -> Result<PathBuf, DemoError> {
    std::env::current_exe().map_err(|source| DemoError::Spawn {
        program: "creto".to_owned(),
        source,
    })
}

/// A `creto` command as this organization runs it.
pub(crate) fn creto_command(config: &Path) -> Result<Command, DemoError> {
    let mut command = bare_command()?;
    command.arg("--config").arg(config);
    Ok(command)
}

/// A `creto` command that takes nothing from this process's own settings, so that it knows
/// no server and has no credential but those it is given.
pub(crate) fn bare_command() -> Result<Command, DemoError> {
    let mut command = Command::new(creto()?);
    for name in [
        "CRETO_CONFIG",
        "CRETO_SERVER",
        "CRETO_CREDENTIAL_FILE",
        "CRETO_DPOP_KEY_FILE",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// A child that ends with its handle.
struct Owned(Child);

impl Owned {
    fn spawn(mut command: Command, log: &Path) -> Result<Self, DemoError> {
        let out = append(log)?;
        let err = out.try_clone().map_err(file_error("write", log))?;
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command
            .spawn()
            .map_err(|source| DemoError::Spawn { program, source })?;
        Ok(Self(child))
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits until it is ready, and gives what `look` then found.
    fn ready<T>(
        &mut self,
        what: &'static str,
        log: PathBuf,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, DemoError> {
        for _ in 0..START_TRIES {
            if let Some(found) = look() {
                return Ok(found);
            }
            if self.has_ended() {
                break;
            }
            sleep(PAUSE);
        }
        Err(DemoError::NotReady {
            what,
            tail: tail(&log, 15),
            log,
        })
    }

    /// SIGKILL: no warning, no last words.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.kill();
    }
}

fn append(path: &Path) -> Result<File, DemoError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(file_error("write", path))
}

/// A running `creto serve`.
pub(crate) struct ServerProcess {
    child: Owned,
}

impl ServerProcess {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(space: &Workspace, address: ServerAddress) -> Result<Self, DemoError> {
        let log = space.log("server");
        let mut command = creto_command(&space.config())?;
        command.arg("serve");
        let mut child = Owned::spawn(command, &log)?;
        let client = Client::new(address);
        child.ready("server", log, || client.get_bytes("/readyz").ok())?;
        Ok(Self { child })
    }

    /// SIGKILL, as by a machine that lost its power.
    pub(crate) fn kill(mut self) {
        self.child.kill();
    }

    /// SIGTERM; it finishes what it began.
    pub(crate) fn stop(mut self) -> Result<(), DemoError> {
        let stuck = |what: &str| DemoError::Fact(format!("the server {what}"));
        let id = i32::try_from(self.child.0.id()).map_err(|_| stuck("has no process id"))?;
        kill(Pid::from_raw(id), Signal::SIGTERM).map_err(|_| stuck("ended by itself"))?;
        for _ in 0..STOP_TRIES {
            match self.child.0.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(stuck(&format!("ended with {status}"))),
                Ok(None) => sleep(PAUSE),
                Err(_) => break,
            }
        }
        Err(stuck("did not stop within ten seconds of SIGTERM"))
    }
}

/// Somebody outside who cosigns the log: a running `creto audit witness`.
pub(crate) struct Witness {
    _child: Owned,
    pub(crate) address: SocketAddr,
}

impl Witness {
    /// Starts it with the key that lies in `witness.key`, for the log with this key, and
    /// waits until it listens.
    pub(crate) fn start(space: &Workspace, log_key: &str) -> Result<Self, DemoError> {
        let log = space.log("witness");
        let address = free_address()?;
        let mut command = creto_command(&space.config())?;
        command
            .args(["audit", "witness", "--listen", &address.to_string()])
            .args(["--log", log_key])
            .arg("--key")
            .arg(space.path("witness.key"))
            .arg("--state")
            .arg(space.path("witness"));
        let mut child = Owned::spawn(command, &log)?;
        child.ready("witness", log, || TcpStream::connect(address).ok())?;
        Ok(Self {
            _child: child,
            address,
        })
    }
}

/// The demo's outside world: a web server and the name server for it.
pub(crate) struct ReleaseHost {
    _child: Owned,
    pub(crate) http_port: u16,
    pub(crate) dns_port: u16,
}

impl ReleaseHost {
    pub(crate) fn start(space: &Workspace, repository: &Path) -> Result<Self, DemoError> {
        let ports = space.path("release-host.ports");
        let log = space.log("release-host");
        let mut command = Command::new("/usr/bin/python3");
        command
            .arg(repository.join("examples/release-host/release_host.py"))
            .arg("--store")
            .arg(space.path("release-host"))
            .arg("--ports")
            .arg(&ports);
        let mut child = Owned::spawn(command, &log)?;
        let ports = child.ready("release host", log, || {
            let text = std::fs::read(&ports).ok()?;
            let document: Value = serde_json::from_slice(&text).ok()?;
            let port = |name: &str| u16::try_from(document.get(name)?.as_u64()?).ok();
            Some((port("http")?, port("dns")?))
        })?;
        Ok(Self {
            _child: child,
            http_port: ports.0,
            dns_port: ports.1,
        })
    }
}

/// A loopback address that nobody listens on.
pub(crate) fn free_address() -> Result<SocketAddr, DemoError> {
    let taken = |source| DemoError::Spawn {
        program: "a listener on 127.0.0.1".to_owned(),
        source,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(taken)?;
    listener.local_addr().map_err(taken)
}
