//! What every interface does with a request before it is understood, whatever its
//! wire: whether it means this server ([`Hosts`]), who asks ([`identify`]) and proves it
//! ([`proof`]), and, once it was refused, of which kind the refusal is ([`Kind`]).
//!
//! The interfaces differ in how they say a refusal: `creto-http` has statuses of
//! HTTP and problem documents, `creto-grpc` codes of gRPC. What is refused, and why,
//! does not differ, because it is decided here and below.

mod credential;
mod hosts;
mod htu;
mod kind;

pub use credential::{
    CredentialError, NONCE_HEADER, PROOF_HEADER, has_credential, identify, proof, speaks_dpop,
};
pub use hosts::Hosts;
pub use kind::Kind;
