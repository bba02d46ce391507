//! `creto`: the server, every administrative command, the demo and the offline
//! verifier in one program.
//!
//! Commands that talk to a server do so over HTTP on the loopback, with the
//! caller's own credential; nothing here reaches into a server's state. Exit
//! status: 0 done, 1 refused or failed, 2 wrong usage; of a watched log, 3 it misbehaves,
//! 4 it withholds what it is checked by, 5 its witnesses do not cosign it.

mod arguments;
mod cli;
mod commands;
mod context;
mod demo;
mod error;
mod opening;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::context::Context;
use crate::error::CliError;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Refused or failed; wrong usage is 2 and comes from the parser of arguments.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    if let Err(error) = undumpable() {
        report(&CliError::Undumpable(error), false);
        return ExitCode::from(FAILED);
    }
    let Cli { global, command } = Cli::parse();
    let context = Context::new(global);
    let result = commands::run(&context, command).and_then(|reply| {
        reply.print(context.json).map_err(CliError::Output)?;
        Ok(reply)
    });
    match result {
        Ok(reply) => match reply.status {
            Some(status) => ExitCode::from(status),
            None if reply.good => ExitCode::SUCCESS,
            None => ExitCode::from(FAILED),
        },
        Err(error) => {
            report(&error, context.json);
            ExitCode::from(FAILED)
        }
    }
}

/// This process holds keys and credentials: no core of it is ever written, to a file or
/// to a program that collects them, and no other process of the same user reads its
/// memory.
fn undumpable() -> nix::Result<()> {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
    nix::sys::prctl::set_dumpable(false)
}

fn report(error: &CliError, as_json: bool) {
    use std::io::Write as _;
    let text = if as_json {
        format!("{:#}\n", error.json())
    } else {
        error.text()
    };
    // With standard error gone too, the exit status is all that is left.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_core_is_written() {
        use nix::sys::resource::{Resource, getrlimit};
        undumpable().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
    }

    #[test]
    fn no_argument_takes_a_secret() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let secret = ["token", "password", "secret"].contains(&id);
                assert!(!secret, "{} --{id}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
