//! The `[crypto]` section: which algorithms are used and which are read.
//!
//! Names are kept as they are written: which there are is known above this layer.

use serde::Deserialize;

/// `[crypto]` as it stands in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CryptoSection {
    /// `[crypto.signatures]`: keys of principals and tokens, and what they sign.
    pub signatures: AlgorithmsSection,
    /// `[crypto.key_wrapping]`: private keys at rest.
    pub key_wrapping: AlgorithmsSection,
    /// `[crypto.sealing]`: payloads of records at rest.
    pub sealing: AlgorithmsSection,
    /// `[crypto.kem]`: prekeys, by which others agree on a secret with an agent.
    pub kem: AlgorithmsSection,
    /// `[crypto.digests]`: digests that agents have signed, and those of what they sign.
    pub digests: AlgorithmsSection,
    /// `[crypto.dpop]`: proofs of possession, which clients make.
    pub dpop: AcceptedSection,
}

/// The algorithms of a kind by which nothing is made here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AcceptedSection {
    /// Which are read.
    pub accepted: Option<Vec<String>>,
}

/// The algorithms of one kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlgorithmsSection {
    /// By which new objects are made.
    pub new: Option<String>,
    /// Which are read.
    pub accepted: Option<Vec<String>>,
}
