//! The messages and the services of Creto's gRPC interface, generated from the files
//! in `proto/`, and the codec that reads them.
//!
//! The generated code is checked in, so that building Creto takes neither `protoc`
//! nor a code generator (`docs/decisions/0013-grpc.md`). A test makes it again and
//! fails when the two differ; with `CRETO_WRITE_GENERATED=1` it writes what it made.

mod codec;

pub use codec::{BoundedCodec, MAX_FIELDS};
pub use prost_types::{Duration, Timestamp};

/// The `.proto` file, for clients of other languages.
pub const AUTHZ_PROTO: &str = include_str!("../proto/creto/authz/v1/authz.proto");

/// The `.proto` file of timestamps.
pub const TIMESTAMPS_PROTO: &str = include_str!("../proto/creto/consensus/v1/timestamps.proto");

/// Package `creto.authz.v1`.
pub mod authz {
    /// Version 1.
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::wildcard_imports,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    pub mod v1 {
        include!("../generated/creto.authz.v1.rs");
    }
}

/// Package `creto.consensus.v1`.
pub mod consensus {
    /// Version 1.
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::wildcard_imports,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    pub mod v1 {
        include!("../generated/creto.consensus.v1.rs");
    }
}
