//! Why a sandbox could not be run.

use std::borrow::Cow;
use std::error::Error;

use creto_errors::{Class, Classify};

use crate::SpecError;

type Source = Box<dyn Error + Send + Sync>;

/// A sandbox operation failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The specification is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The machine lacks something: a program, a kernel feature, root.
    #[error("sandboxes cannot run here: {what}. {remedy}")]
    Unsupported {
        /// What is missing.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// A step of starting the sandbox failed; it was cleaned up again.
    #[error("the sandbox could not be started: {step} failed")]
    Start {
        /// The step.
        step: Cow<'static, str>,
        /// Why.
        #[source]
        source: Source,
    },
    /// As many sandboxes run as are allowed at a time.
    #[error("{limit} sandboxes are running, and no more are allowed at a time")]
    Busy {
        /// How many.
        limit: usize,
    },
    /// A running sandbox could not be waited for, killed or removed.
    #[error("the sandbox could not be {operation}")]
    Control {
        /// `waited for`, `killed`, `removed`.
        operation: &'static str,
        /// Why.
        #[source]
        source: Source,
    },
}

impl RuntimeError {
    /// A failed step of a start.
    pub fn start(step: impl Into<Cow<'static, str>>, source: impl Into<Source>) -> Self {
        Self::Start {
            step: step.into(),
            source: source.into(),
        }
    }

    /// A failed operation on a sandbox.
    pub fn control(operation: &'static str, source: impl Into<Source>) -> Self {
        Self::Control {
            operation,
            source: source.into(),
        }
    }
}

impl Classify for RuntimeError {
    fn class(&self) -> Class {
        match self {
            Self::Spec(error) => error.class(),
            Self::Unsupported { .. } => Class::Permanent,
            Self::Start { .. } | Self::Busy { .. } | Self::Control { .. } => Class::Transient,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Spec(error) => error.code(),
            Self::Unsupported { .. } => "sandbox_unsupported",
            Self::Start { .. } => "sandbox_start_failed",
            Self::Busy { .. } => "sandbox_limit_reached",
            Self::Control { .. } => "sandbox_control_failed",
        }
    }
}
