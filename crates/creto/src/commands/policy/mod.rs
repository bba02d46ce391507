//! `creto policy`.

mod eval;

use crate::cli::PolicyCommand;
use crate::error::CliError;
use crate::output::Reply;

pub(crate) fn run(command: PolicyCommand) -> Result<Reply, CliError> {
    match command {
        PolicyCommand::Eval(args) => eval::run(&args),
    }
}
