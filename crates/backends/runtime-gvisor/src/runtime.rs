//! The runtime: what is set up once, and the start of a sandbox.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use creto_runtime::{
    Gateway, RunningSandbox, RuntimeError, SandboxId, SandboxRuntime, SandboxSpec,
};
use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cgroup::Hierarchy;
use crate::launch::{LaunchTools, launch};
use crate::leftovers::{Places, Tasks};
use crate::network::NetworkTools;
use crate::sandbox::{End, Output, Sandbox, Watched};
use crate::status::{ERROR_LOG, RUN_LOG, fatal_error};
use crate::{GvisorConfig, bundle, command, datagrams};

/// How often runsc is asked whether the program runs.
const POLL: Duration = Duration::from_millis(50);

/// Sandboxes by gVisor.
pub struct GvisorRuntime {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for GvisorRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GvisorRuntime")
            .field("machine", &self.inner.machine)
            .finish_non_exhaustive()
    }
}

/// What of the machine is used.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) runsc: PathBuf,
    pub(crate) network: NetworkTools,
    pub(crate) launch: LaunchTools,
    pub(crate) hierarchy: Hierarchy,
    /// One folder per sandbox, named by its id.
    pub(crate) sandboxes: PathBuf,
    /// `runsc`'s own state.
    pub(crate) runsc_state: PathBuf,
}

pub(crate) struct Inner {
    pub(crate) machine: Machine,
    config: GvisorConfig,
    gateway: Arc<Gateway>,
    slots: Arc<Semaphore>,
    /// Sandboxes of this process.
    live: Mutex<HashSet<SandboxId>>,
    /// Held for as long as the runtime lives: another server in the same folder
    /// would take our sandboxes for leftovers.
    _lock: Flock<fs::File>,
}

impl GvisorRuntime {
    /// Checks that sandboxes can run here and takes the state folder.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Unsupported`] says what is missing and what to do.
    pub fn open(config: GvisorConfig, gateway: Arc<Gateway>) -> Result<Arc<Self>, RuntimeError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(unsupported(
                "this process is not root",
                "Run the server as root: sandboxes need namespaces and cgroups.",
            ));
        }
        let runsc = match &config.runsc {
            Some(path) if path.is_file() => path.clone(),
            Some(path) => {
                return Err(unsupported(
                    format!("there is no runsc at {}", path.display()),
                    "Correct the path, or leave it out.",
                ));
            }
            None => tool("runsc")?,
        };
        let hierarchy = Hierarchy::discover().map_err(|what| {
            unsupported(what, "Mount the memory and pids controllers of cgroups.")
        })?;
        hierarchy.prepare().map_err(|error| {
            unsupported(
                format!("the cgroup controllers cannot be passed on: {error}"),
                "Run where the root of the cgroup tree can be written: on the machine itself, \
                 or in a container whose cgroup root holds no process.",
            )
        })?;
        let network = NetworkTools {
            ip: tool("ip")?,
            nft: tool("nft")?,
            nsenter: tool("nsenter")?,
        };
        let launch = LaunchTools {
            setpriv: tool("setpriv")?,
            unshare: tool("unshare")?,
            sh: tool("sh")?,
        };
        let sandboxes = config.state_dir.join("sandboxes");
        let runsc_state = config.state_dir.join("runsc");
        for folder in [&sandboxes, &runsc_state] {
            make_private_folder(folder).map_err(|error| {
                RuntimeError::control(
                    "prepared",
                    std::io::Error::new(error.kind(), format!("{}: {error}", folder.display())),
                )
            })?;
        }
        let lock = lock(&config.state_dir)?;
        let slots = Arc::new(Semaphore::new(config.max_sandboxes));
        Ok(Arc::new(Self {
            inner: Arc::new(Inner {
                machine: Machine {
                    runsc,
                    network,
                    launch,
                    hierarchy,
                    sandboxes,
                    runsc_state,
                },
                config,
                gateway,
                slots,
                live: Mutex::new(HashSet::new()),
                _lock: lock,
            }),
        }))
    }
}

fn unsupported(what: impl Into<String>, remedy: &str) -> RuntimeError {
    RuntimeError::Unsupported {
        what: what.into(),
        remedy: remedy.to_owned(),
    }
}

fn tool(program: &str) -> Result<PathBuf, RuntimeError> {
    command::find(program).ok_or_else(|| {
        unsupported(
            format!("the program {program} is missing"),
            "Run scripts/setup.sh, or see what `creto doctor` says.",
        )
    })
}

