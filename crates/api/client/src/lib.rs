//! A small blocking client for Creto's HTTP interface.
//!
//! What it promises:
//!
//! - **Loopback only.** A server address that is not this machine's loopback is
//!   refused ([`ServerAddress`]): the credential travels in clear text. Proxies
//!   of the environment are not used and redirects are not followed.
//! - **The credential stays secret.** It is read from an owner-only file or
//!   handed over as a [`creto_config::Secret`], and appears in no error.
//! - **A credential bound to a key is proven.** With a [`ProofKey`] every call carries a
//!   proof of its own (RFC 9449).
//! - **Every mutation carries an `Idempotency-Key`.** Without one of the
//!   caller's, a fresh random one is sent. The client never repeats a call by
//!   itself, but one that was refused for want of the server's newest nonce: whoever does
//!   passes the key ([`Client::post_with_key`]).
//! - **Refusals are typed.** What is not a success becomes
//!   [`ClientError::Refused`] with the server's [`Problem`] document.
//!
//! Documents are `serde_json::Value`: the client adds no opinion about their
//! shape, which the server describes in `/openapi.json`.

mod address;
mod client;
mod error;
mod pages;
mod proof;

pub use address::ServerAddress;
pub use client::{Client, read_credential};
pub use error::{ClientError, Problem};
pub use pages::{Pages, encode};
pub use proof::ProofKey;
