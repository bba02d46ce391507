//! A runtime with a gateway whose surroundings the test can see.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use creto_runtime::{
    AddressGuard, EgressDecision, EgressEvent, EgressLog, EgressLogError, EgressRequest,
    EgressVerdict, ExitReason, ExitReport, Gateway, GatewayConfig, GatewayServices,
    InternalService, Limits, ResolveError, Resolver, RunningSandbox, SandboxId, SandboxRuntime,
    SandboxSpec,
};
use creto_runtime_gvisor::{GvisorConfig, GvisorRuntime, TcpDialer};
use creto_types::{Clock, IdSource, SystemClock, SystemIds, SystemRandom};
use parking_lot::Mutex;

/// The one name that may be reached.
pub(crate) const ALLOWED: &str = "allowed.example.test";

/// Allows one name and remembers everything.
#[derive(Default)]
pub(crate) struct Surroundings {
    pub(crate) events: Mutex<Vec<(SandboxId, EgressEvent)>>,
    /// Names that would have left the machine.
    pub(crate) resolved: Mutex<Vec<String>>,
}

#[async_trait]
impl EgressDecision for Surroundings {
    async fn decide(&self, _: SandboxId, request: &EgressRequest) -> EgressVerdict {
        if request.host == ALLOWED {
            EgressVerdict::Allow {
                policies: vec!["test-allows".into()],
                on_record: false,
            }
        } else {
            EgressVerdict::Refuse {
                code: "egress_not_allowed".into(),
                message: format!("no policy allows {}", request.host),
                policies: Vec::new(),
                retry_after: None,
            }
        }
    }

    async fn decide_again(&self, sandbox: SandboxId, request: &EgressRequest) -> EgressVerdict {
        self.decide(sandbox, request).await
    }
}

#[async_trait]
impl EgressLog for Surroundings {
    async fn record(&self, sandbox: SandboxId, event: EgressEvent) -> Result<(), EgressLogError> {
        self.events.lock().push((sandbox, event));
        Ok(())
    }
}

#[async_trait]
impl Resolver for Surroundings {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.resolved.lock().push(host.to_owned());
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

/// Answers with what it was asked and by whom.
#[async_trait]
impl InternalService for Surroundings {
    async fn serve(
        &self,
        sandbox: SandboxId,
        request: http::Request<Bytes>,
    ) -> http::Response<Bytes> {
        let text = format!(
            "{sandbox} {} {} {}",
            request.method(),
            request.uri(),
            String::from_utf8_lossy(request.body()),
        );
        http::Response::new(text.into())
    }
}

pub(crate) struct World {
    pub(crate) runtime: Arc<GvisorRuntime>,
    pub(crate) surroundings: Arc<Surroundings>,
    pub(crate) folder: PathBuf,
    _own: Option<tempfile::TempDir>,
}

/// Whether the machine's owner said that sandboxes are not to be tested here.
pub(crate) fn skipped() -> bool {
    let skip = std::env::var("CRETO_SKIP_SANDBOX_TESTS").is_ok_and(|value| value == "1");
    if skip {
        eprintln!("CRETO_SKIP_SANDBOX_TESTS=1: this sandbox test was not run");
    }
    skip
}

impl World {
    pub(crate) fn new() -> Self {
        let own = tempfile::tempdir().expect("a folder");
        let mut world = Self::at_path(own.path().to_owned());
        world._own = Some(own);
        world
    }

    pub(crate) fn at_path(folder: PathBuf) -> Self {
        let surroundings = Arc::new(Surroundings::default());
        let gateway = Gateway::new(
            GatewayConfig {
                guard: AddressGuard::allowing(["127.0.0.1".parse().expect("a network")]),
                ..GatewayConfig::default()
            },
            Arc::clone(&surroundings) as Arc<dyn Resolver>,
            Arc::new(TcpDialer),
            Arc::new(SystemClock::new()),
        );
        assert!(gateway.connect(GatewayServices {
            decision: Arc::clone(&surroundings) as Arc<dyn EgressDecision>,
            internal: Arc::clone(&surroundings) as Arc<dyn InternalService>,
            log: Arc::clone(&surroundings) as Arc<dyn EgressLog>,
        }));
        let runtime =
            GvisorRuntime::open(GvisorConfig::new(&folder), gateway).unwrap_or_else(|error| {
                panic!(
                    "sandboxes cannot run here: {error}\n\
                     Run scripts/setup.sh as root, or set CRETO_SKIP_SANDBOX_TESTS=1 to leave \
                     these tests out."
                )
            });
        Self {
            runtime,
            surroundings,
            folder,
            _own: None,
        }
    }

