//! `creto policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use creto_types::PrincipalName;

use crate::arguments::{ContextArgument, Instant};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check the files of a directory as a publication would, without a server
    Validate {
        /// The directory with NAME.cedarschema, NAME.cedar and NAME.test.json
        dir: PathBuf,
    },
    /// Run the tests beside the policies of a directory, without a server
    Test {
        /// The directory
        dir: PathBuf,
    },
    /// Evaluate one request against Cedar policies, without a server
    ///
    /// All files are Cedar's own formats, of any namespace. The answer is Cedar's:
    /// the decision, the policies it is due to, and those that failed. Both allow and
    /// deny end with status 0.
    Eval(EvalArgs),
    /// Say why a request is answered as it is, and which permit is missing
    ///
    /// Everyone in the chain has to be permitted: the agent, each agent above it and
    /// the owner. Shown are the rights that do not cover it, the policies that hold it
    /// back, and for whom a permit is missing, with those that come nearest. Nothing
    /// is reserved or recorded. Ends with status 0 whatever is decided.
    ///
    /// Example: creto policy explain release.publish repo:creto --as release-bot
    Explain(ExplainArgs),
    /// Say what two sets of policies say differently, policy by policy
    ///
    /// Each is a directory, or the number of a published version. Two directories
    /// need no server. Ends with status 0 either way.
    Diff {
        /// A directory, or a version
        before: String,
        /// A directory, or a version
        after: String,
    },
    /// Publish a directory; it is in force when this returns
    ///
    /// The policies must compile and every test beside them pass. From then on this
    /// organization follows the server's policy directory no longer:
    /// see `creto policy follow-directory`.
    Publish {
        /// The directory
        dir: PathBuf,
        /// Why; it is kept with the version and in the log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Refuse if another version than this one is the newest; 0 for none
        #[arg(long, value_name = "N")]
        expect_version: Option<u64>,
    },
    /// Publish an earlier version again, as a new one
    Rollback {
        /// The version, as `creto policy list` shows it
        version: u64,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Serve the server's policy directory again, and every change of it
    FollowDirectory {
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List the published versions, newest first
    List,
    /// Show what is in force, or one published version
    Show {
        /// The version [default: what is in force]
        version: Option<u64>,
    },
    /// Ask candidate policies beside those in force; nothing of it is enforced
    #[command(subcommand)]
    Shadow(ShadowCommand),
    /// Ask candidate policies what was decided before, and show what would change
    DryRun {
        /// The directory with the candidate
        dir: PathBuf,
        /// Decisions from here on: 2030-01-31 or 2030-01-31T12:00:00Z
        #[arg(long, value_name = "WHEN")]
        since: Instant,
        /// Decisions before this [default: now]
        #[arg(long, value_name = "WHEN")]
        until: Option<Instant>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ShadowCommand {
    /// Start asking the candidate, in place of any other
    Start {
        /// The directory with the candidate
        dir: PathBuf,
    },
    /// Show what the candidate would have decided differently
    Status,
    /// Ask it no more
    Stop,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Policies and templates, in Cedar's syntax or its JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) policies: PathBuf,
    /// The schema, in Cedar's syntax or as JSON; entities and request must fit it
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,
    /// Entities, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) entities: PathBuf,
    /// The request, as JSON: principal, action, resource and context
    #[arg(long, value_name = "FILE")]
    pub(crate) request: PathBuf,
    /// Links of templates, as JSON: template_id, link_id and args of each
    #[arg(long, value_name = "FILE")]
    pub(crate) links: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// For what, for example release.publish
    pub(crate) action: String,
    /// On what, for example repo:creto
    pub(crate) resource: String,
    /// Who asks: a person, or an agent [default: you]
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) principal: Option<PrincipalName>,
    /// The delegation that the agent acts by, when it holds several
    #[arg(long, value_name = "ID")]
    pub(crate) delegation: Option<String>,
    /// The resource's entity type
    #[arg(long, value_name = "TYPE", default_value = "Creto::Resource")]
    pub(crate) resource_type: String,
    /// How many units
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) units: u64,
    /// What the action's context declares, as a JSON object: '{"port": 443}'
    #[arg(long, value_name = "JSON")]
    pub(crate) context: Option<ContextArgument>,
    /// As if a human had approved it for these policies, joined by `+`
    #[arg(long, value_name = "POLICY")]
    pub(crate) approval: Option<String>,
    /// Ask the candidate in this directory instead of what is in force
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Option<PathBuf>,
}
