//! `creto human`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use creto_types::PrincipalName;

use super::{RevokeKeyArgs, SuspendArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum HumanCommand {
    /// Add a person with a role, and write the credential to a file
    ///
    /// Example: creto human create carol --role auditor --out carol.credential
    Create(HumanArgs),
    /// Give a person another role, at once
    Role {
        /// The person
        name: PrincipalName,
        /// What the person is there for
        #[arg(value_enum)]
        role: RoleArgument,
        /// Why; it is kept in the log
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Write a new credential for a person; every one before ends
    ///
    /// It is bound to a key only if one is named here, whatever the one before was.
    Credential {
        /// The person
        name: PrincipalName,
        #[command(flatten)]
        to: HumanOut,
    },
    /// Stop a person, and everything delegated by it, until it is resumed
    Suspend(SuspendArgs),
    /// End the suspension of a person
    Resume(SuspendArgs),
    /// End a person for ever, and everything delegated by it; the name stays taken
    Revoke(SuspendArgs),
    /// Give a person another signing key; what the keys before signed stays valid
    RotateKey(SuspendArgs),
    /// End a signing key of a person for ever, and everything delegated with it
    RevokeKey(RevokeKeyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct HumanArgs {
    /// The name: a-z, 0-9, `-`, `_`, `.`
    pub(crate) name: PrincipalName,
    /// What the person is there for
    #[arg(long, value_enum)]
    pub(crate) role: RoleArgument,
    #[command(flatten)]
    pub(crate) to: HumanOut,
}

#[derive(Debug, Args)]
pub(crate) struct HumanOut {
    /// How many seconds the credential is good for [default: as long as any may be]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl_seconds: Option<u64>,
    /// Bind it to the key with this thumbprint (RFC 7638): whoever uses it then proves to
    /// have that key (DPoP), and it does not log in to the pages [default: bound to none]
    #[arg(
        long,
        value_name = "THUMBPRINT",
        conflicts_with = "bind_key",
        allow_hyphen_values = true
    )]
    pub(crate) bind_jkt: Option<String>,
    /// The same with the key in this file, as `creto agent key` wrote it
    #[arg(long, value_name = "FILE")]
    pub(crate) bind_key: Option<PathBuf>,
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE", required_unless_present = "stdout")]
    pub(crate) out: Option<PathBuf>,
    /// Print the credential instead
    #[arg(long, conflicts_with = "out")]
    pub(crate) stdout: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleArgument {
    /// Everything, other people and invoices included
    Owner,
    /// Suspends, revokes, sets limits and policies, runs sandboxes
    Operator,
    /// Reads everything and changes nothing
    Auditor,
    /// Decides what waits for a human
    Approver,
}

impl RoleArgument {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Approver => "approver",
        }
    }
}
