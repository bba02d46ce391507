//! Programs that run as an agent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use creto_authz::{Authz, Bound};
use creto_crypto::sha256;
use creto_errors::Classify;
use creto_runtime::{
    ExitReason, ExitReport, Limits, Mount, RunningSandbox, RuntimeError, SandboxId, SandboxRuntime,
    SandboxSpec,
};
use creto_telemetry::SandboxExit;
use creto_types::{Commit, Evidence, OrgId, canonical_json};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use crate::delegation::link_id;
use crate::idempotency::Begun;
use crate::{
    Call, Caller, GovernError, Governor, IdempotencyKey, SandboxAnswer, SandboxRow, SandboxState,
};

/// A program to run in a sandbox of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxRequest {
    /// The link the program acts under; its delegatee is the agent.
    pub delegation: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its environment; nothing of the server's own reaches it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Volumes of the configuration, mounted read-only.
    #[serde(default)]
    pub mounts: Vec<MountRequest>,
    /// What it may use; the configured limits when absent.
    #[serde(default)]
    pub limits: LimitsRequest,
}

/// One volume to mount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MountRequest {
    /// The volume's name in `[runtime.volumes]`.
    pub name: String,
    /// Where the program sees it.
    pub target: String,
}

/// Limits to ask for; each at most the configured one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsRequest {
    /// Memory of the whole sandbox, in bytes.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Processes and threads at the same time.
    #[serde(default)]
    pub processes: Option<u32>,
    /// From start to end, in seconds.
    #[serde(default)]
    pub wall_seconds: Option<u64>,
}

/// Which agent each running sandbox is bound to.
#[derive(Debug, Default)]
pub struct Bindings {
    bound: Mutex<HashMap<SandboxId, Bound>>,
}

impl Bindings {
    /// No sandbox runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The agent of a running sandbox.
    #[must_use]
    pub fn get(&self, sandbox: SandboxId) -> Option<Bound> {
        self.bound.lock().get(&sandbox).cloned()
    }

    /// The agent of a running sandbox, bound anew if limits or rates changed since.
    pub(crate) fn current(&self, sandbox: SandboxId, authz: &Authz) -> Option<Bound> {
        let mut all = self.bound.lock();
        let bound = all.get_mut(&sandbox)?;
        if !bound.is_current() {
            *bound = authz.bind(Arc::clone(bound.identity()));
        }
        Some(bound.clone())
    }

    fn insert(&self, sandbox: SandboxId, bound: Bound) {
        self.bound.lock().insert(sandbox, bound);
    }

    fn remove(&self, sandbox: SandboxId) {
        self.bound.lock().remove(&sandbox);
    }
}

/// What runs in this process.
#[derive(Default)]
pub(crate) struct Sandboxes {
    running: Mutex<HashMap<SandboxId, Running>>,
}

struct Running {
    handle: Arc<dyn RunningSandbox>,
    /// Closed once the sandbox's end is durable.
    ended: watch::Receiver<()>,
}

