//! What can go wrong with a call.

use std::path::PathBuf;

use creto_config::SecretError;
use creto_crypto::CryptoError;
use creto_errors::{Class, Classify};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ServerAddress;

/// The server's account of why it refused (RFC 9457).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Stable and `snake_case`: the name of a page in `docs/errors/`.
    pub code: String,
    /// What kind of problem it is.
    #[serde(default)]
    pub title: String,
    /// What is wrong with this very call.
    #[serde(default)]
    pub detail: String,
    /// Finds the call in the server's log.
    #[serde(default)]
    pub request_id: Option<String>,
    /// What this kind of problem adds.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Problem {
    /// The document, or what can be said when the answer is none.
    pub(crate) fn from_body(status: u16, body: &[u8]) -> Self {
        let parsed: Option<Self> = serde_json::from_slice(body).ok();
        parsed.unwrap_or_else(|| Self {
            status,
            code: format!("http_{status}"),
            title: "the answer is not a problem document".to_owned(),
            detail: String::from_utf8_lossy(body).chars().take(300).collect(),
            request_id: None,
            more: Map::new(),
        })
    }
}

/// A call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server address cannot be used.
    #[error("cannot use the server address `{address}`: {why}")]
    Address {
        /// What was given.
        address: String,
        /// Why not.
        why: &'static str,
    },
    /// The credential file cannot be used.
    #[error("cannot use the credential file {path}")]
    Credential {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: SecretError,
    },
    /// The key that a credential is bound to cannot be used.
    #[error("{path} is not the private JWK of an Ed25519 key; `creto agent key` makes one")]
    ProofKey {
        /// Which file.
        path: PathBuf,
    },
    /// No proof can be made.
    #[error("cannot prove that the credential is its holder's")]
    Proof(#[source] CryptoError),
    /// The credential cannot stand in a header.
    #[error("the credential is not a token: it has characters that no token has")]
    MalformedCredential,
    /// Nobody answers.
    #[error("no server answers at {server}; is `creto serve` running?")]
    Unreachable {
        /// Where.
        server: ServerAddress,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The call broke off; it may or may not have taken effect.
    #[error("the connection to {server} broke off")]
    Interrupted {
        /// Where.
        server: ServerAddress,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The server answered, and refused.
    #[error("{} ({}, status {})", .0.detail, .0.code, .0.status)]
    Refused(Box<Problem>),
    /// The answer is not JSON.
    #[error("the server's answer is not JSON; is this a Creto server?")]
    NotJson(#[source] serde_json::Error),
    /// A list's page does not look like one.
    #[error("the server's list has no `items`")]
    NotAList,
}

impl ClientError {
    /// The server's account, when it was the server that refused.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }

    /// The server's code when it refused, this client's own otherwise.
    #[must_use]
    pub fn reported_code(&self) -> &str {
        self.problem()
            .map_or_else(|| self.code(), |problem| problem.code.as_str())
    }
}

impl Classify for ClientError {
    fn class(&self) -> Class {
        match self {
            Self::Address { .. }
            | Self::Credential { .. }
            | Self::ProofKey { .. }
            | Self::MalformedCredential
            | Self::NotJson(_)
            | Self::NotAList => Class::Permanent,
            Self::Proof(error) => error.class(),
            Self::Unreachable { .. } | Self::Interrupted { .. } => Class::Transient,
            Self::Refused(problem) => match problem.status {
                401 | 403 => Class::Security,
                408 | 429 | 500..=599 => Class::Transient,
                _ => Class::Permanent,
            },
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "server_address_refused",
            Self::Credential { .. } => "credential_unusable",
            Self::ProofKey { .. } => "dpop_key_unusable",
            Self::Proof(error) => error.code(),
            Self::MalformedCredential => "credential_malformed",
            Self::Unreachable { .. } => "server_unreachable",
            Self::Interrupted { .. } => "call_interrupted",
            Self::Refused(_) => "server_refused",
            Self::NotJson(_) => "answer_not_json",
            Self::NotAList => "answer_not_a_list",
        }
    }
}
