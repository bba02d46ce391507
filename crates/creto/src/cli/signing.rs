//! `creto sign` and `creto verify-signature`.

use std::path::PathBuf;

use clap::Args;
use creto_crypto::HashAlgorithm;

use super::AcceptArgs;

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The file to sign, of at most 16 KiB unless its digest is [default: standard input]
    pub(crate) file: Option<PathBuf>,
    /// Sign the digest of the file, which may then have any length and stays here: sha-256,
    /// sha-384, sha-512, sha3-256 or blake3, as far as the server accepts it
    #[arg(long, value_name = "FUNCTION")]
    pub(crate) digest: Option<HashAlgorithm>,
    /// What the signature is for: a-z, 0-9, `-`, `_`, `.`; it is signed, too
    #[arg(long, value_name = "NAME")]
    pub(crate) purpose: String,
    /// Where to write the signature; the file must not exist [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The grant of an approved request
    #[arg(long, value_name = "GRANT")]
    pub(crate) grant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifySignatureArgs {
    /// The signature that `creto sign` wrote
    pub(crate) signature: PathBuf,
    /// The file that was signed [default: standard input]
    pub(crate) file: Option<PathBuf>,
    /// Whose it has to be: the SPIFFE id of an agent, or of one instance of it
    #[arg(long, value_name = "SPIFFE ID")]
    pub(crate) signer: String,
    /// What it has to be for
    #[arg(long, value_name = "NAME")]
    pub(crate) purpose: String,
    /// The signer's keys, as `creto agent keys` wrote them; no server is asked then
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) also: AcceptArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    /// The SPIFFE id of an agent, of one instance of it, or of a human; or the name of one of
    /// your own organization
    #[arg(value_name = "SPIFFE_ID")]
    pub(crate) who: String,
    /// Where to write them, for `creto verify-signature --keys`; the file must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}