    pub(crate) async fn start(&self, spec: SandboxSpec) -> Arc<dyn RunningSandbox> {
        self.runtime
            .start(spec)
            .await
            .unwrap_or_else(|error| panic!("no start: {}", creto_errors::chain(&error)))
    }

    /// Runs Python in a sandbox and returns what became of it.
    pub(crate) async fn run(&self, code: &str, limits: Limits) -> ExitReport {
        let sandbox = self.start(python(code, limits)).await;
        sandbox.wait().await.expect("a report")
    }

    /// Runs Python that must end well and returns what it printed.
    pub(crate) async fn print(&self, code: &str) -> String {
        let report = self.run(code, Limits::default()).await;
        assert_eq!(
            report.reason,
            ExitReason::Exited { code: 0 },
            "{}",
            show(&report)
        );
        text(&report.stdout)
    }

    /// Nothing of any sandbox is left on the machine.
    /// In how many periods the kernel held the sandbox back from the processors: the
    /// `nr_throttled` of its group.
    pub(crate) fn periods_held_back(&self, id: SandboxId) -> u64 {
        let digits = id.uuid().simple().to_string();
        let groups = [
            "/sys/fs/cgroup/cpu/creto",
            "/sys/fs/cgroup/cpu,cpuacct/creto",
            "/sys/fs/cgroup/creto",
        ];
        groups
            .into_iter()
            .filter_map(|place| std::fs::read_dir(place).ok())
            .flat_map(|entries| entries.flatten())
            .filter(|entry| entry.file_name().to_string_lossy().contains(&digits[16..]))
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("cpu.stat")).ok())
            .filter_map(|stat| {
                let count = stat
                    .lines()
                    .find_map(|line| line.strip_prefix("nr_throttled "))?;
                count.parse().ok()
            })
            .next()
            .unwrap_or_default()
    }

    pub(crate) fn assert_clean(&self, names: &[SandboxId]) {
        let sandboxes = std::fs::read_dir(self.folder.join("sandboxes")).expect("a folder");
        assert_eq!(sandboxes.count(), 0, "folders are left");
        for id in names {
            let digits = id.uuid().simple().to_string();
            let short = &digits[16..];
            for place in [
                "/run/netns",
                "/sys/fs/cgroup/memory/creto",
                "/sys/fs/cgroup/pids/creto",
                "/sys/fs/cgroup/creto",
            ] {
                let Ok(entries) = std::fs::read_dir(place) else {
                    continue;
                };
                for entry in entries.flatten() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    assert!(!name.contains(short), "{place}/{name} is left");
                }
            }
        }
    }
}

pub(crate) fn new_id() -> SandboxId {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let ids = SystemIds::new(clock, Arc::new(SystemRandom));
    (&ids as &dyn IdSource).next()
}

pub(crate) fn python(code: &str, limits: Limits) -> SandboxSpec {
    SandboxSpec {
        id: new_id(),
        org: "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e"
            .parse()
            .expect("an id"),
        agent: "release-bot".parse().expect("a name"),
        argv: vec!["/usr/bin/python3".into(), "-c".into(), code.into()],
        env: BTreeMap::new(),
        cwd: "/".into(),
        mounts: Vec::new(),
        limits,
    }
}

pub(crate) fn limits() -> Limits {
    Limits {
        wall_time: Duration::from_secs(60),
        ..Limits::default()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn show(report: &ExitReport) -> String {
    format!(
        "{:?}\n--- stdout\n{}\n--- stderr\n{}",
        report.reason,
        text(&report.stdout),
        text(&report.stderr)
    )
}
