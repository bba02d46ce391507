//! A small blocking client for Creto's HTTP interface.
//!
//! What it promises:
//!
//! - **Loopback only.** A server address that is not this machine's loopback is
//!   refused ([`ServerAddress`]): the credential travels in clear text. Proxies
//!   of the environment are not used and redirects are not followed.
//! - **The credential stays secret.** It is read from an owner-only file or
//!   handed over as a [`creto_config::Secret`], and appears in no error.
//! - **Every mutation carries an `Idempotency-Key`.** Without one of the
//!   caller's, a fresh random one is sent. The client never repeats a call by
//!   itself: whoever does passes the key ([`Client::post_with_key`]).
//! - **Refusals are typed.** What is not a success becomes
//!   [`ClientError::Refused`] with the server's [`Problem`] document.
//!
//! Documents are `serde_json::Value`: the client adds no opinion about their
//! shape, which the server describes in `/openapi.json`.

mod address;
mod client;
mod error;
mod pages;

pub use address::ServerAddress;
pub use client::{Client, read_credential};
pub use error::{ClientError, Problem};
pub use pages::{Pages, encode};
