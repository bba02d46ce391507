//! `creto secret`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::arguments::{ExpiresIn, Instant};

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Put a secret there, or a new version of one that is yours
    ///
    /// Its value is read from a file or from standard input, as it is but for one line
    /// break at its end.
    Put(SecretPutArgs),
    /// List secrets, without their values; agents see what is leased to them
    List,
    /// Make a secret somebody else's, for whoever put it leaves; for owners
    ///
    /// Only whose it is puts new versions and leases it. Leases that were given stay until
    /// they end or are taken back. Nobody learns the value by it.
    HandOver(SecretHandOverArgs),
    /// Lease a secret of yours to an agent below you
    Lease(SecretLeaseArgs),
    /// List leases
    Leases,
    /// Read a secret that is leased to the delegation of your credential
    Get(SecretGetArgs),
    /// Take a lease back, at once
    Revoke {
        /// The lease, for example lse_0192...
        lease: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SecretPutArgs {
    /// Its name
    pub(crate) name: String,
    /// The file that holds the value [default: standard input]
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SecretHandOverArgs {
    /// The secret
    pub(crate) name: String,
    /// Whose it is to be: the name of a person or of an agent
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct SecretLeaseArgs {
    /// The secret
    pub(crate) name: String,
    /// The delegation by which it is to be read
    #[arg(long, value_name = "ID")]
    pub(crate) delegation: String,
    /// For how long from now: 30d, 12h, 45m or 90s [default: as long as the delegation]
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_in: Option<ExpiresIn>,
    /// Until when: 2030-01-31 or 2030-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", conflicts_with = "expires_in")]
    pub(crate) expires_at: Option<Instant>,
}

#[derive(Debug, Args)]
pub(crate) struct SecretGetArgs {
    /// The secret
    pub(crate) name: String,
    /// The grant of an approved request
    #[arg(long, value_name = "GRANT")]
    pub(crate) grant: Option<String>,
}
