//! `creto prekeys`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::AcceptArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum PrekeysCommand {
    /// Make prekeys of the agent whose credential this is, and publish them
    ///
    /// The private halves go to a new file that nobody else may read, and nowhere else. It
    /// is written first: a prekey is never published whose private half is not there. It is
    /// removed again when nothing was published, and kept when a human has to approve first or
    /// when it is not known: `creto prekeys publish` goes on with it.
    Generate(GenerateArgs),
    /// Publish the prekeys of a file that `creto prekeys generate` kept
    ///
    /// What was published before is never published again, so that it does no harm to ask
    /// once more. The file stays as it is.
    Publish(PublishArgs),
    /// Show how many are left, and by which algorithm to make new ones
    Left {
        /// To people: the SPIFFE id of the agent [default: the agent itself]
        spiffe_id: Option<String>,
    },
    /// Take a prekey of another agent, to write to it
    ///
    /// One that serves once is yours alone; when none is left, the prekey of last resort
    /// is given. Its signature is checked with the owner's keys.
    Take(TakeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The file for the private halves; it must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// How many that serve once [default: as many as may be added]
    #[arg(long, value_name = "N")]
    pub(crate) one_time: Option<usize>,
    /// Leave the prekey of last resort as it is
    #[arg(long)]
    pub(crate) keep_last_resort: bool,
    /// X-Wing, ML-KEM-768 or ML-KEM-1024 [default: the one the server has for new keys]
    #[arg(long, value_name = "NAME")]
    pub(crate) algorithm: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// The file of the private halves
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: PathBuf,
    /// The grant of an approved request, which is for these prekeys alone
    #[arg(long, value_name = "GRANT")]
    pub(crate) grant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TakeArgs {
    /// The SPIFFE id of the agent
    pub(crate) spiffe_id: String,
    /// Where to write the prekey; the file must not exist [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The agent's keys, as `creto agent keys` wrote them [default: the server is asked]
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// The grant of an approved request
    #[arg(long, value_name = "GRANT")]
    pub(crate) grant: Option<String>,
    #[command(flatten)]
    pub(crate) also: AcceptArgs,
}
