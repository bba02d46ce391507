//! Why a set of policies was not accepted.

use std::fmt;
use std::path::PathBuf;

use creto_errors::{Class, Classify};

/// One thing wrong in a schema or policy file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file it stands in.
    pub file: String,
    /// The line, counted from one, when it is known.
    pub line: Option<usize>,
    /// The policy it is about, when it is about one.
    pub policy: Option<String>,
    /// What is wrong, and what to do where Cedar knows it.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(policy) = &self.policy {
            write!(f, " ({policy})")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A set of policies was not accepted; what was published before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A directory or file cannot be read.
    #[error("cannot read policies from {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A schema does not parse, or its files do not fit together.
    #[error("the schema is not valid: {}", list(.0))]
    Schema(Vec<Finding>),
    /// A schema is valid Cedar but cannot be served: see `docs/policies.md`,
    /// "The schema".
    #[error("the schema cannot be served: {}", list(.0))]
    SchemaUnfit(Vec<Finding>),
    /// A policy does not parse.
    #[error("a policy does not parse: {}", list(.0))]
    Syntax(Vec<Finding>),
    /// A policy's annotations cannot be used: an `@id` that is empty or taken, an
    /// `@oversight` that is empty or on a `permit`, a `@reason` of several lines.
    #[error("a policy's annotations cannot be used: {}", list(.0))]
    Annotation(Vec<Finding>),
    /// A link of a policy template cannot be used: it does not parse, names no
    /// template, fills slots wrongly, or its id is taken.
    #[error("a template link cannot be used: {}", list(.0))]
    Link(Vec<Finding>),
    /// Policies do not pass strict validation against the schema.
    #[error("policies do not fit the schema: {}", list(.0))]
    Invalid(Vec<Finding>),
}

impl PolicyError {
    /// Everything that was found, in the order of the files.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Schema(findings)
            | Self::SchemaUnfit(findings)
            | Self::Syntax(findings)
            | Self::Annotation(findings)
            | Self::Link(findings)
            | Self::Invalid(findings) => findings,
        }
    }
}

impl Classify for PolicyError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "policies_unreadable",
            Self::Schema(_) => "policy_schema_invalid",
            Self::SchemaUnfit(_) => "policy_schema_unfit",
            Self::Syntax(_) => "policy_syntax",
            Self::Annotation(_) => "policy_annotation",
            Self::Link(_) => "policy_link_invalid",
            Self::Invalid(_) => "policy_invalid",
        }
    }
}

fn list(findings: &[Finding]) -> String {
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