fn make_private_folder(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn lock(state_dir: &Path) -> Result<Flock<fs::File>, RuntimeError> {
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(state_dir.join("lock"))
        .map_err(|error| RuntimeError::control("prepared", error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| {
        unsupported(
            format!("another server uses {}", state_dir.display()),
            "Give each server a state folder of its own.",
        )
    })
}

#[async_trait]
impl SandboxRuntime for GvisorRuntime {
    async fn start(&self, spec: SandboxSpec) -> Result<Arc<dyn RunningSandbox>, RuntimeError> {
        spec.validate()?;
        let limit = self.inner.config.max_sandboxes;
        let slot = Arc::clone(&self.inner.slots)
            .try_acquire_owned()
            .map_err(|_| RuntimeError::Busy { limit })?;
        if !self.inner.live.lock().insert(spec.id) {
            return Err(RuntimeError::start(
                "taking the id",
                "a sandbox with this id is running",
            ));
        }
        let inner = Arc::clone(&self.inner);
        // In a task of its own: a caller that goes away in the middle leaves no
        // half of a sandbox behind.
        let started = tokio::spawn(async move {
            let id = spec.id;
            let result = Arc::clone(&inner).start(spec, slot).await;
            if result.is_err() {
                inner.forget(id);
            }
            result
        });
        let sandbox = started
            .await
            .map_err(|error| RuntimeError::start("running the start", error))??;
        Ok(sandbox)
    }

    async fn cleanup_leftovers(&self) -> Result<Vec<SandboxId>, RuntimeError> {
        let inner = &self.inner;
        let entries = fs::read_dir(&inner.machine.sandboxes)
            .map_err(|error| RuntimeError::control("listed", error))?;
        let mut lost: Vec<SandboxId> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|id| !inner.live.lock().contains(id))
            .collect();
        lost.sort_unstable();
        for id in &lost {
            tracing::warn!(sandbox = %id, "removing a sandbox that an earlier server left");
            Places::of(&inner.machine, *id)
                .remove(&inner.machine)
                .await?;
        }
        Ok(lost)
    }
}

impl Inner {
    pub(crate) fn forget(&self, id: SandboxId) {
        self.live.lock().remove(&id);
    }

    async fn start(
        self: Arc<Self>,
        spec: SandboxSpec,
        slot: tokio::sync::OwnedSemaphorePermit,
    ) -> Result<Arc<dyn RunningSandbox>, RuntimeError> {
        let places = Places::of(&self.machine, spec.id);
        // The folder is made first and must be new, so that the removal of a
        // failed start never touches what another start made.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&places.folder)
            .map_err(|error| RuntimeError::start("making the sandbox's folder", error))?;
        let mut tasks = Tasks::default();
        match self.set_up(&spec, &places, &mut tasks).await {
            Ok((end, output)) => Ok(Sandbox::watch(Watched {
                inner: self,
                id: spec.id,
                wall_time: spec.limits.wall_time,
                places,
                tasks,
                end,
                output,
                slot,
            })),
            Err(error) => {
                let removed = places.remove(&self.machine).await;
                tasks.end().await;
                if let Err(problem) = removed {
                    tracing::error!(
                        sandbox = %spec.id,
                        error = creto_errors::chain(&problem),
                        "a failed start could not be cleaned up; the next server start tries again"
                    );
                }
                Err(error)
            }
        }
    }

    /// Every step up to the running program. What was made stays for the caller
    /// to remove when a step fails.
    async fn set_up(
        &self,
        spec: &SandboxSpec,
        places: &Places,
        tasks: &mut Tasks,
    ) -> Result<(End, Output), RuntimeError> {
        let network = &places.network;
        bundle::write(
            &places.folder,
            spec,
            &network.sandbox_path(),
            self.config.tmp_bytes,
        )
        .map_err(|error| RuntimeError::start("writing the bundle", error))?;
        if spec.limits.cpu_millis.is_some() && !self.machine.hierarchy.has_cpu() {
            return Err(unsupported(
                "the cgroup controller `cpu` is missing, and the sandbox asks for a cpu limit",
                "Mount it, or leave the limit out.",
            ));
        }
        places
            .cgroup
            .create(&spec.limits)
            .map_err(|error| RuntimeError::start("making the cgroup", error))?;
        network
            .create()
            .await
            .map_err(|error| RuntimeError::start("making the network", error))?;
        let sockets = network
            .open_sockets()
            .await
            .map_err(|error| RuntimeError::start("opening the gateway's sockets", error))?;
        let into_tokio = |error| RuntimeError::start("opening the gateway's sockets", error);
        let dns = UdpSocket::from_std(sockets.dns).map_err(into_tokio)?;
        let tcp = TcpListener::from_std(sockets.tcp).map_err(into_tokio)?;
        let caught = UdpSocket::from_std(sockets.datagrams).map_err(into_tokio)?;
        let session = self.gateway.serve(spec.id, dns, tcp);
        tasks.datagrams = Some(tokio::spawn(datagrams::refuse_all(
            caught,
            sockets.icmp,
            session.datagrams(),
        )));
        tasks.session = Some(session);

        let program: String = spec
            .argv
            .iter()
            .take(1)
            .flat_map(|p| p.chars())
            .take(120)
            .collect();
        let running = format!("running {program}");
        let launched = launch(
            &self.machine.launch,
            places.cgroup.entrances(),
            self.runsc_command(places),
        )
        .await
        .map_err(|error| RuntimeError::start("launching runsc", error))?;
        let most = usize::try_from(spec.limits.output_bytes).unwrap_or(usize::MAX);
        let output = Output::capture(launched.stdout, launched.stderr, most);
        let mut end = End::Waiting(launched.ended);
        match timeout(
            self.config.start_timeout,
            self.until_running(places, &mut end),
        )
        .await
        {
            Ok(Ok(())) => Ok((end, output)),
            Ok(Err(reason)) => {
                // What runsc could not log it said aloud.
                places
                    .cgroup
                    .kill_all()
                    .await
                    .map_err(|error| RuntimeError::control("killed", error))?;
                let said = output.collect().await.stderr;
                let said = String::from_utf8_lossy(&said.bytes);
                let reason = reason.unwrap_or_else(|| said.trim().chars().take(500).collect());
                Err(RuntimeError::start(running, reason))
            }
            Err(_) => Err(RuntimeError::start(
                running,
                format!(
                    "the program did not run within {} seconds",
                    self.config.start_timeout.as_secs()
                ),
            )),
        }
    }

    fn runsc_command(&self, places: &Places) -> Vec<OsString> {
        let machine = &self.machine;
        let flag = |name: &str, value: &Path| {
            let mut text = OsString::from(format!("--{name}="));
            text.push(value);
            text
        };
        vec![
            machine.runsc.clone().into(),
            flag("root", &machine.runsc_state),
            flag("log", &places.folder.join(ERROR_LOG)),
            flag("debug-log", &places.folder.join(RUN_LOG)),
            // Not the logs of gVisor's kernel: the program has a hand in their
            // length.
            "--debug-command=run".into(),
            "--log-format=json".into(),
            "--debug-log-format=json".into(),
            "--network=sandbox".into(),
            // Nothing is written to the host, not even beside the root.
            "--overlay2=none".into(),
            // The cgroup is ours and made already.
            "--ignore-cgroups".into(),
            "run".into(),
            flag("bundle", &places.folder),
            places.name.clone().into(),
        ]
    }

    /// Waits until runsc says that the program runs, or until it ran already. An
    /// error says why it did not, when runsc told.
    async fn until_running(&self, places: &Places, end: &mut End) -> Result<(), Option<String>> {
        let state_root = self.machine.runsc_state.display().to_string();
        loop {
            tokio::select! {
                ended = end.wait() => return self.ran_already(places, &ended),
                () = tokio::time::sleep(POLL) => {}
            }
            let asked = command::run(
                &self.machine.runsc,
                &["--root", &state_root, "state", &places.name],
                "",
            )
            .await;
            // Until the container exists, runsc fails.
            let status = asked
                .ok()
                .and_then(|text| serde_json::from_str::<State>(&text).ok())
                .map(|state| state.status);
            if status.as_deref() == Some("running") {
                return Ok(());
            }
        }
    }

    /// Tells a short program from a failed start.
    fn ran_already(
        &self,
        places: &Places,
        ended: &std::io::Result<ExitStatus>,
    ) -> Result<(), Option<String>> {
        if let Err(error) = ended {
            return Err(Some(error.to_string()));
        }
        let read = |name| fs::read_to_string(places.folder.join(name)).unwrap_or_default();
        if let Some(reason) = fatal_error(&read(ERROR_LOG)) {
            return Err(Some(reason));
        }
        if places
            .cgroup
            .out_of_memory_kills()
            .is_ok_and(|kills| kills > 0)
        {
            return Ok(());
        }
        // A launch that failed before runsc leaves no log.
        if read(RUN_LOG).is_empty() {
            Err(None)
        } else {
            Ok(())
        }
    }
}

/// What of `runsc state` is of interest.
#[derive(Deserialize)]
struct State {
    status: String,
}