impl Governor {
    /// Runs a program as the agent of a delegation. The program holds no
    /// credential: what it sends to `http://creto.internal/` is the agent's.
    pub async fn launch(
        self: &Arc<Self>,
        caller: &Caller,
        request: SandboxRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<SandboxAnswer, GovernError> {
        caller.may(Call::LaunchSandbox, self.now())?;
        caller.require_person("run programs in sandboxes")?;
        let ticket = match self.begin(caller, key, "sandbox.launch", &request).await? {
            Begun::Replay(answer) => return self.current(caller, answer).await,
            Begun::Fresh(ticket) => ticket,
        };
        let Some(runtime) = &self.parts.runtime else {
            return Err(GovernError::Unsupported {
                message: "this server cannot run sandboxes; `creto doctor` says what is missing"
                    .to_owned(),
            });
        };
        let link = link_id("delegation", &request.delegation)?;
        let identity = self.parts.nhi.identity_for_link(caller.org(), link)?;
        identity.live(self.now())?;
        let spec = self.spec(caller.org(), &identity.name, &request)?;
        let answer = SandboxAnswer {
            id: spec.id.to_string(),
            agent: identity.name.clone(),
            delegation: link.to_string(),
            argv: request.argv.clone(),
            state: SandboxState::Running,
            exit: None,
            exit_code: None,
            stdout: None,
            stderr: None,
            started_at: self.now(),
            ended_at: None,
            leaf: None,
        };
        let evidence = self
            .record(
                caller.org(),
                caller.name(),
                "sandbox.started",
                None,
                &json!({
                    "sandbox_id": spec.id,
                    "agent": identity.name,
                    "delegation": link,
                    "program": request.argv.first().map(|name| shortened(name)),
                    "argv_sha256": hex::encode(sha256(&canonical_json(&request.argv)?)),
                    "volumes": request.mounts.iter().map(|m| &m.name).collect::<Vec<_>>(),
                }),
            )
            .await?;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let row = SandboxRow {
            org: caller.org(),
            answer: answer.clone(),
        };
        let committed = self.parts.sandboxes.put(row, commit).await;
        let durable = committed.is_ok();
        let answer = ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(caller.org(), &receipt))
                .map_err(GovernError::from),
        )?;
        if !durable {
            // A concurrent call with the same key was first.
            return self.current(caller, answer).await;
        }
        let bound = self.parts.authz.bind(identity);
        self.start(runtime.as_ref(), caller.org(), bound, spec, answer)
            .await
    }

    async fn start(
        self: &Arc<Self>,
        runtime: &dyn SandboxRuntime,
        org: OrgId,
        bound: Bound,
        spec: SandboxSpec,
        answer: SandboxAnswer,
    ) -> Result<SandboxAnswer, GovernError> {
        let id = spec.id;
        // The program may call before `start` returns.
        self.parts.bindings.insert(id, bound);
        match runtime.start(spec).await {
            Ok(handle) => {
                let (closing, ended) = watch::channel(());
                let running = Running {
                    handle: Arc::clone(&handle),
                    ended,
                };
                self.running.running.lock().insert(id, running);
                self.parts.metrics.sandboxes_running.inc();
                let governor = Arc::clone(self);
                let row = SandboxRow {
                    org,
                    answer: answer.clone(),
                };
                tokio::spawn(async move {
                    let report = handle.wait().await;
                    governor.parts.bindings.remove(id);
                    governor.parts.metrics.sandboxes_running.dec();
                    governor.ended(row, report).await;
                    governor.running.running.lock().remove(&id);
                    drop(closing);
                });
                Ok(answer)
            }
            Err(error) => {
                self.parts.bindings.remove(id);
                let mut failed = answer;
                failed.state = SandboxState::Exited;
                failed.exit = Some("failed_to_start".to_owned());
                failed.stderr = Some(creto_errors::chain(&error));
                let row = SandboxRow {
                    org,
                    answer: failed,
                };
                self.store_end(row).await?;
                Err(error.into())
            }
        }
    }

    /// Stores how a sandbox ended. Nobody waits for this result, so a failure is
    /// told to the operator.
    async fn ended(&self, mut row: SandboxRow, report: Result<ExitReport, RuntimeError>) {
        let answer = &mut row.answer;
        answer.state = SandboxState::Exited;
        let metric = match report {
            Ok(report) => {
                answer.exit = Some(report.reason.as_str().to_owned());
                answer.stdout = Some(String::from_utf8_lossy(&report.stdout).into_owned());
                answer.stderr = Some(String::from_utf8_lossy(&report.stderr).into_owned());
                match report.reason {
                    ExitReason::Exited { code } => {
                        answer.exit_code = Some(code);
                        SandboxExit::Exited
                    }
                    ExitReason::Signaled { .. } => SandboxExit::Signaled,
                    ExitReason::OutOfMemory => SandboxExit::OutOfMemory,
                    ExitReason::TimedOut => SandboxExit::TimedOut,
                    ExitReason::Killed => SandboxExit::Killed,
                    ExitReason::Lost => SandboxExit::Lost,
                }
            }
            Err(error) => {
                answer.exit = Some(ExitReason::Lost.as_str().to_owned());
                answer.stderr = Some(creto_errors::chain(&error));
                SandboxExit::Lost
            }
        };
        self.parts.metrics.sandbox_exits.inc(metric);
        let id = row.answer.id.clone();
        if let Err(error) = self.store_end(row).await {
            tracing::error!(
                sandbox = id,
                code = error.code(),
                error = &error as &dyn std::error::Error,
                "the end of a sandbox could not be stored"
            );
        }
    }

    async fn store_end(&self, mut row: SandboxRow) -> Result<(), GovernError> {
        let evidence = self.end_record(&row).await?;
        row.answer.ended_at = Some(evidence.at);
        let org = row.org;
        let receipt = self.parts.sandboxes.put(row, Commit::of(evidence)).await?;
        self.committed(org, &receipt);
        Ok(())
    }

    async fn end_record(&self, row: &SandboxRow) -> Result<Evidence, GovernError> {
        self.record(
            row.org,
            &row.answer.agent,
            "sandbox.ended",
            None,
            &json!({
                "sandbox_id": row.answer.id,
                "exit": row.answer.exit,
                "exit_code": row.answer.exit_code,
            }),
        )
        .await
    }

    /// What a sandbox is doing, or how it ended. With `wait` the answer comes once
    /// it ended, or that time has passed.
    pub async fn sandbox(
        &self,
        caller: &Caller,
        id: &str,
        wait: Option<Duration>,
    ) -> Result<SandboxAnswer, GovernError> {
        caller.may(Call::GetSandbox, self.now())?;
        caller.require_person("read sandboxes")?;
        let ended = id.parse().ok().and_then(|id: SandboxId| {
            let running = self.running.running.lock();
            running.get(&id).map(|running| running.ended.clone())
        });
        if let (Some(wait), Some(mut ended)) = (wait, ended) {
            // Both a closed channel and an elapsed time lead to the same answer.
            let _ = tokio::time::timeout(wait, ended.changed()).await;
        }
        self.stored(caller.org(), id).await
    }

    /// Sandboxes after `after`, oldest first.
    pub async fn sandboxes(
        &self,
        caller: &Caller,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SandboxAnswer>, GovernError> {
        caller.may(Call::ListSandboxes, self.now())?;
        caller.require_person("list sandboxes")?;
        let rows = self
            .parts
            .sandboxes
            .list(caller.org(), after, limit)
            .await?;
        Ok(rows.into_iter().map(|row| row.answer).collect())
    }

    /// Ends a sandbox. Nothing of it runs any more when this returns.
    pub async fn kill(&self, caller: &Caller, id: &str) -> Result<SandboxAnswer, GovernError> {
        caller.may(Call::KillSandbox, self.now())?;
        caller.require_person("end sandboxes")?;
        let stored = self.stored(caller.org(), id).await?;
        let running = stored.id.parse().ok().and_then(|id: SandboxId| {
            let running = self.running.running.lock();
            running
                .get(&id)
                .map(|running| (Arc::clone(&running.handle), running.ended.clone()))
        });
        if let Some((handle, mut ended)) = running {
            handle.kill().await?;
            // Closed means ended; nothing is ever sent.
            let _ = ended.changed().await;
        }
        self.stored(caller.org(), id).await
    }

    /// Ends and accounts for what an earlier process left behind. Called once,
    /// before the first request.
    pub async fn recover(&self) -> Result<(), GovernError> {
        self.parts
            .metrics
            .reservations_open
            .set(self.parts.meter.open_reservations());
        self.count_pending().await?;
        if let Some(runtime) = &self.parts.runtime {
            for lost in runtime.cleanup_leftovers().await? {
                tracing::warn!(sandbox = %lost, "removed a sandbox of an earlier process");
            }
        }
        for mut row in self.parts.sandboxes.running().await? {
            row.answer.state = SandboxState::Lost;
            row.answer.exit = Some(ExitReason::Lost.as_str().to_owned());
            self.store_end(row).await?;
        }
        Ok(())
    }

    /// Ends everything that runs; for an orderly shutdown.
    pub async fn kill_all(&self) {
        let running: Vec<_> = self
            .running
            .running
            .lock()
            .values()
            .map(|running| (Arc::clone(&running.handle), running.ended.clone()))
            .collect();
        for (handle, mut ended) in running {
            match handle.kill().await {
                Ok(()) => {
                    // Closed means ended; nothing is ever sent.
                    let _ = ended.changed().await;
                }
                Err(error) => tracing::error!(
                    sandbox = %handle.id(),
                    error = &error as &dyn std::error::Error,
                    "a sandbox could not be ended"
                ),
            }
        }
    }

    async fn stored(&self, org: OrgId, id: &str) -> Result<SandboxAnswer, GovernError> {
        let row = self.parts.sandboxes.get(org, id).await?;
        row.map(|row| row.answer)
            .ok_or(GovernError::NotFound { what: "sandbox" })
    }

    /// A repeated launch tells how the first one is doing.
    async fn current(
        &self,
        caller: &Caller,
        answer: SandboxAnswer,
    ) -> Result<SandboxAnswer, GovernError> {
        self.stored(caller.org(), &answer.id).await
    }

    fn spec(
        &self,
        org: OrgId,
        agent: &creto_types::PrincipalName,
        request: &SandboxRequest,
    ) -> Result<SandboxSpec, GovernError> {
        let mounts = request
            .mounts
            .iter()
            .map(|mount| {
                let source = self.config.volumes.get(&mount.name).ok_or_else(|| {
                    GovernError::invalid(
                        "mounts.name",
                        format!(
                            "there is no volume `{}`; the configuration has: {}",
                            mount.name,
                            self.volume_names()
                        ),
                    )
                })?;
                Ok(Mount {
                    source: source.clone(),
                    target: mount.target.clone().into(),
                })
            })
            .collect::<Result<Vec<_>, GovernError>>()?;
        let spec = SandboxSpec {
            id: self.parts.ids.next(),
            org,
            agent: agent.clone(),
            argv: request.argv.clone(),
            env: request.env.clone(),
            cwd: "/".to_owned(),
            mounts,
            limits: self.limits(&request.limits)?,
        };
        spec.validate().map_err(RuntimeError::from)?;
        Ok(spec)
    }

    fn volume_names(&self) -> String {
        let names: Vec<&str> = self.config.volumes.keys().map(String::as_str).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    }

    fn limits(&self, asked: &LimitsRequest) -> Result<Limits, GovernError> {
        let most = &self.config.limits;
        let within = |field, asked: u64, most: u64| {
            if asked <= most {
                Ok(())
            } else {
                Err(GovernError::invalid(
                    field,
                    format!("{asked} is more than the configured {most}"),
                ))
            }
        };
        let mut limits = most.clone();
        if let Some(bytes) = asked.memory_bytes {
            within("limits.memory_bytes", bytes, most.memory_bytes)?;
            limits.memory_bytes = bytes;
        }
        if let Some(processes) = asked.processes {
            within(
                "limits.processes",
                u64::from(processes),
                u64::from(most.processes),
            )?;
            limits.processes = processes;
        }
        if let Some(seconds) = asked.wall_seconds {
            within("limits.wall_seconds", seconds, most.wall_time.as_secs())?;
            limits.wall_time = Duration::from_secs(seconds);
        }
        Ok(limits)
    }
}

