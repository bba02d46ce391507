//! Tokens bound to a key (RFC 9449): whoever presents one proves with every request
//! that the key is theirs.
//!
//! A proof is accepted once, exactly, whatever the clocks do and whenever the process
//! ends: it names a nonce of this process ([`guard`]), and each is remembered for as
//! long as its nonce is accepted. A process that starts accepts no nonce of an earlier
//! one, so nothing has to be written for it.

mod error;
mod guard;
mod proof;
mod verify;

pub use error::DpopError;
pub(crate) use guard::ProofGuard;
pub use guard::{MAX_PROOFS_PER_PRINCIPAL, NONCE_TURN};
pub use proof::{MAX_PROOF_LEN, Proof};
pub use verify::Exchanging;
