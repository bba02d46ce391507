//! One sandbox at the gateway: its names, its refusals, its record.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use creto_errors::Classify;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::names::{NameTable, quoted};
use super::pace::Pace;
use super::refusals::RefusalList;
use super::tcp::{self, Incoming};
use super::{Gateway, GatewayConfig, GatewayServices, dns};
use crate::{EgressEvent, EgressProtocol, EgressRequest, EgressVerdict, Refusal, SandboxId};

/// What the tasks of one sandbox share.
pub(crate) struct Session {
    pub(crate) sandbox: SandboxId,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) names: Mutex<NameTable>,
    pub(crate) refusals: Mutex<RefusalList>,
    pub(crate) connections: Arc<Semaphore>,
    /// Requests to `creto.internal` that may still begin.
    pub(crate) internal: Arc<Semaphore>,
    /// The same for those that wait for something to happen.
    pub(crate) waiting: Arc<Semaphore>,
    pace: Pace,
}

impl Session {
    pub(crate) fn config(&self) -> &GatewayConfig {
        &self.gateway.config
    }

    pub(crate) fn services(&self) -> Option<&GatewayServices> {
        self.gateway.services.get()
    }

    /// Asks policy and records the answer. What it returns is what holds: an
    /// `Allow` that could not be recorded is a refusal.
    pub(crate) async fn decide(&self, request: &EgressRequest) -> EgressVerdict {
        self.pace.turn().await;
        let verdict = match self.services() {
            Some(services) => services.decision.decide(self.sandbox, request).await,
            None => not_ready(),
        };
        self.record(request.protocol, &request.host, request.port, verdict)
            .await
    }

    /// Asks policy again about something that is in the record already. A change
    /// of mind is returned: it is for the caller to stop what is under way and
    /// then to have it recorded by [`Session::changed`].
    pub(crate) async fn no_longer(&self, request: &EgressRequest) -> Option<EgressVerdict> {
        let verdict = match self.services() {
            Some(services) => services.decision.decide_again(self.sandbox, request).await,
            None => not_ready(),
        };
        (!verdict.is_allow()).then_some(verdict)
    }

    /// Records a change of mind.
    pub(crate) async fn changed(
        &self,
        request: &EgressRequest,
        verdict: EgressVerdict,
    ) -> EgressVerdict {
        self.pace.turn().await;
        self.record(request.protocol, &request.host, request.port, verdict)
            .await
    }

    /// Records a refusal that needs no policy and returns it.
    pub(crate) async fn refuse(
        &self,
        protocol: EgressProtocol,
        destination: &str,
        port: u16,
        code: &str,
        message: impl Into<String>,
    ) -> EgressVerdict {
        self.pace.turn().await;
        let verdict = EgressVerdict::refuse(code, message);
        self.record(protocol, destination, port, verdict).await
    }

    /// Records the verdict, unless it is on record, and returns the one that holds.
    async fn record(
        &self,
        protocol: EgressProtocol,
        destination: &str,
        port: u16,
        verdict: EgressVerdict,
    ) -> EgressVerdict {
        if matches!(verdict, EgressVerdict::Allow { on_record, .. } if on_record) {
            return verdict;
        }
        let destination = quoted(destination);
        let event = EgressEvent {
            at: self.gateway.clock.now(),
            protocol,
            destination: destination.clone(),
            port,
            verdict: verdict.clone(),
        };
        let verdict = match self.write(event).await {
            Err(refusal) if verdict.is_allow() => refusal,
            _ => verdict,
        };
        if let EgressVerdict::Refuse { code, message, .. } = &verdict {
            tracing::info!(
                sandbox = %self.sandbox, %protocol, destination, port, code, "egress refused"
            );
            self.refusals.lock().push(Refusal {
                protocol,
                destination: destination_text(&destination, port),
                code: code.clone(),
                message: message.clone(),
                count: 1,
            });
        }
        verdict
    }

    /// Hands the event to the log. The error is what an `Allow` turns into.
    async fn write(&self, event: EgressEvent) -> Result<(), EgressVerdict> {
        // Without services nothing is allowed either: see `decide`.
        let services = self.services().ok_or_else(not_ready)?;
        services
            .log
            .record(self.sandbox, event)
            .await
            .map_err(|error| {
                tracing::error!(
                    sandbox = %self.sandbox,
                    code = error.code(),
                    error = &error as &dyn std::error::Error,
                    "an egress decision could not be recorded"
                );
                EgressVerdict::refuse(
                    error.code(),
                    format!("nothing passes without a record, and {error}"),
                )
            })
    }

    /// The name that the program was told this address stands for.
    pub(crate) fn name_of(&self, address: IpAddr) -> Option<Arc<str>> {
        self.names.lock().name(address)
    }
}

fn not_ready() -> EgressVerdict {
    EgressVerdict::refuse(
        "egress_not_ready",
        "the gateway is not connected to policy yet",
    )
}

fn destination_text(destination: &str, port: u16) -> String {
    match port {
        0 => destination.to_owned(),
        _ if destination.contains(':') => format!("[{destination}]:{port}"),
        _ => format!("{destination}:{port}"),
    }
}

/// Serves one sandbox until it is closed or dropped. Dropping ends every
/// connection of the sandbox at once.
pub struct GatewaySession {
    session: Arc<Session>,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for GatewaySession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewaySession")
            .field("sandbox", &self.session.sandbox)
            .finish_non_exhaustive()
    }
}

impl GatewaySession {
    pub(super) fn start(
        gateway: Arc<Gateway>,
        sandbox: SandboxId,
        dns: UdpSocket,
        tcp: impl Incoming,
    ) -> Self {
        let session = Arc::new(Session {
            sandbox,
            names: Mutex::new(NameTable::new(gateway.config.max_names)),
            refusals: Mutex::new(RefusalList::new(gateway.config.max_refusals)),
            connections: Arc::new(Semaphore::new(gateway.config.max_connections)),
            internal: Arc::new(Semaphore::new(gateway.config.max_internal_requests)),
            waiting: Arc::new(Semaphore::new(gateway.config.max_internal_waits)),
            pace: Pace::new(),
            gateway,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(dns::serve(Arc::clone(&session), dns));
        tasks.spawn(tcp::serve(Arc::clone(&session), tcp));
        Self { session, tasks }
    }

    /// Where the backend reports the datagrams that it caught.
    #[must_use]
    pub fn datagrams(&self) -> DatagramRefusal {
        DatagramRefusal {
            session: Arc::clone(&self.session),
        }
    }

    /// Stops serving: every connection is closed when this returns.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Records refused datagrams of one sandbox.
#[derive(Clone)]
pub struct DatagramRefusal {
    session: Arc<Session>,
}

impl std::fmt::Debug for DatagramRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatagramRefusal")
            .field("sandbox", &self.session.sandbox)
            .finish_non_exhaustive()
    }
}

impl DatagramRefusal {
    /// Records that a datagram to this address was refused.
    pub async fn refuse(&self, destination: SocketAddr) {
        let name = self.session.name_of(destination.ip());
        let text = name.map_or_else(|| destination.ip().to_string(), |name| name.to_string());
        self.session
            .refuse(
                EgressProtocol::Udp,
                &text,
                destination.port(),
                "egress_udp_refused",
                "datagrams do not leave the sandbox; names are resolved by its own resolver, \
                 everything else goes over TCP by name",
            )
            .await;
    }
}
