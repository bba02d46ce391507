//! Runs sandboxes with gVisor's `runsc`, one OCI bundle and two network
//! namespaces each.
//!
//! ```text
//!   program                     the gateway's sockets
//!   in gVisor                   (this process)
//!      |                              |
//!  +---+---------- namespace S --+  +-+---------- namespace G --+
//!  |  eth0  100.64.0.2           +--+  gw0  100.64.0.1          |
//!  |  default via 100.64.0.1     |  |  every TCP connection and |
//!  +-----------------------------+  |  datagram -> our sockets  |
//!                                   +---------------------------+
//! ```
//!
//! What the crate promises:
//!
//! - **no way out but the gateway.** Neither namespace has an interface to the
//!   host; nothing forwards. The listening sockets are opened inside namespace G,
//!   so a packet of the sandbox ends in this process or nowhere. IPv6 is dropped;
//! - **limits that hold.** Memory is the host's cgroup, processes are gVisor's
//!   own count, time is ours; [`creto_runtime::ExitReason`] says which one ended a
//!   sandbox from what was observed (`docs/formats/sandbox.md`);
//! - **nothing outlives its governor.** A sandbox is killed by the kernel when
//!   this process dies, however it dies; what it leaves in namespaces, cgroups
//!   and folders is removed by [`GvisorRuntime`]'s `cleanup_leftovers` at the
//!   next start, which also kills anything that still runs;
//! - **each step is checked.** A start that fails at any step removes what the
//!   steps before it made, and says which step it was.
//!
//! It needs root, cgroups with the memory and pids controllers (version 1 or 2),
//! and a kernel with network namespaces, veth and nftables' TPROXY. [`doctor`]
//! says which of these is missing and what to do.

mod bundle;
mod cgroup;
mod command;
mod config;
mod datagrams;
pub mod doctor;
mod launch;
mod leftovers;
mod network;
mod resolve;
mod runtime;
mod sandbox;
mod status;

pub use config::GvisorConfig;
pub use resolve::{NameServers, NameServersError, TcpDialer};
pub use runtime::GvisorRuntime;
