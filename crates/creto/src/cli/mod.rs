//! What can be typed. The help texts are the manual.

mod audit;
mod crypto;
mod human;
mod limits;
mod policy;
mod prekeys;
mod secret;
mod signing;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use creto_crypto::{AllowedAlgorithms, CryptoError};
use creto_types::{PrincipalName, Quantity};

use crate::arguments::{ExpiresIn, Instant, MountArgument, RightArgument, VariableArgument};

pub(crate) use audit::{
    AuditCommand, CheckProofArgs, FilterArgs, SearchArgs, WatchArgs, WitnessArgs,
};
pub(crate) use crypto::CryptoCommand;
pub(crate) use human::{HumanCommand, HumanOut};
pub(crate) use limits::{LimitArgs, LimitCommand, RateArgs, RateCommand};
pub(crate) use policy::{EvalArgs, ExplainArgs, PolicyCommand, ShadowCommand};
pub(crate) use prekeys::{GenerateArgs, PrekeysCommand, PublishArgs, TakeArgs};
pub(crate) use secret::{SecretCommand, SecretLeaseArgs};
pub(crate) use signing::{KeysArgs, SignArgs, VerifySignatureArgs};

/// Creto, the governance plane for AI agents.
///
/// It stands outside the agents' processes: for everything an agent wants to do it
/// decides, holds, runs, meters and proves. This one program is the server, every
/// administrative command and the offline verifier.
#[derive(Debug, Parser)]
#[command(name = "creto", version, max_term_width = 100, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  creto doctor                                what this machine still lacks
  creto demo                                  one governed action, end to end
  creto init --org 'Example' --owner alice    an organization of your own
  creto serve                                 run it
  creto self                                  who you are to it

