//! `creto policy`: offline over files, or over the server's published versions.

mod diff;
mod eval;
mod explain;
mod files;
mod published;
mod trial;

use crate::cli::PolicyCommand;
use crate::context::Context;
use crate::error::CliError;
use crate::output::Reply;

pub(crate) fn run(context: &Context, command: PolicyCommand) -> Result<Reply, CliError> {
    match command {
        PolicyCommand::Validate { dir } => files::validate(&dir),
        PolicyCommand::Test { dir } => files::test(&dir),
        PolicyCommand::Eval(args) => eval::run(&args),
        PolicyCommand::Explain(args) => explain::run(context, args),
        PolicyCommand::Diff { before, after } => diff::run(context, &before, &after),
        PolicyCommand::Publish {
            dir,
            reason,
            expect_version,
        } => published::publish(context, &dir, &reason, expect_version),
        PolicyCommand::Rollback { version, reason } => {
            published::rollback(context, version, &reason)
        }
        PolicyCommand::FollowDirectory { reason } => published::follow(context, &reason),
        PolicyCommand::List => published::list(context),
        PolicyCommand::Show { version } => published::show(context, version),
        PolicyCommand::Shadow(command) => trial::shadow(context, &command),
        PolicyCommand::DryRun { dir, since, until } => trial::dry_run(context, &dir, since, until),
    }
}
