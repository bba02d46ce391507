//! `creto crypto`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum CryptoCommand {
    /// Give the organization new keys by the algorithms of the configuration
    ///
    /// While it is served, without a refused request: a new key for tokens, and a new key
    /// that private keys are stored under. What the old ones made stays valid until
    /// `creto crypto retire`. To move to another algorithm, write it as `new` under
    /// [crypto] and send the server SIGHUP first, which puts that section in force.
    ///
    /// With --log it is the log that is given new keys instead, by the algorithm for new keys
    /// but for the Ed25519 one that today's tools read. Those of before sign its
    /// checkpoints besides until `creto crypto retire --log`, so that monitors and
    /// witnesses can be given the new ones (`creto audit keys`) meanwhile.
    ///
    /// With --principals it is the people and agents whose signing keys are not of the
    /// algorithm for new ones, each in turn; ended in between, running it again goes on. What
    /// their keys before signed stays valid.
    Rotate(RotateArgs),
    /// Show which algorithms are in force, and what the configuration says of them
    ///
    /// Ends with exit status 1 where the configuration says something else or cannot be
    /// read. SIGHUP puts its [crypto] in force while the server runs.
    Status,
    /// End the keys that rotations replaced
    ///
    /// Private keys that are still stored under old ones are stored under the newest, and
    /// payloads of records are sealed by the cipher for new ones, which for millions takes
    /// minutes; ended in between, what was done stays, and running it again goes on. Refused
    /// while tokens of the old keys may be valid.
    ///
    /// With --log it is the former keys of the log that end, and nothing else: a monitor or
    /// a witness that knows no other can follow the log no more.
    Retire(RetireArgs),
    /// Move everything under another root key; stop the server first
    ///
    /// The new key takes the place of the file of the old one. Interrupted, it is brought
    /// to its end by running it again.
    RotateRoot(RotateRootArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Why; it is kept in the log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// The keys of the log, and of exported evidence, instead
    #[arg(long)]
    pub(crate) log: bool,
    /// The signing keys of people and agents instead, where they are of another algorithm
    #[arg(long, conflicts_with = "log")]
    pub(crate) principals: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RetireArgs {
    /// Why; it is kept in the log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Also when tokens of the old keys may be valid: they end now, and with them every
    /// credential from before the rotation, the owner's too
    #[arg(long)]
    pub(crate) now: bool,
    /// The former keys of the log instead
    #[arg(long, conflicts_with = "now")]
    pub(crate) log: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RotateRootArgs {
    /// The variable of the environment that holds the new root key, 64 hexadecimal
    /// digits; for a root key that `identity.root_key` names
    #[arg(long, value_name = "NAME")]
    pub(crate) new_key_env: Option<String>,
}
