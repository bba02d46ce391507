//! Why a command did not do what was asked.

use std::path::PathBuf;

use creto_client::ClientError;
use creto_errors::{Class, Classify};
use serde_json::{Value, json};

use crate::demo::DemoError;
use crate::output::{printable, printable_lines};

/// Anything that ends a command early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A call to the server did not succeed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A call broke off or failed in the server, after which prekeys may be published whose
    /// private halves are here alone.
    #[error(
        "it is not known whether the prekeys of {path} are published, so it is kept; \
         `creto prekeys publish` publishes them, or says that they are"
    )]
    PrekeysKept {
        /// The file of the private halves.
        path: PathBuf,
        /// What became of the call.
        #[source]
        source: ClientError,
    },
    /// There is no credential to call with.
    #[error(
        "there is no credential at {path}; name one with --credential or CRETO_CREDENTIAL_FILE, \
         or run this where `creto init` wrote its configuration"
    )]
    NoCredential {
        /// Where one was expected.
        path: PathBuf,
    },
    /// Nothing says where the server is.
    #[error(
        "there is no configuration at {path}; name one with --config, or the server with \
         --server and your credential with --credential"
    )]
    NoConfig {
        /// Where one was expected.
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
    /// A document is not what it should be.
    #[error("{path} does not hold {what}")]
    NotReadable {
        /// What was expected.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// What should be a directory is not there, or is a file.
    #[error("{path}: no such directory")]
    NoDirectory {
        /// Which.
        path: PathBuf,
    },
    /// Something is there already and would be overwritten.
    #[error("{path} exists already, and is left alone")]
    Exists {
        /// What.
        path: PathBuf,
    },
    /// The terminal or pipe refused the output.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
    /// The server's answer lacks what this command needs.
    #[error("the server's answer has no usable `{what}`; are both of one version?")]
    Answer {
        /// What is missing.
        what: &'static str,
    },
    /// A record has no opening to write.
    #[error("there is no payload to write: {why}")]
    NoOpening {
        /// Why.
        why: String,
    },
    /// An export ended before the bundle was whole.
    #[error("the export broke off before the bundle was whole; nothing of it was kept")]
    ExportInterrupted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A bundle has a file that none has.
    #[error("the server's bundle has a file that no bundle has: {name}")]
    UnsafeName {
        /// The name.
        name: String,
    },
    /// The digest is not one.
    #[error("--keys-digest is not hexadecimal")]
    KeysDigest,
    /// The environment has no such variable.
    #[error("the environment has no variable {name}")]
    VariableMissing {
        /// Which was named.
        name: String,
    },
    /// The time given cannot be represented.
    #[error("that time is out of range")]
    Time(#[source] jiff::Error),
    /// The kernel does not keep this process out of core dumps.
    #[error("cannot keep this process out of core dumps")]
    Undumpable(#[source] nix::Error),
    /// The process cannot run tasks.
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    /// The demo could not go on.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// What is verified is made by an algorithm that was not accepted.
    #[error(transparent)]
    NotAccepted(Box<Self>),
    /// The server's own part of this program refused.
    #[error("{text}")]
    Server {
        /// Its code.
        code: &'static str,
        /// Its class.
        class: Class,
        /// The text with every cause.
        text: String,
        /// The error itself.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CliError {
    /// Keeps code, class and causes of an error of `creto-server`.
    pub(crate) fn server<E: Classify + Send + Sync + 'static>(error: E) -> Self {
        Self::Server {
            code: error.code(),
            class: error.class(),
            text: error.to_string(),
            source: Box::new(error),
        }
    }

    /// The same of something that was verified by the lists of the command line.
    pub(crate) fn verifying<E: Classify + Send + Sync + 'static>(error: E) -> Self {
        let error = Self::server(error);
        match error.code() {
            "algorithm_not_allowed" => Self::NotAccepted(Box::new(error)),
            _ => error,
        }
    }

    /// The code to show: the server's own when it was the server that refused.
    pub(crate) fn shown_code(&self) -> &str {
        match self.client() {
            Some(error) => error.reported_code(),
            None => self.code(),
        }
    }

    /// What became of a call of the server, when that is what went wrong.
    const fn client(&self) -> Option<&ClientError> {
        match self {
            Self::Client(error) | Self::PrekeysKept { source: error, .. } => Some(error),
            _ => None,
        }
    }

    /// For people: what went wrong, its code, and how to find it in the log.
    pub(crate) fn text(&self) -> String {
        // What we say ourselves may have lines; what a server says is one.
        let message = match self {
            Self::Client(_) | Self::PrekeysKept { .. } | Self::Demo(DemoError::Client(_)) => {
                printable(&self.message())
            }
            _ => printable_lines(&self.message()),
        };
        let mut text = format!("creto: {message}\n");
        text.push_str(&format!("  code: {}\n", self.shown_code()));
        if let Some(id) = self.request_id() {
            text.push_str(&format!("  request: {id}\n"));
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let problem = self.client().and_then(ClientError::problem);
        json!({ "error": {
            "code": self.shown_code(),
            "class": self.class().as_str(),
            "message": self.message(),
            "problem": problem,
        }})
    }

    fn message(&self) -> String {
        match self {
            Self::Client(ClientError::Refused(problem)) if problem.detail.is_empty() => {
                problem.title.clone()
            }
            Self::Client(ClientError::Refused(problem)) => problem.detail.clone(),
            Self::NotAccepted(error) => {
                format!("{}; --accept reads it by its name", error.message())
            }
            other => creto_errors::chain(other),
        }
    }

    fn request_id(&self) -> Option<&str> {
        self.client()?.problem()?.request_id.as_deref()
    }
}

impl Classify for CliError {
    fn class(&self) -> Class {
        match self {
            Self::Client(error) | Self::PrekeysKept { source: error, .. } => error.class(),
            Self::Server { class, .. } => *class,
            Self::NotAccepted(error) => error.class(),
            Self::Demo(error) => error.class(),
            Self::Runtime(_) | Self::Output(_) | Self::Undumpable(_) => Class::Transient,
            Self::ExportInterrupted(_) => Class::Transient,
            Self::UnsafeName { .. } => Class::Security,
            Self::NoCredential { .. }
            | Self::NoConfig { .. }
            | Self::File { .. }
            | Self::NoDirectory { .. }
            | Self::NotReadable { .. }
            | Self::Exists { .. }
            | Self::Answer { .. }
            | Self::NoOpening { .. }
            | Self::KeysDigest
            | Self::VariableMissing { .. }
            | Self::Time(_) => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Client(error) | Self::PrekeysKept { source: error, .. } => error.code(),
            Self::Server { code, .. } => code,
            Self::NotAccepted(error) => error.code(),
            Self::Demo(error) => error.code(),
            Self::NoCredential { .. } => "credential_missing",
            Self::NoConfig { .. } => "config_missing",
            Self::File { .. } | Self::NoDirectory { .. } => "file_unusable",
            Self::NotReadable { .. } => "document_malformed",
            Self::Exists { .. } => "file_exists",
            Self::Output(_) => "output_failed",
            Self::Answer { .. } => "answer_incomplete",
            Self::NoOpening { .. } => "opening_absent",
            Self::ExportInterrupted(_) => "export_interrupted",
            Self::UnsafeName { .. } => "bundle_name_unsafe",
            Self::KeysDigest => "keys_digest_malformed",
            Self::Time(_) => "time_out_of_range",
            Self::VariableMissing { .. } => "config_variable_missing",
            Self::Runtime(_) | Self::Undumpable(_) => "runtime_unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_of_our_own_stand_on_lines_of_their_own() {
        let missing = vec!["  root: no".to_owned(), "  nft: no\u{1b}".to_owned()];
        let error = CliError::from(DemoError::Machine { missing });
        let text = "creto: this machine lacks what the demo needs:\n  root: no\n  nft: no\\u{1b}\n";
        assert!(error.text().starts_with(text), "{}", error.text());
    }
}