Exit status: 0 done, 1 refused or failed, 2 wrong usage; of a watched log, 3 it misbehaves,
4 it withholds what it is checked by, 5 its witnesses do not cosign it.";

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Print one JSON document instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The configuration file [default: ./creto.toml]
    #[arg(long, global = true, value_name = "FILE", env = "CRETO_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// The server, on this machine's loopback, for example http://127.0.0.1:7180
    /// [default: the address the configuration listens on]
    #[arg(long, global = true, value_name = "URL", env = "CRETO_SERVER")]
    pub(crate) server: Option<String>,

    /// The file with your credential; nobody but you may be able to read it
    /// [default: the one `creto init` wrote beside the configuration]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CRETO_CREDENTIAL_FILE"
    )]
    pub(crate) credential: Option<PathBuf>,

    /// The file with the key that your credential is bound to, when it is: `creto agent
    /// key` makes one; nobody but you may be able to read it
    #[arg(long, global = true, value_name = "FILE", env = "CRETO_DPOP_KEY_FILE")]
    pub(crate) dpop_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SubjectCommand {
    /// Erase the records of a person, for ever; suspend or revoke the person first
    ///
    /// The key that the payloads of the person's records are sealed under is destroyed:
    /// nobody can read them any more, and every proof stays valid. What stays, and copies
    /// that were made before, are described in docs/operations.md.
    ///
    /// Example: creto subject erase carol --reason 'asked for it on 3 May'
    Erase {
        /// The person
        name: PrincipalName,
        /// Why; it is kept in the log, and should not name the person
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server until it is told to stop (SIGTERM or Ctrl-C)
    Serve(ServeArgs),
    /// Make an organization, its keys, a human owner, and a configuration
    Init(InitArgs),
    /// Run the whole scenario in ./demo-run and check every step of it
    Demo(DemoArgs),
    /// Check an exported evidence bundle, offline, with public keys alone
    Verify(VerifyArgs),
    /// Say what this machine lacks, and what to do about it
    Doctor,
    /// Work with the configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make agents, list them, give them tokens, run programs as them
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Add people with roles, change their roles, give them credentials
    #[command(subcommand)]
    Human(HumanCommand),
    /// Erase what the log keeps of a person
    #[command(subcommand)]
    Subject(SubjectCommand),
    /// Delegate authority: rights, an expiry and a budget
    #[command(subcommand)]
    Delegate(DelegateCommand),
    /// Take a delegation back, and everything delegated below it, at once
    Revoke {
        /// The delegation, for example lnk_0192...
        delegation: String,
    },
    /// Approve what an agent asks for; look at it first: creto oversight show
    Approve(DecisionArgs),
    /// Deny what an agent asks for
    Deny(DecisionArgs),
    /// See what waits for a human, and what was decided
    #[command(subcommand)]
    Oversight(OversightCommand),
    /// Set limits on agents, delegations and the organization, and see what is left
    #[command(subcommand)]
    Limit(LimitCommand),
    /// Set how often agents may call
    #[command(subcommand)]
    Rate(RateCommand),
    /// See what was used, by agent and action
    Usage(UsageArgs),
    /// Issue invoices and read them
    #[command(subcommand)]
    Invoice(InvoiceCommand),
    /// Read the log: its head, its leaves, one action's records, the evidence
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Write, test, try and publish policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Keep secrets, lease them to agents below you, and read what is leased to you
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Sign a file with the key of the agent whose credential this is
    ///
    /// The key stays with the server, which asks policies for `identity.sign` of
    /// `signature:NAME` and puts the signature on record before it gives it.
    Sign(SignArgs),
    /// Check a signature of `creto sign`, with the keys in a file or those the server has
    VerifySignature(VerifySignatureArgs),
    /// Keys by which agents agree on a secret: make them, publish them, take another's
    #[command(subcommand)]
    Prekeys(PrekeysCommand),
    /// Move to other keys and algorithms while serving, and to another root key
    #[command(subcommand)]
    Crypto(CryptoCommand),
    /// Say who your credential makes you, and what is left of your budgets
    #[command(name = "self")]
    Whoami,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Believe the machine's clock, up to this time, where it is too far ahead
    ///
    /// Nothing tells a process that starts for how long nothing ran, so a clock that is
    /// ahead of everything recorded by more than `consensus.max_downtime_days` is refused.
    /// Look at another clock; if this machine's is right, start once with a time that is
    /// just ahead of it. That is recorded, and later starts need it no more.
    ///
    /// Example: creto serve --accept-clock 2026-08-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) accept_clock: Option<Instant>,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The organization's name, for people
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "renew_credential"
    )]
    pub(crate) org: Option<String>,
    /// The human who owns it
    #[arg(long, value_name = "NAME", default_value = "owner")]
    pub(crate) owner: PrincipalName,
    /// Where keys, state and log are kept [default: `data` beside the configuration]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Make nothing; write a new credential for the owner of what is there
    ///
    /// For a credential that has expired or is lost. Stop the server first.
    #[arg(long, conflicts_with_all = ["org", "data_dir"])]
    pub(crate) renew_credential: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The repository whose history the agent reads [default: the one around here]
    #[arg(long, value_name = "DIR")]
    pub(crate) repo: Option<PathBuf>,
    /// Where to run; removed and made anew when it is a demo's directory
    #[arg(long, value_name = "DIR", default_value = "demo-run")]
    pub(crate) dir: PathBuf,
    /// Kill the server (SIGKILL) between every two steps and start it again
    #[arg(long)]
    pub(crate) kill_between_steps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The bundle that `creto audit export` wrote
    pub(crate) bundle: PathBuf,
    /// Trust these keys only: the SHA-256 of the bundle's key file, as you learned it
    /// from a source other than the bundle. Without it the bundle is checked against
    /// the keys it carries itself.
    #[arg(long, value_name = "HEX")]
    pub(crate) keys_digest: Option<String>,
    #[command(flatten)]
    pub(crate) also: AcceptArgs,
}

/// What is read besides the default lists, by whoever has no configuration.
#[derive(Debug, Args)]
pub(crate) struct AcceptArgs {
    /// Read what is made by this algorithm, too; may be repeated [default: those that
    /// `[crypto]` of the configuration accepts when it says nothing]
    #[arg(long, value_name = "ALGORITHM")]
    pub(crate) accept: Vec<String>,
}

