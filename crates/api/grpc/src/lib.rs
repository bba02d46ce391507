//! The governor over gRPC: the services `creto.authz.v1.Authz` and
//! `creto.consensus.v1.Timestamps`, and a client of the latter ([`RemoteOracle`]).
//! `docs/grpc.md` is their manual, the messages are in `creto-proto`.
//!
//! What this crate promises:
//!
//! - **One decision.** A call goes to the same method of [`creto_governor::Governor`]
//!   as its counterpart over HTTP; nothing is decided here.
//! - **Nothing works without a credential.** A bearer token is verified for every
//!   call, the whole chain included, before its message is read.
//! - **A call means this server** or is refused, as over HTTP.
//! - **Refusals are statuses with details** of google.rpc: the stable code, the class,
//!   the field to blame, this call's id. What failed for reasons of security never has
//!   a status that asks to be tried again.
//! - **Deadlines hold.** A call ends at its `grpc-timeout`, and at the server's own
//!   limit at the latest, a stream of timestamps apart, which ends when the server does.
//!   A change that began is finished even so, and even when its caller goes away; it
//!   begins when the whole message was read.
//! - **Memory is bounded**: the bytes and the fields of a message, the calls of a
//!   connection, the headers of a call.
//!
//! Only HTTP/2 without TLS is spoken, as the API speaks plain HTTP: on loopback.

mod authz;
mod front;
mod listen;
mod messages;
mod refusal;
mod remote;
mod timeout;
mod timestamps;

pub use creto_ingress::Hosts;
pub use front::Grpc;
pub use remote::{MalformedToken, RemoteOracle};
