//! Where an agent's program runs, and the only way out of there.
//!
//! This crate owns two things and depends on no sandbox technology:
//!
//! - **the sandbox port** ([`SandboxRuntime`], [`RunningSandbox`]): start a
//!   program under limits, wait for it, kill it, and tell truthfully how it
//!   ended ([`ExitReason`]). A backend (`creto-runtime-gvisor`) implements it;
//! - **the egress gateway** ([`Gateway`]): everything a sandbox sends reaches
//!   it, whatever address the program believed it was talking to, and nothing
//!   else does. It promises that
//!
//!   - no name leaves the machine that [`EgressDecision`] did not allow: the
//!     sandbox's resolver is the gateway's own, which answers an allowed name
//!     with a made-up address (198.18.0.0/15, RFC 2544) that means something in
//!     that sandbox only, and any other name with NXDOMAIN. The real address is
//!     looked up when a connection is made, by the [`Resolver`] port;
//!   - a connection goes where its name says: when it begins with HTTP or TLS,
//!     however late, the `Host` and the server name must be the name that the
//!     connection was made for. An address that
//!     the gateway did not make up is refused, and so is every datagram;
//!   - an allowed name cannot be pointed inwards: what it resolves to must be a
//!     public address unless the operator listed the network ([`AddressGuard`]);
//!   - TLS is passed on unread: the server name is taken from the `ClientHello`,
//!     the rest is between the program and its peer;
//!   - nothing passes before the log took over its record ([`EgressLog`]), and
//!     what cannot be recorded is refused. Each refusal can be read by the program
//!     at `http://creto.internal/v1/egress/refusals`;
//!   - `http://creto.internal/` is served by [`InternalService`] with the id of
//!     the sandbox that the connection came from. The id follows from the
//!     listener, never from what was sent;
//!   - whatever the program sends is bounded: headers, bodies to
//!     `creto.internal` and how many of them at a time, connections, names,
//!     remembered refusals, how fast decisions are made, and the time each step
//!     may take. When something fails, the answer is a refusal.
//!
//! What it does not do: read or change TLS, cap the volume of an allowed
//! connection, or hide from an allowed peer what the program tells it.

mod error;
mod gateway;
mod guard;
mod model;
mod ports;
mod spec;

pub use error::RuntimeError;
pub use gateway::{
    DatagramRefusal, Gateway, GatewayConfig, GatewayServices, GatewaySession, Incoming,
};
pub use guard::{AddressGuard, Network, NetworkError};
pub use model::{
    EgressEvent, EgressProtocol, EgressRequest, EgressVerdict, INTERNAL_HOST, REFUSALS_PATH,
    Refusal,
};
pub use ports::{
    Dialer, EgressDecision, EgressLog, EgressLogError, InternalService, ResolveError, Resolver,
    RunningSandbox, SandboxRuntime,
};
pub use spec::{
    ExitReason, ExitReport, Limits, Mount, SandboxId, SandboxKind, SandboxSpec, SpecError,
};