impl AcceptArgs {
    pub(crate) fn lists(&self) -> Result<AllowedAlgorithms, CryptoError> {
        let mut names = self.accept.iter();
        names.try_fold(AllowedAlgorithms::default(), |lists, name| {
            lists.reading_also(name)
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration and say what the server would do with it
    Check,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Make an agent; it may do nothing until something is delegated to it
    Create {
        /// Its name: a-z, 0-9, `-`, `_`, `.`
        name: PrincipalName,
    },
    /// List everyone in the organization, agents and humans
    List,
    /// Stop an agent, and everything delegated through it, until it is resumed
    ///
    /// In effect at once, also after a restart. Nothing is revoked: once resumed it
    /// acts with the tokens and delegations it had.
    Suspend(SuspendArgs),
    /// End the suspension of an agent
    Resume(SuspendArgs),
    /// End an agent for ever, and everything delegated to it or through it
    ///
    /// In effect at once, and not to be taken back: its tokens, its delegations and its
    /// sandboxes are refused from now on, and its name stays taken.
    Revoke(SuspendArgs),
    /// Give an agent another signing key
    ///
    /// What it delegates and signs from now on is signed with the new one. What the keys
    /// before signed stays valid until they are revoked: creto agent revoke-key NAME KID
    RotateKey(SuspendArgs),
    /// End a signing key of an agent for ever, and everything that it signed
    ///
    /// In effect at once, and not to be taken back: delegations by it and everything below
    /// them, its signatures and its prekeys are refused from now on. Give the agent another
    /// key first, and let it delegate again what is to go on.
    RevokeKey(RevokeKeyArgs),
    /// Make a key that a token can be bound to, so that it is of no use without it
    ///
    /// Whoever will use the token makes the key, keeps the file, and tells the thumbprint
    /// to whoever issues the token: creto agent token ... --bind-jkt THUMBPRINT
    Key {
        /// The file to write; it must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Issue a token for an agent that runs outside a sandbox
    ///
    /// The token goes to a file that only you may read. An agent inside a sandbox
    /// needs none: the sandbox itself is its identity.
    Token(TokenArgs),
    /// Show the public keys by which what an agent signed is checked
    Keys(KeysArgs),
    /// Run a program in a sandbox as an agent, wait for it and show its output
    ///
    /// Example: creto agent run lnk_0192... --mount history=/history
    /// -- /usr/bin/git -C /history log
    Run(RunArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SuspendArgs {
    /// The agent
    pub(crate) name: PrincipalName,
    /// Why; it is kept in the log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeKeyArgs {
    /// Whose key
    pub(crate) name: PrincipalName,
    /// Its thumbprint, as `creto agent keys` shows it
    #[arg(allow_hyphen_values = true)]
    pub(crate) kid: String,
    /// Why; it is kept in the log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The delegation it acts under, for example lnk_0192...; its delegatee is the agent
    pub(crate) delegation: String,
    /// How many seconds it is good for; never longer than the delegation
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl_seconds: Option<u64>,
    /// Bind it to one instance of the agent, for example worker-3; the log then tells which
    /// one acted
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    /// Bind it to the key with this thumbprint (RFC 7638): whoever uses it then proves to
    /// have that key (DPoP)
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
    /// Print the token instead
    #[arg(long, conflicts_with = "out")]
    pub(crate) stdout: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The delegation the program acts under, for example lnk_0192...
    pub(crate) delegation: String,
    /// Mount a volume of the configuration, read-only
    #[arg(long = "mount", value_name = "VOLUME=/PATH")]
    pub(crate) mounts: Vec<MountArgument>,
    /// Set a variable of the program's environment; nothing of yours reaches it
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub(crate) environment: Vec<VariableArgument>,
    /// Most bytes of memory
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_bytes: Option<u64>,
    /// Most processes and threads
    #[arg(long, value_name = "N")]
    pub(crate) processes: Option<u64>,
    /// Longest time it may run
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wall_seconds: Option<u64>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) argv: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DelegateCommand {
    /// Delegate to an agent; never more than you have
    ///
    /// You delegate as whoever the credential says: an agent with its token delegates
    /// a part of what it was given.
    ///
    /// Example: creto delegate create planner --right 'release.* on repo:*'
    /// --expires-in 30d --budget '5.00 USD'
    Create(DelegateArgs),
    /// List the delegations
    List,
    /// Show one delegation
    Show {
        /// The delegation, for example lnk_0192...
        delegation: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DelegateArgs {
    /// To whom
    pub(crate) delegatee: PrincipalName,
    /// What: an action on a resource, each exact or a prefix that ends in `*`
    #[arg(long = "right", value_name = "ACTION on RESOURCE", required = true)]
    pub(crate) rights: Vec<RightArgument>,
    /// For how long from now: 30d, 12h, 45m or 90s
    #[arg(long, value_name = "TIME", required_unless_present = "expires_at")]
    pub(crate) expires_in: Option<ExpiresIn>,
    /// Until when: 2030-01-31 or 2030-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", conflicts_with = "expires_in")]
    pub(crate) expires_at: Option<Instant>,
    /// The delegation to hand on a part of; an agent hands on its own
    #[arg(long, value_name = "ID")]
    pub(crate) parent: Option<String>,
    /// The most it may spend, for example '5.00 USD', or use, for example '1000 units'
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) budget: Option<Quantity>,
    /// When the budget starts anew
    #[arg(long, value_enum, default_value_t = PeriodArgument::Total, requires = "budget")]
    pub(crate) budget_period: PeriodArgument,
    /// How many delegations may hang below this one
    #[arg(long, value_name = "N")]
    pub(crate) max_depth: Option<u8>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PeriodArgument {
    /// Never
    Total,
    /// With each month, UTC
    Month,
    /// With each day, UTC
    Day,
    /// With each hour, UTC
    Hour,
}

impl PeriodArgument {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Month => "month",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DecisionArgs {
    /// The request, for example ovr_0192...
    pub(crate) request: String,
    /// Why; the agent can read it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OversightCommand {
    /// List the requests
    List {
        /// Only those in this state: pending, approved, denied or expired
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
    },
    /// Show one request with the exact arguments that would be approved
    Show {
        /// The request, for example ovr_0192...
        request: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PeriodArgs {
    /// First instant inside [default: the first day of this month, UTC]
    #[arg(long, value_name = "WHEN")]
    pub(crate) from: Option<Instant>,
    /// First instant after it [default: now]
    #[arg(long, value_name = "WHEN")]
    pub(crate) to: Option<Instant>,
}

#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    #[command(flatten)]
    pub(crate) period: PeriodArgs,
    /// Only this agent's
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<PrincipalName>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum InvoiceCommand {
    /// Invoice what was used in a period and is on no invoice yet
    Issue {
        #[command(flatten)]
        period: PeriodArgs,
        /// Whose delegations were spent [default: you]
        #[arg(long, value_name = "NAME")]
        customer: Option<PrincipalName>,
    },
    /// List the invoices
    List,
    /// Show one invoice with its lines
    Show {
        /// The invoice, for example inv_0192...
        invoice: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One thumbprint in 64 begins with a hyphen.
    #[test]
    fn a_thumbprint_may_begin_with_a_hyphen() {
        let token = "creto agent token lnk_1 --stdout --bind-jkt -4Zx";
        let key = "creto agent revoke-key planner -4Zx --reason leaked";
        let human = "creto human revoke-key alice -4Zx --reason leaked";
        let person = "creto human create alice --role operator --stdout --bind-jkt -4Zx";
        let credential = "creto human credential alice --stdout --bind-jkt -4Zx";
        for words in [token, key, human, person, credential] {
            let parsed = Cli::try_parse_from(words.split(' '));
            assert!(parsed.is_ok(), "{words}: {:?}", parsed.err());
        }
    }
}
