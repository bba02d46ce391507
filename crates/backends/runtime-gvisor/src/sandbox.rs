//! A running sandbox: its output, its end, and the report of it.

use std::fs;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use creto_runtime::{ExitReason, ExitReport, RunningSandbox, RuntimeError, SandboxId};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::leftovers::{Places, Tasks};
use crate::runtime::Inner;
use crate::status::{self, ERROR_LOG, RUN_LOG};

/// Every process of the sandbox is dead when the output is collected, so the
/// pipes end at once; this is for a descriptor that went astray.
const OUTPUT_GRACE: Duration = Duration::from_secs(5);

/// What one stream held.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    pub(crate) bytes: Vec<u8>,
    pub(crate) truncated: bool,
}

/// Both streams of a sandbox, read all along so that the program never blocks.
pub(crate) struct Output {
    stdout: JoinHandle<Captured>,
    stderr: JoinHandle<Captured>,
}

/// What both streams held.
pub(crate) struct Collected {
    pub(crate) stdout: Captured,
    pub(crate) stderr: Captured,
}

impl Output {
    pub(crate) fn capture(stdout: pipe::Receiver, stderr: pipe::Receiver, most: usize) -> Self {
        Self {
            stdout: tokio::spawn(capture(stdout, most)),
            stderr: tokio::spawn(capture(stderr, most)),
        }
    }

    pub(crate) async fn collect(self) -> Collected {
        let one = |mut task: JoinHandle<Captured>| async move {
            match timeout(OUTPUT_GRACE, &mut task).await {
                Ok(Ok(captured)) => captured,
                Ok(Err(_)) | Err(_) => {
                    task.abort();
                    Captured {
                        truncated: true,
                        ..Captured::default()
                    }
                }
            }
        };
        let (stdout, stderr) = tokio::join!(one(self.stdout), one(self.stderr));
        Collected { stdout, stderr }
    }
}

async fn capture(mut stream: pipe::Receiver, most: usize) -> Captured {
    let mut captured = Captured::default();
    let mut chunk = vec![0_u8; 16 * 1024];
    loop {
        let length = match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return captured,
            Ok(length) => length,
        };
        let room = most.saturating_sub(captured.bytes.len());
        let kept = length.min(room);
        captured.truncated |= kept < length;
        captured
            .bytes
            .extend_from_slice(chunk.get(..kept).unwrap_or_default());
    }
}

/// The end of `runsc run`, awaited or known.
pub(crate) enum End {
    Waiting(oneshot::Receiver<io::Result<ExitStatus>>),
    Known(Result<ExitStatus, io::ErrorKind>),
}

impl End {
    /// Waits for it. Can be asked again, also after it was dropped half-way.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Self::Waiting(receiver) = self {
            let ended = receiver
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the thread that waits for runsc ended")));
            *self = Self::Known(ended.map_err(|error| error.kind()));
        }
        match self {
            Self::Known(Ok(status)) => Ok(*status),
            Self::Known(Err(kind)) => Err((*kind).into()),
            Self::Waiting(_) => Err(io::Error::other("the end of runsc is not known")),
        }
    }
}

/// What a sandbox is watched with.
pub(crate) struct Watched {
    pub(crate) inner: Arc<Inner>,
    pub(crate) id: SandboxId,
    pub(crate) wall_time: Duration,
    pub(crate) places: Places,
    pub(crate) tasks: Tasks,
    pub(crate) end: End,
    pub(crate) output: Output,
    /// Given back when the sandbox is removed.
    pub(crate) slot: OwnedSemaphorePermit,
}

/// The handle of a running sandbox.
pub(crate) struct Sandbox {
    id: SandboxId,
    kill: watch::Sender<bool>,
    report: watch::Receiver<Option<ExitReport>>,
}

impl Sandbox {
    /// Watches it to its end in a task of its own.
    pub(crate) fn watch(watched: Watched) -> Arc<dyn RunningSandbox> {
        let (kill, killed) = watch::channel(false);
        let (tell, report) = watch::channel(None);
        let id = watched.id;
        tokio::spawn(async move {
            let report = to_the_end(watched, killed).await;
            let _ = tell.send(Some(report));
        });
        Arc::new(Self { id, kill, report })
    }

    async fn ended(&self, operation: &'static str) -> Result<ExitReport, RuntimeError> {
        let mut report = self.report.clone();
        let report = report
            .wait_for(Option::is_some)
            .await
            .map_err(|error| RuntimeError::control(operation, error))?;
        report
            .clone()
            .ok_or_else(|| RuntimeError::control(operation, "the report is missing"))
    }
}

#[async_trait]
impl RunningSandbox for Sandbox {
    fn id(&self) -> SandboxId {
        self.id
    }

    async fn wait(&self) -> Result<ExitReport, RuntimeError> {
        self.ended("waited for").await
    }

    async fn kill(&self) -> Result<(), RuntimeError> {
        self.kill.send_replace(true);
        self.ended("killed").await.map(drop)
    }
}

/// Who ended it, when it was not the program.
#[derive(Clone, Copy)]
enum Ended {
    Alone,
    Overdue,
    Killed,
}

async fn to_the_end(watched: Watched, mut killed: watch::Receiver<bool>) -> ExitReport {
    let Watched {
        inner,
        id,
        wall_time,
        places,
        mut tasks,
        mut end,
        output,
        slot,
    } = watched;
    let ended = tokio::select! {
        biased;
        _ = end.wait() => Ended::Alone,
        () = asked_to_kill(&mut killed) => Ended::Killed,
        () = sleep(wall_time) => Ended::Overdue,
    };
    if let Err(error) = places.cgroup.kill_all().await {
        tracing::error!(sandbox = %id, %error, "a sandbox cannot be killed");
    }
    let status = end.wait().await;
    // Read before the group is removed.
    let out_of_memory = places.cgroup.out_of_memory_kills();
    let reason = reason(ended, status, out_of_memory, &places);
    tasks.end().await;
    let output = output.collect().await;
    if let Err(error) = places.remove(&inner.machine).await {
        tracing::error!(
            sandbox = %id,
            error = creto_errors::chain(&error),
            "a sandbox could not be removed whole; the next server start tries again"
        );
    }
    inner.forget(id);
    drop(slot);
    tracing::info!(sandbox = %id, reason = reason.as_str(), "sandbox ended");
    ExitReport {
        reason,
        stdout: output.stdout.bytes,
        stderr: output.stderr.bytes,
        stdout_truncated: output.stdout.truncated,
        stderr_truncated: output.stderr.truncated,
    }
}

/// Resolves when somebody asks; never when every handle is gone.
async fn asked_to_kill(killed: &mut watch::Receiver<bool>) {
    if killed.wait_for(|asked| *asked).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn reason(
    ended: Ended,
    status: io::Result<ExitStatus>,
    out_of_memory: io::Result<u64>,
    places: &Places,
) -> ExitReason {
    // The kernel's own count comes first: a sandbox that lost a process to the
    // memory limit may hang until its time is over.
    if out_of_memory.is_ok_and(|kills| kills > 0) {
        return ExitReason::OutOfMemory;
    }
    match (ended, status) {
        (Ended::Killed, _) => ExitReason::Killed,
        (Ended::Overdue, _) => ExitReason::TimedOut,
        (Ended::Alone, Err(_)) => ExitReason::Lost,
        (Ended::Alone, Ok(status)) => {
            let read = |name| fs::read_to_string(places.folder.join(name)).unwrap_or_default();
            status::end(status, &read(RUN_LOG), &read(ERROR_LOG))
        }
    }
}
