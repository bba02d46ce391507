//! One module a family of commands. Each turns arguments into calls and the
//! answer into a [`Reply`]; nothing is printed here.

mod agent;
mod audit;
mod billing;
mod crypto;
mod delegate;
mod export;
mod handed;
mod human;
mod identity;
mod limits;
mod oversight;
mod policy;
mod prekeys;
mod secret;
pub(crate) mod server;
mod signing;
mod subject;
mod transparency;

use crate::cli::Command;
use crate::context::Context;
use crate::error::CliError;
use crate::output::Reply;

/// Runs one command.
pub(crate) fn run(context: &Context, command: Command) -> Result<Reply, CliError> {
    match command {
        Command::Serve(args) => server::serve(context, &args),
        Command::Init(args) => server::init(context, args),
        Command::Demo(args) => crate::demo::run(args),
        Command::Verify(args) => server::verify(&args),
        Command::Doctor => server::doctor(context),
        Command::Config(command) => server::config(context, &command),
        Command::Agent(command) => agent::run(context, command),
        Command::Human(command) => human::run(context, command),
        Command::Subject(command) => subject::run(context, command),
        Command::Delegate(command) => delegate::run(context, command),
        Command::Revoke { delegation } => delegate::revoke(context, &delegation),
        Command::Approve(args) => oversight::decide(context, "approve", &args),
        Command::Deny(args) => oversight::decide(context, "deny", &args),
        Command::Oversight(command) => oversight::run(context, command),
        Command::Limit(command) => limits::limit(context, command),
        Command::Rate(command) => limits::rate(context, command),
        Command::Usage(args) => billing::usage(context, &args),
        Command::Invoice(command) => billing::invoice(context, command),
        Command::Audit(command) => audit::run(context, command),
        Command::Policy(command) => policy::run(context, command),
        Command::Secret(command) => secret::run(context, command),
        Command::Sign(args) => signing::sign(context, &args),
        Command::VerifySignature(args) => signing::verify(context, &args),
        Command::Prekeys(command) => prekeys::run(context, command),
        Command::Crypto(command) => crypto::run(context, command),
        Command::Whoami => identity::whoami(context),
    }
}
