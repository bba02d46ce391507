//! What the runtime needs from outside. Policy, the record and the internal
//! service are wired in by the composition root; the sandbox itself is a
//! backend.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use creto_errors::{Class, Classify};
use tokio::net::TcpStream;

use crate::{
    EgressEvent, EgressRequest, EgressVerdict, ExitReport, RuntimeError, SandboxId, SandboxSpec,
};

/// Runs programs in sandboxes.
#[async_trait]
pub trait SandboxRuntime: Send + Sync {
    /// Starts the program. When this returns an error, nothing is left running
    /// and nothing is left behind on the machine.
    ///
    /// The sandbox goes on when the returned handle is dropped, and ends with
    /// this process at the latest: no program outlives the gateway that governs
    /// it.
    async fn start(&self, spec: SandboxSpec) -> Result<Arc<dyn RunningSandbox>, RuntimeError>;

    /// Ends and removes what an earlier process left behind, and names those
    /// sandboxes. Called once, before the first [`SandboxRuntime::start`].
    async fn cleanup_leftovers(&self) -> Result<Vec<SandboxId>, RuntimeError>;
}

/// A sandbox that was started.
#[async_trait]
pub trait RunningSandbox: Send + Sync {
    /// Its id.
    fn id(&self) -> SandboxId;

    /// Waits until the sandbox ended and everything it used on the machine was
    /// removed. May be called by many callers and more than once; each gets the
    /// same report.
    async fn wait(&self) -> Result<ExitReport, RuntimeError>;

    /// Ends the sandbox and returns when nothing of it runs any more. A sandbox
    /// that ended by itself before is left as it is.
    async fn kill(&self) -> Result<(), RuntimeError>;
}

/// Decides what a sandbox may reach.
#[async_trait]
pub trait EgressDecision: Send + Sync {
    /// The decision now. Asked for each name, each HTTP request and each other
    /// connection anew, so a revocation is felt at the next one. Where limits and rates
    /// count what leaves, an `Allow` has been counted by them for good. An
    /// implementation that cannot decide answers `Refuse`.
    async fn decide(&self, sandbox: SandboxId, request: &EgressRequest) -> EgressVerdict;

    /// Whether what was allowed, and is under way, may go on. Counts nothing: what was
    /// begun within the limits is not ended by them.
    async fn decide_again(&self, sandbox: SandboxId, request: &EgressRequest) -> EgressVerdict;
}

/// Answers `http://creto.internal/`.
#[async_trait]
pub trait InternalService: Send + Sync {
    /// Serves one request of the sandbox. Who asks is `sandbox` and nothing in
    /// the request; the path and query are as the program sent them.
    async fn serve(
        &self,
        sandbox: SandboxId,
        request: http::Request<Bytes>,
    ) -> http::Response<Bytes>;
}

/// Takes the record of every decision of the gateway.
#[async_trait]
pub trait EgressLog: Send + Sync {
    /// Takes the record over. The gateway acts on the decision only when this
    /// returned: a full log slows the sandbox. After an error nothing passes: an
    /// `Allow` becomes a refusal with the error's code.
    async fn record(&self, sandbox: SandboxId, event: EgressEvent) -> Result<(), EgressLogError>;
}

/// A decision of the gateway could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum EgressLogError {
    /// The log does not take it.
    #[error("the log does not take records at the moment")]
    Unavailable {
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Nobody can be named as its author.
    #[error("this sandbox is bound to no agent")]
    UnknownSandbox,
}

impl EgressLogError {
    /// The log does not take the record, and why.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable {
            source: source.into(),
        }
    }
}

impl Classify for EgressLogError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Transient,
            Self::UnknownSandbox => Class::Security,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "trace_unavailable",
            Self::UnknownSandbox => "sandbox_unknown",
        }
    }
}

/// A name could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("the name could not be resolved")]
pub struct ResolveError {
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

impl ResolveError {
    /// Wraps the cause.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
        }
    }
}

/// Looks up the real addresses of an allowed name. The only place where a name
/// leaves the machine.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The name's addresses; empty when it has none.
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError>;
}

/// Opens connections to the outside for the gateway.
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Connects to exactly this address.
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream>;
}
