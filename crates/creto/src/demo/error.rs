//! Why the demo, or one of its steps, could not go on.

use std::path::PathBuf;

use creto_client::ClientError;
use creto_errors::{Class, Classify};

/// Anything that ends a step or the demo.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The machine lacks something.
    #[error("this machine lacks what the demo needs:\n{}", .missing.join("\n"))]
    Machine {
        /// One line each, with the remedy.
        missing: Vec<String>,
    },
    /// There is no repository to read the history of.
    #[error(
        "{path} is not inside a checkout of Creto with its history and `examples/`; \
         run the demo there, or name one with --repo{}", git_said(.git)
    )]
    NoRepository {
        /// Where it was looked for.
        path: PathBuf,
        /// What git said about it.
        git: String,
    },
    /// The directory is not a demo's.
    #[error(
        "{path} was not made by a demo, so it is not removed; name another directory with --dir"
    )]
    NotADemoDirectory {
        /// Which.
        path: PathBuf,
    },
    /// A file or directory cannot be used.
    #[error("cannot {what} {path}")]
    File {
        /// Read, write, make.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program cannot be started.
    #[error("cannot start {program}")]
    Spawn {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program did not do its part.
    #[error("`{command}` ended with {status}: {output}")]
    Command {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        output: String,
    },
    /// A child of the demo did not come up.
    #[error("the {what} did not come up; its log is {log}, which ends with:\n{tail}")]
    NotReady {
        /// Which child.
        what: &'static str,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A call did not succeed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Something is not as it has to be.
    #[error("{0}")]
    Fact(String),
    /// An answer lacks a field.
    #[error("`{field}` is missing in {document}")]
    Missing {
        /// Its JSON pointer.
        field: String,
        /// The document.
        document: String,
    },
    /// The configuration cannot be read back.
    #[error("the configuration that was just written is not TOML")]
    Config(#[from] toml::de::Error),
    /// The configuration cannot be written.
    #[error("the demo's configuration cannot be written as TOML")]
    ConfigText(#[from] toml::ser::Error),
}

fn git_said(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(" ({text})")
    }
}

impl Classify for DemoError {
    fn class(&self) -> Class {
        match self {
            Self::Client(error) => error.class(),
            Self::NotReady { .. } => Class::Transient,
            _ => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Machine { .. } => "machine_lacks",
            Self::NoRepository { .. } => "demo_no_repository",
            Self::NotADemoDirectory { .. } => "demo_directory_foreign",
            Self::File { .. } => "file_unusable",
            Self::Spawn { .. } => "program_missing",
            Self::Command { .. } => "program_failed",
            Self::NotReady { .. } => "demo_child_not_ready",
            Self::Client(error) => error.code(),
            Self::Fact(_) => "demo_fact_wrong",
            Self::Missing { .. } => "answer_incomplete",
            Self::Config(_) | Self::ConfigText(_) => "demo_config_broken",
        }
    }
}