/// Enough of a program's name to recognise it; the digest beside it is exact.
fn shortened(name: &str) -> String {
    name.chars().take(256).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use creto_authz::{Account, AuthzConfig, Hold, Quota, Refusal, Spend};
    use creto_nhi::AgentIdentity;
    use creto_nhi::test_util::human;
    use creto_types::{ManualClock, Timestamp};

    use super::*;

    /// Counts how often limits changed.
    #[derive(Default)]
    struct Changing(Arc<AtomicUsize>);

    struct Made(Arc<AtomicUsize>, usize);

    impl Quota for Changing {
        fn account(&self, _: &Arc<AgentIdentity>) -> Arc<dyn Account> {
            Arc::new(Made(Arc::clone(&self.0), self.0.load(Ordering::SeqCst)))
        }
    }

    impl Account for Made {
        fn is_current(&self) -> bool {
            self.0.load(Ordering::SeqCst) == self.1
        }

        fn reserve(self: Arc<Self>, _: &Spend<'_>, _: &dyn Fn() -> bool) -> Result<Hold, Refusal> {
            Err(Refusal::Outdated)
        }

        fn fits(&self, _: &Spend<'_>, _: &dyn Fn() -> bool) -> Result<(), Refusal> {
            Ok(())
        }

        fn again(self: Arc<Self>) -> Arc<dyn Account> {
            self
        }
    }

    #[test]
    fn whoever_runs_on_is_bound_anew_once_limits_changed() {
        let changes = Arc::<AtomicUsize>::default();
        let authz = Authz::new(
            Arc::new(Changing(Arc::clone(&changes))),
            Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)),
            AuthzConfig { remembered: 0 },
        );
        let id = "0192f0c4a5e77b3c8d1e2f3a4b5c6d7e";
        let sandbox = format!("sbx_{id}").parse().unwrap();
        let org = format!("org_{id}").parse().unwrap();
        let bindings = Bindings::new();
        assert!(bindings.current(sandbox, &authz).is_none());
        bindings.insert(sandbox, authz.bind(human(org, "dana")));
        changes.fetch_add(1, Ordering::SeqCst);
        assert!(!bindings.get(sandbox).unwrap().is_current());
        assert!(bindings.current(sandbox, &authz).unwrap().is_current());
        assert!(bindings.get(sandbox).unwrap().is_current());
    }
}
