//! The egress gateway: what stands at the far end of a sandbox's network.

mod connect;
mod dns;
mod http;
mod names;
mod pace;
mod refusals;
mod session;
mod sniff;
mod tcp;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use creto_types::Clock;
use tokio::net::UdpSocket;

use crate::SandboxId;
use crate::guard::AddressGuard;
use crate::ports::{Dialer, EgressDecision, EgressLog, InternalService, Resolver};

pub use session::{DatagramRefusal, GatewaySession};
pub use tcp::Incoming;

/// The gateway's bounds.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Which real addresses allowed names may lead to.
    pub guard: AddressGuard,
    /// Connections of one sandbox at a time; more wait to be accepted.
    pub max_connections: usize,
    /// Names that one sandbox may learn; further ones do not exist for it.
    pub max_names: usize,
    /// Refusals that one sandbox can read back.
    pub max_refusals: usize,
    /// Bytes of a request body to `creto.internal`.
    pub max_internal_body: usize,
    /// Requests of one sandbox to `creto.internal` at a time, from before the
    /// body is read until the answer is sent; more wait.
    pub max_internal_requests: usize,
    /// The same for requests whose query has `wait_seconds`: they may take long,
    /// and do not keep the others from being served.
    pub max_internal_waits: usize,
    /// How long resolving and connecting may each take.
    pub connect_timeout: Duration,
    /// How long a request's or a `ClientHello`'s head may take to arrive.
    pub head_timeout: Duration,
    /// How long a connection may be silent before it is taken for a protocol in
    /// which the other side may speak first. What the program says then is still
    /// looked at before it passes.
    pub sniff_timeout: Duration,
    /// How long a server may take before its answer's head.
    pub response_timeout: Duration,
    /// How often policy is asked again about a connection that stays open.
    pub recheck_interval: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            guard: AddressGuard::public_only(),
            max_connections: 128,
            max_names: 4096,
            max_refusals: 256,
            max_internal_body: 1024 * 1024,
            max_internal_requests: 8,
            max_internal_waits: 32,
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            sniff_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(300),
            recheck_interval: Duration::from_secs(2),
        }
    }
}

/// Who decides, who answers and who remembers.
#[derive(Clone)]
pub struct GatewayServices {
    /// Policy.
    pub decision: Arc<dyn EgressDecision>,
    /// What answers at `http://creto.internal/`.
    pub internal: Arc<dyn InternalService>,
    /// Where every decision is recorded.
    pub log: Arc<dyn EgressLog>,
}

impl fmt::Debug for GatewayServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayServices").finish_non_exhaustive()
    }
}

/// The gateway of all sandboxes of one process.
pub struct Gateway {
    config: GatewayConfig,
    resolver: Arc<dyn Resolver>,
    dialer: Arc<dyn Dialer>,
    clock: Arc<dyn Clock>,
    services: OnceLock<GatewayServices>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("config", &self.config)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway that refuses everything until [`Gateway::connect`] gives it the
    /// services. The internal service usually needs the runtime, which needs the
    /// gateway; connecting them last breaks that circle.
    #[must_use]
    pub fn new(
        config: GatewayConfig,
        resolver: Arc<dyn Resolver>,
        dialer: Arc<dyn Dialer>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            resolver,
            dialer,
            clock,
            services: OnceLock::new(),
        })
    }

    /// Gives the gateway its services, once. Returns whether they were taken:
    /// a second call changes nothing and returns `false`.
    pub fn connect(&self, services: GatewayServices) -> bool {
        self.services.set(services).is_ok()
    }

    /// Whether [`Gateway::connect`] was called.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.services.get().is_some()
    }

    /// Starts to serve one sandbox on its own sockets: `dns` takes its queries,
    /// `tcp` every connection that it opens. Must be called in a tokio runtime.
    #[must_use = "the sandbox is served for as long as the session lives"]
    pub fn serve(
        self: &Arc<Self>,
        sandbox: SandboxId,
        dns: UdpSocket,
        tcp: impl Incoming,
    ) -> GatewaySession {
        GatewaySession::start(Arc::clone(self), sandbox, dns, tcp)
    }
}
